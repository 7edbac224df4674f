//! What one connection has under way: whether the other side still takes what it asked for.
//!
//! HTTP/2 answers on one socket, so a socket that moves says little about each answer. Each answer's body is
//! therefore watched: when a piece was handed over and no further one is asked for, it is the reader who waits.
//! Pieces are cut small, so that little is held for a reader who does.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// The largest piece that is handed over at once: a reader is slower than nothing only below 4 KiB/s.
const PIECE_BYTES: usize = 256 << 10;

/// How a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Busy,
    /// An answer is not taken any more.
    Stalled,
    /// Nothing was asked for a long time.
    Idle,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// Requests under way; since when the other side has had a piece and not asked for the next.
    open: HashMap<u64, Option<Instant>>,
    idle_since: Instant,
}

#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            next: 0,
            open: HashMap::new(),
            idle_since: now,
        }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a request; it ends when what is returned is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        let id = self.with(|state| {
            state.next += 1;
            state.open.insert(state.next, None);
            state.next
        });
        Open {
            activity: Arc::clone(self),
            id,
        }
    }

    /// Counts this moment as one in which something was asked.
    pub(super) fn touch(&self, now: Instant) {
        self.with(|state| state.idle_since = now);
    }

    pub(super) fn standing(&self, now: Instant, stalled: Duration, idle: Duration) -> Standing {
        self.with(|state| {
            let waits = |since: &Option<Instant>| since.is_some_and(|since| now - since >= stalled);
            if state.open.values().any(waits) {
                Standing::Stalled
            } else if state.open.is_empty() && now - state.idle_since >= idle {
                Standing::Idle
            } else {
                Standing::Busy
            }
        })
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Open {
    activity: Arc<Activity>,
    id: u64,
}

impl Open {
    fn mark(&self, given: Option<Instant>) {
        self.activity.with(|state| state.open.insert(self.id, given));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.with(|state| {
            state.open.remove(&self.id);
            state.idle_since = Instant::now();
        });
    }
}

/// A body that notes when a piece of it is taken.
pub(super) struct Watched {
    body: Body,
    /// What is left of a piece that was too large.
    rest: Bytes,
    open: Open,
}

impl Watched {
    pub(super) const fn new(body: Body, open: Open) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            open,
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            // While the site itself looks for the next piece, nobody else keeps it waiting.
            self.open.mark(None);
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.open.mark(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALLED: Duration = Duration::from_secs(60);
    const IDLE: Duration = Duration::from_secs(120);

    #[test]
    fn a_reader_that_takes_nothing_stalls_a_site_that_looks_does_not() {
        let start = Instant::now();
        let activity = Arc::new(Activity::new(start));
        let (slow, given) = (activity.open(), activity.open());
        slow.mark(None);
        given.mark(Some(start));
        let at = |seconds| activity.standing(start + Duration::from_secs(seconds), STALLED, IDLE);
        assert_eq!(at(59), Standing::Busy);
        assert_eq!(at(60), Standing::Stalled);
        drop(given);
        assert_eq!(at(1000), Standing::Busy);
        drop(slow);
        assert_eq!(at(1000), Standing::Idle);
    }
}
