//! The section `lineage`: what a release changed in the weights of the one that it names as its base.
//!
//! Tensors are matched by name, type and shape. Those that are made of the same pieces of the same chunks are the same
//! bits, and are not read; their norms are known from the section `weights`. All others are read side by side. Which
//! of the two was done cannot be seen in the numbers, so that a compute node, which has files and no chunks, finds the
//! same bits.
//!
//! A base is compared only if whoever may read the release may read the base: it is of the same namespace, or of a
//! public one. Otherwise the numbers would tell of weights that are closed to the reader.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::mpsc::sync_channel;

use serde::Serialize;
use waag_kernels::difference::{Difference, Sums};
use waag_kernels::language::ModelSource;
use waag_kernels::{Element, TallyError};
use waag_schema::ChunkDigest;
use waag_schema::content::safetensors::{Header, LENGTH_BYTES, SafetensorsError, Tensor, header_length};
use waag_schema::release::Manifest;
use waag_schema::statement::scorecard::{Amount, Measure, Section};

use super::Weighing;
use super::line::Shelf;
use super::weigher::give_way;
use super::weights::TENSORS_MAX;

/// Bytes of a tensor that are read at once, on each side.
const BLOCK_BYTES: u64 = 4 << 20;
/// Pairs of blocks between reading and comparing.
const AHEAD: usize = 2;
/// Tensors beyond this number are in the totals only.
const LISTED_MAX: usize = 50_000;

/// Two releases cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineageError {
    #[error("{path}: {error}")]
    Safetensors { path: String, error: SafetensorsError },
    #[error("{path}: {error}")]
    Read { path: String, error: io::Error },
    #[error("{path}, {tensor}: {error}")]
    Tally {
        path: String,
        tensor: String,
        error: TallyError,
    },
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("{0} tensors, at most {TENSORS_MAX} are compared")]
    TooMany(usize),
}

/// The safetensors files of a release: where they are read.
pub(super) struct Side<'a> {
    source: &'a dyn ModelSource,
    /// What they are made of, where that is known.
    recipes: Option<&'a Shelf>,
    paths: Vec<String>,
}

impl<'a> Side<'a> {
    /// Takes files that are stored in chunks.
    pub(super) fn stored(source: &'a dyn ModelSource, recipes: &'a Shelf) -> Self {
        Self {
            source,
            recipes: Some(recipes),
            paths: recipes.keys().cloned().collect(),
        }
    }

    /// Takes files of which nothing is known but their bytes.
    pub(super) const fn plain(source: &'a dyn ModelSource, paths: Vec<String>) -> Self {
        Self {
            source,
            recipes: None,
            paths,
        }
    }

    fn size(&self, path: &str) -> Result<u64, LineageError> {
        let size = self.source.length(path).and_then(|size| {
            // A file that was measured a moment ago.
            size.ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        size.map_err(|error| LineageError::Read {
            path: path.to_owned(),
            error,
        })
    }

    /// Reads some bytes, which lie within the file.
    fn bytes(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>, LineageError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read = self.source.read(path, range.start, &mut bytes);
        read.map(|()| bytes).map_err(|error| LineageError::Read {
            path: path.to_owned(),
            error,
        })
    }
}

/// The same, with their headers read.
struct Tensors<'a> {
    side: Side<'a>,
    /// By name: in which file, and where.
    tensors: BTreeMap<String, (usize, Tensor)>,
}

/// A tensor of both releases in the details.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: String,
    identical: bool,
    relative_delta: Option<Amount>,
    cosine: Option<Amount>,
}

impl<'a> Tensors<'a> {
    /// Reads the headers of these files.
    fn read(side: Side<'a>) -> Result<Self, LineageError> {
        let mut tensors = BTreeMap::new();
        for (at, path) in side.paths.iter().enumerate() {
            let bad = |error| LineageError::Safetensors {
                path: path.clone(),
                error,
            };
            let size = side.size(path)?;
            let first = side.bytes(path, 0..LENGTH_BYTES.min(size))?;
            let mut length = [0; LENGTH_BYTES as usize];
            length[..first.len()].copy_from_slice(&first);
            let length = header_length(&length, size).map_err(bad)?;
            let head = side.bytes(path, 0..LENGTH_BYTES + length)?;
            let json = head.get(LENGTH_BYTES as usize..).unwrap_or_default();
            let header = Header::parse(json, size).map_err(bad)?;
            let found = tensors.len() + header.tensors().len();
            if found as u64 > TENSORS_MAX {
                return Err(LineageError::TooMany(found));
            }
            for tensor in header.tensors() {
                tensors.insert(tensor.name.clone(), (at, tensor.clone()));
            }
        }
        Ok(Self { side, tensors })
    }

    fn path(&self, file: usize) -> &str {
        self.side.paths.get(file).map_or("", String::as_str)
    }

    /// Returns what a tensor is made of, where that is known: which bytes of which chunks.
    fn parts(&self, (file, tensor): &(usize, Tensor)) -> Option<Vec<(ChunkDigest, Range<u32>)>> {
        let recipe = self.side.recipes?.get(self.path(*file))?;
        let parts = recipe.pieces_for(tensor.bytes.clone());
        Some(parts.map(|part| (part.chunk, part.within)).collect())
    }

    /// Reads some bytes of a tensor, counted from its start.
    fn bytes(
        &self,
        (file, tensor): &(usize, Tensor),
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, LineageError> {
        let start = tensor.bytes.start + from;
        self.side.bytes(self.path(*file), start..start + length)
    }
}

/// What is known so far of the two.
#[derive(Default)]
struct Found {
    matched: u64,
    identical: u64,
    elements: u64,
    equal: u64,
    sums: Sums,
    rows: Vec<Row>,
}

/// Returns the section of a release that is compared with nothing, and why.
pub(super) fn none(why: &str) -> (Section, Vec<Row>) {
    (Section::not_measured("lineage", why), Vec::new())
}

/// Compares the files of a release, which were measured, with those of its base.
pub(super) fn of(
    release: Side<'_>,
    base: Side<'_>,
    tokenizer_equal: bool,
    weighing: &Weighing,
) -> Result<(Section, Vec<Row>), LineageError> {
    if release.paths.is_empty() || base.paths.is_empty() {
        return Ok(none("one of the two has no safetensors file"));
    }
    if weighing.is_refused() {
        return Ok(none("the weights have too many tensors"));
    }
    let ours = Tensors::read(release)?;
    let theirs = match Tensors::read(base) {
        Err(LineageError::TooMany(tensors)) => {
            let why = format!("the base has {tensors} tensors, at most {TENSORS_MAX} are compared");
            return Ok(none(&why));
        }
        read => read?,
    };
    let norms = weighing.norms();
    let norm = |name: &str| norms.get(name).copied();
    compare(&theirs, &ours, tokenizer_equal, norm)
}

/// Compares a release with its base. `norm` gives the L2 norm of a tensor that was measured.
fn compare(
    base: &Tensors<'_>,
    release: &Tensors<'_>,
    tokenizer_equal: bool,
    norm: impl Fn(&str) -> Option<f64>,
) -> Result<(Section, Vec<Row>), LineageError> {
    let mut found = Found::default();
    for (name, ours) in &release.tensors {
        let Some(theirs) = base.tensors.get(name) else {
            continue;
        };
        if (ours.1.dtype, &ours.1.shape) != (theirs.1.dtype, &theirs.1.shape) {
            continue;
        }
        let elements = ours.1.elements();
        found.matched += 1;
        found.elements = found.elements.saturating_add(elements);
        let element = Element::from_name(&ours.1.dtype.to_string());
        let parts = release.parts(ours);
        let same = parts.is_some() && parts == base.parts(theirs);
        let (equal, sums) = match (same, norm(name), element) {
            (true, Some(norm), _) => (elements, same_twice(norm)),
            // Of a type that is not measured.
            (true, _, None) => (elements, Sums::default()),
            (_, _, None) => {
                let same = same_bytes((base, theirs), (release, ours))?;
                (if same { elements } else { 0 }, Sums::default())
            }
            (_, norm, Some(element)) => {
                let (equal, sums) = read_both(element, (base, theirs), (release, ours))?;
                match norm {
                    Some(norm) if equal == elements => (equal, same_twice(norm)),
                    _ => (equal, sums),
                }
            }
        };
        let identical = equal == elements;
        found.identical += u64::from(identical);
        found.equal = found.equal.saturating_add(equal);
        found.sums.add(&sums);
        if found.rows.len() < LISTED_MAX {
            found.rows.push(Row {
                name: name.clone(),
                identical,
                relative_delta: sums.relative_delta().map(Amount::Real),
                cosine: sums.cosine().map(Amount::Real),
            });
        }
    }
    let section = found.section(release.tensors.len(), base.tensors.len(), tokenizer_equal);
    Ok((section, found.rows))
}

/// The sums of a tensor beside itself.
const fn same_twice(norm: f64) -> Sums {
    let square = norm * norm;
    Sums {
        first: square,
        second: square,
        product: square,
        delta: 0.0,
    }
}

/// Reads a tensor of both releases until they differ.
fn same_bytes(
    (base, theirs): (&Tensors<'_>, &(usize, Tensor)),
    (release, ours): (&Tensors<'_>, &(usize, Tensor)),
) -> Result<bool, LineageError> {
    let size = ours.1.size();
    let mut from = 0;
    while from < size {
        let length = BLOCK_BYTES.min(size - from);
        if base.bytes(theirs, from, length)? != release.bytes(ours, from, length)? {
            return Ok(false);
        }
        from += length;
    }
    Ok(true)
}

/// Reads a tensor of both releases, and compares it on another thread of lower priority.
fn read_both(
    element: Element,
    (base, theirs): (&Tensors<'_>, &(usize, Tensor)),
    (release, ours): (&Tensors<'_>, &(usize, Tensor)),
) -> Result<(u64, Sums), LineageError> {
    std::thread::scope(|scope| {
        let (blocks, taken) = sync_channel::<(Vec<u8>, Vec<u8>)>(AHEAD);
        let comparing = move || {
            give_way();
            let mut difference = Difference::new(element);
            for (a, b) in taken {
                difference.add(&a, &b)?;
            }
            Ok((difference.equal(), difference.sums()))
        };
        let comparing = std::thread::Builder::new()
            .name("compare".to_owned())
            .spawn_scoped(scope, comparing)
            .map_err(LineageError::Thread)?;
        let size = ours.1.size();
        let mut from = 0;
        while from < size {
            let length = BLOCK_BYTES.min(size - from);
            let a = base.bytes(theirs, from, length)?;
            let b = release.bytes(ours, from, length)?;
            if blocks.send((a, b)).is_err() {
                break;
            }
            from += length;
        }
        drop(blocks);
        let compared: Result<_, TallyError> = match comparing.join() {
            Ok(compared) => compared,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        compared.map_err(|error| LineageError::Tally {
            path: release.path(ours.0).to_owned(),
            tensor: ours.1.name.clone(),
            error,
        })
    })
}

impl Found {
    fn section(&self, ours: usize, theirs: usize, tokenizer_equal: bool) -> Section {
        let count = |metric: &str, count: u64| Measure::new(metric, Amount::Count(count));
        let mut results = vec![
            count("tensors_matched", self.matched),
            count("tensors_identical", self.identical),
            count("tensors_only_here", ours as u64 - self.matched),
            count("tensors_only_base", theirs as u64 - self.matched),
            count("tokenizer_equal", u64::from(tokenizer_equal)),
        ];
        let share = (self.elements > 0).then(|| self.equal as f64 / self.elements as f64);
        for (metric, value) in [
            ("identical_share", share),
            ("relative_delta_norm", self.sums.relative_delta()),
            ("cosine", self.sums.cosine()),
        ] {
            let real = |value| Measure::new(metric, Amount::Real(value)).over(self.elements);
            results.extend(value.map(real));
        }
        Section::measured("lineage", results)
    }
}

/// Says whether both releases have the same tokenizer, byte for byte.
pub(super) fn same_tokenizer(a: &Manifest, b: &Manifest) -> bool {
    const FILES: [&str; 3] = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"];
    let own = |manifest: &Manifest| {
        let layers = manifest.layers().iter();
        let mut found: Vec<_> = layers
            .filter(|layer| FILES.contains(&layer.path.as_str()))
            .map(|layer| (layer.path.to_string(), layer.blob.digest))
            .collect();
        found.sort();
        found
    };
    own(a) == own(b)
}
