//! The manifest of a release: an OCI 1.1 image manifest with ModelPack's types, seen through the exact bytes
//! that were signed. They are kept and never written again; their SHA-256 is the release's identity.
//!
//! The reader is strict: it takes what [`super::builder`] writes and what ModelPack's tools write (also under
//! their older `cnai` names), and refuses what two tools could unpack differently: no layers, unknown types,
//! paths that leave the directory, that stand twice, that differ in case only, or that need one name as both
//! file and directory. Other OCI manifests are stored by the OCI face without this view. Of files that travel
//! packed a manifest tells no more than their number and bytes: [`super::files`] tells the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::builder::About;
use super::kind::Kind;
use super::packed::{LIST_PATH, Packed, Reading, tar_path};
use super::role::{Packing, Role};
use crate::base::digest::{DigestError, Sha256};
use crate::base::json::{self, JsonError};
use crate::base::name::{ArtifactName, FilePath, NameError, Reference, Version};

/// The largest manifest that is read: what every OCI registry accepts (distribution-spec 1.1, "Pushing
/// Manifests").
pub const MANIFEST_MAX_BYTES: usize = 4 << 20;
/// The media type of every manifest here.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// What ModelPack calls a model.
pub const ARTIFACT_TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
/// What ModelPack calls its configuration.
pub const CONFIG_TYPE: &str = "application/vnd.cncf.model.config.v1+json";
/// A model that names more training data than this should name a dataset that lists it.
pub const DATA_MAX: usize = 64;

const OLD_ARTIFACT_TYPE: &str = "application/vnd.cnai.model.manifest.v1+json";
const OLD_CONFIG_TYPE: &str = "application/vnd.cnai.model.config.v1+json";
pub(super) const FILE_PATH: &str = "org.cncf.model.filepath";
const OLD_FILE_PATH: &str = "org.cnai.model.filepath";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
pub(super) const VERSION: &str = "org.opencontainers.image.version";
pub(super) const LICENSES: &str = "org.opencontainers.image.licenses";
pub(super) const SOURCE: &str = "org.opencontainers.image.source";
pub(super) const REVISION: &str = "org.opencontainers.image.revision";
pub(super) const KIND: &str = "eu.waag.kind";
pub(super) const BASE: &str = "eu.waag.base";
pub(super) const DATA: &str = "eu.waag.data";

/// A manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the accepted kind, or not shaped like a manifest.
    #[error("the manifest is refused: {0}")]
    Json(#[from] JsonError),
    /// A field names a type that is not read here.
    #[error("the manifest's {field} is `{found}`, expected `{expected}`")]
    Type {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// A layer's media type is not one of ModelPack's.
    #[error("layer {index} has the media type `{found}`, which is none of ModelPack's")]
    LayerType {
        /// Which layer, from 0.
        index: usize,
        /// What it says.
        found: String,
    },
    /// A digest is not a SHA-256.
    #[error("{place}: {error}")]
    Digest {
        /// Where it stands.
        place: String,
        /// Why it is refused.
        error: DigestError,
    },
    /// The layers' sizes add up to more than 2^64 - 1.
    #[error("the sizes of the manifest's layers overflow")]
    SizeOverflow,
    /// There are no layers.
    #[error("the manifest has no files")]
    Empty,
    /// A layer does not say which file it is.
    #[error("layer {index} names no file (annotation org.cncf.model.filepath)")]
    NoPath {
        /// Which layer, from 0.
        index: usize,
    },
    /// A layer says twice, and differently, which file it is.
    #[error("layer {index} is called `{path}` and `{title}`")]
    TwoPaths {
        /// Which layer, from 0.
        index: usize,
        /// By ModelPack's annotation.
        path: String,
        /// By OCI's annotation.
        title: String,
    },
    /// A file's path is refused.
    #[error(transparent)]
    Path(#[from] NameError),
    /// Two layers are the same file.
    #[error("the file `{0}` stands twice")]
    Duplicate(FilePath),
    /// Two files are one on a file system that ignores case.
    #[error("the files `{0}` and `{1}` differ in case only")]
    CaseCollision(FilePath, FilePath),
    /// A file is another file's directory.
    #[error("the file `{file}` is also the directory of `{under}`")]
    FileIsDirectory {
        /// The file.
        file: FilePath,
        /// What lies in the directory of that name.
        under: FilePath,
    },
    /// An annotation that means something here does not say it properly.
    #[error("the annotation {key} is `{found}`, expected {expected}")]
    Annotation {
        /// Its key.
        key: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
}

/// A blob that the manifest cites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// One file of the artifact (or, in a foreign manifest, one archive).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it lies in the artifact.
    pub path: FilePath,
    /// What it is for.
    pub role: Role,
    /// How its bytes hold the file.
    pub packing: Packing,
    /// Its bytes.
    pub blob: Blob,
}

/// A manifest that was read: exact bytes, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    digest: Sha256,
    kind: Kind,
    config: Blob,
    layers: Vec<Layer>,
    packed: Option<Packed>,
    total_size: u64,
    base: Option<Reference>,
    data: Vec<Reference>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: WireDescriptor,
    layers: Vec<WireDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is larger than 4 MiB, malformed, or breaks a rule of this module.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ManifestError> {
        let wire: WireManifest = json::from_slice(&bytes, MANIFEST_MAX_BYTES)?;
        if wire.schema_version != 2 {
            return Err(wrong_type("schemaVersion", &wire.schema_version.to_string(), "2"));
        }
        // OCI leaves it optional; where it stands, it must be true.
        let media_type = wire.media_type.as_deref().unwrap_or(MANIFEST_TYPE);
        expect_type("mediaType", media_type, [MANIFEST_TYPE, MANIFEST_TYPE])?;
        let artifact_type = wire.artifact_type.as_deref().unwrap_or_default();
        expect_type("artifactType", artifact_type, [ARTIFACT_TYPE, OLD_ARTIFACT_TYPE])?;
        expect_type(
            "config.mediaType",
            &wire.config.media_type,
            [CONFIG_TYPE, OLD_CONFIG_TYPE],
        )?;
        let config = read_blob(&wire.config, || "the configuration".to_owned())?;

        let annotations = wire.annotations.unwrap_or_default();
        let mut reading = Reading::begin(&annotations)?;
        let mut layers = Vec::with_capacity(wire.layers.len());
        let mut total_size = 0_u64;
        for (index, descriptor) in wire.layers.iter().enumerate() {
            let (role, packing, path) = read_descriptor(index, descriptor)?;
            let blob = read_blob(descriptor, || format!("layer {index}"))?;
            total_size = total_size
                .checked_add(blob.size)
                .ok_or(ManifestError::SizeOverflow)?;
            if let Some(reading) = &mut reading
                && reading.take(path, role, packing, blob)
            {
                continue;
            }
            layers.push(Layer {
                path: path.parse()?,
                role,
                packing,
                blob,
            });
        }
        let packed = reading.map(Reading::finish).transpose()?;
        if layers.is_empty() && packed.is_none() {
            return Err(ManifestError::Empty);
        }
        refuse_collisions(layers.iter().map(|layer| &layer.path))?;

        Ok(Self {
            digest: Sha256::of(&bytes),
            kind: read_kind(&annotations, &layers, packed.as_ref())?,
            total_size: packed.as_ref().map_or(total_size, |packed| packed.bytes),
            packed,
            base: annotations
                .get(BASE)
                .map(|text| read_pinned(BASE, text))
                .transpose()?,
            data: read_data(&annotations)?,
            bytes,
            config,
            layers,
            annotations,
        })
    }

    /// Returns the exact bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the exact bytes, without the view.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the SHA-256 of the bytes: the release's identity.
    #[must_use]
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Returns what the artifact is. A foreign manifest does not say: it is a dataset when all its layers
    /// are, and a model otherwise.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the configuration's blob.
    #[must_use]
    pub const fn config(&self) -> Blob {
        self.config
    }

    /// Returns the files that are layers of their own, as they stand in the manifest (ours are sorted by path).
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns the files that travel packed, if any do.
    #[must_use]
    pub const fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// Returns every layer with its path: the files of their own, the tars, and the list of files.
    pub fn blobs(&self) -> impl Iterator<Item = (Cow<'_, str>, Blob)> {
        let own = self.layers.iter();
        let own = own.map(|layer| (Cow::Borrowed(layer.path.as_str()), layer.blob));
        let packed = self.packed.iter().flat_map(|packed| {
            let tars = packed.tars.iter().enumerate();
            let tars = tars.map(|(index, tar)| (Cow::Owned(tar_path(index)), tar.blob));
            tars.chain([(Cow::Borrowed(LIST_PATH), packed.list)])
        });
        own.chain(packed)
    }

    /// Returns the file at this path, if it is a layer of its own.
    #[must_use]
    pub fn layer(&self, path: &FilePath) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.path == *path)
    }

    /// Returns how many files there are, packed or not.
    #[must_use]
    pub fn file_count(&self) -> u64 {
        let packed = self.packed.as_ref();
        packed.map_or(self.layers.len() as u64, |packed| packed.files)
    }

    /// Returns the sum of all files' sizes, packed or not.
    #[must_use]
    pub const fn total_size(&self) -> u64 {
        self.total_size
    }

    /// Returns the release that this one was made from; its version is a digest.
    #[must_use]
    pub const fn base(&self) -> Option<&Reference> {
        self.base.as_ref()
    }

    /// Returns the releases that this one was trained on; their versions are digests.
    #[must_use]
    pub fn data(&self) -> &[Reference] {
        &self.data
    }

    /// Returns the artifacts that this one was made from, base and training data, each once, by name: their labels
    /// hold for it as well.
    #[must_use]
    pub fn ancestors(&self) -> Vec<ArtifactName> {
        let named = self.base.iter().chain(&self.data);
        let mut names: Vec<ArtifactName> = named.map(|reference| reference.artifact.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns what the manifest says for people.
    #[must_use]
    pub fn about(&self) -> About {
        let text = |key| self.annotations.get(key).cloned();
        About {
            title: text(TITLE),
            version: text(VERSION),
            license: text(LICENSES),
            source: text(SOURCE),
            revision: text(REVISION),
        }
    }

    /// Returns all annotations of the manifest.
    #[must_use]
    pub const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

fn wrong_type(field: &'static str, found: &str, expected: &'static str) -> ManifestError {
    ManifestError::Type {
        field,
        found: shorten(found),
        expected,
    }
}

fn expect_type(field: &'static str, found: &str, accepted: [&'static str; 2]) -> Result<(), ManifestError> {
    if accepted.contains(&found) {
        return Ok(());
    }
    Err(wrong_type(field, found, accepted[0]))
}

fn read_blob(descriptor: &WireDescriptor, place: impl Fn() -> String) -> Result<Blob, ManifestError> {
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
fn read_descriptor(
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

fn read_kind(
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

fn read_pinned(key: &'static str, text: &str) -> Result<Reference, ManifestError> {
    match text.parse::<Reference>() {
        Ok(reference) if matches!(reference.version, Version::Manifest(_)) => Ok(reference),
        _ => Err(ManifestError::Annotation {
            key,
            found: shorten(text),
            expected: "namespace/name@sha256:<64 hex digits>",
        }),
    }
}

fn read_data(annotations: &BTreeMap<String, String>) -> Result<Vec<Reference>, ManifestError> {
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
