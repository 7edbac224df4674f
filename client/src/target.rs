//! The directory that a pull fills: nothing is written outside it, nothing half-done is seen in it.
//!
//! A file is built as `.waag/partial/<digest>` and gets its name by a rename, once all its bytes were checked
//! and are on disk. What a broken pull left there is compared and used by the next. Directories on the way to
//! a file must be directories, not links: a link that lay there before would lead out.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use waag_schema::content::Recipe;
use waag_schema::{ChunkDigest, FilePath, Sha256};

use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::home::sync_dir;
use crate::kept::KEPT_DIR;

/// The directory, locked against a second pull.
pub(crate) struct Target {
    root: PathBuf,
    _lock: File,
}

/// Where bytes of a chunk belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) file: Sha256,
    /// Where in the file.
    pub(crate) offset: u64,
    /// Which bytes of the chunk.
    pub(crate) within: std::ops::Range<usize>,
}

impl Target {
    /// Opens a directory, which is made if it is not there.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(ClientError::io("make the directory", root))?;
        let kept = root.join(KEPT_DIR);
        for dir in [kept.clone(), kept.join("partial")] {
            make_plain_dir(&dir)?;
        }
        let path = kept.join("lock");
        let lock = open_to_write(&path)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ClientError::Usage(format!("another pull into {} is under way", root.display())))?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn partial(&self, file: &Sha256) -> PathBuf {
        self.root.join(KEPT_DIR).join("partial").join(file.hex())
    }

    /// Returns the place of a file; directories on the way are made.
    fn place(&self, path: &FilePath) -> Result<PathBuf> {
        let mut place = self.root.clone();
        let mut parts = path.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            place.push(part);
            if parts.peek().is_some() {
                make_plain_dir(&place)?;
            }
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

    /// Says whether a file is there already with exactly these bytes.
    pub(crate) fn holds(&self, path: &FilePath, recipe: &Recipe, progress: &Progress) -> Result<bool> {
        let place = self.place(path)?;
        let Some(file) = open_regular(&place, recipe.size())? else {
            return Ok(false);
        };
        for (offset, length, chunk) in spans(recipe) {
            if !has_chunk(&file, offset, length, chunk) {
                return Ok(false);
            }
            progress(Event::Advanced {
                phase: Phase::Compare,
                bytes: length as u64,
            });
        }
        Ok(true)
    }

    /// Begins, or goes on with, building a file; returns what it still lacks. Bytes that stand where they
    /// belong in what a broken pull left, or in an earlier version of the file, are used.
    pub(crate) fn begin(
        &self,
        path: &FilePath,
        file: &Sha256,
        recipe: &Recipe,
    ) -> Result<Vec<(ChunkDigest, Slot)>> {
        let partial = self.partial(file);
        let resumed = open_regular(&partial, recipe.size())?;
        let earlier = open_any(&self.place(path)?)?;
        let building = open_to_write(&partial)?;
        building
            .set_len(recipe.size())
            .map_err(ClientError::io("write", &partial))?;
        let mut lacking = Vec::new();
        let mut offset = 0;
        for piece in recipe.pieces() {
            let length = piece.length as usize;
            let whole = piece.offset == 0;
            let is_there = |source: &File| whole && has_chunk(source, offset, length, &piece.chunk);
            let there = match (&resumed, &earlier) {
                (Some(source), _) if is_there(source) => true,
                (_, Some(source)) if is_there(source) => copy(source, &building, offset, length)
                    .map(|()| true)
                    .map_err(ClientError::io("write", &partial))?,
                _ => false,
            };
            if !there {
                let start = piece.offset as usize;
                lacking.push((
                    piece.chunk,
                    Slot {
                        file: *file,
                        offset,
                        within: start..start + length,
                    },
                ));
            }
            offset += u64::from(piece.length);
        }
        Ok(lacking)
    }

    /// Writes a chunk's bytes, which were checked, where they belong.
    pub(crate) fn write(&self, raw: &[u8], slot: &Slot) -> Result<()> {
        let partial = self.partial(&slot.file);
        let bytes = raw.get(slot.within.clone()).ok_or_else(|| {
            ClientError::verification(
                "recipe",
                format_args!("a chunk of {} bytes is too short for it", raw.len()),
            )
        })?;
        let file = open_to_write(&partial)?;
        file.write_all_at(bytes, slot.offset)
            .map_err(ClientError::io("write", &partial))
    }

    /// Gives a complete file its first name, and copies of it the others.
    pub(crate) fn finish(&self, file: &Sha256, paths: &[FilePath]) -> Result<()> {
        let Some((first, others)) = paths.split_first() else {
            return Ok(());
        };
        self.name(file, first)?;
        self.copy_to(file, first, others)
    }

    /// Gives copies of a file that is there already further names.
    pub(crate) fn copy_to(&self, file: &Sha256, from: &FilePath, paths: &[FilePath]) -> Result<()> {
        let source = self.place(from)?;
        for path in paths {
            let partial = self.partial(file);
            // Made anew, so that it is not written through a link.
            let _ = fs::remove_file(&partial);
            fs::copy(&source, &partial).map_err(ClientError::io("copy to", &partial))?;
            self.name(file, path)?;
        }
        Ok(())
    }

    fn name(&self, file: &Sha256, path: &FilePath) -> Result<()> {
        let (partial, place) = (self.partial(file), self.place(path)?);
        let building = File::open(&partial).map_err(ClientError::io("open", &partial))?;
        building.sync_all().map_err(ClientError::io("sync", &partial))?;
        fs::rename(&partial, &place).map_err(ClientError::io("name", &place))?;
        // A crash before this may lose the name; the next pull finds the file under one of the two.
        sync_dir(place.parent().unwrap_or(&self.root))
    }

    /// Removes what only a pull under way needs.
    pub(crate) fn tidy(&self) {
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
    Err(ClientError::Usage(format!(
        "{} is in the way: a directory of this name is needed",
        dir.display()
    )))
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
fn open_any(place: &Path) -> Result<Option<File>> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_file() => File::open(place)
            .map(Some)
            .map_err(ClientError::io("open", place)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(ClientError::io("read", place)(e)),
    }
}

fn open_regular(place: &Path, size: u64) -> Result<Option<File>> {
    let Some(file) = open_any(place)? else {
        return Ok(None);
    };
    let meta = file.metadata().map_err(ClientError::io("read", place))?;
    Ok((meta.len() == size).then_some(file))
}

/// Where each piece lies in the file; a piece of part of a chunk has no digest to be compared with.
fn spans(recipe: &Recipe) -> impl Iterator<Item = (u64, usize, &ChunkDigest)> {
    let mut end = 0;
    recipe.pieces().iter().map(move |piece| {
        let offset = end;
        end += u64::from(piece.length);
        (offset, piece.length as usize, &piece.chunk)
    })
}

fn has_chunk(file: &File, offset: u64, length: usize, chunk: &ChunkDigest) -> bool {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).is_ok() && ChunkDigest::of(&bytes) == *chunk
}

fn copy(from: &File, to: &File, offset: u64, length: usize) -> std::io::Result<()> {
    let mut bytes = vec![0; length];
    from.read_exact_at(&mut bytes, offset)?;
    to.write_all_at(&bytes, offset)
}
