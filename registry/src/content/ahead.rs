//! Reading ahead, as far as there is room: each answer always has the chunk that it sends, and those behind it only out
//! of a stock that all answers share. So a single reader never waits for the disk, and five hundred slow ones do not
//! fill the memory.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::ContentError;

/// Chunks of all answers that are read before their turn: at most 64 MiB.
const AHEAD_MAX: usize = 16;
/// Chunks of one answer that are.
const AHEAD_EACH: usize = 3;

/// The stock. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    stock: Arc<Semaphore>,
}

/// A chunk that is being read; without a share of the stock only for the first in the row.
struct Reading {
    chunk: JoinHandle<Result<Bytes, ContentError>>,
    _share: Option<OwnedSemaphorePermit>,
}

struct Row<I> {
    stock: Arc<Semaphore>,
    waiting: I,
    reading: VecDeque<Reading>,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            stock: Arc::new(Semaphore::new(AHEAD_MAX)),
        }
    }

    /// Runs reads in order, a few at once.
    pub(super) fn read<I, R>(&self, reads: I) -> impl Stream<Item = Result<Bytes, ContentError>> + use<I, R>
    where
        I: Iterator<Item = R>,
        R: Future<Output = Result<Bytes, ContentError>> + Send + 'static,
    {
        let row = Row {
            stock: Arc::clone(&self.stock),
            waiting: reads,
            reading: VecDeque::new(),
        };
        stream::try_unfold(row, |mut row| async move {
            row.fill();
            let Some(first) = row.reading.pop_front() else {
                return Ok(None);
            };
            let bytes = first.chunk.await.expect("reading does not panic")?;
            Ok(Some((bytes, row)))
        })
    }
}

impl<I, R> Row<I>
where
    I: Iterator<Item = R>,
    R: Future<Output = Result<Bytes, ContentError>> + Send + 'static,
{
    fn fill(&mut self) {
        while self.reading.len() <= AHEAD_EACH {
            let share = Arc::clone(&self.stock).try_acquire_owned().ok();
            if share.is_none() && !self.reading.is_empty() {
                return;
            }
            let Some(next) = self.waiting.next() else { return };
            self.reading.push_back(Reading {
                chunk: tokio::spawn(next),
                _share: share,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{StreamExt as _, TryStreamExt as _};

    use super::*;

    #[tokio::test]
    async fn many_that_nobody_reads_on_hold_little_and_stop_nobody() {
        let (ahead, begun) = (Ahead::new(), Arc::new(AtomicUsize::new(0)));
        let row = || {
            let begun = Arc::clone(&begun);
            ahead.read((0..100_u8).map(move |number| {
                begun.fetch_add(1, Ordering::Relaxed);
                async move { Ok(Bytes::from(vec![number])) }
            }))
        };
        let mut stalled: Vec<_> = (0..200).map(|_| Box::pin(row())).collect();
        for one in &mut stalled {
            assert_eq!(one.next().await.unwrap().unwrap()[..], [0]);
        }
        assert!(begun.load(Ordering::Relaxed) <= 200 + AHEAD_MAX);
        let all: Vec<Bytes> = row().try_collect().await.unwrap();
        assert_eq!(all.concat(), (0..100).collect::<Vec<u8>>());
        drop(stalled);
        assert_eq!(ahead.stock.available_permits(), AHEAD_MAX, "all of it comes back");
    }
}
