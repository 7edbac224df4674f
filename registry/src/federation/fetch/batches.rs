//! The chunks that a release lacks here, in batches: each is taken by one who fetches it, and comes back where that
//! fails.
//!
//! Invariant: a chunk is in one batch only, and a batch is with one only. Whoever stops in the middle, however that
//! comes about, leaves what has not come to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waag_schema::content::Recipe;
use waag_schema::content::chunk::{HEADER_BYTES, claimed_length};
use waag_schema::{ChunkDigest, Sha256};

use super::{FetchError, unusable};
use crate::store::{Key, Store, StoreError};

/// Chunks in one batch, and the bytes that they have at most.
const CHUNKS: usize = 64;
const BYTES: u64 = 16 << 20;

/// Chunks of one file that are asked for together.
#[derive(Debug, Default)]
struct Batch {
    file: Option<Sha256>,
    chunks: Vec<ChunkDigest>,
    bytes: u64,
}

/// What has not been looked at yet.
struct Unseen {
    order: Vec<(Sha256, ChunkDigest)>,
    at: usize,
    /// Kept here while it grows: who makes it may be stopped.
    next: Batch,
}

#[derive(Default)]
struct State {
    returned: Vec<Batch>,
    taken: usize,
    /// Nothing is unseen any more.
    seen: bool,
}

/// All that a release lacks.
pub(super) struct Batches {
    store: Arc<dyn Store>,
    /// How much of each chunk is used: what is shorter makes no file.
    ends: HashMap<ChunkDigest, u32>,
    unseen: tokio::sync::Mutex<Unseen>,
    state: Mutex<State>,
    changed: Notify,
}

impl Batches {
    /// Takes the chunks of all files, each once; which of them are here is looked up as they come to be fetched.
    pub(super) fn new(store: Arc<dyn Store>, recipes: &[(Sha256, Recipe)]) -> Self {
        let mut ends: HashMap<ChunkDigest, u32> = HashMap::new();
        let mut order = Vec::new();
        for (file, recipe) in recipes {
            for piece in recipe.pieces() {
                let end = piece.offset.saturating_add(piece.length);
                let known = ends.entry(piece.chunk).or_insert_with(|| {
                    order.push((*file, piece.chunk));
                    0
                });
                *known = end.max(*known);
            }
        }
        Self {
            store,
            ends,
            unseen: tokio::sync::Mutex::new(Unseen {
                order,
                at: 0,
                next: Batch::default(),
            }),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Returns how much of a chunk is used.
    pub(super) fn end(&self, chunk: &ChunkDigest) -> u32 {
        self.ends.get(chunk).copied().unwrap_or(0)
    }

    /// Has all of it come?
    pub(super) fn are_done(&self) -> bool {
        let state = self.state();
        state.seen && state.taken == 0 && state.returned.is_empty()
    }

    /// Returns the next batch, once there is one; none when all have come. May be dropped at any point.
    pub(super) async fn next(&self) -> Result<Option<Taken<'_>>, FetchError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let seen = {
                let mut state = self.state();
                if let Some(batch) = state.returned.pop() {
                    state.taken += 1;
                    return Ok(Some(Taken { of: self, batch }));
                }
                if state.seen && state.taken == 0 {
                    return Ok(None);
                }
                state.seen
            };
            if seen {
                // What others have taken may come back.
                changed.await;
                continue;
            }
            let mut unseen = self.unseen.lock().await;
            let found = self.grow(&mut unseen).await?;
            let mut state = self.state();
            match found {
                Some(batch) => {
                    state.taken += 1;
                    return Ok(Some(Taken { of: self, batch }));
                }
                None => state.seen = true,
            }
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Looks at what is unseen until a batch is full, or nothing is left.
    async fn grow(&self, unseen: &mut Unseen) -> Result<Option<Batch>, FetchError> {
        while let Some((file, chunk)) = unseen.order.get(unseen.at).copied() {
            let bytes = u64::from(self.end(&chunk));
            let batch = &unseen.next;
            let other = batch.file.is_some_and(|of| of != file);
            if other || batch.chunks.len() == CHUNKS || (batch.bytes > 0 && batch.bytes + bytes > BYTES) {
                break;
            }
            if !self.is_here(&chunk).await? {
                unseen.next.file = Some(file);
                unseen.next.chunks.push(chunk);
                unseen.next.bytes += bytes;
            }
            unseen.at += 1;
        }
        let batch = std::mem::take(&mut unseen.next);
        Ok((!batch.chunks.is_empty()).then_some(batch))
    }

    async fn is_here(&self, chunk: &ChunkDigest) -> Result<bool, FetchError> {
        let key = Key::chunk(chunk);
        let header = match self.store.get_range(&key, 0..HEADER_BYTES as u64).await {
            Ok(header) => header,
            Err(StoreError::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let length = header.first_chunk().map_or(0, claimed_length);
        let end = self.end(chunk);
        if length < end {
            return Err(unusable(format_args!(
                "a recipe takes {end} bytes of the chunk {chunk}, which has {length}"
            )));
        }
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that somebody fetches. What has not come when this goes is for others.
pub(super) struct Taken<'a> {
    of: &'a Batches,
    batch: Batch,
}

impl Taken<'_> {
    /// Returns the file and the chunks of it that have not come; none where all have.
    pub(super) fn left(&self) -> Option<(Sha256, &[ChunkDigest])> {
        let file = self.batch.file?;
        (!self.batch.chunks.is_empty()).then_some((file, self.batch.chunks.as_slice()))
    }

    /// Returns how many bytes it had.
    pub(super) const fn bytes(&self) -> u64 {
        self.batch.bytes
    }

    /// The first so many have come.
    pub(super) fn came(&mut self, chunks: usize) {
        self.batch.chunks.drain(..chunks);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let mut state = self.of.state();
        state.taken -= 1;
        if !batch.chunks.is_empty() {
            state.returned.push(batch);
        }
        drop(state);
        self.of.changed.notify_waiters();
    }
}
