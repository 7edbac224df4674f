//! Parts of a manifest as they are written, into what they mean.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ManifestError;
use super::{Blob, DATA, DATA_MAX, FILE_PATH, KIND, Layer, OLD_FILE_PATH, TITLE, shorten};
use crate::base::name::{FilePath, Reference, Version};
use crate::release::kind::Kind;
use crate::release::packed::Packed;
use crate::release::role::{Packing, Role};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireManifest {
    pub(super) schema_version: u64,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: WireDescriptor,
    pub(super) layers: Vec<WireDescriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDescriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

pub(super) fn wrong_type(field: &'static str, found: &str, expected: &'static str) -> ManifestError {
    ManifestError::Type {
        field,
        found: shorten(found),
        expected,
    }
}

pub(super) fn expect_type(
    field: &'static str,
    found: &str,
    accepted: [&'static str; 2],
) -> Result<(), ManifestError> {
    if accepted.contains(&found) {
        return Ok(());
    }
    Err(wrong_type(field, found, accepted[0]))
}

pub(super) fn read_blob(
    descriptor: &WireDescriptor,
    place: impl Fn() -> String,
) -> Result<Blob, ManifestError> {
    let digest = descriptor.digest.parse().map_err(|error| ManifestError::Digest {
        place: place(),
        error,
    })?;
    Ok(Blob {
        digest,
        size: descriptor.size,
    })
}

/// Reads what a layer is and how it is called.
pub(super) fn read_descriptor(
    index: usize,
    descriptor: &WireDescriptor,
) -> Result<(Role, Packing, &str), ManifestError> {
    let (role, packing) =
        Role::from_media_type(&descriptor.media_type).ok_or_else(|| ManifestError::LayerType {
            index,
            found: shorten(&descriptor.media_type),
        })?;
    let annotation = |key| descriptor.annotations.as_ref().and_then(|all| all.get(key));
    let path = annotation(FILE_PATH).or_else(|| annotation(OLD_FILE_PATH));
    let title = annotation(TITLE);
    let text = match (path, title) {
        (Some(path), Some(title)) if path != title => {
            return Err(ManifestError::TwoPaths {
                index,
                path: shorten(path),
                title: shorten(title),
            });
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(ManifestError::NoPath { index }),
    };
    Ok((role, packing, text))
}

/// Refuses paths that cannot all exist side by side, also where case is ignored.
pub fn refuse_collisions<'p>(paths: impl Iterator<Item = &'p FilePath>) -> Result<(), ManifestError> {
    // No path holds a NUL, so with it for `/` what lies in a directory follows right behind a file of that
    // name, and neighbours are all that needs to be compared.
    let mut sorted: Vec<(String, &FilePath)> = paths
        .map(|path| (path.folded().replace('/', "\0"), path))
        .collect();
    sorted.sort_unstable();
    for pair in sorted.windows(2) {
        let [(first, file), (second, other)] = pair else {
            continue;
        };
        if first == second {
            return Err(if file == other {
                ManifestError::Duplicate((*file).clone())
            } else {
                ManifestError::CaseCollision((*file).clone(), (*other).clone())
            });
        }
        if second
            .strip_prefix(first.as_str())
            .is_some_and(|rest| rest.starts_with('\0'))
        {
            return Err(ManifestError::FileIsDirectory {
                file: (*file).clone(),
                under: (*other).clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn read_kind(
    annotations: &BTreeMap<String, String>,
    layers: &[Layer],
    packed: Option<&Packed>,
) -> Result<Kind, ManifestError> {
    let tars = packed.iter().flat_map(|packed| &packed.tars);
    let mut roles = layers
        .iter()
        .map(|layer| layer.role)
        .chain(tars.map(|tar| tar.role));
    match annotations.get(KIND) {
        Some(text) => text.parse().map_err(|_| ManifestError::Annotation {
            key: KIND,
            found: shorten(text),
            expected: "model, dataset or suite",
        }),
        None if roles.all(|role| role == Role::Dataset) => Ok(Kind::Dataset),
        None => Ok(Kind::Model),
    }
}

pub(super) fn read_pinned(key: &'static str, text: &str) -> Result<Reference, ManifestError> {
    match text.parse::<Reference>() {
        Ok(reference) if matches!(reference.version, Version::Manifest(_)) => Ok(reference),
        _ => Err(ManifestError::Annotation {
            key,
            found: shorten(text),
            expected: "namespace/name@sha256:<64 hex digits>",
        }),
    }
}

pub(super) fn read_data(annotations: &BTreeMap<String, String>) -> Result<Vec<Reference>, ManifestError> {
    let Some(text) = annotations.get(DATA) else {
        return Ok(Vec::new());
    };
    if text.split(',').count() > DATA_MAX {
        return Err(ManifestError::Annotation {
            key: DATA,
            found: shorten(text),
            expected: "at most 64 references, joined by commas",
        });
    }
    text.split(',').map(|one| read_pinned(DATA, one)).collect()
}
