//! Why a GGUF header is refused. Names come from the file: they are shown escaped and cut.

use super::{ALIGNMENT_MAX, HEADER_MAX_BYTES, PAIRS_MAX, RANK_MAX, TENSORS_MAX};

/// A GGUF header is malformed, or does not fit its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The file does not start as GGUF does.
    #[error("not a GGUF file: it does not start with GGUF")]
    NotGguf,
    /// Another version than 2 and 3.
    #[error("the file is of GGUF version {0}, versions 2 and 3 are read")]
    Version(u32),
    /// Written for a big-endian machine.
    #[error("the file is big-endian GGUF, which is not read")]
    BigEndian,
    /// How long the file is must be known before it is cut.
    #[error("a GGUF file is cut only when its size is known")]
    SizeUnknown,
    /// The header goes on behind the end of the file.
    #[error("the header needs {at} bytes at least, the file has {size}")]
    BeyondFile {
        /// What it needs.
        at: u64,
        /// What there is.
        size: u64,
    },
    /// The header is longer than accepted.
    #[error("the header is longer than {HEADER_MAX_BYTES} bytes")]
    TooLong,
    /// More tensors than accepted.
    #[error("the header announces {0} tensors, at most {TENSORS_MAX} are accepted")]
    TooManyTensors(u64),
    /// More metadata than accepted.
    #[error("the header announces {0} metadata pairs, at most {PAIRS_MAX} are accepted")]
    TooManyPairs(u64),
    /// A key or name is too long.
    #[error("{what} has {found} bytes")]
    TextTooLong {
        /// Which of them.
        what: &'static str,
        /// How long it is.
        found: u64,
    },
    /// A key or name is no UTF-8.
    #[error("{what} is not UTF-8")]
    NotText {
        /// Which of them.
        what: &'static str,
    },
    /// A key stands twice.
    #[error("the key {0} stands twice in the metadata")]
    DuplicateKey(String),
    /// A value's type is not known, so that its length is not either.
    #[error("a metadata value has the unknown type {0}")]
    UnknownValue(u32),
    /// A truth value is neither.
    #[error("a metadata value is neither true nor false but {0}")]
    NotBool(u8),
    /// Arrays in arrays in arrays.
    #[error("the metadata's arrays are nested too deep")]
    NestedTooDeep,
    /// `general.alignment` is not one.
    #[error("`general.alignment` is not a power of two up to {ALIGNMENT_MAX}")]
    Alignment,
    /// A tensor has more dimensions than accepted.
    #[error("the tensor {0} has more than {RANK_MAX} dimensions")]
    TooManyDimensions(String),
    /// A tensor stands twice.
    #[error("the tensor {0} stands twice in the header")]
    DuplicateTensor(String),
    /// A tensor's shape is larger than 2^64.
    #[error("the shape of the tensor {0} overflows")]
    ShapeOverflow(String),
    /// A tensor's rows are not whole blocks.
    #[error("the rows of the tensor {0} are not whole blocks of its type")]
    PartialBlock(String),
    /// A tensor does not start at a multiple of the alignment.
    #[error("the tensor {0} does not start at a multiple of the alignment")]
    Misaligned(String),
    /// Bytes in front of the first tensor belong to none.
    #[error("the data begins with bytes in front of its first tensor {0}")]
    Gap(String),
    /// A tensor lies (partly) beyond the end of the file: the file is truncated, or its header lies.
    #[error("the tensor {0} begins or ends beyond the end of the file")]
    TensorBeyondFile(String),
    /// The next tensor, or the end of the file, is not where this one ends.
    #[error("the tensor {name} needs {needed} bytes by its shape and type, and is given {enclosed}")]
    LengthMismatch {
        /// The tensor.
        name: String,
        /// By shape and type, without padding.
        needed: u64,
        /// Up to the next tensor or the end of the file.
        enclosed: u64,
    },
    /// Without tensors, nothing but padding may follow the header.
    #[error("the header ends at {end} and has no tensors, the file has {size} bytes")]
    Trailing {
        /// Where the header ends.
        end: u64,
        /// The file's size.
        size: u64,
    },
}
