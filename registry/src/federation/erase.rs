//! Copies go: what may not be held here any more, or was withdrawn with erasure, is deleted, and that is recorded.
//!
//! Deleted is what nothing else needs: no artifact of this site, no other copy that it holds, no upload that is open,
//! no release that is being fetched. Chunks go before the recipes that name them, so that a crash between leaves a
//! recipe to go on from; the statement comes last, when it was looked that they are gone.

use std::collections::HashSet;

use waag_schema::ChunkDigest;
use waag_schema::statement::{Keeping, Release};

use super::mirror::{Wanted, release_in};
use super::sites::{Federation, SitesError};
use crate::ledger::{AppendError, Followed};
use crate::store::{Key, StoreError};

/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

impl Federation {
    /// Deletes a copy and says so.
    pub(super) async fn erase(
        &self,
        followed: &Followed,
        release: &Wanted,
        reason: &str,
    ) -> Result<(), SitesError> {
        let (_, statement) = self.statement(followed, release).await?;
        self.delete(release, &statement).await?;
        self.say(followed, release, Keeping::Erased, Some(reason)).await
    }

    /// Deletes what was withdrawn here with erasure, and says so: the home does as it asks of others. Returns how many
    /// releases went. A crash before it is said has the next look do it again.
    ///
    /// # Errors
    /// When the index, the ledger or the store fails.
    pub async fn erase_own(&self) -> Result<usize, SitesError> {
        let site = self.here.site.clone();
        let waiting = self.reader.ask(move |q| q.to_erase(&site)).await?;
        let number = waiting.len();
        for (artifact, view) in waiting {
            let reason = view.withdrawn.clone().unwrap_or_default();
            let release = Wanted::of(artifact, view);
            let proof = self.ledger.prove(&[release.view.entry]).await?;
            let found = release_in(&proof, &release.artifact, &release.view.manifest)?;
            let (_, statement) = found.ok_or(AppendError::NoEntry(release.view.entry))?;
            self.delete(&release, &statement).await?;
            let newest = self.ledger.checkpoint();
            let (home, size) = (newest.checkpoint().origin.clone(), newest.checkpoint().size);
            let why = format!("withdrawn with erasure: {reason}");
            // The ledger knows itself who may read what is said of its own namespaces.
            self.say_as_of((home, size), &release, (Keeping::Erased, Some(&why)), None)
                .await?;
        }
        Ok(number)
    }

    /// Deletes what nothing else needs of a release, and looks that it is gone.
    async fn delete(&self, release: &Wanted, statement: &Release) -> Result<(), SitesError> {
        let manifest = release.view.manifest;
        let named: Vec<ChunkDigest> = statement
            .content
            .iter()
            .chain([&statement.config])
            .map(|content| content.recipe)
            .collect();
        // No upload completes a file and no fetch begins while it is looked what is still needed.
        let _sealing = self.uploads.hold_up().await;
        let underway = self.underway.pause().await;
        let kept_recipes = self.needed_recipes(release).await?;
        let mut chunks = HashSet::new();
        let mut recipes = Vec::new();
        for digest in named {
            if kept_recipes.contains(&digest) || self.reader.ask(move |q| q.has_recipe(&digest)).await? {
                continue;
            }
            if let Some(recipe) = self.content.recipe(&digest).await? {
                chunks.extend(recipe.pieces().iter().map(|piece| piece.chunk));
                recipes.push(digest);
            }
        }
        for kept in &kept_recipes {
            if let Some(recipe) = self.content.recipe(kept).await? {
                for piece in recipe.pieces() {
                    chunks.remove(&piece.chunk);
                }
            }
        }
        for noted in underway.iter().filter(|(other, _)| **other != manifest) {
            chunks.retain(|chunk| !noted.1.contains(chunk));
        }
        let asked: Vec<ChunkDigest> = chunks.into_iter().collect();
        let gone = self.reader.ask(move |q| {
            let mut gone = Vec::with_capacity(asked.len());
            for chunk in asked {
                if !q.has_chunk(&chunk)? {
                    gone.push(chunk);
                }
            }
            Ok(gone)
        });
        let gone = gone.await?;
        let mut keys: Vec<Key> = gone.iter().map(Key::chunk).collect();
        keys.extend(gone.iter().map(|chunk| Key::incoming(&manifest, chunk)));
        keys.extend(recipes.iter().map(Key::recipe));
        let shared = self.reader.ask(move |q| q.has_manifest(&manifest)).await?;
        if !shared && !self.is_held_elsewhere(release).await? {
            keys.push(Key::manifest(&manifest));
        }
        for key in &keys {
            self.store.delete(key).await?;
        }
        self.content.forget(&gone);
        for key in &keys {
            if self.store.head(key).await?.is_some() {
                return Err(StoreError::Conflict(key.clone()).into());
            }
        }
        drop(underway);
        tracing::info!(artifact = %release.artifact, %manifest, chunks = gone.len(), "content was deleted");
        Ok(())
    }

    /// Is the same manifest held as another artifact's?
    async fn is_held_elsewhere(&self, release: &Wanted) -> Result<bool, SitesError> {
        let held = self.reader.ask(|q| q.custody(None)).await?;
        Ok(held.iter().any(|row| {
            row.site == self.here.site
                && row.state == Keeping::Holds
                && row.manifest == release.view.manifest
                && row.artifact != release.artifact
        }))
    }

    /// Returns the recipes of all other copies that are held, and of files that open uploads have completed.
    async fn needed_recipes(&self, but: &Wanted) -> Result<HashSet<ChunkDigest>, SitesError> {
        let mut needed = HashSet::new();
        let held = self.reader.ask(|q| q.custody(None)).await?;
        let own = held.into_iter().filter(|row| {
            let same = row.artifact == but.artifact && row.manifest == but.view.manifest;
            row.site == self.here.site && row.state == Keeping::Holds && !same
        });
        for row in own {
            for followed in self.ledgers.all() {
                let (artifact, manifest) = (row.artifact.clone(), row.manifest);
                let found = followed
                    .index
                    .ask(move |q| q.release(&artifact, &manifest))
                    .await?;
                let Some(view) = found else { continue };
                let other = Wanted::of(row.artifact.clone(), view);
                let (_, statement) = self.statement(&followed, &other).await?;
                let contents = statement.content.iter().chain([&statement.config]);
                needed.extend(contents.map(|content| content.recipe));
            }
        }
        let mut after = None;
        loop {
            let keys = self
                .store
                .list(&Key::upload_prefix(), after.as_ref(), LISTED_AT_ONCE)
                .await?;
            let Some(last) = keys.last().cloned() else { break };
            for key in keys.iter().filter(|key| key.as_str().contains(".sealed/")) {
                match self.store.get(key).await {
                    Ok(mark) => {
                        let hex = std::str::from_utf8(&mark)
                            .ok()
                            .and_then(|hex| ChunkDigest::from_hex(hex).ok());
                        needed.extend(hex);
                    }
                    Err(StoreError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            after = Some(last);
        }
        Ok(needed)
    }
}
