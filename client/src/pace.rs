//! Pace: how many requests are under way at once, and how many bytes a second.
//!
//! More requests as long as that brings more, half as many when the site or the network says that it is too much
//! (additive increase, multiplicative decrease). Both parts are arithmetic on times that are handed in; only
//! [`Pace`] looks at a clock.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::error::{ClientError, Result};

/// Requests at the start: what has been enough on a machine's own network.
const START: usize = 4;
/// Requests at most: what a site gives to one caller is no less, and with their batches they fill 128 MiB.
const MOST: usize = 16;
/// More bytes a second by this part are worth one more request.
const WORTH: f64 = 1.05;
/// A wait that nobody asked for is not shorter than this part of a second's bytes.
const BURST: Duration = Duration::from_millis(100);
/// After so many stretches without a change it is tried again whether more brings more.
const PATIENCE: u32 = 8;

/// How many at once.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    limit: usize,
    most: usize,
    /// The stretch that is measured: since when, how many were done in it and with how many bytes.
    since: Option<Instant>,
    done: usize,
    bytes: u64,
    /// Bytes a second in the stretch before the last change, and whether that change was one more.
    before: f64,
    grew: bool,
    /// Stretches since it was found that more does not bring more.
    settled: Option<u32>,
}

impl Window {
    pub(crate) const fn new(start: usize, most: usize) -> Self {
        Self {
            limit: start,
            most,
            since: None,
            done: 0,
            bytes: 0,
            before: 0.0,
            grew: false,
            settled: None,
        }
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Begins to measure when something begins.
    pub(crate) const fn begun(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Takes note of a request that is done. A stretch is over when as many are done as may be under way.
    pub(crate) fn done(&mut self, bytes: u64, now: Instant) {
        self.done += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let Some(since) = self.since else { return };
        let seconds = (now - since).as_secs_f64();
        if self.done < self.limit || seconds <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than a float has")]
        let rate = self.bytes as f64 / seconds;
        self.judge(rate);
        (self.since, self.done, self.bytes) = (Some(now), 0, 0);
    }

    fn judge(&mut self, rate: f64) {
        match &mut self.settled {
            Some(stretches) if *stretches < PATIENCE => {
                *stretches += 1;
                return;
            }
            _ => {}
        }
        if self.grew && rate < self.before * WORTH {
            // The last one more brought nothing: it is taken back.
            self.limit = (self.limit - self.limit / 5).max(1);
            self.grew = false;
            self.settled = Some(0);
            return;
        }
        self.settled = None;
        self.before = rate;
        self.grew = self.limit < self.most;
        self.limit = (self.limit + (self.limit / 4).max(1)).min(self.most);
    }

    /// Halves it, once for whatever went wrong in one stretch.
    pub(crate) fn trouble(&mut self, now: Instant) {
        if self.since == Some(now) && self.done == 0 && self.settled.is_some() {
            return;
        }
        self.limit = (self.limit / 2).max(1);
        (self.since, self.done, self.bytes) = (Some(now), 0, 0);
        (self.before, self.grew, self.settled) = (0.0, false, Some(0));
    }
}

/// How fast: bytes are paid for after they have moved, so what moved too early is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Bytes a second, at least one.
    rate: u64,
    /// Until when what has moved is paid for.
    paid_until: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate: rate.max(1),
            paid_until: now,
        }
    }

    pub(crate) const fn rate(&self) -> u64 {
        self.rate
    }

    /// Takes so many bytes; returns how long to wait before they may move.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        // What was not used in the past is lost but for a moment's worth.
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.paid_until = self.paid_until.max(earliest);
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate);
        self.paid_until += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        self.paid_until.saturating_duration_since(now)
    }
}

/// What was moved of chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Raw bytes.
    pub(crate) bytes: u64,
    /// The same as they were encoded: what crossed the network.
    pub(crate) wire_bytes: u64,
}

impl std::ops::Add for Moved {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            wire_bytes: self.wire_bytes + other.wire_bytes,
        }
    }
}

/// Runs requests, as many at once as goes well.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Window>);

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(Window::new(START, MOST)))
    }
}

impl Pace {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the site or the network has enough.
    pub(crate) fn trouble(&self) {
        self.window().trouble(Instant::now());
    }

    /// Runs jobs, each of which moves what it returns; returns their sum, or the first failure. A job is
    /// begun, and what it holds made, only when it is its turn.
    pub(crate) async fn run<J>(&self, jobs: impl IntoIterator<Item = J>) -> Result<Moved>
    where
        J: Future<Output = Result<Moved, ClientError>>,
    {
        let mut jobs = jobs.into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut sum = Moved::default();
        loop {
            while under_way.len() < self.window().limit() {
                let Some(job) = jobs.next() else { break };
                self.window().begun(Instant::now());
                under_way.push(job);
            }
            let Some(done) = under_way.next().await else {
                return Ok(sum);
            };
            let moved = done?;
            self.window().done(moved.wire_bytes, Instant::now());
            sum = sum + moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Lets a stretch pass on a link that gives each request `each` MiB a second and all together `all`.
    fn stretch(window: &mut Window, now: &mut Instant, each: f64, all: f64) {
        let at_once = window.limit();
        window.begun(*now);
        #[expect(clippy::cast_precision_loss, reason = "a few requests")]
        let rate = (each * at_once as f64).min(all);
        #[expect(clippy::cast_precision_loss, reason = "a few requests")]
        let seconds = Duration::from_secs_f64(at_once as f64 / rate);
        *now += seconds;
        for _ in 0..at_once {
            window.done(MIB, *now);
        }
    }

    #[test]
    fn requests_grow_as_long_as_more_brings_more() {
        let (mut window, mut now) = (Window::new(START, MOST), Instant::now());
        for _ in 0..20 {
            stretch(&mut window, &mut now, 10.0, 1000.0);
        }
        assert_eq!(window.limit(), MOST);
    }

    #[test]
    fn requests_stay_few_where_more_brings_nothing() {
        let (mut window, mut now) = (Window::new(START, MOST), Instant::now());
        let mut most = 0;
        for _ in 0..100 {
            stretch(&mut window, &mut now, 100.0, 300.0);
            most = most.max(window.limit());
        }
        assert!(most <= 7, "{most}");
    }

    #[test]
    fn trouble_halves_once_and_one_request_always_remains() {
        let (mut window, now) = (Window::new(16, 16), Instant::now());
        window.trouble(now);
        window.trouble(now);
        assert_eq!(window.limit(), 8);
        for second in 1..10 {
            window.trouble(now + Duration::from_secs(second));
        }
        assert_eq!(window.limit(), 1);
    }

    #[test]
    fn what_moves_keeps_to_the_rate() {
        let start = Instant::now();
        let mut now = start;
        let mut bucket = Bucket::new(10 * MIB, now);
        for _ in 0..1000 {
            now += bucket.take(64 << 10, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((6.1..6.3).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_pause_is_no_credit() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.take(100, later), Duration::ZERO);
        assert_eq!(bucket.take(1000, later), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn the_sum_or_the_first_failure_comes_back() {
        let pace = Pace::default();
        let moved = |n| Moved {
            bytes: n,
            wire_bytes: 1,
        };
        let jobs = (0..100).map(|n| async move { Ok(moved(n)) });
        let sum = Moved {
            bytes: 4950,
            wire_bytes: 100,
        };
        assert_eq!(pace.run(jobs).await.unwrap(), sum);
        let failing = (0..100).map(|n| async move {
            if n == 50 {
                Err(ClientError::Conflict("now".to_owned()))
            } else {
                Ok(moved(n))
            }
        });
        assert!(matches!(pace.run(failing).await, Err(ClientError::Conflict(_))));
    }
}
