//! The manifest of a release: an OCI 1.1 image manifest with ModelPack's types, seen through the exact bytes
//! that were signed. They are kept and never written again; their SHA-256 is the release's identity.
//!
//! The reader is strict: it takes what [`super::builder`] writes and what ModelPack's tools write (also under
//! their older `cnai` names), and refuses what two tools could unpack differently: no layers, unknown types,
//! paths that leave the directory, that stand twice, that differ in case only, or that need one name as both
//! file and directory. Other OCI manifests are stored by the OCI face without this view. Of files that travel
//! packed a manifest tells no more than their number and bytes: [`super::files`] tells the rest.

mod error;
mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use self::error::ManifestError;
pub use self::read::refuse_collisions;
use self::read::{
    WireManifest, expect_type, read_blob, read_data, read_descriptor, read_kind, read_pinned, wrong_type,
};
use super::builder::About;
use super::kind::Kind;
use super::packed::{LIST_PATH, Packed, Reading, tar_path};
use super::role::{Packing, Role};
use crate::base::digest::Sha256;
use crate::base::json;
use crate::base::name::{ArtifactName, FilePath, Reference};

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
