//! The content of a release, read from this disk once: its manifest, its config, and how each file is made of chunks.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use waag_schema::content::Recipe;
use waag_schema::release::model::CONFIG_JSON_MAX_BYTES;
use waag_schema::release::{Built, Kind, ManifestBuilder, ModelFacts};
use waag_schema::statement::Content;
use waag_schema::wire::upload::FileRecipe;
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256};

use super::statements::Needs;
use super::upload::Upload;
use super::{PushPlan, PushRequest};
use crate::error::{ClientError, Result};
use crate::read::{ReadFile, ReadSet, blocking, cut};
use crate::sources::Sources;

/// The content of a release, by layer.
pub(super) struct Prepared {
    pub(super) built: Built,
    pub(super) digest: Sha256,
    /// Each distinct layer, and the config.
    pub(super) files: BTreeMap<Sha256, (Recipe, u64)>,
    pub(super) sources: Arc<Sources>,
    /// What the release statement says.
    pub(super) content: Vec<Content>,
    pub(super) config: Content,
}

impl Prepared {
    pub(super) async fn of(request: &PushRequest, read: ReadSet) -> Result<Self> {
        let mut facts = ModelFacts::none();
        let mut builder = ManifestBuilder::new(request.kind, request.about.clone());
        let mut layers = Layers::default();
        if request.kind == Kind::Model
            && let Some((local, sha256, size)) = find(&read, "config.json")
            && size <= CONFIG_JSON_MAX_BYTES as u64
        {
            facts = facts.with_config_json(&read_small(local, sha256).await?);
        }
        let ReadSet { files, tars } = read;
        for file in files {
            if let Some(header) = &file.header {
                facts = facts.with_header(header);
            }
            layers.sources.add_file(&file);
            layers.add(file.sha256, &file.recipe);
            builder = builder.file(file.path, file.sha256, file.size);
        }
        for tar in tars {
            for header in tar.members.iter().filter_map(|member| member.header.as_ref()) {
                facts = facts.with_header(header);
            }
            layers.add(tar.sha256, &tar.recipe);
            builder = builder.tar(tar.sha256, tar.size, tar.expected());
            layers.sources.add_tar(tar);
        }
        builder = builder.facts(facts);
        if let Some(base) = &request.base {
            builder = builder.base(base.clone());
        }
        for data in &request.data {
            builder = builder.trained_on(data);
        }
        let built = builder.build().map_err(|e| ClientError::Usage(e.to_string()))?;
        if let Some(list) = &built.list {
            layers.add_bytes(list);
        }
        let content = layers.content.clone().into_values().collect();
        // A published file may happen to be this very configuration: then its cuts count.
        let config = layers.add_bytes(&built.config);
        Ok(Self {
            digest: built.manifest.digest(),
            built,
            files: layers.files,
            sources: Arc::new(layers.sources),
            content,
            config,
        })
    }

    /// Returns what it was made from.
    pub(super) fn ancestors(&self) -> Vec<ArtifactName> {
        self.built.manifest.ancestors()
    }

    pub(super) fn plan(&self, upload: Option<&Upload>, needs: Needs, ignored: u64) -> PushPlan {
        let missing = upload.map_or(&[][..], |upload| &upload.missing);
        let manifest = &self.built.manifest;
        let send_bytes = self.length(missing);
        // The configuration is sent as well, and the list of packed files, but they are none of the files.
        let list = manifest.packed().map(|packed| packed.list.digest);
        let own: HashSet<ChunkDigest> = [Some(self.config.sha256), list]
            .into_iter()
            .flatten()
            .filter_map(|blob| self.files.get(&blob))
            .flat_map(|(recipe, _)| recipe.pieces().iter().map(|piece| piece.chunk))
            .collect();
        let of_config: Vec<ChunkDigest> = missing.iter().copied().filter(|c| own.contains(c)).collect();
        let of_files = send_bytes - self.length(&of_config);
        let records = [
            (needs.release, "release"),
            (needs.label, "residency"),
            (needs.tag, "tag"),
        ];
        PushPlan {
            digest: self.digest,
            files: manifest.file_count(),
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

/// Layers in the making.
#[derive(Default)]
struct Layers {
    sources: Sources,
    files: BTreeMap<Sha256, (Recipe, u64)>,
    content: BTreeMap<Sha256, Content>,
}

impl Layers {
    /// Adds a layer. Files of one content may be cut differently under two names; the first one's cuts count.
    fn add(&mut self, sha256: Sha256, recipe: &Recipe) -> Content {
        let size = recipe.size();
        self.files.entry(sha256).or_insert_with(|| (recipe.clone(), size));
        let content = self.content.entry(sha256).or_insert_with(|| Content {
            sha256,
            size,
            planner: recipe.planner(),
            recipe: recipe.digest(),
        });
        content.clone()
    }

    /// Adds what is in memory.
    fn add_bytes(&mut self, bytes: &[u8]) -> Content {
        let sha256 = Sha256::of(bytes);
        let recipe = match self.files.get(&sha256) {
            Some((known, _)) => known.clone(),
            None => cut(bytes),
        };
        self.sources.add_bytes(bytes.to_vec(), &recipe);
        self.add(sha256, &recipe)
    }
}

/// Finds a file, packed or not.
fn find<'r>(read: &'r ReadSet, name: &str) -> Option<(&'r Path, Sha256, u64)> {
    let named = |path: &FilePath| path.as_str() == name;
    let own = |file: &'r ReadFile| (file.local.as_path(), file.sha256, file.size);
    let alone = read.files.iter().find(|file| named(&file.path)).map(own);
    let mut members = read.tars.iter().flat_map(|tar| &tar.members);
    alone.or_else(|| {
        let member = members.find(|member| named(&member.path))?;
        Some((member.local.as_path(), member.sha256, member.size))
    })
}

async fn read_small(local: &Path, expected: Sha256) -> Result<Vec<u8>> {
    let local = local.to_owned();
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
