//! Files on this disk, read once: SHA-256 of the whole, cuts, and BLAKE3 of each chunk, in one pass.
//!
//! Budget: each byte is read once and hashed twice (of packed files three times); memory is one window of 8 MiB a
//! layer, and as many layers are read at once as there are cores. A file that changes is noticed: its inode, length and time are
//! compared before and after, and each chunk that is read again to be sent must still have its digest.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::planner::{CHUNK_MAX, PlanError};
use waag_schema::content::recipe::{RecipeBuilder, RecipeError};
use waag_schema::content::safetensors::Header;
use waag_schema::content::{ChunkPlan, PlannerId, Recipe};
use waag_schema::release::Arrangement;
use waag_schema::{ChunkDigest, FilePath, Sha256};

use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::packed::{ReadTar, read_tar};
use crate::scan::{Found, ScanError};

/// Two of the largest chunks: half of it stays valid while the other half is filled.
const WINDOW_BYTES: usize = 2 * CHUNK_MAX;
/// How a pointer of Git LFS begins, and how long it is at most.
const POINTER: &[u8; 43] = b"version https://git-lfs.github.com/spec/v1\n";
const POINTER_MAX_BYTES: u64 = 1024;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
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
    pub(crate) stamp: Stamp,
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

/// The files of a scan, read: those that are layers of their own, and tars of the others.
#[derive(Debug, Clone, Default)]
pub struct ReadSet {
    /// Files of their own, by path.
    pub files: Vec<ReadFile>,
    /// Tars of small files, in the order of the paths in them.
    pub tars: Vec<ReadTar>,
}

enum Task {
    File(Found),
    Tar(Vec<Found>),
}

enum Done {
    File(ReadFile),
    Tar(ReadTar),
}

/// Reads all files of a scan as the layers that a release makes of them, several layers at once.
///
/// # Errors
/// When a file cannot be read, changes meanwhile, or is called safetensors and is not.
pub async fn read_all(files: Vec<Found>, progress: &Progress) -> Result<ReadSet> {
    let (items, bytes) = (
        files.len() as u64,
        files.iter().map(|f| f.size).fold(0, u64::saturating_add),
    );
    progress(Event::Began {
        phase: Phase::Read,
        items,
        bytes,
    });
    let mut set = ReadSet::default();
    let mut reading = stream::iter(tasks(files))
        .map(|task| {
            let progress = Arc::clone(progress);
            blocking(move || match task {
                Task::File(found) => read_file(&found, &progress).map(Done::File),
                Task::Tar(members) => read_tar(members, &progress).map(Done::Tar),
            })
        })
        .buffered(cores());
    while let Some(done) = reading.try_next().await? {
        match done {
            Done::File(file) => set.files.push(file),
            Done::Tar(tar) => set.tars.push(tar),
        }
    }
    progress(Event::Ended { phase: Phase::Read });
    Ok(set)
}

/// What there is to read; the tars first, since they take longest.
fn tasks(files: Vec<Found>) -> Vec<Task> {
    let sizes: Vec<_> = files.iter().map(|file| (&file.path, file.size)).collect();
    let arrangement = Arrangement::of(&sizes);
    let mut files: Vec<Option<Found>> = files.into_iter().map(Some).collect();
    let mut tasks = Vec::new();
    for tar in arrangement.tars {
        tasks.push(Task::Tar(
            tar.into_iter().filter_map(|at| files[at].take()).collect(),
        ));
    }
    let alone = arrangement.alone.into_iter().filter_map(|at| files[at].take());
    tasks.extend(alone.map(Task::File));
    tasks
}

/// Cuts and hashes bytes that stream by: a file's, or a tar's.
pub(crate) struct Cutter {
    plan: ChunkPlan,
    recipe: RecipeBuilder,
    hasher: Sha256Hasher,
    window: Vec<u8>,
    filled: usize,
}

/// What a stream of bytes has turned out to be.
pub(crate) struct Cut {
    pub(crate) sha256: Sha256,
    pub(crate) recipe: Recipe,
    pub(crate) header: Option<Header>,
}

/// Bytes cannot be cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

impl Cutter {
    pub(crate) fn new(plan: ChunkPlan) -> Self {
        Self {
            recipe: RecipeBuilder::new(plan.planner()),
            plan,
            hasher: Sha256Hasher::default(),
            window: vec![0; WINDOW_BYTES],
            filled: 0,
        }
    }

    /// Where the next bytes go; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.window[self.filled..]
    }

    /// Says that so many bytes were put into the space.
    pub(crate) fn advance(&mut self, length: usize) -> Result<(), CutError> {
        let end = self.filled + length;
        self.hasher.update(&self.window[self.filled..end]);
        self.filled = end;
        if end == WINDOW_BYTES {
            self.cut(false)?;
        }
        Ok(())
    }

    /// Takes bytes that lie elsewhere.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), CutError> {
        while !bytes.is_empty() {
            let space = self.space();
            let (now, rest) = bytes.split_at(bytes.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            self.advance(now.len())?;
            bytes = rest;
        }
        Ok(())
    }

    /// A full window always has a cut; half of it stays valid at most.
    fn cut(&mut self, at_end: bool) -> Result<(), CutError> {
        let mut taken = 0;
        while let Some(length) = self.plan.next_len(&self.window[taken..self.filled], at_end)? {
            let chunk = ChunkDigest::of(&self.window[taken..taken + length]);
            self.recipe.push_chunk(chunk, length)?;
            taken += length;
        }
        self.window.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Cut, CutError> {
        self.cut(true)?;
        Ok(Cut {
            sha256: self.hasher.finish(),
            header: self.plan.header().cloned(),
            recipe: self.recipe.finish(),
        })
    }
}

/// A file that is open for reading, and what it was then.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) stamp: Stamp,
    local: PathBuf,
}

impl Opened {
    pub(crate) fn open(local: &Path) -> Result<Self> {
        let file = File::open(local).map_err(ClientError::io("open", local))?;
        let meta = file.metadata().map_err(ClientError::io("read", local))?;
        // Between the scan and now it may have become a pipe, which would never end.
        if !meta.is_file() {
            return Err(ScanError::Special(local.to_owned()).into());
        }
        Ok(Self {
            file,
            stamp: Stamp::of(&meta),
            local: local.to_owned(),
        })
    }

    /// Checks the open file, and what stands under its name now: both must be what was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let open = self
            .file
            .metadata()
            .map_err(ClientError::io("read", &self.local))?;
        let named = std::fs::metadata(&self.local).map_err(|_| ClientError::Changed(self.local.clone()))?;
        if Stamp::of(&open) != self.stamp || Stamp::of(&named) != self.stamp {
            return Err(ClientError::Changed(self.local.clone()));
        }
        Ok(())
    }
}

/// Reads one file.
///
/// # Errors
/// As for [`read_all`].
pub fn read_file(found: &Found, progress: &Progress) -> Result<ReadFile> {
    let local = &found.local;
    let mut opened = Opened::open(local)?;
    let stamp = opened.stamp;
    refuse_pointer(&opened, &found.path)?;
    let bad = |error| refused(found, stamp, error);
    let mut cutter = Cutter::new(ChunkPlan::for_file(&found.path, Some(stamp.size)));
    loop {
        let read = opened
            .file
            .read(cutter.space())
            .map_err(ClientError::io("read", local))?;
        if read == 0 {
            break;
        }
        cutter.advance(read).map_err(bad)?;
        progress(Event::Advanced {
            phase: Phase::Read,
            bytes: read as u64,
        });
    }
    let cut = cutter.finish().map_err(bad)?;
    opened.check_unchanged()?;
    progress(Event::Done {
        phase: Phase::Read,
        path: found.path.to_string(),
    });
    Ok(ReadFile {
        path: found.path.clone(),
        local: local.clone(),
        sha256: cut.sha256,
        size: cut.recipe.size(),
        header: cut.header,
        recipe: cut.recipe,
        stamp,
    })
}

/// Checks that the first bytes of a file are not those of one that stands for another, which was not fetched.
pub(crate) fn refuse_pointer(opened: &Opened, path: &FilePath) -> Result<()> {
    if opened.stamp.size > POINTER_MAX_BYTES {
        return Ok(());
    }
    let mut first = [0; POINTER.len()];
    match opened.file.read_exact_at(&mut first, 0) {
        Ok(()) if first == *POINTER => Err(ClientError::LfsPointer(path.clone())),
        // A shorter file; or the disk fails, which reading it says.
        _ => Ok(()),
    }
}

/// A file of another length than when it was opened has changed; everything else is wrong with its content.
fn refused(found: &Found, stamp: Stamp, error: CutError) -> ClientError {
    match error {
        CutError::Plan(PlanError::Size { expected, .. }) if expected == stamp.size => {
            ClientError::Changed(found.local.clone())
        }
        error => ClientError::Format {
            path: found.path.clone(),
            reason: error.to_string(),
        },
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

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;
    use crate::event::silent;
    use crate::scan::{Links, Scan};

    /// Bytes that no two windows share.
    pub(crate) fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    pub(crate) fn directory(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Found) {
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
        assert!(matches!(error, ClientError::Format { .. }), "{error:?}");
        assert!(error.to_string().starts_with("model.safetensors: "), "{error}");
    }

    #[test]
    fn a_pointer_to_a_file_is_not_the_file() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
        let (_dir, found) = directory("model.safetensors", pointer);
        let error = read_file(&found, &silent()).unwrap_err();
        assert!(matches!(error, ClientError::LfsPointer(_)), "{error}");
        for text in ["version https://git-lfs.github.com/spec/v10", "version"] {
            let (_dir, found) = directory("notes.txt", text.as_bytes());
            read_file(&found, &silent()).unwrap();
        }
        let long = [pointer.as_slice(), &[b'x'; 1024]].concat();
        let (_dir, found) = directory("notes.txt", &long);
        read_file(&found, &silent()).unwrap();
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
}
