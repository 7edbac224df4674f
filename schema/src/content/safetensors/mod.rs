//! The header of a safetensors file, read as if its writer were hostile.
//!
//! ```text
//! u64le n | n bytes of JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}} | data
//! ```
//! What is accepted covers the file exactly: every tensor's bytes follow from its type and shape, tensors
//! neither overlap nor leave gaps, and the last one ends where the file ends. Names are unique. So the
//! planner, the weigher and a foreign loader see the same tensors. Memory stays within a few times the
//! header's own size, which the format caps at 100 MB.
//!
//! Element types come from the `safetensors` crate. Its own reader is not used: it keeps the last of two
//! tensors of one name, and its errors do not say which tensor is wrong.

mod entries;
mod error;
mod subset;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use ::safetensors::Dtype;

use self::entries::Entries;
pub use self::error::SafetensorsError;
pub(in crate::content) use self::error::shown;
pub use self::subset::Subset;

/// The format's own limit on its JSON header.
pub const HEADER_MAX_BYTES: u64 = 100_000_000;
/// The length field in front of the JSON.
pub const LENGTH_BYTES: u64 = 8;
/// More dimensions than any framework computes with; bounds what one tensor's entry can make us hold.
pub const RANK_MAX: usize = 64;
/// More free-text entries than any writer leaves; each costs ten times its shortest JSON in memory.
pub const METADATA_MAX: usize = 65_536;

/// Returns the length of the JSON that follows a file's first eight bytes.
///
/// A caller that does not know the file's size yet passes `u64::MAX`.
///
/// # Errors
/// When the length is beyond the format's limit or the file's end.
pub fn header_length(first8: &[u8; 8], file_size: u64) -> Result<u64, SafetensorsError> {
    let found = u64::from_le_bytes(*first8);
    let available = file_size
        .checked_sub(LENGTH_BYTES)
        .ok_or(SafetensorsError::FileTooShort { size: file_size })?;
    if found > HEADER_MAX_BYTES {
        return Err(SafetensorsError::HeaderTooLong { found });
    }
    if found > available {
        return Err(SafetensorsError::HeaderBeyondFile { found, available });
    }
    Ok(found)
}

/// One tensor: what it is called, what it holds, and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<u64>,
    /// Its bytes, counted from the start of the file.
    pub bytes: Range<u64>,
}

impl Tensor {
    /// Returns the number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    /// Returns the number of elements; reading the header has shown that the product fits.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Returns the fewest bytes that hold whole rows (a row: one step of the first dimension). Elements of
    /// less than a byte may need several rows to fill bytes.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        // Only an empty tensor can saturate: for others the product with the first dimension was checked.
        let bits = self
            .shape
            .iter()
            .skip(1)
            .fold(self.dtype.bitsize() as u64, |bits, dim| bits.saturating_mul(*dim));
        match bits % 8 {
            0 => bits / 8,
            4 => bits / 4,
            2 | 6 => bits / 2,
            _ => bits,
        }
    }
}

/// A checked header: the tensors cover the file's data exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    data_start: u64,
    tensors: Vec<Tensor>,
    metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the JSON of a file of known size.
    ///
    /// # Errors
    /// When the header is malformed or does not fit the file; the error names the tensor.
    pub fn parse(header_json: &[u8], file_size: u64) -> Result<Self, SafetensorsError> {
        let data_start = LENGTH_BYTES + header_json.len() as u64;
        let available = file_size
            .checked_sub(data_start)
            .ok_or(SafetensorsError::HeaderBeyondFile {
                found: header_json.len() as u64,
                available: file_size.saturating_sub(LENGTH_BYTES),
            })?;
        let header = Self::read(header_json, available)?;
        let end = header.file_size() - data_start;
        if end != available {
            return Err(SafetensorsError::Trailing { end, available });
        }
        Ok(header)
    }

    /// Reads the JSON of a stream whose size is not known yet; [`Header::file_size`] then says where it
    /// must end.
    ///
    /// # Errors
    /// When the header is malformed; the error names the tensor.
    pub fn parse_unsized(header_json: &[u8]) -> Result<Self, SafetensorsError> {
        let data_start = LENGTH_BYTES + header_json.len() as u64;
        Self::read(header_json, u64::MAX - data_start)
    }

    /// Returns the tensors in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Returns the free-text entries under `__metadata__`.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns where the data starts: behind the length field and the JSON.
    #[must_use]
    pub const fn data_start(&self) -> u64 {
        self.data_start
    }

    /// Returns the size of the file that this header describes.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.tensors.last().map_or(self.data_start, |last| last.bytes.end)
    }

    /// Returns the number of elements in all tensors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors
            .iter()
            .fold(0, |sum, tensor| sum.saturating_add(tensor.elements()))
    }

    /// Returns the element types, in ModelPack's spelling.
    #[must_use]
    pub fn precisions(&self) -> BTreeSet<&'static str> {
        self.tensors
            .iter()
            .map(|tensor| precision(tensor.dtype))
            .collect()
    }

    fn read(json: &[u8], available: u64) -> Result<Self, SafetensorsError> {
        if json.first() != Some(&b'{') {
            return Err(SafetensorsError::NotAnObject);
        }
        let Entries {
            mut tensors,
            metadata,
        } = entries::read(json)?;
        // By bytes as the format's own reader does: an empty tensor in front of the one at the same place.
        tensors.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
        refuse_duplicates(&tensors)?;
        let data_start = LENGTH_BYTES + json.len() as u64;
        let mut end = 0;
        let mut before = "";
        for tensor in &tensors {
            check_alone(tensor, available)?;
            let begin = tensor.bytes.start;
            if begin < end {
                return Err(SafetensorsError::Overlap {
                    name: shown(&tensor.name),
                    begin,
                    before: shown(before),
                    end,
                });
            }
            if begin > end {
                return Err(SafetensorsError::Gap {
                    name: shown(&tensor.name),
                    begin,
                    missing: begin - end,
                });
            }
            end = tensor.bytes.end;
            before = &tensor.name;
        }
        for tensor in &mut tensors {
            tensor.bytes = data_start + tensor.bytes.start..data_start + tensor.bytes.end;
        }
        Ok(Self {
            data_start,
            tensors,
            metadata,
        })
    }
}

/// Returns ModelPack's word for an element type.
#[must_use]
pub const fn precision(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::BOOL => "bool",
        Dtype::F4 => "float4_e2m1",
        Dtype::F6_E2M3 => "float6_e2m3",
        Dtype::F6_E3M2 => "float6_e3m2",
        Dtype::U8 => "uint8",
        Dtype::I8 => "int8",
        Dtype::F8_E5M2 => "float8_e5m2",
        Dtype::F8_E4M3 => "float8_e4m3",
        Dtype::F8_E8M0 => "float8_e8m0",
        Dtype::F8_E4M3FNUZ => "float8_e4m3fnuz",
        Dtype::F8_E5M2FNUZ => "float8_e5m2fnuz",
        Dtype::I16 => "int16",
        Dtype::U16 => "uint16",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        Dtype::I32 => "int32",
        Dtype::U32 => "uint32",
        Dtype::F32 => "float32",
        Dtype::C64 => "complex64",
        Dtype::F64 => "float64",
        Dtype::I64 => "int64",
        Dtype::U64 => "uint64",
        _ => "other",
    }
}

fn refuse_duplicates(tensors: &[Tensor]) -> Result<(), SafetensorsError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(SafetensorsError::DuplicateTensor { name: shown(pair[0]) }),
        None => Ok(()),
    }
}

/// Checks what one tensor says about itself, its offsets still counted from the start of the data.
fn check_alone(tensor: &Tensor, available: u64) -> Result<(), SafetensorsError> {
    let name = || shown(&tensor.name);
    let Range { start: begin, end } = tensor.bytes;
    if begin > end {
        return Err(SafetensorsError::OffsetsReversed {
            name: name(),
            begin,
            end,
        });
    }
    let bits = tensor
        .shape
        .iter()
        .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
        .and_then(|elements| elements.checked_mul(tensor.dtype.bitsize() as u64))
        .ok_or_else(|| SafetensorsError::ShapeOverflow { name: name() })?;
    if bits % 8 != 0 {
        return Err(SafetensorsError::PartialByte { name: name(), bits });
    }
    if bits / 8 != end - begin {
        return Err(SafetensorsError::LengthMismatch {
            name: name(),
            needed: bits / 8,
            enclosed: end - begin,
        });
    }
    if end > available {
        return Err(SafetensorsError::BeyondFile {
            name: name(),
            end,
            available,
        });
    }
    Ok(())
}
