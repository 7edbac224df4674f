//! A cache of chunks that all pulls on one machine share.
//!
//! ```text
//! <directory>/<first 2 hex digits>/<the other 62>     one chunk, its raw bytes; its time is that of its last use
//! ```
//! Bounded, and for small things only: a pull that fetches more than a quarter of the bound keeps nothing of
//! it, so weights are not on the disk twice. Nothing in it is believed: a chunk must have its digest when it
//! is read, and goes if it has not. Any number of processes may use it at once; it may be deleted at any time;
//! and what cannot be written is not kept, which is no error: whoever wants to say so asks first.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use waag_schema::ChunkDigest;
use waag_schema::content::CHUNK_MAX;

use crate::error::{ClientError, Result};

/// How large the cache may grow unless somebody says otherwise: 2 GiB.
pub const CACHE_MAX_BYTES: u64 = 2 << 30;
/// A single pull fills no more than this part of it.
const SHARE: u64 = 4;

/// A directory of chunks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChunkCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    limit_bytes: u64,
    /// Whether something was added since it was last made to fit.
    grown: AtomicBool,
    /// Numbers temporary files; with the process id they are unique.
    next: AtomicU64,
}

impl ChunkCache {
    /// Uses this directory; it is made when something is first kept in it.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, limit_bytes: u64) -> Self {
        let shared = Shared {
            root: root.into(),
            limit_bytes,
            grown: AtomicBool::new(false),
            next: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Checks that something can be kept here, as far as that can be seen without keeping anything.
    ///
    /// # Errors
    /// [`ClientError::Io`] when there is something that is no directory, or one that cannot be written to.
    pub fn check(&self) -> Result<()> {
        let root = &self.shared.root;
        // What is not there is made in the first directory above it.
        let there = root.ancestors().find(|dir| fs::symlink_metadata(dir).is_ok());
        let there = there
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let looked = fs::read_dir(there).map(drop);
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        looked
            .and_then(|()| Ok(rustix::fs::access(there, access)?))
            .map_err(ClientError::io("keep chunks in", root))
    }

    /// Says whether a pull that fetches so much is kept.
    pub(crate) fn takes(&self, bytes: u64) -> bool {
        bytes <= self.shared.limit_bytes / SHARE
    }

    fn path(&self, chunk: &ChunkDigest) -> PathBuf {
        let hex = chunk.hex();
        let (first, rest) = hex.split_at(2);
        self.shared.root.join(first).join(rest)
    }

    /// Says whether a chunk seems to be there.
    pub(crate) fn has(&self, chunk: &ChunkDigest) -> bool {
        self.path(chunk).is_file()
    }

    /// Returns a chunk's bytes, which have its digest.
    pub(crate) fn get(&self, chunk: &ChunkDigest) -> Option<Vec<u8>> {
        let path = self.path(chunk);
        let file = File::open(&path).ok()?;
        let mut raw = Vec::new();
        (&file).take(CHUNK_MAX as u64 + 1).read_to_end(&mut raw).ok()?;
        if ChunkDigest::of(&raw) != *chunk {
            // Damaged on this disk: it is fetched again.
            let _ = fs::remove_file(&path);
            return None;
        }
        touch(&file);
        Some(raw)
    }

    /// Keeps a chunk, whose digest was checked.
    pub(crate) fn put(&self, chunk: &ChunkDigest, raw: &[u8]) {
        let path = self.path(chunk);
        if path.exists() {
            return;
        }
        let put = || {
            let dir = path.parent().unwrap_or(&self.shared.root);
            fs::create_dir_all(dir)?;
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let temporary = dir.join(format!(".{}.{number}.new", std::process::id()));
            let written = File::create(&temporary).and_then(|mut file| file.write_all(raw).map(|()| file));
            // Not synced: what a crash leaves is found by its digest.
            let named = written.and_then(|_| fs::rename(&temporary, &path));
            if named.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            named
        };
        if put().is_ok() {
            self.shared.grown.store(true, Ordering::Release);
        }
    }

    /// Removes what was used longest ago until the rest fits.
    pub(crate) fn fit(&self) {
        if !self.shared.grown.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut found = list(&self.shared.root);
        let mut sum: u64 = found.iter().map(|(_, size, _)| size).sum();
        found.sort_unstable();
        for (_, size, path) in found {
            if sum <= self.shared.limit_bytes {
                return;
            }
            // Gone already when another process makes room at the same time.
            let _ = fs::remove_file(path);
            sum = sum.saturating_sub(size);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when a file was used last is the file system's time, not ours to simulate"
)]
fn touch(file: &File) {
    // A cache that cannot be written to still serves.
    let _ = file.set_modified(SystemTime::now());
}

/// Returns all files of the cache, the time of their last use first.
fn list(root: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries(root).flat_map(|dir| entries(&dir.path()));
    files
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_can_keep_nothing_says_so_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let check = |root: &Path| ChunkCache::new(root, 1000).check();
        check(dir.path()).unwrap();
        check(&dir.path().join("not/there/yet")).unwrap();
        check(&file).unwrap_err();
        check(&file.join("below")).unwrap_err();
        assert!(!dir.path().join("not").exists());
    }

    #[test]
    fn a_damaged_chunk_is_dropped_and_an_old_one_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ChunkCache::new(dir.path().join("chunks"), 2500);
        let chunks: Vec<Vec<u8>> = (0..3_u8).map(|i| vec![i; 1000]).collect();
        let name = |i: usize| ChunkDigest::of(&chunks[i]);
        for (i, raw) in chunks.iter().enumerate() {
            assert!(cache.get(&name(i)).is_none());
            cache.put(&name(i), raw);
            let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64);
            File::open(cache.path(&name(i)))
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        // Used now, so the second one is the oldest.
        assert_eq!(cache.get(&name(0)).unwrap(), chunks[0]);
        cache.fit();
        assert!(cache.has(&name(0)) && !cache.has(&name(1)) && cache.has(&name(2)));

        fs::write(cache.path(&name(2)), b"damaged").unwrap();
        assert!(cache.get(&name(2)).is_none() && !cache.has(&name(2)));
        assert!(cache.takes(625) && !cache.takes(626));
    }
}
