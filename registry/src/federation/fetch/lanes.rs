//! Batches of chunks, from several holders at once: each has two requests under way, and whoever is free takes the next
//! batch.
//!
//! A holder that falls out leaves its batches to the others. Nothing that is being written is given up in the middle:
//! only who waits for an answer is stopped.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use waag_schema::content::Recipe;
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::{ChunkDigest, Sha256};

use super::batches::{Batches, Taken};
use super::{Fetch, FetchError, lies, unusable};
use crate::content::Content;
use crate::federation::peer::SentChunk;
use crate::store::Key;

/// How many holders are asked at once; others stand in for those that fall out.
const HOLDERS_AT_ONCE: usize = 4;
/// Requests that one holder has under way.
const LANES: usize = 2;
/// How long one request may take while there is somebody else to ask. Whoever is the last one is waited for as long as
/// bytes come.
const STALL: Duration = Duration::from_secs(120);
/// The longest that a limit on bytes a second makes anybody wait at a time.
const WAIT_MAX_MICROS: u64 = 3_600_000_000;

/// Why a lane ended before all had come.
enum Stopped {
    /// Its holder is not asked any more.
    Out,
    /// What is wrong with what came, or with the way it was given.
    Theirs(FetchError),
    /// What is wrong here.
    Ours(FetchError),
}

impl From<FetchError> for Stopped {
    fn from(error: FetchError) -> Self {
        if error.is_theirs() {
            Self::Theirs(error)
        } else {
            Self::Ours(error)
        }
    }
}

impl Fetch<'_> {
    /// Fetches the chunks that are not here, from all who hold them. Those that came are durable on return.
    pub(super) async fn content(&self, recipes: &[(Sha256, Recipe)]) -> Result<(), FetchError> {
        let batches = Batches::new(self.store.clone(), recipes);
        let pace = Pace::new(self.bytes_per_second);
        let mut spare: VecDeque<usize> = self.holders.present().into();
        let mut at_work: Vec<usize> = Vec::new();
        let mut lanes = FuturesUnordered::new();
        let mut wrong = None;
        loop {
            let mut new = Vec::new();
            while at_work.len() + new.len() < HOLDERS_AT_ONCE
                && let Some(at) = spare.front()
                && (!self.holders.is_last(*at) || at_work.len() + new.len() == 0)
            {
                new.extend(spare.pop_front());
            }
            for _ in 0..LANES {
                for at in &new {
                    lanes.push(self.lane(*at, &batches, &pace));
                }
            }
            at_work.extend(new);
            let Some((at, ended)) = lanes.next().await else {
                break;
            };
            match ended {
                Ok(()) | Err(Stopped::Out) => {}
                Err(Stopped::Theirs(reason)) => {
                    if !self.holders.is_out(at) {
                        self.holders.drop_out(at, reason);
                    }
                }
                Err(Stopped::Ours(error)) => {
                    self.holders.end();
                    spare.clear();
                    wrong.get_or_insert(error);
                }
            }
            at_work.retain(|at| !self.holders.is_out(*at));
            if batches.are_done() {
                spare.clear();
            }
        }
        match wrong {
            Some(error) => Err(error),
            None if batches.are_done() => Ok(()),
            None => Err(self.holders.nobody()),
        }
    }

    /// Fetches batch after batch from one holder.
    async fn lane(&self, at: usize, batches: &Batches, pace: &Pace) -> (usize, Result<(), Stopped>) {
        loop {
            let next = tokio::select! {
                biased;
                () = self.holders.falls_out(at) => return (at, Err(Stopped::Out)),
                next = batches.next() => next,
            };
            let fetched = match next {
                Ok(Some(batch)) => self.batch(at, batch, batches, pace).await,
                Ok(None) => return (at, Ok(())),
                Err(error) => Err(error.into()),
            };
            if let Err(stopped) = fetched {
                return (at, Err(stopped));
            }
        }
    }

    async fn batch(
        &self,
        at: usize,
        mut batch: Taken<'_>,
        batches: &Batches,
        pace: &Pace,
    ) -> Result<(), Stopped> {
        let turn = async {
            pace.wait(batch.bytes()).await;
            self.at_once.acquire().await
        };
        let _turn = tokio::select! {
            biased;
            () = self.holders.falls_out(at) => return Err(Stopped::Out),
            turn = turn => turn,
        };
        while let Some((file, chunks)) = batch.left() {
            let request = ChunksRequest {
                file,
                chunks: chunks.to_vec(),
            };
            let came = tokio::select! {
                biased;
                () = self.holders.falls_out(at) => return Err(Stopped::Out),
                came = self.ask(at, &request) => came?,
            };
            let kept = self.keep(&request.chunks, came, batches).await?;
            batch.came(kept);
        }
        Ok(())
    }

    /// Asks a holder for chunks, and waits for them as long as it is worth it.
    async fn ask(&self, at: usize, request: &ChunksRequest) -> Result<Vec<SentChunk>, FetchError> {
        let answer = self.holders.peer(at).chunks(self.artifact, request);
        let too_long = || tokio::time::sleep_until(Instant::now() + STALL);
        patiently(answer, too_long, || self.holders.has_others(at))
            .await
            .ok_or(FetchError::Stalls(STALL))?
            .map_err(FetchError::from)
    }

    /// Checks each chunk, and names them once they are durable together; returns how many came.
    async fn keep(
        &self,
        asked: &[ChunkDigest],
        came: Vec<SentChunk>,
        batches: &Batches,
    ) -> Result<usize, FetchError> {
        if came.is_empty() || came.len() > asked.len() {
            return Err(lies(format_args!(
                "{} chunks came where {} were asked for",
                came.len(),
                asked.len()
            )));
        }
        let number = came.len();
        let mut names = Vec::with_capacity(number);
        for (asked, (found, stored)) in asked.iter().zip(came) {
            if *asked != found {
                return Err(lies(format_args!("the chunk {found} came for {asked}")));
            }
            let bytes = stored.clone();
            let raw = self.content.on_pool(move || Content::opened(&bytes, found)).await;
            let Some(raw) = raw else {
                return Err(lies(format_args!(
                    "the bytes of the chunk {asked} have another digest"
                )));
            };
            if raw.len() < batches.end(asked) as usize {
                return Err(unusable(format_args!(
                    "a recipe takes more of the chunk {asked} than it has"
                )));
            }
            self.received.inc_by(raw.len() as u64);
            let staged = Key::incoming(&self.manifest, asked);
            self.store.stage(&staged, stored).await?;
            names.push((staged, Key::chunk(asked)));
        }
        let staged: Vec<Key> = names.iter().map(|(from, _)| from.clone()).collect();
        self.store.promote(names).await?;
        for key in staged {
            self.store.delete(&key).await?;
        }
        Ok(number)
    }
}

/// Waits for an answer; gives it up when it takes too long and there is somebody else to ask.
async fn patiently<T, S: Future<Output = ()>>(
    answer: impl Future<Output = T>,
    too_long: impl Fn() -> S,
    has_others: impl Fn() -> bool,
) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = too_long() => if has_others() {
                return None;
            }
        }
    }
}

/// How fast bytes may come, over all holders together.
struct Pace {
    rate: Option<u64>,
    began: Instant,
    promised: Mutex<u64>,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            began: Instant::now(),
            promised: Mutex::default(),
        }
    }

    /// Waits until everything that was asked for before may have come.
    async fn wait(&self, bytes: u64) {
        if let Some(due) = self.due(bytes) {
            tokio::time::sleep_until(self.began + due).await;
        }
    }

    /// Returns how long after the beginning so many bytes more may be asked for.
    fn due(&self, bytes: u64) -> Option<Duration> {
        let rate = self.rate?;
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *promised;
        *promised = before.saturating_add(bytes);
        let micros = u128::from(before) * 1_000_000 / u128::from(rate.max(1));
        let due = u64::try_from(micros).unwrap_or(u64::MAX).min(WAIT_MAX_MICROS);
        Some(Duration::from_micros(due))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn who_stalls_is_given_up_only_where_somebody_else_can_be_asked() {
        let at_once = || ready(());
        assert_eq!(patiently(pending::<()>(), at_once, || true).await, None);
        let mut polls = 0;
        let late = poll_fn(|_| {
            polls += 1;
            if polls == 5 { Poll::Ready(7) } else { Poll::Pending }
        });
        assert_eq!(patiently(late, at_once, || false).await, Some(7));
    }

    #[test]
    fn a_limit_holds_over_all_who_ask() {
        let pace = Pace::new(Some(1000));
        for (bytes, due) in [(500, 0), (500, 500), (1000, 1000), (1, 2000)] {
            assert_eq!(pace.due(bytes), Some(Duration::from_millis(due)));
        }
        assert_eq!(Pace::new(None).due(1), None);
    }
}
