//! Where the files lie that travel packed: by digest, from the lists that releases carry.
//!
//! A list stays where its release put it, as content, and is read when a file of it is asked for: a row in the
//! index for each of a hundred thousand files, at every release, would be most of the index. What was read is kept,
//! up to a bound. One list is read at a time, so that memory has a bound, too.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use waag_schema::Sha256;
use waag_schema::release::Files;
use waag_schema::release::files::Place;

/// Entries that are kept, of 64 bytes each: five releases of 100,000 files.
const ENTRIES_MAX: usize = 500_000;

/// The files of one release that are packed, by digest.
#[derive(Debug)]
pub(super) struct Whereabouts {
    tars: Vec<Sha256>,
    /// Sorted by the first.
    entries: Vec<(Sha256, u32, u64, u64)>,
}

impl Whereabouts {
    pub(super) fn of(files: &Files) -> Self {
        let packed = files.iter().filter_map(|file| match file.place {
            Place::Within { tar, offset } => Some((file.sha256, u32::try_from(tar).ok()?, offset, file.size)),
            Place::Layer => None,
        });
        let mut entries: Vec<_> = packed.collect();
        entries.sort_unstable();
        entries.dedup_by_key(|entry| entry.0);
        entries.shrink_to_fit();
        Self {
            tars: files.tars().iter().map(|tar| tar.digest).collect(),
            entries,
        }
    }

    /// In which tar is this file, and where in it?
    pub(super) fn find(&self, file: &Sha256) -> Option<(Sha256, Range<u64>)> {
        let at = self.entries.binary_search_by_key(file, |entry| entry.0).ok()?;
        let (_, tar, offset, size) = self.entries[at];
        Some((*self.tars.get(tar as usize)?, offset..offset + size))
    }
}

/// What was read, newest use last.
type Kept = VecDeque<(Sha256, Arc<Whereabouts>)>;

/// The lists that were read last, by their manifests.
#[derive(Debug, Clone, Default)]
pub struct PackedFiles {
    kept: Arc<Mutex<Kept>>,
    /// Held while a list is read.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl PackedFiles {
    fn kept(&self, manifest: &Sha256) -> Option<Arc<Whereabouts>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == manifest)?;
        let entry = kept.remove(at)?;
        let found = Arc::clone(&entry.1);
        kept.push_back(entry);
        Some(found)
    }

    fn keep(&self, manifest: Sha256, new: &Arc<Whereabouts>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((manifest, Arc::clone(new)));
        let mut entries: usize = kept.iter().map(|(_, one)| one.entries.len()).sum();
        while entries > ENTRIES_MAX && kept.len() > 1 {
            entries -= kept.pop_front().map_or(0, |(_, one)| one.entries.len());
        }
    }

    /// Returns a manifest's packed files, and reads the list if it is not kept.
    pub(super) async fn of<E>(
        &self,
        manifest: Sha256,
        read: impl AsyncFnOnce() -> Result<Option<Whereabouts>, E>,
    ) -> Result<Option<Arc<Whereabouts>>, E> {
        if let Some(found) = self.kept(&manifest) {
            return Ok(Some(found));
        }
        let _alone = self.reading.lock().await;
        // Perhaps who was in front has read the same.
        if let Some(found) = self.kept(&manifest) {
            return Ok(Some(found));
        }
        let Some(new) = read().await? else { return Ok(None) };
        let new = Arc::new(new);
        self.keep(manifest, &new);
        Ok(Some(new))
    }
}
