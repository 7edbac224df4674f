//! Chunks from a site: asked for in batches, several at once, each checked before anybody sees it.
//!
//! Budget: a chunk crosses the network once and is hashed once; memory is one chunk for each request under
//! way. Who takes the chunks, and what becomes of them, is the caller's business.

use std::sync::Arc;

use waag_schema::content::{FrameDecoder, StoredChunk};
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::{Code, Problem};
use waag_schema::{ArtifactName, ChunkDigest, Sha256};

use crate::error::{ClientError, Result};
use crate::pace::Moved;
use crate::read::blocking;
use crate::site::Site;

/// Chunks in one request, and their bytes: enough to hide a round trip, little to repeat.
const BATCH_CHUNKS: usize = 64;
const BATCH_BYTES: u64 = 16 << 20;
/// How often a request may bring nothing new before we give up.
const FRUITLESS_MAX: u32 = 5;
/// How often a batch may come other than it was signed before we believe that the site has nothing better.
const SPOILT_MAX: u32 = 2;

/// A chunk that has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// Its name.
    pub(crate) chunk: ChunkDigest,
    /// The blob that it is asked for through.
    pub(crate) content: Sha256,
    /// How long it is, as far as is known.
    pub(crate) length: u32,
}

/// Where checked chunks go. Called from several threads, never twice with one chunk.
pub(crate) type Take = dyn Fn(&ChunkDigest, &[u8]) -> Result<()> + Send + Sync;

/// Names the files of a blob, for a message.
pub(crate) type Naming = dyn Fn(&Sha256) -> String + Send + Sync;

/// Fetches chunks of an artifact.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) site: Site,
    pub(crate) artifact: ArtifactName,
    pub(crate) take: Arc<Take>,
    pub(crate) naming: Arc<Naming>,
}

impl Fetcher {
    /// Fetches all of them, as many batches at once as goes well. Neighbours should stand side by side: they
    /// travel together.
    pub(crate) async fn fetch(&self, lacking: &[Lacking]) -> Result<Moved> {
        let requests = batches(lacking).into_iter().map(|request| self.batch(request));
        self.site.transport().pace().run(requests).await
    }

    /// Fetches one batch; a broken answer is taken up again at the first chunk that did not come. What came other
    /// than it was signed may have been spoilt on the way, so it is asked for again before it is held against the
    /// site.
    async fn batch(&self, mut request: ChunksRequest) -> Result<Moved> {
        let (mut received, mut fruitless, mut spoilt) = (Moved::default(), 0, 0);
        loop {
            let before = request.chunks.len();
            let outcome = self.attempt(&mut request, &mut received).await;
            if request.chunks.is_empty() {
                return Ok(received);
            }
            let error = match outcome {
                Ok(()) => ClientError::Unreachable {
                    url: self.site.url().to_string(),
                    reason: format!("its answer ended {} chunks early", request.chunks.len()),
                },
                Err(error @ ClientError::Unreachable { .. }) => error,
                Err(error @ (ClientError::Verification { .. } | ClientError::Answer { .. }))
                    if spoilt < SPOILT_MAX =>
                {
                    spoilt += 1;
                    error
                }
                Err(error) => return Err(self.named(&request.file, error)),
            };
            fruitless = if request.chunks.len() < before {
                1
            } else {
                fruitless + 1
            };
            if fruitless >= FRUITLESS_MAX {
                return Err(error);
            }
            self.site.pause(fruitless, &error).await;
        }
    }

    /// Asks once, and takes what comes; what came is struck off the request.
    async fn attempt(&self, request: &mut ChunksRequest, received: &mut Moved) -> Result<()> {
        let mut response = self.site.chunks(&self.artifact, request).await?;
        let mut decoder = FrameDecoder::new();
        let broken = |e: &dyn std::fmt::Display| ClientError::Unreachable {
            url: self.site.url().to_string(),
            reason: e.to_string(),
        };
        while let Some(bytes) = self.site.transport().next_bytes(&mut response).await? {
            let mut input = &bytes[..];
            while let Some(frame) = decoder.next_frame(&mut input).map_err(|e| broken(&e))? {
                let asked = request.chunks.iter().position(|chunk| *chunk == frame.chunk);
                let asked = asked.ok_or_else(|| ClientError::Answer {
                    url: self.site.url().to_string(),
                    reason: format!("the chunk {} came, which was not asked for", frame.chunk),
                })?;
                let (fetcher, file) = (self.clone(), request.file);
                *received =
                    *received + blocking(move || fetcher.check(&file, &frame.chunk, &frame.stored)).await?;
                request.chunks.remove(asked);
            }
        }
        decoder.finish().map_err(|e| broken(&e))
    }

    /// Checks a chunk, and passes it on.
    fn check(&self, file: &Sha256, chunk: &ChunkDigest, stored: &[u8]) -> Result<Moved> {
        let wire_bytes = stored.len() as u64;
        let refused = |e: &dyn std::fmt::Display| {
            ClientError::verification((self.naming)(file), format_args!("chunk {chunk}: {e}"))
        };
        let stored = StoredChunk::parse(stored).map_err(|e| refused(&e))?;
        let raw = stored.verify(chunk).map_err(|e| refused(&e))?;
        (self.take)(chunk, &raw)?;
        Ok(Moved {
            bytes: raw.len() as u64,
            wire_bytes,
        })
    }

    /// A site that finds its own copy damaged is an error about the file, not about the request.
    fn named(&self, file: &Sha256, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused(Problem {
                code: Code::Damaged,
                message,
                ..
            }) => ClientError::verification((self.naming)(file), message),
            error => error,
        }
    }
}

/// Neighbouring chunks of one blob, bounded in number and bytes.
fn batches(lacking: &[Lacking]) -> Vec<ChunksRequest> {
    let mut batches: Vec<ChunksRequest> = Vec::new();
    let mut bytes = 0;
    for Lacking {
        chunk,
        content,
        length,
    } in lacking
    {
        let length = u64::from(*length);
        match batches.last_mut() {
            Some(last)
                if last.file == *content
                    && last.chunks.len() < BATCH_CHUNKS
                    && bytes + length <= BATCH_BYTES =>
            {
                last.chunks.push(*chunk);
                bytes += length;
            }
            _ => {
                batches.push(ChunksRequest {
                    file: *content,
                    chunks: vec![*chunk],
                });
                bytes = length;
            }
        }
    }
    batches
}
