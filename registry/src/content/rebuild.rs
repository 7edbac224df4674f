//! Files from their recipes: any range, chunk by chunk.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use waag_schema::ChunkDigest;
use waag_schema::content::chunk::{ChunkError, StoredChunk};
use waag_schema::content::recipe::Recipe;

use super::ContentError;
use super::ahead::Ahead;
use super::recent::Recent;
use crate::pool::Pool;
use crate::store::{Key, Store, StoreError};

/// Chunks read ahead while a file is walked through.
const READ_AHEAD: usize = 4;

/// The content of a site, read.
#[derive(Clone)]
pub struct Content {
    pub(super) store: Arc<dyn Store>,
    pool: Pool,
    ahead: Ahead,
    recent: Recent,
}

impl Content {
    /// Reads content from this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, pool: Pool) -> Self {
        Self {
            store,
            pool,
            ahead: Ahead::new(),
            recent: Recent::default(),
        }
    }

    /// Runs work on the processor where it holds up nothing else.
    pub async fn on_pool<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.pool.run(job).await
    }

    /// Returns a recipe, or none where it is not at this site.
    ///
    /// # Errors
    /// When it is damaged or the store fails.
    pub async fn recipe(&self, digest: &ChunkDigest) -> Result<Option<Recipe>, ContentError> {
        let bytes = match self.store.get(&Key::recipe(digest)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = || ContentError::Damaged {
            what: "recipe",
            digest: *digest,
        };
        if ChunkDigest::of(&bytes) != *digest {
            return Err(damaged());
        }
        Recipe::decode(&bytes).map(Some).map_err(|_| damaged())
    }

    /// Returns a chunk as it is stored, unchecked: the receiver checks it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn stored_chunk(&self, digest: &ChunkDigest) -> Result<Bytes, ContentError> {
        Ok(self.store.get(&Key::chunk(digest)).await?)
    }

    /// Decodes a stored chunk, checked.
    #[must_use]
    pub fn opened(stored: &Bytes, digest: ChunkDigest) -> Option<Bytes> {
        open(stored, digest)
    }

    /// Returns a chunk's raw bytes, checked.
    ///
    /// # Errors
    /// When it is damaged or the store fails.
    pub async fn chunk(&self, digest: ChunkDigest) -> Result<Bytes, ContentError> {
        let opening = async {
            let stored = self.store.get(&Key::chunk(&digest)).await?;
            let opened = self.pool.run(move || open(&stored, digest)).await;
            opened.ok_or(ContentError::Damaged {
                what: "chunk",
                digest,
            })
        };
        self.recent.get(digest, opening).await
    }

    /// Lets go of what is kept in memory of chunks that were deleted.
    pub fn forget(&self, chunks: &[ChunkDigest]) {
        self.recent.forget(chunks);
    }

    /// Streams a range of a file's bytes; the range must lie within the file.
    pub fn range(
        &self,
        recipe: &Recipe,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, ContentError>> + use<> {
        let parts: Vec<(ChunkDigest, Range<usize>)> = recipe
            .pieces_for(range)
            .map(|part| (part.chunk, part.within.start as usize..part.within.end as usize))
            .collect();
        let content = self.clone();
        self.ahead.read(parts.into_iter().map(move |(chunk, within)| {
            let content = content.clone();
            async move {
                let bytes = content.chunk(chunk).await?;
                let damaged = ContentError::Damaged {
                    what: "chunk",
                    digest: chunk,
                };
                if within.end > bytes.len() {
                    Err(damaged)
                } else {
                    Ok(bytes.slice(within))
                }
            }
        }))
    }

    /// Reads a range of a file's bytes from the store itself, whatever is in memory; what lies behind its end is left out.
    ///
    /// # Errors
    /// When a chunk is missing or damaged, or the store fails.
    pub async fn reread(&self, recipe: &Recipe, range: Range<u64>) -> Result<Vec<u8>, ContentError> {
        let mut bytes = Vec::new();
        for part in recipe.pieces_for(range) {
            let (stored, digest) = (self.stored_chunk(&part.chunk).await?, part.chunk);
            let opened = self.on_pool(move || open(&stored, digest)).await;
            let own = opened.and_then(|raw| {
                let within = part.within.start as usize..part.within.end as usize;
                (within.end <= raw.len()).then(|| raw.slice(within))
            });
            bytes.extend_from_slice(&own.ok_or(ContentError::Damaged {
                what: "chunk",
                digest,
            })?);
        }
        Ok(bytes)
    }

    /// Hands all bytes of a file to `step`, in order, on the processor's pool; stops where it fails.
    ///
    /// Chunks are read ahead, and opened in the same job that takes their bytes.
    ///
    /// # Errors
    /// When a chunk is damaged or the store fails; within, what `step` has to say.
    pub async fn walk<S, E>(
        &self,
        recipe: &Recipe,
        mut state: S,
        step: fn(&mut S, &[u8]) -> Result<(), E>,
    ) -> Result<Result<S, E>, ContentError>
    where
        S: Send + 'static,
        E: Send + 'static,
    {
        let reads = recipe.pieces().iter().copied().map(|piece| {
            let store = Arc::clone(&self.store);
            async move {
                let stored = store.get(&Key::chunk(&piece.chunk)).await?;
                Ok::<_, ContentError>((piece, stored))
            }
        });
        let reads: Vec<_> = reads.collect();
        let mut stored = stream::iter(reads).buffered(READ_AHEAD);
        while let Some((piece, stored)) = stored.try_next().await? {
            let damaged = || ContentError::Damaged {
                what: "chunk",
                digest: piece.chunk,
            };
            let job = move || {
                let raw = open(&stored, piece.chunk)?;
                let own = raw.get(piece.offset as usize..piece.offset as usize + piece.length as usize)?;
                let said = step(&mut state, own);
                Some((state, said))
            };
            let (returned, said) = self.pool.run(job).await.ok_or_else(damaged)?;
            if let Err(error) = said {
                return Ok(Err(error));
            }
            state = returned;
        }
        Ok(Ok(state))
    }

    /// Returns the first bytes of a file, at most `limit` and at most what it has.
    ///
    /// # Errors
    /// When a chunk is damaged or the store fails.
    pub async fn head(&self, recipe: &Recipe, limit: u64) -> Result<Vec<u8>, ContentError> {
        let end = limit.min(recipe.size());
        let parts: Vec<Bytes> = self.range(recipe, 0..end).try_collect().await?;
        Ok(parts.concat())
    }
}

/// Decodes a stored chunk and checks its digest.
pub(super) fn open(stored: &Bytes, digest: ChunkDigest) -> Option<Bytes> {
    verify(stored, digest).ok()
}

/// Decodes a stored chunk and checks its digest; says what is wrong with it.
pub(super) fn verify(stored: &Bytes, digest: ChunkDigest) -> Result<Bytes, ChunkError> {
    Ok(match StoredChunk::parse(stored)?.verify(&digest)? {
        // Stored raw: the body is the tail of what was read, so nothing is copied.
        Cow::Borrowed(raw) => stored.slice(stored.len() - raw.len()..),
        Cow::Owned(raw) => raw.into(),
    })
}
