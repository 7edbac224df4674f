//! A safetensors file of some of another's tensors: a header that is written here, and ranges of the other.
//!
//! ```text
//! u64le n | {"__metadata__": {..}?, "name": {"dtype", "shape", "data_offsets"}, ..} spaces to a multiple of 8
//!   | bytes of the kept tensors, in the order of the original
//! ```
//! Invariant: [`Header::parse`] takes what is written, and finds the same names, types, shapes, metadata and
//! (elsewhere) bytes. The same tensors of the same header always give the same bytes.

use std::ops::Range;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::{Header, Tensor};

/// The format asks for headers that end at such a multiple, so that data can be mapped.
const ALIGNMENT: usize = 8;

/// How to make a file of some tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// The length field and the JSON.
    pub header: Vec<u8>,
    /// What follows: bytes of the original, counted from its start; neighbours are one range.
    pub data: Vec<Range<u64>>,
    /// How many tensors were kept.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Header {
    /// Returns how to make a file of the tensors that `keep` wants; none when it wants none.
    #[must_use]
    pub fn subset(&self, mut keep: impl FnMut(&Tensor) -> bool) -> Option<Subset> {
        let kept: Vec<&Tensor> = self.tensors().iter().filter(|tensor| keep(tensor)).collect();
        if kept.is_empty() {
            return None;
        }
        let mut data: Vec<Range<u64>> = Vec::new();
        for tensor in &kept {
            match data.last_mut() {
                _ if tensor.bytes.is_empty() => {}
                Some(last) if last.end == tensor.bytes.start => last.end = tensor.bytes.end,
                _ => data.push(tensor.bytes.clone()),
            }
        }
        let written = Written {
            header: self,
            kept: &kept,
        };
        let mut json = serde_json::to_vec(&written).expect("texts, numbers and lists always serialise");
        json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.append(&mut json);
        Some(Subset {
            header,
            tensors: kept.len(),
            bytes: data.iter().map(|range| range.end - range.start).sum(),
            data,
        })
    }
}

/// A header as JSON.
struct Written<'a> {
    header: &'a Header,
    kept: &'a [&'a Tensor],
}

#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: super::Dtype,
    shape: &'a [u64],
    data_offsets: [u64; 2],
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.header.metadata().is_empty() {
            map.serialize_entry("__metadata__", self.header.metadata())?;
        }
        let mut end = 0;
        for tensor in self.kept {
            let begin = end;
            end += tensor.size();
            let entry = Entry {
                dtype: tensor.dtype,
                shape: &tensor.shape,
                data_offsets: [begin, end],
            };
            map.serialize_entry(&tensor.name, &entry)?;
        }
        map.end()
    }
}
