//! Chunks on the wire, one after the other.
//!
//! ```text
//! frame = chunk digest (32 bytes) | stored length u32be | stored chunk
//! ```
//! The decoder holds one frame at most and refuses a length that no chunk has before it buffers a byte of it.
//! It does not verify: the digest is what the sender says, and [`super::chunk::StoredChunk::verify`] is the
//! receiver's next step.

use super::chunk::{HEADER_BYTES, STORED_MAX};
use crate::base::digest::ChunkDigest;

/// The digest and the length in front of each stored chunk.
pub const FRAME_HEADER_BYTES: usize = 36;

/// A stream of frames is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame claims more or fewer bytes than a stored chunk has.
    #[error("the frame of chunk {chunk} claims {found} bytes, a stored chunk has {} to {STORED_MAX}", HEADER_BYTES + 1)]
    Length {
        /// The chunk that the frame names.
        chunk: ChunkDigest,
        /// What it claims.
        found: u32,
    },
    /// The stream ends within a frame.
    #[error("the stream ends within a frame, {missing} bytes before its end{}", .chunk.map(|c| format!(" (chunk {c})")).unwrap_or_default())]
    Truncated {
        /// The chunk, where its digest had come.
        chunk: Option<ChunkDigest>,
        /// How many bytes are missing, as far as is known.
        missing: usize,
    },
}

/// One chunk that came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the sender calls it.
    pub chunk: ChunkDigest,
    /// Its stored form, not yet looked at.
    pub stored: Vec<u8>,
}

/// Returns the bytes that go in front of a stored chunk.
///
/// # Errors
/// When the length is none that a stored chunk has.
pub fn encode_frame_header(
    chunk: &ChunkDigest,
    stored_length: usize,
) -> Result<[u8; FRAME_HEADER_BYTES], FrameError> {
    let found = u32::try_from(stored_length).unwrap_or(u32::MAX);
    check_length(*chunk, found)?;
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..32].copy_from_slice(chunk.as_bytes());
    header[32..].copy_from_slice(&found.to_be_bytes());
    Ok(header)
}

const fn check_length(chunk: ChunkDigest, found: u32) -> Result<usize, FrameError> {
    let length = found as usize;
    if length <= HEADER_BYTES || length > STORED_MAX {
        return Err(FrameError::Length { chunk, found });
    }
    Ok(length)
}

/// Takes a stream apart, however it was cut on its way.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    header: [u8; FRAME_HEADER_BYTES],
    /// How many bytes of the header have come.
    filled: usize,
    /// The body, once its header is complete, and how long it will be.
    body: Option<(Frame, usize)>,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// Starts at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            header: [0; FRAME_HEADER_BYTES],
            filled: 0,
            body: None,
        }
    }

    /// Takes bytes from the front of `input` until a frame is complete (then call again: more may follow) or
    /// `input` is empty.
    ///
    /// # Errors
    /// When a frame claims an impossible length. The stream cannot be read any further.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some((mut frame, length)) = self.body.take() {
                let wanted = length - frame.stored.len();
                frame.stored.extend_from_slice(take(input, wanted));
                if frame.stored.len() == length {
                    self.filled = 0;
                    return Ok(Some(frame));
                }
                self.body = Some((frame, length));
                return Ok(None);
            }
            let taken = take(input, FRAME_HEADER_BYTES - self.filled);
            self.header[self.filled..self.filled + taken.len()].copy_from_slice(taken);
            self.filled += taken.len();
            if self.filled < FRAME_HEADER_BYTES {
                return Ok(None);
            }
            let [.., l0, l1, l2, l3] = self.header;
            let chunk = self.named();
            let length = check_length(chunk, u32::from_be_bytes([l0, l1, l2, l3]))?;
            let stored = Vec::with_capacity(length);
            self.body = Some((Frame { chunk, stored }, length));
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When it ends within a frame.
    pub fn finish(self) -> Result<(), FrameError> {
        match &self.body {
            Some((frame, length)) => Err(FrameError::Truncated {
                chunk: Some(frame.chunk),
                missing: length - frame.stored.len(),
            }),
            None if self.filled > 0 => Err(FrameError::Truncated {
                chunk: (self.filled >= 32).then(|| self.named()),
                missing: FRAME_HEADER_BYTES - self.filled,
            }),
            None => Ok(()),
        }
    }

    fn named(&self) -> ChunkDigest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.header[..32]);
        ChunkDigest::from_bytes(digest)
    }
}

fn take<'a>(input: &mut &'a [u8], at_most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(at_most.min(input.len()));
    *input = rest;
    taken
}
