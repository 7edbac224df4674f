//! Sealing: a file of an upload becomes part of the site's content.
//!
//! Its SHA-256 is checked over all its chunks, of which only those are read that were not hashed when they arrived;
//! then its chunks become durable together and are named, and the recipe after them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::recipe::{Piece, Recipe};
use waag_schema::{ChunkDigest, Sha256};

use super::ContentError;
use super::arrival::Begun;
use super::rebuild::open;
use super::upload::{Uploads, decode};
use crate::access::Caller;
use crate::store::{Key, Put, Store};

/// Chunks read ahead while a file is hashed.
const READ_AHEAD: usize = 4;

impl Uploads {
    /// Completes a file: checks its SHA-256 over all its chunks, then makes them durable and names them.
    ///
    /// # Errors
    /// When a chunk is missing, the digest is another, or the store fails; then nothing was named.
    pub async fn seal(
        &self,
        caller: &Caller,
        id: &Sha256,
        file: &Sha256,
        recipe: &[u8],
    ) -> Result<(), ContentError> {
        let _shared = self.sealing.read().await;
        let bytes = Bytes::copy_from_slice(recipe);
        let recipe = decode(file, &bytes)?;
        let digest = recipe.digest();
        let mark = || Bytes::from(digest.hex());
        if self.is_ready(caller, id, file, &recipe).await? {
            // Noted all the same: the session may be finished by somebody who cannot read where it came from.
            let _: Put = self.store.put_if_absent(&Key::sealed(id, file), mark()).await?;
            return Ok(());
        }
        let mut distinct: Vec<ChunkDigest> = recipe.pieces().iter().map(|p| p.chunk).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let mut keys = HashMap::with_capacity(distinct.len());
        for (chunk, key) in self.locate(caller, id, distinct).await? {
            keys.insert(
                chunk,
                key.ok_or(ContentError::MissingChunk { file: *file, chunk })?,
            );
        }
        let begun = self.arrivals.take(id, file, &recipe);
        let found = match self.hash(*file, &recipe, &keys, begun).await {
            // What is damaged is of no use to anybody. It goes, and the publisher is asked for it.
            Err(ContentError::Damaged { digest: chunk, .. }) => {
                tracing::error!(%chunk, "a chunk is damaged and is asked for again");
                self.store.delete(&keys[&chunk]).await?;
                return Err(ContentError::MissingChunk { file: *file, chunk });
            }
            hashed => hashed?,
        };
        if found != *file {
            return Err(ContentError::WrongDigest {
                expected: *file,
                found,
            });
        }
        self.make_way(&keys).await?;
        let staged = |(chunk, key): (&ChunkDigest, &Key)| {
            let target = Key::chunk(chunk);
            (*key != target).then(|| (key.clone(), target))
        };
        self.store
            .promote(keys.iter().filter_map(staged).collect())
            .await?;
        // A crash here leaves named chunks that nothing cites: the next seal of this file finds them staged.
        self.store.put_if_absent(&Key::recipe(&digest), bytes).await?;
        let _: Put = self.store.put_if_absent(&Key::sealed(id, file), mark()).await?;
        Ok(())
    }

    /// Takes away stored chunks that are damaged where good ones are staged: a name that is taken would keep them.
    async fn make_way(&self, keys: &HashMap<ChunkDigest, Key>) -> Result<(), ContentError> {
        for (chunk, key) in keys {
            let target = Key::chunk(chunk);
            if *key == target || self.store.head(&target).await?.is_none() {
                continue;
            }
            let (stored, digest) = (self.store.get(&target).await?, *chunk);
            if self.pool.run(move || open(&stored, digest)).await.is_none() {
                tracing::error!(%chunk, "a stored chunk is damaged; a good one takes its place");
                self.store.delete(&target).await?;
            }
        }
        Ok(())
    }

    /// Computes a file's SHA-256 from what was hashed on arrival and the chunks behind that, each checked against
    /// its BLAKE3 on the way.
    async fn hash(
        &self,
        file: Sha256,
        recipe: &Recipe,
        keys: &HashMap<ChunkDigest, Key>,
        begun: Option<Begun>,
    ) -> Result<Sha256, ContentError> {
        let (hasher, pieces) = begun.map_or_else(
            || (Sha256Hasher::default(), 0),
            |begun| (begun.hasher, begun.pieces),
        );
        let reads: Vec<_> = recipe.pieces()[pieces..]
            .iter()
            .map(|piece| fetch(Arc::clone(&self.store), *piece, keys[&piece.chunk].clone()))
            .collect();
        let hasher = stream::iter(reads)
            .buffered(READ_AHEAD)
            .try_fold(hasher, |mut hasher, (piece, stored)| async move {
                let digest = piece.chunk;
                self.pool
                    .run(move || {
                        let raw = open(&stored, digest).ok_or(ContentError::Damaged {
                            what: "chunk",
                            digest,
                        })?;
                        // What a recipe claims of a good chunk is held against the recipe, never the chunk.
                        let own = raw.get(piece.offset as usize..(piece.offset + piece.length) as usize);
                        hasher.update(own.ok_or(ContentError::Outside { file, chunk: digest })?);
                        Ok(hasher)
                    })
                    .await
            })
            .await?;
        Ok(hasher.finish())
    }
}

async fn fetch(store: Arc<dyn Store>, piece: Piece, key: Key) -> Result<(Piece, Bytes), ContentError> {
    Ok((piece, store.get(&key).await?))
}
