//! The sites that can be asked for a release, and which of them have fallen out for it.
//!
//! Whoever refuses, fails, stalls or sends what was not signed is not asked again for this release; the reason is kept
//! for the case that nobody is left.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::FetchError;
use crate::federation::peer::{Peer, PeerError};

/// A site that can be asked.
pub(in crate::federation) struct Holder {
    /// What the charter calls it.
    pub(in crate::federation) name: String,
    pub(in crate::federation) peer: Arc<dyn Peer>,
    /// Asked only where nobody else is left: it did not answer when it was last looked at.
    pub(in crate::federation) last: bool,
}

struct Standing {
    holder: Holder,
    out: watch::Sender<bool>,
    reason: Mutex<Option<FetchError>>,
}

/// All that can be asked for one release, in the order in which they are.
pub(in crate::federation) struct Holders {
    all: Vec<Standing>,
    /// Counts what came that was not what was signed.
    lies: Counter,
}

impl Holders {
    /// Those that are asked last come behind all others.
    pub(in crate::federation) fn new(mut holders: Vec<Holder>, lies: Counter) -> Self {
        holders.sort_by_key(|holder| holder.last);
        let stands = |holder| Standing {
            holder,
            out: watch::Sender::new(false),
            reason: Mutex::default(),
        };
        Self {
            all: holders.into_iter().map(stands).collect(),
            lies,
        }
    }

    /// Returns the numbers of those that can still be asked.
    pub(super) fn present(&self) -> Vec<usize> {
        let present = |at: &usize| !self.is_out(*at);
        (0..self.all.len()).filter(present).collect()
    }

    pub(super) fn peer(&self, at: usize) -> &dyn Peer {
        self.all[at].holder.peer.as_ref()
    }

    pub(super) fn is_last(&self, at: usize) -> bool {
        self.all[at].holder.last
    }

    pub(super) fn is_out(&self, at: usize) -> bool {
        *self.all[at].out.borrow()
    }

    /// Returns once this one is not to be asked any more.
    pub(super) async fn falls_out(&self, at: usize) {
        let mut out = self.all[at].out.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = out.wait_for(|out| *out).await;
    }

    /// Is there anybody else to ask?
    pub(super) fn has_others(&self, but: usize) -> bool {
        self.present().into_iter().any(|at| at != but)
    }

    /// Asks this one no more for this release.
    pub(super) fn drop_out(&self, at: usize, reason: FetchError) {
        let standing = &self.all[at];
        let name = &standing.holder.name;
        if let FetchError::Lies(_) = reason {
            self.lies.inc();
            tracing::warn!(holder = %name, %reason, "a site sent what was not signed");
        } else {
            tracing::info!(holder = %name, %reason, "a release is fetched without a site that holds it");
        }
        let mut known = standing.reason.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert(reason);
        drop(known);
        standing.out.send_replace(true);
    }

    /// Asks nobody any more: something is wrong that is no holder's fault.
    pub(super) fn end(&self) {
        for standing in &self.all {
            standing.out.send_replace(true);
        }
    }

    /// Begins to ask one after another for something.
    pub(super) fn tries(&self) -> Tries<'_> {
        Tries {
            holders: self,
            next: 0,
            lacking: Vec::new(),
        }
    }

    /// Says why nobody is left; of those that have only lacked something, with these reasons.
    fn spent(&self, lacking: Vec<(usize, FetchError)>) -> FetchError {
        let fallen = self.all.iter().enumerate().filter_map(|(at, standing)| {
            let mut reason = standing.reason.lock().unwrap_or_else(PoisonError::into_inner);
            Some((at, reason.take()?))
        });
        let mut reasons: Vec<(usize, FetchError)> = fallen.chain(lacking).collect();
        reasons.sort_by_key(|(at, _)| *at);
        let alone = self.all.len() == 1;
        match reasons.pop() {
            Some((_, reason)) if alone => reason,
            last => {
                let named = reasons.into_iter().chain(last);
                let named = named.map(|(at, reason)| (self.all[at].holder.name.clone(), reason));
                FetchError::Nobody(named.collect())
            }
        }
    }

    /// Says why nobody is left.
    pub(super) fn nobody(&self) -> FetchError {
        self.spent(Vec::new())
    }
}

/// One question, to one holder after another.
pub(super) struct Tries<'a> {
    holders: &'a Holders,
    next: usize,
    lacking: Vec<(usize, FetchError)>,
}

impl<'a> Tries<'a> {
    /// Returns whom to ask next.
    pub(super) fn next(&mut self) -> Option<&'a dyn Peer> {
        let (holders, from) = (self.holders, self.next);
        let at = (from..holders.all.len()).find(|at| !holders.is_out(*at))?;
        self.next = at + 1;
        Some(holders.peer(at))
    }

    /// Notes why the one who was asked did not give it.
    ///
    /// # Errors
    /// What is no fault of theirs.
    pub(super) fn failed(&mut self, error: FetchError) -> Result<(), FetchError> {
        let at = self.next.saturating_sub(1);
        match error {
            // It may have all the rest.
            FetchError::Peer(PeerError::Absent(_)) => self.lacking.push((at, error)),
            error if error.is_theirs() => self.holders.drop_out(at, error),
            error => return Err(error),
        }
        Ok(())
    }

    /// Says why nobody gave it.
    pub(super) fn spent(self) -> FetchError {
        self.holders.spent(self.lacking)
    }
}
