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
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use waag_kernels::Element;
use waag_kernels::difference::{Difference, Sums};
use waag_schema::ChunkDigest;
use waag_schema::content::recipe::Recipe;
use waag_schema::content::safetensors::{Header, LENGTH_BYTES, Tensor, header_length};
use waag_schema::release::Manifest;
use waag_schema::statement::scorecard::{Amount, Measure, Section};

use super::weigher::{JobError, give_way};
use super::{WeighError, Weighing};
use crate::content::Content;

/// Bytes of a tensor that are read at once, on each side.
const BLOCK_BYTES: u64 = 4 << 20;
/// Pairs of blocks between reading and comparing.
const AHEAD: usize = 2;
/// Tensors beyond this number are in the totals only.
const LISTED_MAX: usize = 50_000;

/// Where a file lies.
pub(super) enum Place {
    /// In the store.
    Stored(Content, Recipe),
    /// On this disk, with its length.
    Local(PathBuf, u64),
}

impl Place {
    fn size(&self) -> u64 {
        match self {
            Self::Stored(_, recipe) => recipe.size(),
            Self::Local(_, size) => *size,
        }
    }

    /// Reads some bytes, which lie within the file.
    async fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, JobError> {
        match self {
            Self::Stored(content, recipe) => {
                let parts: Vec<Bytes> = content.range(recipe, range).try_collect().await?;
                Ok(parts.concat())
            }
            Self::Local(path, _) => {
                let path = path.clone();
                let read = move || {
                    let mut bytes = vec![0; (range.end - range.start) as usize];
                    let read = File::open(&path).and_then(|f| f.read_exact_at(&mut bytes, range.start));
                    read.map(|()| bytes)
                        .map_err(|e| JobError::Missing(format!("{}, whole ({e}),", path.display())))
                };
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|e| JobError::Thread(e.to_string()))?
            }
        }
    }
}

/// The safetensors files of a release, with their headers read.
struct Side {
    files: Vec<(String, Place)>,
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

impl Side {
    /// Reads the headers of these files.
    async fn read(files: Vec<(String, Place)>) -> Result<Self, JobError> {
        let mut tensors = BTreeMap::new();
        for (at, (path, place)) in files.iter().enumerate() {
            let bad = |error| WeighError::Safetensors {
                path: path.clone(),
                error,
            };
            let first = place.bytes(0..LENGTH_BYTES.min(place.size())).await?;
            let mut length = [0; LENGTH_BYTES as usize];
            length[..first.len()].copy_from_slice(&first);
            let length = header_length(&length, place.size()).map_err(bad)?;
            let head = place.bytes(0..LENGTH_BYTES + length).await?;
            let json = head.get(LENGTH_BYTES as usize..).unwrap_or_default();
            let header = Header::parse(json, place.size()).map_err(bad)?;
            for tensor in header.tensors() {
                tensors.insert(tensor.name.clone(), (at, tensor.clone()));
            }
        }
        Ok(Self { files, tensors })
    }

    /// Returns what a tensor is made of, where that is known: which bytes of which chunks.
    fn parts(&self, (file, tensor): &(usize, Tensor)) -> Option<Vec<(ChunkDigest, Range<u32>)>> {
        match self.files.get(*file)? {
            (_, Place::Stored(_, recipe)) => {
                let parts = recipe.pieces_for(tensor.bytes.clone());
                Some(parts.map(|part| (part.chunk, part.within)).collect())
            }
            (_, Place::Local(..)) => None,
        }
    }

    /// Reads some bytes of a tensor, counted from its start.
    async fn bytes(
        &self,
        (file, tensor): &(usize, Tensor),
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, JobError> {
        let Some((_, place)) = self.files.get(*file) else {
            return Ok(Vec::new());
        };
        let start = tensor.bytes.start + from;
        place.bytes(start..start + length).await
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

/// Compares the files of a release, which were measured, with those of its base.
pub(super) async fn of(
    (manifest, files): (&Manifest, Vec<(String, Place)>),
    (base, base_files): (&Manifest, Vec<(String, Place)>),
    weighing: &Weighing,
) -> Result<(Section, Vec<Row>), JobError> {
    if files.is_empty() || base_files.is_empty() {
        let why = "one of the two has no safetensors file";
        return Ok((Section::not_measured("lineage", why), Vec::new()));
    }
    let ours = Side::read(files).await?;
    let theirs = Side::read(base_files).await?;
    let norms = weighing.norms();
    let norm = |name: &str| norms.get(name).copied();
    compare(&theirs, &ours, same_tokenizer(manifest, base), norm).await
}

/// Compares a release with its base. `norm` gives the L2 norm of a tensor that was measured.
async fn compare(
    base: &Side,
    release: &Side,
    tokenizer_equal: bool,
    norm: impl Fn(&str) -> Option<f64>,
) -> Result<(Section, Vec<Row>), JobError> {
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
                let same = same_bytes((base, theirs), (release, ours)).await?;
                (if same { elements } else { 0 }, Sums::default())
            }
            (_, norm, Some(element)) => {
                let (equal, sums) = read_both(element, (base, theirs), (release, ours)).await?;
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
async fn same_bytes(
    (base, theirs): (&Side, &(usize, Tensor)),
    (release, ours): (&Side, &(usize, Tensor)),
) -> Result<bool, JobError> {
    let size = ours.1.size();
    let mut from = 0;
    while from < size {
        let length = BLOCK_BYTES.min(size - from);
        if base.bytes(theirs, from, length).await? != release.bytes(ours, from, length).await? {
            return Ok(false);
        }
        from += length;
    }
    Ok(true)
}

/// Reads a tensor of both releases, and compares it on a thread of lower priority.
async fn read_both(
    element: Element,
    (base, theirs): (&Side, &(usize, Tensor)),
    (release, ours): (&Side, &(usize, Tensor)),
) -> Result<(u64, Sums), JobError> {
    let (blocks, mut taken) = mpsc::channel::<(Vec<u8>, Vec<u8>)>(AHEAD);
    let (answer, answered) = oneshot::channel();
    let run = move || {
        give_way();
        let mut difference = Difference::new(element);
        let mut done = Ok(());
        while let Some((a, b)) = taken.blocking_recv()
            && done.is_ok()
        {
            done = difference.add(&a, &b);
        }
        // Who waits may have gone: then nobody wants it.
        let _ = answer.send(done.map(|()| (difference.equal(), difference.sums())));
    };
    std::thread::Builder::new()
        .name("weigh".to_owned())
        .spawn(run)
        .map_err(|e| JobError::Thread(e.to_string()))?;
    let size = ours.1.size();
    let mut from = 0;
    while from < size {
        let length = BLOCK_BYTES.min(size - from);
        let a = base.bytes(theirs, from, length).await?;
        let b = release.bytes(ours, from, length).await?;
        if blocks.send((a, b)).await.is_err() {
            break;
        }
        from += length;
    }
    drop(blocks);
    let ended = answered
        .await
        .map_err(|_| JobError::Thread("it panicked".to_owned()))?;
    ended.map_err(|e| JobError::Thread(e.to_string()))
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
fn same_tokenizer(a: &Manifest, b: &Manifest) -> bool {
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
