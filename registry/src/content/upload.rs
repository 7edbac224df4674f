//! Upload sessions: what one publisher is sending for one manifest.
//!
//! A session's id is a function of token, artifact and manifest, so the same push by the same token finds its
//! session again after any crash; what it staged is still there, except after a power loss. A chunk is
//! written once, staged; when its file is complete and has the right SHA-256, its chunks become durable
//! together and are named.
//!
//! Budget: a byte that arrives is hashed twice (BLAKE3 of its chunk, SHA-256 of its file) and written once.
//! It is read again only where its turn in the file could not be waited for (see `arrival.rs`).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, RwLock, RwLockWriteGuard, Semaphore};
use waag_schema::content::recipe::Recipe;
use waag_schema::policy::Label;
use waag_schema::wire::upload::{FileRecipe, PlanAnswer};
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256, Timestamp};

use super::ContentError;
use super::arrival::Arrivals;
use super::rebuild::verify;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::index::Reader;
use crate::pool::Pool;
use crate::store::{Key, Store, StoreError, Swap};

/// Chunks of all requests that are taken in beside another of their request: at most 64 MiB.
const SPARE_MAX: usize = 16;
/// Chunks that are looked up side by side.
const LOOKED_UP_AT_ONCE: usize = 16;
/// Keys handled in one listing of a sweep.
const SWEPT_AT_ONCE: usize = 1000;

/// The upload sessions of a site.
#[derive(Clone)]
pub struct Uploads {
    here: Here,
    pub(super) store: Arc<dyn Store>,
    reader: Reader,
    clock: Arc<dyn Clock>,
    pub(super) pool: Pool,
    pub(super) arrivals: Arrivals,
    spare: Arc<Semaphore>,
    /// Held by who completes a file; taken alone by who deletes content that nothing needs.
    pub(super) sealing: Arc<RwLock<()>>,
}

/// What the store keeps of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The id of the token that opened it.
    pub owner: String,
    /// Where it shall be published.
    pub artifact: ArtifactName,
    /// The manifest that will be published.
    pub manifest: Sha256,
    /// When it was opened.
    pub created: Timestamp,
}

impl Session {
    fn is_of(&self, caller: &Caller) -> bool {
        caller.token().is_some_and(|token| token.id == self.owner)
    }
}

impl Uploads {
    /// Keeps sessions in this store; asks this index what a caller may read.
    #[must_use]
    pub fn new(here: Here, store: Arc<dyn Store>, reader: Reader, clock: Arc<dyn Clock>, pool: Pool) -> Self {
        Self {
            here,
            store,
            reader,
            clock,
            pool,
            arrivals: Arrivals::new(),
            spare: Arc::new(Semaphore::new(SPARE_MAX)),
            sealing: Arc::default(),
        }
    }

    /// Lets no upload complete a file as long as what it returns is kept.
    pub(crate) async fn hold_up(&self) -> RwLockWriteGuard<'_, ()> {
        self.sealing.write().await
    }

    /// Opens a session, or finds the one that the same token opened for the same manifest; its time begins anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        &self,
        owner: &str,
        artifact: ArtifactName,
        manifest: Sha256,
    ) -> Result<Sha256, ContentError> {
        let id = Sha256::of(format!("waag/upload/v1\0{owner}\0{artifact}\0{manifest}").as_bytes());
        let session = Session {
            owner: owner.to_owned(),
            artifact,
            manifest,
            created: self.clock.now(),
        };
        let bytes = Bytes::from(serde_json::to_vec(&session).expect("a session always serialises"));
        let key = Key::upload(&id);
        if let Swap::Lost = self.store.swap_cell(&key, None, bytes.clone()).await?
            && let Some(cell) = self.store.read_cell(&key).await?
        {
            // Whoever wins renews it as well.
            let _: Swap = self.store.swap_cell(&key, Some(&cell.version), bytes).await?;
        }
        Ok(id)
    }

    /// Returns the caller's session.
    ///
    /// # Errors
    /// When the caller has none of this id.
    pub async fn session(&self, caller: &Caller, id: &Sha256) -> Result<Session, ContentError> {
        let session = self.find(id).await?;
        session
            .filter(|session| session.is_of(caller))
            .ok_or(ContentError::NoUpload(*id))
    }

    /// Returns a session that the caller may finish: their own, or one of a namespace that they may publish in.
    /// What is in it was sent for exactly this manifest of this artifact by somebody who might have published it
    /// themselves, and the namespace's owners sign it; so it matters no more who hands it in.
    ///
    /// # Errors
    /// When there is none of this id for the caller.
    pub async fn finishable(&self, caller: &Caller, id: &Sha256) -> Result<Session, ContentError> {
        let session = self.find(id).await?;
        session
            .filter(|session| session.is_of(caller) || caller.may_publish(&session.artifact.namespace()))
            .ok_or(ContentError::NoUpload(*id))
    }

    async fn find(&self, id: &Sha256) -> Result<Option<Session>, ContentError> {
        let cell = self.store.read_cell(&Key::upload(id)).await?;
        Ok(cell.and_then(|c| serde_json::from_slice(&c.bytes).ok()))
    }

    /// Says which of these files need nothing more, and which chunks the others lack.
    ///
    /// # Errors
    /// When a recipe is malformed or the store fails.
    pub async fn plan(
        &self,
        caller: &Caller,
        id: &Sha256,
        files: &[FileRecipe],
    ) -> Result<PlanAnswer, ContentError> {
        let mut ready = Vec::new();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        let mut coming = HashSet::new();
        for file in files {
            let recipe = decode(&file.sha256, &file.recipe.0)?;
            if self.is_ready(caller, id, &file.sha256, &recipe).await? {
                ready.push(file.sha256);
                continue;
            }
            let new: Vec<ChunkDigest> = recipe
                .pieces()
                .iter()
                .map(|p| p.chunk)
                .filter(|chunk| seen.insert(*chunk))
                .collect();
            let located = self.locate(caller, id, new).await?;
            let lacking = located.into_iter().filter(|(_, key)| key.is_none());
            let lacking: Vec<ChunkDigest> = lacking.map(|(chunk, _)| chunk).collect();
            coming.extend(lacking.iter().copied());
            missing.extend(lacking);
            let first_here = recipe.pieces().iter().position(|p| !coming.contains(&p.chunk));
            let end = first_here.unwrap_or(recipe.pieces().len());
            self.arrivals.expect(id, &file.sha256, recipe, end);
        }
        Ok(PlanAnswer { ready, missing })
    }

    /// Returns a share of the memory for chunks that are taken in beside others of the same request, if there is one.
    #[must_use]
    pub fn spare(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.spare).try_acquire_owned().ok()
    }

    /// Takes in one chunk as it is stored. Returns its raw length.
    ///
    /// # Errors
    /// When the bytes are not the chunk of this digest, or the store fails.
    pub async fn receive(&self, id: &Sha256, chunk: ChunkDigest, stored: Bytes) -> Result<u64, ContentError> {
        let checked = stored.clone();
        let raw = self
            .pool
            .run(move || verify(&checked, chunk))
            .await
            .map_err(|error| ContentError::Chunk { chunk, error })?;
        // A crash after this may lose the chunk; the publisher is told so when the session is planned again.
        self.store.stage(&Key::incoming(id, &chunk), stored).await?;
        self.arrivals.feed(&self.pool, id, chunk, &raw).await;
        Ok(raw.len() as u64)
    }

    /// Returns the recipe of a file that is complete in this upload or that the caller may read already.
    ///
    /// # Errors
    /// When the index or the store fails.
    pub async fn complete(
        &self,
        caller: &Caller,
        id: &Sha256,
        file: &Sha256,
    ) -> Result<Vec<ChunkDigest>, ContentError> {
        let (reach, wanted, allows) = (caller.reach(), *file, self.allows(caller));
        let rows = self
            .reader
            .ask(move |q| q.reusable_content(&reach, &wanted, allows))
            .await?;
        let mut recipes: Vec<ChunkDigest> = rows.into_iter().map(|row| row.recipe).collect();
        match self.store.get(&Key::sealed(id, file)).await {
            Ok(mark) => recipes.extend(
                std::str::from_utf8(&mark)
                    .ok()
                    .and_then(|hex| ChunkDigest::from_hex(hex).ok()),
            ),
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(recipes)
    }

    /// Forgets a session and what it staged. What was named stays.
    ///
    /// # Errors
    /// When the store fails; the next sweep finishes it.
    pub async fn close(&self, id: &Sha256) -> Result<(), ContentError> {
        self.arrivals.forget(id);
        for prefix in [Key::incoming_prefix(id), Key::sealed_prefix(id)] {
            loop {
                let keys = self.store.list(&prefix, None, SWEPT_AT_ONCE).await?;
                if keys.is_empty() {
                    break;
                }
                for key in keys {
                    self.store.delete(&key).await?;
                }
            }
        }
        // The session goes last: while it is there, a sweep finds what a crash left above.
        Ok(self.store.delete(&Key::upload(id)).await?)
    }

    /// Forgets the sessions that were opened this many days ago or earlier. Returns how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, days: u32) -> Result<usize, ContentError> {
        let now = self.clock.now();
        let mut swept = 0;
        let mut after = None;
        loop {
            let keys = self.store.list("uploads/", after.as_ref(), SWEPT_AT_ONCE).await?;
            let Some(last) = keys.last().cloned() else {
                return Ok(swept);
            };
            for key in keys.iter().filter(|k| !k.as_str().contains(".sealed/")) {
                let Ok(id) = Sha256::from_hex(key.last()) else {
                    continue;
                };
                let cell = self.store.read_cell(key).await?;
                let session = cell.and_then(|c| serde_json::from_slice::<Session>(&c.bytes).ok());
                if session.is_none_or(|s| s.created.plus(u64::from(days) * 86_400) <= now) {
                    self.close(&id).await?;
                    swept += 1;
                }
            }
            after = Some(last);
        }
    }

    /// Says whether a file needs nothing more. One that was published before must still have all its chunks: so
    /// an upload heals what damage took away.
    pub(super) async fn is_ready(
        &self,
        caller: &Caller,
        id: &Sha256,
        file: &Sha256,
        recipe: &Recipe,
    ) -> Result<bool, ContentError> {
        if !self.complete(caller, id, file).await?.contains(&recipe.digest()) {
            return Ok(false);
        }
        let keys: HashSet<Key> = recipe.pieces().iter().map(|p| Key::chunk(&p.chunk)).collect();
        let stored = stream::iter(
            keys.into_iter()
                .map(|key| is_stored(Arc::clone(&self.store), key)),
        )
        .buffer_unordered(LOOKED_UP_AT_ONCE)
        .try_fold(true, |all, stored| async move { Ok(all && stored) });
        stored.await
    }

    /// Through which artifacts this caller may reuse content: a label that denies serving it to them denies that
    /// too, or publishing would be a way around it.
    fn allows(&self, caller: &Caller) -> impl Fn(&Namespace, &[Label]) -> bool + Send + use<> {
        let (here, caller, now) = (self.here.clone(), caller.clone(), self.clock.now());
        move |namespace, labels| here.may_reuse(&caller, namespace, labels, now)
    }

    /// Finds each chunk: staged in this upload, or stored and readable by the caller, or neither.
    pub(super) async fn locate(
        &self,
        caller: &Caller,
        id: &Sha256,
        chunks: Vec<ChunkDigest>,
    ) -> Result<Vec<(ChunkDigest, Option<Key>)>, ContentError> {
        let mut located = Vec::with_capacity(chunks.len());
        let mut elsewhere = Vec::new();
        for chunk in chunks {
            let key = Key::incoming(id, &chunk);
            if self.store.head(&key).await?.is_some() {
                located.push((chunk, Some(key)));
            } else {
                elsewhere.push(chunk);
            }
        }
        let (reach, allows) = (caller.reach(), self.allows(caller));
        let readable: Vec<(ChunkDigest, bool)> = self
            .reader
            .ask(move |q| {
                elsewhere
                    .into_iter()
                    .map(|c| Ok((c, q.reusable_chunk(&reach, &c, &allows)?)))
                    .collect()
            })
            .await?;
        // A readable chunk that is gone from the store is asked for again: so an upload heals it.
        for (chunk, readable) in readable {
            let key = Key::chunk(&chunk);
            let stored = readable && self.store.head(&key).await?.is_some();
            located.push((chunk, stored.then_some(key)));
        }
        Ok(located)
    }
}

async fn is_stored(store: Arc<dyn Store>, key: Key) -> Result<bool, ContentError> {
    Ok(store.head(&key).await?.is_some())
}

pub(super) fn decode(file: &Sha256, bytes: &[u8]) -> Result<Recipe, ContentError> {
    Recipe::decode(bytes).map_err(|error| ContentError::Recipe { file: *file, error })
}
