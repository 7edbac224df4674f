//! What a release says of its files, held against what was sent for it.
//!
//! Keeps: a release is recorded only when every file that its manifest names lies here whole, is what the release says
//! it is, and runs no code when it is loaded. Whether this site may hold it is asked elsewhere, before.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use waag_schema::content::gguf::{self, Reading};
use waag_schema::content::planner::CHUNK_MAX;
use waag_schema::content::recipe::Recipe;
use waag_schema::content::safetensors::{self, Header, SafetensorsError};
use waag_schema::release::files::{Files, LIST_MAX_BYTES, Place};
use waag_schema::release::gate::{self, Refused, Unsafe};
use waag_schema::release::kind::Kind;
use waag_schema::release::manifest::Manifest;
use waag_schema::release::packed::{Packed, tar_path};
use waag_schema::release::role::Packing;
use waag_schema::release::tar::{TarCheck, TarError};
use waag_schema::statement::{Content, Release};
use waag_schema::{ChunkDigest, Sha256};

use super::PublishError;
use crate::access::Caller;
use crate::content::{self, ContentError, Uploads};
use crate::evaluation::read_suite;

/// Looks at what one upload has sent.
pub(super) struct Inspection<'a> {
    /// What is stored.
    pub(super) content: &'a content::Content,
    /// What was sent.
    pub(super) uploads: &'a Uploads,
    /// Formats that run code and may be published all the same.
    pub(super) allowed: &'a [Unsafe],
    /// Who publishes.
    pub(super) caller: &'a Caller,
    /// The upload.
    pub(super) upload: &'a Sha256,
}

impl Inspection<'_> {
    /// Checks that the release speaks of exactly the manifest's files, and that all of them are here.
    ///
    /// # Errors
    /// When one is missing, another than was named, or of a format that is not taken in.
    pub(super) async fn of(&self, manifest: &Manifest, release: &Release) -> Result<(), PublishError> {
        let mut named: BTreeMap<Sha256, &Content> = release.content.iter().map(|c| (c.sha256, c)).collect();
        if release.kind != manifest.kind() {
            return Err(PublishError::Mismatch(format!(
                "the release says it is a {}, its manifest a {}",
                release.kind,
                manifest.kind()
            )));
        }
        let config = manifest.config();
        if release.config.sha256 != config.digest || release.config.size != config.size {
            return Err(PublishError::Mismatch(
                "the release names another config than the manifest".to_owned(),
            ));
        }
        self.complete("its config", &release.config).await?;
        if let Some(archive) = manifest
            .layers()
            .iter()
            .find(|layer| layer.packing != Packing::Raw)
        {
            return Err(PublishError::Mismatch(format!(
                "{} is an archive without a list of its files, which this version does not read",
                archive.path
            )));
        }
        let mut seen: BTreeMap<Sha256, &Content> = BTreeMap::new();
        for (path, blob) in manifest.blobs() {
            let known = seen.get(&blob.digest).copied();
            let content = match known.or_else(|| named.remove(&blob.digest)) {
                Some(content) if content.size == blob.size => content,
                _ => {
                    return Err(PublishError::Mismatch(format!(
                        "the release does not name {path} as the manifest does"
                    )));
                }
            };
            if seen.insert(blob.digest, content).is_none() {
                self.complete(&path, content).await?;
            }
        }
        if let Some(extra) = named.keys().next() {
            return Err(PublishError::Mismatch(format!(
                "the release names {extra}, which the manifest does not"
            )));
        }
        self.formats(manifest, &seen).await?;
        for layer in manifest.layers() {
            let (path, content) = (layer.path.as_str(), seen.get(&layer.blob.digest));
            match content {
                Some(content) if layer.path.has_extension("safetensors") => {
                    self.safetensors(path, &content.recipe).await?;
                }
                Some(content) if layer.path.has_extension("gguf") => {
                    self.gguf(path, &content.recipe).await?;
                }
                _ => {}
            }
        }
        if let Some(packed) = manifest.packed() {
            self.packed(manifest, packed, &seen).await?;
        }
        if manifest.kind() == Kind::Suite {
            self.suite(manifest, &seen).await?;
        }
        Ok(())
    }

    /// Looks at the files whose names do not say that they are plain.
    async fn formats(
        &self,
        manifest: &Manifest,
        contents: &BTreeMap<Sha256, &Content>,
    ) -> Result<(), PublishError> {
        let mut refused = Vec::new();
        for layer in manifest.layers() {
            if let Some(content) = contents.get(&layer.blob.digest)
                && gate::has_to_be_seen(&layer.path)
            {
                let recipe = self.recipe(&content.recipe).await?;
                let head = self.content.head(&recipe, gate::LOOKED_AT as u64).await?;
                refused.extend(gate::check(&layer.path, &head, self.allowed).err());
            }
        }
        all_plain(refused)
    }

    /// Reads a suite as whoever measures with it will: what cannot be asked is not published.
    async fn suite(
        &self,
        manifest: &Manifest,
        contents: &BTreeMap<Sha256, &Content>,
    ) -> Result<(), PublishError> {
        if manifest.packed().is_some() {
            return Err(PublishError::Mismatch(
                "a suite has at most 1,000 files: this one would be packed".to_owned(),
            ));
        }
        let mut files = BTreeMap::new();
        for layer in manifest.layers() {
            if let Some(content) = contents.get(&layer.blob.digest) {
                files.insert(layer.path.to_string(), self.recipe(&content.recipe).await?);
            }
        }
        let read = read_suite(self.content, &files).await?;
        let read = read.map_err(|e| PublishError::Mismatch(e.to_string()))?;
        match read.not_measured.first() {
            None => Ok(()),
            Some((path, reason)) => Err(PublishError::Mismatch(format!("{path}: {reason}"))),
        }
    }

    /// Checks the list of packed files, and that each tar holds exactly what it lists. Streams: memory is the list
    /// and a few chunks.
    async fn packed(
        &self,
        manifest: &Manifest,
        packed: &Packed,
        contents: &BTreeMap<Sha256, &Content>,
    ) -> Result<(), PublishError> {
        let mut recipes = Vec::with_capacity(packed.tars.len());
        for digest in packed
            .tars
            .iter()
            .map(|tar| tar.blob.digest)
            .chain([packed.list.digest])
        {
            // Each was found complete above.
            let content = contents
                .get(&digest)
                .ok_or_else(|| PublishError::Mismatch(format!("the release does not name {digest}")))?;
            recipes.push(self.recipe(&content.recipe).await?);
        }
        let Some(list) = recipes.pop() else { return Ok(()) };
        if list.size() > LIST_MAX_BYTES as u64 {
            return Err(PublishError::Mismatch(format!(
                "the list of files has {} bytes, at most {LIST_MAX_BYTES} are read",
                list.size()
            )));
        }
        let bytes = self.content.head(&list, list.size()).await?;
        let manifest = manifest.clone();
        let files = self
            .content
            .on_pool(move || Files::of(&manifest, Some(&bytes)))
            .await?;
        self.packed_formats(&files, &recipes).await?;
        for (index, tar) in recipes.iter().enumerate() {
            let refused = |error: TarError| match error {
                TarError::Safetensors { path, error } => PublishError::Content(ContentError::Safetensors {
                    path: path.to_string(),
                    error,
                }),
                error => PublishError::Mismatch(format!("{}: {error}", tar_path(index))),
            };
            let check = TarCheck::new(files.expected(index));
            let checked = self.content.walk(tar, check, TarCheck::update).await?;
            let check = checked.map_err(refused)?;
            check.finish().map_err(refused)?;
        }
        Ok(())
    }

    /// Likewise the packed files.
    async fn packed_formats(&self, files: &Files, tars: &[Recipe]) -> Result<(), PublishError> {
        let mut refused = Vec::new();
        for file in files.iter().filter(|file| gate::has_to_be_seen(&file.path)) {
            if let Place::Within { tar, offset } = file.place
                && let Some(tar) = tars.get(tar)
            {
                let end = offset.saturating_add(file.size.min(gate::LOOKED_AT as u64));
                let range = offset.min(tar.size())..end.min(tar.size());
                let parts: Vec<Bytes> = self.content.range(tar, range).try_collect().await?;
                refused.extend(gate::check(&file.path, &parts.concat(), self.allowed).err());
            }
        }
        all_plain(refused)
    }

    async fn recipe(&self, digest: &ChunkDigest) -> Result<Recipe, PublishError> {
        let recipe = self.content.recipe(digest).await?;
        recipe.ok_or_else(|| {
            ContentError::Damaged {
                what: "recipe",
                digest: *digest,
            }
            .into()
        })
    }

    async fn complete(&self, path: &str, content: &Content) -> Result<(), PublishError> {
        let recipes = self
            .uploads
            .complete(self.caller, self.upload, &content.sha256)
            .await?;
        if !recipes.contains(&content.recipe) {
            return Err(PublishError::MissingContent {
                path: path.to_owned(),
                digest: content.sha256,
            });
        }
        let recipe = self.content.recipe(&content.recipe).await?;
        match recipe {
            Some(recipe) if recipe.size() == content.size && recipe.planner() == content.planner => Ok(()),
            _ => Err(PublishError::Mismatch(format!(
                "the release gives {path} another size or planner than its recipe"
            ))),
        }
    }

    /// Reads the header of a safetensors file as defensively as the publisher's own client does.
    async fn safetensors(&self, path: &str, recipe: &ChunkDigest) -> Result<(), PublishError> {
        let bad = |error: SafetensorsError| ContentError::Safetensors {
            path: path.to_owned(),
            error,
        };
        let recipe = self.recipe(recipe).await?;
        let size = recipe.size();
        let start = self.content.head(&recipe, 8).await?;
        let mut first = [0; 8];
        first[..start.len()].copy_from_slice(&start);
        let length = safetensors::header_length(&first, size).map_err(bad)?;
        let head = self.content.head(&recipe, 8 + length).await?;
        Header::parse(&head[8..], size).map_err(bad)?;
        Ok(())
    }

    /// Likewise the header of a GGUF file, which does not say how long it is.
    async fn gguf(&self, path: &str, recipe: &ChunkDigest) -> Result<(), PublishError> {
        let recipe = self.recipe(recipe).await?;
        let mut limit = CHUNK_MAX as u64;
        loop {
            let head = self.content.head(&recipe, limit).await?;
            let bad = |error| ContentError::Gguf {
                path: path.to_owned(),
                error,
            };
            match gguf::Header::read(&head, recipe.size()).map_err(bad)? {
                Reading::Whole(_) => return Ok(()),
                Reading::NeedsMore => limit = (limit * 4).min(gguf::HEADER_MAX_BYTES),
            }
        }
    }
}

fn all_plain(refused: Vec<Refused>) -> Result<(), PublishError> {
    if refused.is_empty() {
        Ok(())
    } else {
        Err(PublishError::Format(refused))
    }
}
