//! The closure of a release, from the sites that hold it into this one's content: every file by its chunks, the
//! manifest, the scorecards' details. Each piece is checked against what the publisher signed before it gets its name; the
//! caller says that it is held only after all of it is durable here.
//!
//! ```text
//! holders (home, and who says that it holds) -> plan (manifest, recipes) -> batches -> lanes (two for each holder)
//! ```
//!
//! It matters to nothing here who gives a piece: what is signed is checked. What is here already is not fetched again, so
//! a fetch that broke off goes on where it was.
//!
//! Budget: a chunk crosses the network once, is hashed once and written once; memory is the batches under way, 16 MiB
//! each ([`AT_ONCE`] for the whole site), and four times that from a site that sends more than it was asked for.

mod batches;
mod holders;
mod lanes;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use waag_schema::content::Recipe;
use waag_schema::release::Manifest;
use waag_schema::statement::{Content as Named, Release};
use waag_schema::wire::artifact::ScorecardView;
use waag_schema::{ArtifactName, ChunkDigest, Sha256};

pub(super) use self::holders::{Holder, Holders};
use super::peer::PeerError;
use crate::content::{Content, ContentError};
use crate::store::{Key, Store, StoreError};

/// Batches under way at once, of all releases that a site fetches.
pub(super) const AT_ONCE: usize = 8;
/// Recipes asked for at once.
const RECIPES_AT_ONCE: usize = 256;
/// The most bytes of a scorecard's details.
const DETAILS_MAX: usize = 16 << 20;

/// A release could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A site did not give it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What came is not what was signed.
    #[error("{0}")]
    Lies(String),
    /// A site took too long, and there was another one to ask.
    #[error("it gave nothing for {} s", .0.as_secs())]
    Stalls(Duration),
    /// None of the sites that hold it gave it: each with its reason.
    #[error("nobody gives it: {}", .0.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; "))]
    Nobody(Vec<(String, FetchError)>),
    /// What was signed cannot be used, whoever gives it.
    #[error("{0}")]
    Unusable(String),
    /// It could not be kept here.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It could not be kept here.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FetchError {
    /// Is it the site's fault that was asked?
    const fn is_theirs(&self) -> bool {
        matches!(self, Self::Peer(_) | Self::Lies(_) | Self::Stalls(_))
    }
}

fn lies(what: impl std::fmt::Display) -> FetchError {
    FetchError::Lies(what.to_string())
}

fn unusable(what: impl std::fmt::Display) -> FetchError {
    FetchError::Unusable(what.to_string())
}

/// Fetches one release.
pub(super) struct Fetch<'a> {
    pub(super) holders: &'a Holders,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) content: &'a Content,
    pub(super) artifact: &'a ArtifactName,
    pub(super) manifest: Sha256,
    pub(super) release: &'a Release,
    pub(super) bytes_per_second: Option<u64>,
    /// How many batches may be under way in this site.
    pub(super) at_once: &'a Semaphore,
    /// Counts raw bytes that came.
    pub(super) received: &'a Counter,
}

impl Fetch<'_> {
    /// Fetches the manifest and all recipes, and returns the recipes; of content nothing has moved then.
    pub(super) async fn plan(&self) -> Result<(Bytes, Vec<(Sha256, Recipe)>), FetchError> {
        let bytes = match self.store.get(&Key::manifest(&self.manifest)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_)) => self.fetch_manifest().await?,
            Err(error) => return Err(error.into()),
        };
        let parsed = Manifest::parse(bytes.to_vec()).map_err(unusable)?;
        self.release.check_manifest(&parsed).map_err(unusable)?;
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
            let came = self.recipes(&rest[..rest.len().min(RECIPES_AT_ONCE)]).await?;
            for (content, bytes) in rest.iter().zip(&came) {
                recipes.push((content.sha256, check(content, bytes)?));
            }
            rest = &rest[came.len()..];
        }
        Ok((bytes, recipes))
    }

    async fn fetch_manifest(&self) -> Result<Bytes, FetchError> {
        let mut tries = self.holders.tries();
        while let Some(peer) = tries.next() {
            let came = peer.manifest(self.artifact, &self.manifest).await;
            let error = match came.map(|bytes| (Sha256::of(&bytes), bytes)) {
                Ok((found, bytes)) if found == self.manifest => return Ok(bytes),
                Ok((found, _)) => lies(format_args!(
                    "the manifest {} was asked for, {found} came",
                    self.manifest
                )),
                Err(error) => error.into(),
            };
            tries.failed(error)?;
        }
        Err(tries.spent())
    }

    /// Fetches recipes of the first of these files, at least one; they are what was signed.
    async fn recipes(&self, batch: &[&Named]) -> Result<Vec<Bytes>, FetchError> {
        let files: Vec<Sha256> = batch.iter().map(|content| content.sha256).collect();
        let mut tries = self.holders.tries();
        while let Some(peer) = tries.next() {
            let error = match peer.recipes(self.artifact, &files).await {
                Ok(came) => match agree(batch, &came) {
                    Ok(()) => return Ok(came),
                    Err(error) => error,
                },
                Err(error) => error.into(),
            };
            tries.failed(error)?;
        }
        Err(tries.spent())
    }

    /// Fetches the chunks that are not here, and then keeps recipes, scorecards and the manifest. All durable on
    /// return.
    pub(super) async fn fetch(
        &self,
        manifest: Bytes,
        recipes: &[(Sha256, Recipe)],
        scorecards: &[ScorecardView],
    ) -> Result<(), FetchError> {
        self.content(recipes).await?;
        for (_, recipe) in recipes {
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
            if self.store.head(&key).await?.is_none() {
                let bytes = self.details(&details.sha256).await?;
                self.store.put_if_absent(&key, bytes).await?;
            }
        }
        self.store
            .put_if_absent(&Key::manifest(&self.manifest), manifest)
            .await?;
        Ok(())
    }

    async fn details(&self, details: &Sha256) -> Result<Bytes, FetchError> {
        let mut tries = self.holders.tries();
        while let Some(peer) = tries.next() {
            let error = match peer.scorecard(self.artifact, details).await {
                Ok(bytes) if bytes.len() <= DETAILS_MAX && Sha256::of(&bytes) == *details => {
                    return Ok(bytes);
                }
                Ok(_) => lies(format_args!("the details {details} of a scorecard are others")),
                Err(error) => error.into(),
            };
            tries.failed(error)?;
        }
        Err(tries.spent())
    }
}

/// Returns every chunk that these recipes need.
pub(super) fn chunks_of(recipes: &[(Sha256, Recipe)]) -> HashSet<ChunkDigest> {
    let pieces = recipes.iter().flat_map(|(_, recipe)| recipe.pieces());
    pieces.map(|piece| piece.chunk).collect()
}

/// Checks that these are the recipes of the first of these files.
fn agree(batch: &[&Named], came: &[Bytes]) -> Result<(), FetchError> {
    if came.is_empty() || came.len() > batch.len() {
        return Err(lies(format_args!(
            "{} recipes came for {} files",
            came.len(),
            batch.len()
        )));
    }
    for (content, bytes) in batch.iter().zip(came) {
        let found = ChunkDigest::of(bytes);
        if found != content.recipe {
            return Err(lies(format_args!(
                "the recipe of {} has the digest {found}, {} was signed",
                content.sha256, content.recipe
            )));
        }
    }
    Ok(())
}

/// Reads a recipe that is the one which was signed.
fn check(content: &Named, bytes: &[u8]) -> Result<Recipe, FetchError> {
    let recipe = Recipe::decode(bytes).map_err(unusable)?;
    if recipe.size() != content.size || recipe.planner() != content.planner {
        return Err(unusable(format_args!(
            "the recipe of {} makes {} bytes, {} were signed",
            content.sha256,
            recipe.size(),
            content.size
        )));
    }
    Ok(recipe)
}
