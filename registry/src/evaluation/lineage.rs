//! The section `lineage`: what a release changed in the weights of the one that it names as its base.
//!
//! Tensors are matched by name, type and shape. Those that are made of the same pieces of the same chunks are the same
//! bits, and are not read; their norms are known from the section `weights`. All others are read side by side.
//!
//! A base is compared only if whoever may read the release may read the base: it is of the same namespace, or of a
//! public one. Otherwise the numbers would tell of weights that are closed to the reader.

use std::collections::BTreeMap;
use std::ops::Range;

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

use super::WeighError;
use super::weigher::{JobError, give_way};
use crate::content::Content;

/// Bytes of a tensor that are read at once, on each side.
const BLOCK_BYTES: u64 = 4 << 20;
/// Pairs of blocks between reading and comparing.
const AHEAD: usize = 2;
/// Tensors beyond this number are in the totals only.
const LISTED_MAX: usize = 50_000;

/// The safetensors files of a release, with their headers read.
pub(super) struct Side {
    files: Vec<(String, Recipe)>,
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
    pub(super) async fn read(content: &Content, files: Vec<(String, Recipe)>) -> Result<Self, JobError> {
        let mut tensors = BTreeMap::new();
        for (at, (path, recipe)) in files.iter().enumerate() {
            let bad = |error| WeighError::Safetensors {
                path: path.clone(),
                error,
            };
            let first = content.head(recipe, LENGTH_BYTES).await?;
            let mut length = [0; LENGTH_BYTES as usize];
            length[..first.len()].copy_from_slice(&first);
            let length = header_length(&length, recipe.size()).map_err(bad)?;
            let head = content.head(recipe, LENGTH_BYTES + length).await?;
            let json = head.get(LENGTH_BYTES as usize..).unwrap_or_default();
            let header = Header::parse(json, recipe.size()).map_err(bad)?;
            for tensor in header.tensors() {
                tensors.insert(tensor.name.clone(), (at, tensor.clone()));
            }
        }
        Ok(Self { files, tensors })
    }

    /// Returns what a tensor is made of: which bytes of which chunks.
    fn parts(&self, (file, tensor): &(usize, Tensor)) -> Vec<(ChunkDigest, Range<u32>)> {
        let recipe = self.files.get(*file).map(|(_, recipe)| recipe);
        let parts = recipe
            .into_iter()
            .flat_map(|recipe| recipe.pieces_for(tensor.bytes.clone()));
        parts.map(|part| (part.chunk, part.within)).collect()
    }

    /// Reads some bytes of a tensor, counted from its start.
    async fn bytes(
        &self,
        content: &Content,
        (file, tensor): &(usize, Tensor),
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, JobError> {
        let Some((_, recipe)) = self.files.get(*file) else {
            return Ok(Vec::new());
        };
        let start = tensor.bytes.start + from;
        let parts: Vec<Bytes> = content.range(recipe, start..start + length).try_collect().await?;
        Ok(parts.concat())
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

/// Compares a release with its base. `norm` gives the L2 norm of a tensor that was measured.
pub(super) async fn compare(
    content: &Content,
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
        let same = release.parts(ours) == base.parts(theirs);
        let (equal, sums) = match (same, norm(name), element) {
            (true, Some(norm), _) => (elements, same_twice(norm)),
            // Of a type that is not measured: equal, or not known to be.
            (same, _, None) => (if same { elements } else { 0 }, Sums::default()),
            (_, _, Some(element)) => read_both(content, element, (base, theirs), (release, ours)).await?,
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

/// Reads a tensor of both releases, and compares it on a thread of lower priority.
async fn read_both(
    content: &Content,
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
        let a = base.bytes(content, theirs, from, length).await?;
        let b = release.bytes(content, ours, from, length).await?;
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
