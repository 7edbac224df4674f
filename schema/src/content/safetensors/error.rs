//! Why a safetensors header is refused. Every message that is about a tensor names it.

use super::{HEADER_MAX_BYTES, METADATA_MAX, RANK_MAX};

/// A safetensors file is not one, or not one that all readers read alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SafetensorsError {
    /// The file cannot even hold the length field.
    #[error("a safetensors file starts with 8 bytes of length, this one has {size} bytes in all")]
    FileTooShort {
        /// The file's size.
        size: u64,
    },
    /// The length field asks for more than the format allows.
    #[error("the header claims {found} bytes, safetensors allows at most {HEADER_MAX_BYTES}")]
    HeaderTooLong {
        /// What the length field says.
        found: u64,
    },
    /// The length field points past the end of the file.
    #[error("the header claims {found} bytes, the file has only {available} after its length field")]
    HeaderBeyondFile {
        /// What the length field says.
        found: u64,
        /// What is there.
        available: u64,
    },
    /// The header is not a JSON object that starts with its first byte.
    #[error("the header does not start with `{{`")]
    NotAnObject,
    /// The header is not JSON, or a value in it has the wrong type.
    #[error("the header is not safetensors JSON: {0}")]
    Json(String),
    /// Two tensors share a name, so two readers may load different ones.
    #[error("the tensor {name} stands twice in the header")]
    DuplicateTensor {
        /// The tensor.
        name: String,
    },
    /// A key of one tensor (or of `__metadata__`) stands twice.
    #[error("{name} has the key {key} twice")]
    DuplicateKey {
        /// The tensor.
        name: String,
        /// The key.
        key: String,
    },
    /// `__metadata__` stands twice.
    #[error("`__metadata__` stands twice in the header")]
    DuplicateMetadata,
    /// `__metadata__` has more entries than accepted.
    #[error("`__metadata__` has more than {METADATA_MAX} entries")]
    TooMuchMetadata,
    /// A tensor has a key that the format does not know.
    #[error("the tensor {name} has the unknown key {key}")]
    UnknownKey {
        /// The tensor.
        name: String,
        /// The key.
        key: String,
    },
    /// A tensor lacks a key.
    #[error("the tensor {name} has no `{key}`")]
    MissingKey {
        /// The tensor.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A tensor's element type is not known.
    #[error("the tensor {name} has the unknown dtype {found}")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// What stands there.
        found: String,
    },
    /// A tensor has more dimensions than accepted.
    #[error("the tensor {name} has more than {RANK_MAX} dimensions")]
    TooManyDimensions {
        /// The tensor.
        name: String,
    },
    /// A tensor's `data_offsets` are not two numbers.
    #[error("the tensor {name} has {found} data offsets instead of 2")]
    OffsetCount {
        /// The tensor.
        name: String,
        /// How many there are (3 stands for more).
        found: usize,
    },
    /// A tensor ends before it begins.
    #[error("the tensor {name} begins at {begin} and ends at {end}")]
    OffsetsReversed {
        /// The tensor.
        name: String,
        /// First offset.
        begin: u64,
        /// Second offset.
        end: u64,
    },
    /// A tensor's shape is larger than 2^64 bits.
    #[error("the shape of the tensor {name} overflows")]
    ShapeOverflow {
        /// The tensor.
        name: String,
    },
    /// Elements of less than a byte do not fill whole bytes.
    #[error("the tensor {name} does not fill whole bytes: {bits} bits")]
    PartialByte {
        /// The tensor.
        name: String,
        /// Elements times bits of an element.
        bits: u64,
    },
    /// A tensor's offsets enclose another length than its shape and type ask for.
    #[error("the tensor {name} needs {needed} bytes by its shape and dtype, its offsets enclose {enclosed}")]
    LengthMismatch {
        /// The tensor.
        name: String,
        /// By shape and type.
        needed: u64,
        /// By offsets.
        enclosed: u64,
    },
    /// A tensor lies (partly) beyond the end of the file: the file is truncated, or its header lies.
    #[error("the tensor {name} ends at {end}, the file holds only {available} bytes of data")]
    BeyondFile {
        /// The tensor.
        name: String,
        /// Its end, counted from the start of the data.
        end: u64,
        /// Data bytes in the file.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("the tensor {name} begins at {begin}, before the tensor {before} ends at {end}")]
    Overlap {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// The one in front of it.
        before: String,
        /// Where that ends.
        end: u64,
    },
    /// Bytes in front of a tensor belong to none.
    #[error("the tensor {name} begins at {begin}, {missing} bytes in front of it belong to no tensor")]
    Gap {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// How many bytes are nobody's.
        missing: u64,
    },
    /// Bytes at the end of the file belong to no tensor.
    #[error("the tensors end at {end}, but the file holds {available} bytes of data")]
    Trailing {
        /// Where the last tensor ends, counted from the start of the data.
        end: u64,
        /// Data bytes in the file.
        available: u64,
    },
}

/// A name as messages show it: quoted, escaped, and short, because its writer chose it.
pub(in crate::content) fn shown(name: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let escaped: String = name
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect();
    let more = if name.chars().nth(SHOWN_MAX).is_some() {
        "..."
    } else {
        ""
    };
    format!("`{escaped}`{more}")
}
