//! Some tensors of a release: outputs of whole safetensors files become files of the tensors that are wanted.
//!
//! Only headers are fetched to decide it, as chunks, checked like all others. Files without such a tensor are
//! left out. An index that says which tensor lies in which file (`*.safetensors.index.json`) is written anew
//! for what is kept, so that a loader does not look for what is not there; one that is not understood is left
//! out.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::Header;
use waag_schema::content::safetensors::{LENGTH_BYTES, header_length};
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256};

use super::fetch::{Fetcher, Lacking};
use super::output::{Content, Output, Segment, Wanted};
use super::selection::TensorPattern;
use crate::cache::ChunkCache;
use crate::error::{ClientError, Result};
use crate::pace::Moved;
use crate::read::blocking;
use crate::site::Site;

const INDEX_SUFFIX: &str = ".safetensors.index.json";
/// No real index is larger; one that is gets left out.
const INDEX_MAX_BYTES: u64 = 64 << 20;
/// Headers that are fetched at once.
const HEADERS_AT_ONCE: usize = 8;
/// Names of tensors in a message.
const SHOWN_MAX: usize = 5;

/// The kept tensors of each file, with their sizes.
type Kept = HashMap<FilePath, HashMap<String, u64>>;

/// Replaces safetensors files by files of the tensors that match; returns what had to come for it, too.
///
/// # Errors
/// When no tensor matches, or a header cannot be had.
pub(crate) async fn choose(
    site: &Site,
    artifact: &ArtifactName,
    wanted: Wanted,
    pattern: &TensorPattern,
    cache: Option<&ChunkCache>,
) -> Result<(Wanted, Moved)> {
    let Wanted { contents, outputs } = wanted;
    let reader = Reader {
        site,
        artifact,
        contents: &contents,
        cache,
        received: Mutex::default(),
    };
    let (tensors, others): (Vec<Output>, Vec<Output>) = outputs
        .into_iter()
        .partition(|output| output.paths.iter().any(|path| path.has_extension("safetensors")));
    let headers: Vec<(Output, Header)> = stream::iter(tensors)
        .map(|output| {
            let reader = &reader;
            async move {
                let header = reader.header(&output).await?;
                Ok::<_, ClientError>((output, header))
            }
        })
        .buffered(HEADERS_AT_ONCE)
        .try_collect()
        .await?;
    let (mut made, mut kept) = (BTreeMap::new(), Kept::new());
    for (output, header) in &headers {
        let Some(subset) = header.subset(|tensor| pattern.matches(&tensor.name)) else {
            continue;
        };
        let sizes = header.tensors().iter().filter(|t| pattern.matches(&t.name));
        let sizes: HashMap<String, u64> = sizes.map(|t| (t.name.clone(), t.size())).collect();
        for path in &output.paths {
            kept.insert(path.clone(), sizes.clone());
        }
        let mut segments = vec![Segment::Literal(subset.header)];
        segments.extend(subset.data.into_iter().filter_map(|range| shifted(output, range)));
        add(&mut made, &contents, output, output.paths.clone(), segments);
    }
    if kept.is_empty() {
        return Err(nothing(pattern, &headers));
    }
    let mut outputs = Vec::new();
    for output in others {
        let (indexes, plain): (Vec<FilePath>, Vec<FilePath>) = output
            .paths
            .iter()
            .cloned()
            .partition(|path| path.as_str().ends_with(INDEX_SUFFIX));
        if !indexes.is_empty() && output.size() <= INDEX_MAX_BYTES {
            let bytes = reader.bytes(&output, 0..output.size()).await?;
            for path in indexes {
                if let Some(written) = rewritten(&bytes, &path, &kept) {
                    let segments = vec![Segment::Literal(written)];
                    add(&mut made, &contents, &output, vec![path], segments);
                }
            }
        }
        if !plain.is_empty() {
            outputs.push(Output {
                paths: plain,
                ..output
            });
        }
    }
    outputs.extend(made.into_values());
    outputs.sort_by(|a, b| a.paths.cmp(&b.paths));
    let received = reader
        .received
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok((Wanted { contents, outputs }, received))
}

/// Adds an output that is made here; those of the same segments are one.
fn add(
    made: &mut BTreeMap<Sha256, Output>,
    contents: &[Content],
    of: &Output,
    paths: Vec<FilePath>,
    segments: Vec<Segment>,
) {
    let key = key(&segments, contents);
    let output = made.entry(key).or_insert_with(|| Output {
        key,
        digest: None,
        from: of.digest,
        paths: Vec::new(),
        segments,
    });
    output.paths.extend(paths);
}

/// The same segments have the same key.
fn key(segments: &[Segment], contents: &[Content]) -> Sha256 {
    let mut hasher = Sha256Hasher::default();
    for segment in segments {
        match segment {
            Segment::Literal(bytes) => {
                hasher.update(&[0]);
                hasher.update(&(bytes.len() as u64).to_be_bytes());
                hasher.update(bytes);
            }
            Segment::Range { content, range } => {
                hasher.update(&[1]);
                hasher.update(contents[*content].sha256.as_bytes());
                hasher.update(&range.start.to_be_bytes());
                hasher.update(&range.end.to_be_bytes());
            }
        }
    }
    hasher.finish()
}

/// Returns which range of its content a range of an output is.
fn shifted(output: &Output, range: Range<u64>) -> Option<Segment> {
    match output.segments.first() {
        Some(Segment::Range { content, range: own }) => Some(Segment::Range {
            content: *content,
            range: own.start + range.start..(own.start + range.end).min(own.end),
        }),
        _ => None,
    }
}

fn nothing(pattern: &TensorPattern, headers: &[(Output, Header)]) -> ClientError {
    let mut names = headers
        .iter()
        .flat_map(|(_, header)| header.tensors())
        .map(|t| t.name.as_str());
    let shown: Vec<&str> = names.by_ref().take(SHOWN_MAX).collect();
    let more = if names.next().is_some() { ", ..." } else { "" };
    let has = if shown.is_empty() {
        "none is there".to_owned()
    } else {
        format!("it has {}{more}", shown.join(", "))
    };
    ClientError::Absent(format!("no tensor matches `{}`: {has}", pattern.as_str()))
}

/// Returns the index of what is kept; none when nothing of it is, or it is no index.
fn rewritten(bytes: &[u8], path: &FilePath, kept: &Kept) -> Option<Vec<u8>> {
    let mut index: Value = serde_json::from_slice(bytes).ok()?;
    let dir = path.as_str().rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut total = 0;
    let map = index.get_mut("weight_map")?.as_object_mut()?;
    map.retain(|name, file| {
        let beside = file.as_str().and_then(|file| {
            let file = if dir.is_empty() {
                file.to_owned()
            } else {
                format!("{dir}/{file}")
            };
            file.parse::<FilePath>().ok()
        });
        let size = beside.and_then(|file| kept.get(&file)?.get(name).copied());
        total += size.unwrap_or(0);
        size.is_some()
    });
    if map.is_empty() {
        return None;
    }
    if let Some(found) = index
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("total_size"))
    {
        *found = total.into();
    }
    let mut written = serde_json::to_vec_pretty(&index).ok()?;
    written.push(b'\n');
    Some(written)
}

/// Reads stretches of outputs into memory.
struct Reader<'a> {
    site: &'a Site,
    artifact: &'a ArtifactName,
    contents: &'a [Content],
    cache: Option<&'a ChunkCache>,
    /// Bytes that came from the site.
    received: Mutex<Moved>,
}

impl Reader<'_> {
    async fn header(&self, output: &Output) -> Result<Header> {
        let named = |e: &dyn std::fmt::Display| {
            let path = output.paths.first().map_or("", FilePath::as_str);
            ClientError::Usage(format!("{path}: {e}"))
        };
        let first = self.bytes(output, 0..LENGTH_BYTES.min(output.size())).await?;
        let first: &[u8; 8] = first
            .first_chunk()
            .ok_or_else(|| named(&"it is too short for safetensors"))?;
        let length = header_length(first, output.size()).map_err(|e| named(&e))?;
        let json = self.bytes(output, LENGTH_BYTES..LENGTH_BYTES + length).await?;
        Header::parse(&json, output.size()).map_err(|e| named(&e))
    }

    /// Reads a range, which the caller has bounded; every chunk that it touches is checked.
    async fn bytes(&self, output: &Output, range: Range<u64>) -> Result<Vec<u8>> {
        let Some(Segment::Range { content, range }) = shifted(output, range) else {
            return Ok(Vec::new());
        };
        let content = &self.contents[content];
        let mut have: HashMap<ChunkDigest, Vec<u8>> = HashMap::new();
        let mut lacking = Vec::new();
        for part in content.recipe.pieces_for(range.clone()) {
            if have.contains_key(&part.chunk) {
                continue;
            }
            let cached = match self.cache {
                Some(cache) => {
                    let (cache, chunk) = (cache.clone(), part.chunk);
                    blocking(move || cache.get(&chunk)).await
                }
                None => None,
            };
            if cached.is_none() {
                lacking.push(Lacking {
                    chunk: part.chunk,
                    content: content.sha256,
                    length: content.recipe.pieces()[part.index].length,
                });
            }
            have.insert(part.chunk, cached.unwrap_or_default());
        }
        let name = output.paths.first().map_or("", FilePath::as_str).to_owned();
        let came: Arc<Mutex<HashMap<ChunkDigest, Vec<u8>>>> = Arc::default();
        let (sink, cache) = (Arc::clone(&came), self.cache.cloned());
        let fetcher = Fetcher {
            site: self.site.clone(),
            artifact: self.artifact.clone(),
            take: Arc::new(move |chunk, raw| {
                if let Some(cache) = &cache {
                    cache.put(chunk, raw);
                }
                let mut came = sink.lock().unwrap_or_else(PoisonError::into_inner);
                came.insert(*chunk, raw.to_vec());
                Ok(())
            }),
            naming: Arc::new(move |_| name.clone()),
        };
        let received = fetcher.fetch(&lacking).await?;
        let mut sum = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = *sum + received;
        have.extend(came.lock().unwrap_or_else(PoisonError::into_inner).drain());
        let mut bytes = Vec::new();
        for part in content.recipe.pieces_for(range) {
            let chunk = have.get(&part.chunk).map_or(&[][..], Vec::as_slice);
            let own = chunk.get(part.within.start as usize..part.within.end as usize);
            let own = own.ok_or_else(|| {
                ClientError::verification("recipe", format_args!("the chunk {} is too short", part.chunk))
            })?;
            bytes.extend_from_slice(own);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_tells_of_kept_tensors_only() {
        let kept = Kept::from([(
            "w/1.safetensors".parse().unwrap(),
            HashMap::from([("a".to_owned(), 10), ("b".to_owned(), 20)]),
        )]);
        let index = br#"{"metadata": {"total_size": 60, "other": 1},
            "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors", "a2": "../x"}}"#;
        let path: FilePath = "w/model.safetensors.index.json".parse().unwrap();
        let written: Value = serde_json::from_slice(&rewritten(index, &path, &kept).unwrap()).unwrap();
        let expected = serde_json::json!({"metadata": {"total_size": 30, "other": 1},
            "weight_map": {"a": "1.safetensors", "b": "1.safetensors"}});
        assert_eq!(written, expected);
        let elsewhere: FilePath = "model.safetensors.index.json".parse().unwrap();
        assert_eq!(rewritten(index, &elsewhere, &kept), None);
        assert_eq!(rewritten(b"[]", &path, &kept), None);
    }
}
