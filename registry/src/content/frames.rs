//! Chunks on their way out, as frames, in slices: nothing is decoded or looked at, so no chunk need be held as a whole.
//!
//! Budget: one copy out of the page cache and one into the socket; two slices of memory for an answer, however slow its
//! reader is.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use waag_schema::ChunkDigest;
use waag_schema::content::chunk::{HEADER_BYTES, claimed_length};
use waag_schema::content::frame::encode_frame_header;

use super::{Content, ContentError};
use crate::store::Key;

/// Large enough that opening the file does not count, small enough for hundreds of slow readers.
const SLICE_BYTES: u64 = 512 << 10;
/// Slices of an answer in memory: one that is sent, one that is read meanwhile.
const SLICES_AT_ONCE: usize = 2;

/// Chunks that are looked up side by side.
const LOOKED_UP_AT_ONCE: usize = 16;

/// A chunk that is stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    chunk: ChunkDigest,
    length: u64,
}

/// What comes next of an answer.
enum Part {
    Header(ChunkDigest, u64),
    Slice(ChunkDigest, std::ops::Range<u64>),
}

/// Some bytes of an answer.
pub struct Sent {
    /// What goes out.
    pub bytes: Bytes,
    /// How many raw bytes the chunk has that begins with these, by its own word; 0 within a chunk.
    pub raw_bytes: u64,
}

impl Content {
    /// Looks up stored chunks, so that what is lost is known before an answer begins.
    ///
    /// # Errors
    /// When one is lost, or the store fails.
    pub async fn stored(&self, chunks: &[ChunkDigest]) -> Result<Vec<Stored>, ContentError> {
        let lengths = chunks.iter().map(|chunk| {
            let (store, chunk) = (Arc::clone(&self.store), *chunk);
            async move {
                let length = store.head(&Key::chunk(&chunk)).await?;
                let length = length
                    .filter(|length| *length > 0)
                    .ok_or_else(|| damaged(chunk))?;
                Ok(Stored { chunk, length })
            }
        });
        let lengths: Vec<_> = lengths.collect();
        stream::iter(lengths)
            .buffered(LOOKED_UP_AT_ONCE)
            .try_collect()
            .await
    }

    /// Streams stored chunks as frames, unchecked: the receiver checks them.
    pub fn frames(
        &self,
        chunks: Vec<Stored>,
    ) -> impl Stream<Item = Result<Sent, ContentError>> + Send + use<> {
        let content = self.clone();
        stream::iter(chunks.into_iter().flat_map(parts))
            .map(move |part| {
                let content = content.clone();
                async move { content.load(part).await }
            })
            .buffered(SLICES_AT_ONCE)
    }

    async fn load(&self, part: Part) -> Result<Sent, ContentError> {
        let (bytes, raw_bytes) = match part {
            Part::Header(chunk, length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let header = encode_frame_header(&chunk, length).map_err(|_| damaged(chunk))?;
                (Bytes::copy_from_slice(&header), 0)
            }
            Part::Slice(chunk, range) => {
                let first = range.start == 0;
                let bytes = self.store.get_range(&Key::chunk(&chunk), range).await?;
                let raw_bytes = bytes.first_chunk::<HEADER_BYTES>().filter(|_| first);
                let raw_bytes = raw_bytes.map_or(0, |header| u64::from(claimed_length(header)));
                (bytes, raw_bytes)
            }
        };
        Ok(Sent { bytes, raw_bytes })
    }
}

fn damaged(chunk: ChunkDigest) -> ContentError {
    ContentError::Damaged {
        what: "chunk",
        digest: chunk,
    }
}

fn parts(Stored { chunk, length }: Stored) -> impl Iterator<Item = Part> {
    let slices = (0..length.div_ceil(SLICE_BYTES)).map(move |index| {
        let start = index * SLICE_BYTES;
        Part::Slice(chunk, start..length.min(start + SLICE_BYTES))
    });
    std::iter::once(Part::Header(chunk, length)).chain(slices)
}
