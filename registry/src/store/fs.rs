//! A store in a local directory.
//!
//! An object is written to a temporary file, synced, given its name by `link(2)` (which never overwrites)
//! and its directory is synced. A cell is replaced by `rename(2)` under a lock of this process; that no other
//! process writes is the site's lock on its data directory. Staged values are plain writes; many are made
//! durable at once by `syncfs(2)`, which costs one flush however many there are.
//!
//! Budget: `put_if_absent` 2 syncs; `put_all` and `promote` 2 `syncfs` (or 2 syncs each for a few);
//! `swap_cell` 2 syncs; each byte is written once.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use waag_schema::Sha256;

use super::buffers::Buffers;
use super::room::Room;
use super::{Cell, Key, Put, Store, StoreError, Swap, Version};

/// From this many files on one `syncfs` is cheaper than a sync for each file and directory.
const SYNC_ALL_FROM: usize = 12;

/// How often a directory may vanish before it is given up.
const TRIES: usize = 8;

/// Temporary files lie here, on the same file system as what they become.
const TEMPORARY: &str = ".tmp";

/// A store in a directory of the local file system.
#[derive(Debug, Clone)]
pub struct FsStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Numbers temporary files; with the process id they are unique.
    next: AtomicU64,
    buffers: Buffers,
    /// Serialises swaps of cells. Held for the length of a write of a few kilobytes.
    cells: Mutex<()>,
}

impl FsStore {
    /// Opens the store in this directory and makes it where it is missing. Temporary files that an earlier
    /// process left are removed: nothing refers to them.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub fn open(root: &Path) -> io::Result<Self> {
        let temporary = root.join(TEMPORARY);
        fs::create_dir_all(&temporary)?;
        for entry in fs::read_dir(&temporary)? {
            fs::remove_file(entry?.path())?;
        }
        let shared = Shared {
            root: root.to_owned(),
            next: AtomicU64::new(0),
            buffers: Buffers::default(),
            cells: Mutex::new(()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Runs blocking file work off the async threads.
    async fn blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .expect("file work does not panic")
    }
}

fn failed(key: &Key, error: &io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound(key.clone()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full(key.clone())
        }
        _ => StoreError::Unknown {
            key: key.clone(),
            reason: error.to_string(),
        },
    }
}

/// Does it again where a directory vanished in between: it was empty, and [`Shared::delete`] took it away.
fn again<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
    }
    work()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Shared {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn sync_file_system(&self) -> io::Result<()> {
        rustix::fs::syncfs(File::open(&self.root)?).map_err(io::Error::from)
    }

    /// Writes a temporary file. The caller decides whether and when it is synced.
    fn write_temporary(&self, bytes: &[u8]) -> io::Result<(PathBuf, File)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join(TEMPORARY)
            .join(format!("{}-{number}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all(bytes) {
            // Best effort: what stays is removed when the store is next opened.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok((path, file))
    }

    /// Makes the directories above a path, each durable in its parent, and returns the nearest one.
    fn make_parents(&self, path: &Path) -> io::Result<PathBuf> {
        let parent = path.parent().unwrap_or(&self.root).to_owned();
        let mut missing = Vec::new();
        let mut directory = parent.as_path();
        while !directory.is_dir() {
            missing.push(directory);
            directory = directory.parent().unwrap_or(&self.root);
        }
        for directory in missing.iter().rev() {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => sync_directory(directory.parent().unwrap_or(&self.root))?,
            }
        }
        Ok(parent)
    }

    fn put_if_absent(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        let path = self.path(key);
        let put = || -> io::Result<Put> {
            let parent = self.make_parents(&path)?;
            let (temporary, file) = self.write_temporary(bytes)?;
            let linked = file.sync_all().and_then(|()| fs::hard_link(&temporary, &path));
            // A crash before the link leaves an orphan that the next start removes, and no object.
            fs::remove_file(&temporary)?;
            match linked {
                Ok(()) => {
                    // A crash before this sync may lose the name on power loss; nobody was told of it yet.
                    sync_directory(&parent)?;
                    Ok(Put::Created)
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    // Perhaps the name is from a try that ended before its sync; the answer promises that it stays.
                    sync_directory(&parent)?;
                    Ok(Put::Existed)
                }
                Err(error) => Err(error),
            }
        };
        again(put).map_err(|e| failed(key, &e))
    }

    fn put_all(&self, objects: &[(Key, Bytes)]) -> Result<(), StoreError> {
        let check = |key: &Key, bytes: &Bytes| match fs::read(self.path(key)) {
            Ok(found) if found == *bytes => Ok(()),
            Ok(_) => Err(StoreError::Conflict(key.clone())),
            Err(error) => Err(failed(key, &error)),
        };
        if objects.len() < SYNC_ALL_FROM {
            for (key, bytes) in objects {
                if self.put_if_absent(key, bytes)? == Put::Existed {
                    check(key, bytes)?;
                }
            }
            return Ok(());
        }
        let mut temporaries = Vec::with_capacity(objects.len());
        for (key, bytes) in objects {
            temporaries.push(self.write_temporary(bytes).map_err(|e| failed(key, &e))?.0);
        }
        let (first, _) = &objects[0];
        self.sync_file_system().map_err(|e| failed(first, &e))?;
        for ((key, bytes), temporary) in objects.iter().zip(&temporaries) {
            let name = || -> io::Result<bool> {
                let path = self.path(key);
                self.make_parents(&path)?;
                let linked = fs::hard_link(temporary, &path);
                fs::remove_file(temporary)?;
                match linked {
                    Ok(()) => Ok(true),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                    Err(error) => Err(error),
                }
            };
            if !name().map_err(|e| failed(key, &e))? {
                check(key, bytes)?;
            }
        }
        self.sync_file_system().map_err(|e| failed(first, &e))
    }

    fn promote(&self, moves: &[(Key, Key)]) -> Result<(), StoreError> {
        let Some((first, _)) = moves.first() else {
            return Ok(());
        };
        let many = moves.len() >= SYNC_ALL_FROM;
        if many {
            self.sync_file_system().map_err(|e| failed(first, &e))?;
        }
        let mut parents = BTreeSet::new();
        for (from, to) in moves {
            let mut name = || -> io::Result<()> {
                let source = self.path(from);
                if !many {
                    File::open(&source)?.sync_all()?;
                }
                let path = self.path(to);
                parents.insert(self.make_parents(&path)?);
                match fs::hard_link(source, path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                    linked => linked,
                }
            };
            name().map_err(|e| failed(from, &e))?;
        }
        // A crash here leaves named, whole objects that no statement needs yet.
        let synced = if many {
            self.sync_file_system()
        } else {
            parents.iter().try_for_each(|p| sync_directory(p))
        };
        synced.map_err(|e| failed(first, &e))
    }

    fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        match fs::read(self.path(key)) {
            Ok(bytes) => {
                let version = Version(Sha256::of(&bytes).hex());
                Ok(Some(Cell {
                    bytes: bytes.into(),
                    version,
                }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    fn swap_cell(&self, key: &Key, expected: Option<&Version>, bytes: &[u8]) -> Result<Swap, StoreError> {
        let _held = self.cells.lock().expect("no holder of this lock panics");
        if self.read_cell(key)?.map(|c| c.version).as_ref() != expected {
            return Ok(Swap::Lost);
        }
        let swap = || -> io::Result<()> {
            let path = self.path(key);
            let parent = self.make_parents(&path)?;
            let (temporary, file) = self.write_temporary(bytes)?;
            file.sync_all()?;
            // A crash before the rename leaves the old value, one after it the new value; never a mixture.
            fs::rename(&temporary, &path)?;
            sync_directory(&parent)
        };
        swap().map_err(|e| failed(key, &e))?;
        Ok(Swap::Swapped(Version(Sha256::of(bytes).hex())))
    }

    fn stage(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        let stage = || -> io::Result<()> {
            if !Room::of(&self.root)?.takes(bytes.len() as u64) {
                return Err(ErrorKind::StorageFull.into());
            }
            let path = self.path(key);
            let (temporary, _) = self.write_temporary(bytes)?;
            let named = again(|| {
                fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
                fs::rename(&temporary, &path)
            });
            if named.is_err() {
                // Best effort, as above.
                let _ = fs::remove_file(&temporary);
            }
            named
        };
        stage().map_err(|e| failed(key, &e))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        let delete = || -> io::Result<()> {
            fs::remove_file(&path)?;
            if !key.is_of_one_upload() {
                return sync_directory(parent);
            }
            // With the last of an upload goes its directory; before that it refuses, since it is not empty.
            let above = parent.parent().unwrap_or(&self.root);
            if fs::remove_dir(parent).is_ok() {
                return sync_directory(above);
            }
            match sync_directory(parent) {
                Err(error) if error.kind() == ErrorKind::NotFound => sync_directory(above),
                synced => synced,
            }
        };
        match delete() {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(key, &error)),
            _ => Ok(()),
        }
    }

    fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let mut found = Vec::new();
        let start = self.root.join(prefix);
        let mut pending = vec![start];
        let fault = |error: &io::Error| StoreError::Unknown {
            key: Key::listed(prefix.trim_end_matches('/').to_owned()).expect("prefixes are made by `Key`"),
            reason: error.to_string(),
        };
        while let Some(directory) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(fault(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| fault(&e))?;
                let path = entry.path();
                if entry.file_type().map_err(|e| fault(&e))?.is_dir() {
                    pending.push(path);
                } else if let Some(key) = path
                    .strip_prefix(&self.root)
                    .ok()
                    .and_then(Path::to_str)
                    .and_then(|p| Key::listed(p.to_owned()))
                {
                    found.push(key);
                }
            }
        }
        found.sort();
        Ok(found
            .into_iter()
            .filter(|key| after.is_none_or(|a| key > a))
            .take(limit)
            .collect())
    }
}

#[async_trait]
impl Store for FsStore {
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        let key = key.clone();
        self.blocking(move |s| s.put_if_absent(&key, &bytes)).await
    }

    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError> {
        self.blocking(move |s| s.put_all(&objects)).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.blocking(move |s| {
            let read = || -> io::Result<Bytes> {
                let mut file = File::open(s.path(&key))?;
                let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
                // One byte more, so that its end is found without the buffer being grown.
                let mut bytes = s.buffers.take(length.saturating_add(1));
                file.read_to_end(&mut bytes)?;
                Ok(s.buffers.lend(bytes))
            };
            read().map_err(|e| failed(&key, &e))
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.blocking(move |s| {
            let read = || -> io::Result<Bytes> {
                let mut file = File::open(s.path(&key))?;
                let length = range
                    .end
                    .checked_sub(range.start)
                    .filter(|_| range.end <= file.metadata().map_or(0, |m| m.len()));
                let length = length.ok_or(ErrorKind::InvalidInput)?;
                let room = usize::try_from(length).map_err(|_| ErrorKind::InvalidInput)?;
                file.seek(SeekFrom::Start(range.start))?;
                let mut bytes = s.buffers.take(room);
                if file.take(length).read_to_end(&mut bytes)? < room {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(s.buffers.lend(bytes))
            };
            read().map_err(|e| failed(&key, &e))
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let key = key.clone();
        self.blocking(move |s| match fs::metadata(s.path(&key)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&key, &error)),
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |s| s.list(&prefix, after.as_ref(), limit))
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let key = key.clone();
        self.blocking(move |s| s.delete(&key)).await
    }

    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        let key = key.clone();
        self.blocking(move |s| s.read_cell(&key)).await
    }

    async fn swap_cell(
        &self,
        key: &Key,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Swap, StoreError> {
        let (key, expected) = (key.clone(), expected.cloned());
        self.blocking(move |s| s.swap_cell(&key, expected.as_ref(), &bytes))
            .await
    }

    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let key = key.clone();
        self.blocking(move |s| s.stage(&key, &bytes)).await
    }

    async fn has_room(&self) -> Result<bool, StoreError> {
        self.blocking(|s| {
            let room = Room::of(&s.root).map_err(|error| StoreError::Unknown {
                key: Key::listed(TEMPORARY.to_owned()).expect("a plain name"),
                reason: error.to_string(),
            })?;
            Ok(room.takes(0))
        })
        .await
    }

    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError> {
        self.blocking(move |s| s.promote(&moves)).await
    }
}
