//! Files on this disk, read once: SHA-256 of the whole, cuts, and BLAKE3 of each chunk, in one pass.
//!
//! Budget: each byte is read once and hashed twice; memory is one window of 8 MiB a file, and as many files
//! are read at once as there are cores. A file that changes is noticed: its inode, length and time are
//! compared before and after, and each chunk that is read again to be sent must still have its digest.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::chunk::StoredChunk;
use waag_schema::content::encoding::encode;
use waag_schema::content::frame::encode_frame_header;
use waag_schema::content::planner::CHUNK_MAX;
use waag_schema::content::recipe::RecipeBuilder;
use waag_schema::content::safetensors::Header;
use waag_schema::content::{ChunkPlan, FrameError, PlannerId, Recipe};
use waag_schema::{ChunkDigest, FilePath, Sha256};

use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::scan::{Found, ScanError};

/// Two of the largest chunks: half of it stays valid while the other half is filled.
const WINDOW_BYTES: usize = 2 * CHUNK_MAX;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// A file that has been read, cut and hashed.
#[derive(Debug, Clone)]
pub struct ReadFile {
    /// Its path within the artifact.
    pub path: FilePath,
    /// Where it lies on this disk.
    pub local: PathBuf,
    /// Its name.
    pub sha256: Sha256,
    /// Its length.
    pub size: u64,
    /// Its chunks.
    pub recipe: Recipe,
    /// Its tensors, if it is a safetensors file.
    pub header: Option<Header>,
    stamp: Stamp,
}

/// Returns how many threads may hash at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Runs work that would hold up other requests on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Blocking work is never cancelled once it runs; what is left is its own panic.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Reads all files of a scan, several at once; they come back in their order.
///
/// # Errors
/// When a file cannot be read, changes meanwhile, or is called safetensors and is not.
pub async fn read_all(files: Vec<Found>, progress: &Progress) -> Result<Vec<ReadFile>> {
    let (items, bytes) = (
        files.len() as u64,
        files.iter().map(|f| f.size).fold(0, u64::saturating_add),
    );
    progress(Event::Began {
        phase: Phase::Read,
        items,
        bytes,
    });
    let read = stream::iter(files)
        .map(|found| {
            let progress = Arc::clone(progress);
            blocking(move || read_file(&found, &progress))
        })
        .buffered(cores())
        .try_collect()
        .await?;
    progress(Event::Ended { phase: Phase::Read });
    Ok(read)
}

/// Reads one file.
///
/// # Errors
/// As for [`read_all`].
pub fn read_file(found: &Found, progress: &Progress) -> Result<ReadFile> {
    let local = &found.local;
    let mut file = File::open(local).map_err(ClientError::io("open", local))?;
    let stat = |file: &File| file.metadata().map_err(ClientError::io("read", local));
    let meta = stat(&file)?;
    // Between the scan and now it may have become a pipe, which would never end.
    if !meta.is_file() {
        return Err(ScanError::Special(local.clone()).into());
    }
    let stamp = Stamp::of(&meta);
    let mut plan = ChunkPlan::for_file(&found.path, Some(stamp.size));
    let mut recipe = RecipeBuilder::new(plan.planner());
    let mut hasher = Sha256Hasher::default();
    let mut window = vec![0; WINDOW_BYTES];
    let (mut filled, mut at_end) = (0, false);
    while !at_end {
        let before = filled;
        while filled < WINDOW_BYTES {
            match file
                .read(&mut window[filled..])
                .map_err(ClientError::io("read", local))?
            {
                0 => {
                    at_end = true;
                    break;
                }
                read => filled += read,
            }
        }
        hasher.update(&window[before..filled]);
        let mut taken = 0;
        while let Some(length) = plan
            .next_len(&window[taken..filled], at_end)
            .map_err(|error| refused(found, stamp, error))?
        {
            let chunk = ChunkDigest::of(&window[taken..taken + length]);
            recipe
                .push_chunk(chunk, length)
                .map_err(|e| ClientError::Usage(format!("{}: {e}", found.path)))?;
            taken += length;
        }
        window.copy_within(taken..filled, 0);
        filled -= taken;
        progress(Event::Advanced {
            phase: Phase::Read,
            bytes: taken as u64,
        });
    }
    // The open file, and what stands under its name now: both must be what was opened.
    let named = std::fs::metadata(local).map_err(|_| ClientError::Changed(local.clone()))?;
    if Stamp::of(&stat(&file)?) != stamp || Stamp::of(&named) != stamp {
        return Err(ClientError::Changed(local.clone()));
    }
    progress(Event::Done {
        phase: Phase::Read,
        path: found.path.to_string(),
    });
    Ok(ReadFile {
        path: found.path.clone(),
        local: local.clone(),
        sha256: hasher.finish(),
        size: recipe.size(),
        header: plan.header().cloned(),
        recipe: recipe.finish(),
        stamp,
    })
}

/// A file of another length than when it was opened has changed; everything else is wrong with its content.
fn refused(found: &Found, stamp: Stamp, error: waag_schema::content::PlanError) -> ClientError {
    match error {
        waag_schema::content::PlanError::Size { expected, .. } if expected == stamp.size => {
            ClientError::Changed(found.local.clone())
        }
        error => ClientError::Usage(format!("{}: {error}", found.path)),
    }
}

/// Cuts bytes that are in memory, as the file of a configuration.
pub(crate) fn cut(bytes: &[u8]) -> Recipe {
    let mut plan = ChunkPlan::new(PlannerId::FastCdc1, Some(bytes.len() as u64));
    let mut recipe = RecipeBuilder::new(plan.planner());
    let mut rest = bytes;
    while let Ok(Some(length)) = plan.next_len(rest, true) {
        let (chunk, left) = rest.split_at(length);
        recipe
            .push_chunk(ChunkDigest::of(chunk), length)
            .expect("a planner's chunk is none that a recipe refuses");
        rest = left;
    }
    recipe.finish()
}

/// Where a chunk can be read again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Which source.
    source: usize,
    offset: u64,
    pub(crate) length: u32,
}

/// Chunks one behind the other, as they travel.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the chunks as they are stored, without the digests and lengths in front of them.
    pub(crate) stored_bytes: u64,
}

/// Whether chunks travel as their bytes recommend, or as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Encoded,
    Raw,
}

/// What chunks are read from: files, and bytes in memory.
#[derive(Debug)]
enum Source {
    File { local: PathBuf, stamp: Stamp },
    Memory(Vec<u8>),
}

/// Where each chunk of a push lies.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    sources: Vec<Source>,
    places: HashMap<ChunkDigest, Place>,
}

impl Frames {
    fn push(&mut self, chunk: &ChunkDigest, stored: StoredChunk<'_>) -> std::result::Result<(), FrameError> {
        let header = encode_frame_header(chunk, stored.stored_length())?;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&stored.header());
        self.bytes.extend_from_slice(stored.body());
        self.stored_bytes += stored.stored_length() as u64;
        Ok(())
    }
}

impl Sources {
    pub(crate) fn add_file(&mut self, file: &ReadFile) {
        let source = Source::File {
            local: file.local.clone(),
            stamp: file.stamp,
        };
        self.add(source, &file.recipe);
    }

    pub(crate) fn add_bytes(&mut self, bytes: Vec<u8>, recipe: &Recipe) {
        self.add(Source::Memory(bytes), recipe);
    }

    fn add(&mut self, source: Source, recipe: &Recipe) {
        let index = self.sources.len();
        self.sources.push(source);
        let mut offset = 0;
        for piece in recipe.pieces() {
            self.places.entry(piece.chunk).or_insert(Place {
                source: index,
                offset,
                length: piece.length,
            });
            offset += u64::from(piece.length);
        }
    }

    /// Returns how many distinct chunks there are.
    pub(crate) fn chunks(&self) -> u64 {
        self.places.len() as u64
    }

    pub(crate) fn place(&self, chunk: &ChunkDigest) -> Option<Place> {
        self.places.get(chunk).copied()
    }

    /// Reads chunks again, encodes and frames them. Each must still have its digest.
    pub(crate) fn frames(&self, chunks: &[ChunkDigest], form: Form) -> Result<Frames> {
        let mut frames = Frames::default();
        let mut open: Option<(usize, File)> = None;
        for chunk in chunks {
            let place = self.place(chunk).ok_or_else(|| unknown(chunk))?;
            let mut raw = vec![0; place.length as usize];
            match &self.sources[place.source] {
                Source::Memory(bytes) => {
                    let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
                    let part = bytes.get(start..).and_then(|rest| rest.get(..raw.len()));
                    raw.copy_from_slice(part.ok_or_else(|| unknown(chunk))?);
                }
                Source::File { local, stamp } => {
                    if open.as_ref().is_none_or(|(source, _)| *source != place.source) {
                        open = Some((place.source, reopen(local, *stamp)?));
                    }
                    let changed = |_| ClientError::Changed(local.clone());
                    if let Some((_, file)) = &open {
                        file.read_exact_at(&mut raw, place.offset).map_err(changed)?;
                    }
                    if ChunkDigest::of(&raw) != *chunk {
                        return Err(ClientError::Changed(local.clone()));
                    }
                }
            }
            let odd = |e: &dyn std::fmt::Display| ClientError::Usage(format!("chunk {chunk}: {e}"));
            match form {
                Form::Encoded => frames.push(chunk, encode(&raw).map_err(|e| odd(&e))?.stored()),
                Form::Raw => frames.push(chunk, StoredChunk::raw(&raw).map_err(|e| odd(&e))?),
            }
            .map_err(|e| odd(&e))?;
        }
        Ok(frames)
    }
}

fn reopen(local: &Path, stamp: Stamp) -> Result<File> {
    let file = File::open(local).map_err(|_| ClientError::Changed(local.to_owned()))?;
    let meta = file.metadata().map_err(ClientError::io("read", local))?;
    if Stamp::of(&meta) != stamp {
        return Err(ClientError::Changed(local.to_owned()));
    }
    Ok(file)
}

fn unknown(chunk: &ChunkDigest) -> ClientError {
    ClientError::verification(
        "upload",
        format_args!("the site asks for the chunk {chunk}, which is not part of it"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;
    use crate::event::silent;
    use crate::scan::{Links, Scan};
    use waag_schema::content::frame::FrameDecoder;

    /// Bytes that no two windows share.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn directory(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Found) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        let found = Scan::of(dir.path(), Links::Refuse).unwrap().files.remove(0);
        (dir, found)
    }

    #[test]
    fn one_pass_gives_the_digest_and_the_chunks_that_the_whole_file_has() {
        for length in [0, 1, 300 << 10, WINDOW_BYTES, 3 * WINDOW_BYTES + 17] {
            let bytes = noise(length);
            let (_dir, found) = directory("data.bin", &bytes);
            let file = read_file(&found, &silent()).unwrap();
            assert_eq!((file.sha256, file.size), (Sha256::of(&bytes), length as u64));
            assert_eq!(file.recipe, cut(&bytes), "{length}");
        }
    }

    #[test]
    fn a_file_that_is_called_safetensors_and_is_not_is_named() {
        let (_dir, found) = directory("model.safetensors", b"not tensors at all");
        let error = read_file(&found, &silent()).unwrap_err();
        assert!(error.to_string().starts_with("model.safetensors: "), "{error}");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let (_dir, found) = directory("data.bin", &noise(3 * WINDOW_BYTES));
        let local = found.local.clone();
        let once = Mutex::new(Some(local.clone()));
        let progress: Progress = Arc::new(move |event| {
            if let (Event::Advanced { .. }, Some(path)) = (event, once.lock().unwrap().take()) {
                fs::write(path, b"short now").unwrap();
            }
        });
        let error = read_file(&found, &progress).unwrap_err();
        assert!(matches!(error, ClientError::Changed(path) if path == local));
    }

    #[test]
    fn chunks_are_read_again_as_frames_and_checked() {
        let mut bytes = noise(5 << 20);
        bytes[4 << 20..].fill(7);
        let (_dir, found) = directory("data.bin", &bytes);
        let file = read_file(&found, &silent()).unwrap();
        let mut sources = Sources::default();
        sources.add_file(&file);
        let config = b"{}".to_vec();
        sources.add_bytes(config.clone(), &cut(&config));
        let mut wanted: Vec<ChunkDigest> = file.recipe.pieces().iter().map(|p| p.chunk).collect();
        wanted.push(ChunkDigest::of(&config));
        let whole = [bytes.as_slice(), &config].concat();
        let sizes = [Form::Encoded, Form::Raw].map(|form| {
            let frames = sources.frames(&wanted, form).unwrap();
            let (mut decoder, mut input) = (FrameDecoder::new(), frames.bytes.as_slice());
            let (mut back, mut stored_bytes) = (Vec::new(), 0);
            while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                let stored = StoredChunk::parse(&frame.stored).unwrap();
                back.extend_from_slice(&stored.verify(&frame.chunk).unwrap());
                stored_bytes += frame.stored.len() as u64;
            }
            assert!(back == whole, "{form:?}");
            assert_eq!(stored_bytes, frames.stored_bytes);
            stored_bytes
        });
        assert!(sizes[0] < sizes[1], "{sizes:?}");

        // Same length, other bytes, and the old time: only the digest tells.
        let modified = fs::metadata(&found.local).unwrap().modified().unwrap();
        let mut other = bytes;
        other[0] ^= 1;
        let handle = fs::OpenOptions::new().write(true).open(&found.local).unwrap();
        handle.write_all_at(&other, 0).unwrap();
        handle.set_modified(modified).unwrap();
        assert!(matches!(
            sources.frames(&wanted, Form::Raw),
            Err(ClientError::Changed(_))
        ));
        assert!(matches!(
            sources.frames(&[ChunkDigest::of(b"never seen")], Form::Raw),
            Err(ClientError::Verification { .. })
        ));
    }
}
