//! The chunks of releases that are being fetched.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waag_schema::ChunkDigest;

/// The chunks of releases that are being fetched: nobody deletes them meanwhile.
#[derive(Clone, Default)]
pub(in crate::federation) struct Underway {
    /// Held by all who begin for a moment, and by who deletes.
    pause: Arc<tokio::sync::RwLock<()>>,
    noted: Arc<Mutex<Vec<Arc<HashSet<ChunkDigest>>>>>,
}

impl Underway {
    /// Notes chunks; waits while somebody deletes.
    pub(super) async fn begin(&self, chunks: HashSet<ChunkDigest>) -> Noted {
        let _nobody_deletes = self.pause.read().await;
        let chunks = Arc::new(chunks);
        self.noted().push(Arc::clone(&chunks));
        Noted {
            all: self.clone(),
            chunks,
        }
    }

    /// Lets nobody begin as long as what it returns is kept.
    pub(in crate::federation) async fn pause(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.pause.write().await
    }

    /// Forgets of these chunks those that are noted.
    pub(in crate::federation) fn spare(&self, chunks: &mut HashSet<ChunkDigest>) {
        for noted in self.noted().iter() {
            chunks.retain(|chunk| !noted.contains(chunk));
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Arc<HashSet<ChunkDigest>>>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks that are noted until this goes.
pub(super) struct Noted {
    all: Underway,
    chunks: Arc<HashSet<ChunkDigest>>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.all.noted().retain(|noted| !Arc::ptr_eq(noted, &self.chunks));
    }
}
