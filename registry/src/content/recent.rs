//! Chunks that are open: whoever asks for small ranges of a file, as a reader of its header or of one tensor does, or for
//! what others are asking for, finds the chunk decoded and checked already.
//!
//! Invariant: a chunk is opened once for all who ask for it while anybody holds it, and what is found here has its digest.
//! Budget: [`KEPT_MAX`] chunks, beside those that answers hold.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::OnceCell;
use waag_schema::ChunkDigest;

/// Chunks kept that nobody holds, of 4 MiB at most.
const KEPT_MAX: usize = 12;
/// Chunks known before those that nobody holds any more are forgotten.
const KNOWN_MAX: usize = 1024;

type Opening = OnceCell<Bytes>;

/// The open chunks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<Chunks>>);

#[derive(Debug, Default)]
struct Chunks {
    /// All that somebody holds or is opening.
    known: HashMap<ChunkDigest, Weak<Opening>>,
    /// Those that are kept, the one that was asked for last at the end.
    kept: VecDeque<(ChunkDigest, Arc<Opening>)>,
}

/// A chunk as an answer holds it: as long as this lives, the next who asks finds it.
struct Held(Arc<Opening>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.get().map_or(&[], |bytes| bytes)
    }
}

impl Recent {
    /// Returns a chunk: as it is held, as somebody else is opening it now, or as `open` gives it.
    pub(super) async fn get<E>(
        &self,
        chunk: ChunkDigest,
        open: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        let opening = self.enter(chunk);
        // Whoever gives up, or fails, leaves it to the next in the row.
        opening.get_or_try_init(|| open).await?;
        Ok(Bytes::from_owner(Held(opening)))
    }

    /// Lets go of chunks that were deleted.
    pub(super) fn forget(&self, chunks: &[ChunkDigest]) {
        let mut all = self.lock();
        all.kept.retain(|(digest, _)| !chunks.contains(digest));
        for chunk in chunks {
            all.known.remove(chunk);
        }
    }

    fn enter(&self, chunk: ChunkDigest) -> Arc<Opening> {
        let mut all = self.lock();
        let kept = all.kept.iter().position(|(digest, _)| *digest == chunk);
        let kept = kept.and_then(|at| all.kept.remove(at));
        let opening = kept
            .map(|(_, opening)| opening)
            .or_else(|| all.known.get(&chunk)?.upgrade())
            .unwrap_or_default();
        if all.known.len() >= KNOWN_MAX {
            all.known.retain(|_, opening| opening.strong_count() > 0);
        }
        all.known.insert(chunk, Arc::downgrade(&opening));
        all.kept.push_back((chunk, Arc::clone(&opening)));
        if all.kept.len() > KEPT_MAX {
            all.kept.pop_front();
        }
        opening
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    fn chunk(number: usize) -> ChunkDigest {
        ChunkDigest::of(&number.to_be_bytes())
    }

    async fn opened(recent: &Recent, number: usize, times: &AtomicUsize) -> Bytes {
        let open = async {
            times.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Bytes::from(number.to_string()))
        };
        recent.get(chunk(number), open).await.unwrap()
    }

    #[tokio::test]
    async fn a_chunk_is_opened_once_for_all_who_ask_for_it() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        let all = join_all((0..100).map(|_| opened(&recent, 7, &times))).await;
        assert!(all.iter().all(|bytes| bytes == "7"));
        assert_eq!(opened(&recent, 7, &times).await, "7");
        assert_eq!(times.into_inner(), 1);
    }

    #[tokio::test]
    async fn what_nobody_asked_for_of_late_is_let_go() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        for number in 0..3 * KEPT_MAX {
            opened(&recent, 0, &times).await;
            opened(&recent, number, &times).await;
        }
        assert_eq!(times.load(Ordering::Relaxed), 3 * KEPT_MAX);
        assert_eq!(recent.lock().kept.len(), KEPT_MAX);
        opened(&recent, 1, &times).await;
        assert_eq!(times.into_inner(), 3 * KEPT_MAX + 1);
    }

    #[tokio::test]
    async fn what_is_held_or_being_opened_is_found_however_much_else_was_asked_for() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        let held = opened(&recent, 0, &times).await;
        let twice = (0..2).flat_map(|_| 1..=5 * KEPT_MAX);
        join_all(twice.map(|number| opened(&recent, number, &times))).await;
        assert_eq!(opened(&recent, 0, &times).await, held);
        assert_eq!(times.load(Ordering::Relaxed), 5 * KEPT_MAX + 1);
        drop(held);
        for number in 1..=KEPT_MAX {
            opened(&recent, number, &times).await;
        }
        for number in 0..2 * KNOWN_MAX {
            opened(&recent, number, &times).await;
        }
        assert!(recent.lock().known.len() <= KNOWN_MAX);
    }

    #[tokio::test]
    async fn what_was_deleted_is_not_kept() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        opened(&recent, 7, &times).await;
        opened(&recent, 8, &times).await;
        recent.forget(&[chunk(7)]);
        assert_eq!(recent.lock().kept.len(), 1);
        opened(&recent, 8, &times).await;
        assert_eq!(times.into_inner(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_nobody_elses() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        let failed = recent.get(chunk(1), async { Err("lost") }).await;
        assert_eq!(failed, Err("lost"));
        assert_eq!(opened(&recent, 1, &times).await, "1");
    }
}
