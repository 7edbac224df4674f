//! Cutting at tensors: header, gaps, and each tensor by rows or experts.

use super::{CHUNK_MAX, SHARED_BELOW_BYTES, SHARED_MAX_BYTES};
use crate::content::gguf;
use crate::content::safetensors::{Header, Tensor};

/// Returns the lengths of all chunks of a safetensors file, in order; their sum is the file's size.
pub fn plan_tensors(header: &Header) -> impl Iterator<Item = u32> + '_ {
    let mut cursor = TensorCursor { at: 0, tensor: 0 };
    std::iter::from_fn(move || {
        let (length, moved) = cursor.next(header)?;
        cursor = moved;
        Some(length)
    })
}

/// Returns the lengths of all chunks of a GGUF file, likewise.
pub fn plan_gguf(header: &gguf::Header) -> impl Iterator<Item = u32> + '_ {
    let mut cursor = TensorCursor { at: 0, tensor: 0 };
    std::iter::from_fn(move || {
        let (length, moved) = cursor.next(header)?;
        cursor = moved;
        Some(length)
    })
}

/// Where the tensors of a file lie, whatever its format.
pub(super) trait Tensors {
    /// Where the first one begins.
    fn data_start(&self) -> u64;
    /// Where a tensor ends, how many bytes it has, and how many of them make a slice.
    fn tensor(&self, index: usize) -> Option<Extent>;
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    end: u64,
    size: u64,
    slice: u64,
}

impl Tensors for Header {
    fn data_start(&self) -> u64 {
        self.data_start()
    }

    fn tensor(&self, index: usize) -> Option<Extent> {
        self.tensors().get(index).map(|tensor| Extent {
            end: tensor.bytes.end,
            size: tensor.size(),
            slice: slice_bytes(tensor),
        })
    }
}

impl Tensors for gguf::Header {
    fn data_start(&self) -> u64 {
        self.data_start()
    }

    fn tensor(&self, index: usize) -> Option<Extent> {
        self.tensors().get(index).map(|tensor| Extent {
            end: tensor.bytes.end,
            size: tensor.size(),
            slice: CHUNK_MAX as u64,
        })
    }
}

/// A place in a file of tensors. Lengths are computed as they are asked for: a header may describe more
/// than any list could hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorCursor {
    /// Bytes cut so far.
    pub(super) at: u64,
    /// The tensor at that place, or one in front of it.
    pub(super) tensor: usize,
}

impl TensorCursor {
    pub(super) fn next(self, header: &impl Tensors) -> Option<(u32, Self)> {
        let Self { at, mut tensor } = self;
        let mut length = 0;
        if at < header.data_start() {
            length = (header.data_start() - at).min(CHUNK_MAX as u64);
        } else {
            while header.tensor(tensor)?.end <= at {
                tensor += 1;
            }
            let first = header.tensor(tensor)?;
            if first.size >= SHARED_BELOW_BYTES {
                length = first.slice.min(first.end - at);
            } else {
                while let Some(small) = header.tensor(tensor)
                    && small.size < SHARED_BELOW_BYTES
                    && length + small.size <= SHARED_MAX_BYTES
                {
                    length += small.size;
                    tensor += 1;
                }
            }
        }
        let moved = Self {
            at: at + length,
            tensor,
        };
        Some((length as u32, moved))
    }
}

/// The most whole rows that fit a chunk; a longer row is cut where the chunk is full.
fn slice_bytes(tensor: &Tensor) -> u64 {
    let row = tensor.row_bytes();
    match (CHUNK_MAX as u64).checked_div(row) {
        None | Some(0) => CHUNK_MAX as u64,
        Some(rows) => rows * row,
    }
}
