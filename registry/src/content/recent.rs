//! Chunks that were opened a moment ago: whoever asks for small ranges of a file, as a reader of its header or of one
//! tensor does, or for what others are asking for, finds the chunk decoded and checked already.
//!
//! Invariant: a chunk is opened once for all who ask for it while it is kept, and what is kept has its digest. Budget:
//! [`KEPT_MAX`] chunks, beside those that an answer still holds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use waag_schema::ChunkDigest;

/// Chunks kept, of 4 MiB at most.
const KEPT_MAX: usize = 12;

type Opening = Arc<OnceCell<Bytes>>;

/// The chunks, the one that was asked for last at the end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<(ChunkDigest, Opening)>>>);

impl Recent {
    /// Returns a chunk: as it is kept, as somebody else is opening it now, or as `open` gives it.
    pub(super) async fn get<E>(
        &self,
        chunk: ChunkDigest,
        open: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Bytes, E> {
        let opening = self.enter(chunk);
        // Whoever gives up, or fails, leaves it to the next in the row.
        opening.get_or_try_init(|| open).await.cloned()
    }

    /// Lets go of chunks that were deleted.
    pub(super) fn forget(&self, chunks: &[ChunkDigest]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(digest, _)| !chunks.contains(digest));
    }

    fn enter(&self, chunk: ChunkDigest) -> Opening {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(digest, _)| *digest == chunk);
        let known = known.and_then(|at| kept.remove(at));
        let (digest, opening) = known.unwrap_or_else(|| (chunk, Opening::default()));
        kept.push_back((digest, Arc::clone(&opening)));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        opening
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
        assert_eq!(recent.0.lock().unwrap().len(), KEPT_MAX);
        opened(&recent, 1, &times).await;
        assert_eq!(times.into_inner(), 3 * KEPT_MAX + 1);
    }

    #[tokio::test]
    async fn what_was_deleted_is_not_kept() {
        let (recent, times) = (Recent::default(), AtomicUsize::new(0));
        opened(&recent, 7, &times).await;
        opened(&recent, 8, &times).await;
        recent.forget(&[chunk(7)]);
        assert_eq!(recent.0.lock().unwrap().len(), 1);
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
