//! The tensors of a model: where each lies, and reading it.
//!
//! Invariant: nothing is allocated for a tensor before its shape was found to be the one asked for, and its
//! bytes to lie within its file. So memory is bounded by the files, whatever the configuration says.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::error::{LanguageError, NotMeasured, Stop};
use super::source::{self, ModelSource};
use crate::cpu::matrix::{Elements, Matrix, Stored};

/// The one file of a small model.
const SINGLE: &str = "model.safetensors";
/// Says which file holds which tensor.
const INDEX: &str = "model.safetensors.index.json";
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// The format's own bound.
const HEADER_BYTES_MAX: u64 = 100_000_000;
const FILES_MAX: usize = 4096;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Where a tensor lies.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    offset: u64,
    format: String,
    shape: Vec<usize>,
}

impl Place {
    fn bytes(&self) -> u64 {
        let width = Stored::from_name(&self.format).map_or(4, Stored::size_bytes);
        self.shape.iter().product::<usize>().saturating_mul(width) as u64
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All tensors of a model.
pub(crate) struct Tensors<'a> {
    source: &'a dyn ModelSource,
    places: BTreeMap<String, Place>,
    /// Whether tensors are only looked up: what is "read" then is empty.
    dry: bool,
}

impl<'a> Tensors<'a> {
    /// Reads the headers of all weight files.
    pub(crate) fn open(source: &'a dyn ModelSource) -> Result<Self, Stop> {
        let mut places = BTreeMap::new();
        if source::length(source, SINGLE)?.is_some() {
            header(source, SINGLE, &mut places)?;
            return Ok(Self {
                source,
                places,
                dry: false,
            });
        }
        let Some(index) = source::whole(source, INDEX, INDEX_BYTES_MAX)? else {
            return Err(NotMeasured::NoFile(SINGLE.to_owned()).into());
        };
        let index: Index = serde_json::from_slice(&index).map_err(|e| LanguageError::file(INDEX, e))?;
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        if files.len() > FILES_MAX {
            let problem = format!("names {} files, at most {FILES_MAX} are read", files.len());
            return Err(LanguageError::file(INDEX, problem));
        }
        for file in files {
            if file.contains(['/', '\\', '\0']) || file.starts_with('.') || file.is_empty() {
                return Err(LanguageError::file(
                    INDEX,
                    format!("{file:?} is not the name of a file"),
                ));
            }
            header(source, file, &mut places)?;
        }
        for (name, file) in &index.weight_map {
            if places.get(name).is_none_or(|place| place.file != *file) {
                return Err(LanguageError::tensor(
                    name,
                    format!("is not in {file}, where the index says"),
                ));
            }
        }
        Ok(Self {
            source,
            places,
            dry: false,
        })
    }

    /// Runs what reads tensors without reading any: finds out whether all are there and have their shapes.
    pub(crate) fn check(&mut self, read: impl FnOnce(&Self) -> Result<(), Stop>) -> Result<(), Stop> {
        self.dry = true;
        let outcome = read(self);
        self.dry = false;
        outcome
    }

    /// Says whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Returns the names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Returns how many bytes all tensors have.
    pub(crate) fn bytes(&self) -> u64 {
        self.places
            .values()
            .map(Place::bytes)
            .fold(0, u64::saturating_add)
    }

    /// Returns how many bytes a tensor has; none if it is not there.
    pub(crate) fn bytes_of(&self, name: &str) -> u64 {
        self.places.get(name).map_or(0, Place::bytes)
    }

    /// Returns the format of a tensor that has this shape.
    fn format(&self, name: &str, shape: &[usize]) -> Result<(&Place, Stored), Stop> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| LanguageError::tensor(name, "is missing"))?;
        if place.shape != shape {
            let problem = format!(
                "has the shape {:?}, the configuration makes it {shape:?}",
                place.shape
            );
            return Err(LanguageError::tensor(name, problem));
        }
        let element = Stored::from_name(&place.format).ok_or_else(|| NotMeasured::Format {
            tensor: name.to_owned(),
            found: place.format.clone(),
        })?;
        Ok((place, element))
    }

    /// Checks that there is a tensor of this shape, in a format that can be computed with.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), Stop> {
        self.format(name, shape).map(|_| ())
    }

    /// Reads a vector.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, Stop> {
        let elements = self.elements(name, &[length], 0, length)?;
        if self.dry {
            return Ok(Vec::new());
        }
        let mut wide = vec![0.0; length];
        elements.widen(0, &mut wide);
        Ok(wide)
    }

    /// Reads a matrix.
    pub(crate) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, Stop> {
        self.matrix_rows(name, rows, columns, 0..rows)
    }

    /// Reads some rows of a matrix that has `rows` of them.
    pub(crate) fn matrix_rows(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
        wanted: std::ops::Range<usize>,
    ) -> Result<Matrix, Stop> {
        let (first, count) = (wanted.start * columns, wanted.len() * columns);
        Ok(Matrix {
            rows: wanted.len(),
            columns,
            elements: self.elements(name, &[rows, columns], first, count)?,
        })
    }

    fn elements(&self, name: &str, shape: &[usize], first: usize, count: usize) -> Result<Elements, Stop> {
        let (place, element) = self.format(name, shape)?;
        let count = if self.dry { 0 } else { count };
        let width = element.size_bytes();
        let mut elements = Elements::with_capacity(element, count);
        let mut buffer = vec![0; PIECE_BYTES.min(count * width)];
        let mut offset = place.offset + (first * width) as u64;
        let mut left = count * width;
        while left > 0 {
            let piece = &mut buffer[..PIECE_BYTES.min(left)];
            self.source
                .read(&place.file, offset, piece)
                .map_err(|cause| source::failed(&place.file, cause))?;
            elements.extend(piece);
            offset += piece.len() as u64;
            left -= piece.len();
        }
        Ok(elements)
    }
}

/// Reads the header of one file into the places.
fn header(source: &dyn ModelSource, file: &str, places: &mut BTreeMap<String, Place>) -> Result<(), Stop> {
    let Some(length) = source::length(source, file)? else {
        return Err(LanguageError::Missing {
            file: file.to_owned(),
        }
        .into());
    };
    if length < 8 {
        return Err(LanguageError::file(
            file,
            format!("{length} bytes are no safetensors file"),
        ));
    }
    let prefix = source::part(source, file, 0, 8)?;
    let size = prefix
        .iter()
        .rev()
        .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    if size > HEADER_BYTES_MAX || size > length - 8 {
        let problem = format!("its header would have {size} bytes");
        return Err(LanguageError::file(file, problem));
    }
    let text = source::part(source, file, 8, size)?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|e| LanguageError::file(file, e))?;
    entries.remove("__metadata__");
    let data = 8 + size;
    for (name, entry) in entries {
        let entry = Entry::deserialize(entry).map_err(|e| LanguageError::tensor(&name, e))?;
        let (begin, end) = entry.data_offsets;
        let inside = begin <= end && end <= length - data;
        let elements = entry.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        let width = Stored::from_name(&entry.dtype).map(Stored::size_bytes);
        let fits = match (elements, width) {
            (None, _) => false,
            (Some(elements), Some(width)) => elements
                .checked_mul(width)
                .is_some_and(|n| inside && n as u64 == end - begin),
            // What is not read is not measured: its place must lie in the file all the same.
            (Some(_), None) => inside,
        };
        if !fits {
            let problem = format!(
                "{} {:?} at {begin}..{end} does not fit into {file}",
                entry.dtype, entry.shape
            );
            return Err(LanguageError::tensor(&name, problem));
        }
        let place = Place {
            file: file.to_owned(),
            offset: data + begin,
            format: entry.dtype,
            shape: entry.shape,
        };
        if let Some(other) = places.insert(name.clone(), place) {
            return Err(LanguageError::tensor(
                &name,
                format!("is in {} and in {file}", other.file),
            ));
        }
    }
    Ok(())
}
