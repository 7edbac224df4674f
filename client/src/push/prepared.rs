//! The content of a release, read from this disk once: its manifest, its config, and how each file is made of chunks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use waag_schema::content::Recipe;
use waag_schema::release::model::CONFIG_JSON_MAX_BYTES;
use waag_schema::release::{Built, Kind, ManifestBuilder, ModelFacts};
use waag_schema::statement::Content;
use waag_schema::wire::upload::FileRecipe;
use waag_schema::{ChunkDigest, Sha256};

use super::statements::Needs;
use super::upload::Upload;
use super::{PushPlan, PushRequest};
use crate::error::{ClientError, Result};
use crate::read::{ReadFile, Sources, blocking, cut};

/// The content of a release, by file.
pub(super) struct Prepared {
    pub(super) built: Built,
    pub(super) digest: Sha256,
    /// Each distinct file, the config among them.
    pub(super) files: BTreeMap<Sha256, (Recipe, u64)>,
    pub(super) sources: Arc<Sources>,
    /// What the release statement says.
    pub(super) content: Vec<Content>,
    pub(super) config: Content,
}

impl Prepared {
    pub(super) async fn of(request: &PushRequest, read: Vec<ReadFile>) -> Result<Self> {
        let mut facts = ModelFacts::none();
        let mut builder = ManifestBuilder::new(request.kind, request.about.clone());
        let mut sources = Sources::default();
        let mut files = BTreeMap::new();
        let mut content = BTreeMap::new();
        for file in &read {
            builder = builder.file(file.path.clone(), file.sha256, file.size);
            if let Some(header) = &file.header {
                facts = facts.with_header(header);
            }
            sources.add_file(file);
            // Files of one content may be cut differently under two names; the first one's cuts count.
            content.entry(file.sha256).or_insert_with(|| Content {
                sha256: file.sha256,
                size: file.size,
                planner: file.recipe.planner(),
                recipe: file.recipe.digest(),
            });
            files
                .entry(file.sha256)
                .or_insert_with(|| (file.recipe.clone(), file.size));
        }
        if request.kind == Kind::Model
            && let Some(config) = read.iter().find(|file| file.path.as_str() == "config.json")
            && config.size <= CONFIG_JSON_MAX_BYTES as u64
        {
            facts = facts.with_config_json(&read_small(config).await?);
        }
        builder = builder.facts(facts);
        if let Some(base) = &request.base {
            builder = builder.base(base.clone());
        }
        for data in &request.data {
            builder = builder.trained_on(data);
        }
        let built = builder.build().map_err(|e| ClientError::Usage(e.to_string()))?;
        let blob = built.manifest.config();
        // A published file may happen to be this very configuration: then its cuts count.
        let (recipe, _) = files
            .entry(blob.digest)
            .or_insert_with(|| (cut(&built.config), blob.size));
        sources.add_bytes(built.config.clone(), recipe);
        let config = Content {
            sha256: blob.digest,
            size: blob.size,
            planner: recipe.planner(),
            recipe: recipe.digest(),
        };
        Ok(Self {
            digest: built.manifest.digest(),
            built,
            files,
            sources: Arc::new(sources),
            content: content.into_values().collect(),
            config,
        })
    }

    pub(super) fn plan(&self, upload: Option<&Upload>, needs: Needs, ignored: u64) -> PushPlan {
        let missing = upload.map_or(&[][..], |upload| &upload.missing);
        let manifest = &self.built.manifest;
        let send_bytes = self.length(missing);
        // The configuration is sent as well, but is none of the files.
        let own: HashSet<ChunkDigest> = self
            .files
            .get(&self.config.sha256)
            .map_or_else(HashSet::new, |(recipe, _)| {
                recipe.pieces().iter().map(|piece| piece.chunk).collect()
            });
        let of_config: Vec<ChunkDigest> = missing.iter().copied().filter(|c| own.contains(c)).collect();
        let of_files = send_bytes - self.length(&of_config);
        let records = [
            (needs.release, "release"),
            (needs.label, "residency"),
            (needs.tag, "tag"),
        ];
        PushPlan {
            digest: self.digest,
            files: manifest.layers().len() as u64,
            bytes: manifest.total_size(),
            chunks: self.sources.chunks(),
            missing_chunks: missing.len() as u64,
            send_bytes,
            reused_bytes: manifest.total_size().saturating_sub(of_files),
            ignored,
            records: records
                .into_iter()
                .filter(|(needed, _)| *needed)
                .map(|(_, word)| word)
                .collect(),
        }
    }

    pub(super) fn length(&self, chunks: &[ChunkDigest]) -> u64 {
        let lengths = chunks.iter().filter_map(|chunk| self.sources.place(chunk));
        lengths.map(|place| u64::from(place.length)).sum()
    }

    pub(super) fn recipe_of(&self, file: &Sha256) -> Option<FileRecipe> {
        let (recipe, _) = self.files.get(file)?;
        Some(FileRecipe {
            sha256: *file,
            recipe: recipe.canonical().into(),
        })
    }
}

pub(super) async fn read_small(file: &ReadFile) -> Result<Vec<u8>> {
    let (local, expected) = (file.local.clone(), file.sha256);
    blocking(move || {
        let bytes = std::fs::read(&local).map_err(ClientError::io("read", &local))?;
        if Sha256::of(&bytes) == expected {
            Ok(bytes)
        } else {
            Err(ClientError::Changed(local))
        }
    })
    .await
}
