//! Builds the manifest and configuration of a release.
//!
//! The same files and facts give the same bytes: keys are sorted, there are no spaces, layers are sorted by
//! path (then the tars and the list of packed files, if there are any), and nothing is written that depends on when, where or by whom it was built. So there is no creation
//! date, and no `org.cncf.model.file.metadata+json` either: its name and size stand in the layer already, and
//! its owner, mode and time are facts of one disk.
//!
//! ```text
//! {"annotations":{..},"artifactType":"..","config":{..},"layers":[{"annotations":{filepath, title},"digest":..,
//!  "mediaType":"..raw","size":..}, ..],"mediaType":"..","schemaVersion":2}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::files::{self, Files, FilesError, LIST_MAX_BYTES};
use super::kind::Kind;
use super::manifest::{
    ARTIFACT_TYPE, BASE, Blob, CONFIG_TYPE, DATA, FILE_PATH, KIND, LICENSES, MANIFEST_TYPE, Manifest,
    ManifestError, REVISION, SOURCE, TITLE, VERSION,
};
use super::model::{ModelConfig, ModelFacts};
use super::packed::{BYTES, COUNT, FILES, LIST_PATH, tar_path};
use super::role::Role;
use super::tar::Expected;
use crate::base::digest::Sha256;
use crate::base::name::{FilePath, Reference};

/// What a release says for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// What it is called.
    pub title: Option<String>,
    /// Which version it calls itself.
    pub version: Option<String>,
    /// Its licence, as an SPDX expression.
    pub license: Option<String>,
    /// Where it came from: a URL.
    pub source: Option<String>,
    /// Which revision of the source.
    pub revision: Option<String>,
}

/// A manifest, and the configuration that must be stored beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration's bytes; the manifest cites their digest.
    pub config: Vec<u8>,
    /// The list of files, if some are packed; the manifest cites its digest, too.
    pub list: Option<Vec<u8>>,
}

/// A release cannot be built from what was collected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Its manifest would be refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its list of files would be refused.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Its list of files would be too long.
    #[error("the list of its files has {0} bytes, at most {LIST_MAX_BYTES} are accepted")]
    List(usize),
}

/// A tar with the files in it.
#[derive(Debug, Clone)]
struct Holding {
    blob: Blob,
    files: Vec<Expected>,
}

/// Collects what a release holds.
#[derive(Debug, Clone)]
pub struct ManifestBuilder {
    kind: Kind,
    about: About,
    facts: ModelFacts,
    base: Option<Reference>,
    data: BTreeSet<String>,
    files: Vec<(FilePath, Blob)>,
    tars: Vec<Holding>,
}

// Fields stand in the order of their JSON names: the writer keeps it, and the keys must be sorted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest<'a> {
    annotations: BTreeMap<&'a str, &'a str>,
    artifact_type: &'a str,
    config: WireDescriptor<'a>,
    layers: Vec<WireDescriptor<'a>>,
    media_type: &'a str,
    schema_version: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, &'a str>,
    digest: Sha256,
    media_type: &'a str,
    size: u64,
}

impl ManifestBuilder {
    /// Starts a release without files.
    #[must_use]
    pub const fn new(kind: Kind, about: About) -> Self {
        Self {
            kind,
            about,
            facts: ModelFacts::none(),
            base: None,
            data: BTreeSet::new(),
            files: Vec::new(),
            tars: Vec::new(),
        }
    }

    /// Adds a file; its name decides its role.
    #[must_use]
    pub fn file(mut self, path: FilePath, digest: Sha256, size: u64) -> Self {
        self.files.push((path, Blob { digest, size }));
        self
    }

    /// Adds a tar with the files in it. Tars are added in the order of the paths in them.
    #[must_use]
    pub fn tar(mut self, digest: Sha256, size: u64, files: Vec<Expected>) -> Self {
        let blob = Blob { digest, size };
        self.tars.push(Holding { blob, files });
        self
    }

    /// Sets what is known about the model.
    #[must_use]
    pub fn facts(mut self, facts: ModelFacts) -> Self {
        self.facts = facts;
        self
    }

    /// Names the release that this one was made from. Its version must be a digest: a tag may move.
    #[must_use]
    pub fn base(mut self, base: Reference) -> Self {
        self.base = Some(base);
        self
    }

    /// Names a release that this one was trained on. Its version must be a digest.
    #[must_use]
    pub fn trained_on(mut self, data: &Reference) -> Self {
        self.data.insert(data.to_string());
        self
    }

    /// Builds the manifest and reads it back: what the reader would refuse is never built.
    ///
    /// # Errors
    /// When there are no files, two of them collide, a reference is not pinned to a digest, a tar cannot hold
    /// what is said to be in it, or the manifest would exceed 4 MiB.
    pub fn build(mut self) -> Result<Built, BuildError> {
        self.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let tars = self.tars.iter();
        let list = (!self.tars.is_empty())
            .then(|| files::write(tars.map(|tar| (tar.blob.digest, tar.files.as_slice()))));
        if let Some(list) = list.as_ref().filter(|list| list.len() > LIST_MAX_BYTES) {
            return Err(BuildError::List(list.len()));
        }
        let list_blob = list.as_ref().map(|list| Blob {
            digest: Sha256::of(list),
            size: list.len() as u64,
        });
        let config = self.config(list_blob).to_bytes();
        let layers = self.files.iter().map(|(path, blob)| WireDescriptor {
            annotations: BTreeMap::from([(FILE_PATH, path.as_str()), (TITLE, path.as_str())]),
            digest: blob.digest,
            media_type: Role::of(self.kind, path).media_type(),
            size: blob.size,
        });
        let packed_paths: Vec<String> = (0..self.tars.len()).map(tar_path).collect();
        let tars = self
            .tars
            .iter()
            .zip(&packed_paths)
            .map(|(tar, path)| WireDescriptor {
                annotations: BTreeMap::from([(FILE_PATH, path.as_str()), (TITLE, path)]),
                digest: tar.blob.digest,
                media_type: self.role_of(tar).tar_media_type(),
                size: tar.blob.size,
            });
        let list_layer = list_blob.map(|blob| WireDescriptor {
            annotations: BTreeMap::from([(FILE_PATH, LIST_PATH), (TITLE, LIST_PATH)]),
            digest: blob.digest,
            media_type: Role::Doc.media_type(),
            size: blob.size,
        });
        let listed = list_blob.map(|blob| {
            let (count, bytes) = self.totals();
            [blob.digest.to_string(), count.to_string(), bytes.to_string()]
        });
        let listed = |index: usize| listed.as_ref().map(|texts| texts[index].as_str());
        let base = self.base.as_ref().map(ToString::to_string);
        let data = self.data.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let about = &self.about;
        let annotations = [
            (BASE, base.as_deref()),
            (DATA, (!data.is_empty()).then_some(data.as_str())),
            (FILES, listed(0)),
            (COUNT, listed(1)),
            (BYTES, listed(2)),
            (KIND, Some(self.kind.as_str())),
            (LICENSES, about.license.as_deref()),
            (REVISION, about.revision.as_deref()),
            (SOURCE, about.source.as_deref()),
            (TITLE, about.title.as_deref()),
            (VERSION, about.version.as_deref()),
        ];
        let wire = WireManifest {
            annotations: annotations
                .into_iter()
                .filter_map(|(key, text)| Some((key, text?)))
                .collect(),
            artifact_type: ARTIFACT_TYPE,
            config: WireDescriptor {
                annotations: BTreeMap::new(),
                digest: Sha256::of(&config),
                media_type: CONFIG_TYPE,
                size: config.len() as u64,
            },
            layers: layers.chain(tars).chain(list_layer).collect(),
            media_type: MANIFEST_TYPE,
            schema_version: 2,
        };
        let bytes = serde_json::to_vec(&wire).expect("a tree of strings and numbers is JSON");
        let manifest = Manifest::parse(bytes)?;
        Files::of(&manifest, list.as_deref())?;
        Ok(Built {
            manifest,
            config,
            list,
        })
    }

    /// The most needed role of a tar's files: whoever fetches by role shall miss nothing.
    fn role_of(&self, tar: &Holding) -> Role {
        let roles = tar.files.iter().map(|file| Role::of(self.kind, &file.path));
        roles.min().unwrap_or(Role::Doc)
    }

    fn totals(&self) -> (u64, u64) {
        let packed = self.tars.iter().flat_map(|tar| &tar.files).map(|file| file.size);
        let sizes = self.files.iter().map(|(_, blob)| blob.size).chain(packed);
        sizes.fold((0, 0), |(count, sum), size| (count + 1, size.saturating_add(sum)))
    }

    fn config(&self, list: Option<Blob>) -> ModelConfig {
        let packed = self.tars.iter().flat_map(|tar| &tar.files).map(|file| &file.path);
        let weights = self
            .files
            .iter()
            .map(|(path, _)| path)
            .chain(packed)
            .filter(|path| Role::of(self.kind, path) == Role::Weight);
        let layers = self.files.iter().map(|(_, blob)| *blob);
        let packed = self.tars.iter().map(|tar| tar.blob).chain(list);
        let diff_ids = layers.chain(packed).map(|blob| blob.digest).collect();
        ModelConfig::new(&self.about, &self.facts, weights, diff_ids)
    }
}
