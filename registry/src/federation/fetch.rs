//! The closure of a release, from another site into this one's content: every file by its chunks, the manifest, the
//! scorecards' details. Each piece is checked against what the publisher signed before it gets its name; the caller
//! says that it is held only after all of it is durable here.
//!
//! What is here already is not fetched again, so a fetch that broke off goes on where it was.
//!
//! Budget: a chunk crosses the network once, is hashed once and written once; memory is one batch of 16 MiB.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use waag_schema::content::Recipe;
use waag_schema::content::chunk::claimed_length;
use waag_schema::release::Manifest;
use waag_schema::statement::{Content as Named, Release};
use waag_schema::wire::artifact::{ChunksRequest, ScorecardView};
use waag_schema::{ArtifactName, ChunkDigest, Sha256};

use super::peer::{Peer, PeerError};
use crate::content::{Content, ContentError};
use crate::store::{Key, Store, StoreError};

/// Chunks in one request, and the bytes that they have at most.
const BATCH_CHUNKS: usize = 64;
const BATCH_BYTES: u64 = 16 << 20;
/// Recipes asked for at once.
const RECIPES_AT_ONCE: usize = 256;
/// The most bytes of a scorecard's details.
const DETAILS_MAX: usize = 16 << 20;

/// A release could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The site did not give it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What came is not what was signed.
    #[error("{0}")]
    Lies(String),
    /// It could not be kept here.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It could not be kept here.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn lies(what: impl std::fmt::Display) -> FetchError {
    FetchError::Lies(what.to_string())
}

/// Fetches one release.
pub(super) struct Fetch<'a> {
    pub(super) peer: &'a dyn Peer,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) content: &'a Content,
    pub(super) artifact: &'a ArtifactName,
    pub(super) manifest: Sha256,
    pub(super) release: &'a Release,
    pub(super) bytes_per_second: Option<u64>,
    /// Counts raw bytes that came.
    pub(super) received: &'a Counter,
}

impl Fetch<'_> {
    /// Fetches the manifest and all recipes, and returns the recipes; of content nothing has moved then.
    pub(super) async fn plan(&self) -> Result<(Bytes, Vec<(Sha256, Recipe)>), FetchError> {
        let bytes = match self.store.get(&Key::manifest(&self.manifest)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_)) => self.peer.manifest(self.artifact, &self.manifest).await?,
            Err(error) => return Err(error.into()),
        };
        let found = Sha256::of(&bytes);
        if found != self.manifest {
            return Err(lies(format_args!(
                "the manifest {} was asked for, {found} came",
                self.manifest
            )));
        }
        let parsed = Manifest::parse(bytes.to_vec()).map_err(lies)?;
        self.release.check_manifest(&parsed).map_err(lies)?;
        let mut named: BTreeMap<Sha256, &Named> = BTreeMap::new();
        for content in self.release.content.iter().chain([&self.release.config]) {
            named.insert(content.sha256, content);
        }
        let mut recipes = Vec::with_capacity(named.len());
        let mut lacking = Vec::new();
        for content in named.into_values() {
            match self.content.recipe(&content.recipe).await? {
                Some(recipe) => recipes.push((content.sha256, recipe)),
                None => lacking.push(content),
            }
        }
        let mut rest = lacking.as_slice();
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(RECIPES_AT_ONCE)];
            let files: Vec<Sha256> = batch.iter().map(|content| content.sha256).collect();
            let came = self.peer.recipes(self.artifact, &files).await?;
            if came.is_empty() || came.len() > batch.len() {
                return Err(lies(format_args!(
                    "{} recipes came for {} files",
                    came.len(),
                    batch.len()
                )));
            }
            for (content, bytes) in batch.iter().zip(&came) {
                recipes.push((content.sha256, check(content, bytes)?));
            }
            rest = &rest[came.len()..];
        }
        Ok((bytes, recipes))
    }

    /// Fetches the chunks that are not here, and then keeps recipes, scorecards and the manifest. All durable on
    /// return.
    pub(super) async fn fetch(
        &self,
        manifest: Bytes,
        recipes: &[(Sha256, Recipe)],
        scorecards: &[ScorecardView],
    ) -> Result<(), FetchError> {
        let began = Instant::now();
        let mut moved = 0;
        for (file, recipe) in recipes {
            moved = self.file(*file, recipe, (began, moved)).await?;
            let bytes = Bytes::from(recipe.canonical());
            self.store
                .put_if_absent(&Key::recipe(&recipe.digest()), bytes)
                .await?;
        }
        for view in scorecards {
            let Some(details) = &view.scorecard.details else {
                continue;
            };
            let key = Key::scorecard(&details.sha256);
            if self.store.head(&key).await?.is_some() {
                continue;
            }
            let bytes = self.peer.scorecard(self.artifact, &details.sha256).await?;
            if bytes.len() > DETAILS_MAX || Sha256::of(&bytes) != details.sha256 {
                return Err(lies(format_args!(
                    "the details {} of a scorecard are others",
                    details.sha256
                )));
            }
            self.store.put_if_absent(&key, bytes).await?;
        }
        self.store
            .put_if_absent(&Key::manifest(&self.manifest), manifest)
            .await?;
        Ok(())
    }

    /// Fetches what a file lacks; returns how many bytes have moved by then.
    async fn file(&self, file: Sha256, recipe: &Recipe, pace: (Instant, u64)) -> Result<u64, FetchError> {
        let (began, mut moved) = pace;
        // How much of each chunk is used: what is shorter makes no file.
        let mut ends: HashMap<ChunkDigest, u32> = HashMap::new();
        let mut order = Vec::new();
        for piece in recipe.pieces() {
            let end = piece.offset.saturating_add(piece.length);
            let known = ends.entry(piece.chunk).or_insert_with(|| {
                order.push(piece.chunk);
                0
            });
            *known = end.max(*known);
        }
        let mut batch: Vec<ChunkDigest> = Vec::new();
        let mut bytes = 0;
        for chunk in order {
            if self.is_here(&chunk, ends[&chunk]).await? {
                continue;
            }
            bytes += u64::from(ends[&chunk]);
            batch.push(chunk);
            if batch.len() == BATCH_CHUNKS || bytes >= BATCH_BYTES {
                moved += self.batch(file, std::mem::take(&mut batch), &ends).await?;
                bytes = 0;
                self.wait(began, moved).await;
            }
        }
        if !batch.is_empty() {
            moved += self.batch(file, batch, &ends).await?;
            self.wait(began, moved).await;
        }
        Ok(moved)
    }

    async fn is_here(&self, chunk: &ChunkDigest, end: u32) -> Result<bool, FetchError> {
        let key = Key::chunk(chunk);
        let header = match self
            .store
            .get_range(&key, 0..waag_schema::content::chunk::HEADER_BYTES as u64)
            .await
        {
            Ok(header) => header,
            Err(StoreError::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let length = header.first_chunk().map_or(0, claimed_length);
        if length < end {
            return Err(lies(format_args!(
                "a recipe takes {end} bytes of the chunk {chunk}, which has {length}"
            )));
        }
        Ok(true)
    }

    /// Fetches one batch, checks each chunk, and names them once they are durable together.
    async fn batch(
        &self,
        file: Sha256,
        mut chunks: Vec<ChunkDigest>,
        ends: &HashMap<ChunkDigest, u32>,
    ) -> Result<u64, FetchError> {
        let mut moved = 0;
        while !chunks.is_empty() {
            let request = ChunksRequest {
                file,
                chunks: chunks.clone(),
            };
            let came = self.peer.chunks(self.artifact, &request).await?;
            if came.is_empty() || came.len() > chunks.len() {
                return Err(lies(format_args!(
                    "{} chunks came where {} were asked for",
                    came.len(),
                    chunks.len()
                )));
            }
            let session = self.manifest;
            let mut names = Vec::with_capacity(came.len());
            for (asked, (found, stored)) in chunks.iter().zip(&came) {
                if asked != found {
                    return Err(lies(format_args!("the chunk {found} came for {asked}")));
                }
                let (digest, bytes) = (*asked, stored.clone());
                let raw = self
                    .content
                    .on_pool(move || Content::opened(&bytes, digest))
                    .await;
                let Some(raw) = raw else {
                    return Err(lies(format_args!(
                        "the bytes of the chunk {asked} have another digest"
                    )));
                };
                if raw.len() < ends.get(asked).map_or(0, |end| *end as usize) {
                    return Err(lies(format_args!(
                        "a recipe takes more of the chunk {asked} than it has"
                    )));
                }
                moved += raw.len() as u64;
                self.received.inc_by(raw.len() as u64);
                let staged = Key::incoming(&session, asked);
                self.store.stage(&staged, stored.clone()).await?;
                names.push((staged, Key::chunk(asked)));
            }
            let staged: Vec<Key> = names.iter().map(|(from, _)| from.clone()).collect();
            self.store.promote(names).await?;
            for key in staged {
                self.store.delete(&key).await?;
            }
            chunks.drain(..came.len());
        }
        Ok(moved)
    }

    /// Waits until so many bytes may have moved since the beginning.
    async fn wait(&self, began: Instant, moved: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let micros = u128::from(moved) * 1_000_000 / u128::from(rate.max(1));
        let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).min(3_600_000_000));
        tokio::time::sleep_until(began + due).await;
    }
}

/// Returns every chunk that these recipes need.
pub(super) fn chunks_of(recipes: &[(Sha256, Recipe)]) -> HashSet<ChunkDigest> {
    let pieces = recipes.iter().flat_map(|(_, recipe)| recipe.pieces());
    pieces.map(|piece| piece.chunk).collect()
}

fn check(content: &Named, bytes: &[u8]) -> Result<Recipe, FetchError> {
    let found = ChunkDigest::of(bytes);
    let file = content.sha256;
    if found != content.recipe {
        return Err(lies(format_args!(
            "the recipe of {file} has the digest {found}, {} was signed",
            content.recipe
        )));
    }
    let recipe = Recipe::decode(bytes).map_err(lies)?;
    if recipe.size() != content.size || recipe.planner() != content.planner {
        return Err(lies(format_args!(
            "the recipe of {file} makes {} bytes, {} were signed",
            recipe.size(),
            content.size
        )));
    }
    Ok(recipe)
}
