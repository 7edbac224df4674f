//! Copies go: what may not be held here any more, or was withdrawn with erasure, is deleted, and that is recorded.
//!
//! Deleted is what nothing else needs: no artifact of this site, no other copy that it holds, no upload that is open,
//! no release that is being fetched. Chunks go before the recipes that name them, so that a crash between leaves a
//! recipe to go on from; the statement comes last, when it was looked that they are gone.

use std::collections::HashSet;

use waag_schema::ChunkDigest;
use waag_schema::content::Recipe;
use waag_schema::statement::{Keeping, Release};

use super::mirror::{LISTED_AT_ONCE, Wanted, release_in};
use super::sites::{Federation, SitesError};
use crate::ledger::{AppendError, Followed};
use crate::store::{Key, Store, StoreError};

impl Federation {
    /// Deletes a copy and says so.
    pub(super) async fn erase(
        &self,
        followed: &Followed,
        release: &Wanted,
        (state, reason): (Keeping, &str),
    ) -> Result<(), SitesError> {
        let (_, statement) = self.statement(followed, release).await?;
        self.delete(Some(followed.store.as_ref()), release, &statement)
            .await?;
        self.say(followed, release, state, Some(reason)).await?;
        self.forget_checked(&release.artifact, &release.view.manifest)
            .await?;
        self.end_fetch(followed.store.as_ref(), release).await
    }

    /// Deletes what has come of a release that was never whole here. It was not held, so nothing is said.
    pub(super) async fn discard(&self, followed: &Followed, release: &Wanted) -> Result<(), SitesError> {
        let (_, statement) = self.statement(followed, release).await?;
        self.delete(Some(followed.store.as_ref()), release, &statement)
            .await?;
        self.end_fetch(followed.store.as_ref(), release).await
    }

    /// Forgets that a release was being fetched: it is held now, or nothing is left of it.
    pub(super) async fn end_fetch(&self, copy: &dyn Store, release: &Wanted) -> Result<(), SitesError> {
        let prefix = Key::fetching_prefix(&release.artifact, &release.view.manifest);
        Ok(delete_below(copy, &prefix).await?)
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
            let statement = self.own_statement(&release).await?;
            self.delete(None, &release, &statement).await?;
            let newest = self.ledger.checkpoint();
            let (home, size) = (newest.checkpoint().origin.clone(), newest.checkpoint().size);
            let why = format!("withdrawn with erasure: {reason}");
            // The ledger knows itself who may read what is said of its own namespaces.
            self.say_as_of((home, size), &release, (Keeping::Erased, Some(&why)), None)
                .await?;
            self.forget_checked(&release.artifact, &release.view.manifest)
                .await?;
        }
        Ok(number)
    }

    /// Reads the signed statement of a release of this site's own.
    pub(super) async fn own_statement(&self, release: &Wanted) -> Result<Release, SitesError> {
        let entry = release.view.entry;
        let proof = self.ledger.prove(&[entry]).await?;
        let found = release_in(&proof, &release.artifact, &release.view.manifest)?;
        let (_, statement) = found.ok_or(AppendError::NoEntry(entry))?;
        Ok(statement)
    }

    /// Deletes what nothing else needs of a release, and looks that it is gone. The copy of its home's ledger says what
    /// a fetch that did not end has left.
    async fn delete(
        &self,
        copy: Option<&dyn Store>,
        release: &Wanted,
        statement: &Release,
    ) -> Result<(), SitesError> {
        let manifest = release.view.manifest;
        let named: Vec<ChunkDigest> = statement
            .content
            .iter()
            .chain([&statement.config])
            .map(|content| content.recipe)
            .collect();
        // No upload completes a file and no fetch begins while it is looked what is still needed.
        let _sealing = self.uploads.hold_up().await;
        let paused = self.underway.pause().await;
        let kept_recipes = self.needed_recipes(release).await?;
        let mut chunks = HashSet::new();
        let mut recipes = Vec::new();
        for digest in named {
            if kept_recipes.contains(&digest) || self.reader.ask(move |q| q.has_recipe(&digest)).await? {
                continue;
            }
            let recipe = match (self.content.recipe(&digest).await?, copy) {
                (None, Some(copy)) => begun_recipe(copy, release, &digest).await?,
                (known, _) => known,
            };
            if let Some(recipe) = recipe {
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
        self.underway.spare(&mut chunks);
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
        keys.extend(recipes.iter().map(Key::recipe));
        let shared = self.reader.ask(move |q| q.has_manifest(&manifest)).await?;
        if !shared && !self.is_held_elsewhere(release).await? {
            keys.push(Key::manifest(&manifest));
        }
        for key in &keys {
            self.store.delete(key).await?;
        }
        // What was on its way when a fetch broke off.
        delete_below(self.store.as_ref(), &Key::incoming_prefix(&manifest)).await?;
        self.content.forget(&gone);
        for key in &keys {
            if self.store.head(key).await?.is_some() {
                return Err(StoreError::Conflict(key.clone()).into());
            }
        }
        drop(paused);
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

/// Reads a recipe of a release of which a fetch began.
async fn begun_recipe(
    copy: &dyn Store,
    release: &Wanted,
    digest: &ChunkDigest,
) -> Result<Option<Recipe>, StoreError> {
    let key = Key::fetching(&release.artifact, &release.view.manifest, digest);
    match copy.get(&key).await {
        Ok(bytes) => Ok(Recipe::decode(&bytes).ok()),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes everything below a prefix.
async fn delete_below(store: &dyn Store, prefix: &str) -> Result<(), StoreError> {
    loop {
        let keys = store.list(prefix, None, LISTED_AT_ONCE).await?;
        if keys.is_empty() {
            return Ok(());
        }
        for key in &keys {
            store.delete(key).await?;
        }
    }
}
