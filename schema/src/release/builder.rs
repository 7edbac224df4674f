//! Builds the manifest and configuration of a release.
//!
//! The same files and facts give the same bytes: keys are sorted, there are no spaces, layers are sorted by
//! path, and nothing is written that depends on when, where or by whom it was built. So there is no creation
//! date, and no `org.cncf.model.file.metadata+json` either: its name and size stand in the layer already, and
//! its owner, mode and time are facts of one disk.
//!
//! ```text
//! {"annotations":{..},"artifactType":"..","config":{..},"layers":[{"annotations":{filepath, title},"digest":..,
//!  "mediaType":"..raw","size":..}, ..],"mediaType":"..","schemaVersion":2}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::kind::Kind;
use super::manifest::{
    ARTIFACT_TYPE, BASE, Blob, CONFIG_TYPE, DATA, FILE_PATH, KIND, LICENSES, MANIFEST_TYPE, Manifest,
    ManifestError, REVISION, SOURCE, TITLE, VERSION,
};
use super::model::{ModelConfig, ModelFacts};
use super::role::Role;
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
        }
    }

    /// Adds a file; its name decides its role.
    #[must_use]
    pub fn file(mut self, path: FilePath, digest: Sha256, size: u64) -> Self {
        self.files.push((path, Blob { digest, size }));
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
    /// When there are no files, two of them collide, a reference is not pinned to a digest, or the manifest
    /// would exceed 4 MiB.
    pub fn build(mut self) -> Result<Built, ManifestError> {
        self.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let config = self.config().to_bytes();
        let layers = self.files.iter().map(|(path, blob)| WireDescriptor {
            annotations: BTreeMap::from([(FILE_PATH, path.as_str()), (TITLE, path.as_str())]),
            digest: blob.digest,
            media_type: Role::of(self.kind, path).media_type(),
            size: blob.size,
        });
        let base = self.base.as_ref().map(ToString::to_string);
        let data = self.data.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let about = &self.about;
        let annotations = [
            (BASE, base.as_deref()),
            (DATA, (!data.is_empty()).then_some(data.as_str())),
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
            layers: layers.collect(),
            media_type: MANIFEST_TYPE,
            schema_version: 2,
        };
        let bytes = serde_json::to_vec(&wire).expect("a tree of strings and numbers is JSON");
        Ok(Built {
            manifest: Manifest::parse(bytes)?,
            config,
        })
    }

    fn config(&self) -> ModelConfig {
        let weights = self
            .files
            .iter()
            .map(|(path, _)| path)
            .filter(|path| Role::of(self.kind, path) == Role::Weight);
        let diff_ids = self.files.iter().map(|(_, blob)| blob.digest).collect();
        ModelConfig::new(&self.about, &self.facts, weights, diff_ids)
    }
}
