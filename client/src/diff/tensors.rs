//! Tensors of two sides, by name and by the chunks that hold them.
//!
//! A planner cuts a large tensor from its own start, so two of one type and shape have the same bytes exactly
//! when they have the same chunks. Small tensors share chunks with their neighbours: these are compared by
//! their bytes, unless chunk and place in it are the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use waag_schema::content::PlannerId;
use waag_schema::content::safetensors::{Dtype, Header, LENGTH_BYTES, header_length, precision};
use waag_schema::{ChunkDigest, Sha256};

use super::side::Side;
use crate::error::{ClientError, Result};

/// Headers read at once.
const HEADERS_AT_ONCE: usize = 4;
/// Chunks of small tensors that are read to compare them, in bytes; what lies beyond stays undecided.
const READ_MAX_BYTES: u64 = 16 << 20;

/// A tensor whose bytes have another name now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    /// Its name in `a`.
    pub from: String,
    /// Its name in `b`.
    pub to: String,
}

/// A tensor that both have, and that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorChange {
    /// Its name.
    pub name: String,
    /// What differs: type, shape, or the values only.
    pub what: String,
}

/// The tensors of two sides, over all their safetensors files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TensorDiff {
    /// How many are the same.
    pub same: u64,
    /// Those that only `b` has.
    pub added: Vec<String>,
    /// Those that only `a` has.
    pub removed: Vec<String>,
    /// Those whose bytes `b` has under another name.
    pub renamed: Vec<Renamed>,
    /// Those that differ.
    pub changed: Vec<TensorChange>,
    /// How many small ones were not compared, because too much would have had to be read.
    pub undecided: u64,
}

/// Bytes, by the chunks that they are.
type Identity = Vec<(ChunkDigest, Range<u32>)>;

/// A tensor and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    dtype: Dtype,
    shape: Vec<u64>,
    file: Sha256,
    bytes: Range<u64>,
    identity: Identity,
    /// Whether two of other identities may have the same bytes all the same.
    vague: bool,
}

type Tensors = BTreeMap<String, Placed>;
type Named<'a> = (&'a String, &'a Placed);
/// Element type and shape.
type Form<'a> = (&'static str, &'a [u64]);

impl Placed {
    fn form(&self) -> Form<'_> {
        (precision(self.dtype), &self.shape)
    }

    fn is_like(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape
    }

    /// Says whether the two may have the same bytes though their recipes do not show it.
    fn is_unsure_of(&self, other: &Self) -> bool {
        (self.vague || other.vague) && self.identity != other.identity && self.is_like(other)
    }

    fn what_differs(&self, other: &Self) -> Option<String> {
        if self.dtype != other.dtype {
            return Some(format!(
                "type {} -> {}",
                precision(self.dtype),
                precision(other.dtype)
            ));
        }
        if self.shape != other.shape {
            return Some(format!("shape {:?} -> {:?}", self.shape, other.shape));
        }
        (self.identity != other.identity).then(|| "values".to_owned())
    }
}

/// Compares the tensors of two sides; none if neither has any.
pub(super) async fn diff(a: &Side, b: &Side) -> Result<Option<TensorDiff>> {
    let (mut one, mut other) = (read(a).await?, read(b).await?);
    if one.is_empty() && other.is_empty() {
        return Ok(None);
    }
    let (in_a, in_b) = in_question(&one, &other);
    let mut left = READ_MAX_BYTES;
    sharpen(a, &mut one, &in_a, &mut left).await?;
    sharpen(b, &mut other, &in_b, &mut left).await?;
    Ok(Some(compare(&one, &other)))
}

/// Reads the headers of all safetensors files of a side.
async fn read(side: &Side) -> Result<Tensors> {
    let files = side
        .files()
        .iter()
        .filter(|(path, _)| path.ends_with(".safetensors"));
    let headers: Vec<Option<(String, Sha256, Header)>> = stream::iter(files)
        .map(|(path, file)| async move {
            let header = read_header(side, &file.sha256, file.size).await?;
            Ok::<_, ClientError>(header.map(|header| (path.clone(), file.sha256, header)))
        })
        .buffered(HEADERS_AT_ONCE)
        .try_collect()
        .await?;
    let headers: Vec<_> = headers.into_iter().flatten().collect();
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for tensor in headers.iter().flat_map(|(_, _, header)| header.tensors()) {
        if !seen.insert(tensor.name.as_str()) {
            twice.insert(tensor.name.clone());
        }
    }
    let mut tensors = Tensors::new();
    for (path, file, header) in &headers {
        for tensor in header.tensors() {
            // The same weights in two precisions, as some repositories have them: the file tells them apart.
            let name = match twice.contains(&tensor.name) {
                true => format!("{path}: {}", tensor.name),
                false => tensor.name.clone(),
            };
            let (identity, vague) = identify(side, file, &tensor.bytes);
            let placed = Placed {
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                file: *file,
                bytes: tensor.bytes.clone(),
                identity,
                vague,
            };
            tensors.insert(name, placed);
        }
    }
    Ok(tensors)
}

/// Reads a header; none where the file is not one, which is then compared as a file only.
async fn read_header(side: &Side, file: &Sha256, size: u64) -> Result<Option<Header>> {
    let Some((0, mut head)) = side.pieces(file, 0..LENGTH_BYTES).await? else {
        return Ok(None);
    };
    let Some(length) = head
        .first_chunk()
        .and_then(|first| header_length(first, size).ok())
    else {
        return Ok(None);
    };
    let end = LENGTH_BYTES + length;
    if (head.len() as u64) < end {
        // The planner gives length and text chunks of their own, so that one piece rarely holds both.
        let Some((_, rest)) = side.pieces(file, head.len() as u64..end).await? else {
            return Ok(None);
        };
        head.extend_from_slice(&rest);
    }
    let json = usize::try_from(end)
        .ok()
        .and_then(|end| head.get(LENGTH_BYTES as usize..end));
    Ok(json.and_then(|json| Header::parse(json, size).ok()))
}

/// Says which bytes a range of a file is, as far as its recipe tells.
fn identify(side: &Side, file: &Sha256, bytes: &Range<u64>) -> (Identity, bool) {
    let Some(recipe) = side.recipe(file) else {
        return (Vec::new(), true);
    };
    let parts: Vec<_> = recipe.pieces_for(bytes.clone()).collect();
    // Cut by content, or a chunk shared with neighbours: then the same bytes may lie in other chunks.
    let whole = |part: &waag_schema::content::recipe::Part| {
        let piece = recipe.pieces()[part.index];
        part.within == (piece.offset..piece.offset + piece.length)
    };
    let vague = recipe.planner() != PlannerId::Tensors1 || !parts.iter().all(whole);
    let identity = parts.into_iter().map(|part| (part.chunk, part.within)).collect();
    (identity, vague)
}

/// Finds the tensors of which it has to be known exactly what they hold.
fn in_question(a: &Tensors, b: &Tensors) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut in_a, mut in_b) = (BTreeSet::new(), BTreeSet::new());
    let mut ask = |(from, one): Named<'_>, (to, other): Named<'_>| {
        if one.is_unsure_of(other) {
            in_a.insert(from.clone());
            in_b.insert(to.clone());
        }
    };
    let mut gone: HashMap<Form<'_>, Vec<Named<'_>>> = HashMap::new();
    for one in a {
        match b.get_key_value(one.0) {
            Some(other) => ask(one, other),
            None => gone.entry(one.1.form()).or_default().push(one),
        }
    }
    for other in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
        let like = gone.get(&other.1.form());
        for one in like.into_iter().flatten() {
            ask(*one, other);
        }
    }
    (in_a, in_b)
}

/// Reads small tensors and says by their own bytes what they are. What would have to be read beyond `left` stays
/// vague.
async fn sharpen(
    side: &Side,
    tensors: &mut Tensors,
    wanted: &BTreeSet<String>,
    left: &mut u64,
) -> Result<()> {
    // Neighbours share their chunk: in the order of the file it is read once.
    let mut order: Vec<&String> = wanted.iter().collect();
    order.sort_by_key(|name| tensors.get(*name).map(|t| (t.file, t.bytes.start)));
    let mut last: Option<(Sha256, u64, Vec<u8>)> = None;
    for name in order {
        let Some(tensor) = tensors.get_mut(name) else {
            continue;
        };
        let Range { start, end } = tensor.bytes;
        let held = |(file, at, bytes): &(Sha256, u64, Vec<u8>)| {
            *file == tensor.file && *at <= start && end <= at + bytes.len() as u64
        };
        if !last.as_ref().is_some_and(held) {
            if end - start > *left {
                continue;
            }
            let Some((at, bytes)) = side.pieces(&tensor.file, start..end).await? else {
                continue;
            };
            *left = left.saturating_sub(bytes.len() as u64);
            last = Some((tensor.file, at, bytes));
        }
        let Some((_, at, bytes)) = &last else { continue };
        let own = usize::try_from(start - at)
            .ok()
            .zip(usize::try_from(end - at).ok())
            .and_then(|(from, to)| bytes.get(from..to));
        if let Some(own) = own {
            let length = u32::try_from(own.len()).unwrap_or(u32::MAX);
            tensor.identity = vec![(ChunkDigest::of(own), 0..length)];
            tensor.vague = false;
        }
    }
    Ok(())
}

fn compare(a: &Tensors, b: &Tensors) -> TensorDiff {
    let mut diff = TensorDiff::default();
    for (name, one) in a {
        let Some(other) = b.get(name) else { continue };
        match one.what_differs(other) {
            None => diff.same += 1,
            Some(_) if one.is_unsure_of(other) => diff.undecided += 1,
            Some(what) => diff.changed.push(TensorChange {
                name: name.clone(),
                what,
            }),
        }
    }
    // Of several with the same bytes, the first in the order of names goes to the first.
    let mut new: HashMap<(&Identity, Form<'_>), Vec<&String>> = HashMap::new();
    for (name, other) in b.iter().rev().filter(|(name, _)| !a.contains_key(*name)) {
        new.entry((&other.identity, other.form())).or_default().push(name);
    }
    let mut taken: HashSet<&String> = HashSet::new();
    for (name, one) in a.iter().filter(|(name, _)| !b.contains_key(*name)) {
        let like = new.get_mut(&(&one.identity, one.form()));
        match like.and_then(Vec::pop) {
            Some(to) => {
                taken.insert(to);
                diff.renamed.push(Renamed {
                    from: name.clone(),
                    to: to.clone(),
                });
            }
            None => diff.removed.push(name.clone()),
        }
    }
    let added = b
        .keys()
        .filter(|name| !a.contains_key(*name) && !taken.contains(name));
    diff.added = added.cloned().collect();
    diff
}
