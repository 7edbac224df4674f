//! The directory that a pull fills: nothing is written outside it, nothing half-done is seen in it.
//!
//! A file is built as `.waag/partial/<key>` and gets its name by a rename, once all its bytes were checked
//! and are on disk. What a broken pull left there is compared and used by the next. Directories on the way to
//! a file must be directories, not links: a link that lay there before would lead out.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use waag_schema::{FilePath, Sha256};

use crate::error::{ClientError, Result};
use crate::home::sync_dir;
use crate::kept::{KEPT_DIR, end_journal, note};

/// From this many files or directories on, one `syncfs` is cheaper than a sync for each.
const SYNC_ALL_FROM: usize = 12;

/// The directory; locked against a second pull, if it may be written to.
pub(crate) struct Target {
    root: PathBuf,
    _lock: Option<File>,
    /// Directories below the root that were seen to be directories.
    plain: Mutex<HashSet<PathBuf>>,
}

/// A file that is complete, and the name that it gets.
pub(crate) struct Finished {
    /// Where it was built.
    pub(crate) built: PathBuf,
    /// Its name.
    pub(crate) path: FilePath,
    /// Its digest.
    pub(crate) digest: Sha256,
}

impl Target {
    /// Opens a directory, which is made if it is not there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(ClientError::io("make the directory", root))?;
        let kept = root.join(KEPT_DIR);
        for dir in [kept.clone(), kept.join("partial")] {
            make_plain_dir(&dir)?;
        }
        let lock = open_to_write(&kept.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ClientError::Usage(format!("another pull into {} is under way", root.display())))?;
        Ok(Self {
            root: root.to_owned(),
            _lock: Some(lock),
            plain: Mutex::default(),
        })
    }

    /// Looks at a directory that may not be there, and leaves it as it is.
    pub(crate) fn look(root: &Path) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            _lock: None,
            plain: Mutex::default(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where an output is built.
    pub(crate) fn partial(&self, key: &Sha256) -> PathBuf {
        self.root.join(KEPT_DIR).join("partial").join(key.hex())
    }

    /// Returns the place of a file, without making anything.
    ///
    /// # Errors
    /// When something is in the way: a link or a file where a directory must be, or the reverse.
    pub(crate) fn place(&self, path: &FilePath) -> Result<PathBuf> {
        self.walk(path, |dir| match fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_dir() => Ok(true),
            Ok(_) => Err(in_the_way(dir)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(ClientError::io("read", dir)(e)),
        })
    }

    /// Returns the place of a file; directories on the way are made.
    fn make_place(&self, path: &FilePath) -> Result<PathBuf> {
        self.walk(path, |dir| make_plain_dir(dir).map(|()| true))
    }

    /// Goes down to a file; `enter` says whether a directory that was not seen before is there.
    fn walk(&self, path: &FilePath, mut enter: impl FnMut(&Path) -> Result<bool>) -> Result<PathBuf> {
        let place = self.root.join(path.as_str());
        let mut dir = self.root.clone();
        let mut parts = path.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                break;
            }
            dir.push(part);
            let known = |plain: &Mutex<HashSet<PathBuf>>| {
                plain
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(&dir)
            };
            if known(&self.plain) {
                continue;
            }
            if !enter(&dir)? {
                return Ok(place);
            }
            self.plain
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(dir.clone());
        }
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => Err(ClientError::Usage(format!(
                "{} is a directory, a file of this name is to be written",
                place.display()
            ))),
            Ok(_) => Ok(place),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(place),
            Err(e) => Err(ClientError::io("read", place)(e)),
        }
    }

    /// Opens the file in which an output is built, which is made if it is not there, and gives it its length.
    /// Says whether it was made now: then it holds nothing but zeros.
    pub(crate) fn build(&self, key: &Sha256, size: u64) -> Result<(File, bool)> {
        let partial = self.partial(key);
        let file = open_to_write(&partial)?;
        let found = file.metadata().map_err(ClientError::io("read", &partial))?.len();
        if found != size {
            file.set_len(size).map_err(ClientError::io("write", &partial))?;
        }
        Ok((file, found == 0))
    }

    /// Opens what an earlier pull has built of an output, if it has its length.
    pub(crate) fn resumed(&self, key: &Sha256, size: u64) -> Result<Option<File>> {
        open_regular(&self.partial(key), size)
    }

    /// Checks that so many bytes fit, as far as can be known: better now than after hours.
    ///
    /// # Errors
    /// [`ClientError::NoRoom`].
    pub(crate) fn check_room(&self, needed: u64) -> Result<()> {
        let stat =
            rustix::fs::statvfs(&self.root).map_err(|e| ClientError::io("read", &self.root)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed <= free {
            return Ok(());
        }
        Err(ClientError::NoRoom {
            directory: self.root.clone(),
            needed,
            free,
        })
    }

    /// Makes a copy of a file that is there, to be named in turn.
    pub(crate) fn copy(&self, from: &Path, key: &Sha256, number: usize) -> Result<PathBuf> {
        let copy = self.partial(key).with_extension(number.to_string());
        // Made anew, so that it is not written through a link.
        let _ = fs::remove_file(&copy);
        fs::copy(from, &copy).map_err(ClientError::io("copy to", &copy))?;
        Ok(copy)
    }

    /// Makes complete files durable, all together, and only then gives them their names.
    pub(crate) fn name(&self, finished: &[Finished]) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        let journal = note(&self.root, finished.iter().map(|one| (&one.digest, &one.path)))?;
        if finished.len() < SYNC_ALL_FROM {
            journal
                .sync_all()
                .map_err(ClientError::io("sync", self.root.join(KEPT_DIR)))?;
            for Finished { built, .. } in finished {
                let file = File::open(built).map_err(ClientError::io("open", built))?;
                file.sync_all().map_err(ClientError::io("sync", built))?;
            }
        } else {
            self.sync_all()?;
        }
        // If we stop here, or between two names, the next pull finds each file under one of the two.
        let mut dirs = BTreeSet::new();
        for Finished { built, path, .. } in finished {
            let place = self.make_place(path)?;
            fs::rename(built, &place).map_err(ClientError::io("name", &place))?;
            let above = place.ancestors().skip(1);
            dirs.extend(
                above
                    .take_while(|dir| dir.starts_with(&self.root))
                    .map(Path::to_owned),
            );
        }
        if dirs.len() < SYNC_ALL_FROM {
            dirs.iter().try_for_each(|dir| sync_dir(dir))
        } else {
            self.sync_all()
        }
    }

    fn sync_all(&self) -> Result<()> {
        let root = File::open(&self.root).map_err(ClientError::io("open", &self.root))?;
        rustix::fs::syncfs(root).map_err(|e| ClientError::io("sync", &self.root)(e.into()))
    }

    /// Removes a file, and the directories on the way to it that nothing else lies in; durable when this returns.
    pub(crate) fn remove(&self, path: &FilePath) -> Result<()> {
        let place = self.place(path)?;
        fs::remove_file(&place).map_err(ClientError::io("remove", &place))?;
        let below = |dir: &&Path| dir.starts_with(&self.root) && **dir != *self.root;
        let mut above = place.ancestors().skip(1).take_while(below);
        let left = above.find(|dir| fs::remove_dir(dir).is_err());
        sync_dir(left.unwrap_or(&self.root))
    }

    /// Removes what only a pull under way needs.
    pub(crate) fn tidy(&self) {
        end_journal(&self.root);
        // Left behind, all of it is harmless: partial files of other versions are resumed or stay.
        let _ = fs::remove_dir(self.root.join(KEPT_DIR).join("partial"));
        let _ = fs::remove_file(self.root.join(KEPT_DIR).join("lock"));
    }
}

/// Makes a directory unless it is there; anything else of its name is refused, a link to a directory too.
fn make_plain_dir(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(ClientError::io("make the directory", dir)(e)),
    }
    let meta = fs::symlink_metadata(dir).map_err(ClientError::io("read", dir))?;
    if meta.is_dir() {
        return Ok(());
    }
    Err(in_the_way(dir))
}

fn in_the_way(dir: &Path) -> ClientError {
    ClientError::Usage(format!(
        "{} is in the way: a directory of this name is needed",
        dir.display()
    ))
}

/// Opens a file of ours, which is made if it is not there; never through a link.
fn open_to_write(path: &Path) -> Result<File> {
    // Nor is a pipe waited for: without a reader, opening it fails at once.
    let no_links = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
        .bits()
        .cast_signed();
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(no_links)
        .open(path)
        .map_err(ClientError::io("open", path))
}

/// Opens what stands at a place if it is a regular file, itself and not by a link.
pub(crate) fn open_any(place: &Path) -> Result<Option<File>> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_file() => File::open(place)
            .map(Some)
            .map_err(ClientError::io("open", place)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ClientError::io("read", place)(e)),
    }
}

/// Opens it if it has this length.
pub(crate) fn open_regular(place: &Path, size: u64) -> Result<Option<File>> {
    let Some(file) = open_any(place)? else {
        return Ok(None);
    };
    let meta = file.metadata().map_err(ClientError::io("read", place))?;
    Ok((meta.len() == size).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_before_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::look(dir.path()).unwrap();
        target.check_room(0).unwrap();
        let error = target.check_room(u64::MAX).unwrap_err();
        assert!(matches!(error, ClientError::NoRoom { .. }), "{error}");
    }
}
