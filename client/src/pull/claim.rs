//! Whose files are these? Nothing that did not come from a pull is replaced unless somebody insists, or ever removed.
//!
//! A directory may be filled when it is empty, or when an earlier pull of the same artifact (finished or not)
//! filled it. A file may be replaced when it is what an earlier pull put there: it has not changed since the
//! proof was kept, or its digest is one that the proof, or the journal of a pull that did not end, names.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use waag_schema::base::digest::Sha256Hasher;
use waag_schema::release::Files;
use waag_schema::{ArtifactName, FilePath, Sha256};

use super::target::{Target, open_any};
use crate::error::{ClientError, Result};
use crate::kept::{Journal, KEPT_DIR, Kept, proof_path};

/// Reading gains nothing from more at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Files of earlier pulls that a release has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stale {
    /// As they came: nobody misses them.
    pub(crate) ours: Vec<FilePath>,
    /// Changed since.
    pub(crate) changed: Vec<FilePath>,
}

/// What earlier pulls have put into a directory, as far as is known.
#[derive(Default)]
pub(crate) struct Claim {
    /// What the last pull that ended has kept.
    pub(crate) kept: Option<Kept>,
    files: HashMap<String, (Sha256, u64)>,
    journal: Journal,
    /// When the proof was kept: seconds and nanoseconds of its last change.
    at: Option<(i64, i64)>,
}

impl Claim {
    /// Looks at a directory.
    ///
    /// # Errors
    /// [`ClientError::Occupied`] when it holds something else, unless `force` says to take it all the same.
    pub(crate) fn of(root: &Path, artifact: &ArtifactName, force: bool) -> Result<Self> {
        let occupied = |holds: String| ClientError::Occupied {
            directory: root.to_owned(),
            holds,
        };
        let first = match fs::read_dir(root) {
            Ok(mut entries) => entries.next(),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(ClientError::io("list", root)(e)),
        };
        if first.is_none() {
            return Ok(Self::default());
        }
        if !root.join(KEPT_DIR).is_dir() {
            if force {
                return Ok(Self::default());
            }
            return Err(occupied("files that no pull has put there".to_owned()));
        }
        // A proof that cannot be read says nothing about any file.
        let Ok(kept) = Kept::read(root) else {
            return Ok(Self {
                journal: Journal::read(root),
                ..Self::default()
            });
        };
        if kept.artifact != *artifact && !force {
            return Err(occupied(kept.artifact.to_string()));
        }
        let changed = |meta: Metadata| (meta.ctime(), meta.ctime_nsec());
        Ok(Self {
            files: kept.digests(root),
            journal: Journal::read(root),
            at: fs::metadata(proof_path(root)).ok().map(changed),
            kept: Some(kept),
        })
    }

    /// Checks that files which are about to be replaced came from a pull and are as they came.
    ///
    /// # Errors
    /// [`ClientError::Modified`] with those of which that is not known.
    pub(crate) fn check<'p>(&self, target: &Target, paths: impl Iterator<Item = &'p FilePath>) -> Result<()> {
        let mut modified = Vec::new();
        for path in paths {
            let place = target.place(path)?;
            let meta = match fs::symlink_metadata(&place) {
                Ok(meta) => meta,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(ClientError::io("read", place)(e)),
            };
            if !self.is_ours(path, &place, &meta)? {
                modified.push(path.to_string());
            }
        }
        if modified.is_empty() {
            return Ok(());
        }
        modified.sort();
        Err(ClientError::Modified(modified))
    }

    /// Returns the files that are there, that earlier pulls of this artifact have put there, and that a release of it
    /// has not.
    pub(crate) fn stale(&self, target: &Target, artifact: &ArtifactName, release: &Files) -> Result<Stale> {
        let ended = self.kept.as_ref().is_some_and(|kept| kept.artifact == *artifact);
        let begun = &self.journal.references;
        let begun = !begun.is_empty() && begun.iter().all(|begun| begun.artifact == *artifact);
        let files = self.files.keys().filter(|_| ended);
        let known = files.chain(self.journal.files.keys().filter(|_| begun));
        let known: BTreeSet<FilePath> = known.filter_map(|path| path.parse().ok()).collect();
        // Where case is ignored, a file of another case is the same file.
        let own: HashMap<String, &FilePath> = release
            .iter()
            .map(|file| (file.path.as_str().to_lowercase(), &file.path))
            .collect();
        let mut stale = Stale::default();
        for path in known {
            let similar = own.get(&path.as_str().to_lowercase()).copied();
            if similar == Some(&path) {
                continue;
            }
            // A link on the way, or a directory in its place: what lies there no pull has put there.
            let Ok(place) = target.place(&path) else { continue };
            let Ok(meta) = fs::symlink_metadata(&place) else {
                continue;
            };
            let same = |other: &FilePath| {
                let other = fs::symlink_metadata(target.root().join(other.as_str()));
                other.is_ok_and(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()))
            };
            if similar.is_some_and(same) {
                continue;
            }
            match self.is_ours(&path, &place, &meta)? {
                true => stale.ours.push(path),
                false => stale.changed.push(path),
            }
        }
        Ok(stale)
    }

    fn is_ours(&self, path: &FilePath, place: &Path, meta: &Metadata) -> Result<bool> {
        let kept = self.files.get(path.as_str());
        // Whoever changes a file later changes this time, too, and cannot set it back.
        let untouched = self.at.is_some_and(|at| (meta.ctime(), meta.ctime_nsec()) < at);
        if untouched && meta.is_file() && kept.is_some_and(|(_, size)| *size == meta.len()) {
            return Ok(true);
        }
        let begun = self
            .journal
            .files
            .get(path.as_str())
            .map_or(&[][..], Vec::as_slice);
        let known = begun.iter().chain(kept.map(|(digest, _)| digest));
        let known: Vec<&Sha256> = known.collect();
        if known.is_empty() {
            return Ok(false);
        }
        Ok(sha256_of(place)?.is_some_and(|found| known.contains(&&found)))
    }
}

/// Hashes a regular file; none if it is something else.
pub(crate) fn sha256_of(place: &Path) -> Result<Option<Sha256>> {
    use std::io::Read as _;

    let Some(mut file) = open_any(place)? else {
        return Ok(None);
    };
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer).map_err(ClientError::io("read", place))? {
            0 => return Ok(Some(hasher.finish())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
