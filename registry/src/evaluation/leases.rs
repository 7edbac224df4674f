//! Who measures what: leases, each a cell in the store.
//!
//! Invariant: at any time one holder at most has a job. A lease ends by itself at its time on the site's clock, so that
//! a holder who is killed leaves the job open; each change is a compare-and-swap, so that of two who take or finish at
//! once one is told that it came late. What there is to measure is not kept here: it follows from the ledger.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use waag_schema::statement::scorecard::SuiteRelease;
use waag_schema::{ArtifactName, Sha256, Timestamp};

use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Key, Store, StoreError, Swap, Version};

/// A release, and the suite that it is asked if it is asked one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) artifact: ArtifactName,
    pub(super) manifest: Sha256,
    pub(super) suite: Option<SuiteRelease>,
}

impl Task {
    fn digest(&self) -> Sha256 {
        let json = serde_json::to_vec(self).expect("names and digests always serialise");
        Sha256::of(&json)
    }
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Holder {
    /// The site's own weigher, of which there is one: what an earlier process of the site held is its own.
    Site,
    /// A node, with the id of the token that it came with and the name that the site gave it.
    Worker { token: String, name: String },
}

/// A lease as its cell holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) task: Task,
    /// Random: who knows it has it.
    secret: String,
    pub(super) holder: Holder,
    pub(super) until: Timestamp,
}

impl Lease {
    /// Returns the lease's name, which is told to its holder alone.
    pub(super) fn id(&self) -> String {
        format!("{}.{}", self.task.digest().hex(), self.secret)
    }
}

/// What became of an attempt to take a job.
pub(super) enum Take {
    /// It is the caller's.
    Taken(Lease),
    /// The same, and whoever had it before has not come back.
    TakenOver(Lease, Holder),
    /// Somebody else has it.
    Held,
}

/// The leases of a site. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leases {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    /// How long a lease lasts.
    pub(crate) seconds: u64,
}

impl Leases {
    /// Takes a job, unless somebody has it.
    pub(super) async fn take(&self, task: Task, holder: Holder) -> Result<Take, StoreError> {
        let key = Key::lease(&task.digest());
        let now = self.clock.now();
        let lease = Lease {
            task,
            secret: HEXLOWER.encode(&self.random.bytes::<16>()),
            until: now.plus(self.seconds),
            holder,
        };
        let cell = self.store.read_cell(&key).await?;
        let version = cell.as_ref().map(|cell| &cell.version);
        // One that is damaged is nobody's.
        let before = cell.as_ref().and_then(|cell| parse(&cell.bytes));
        if let Some(before) = &before
            && before.until > now
            && !(before.holder == Holder::Site && lease.holder == Holder::Site)
        {
            return Ok(Take::Held);
        }
        Ok(
            match self.store.swap_cell(&key, version, bytes_of(&lease)).await? {
                Swap::Lost => Take::Held,
                Swap::Swapped(_) => match before {
                    Some(before) => Take::TakenOver(lease, before.holder),
                    None => Take::Taken(lease),
                },
            },
        )
    }

    /// Returns the lease of this name if it is this holder's and has not ended, and which value of its cell that is.
    pub(super) async fn held(
        &self,
        id: &str,
        is_holders: impl Fn(&Holder) -> bool,
    ) -> Result<Option<(Lease, Version)>, StoreError> {
        let Some((task, _)) = id.split_once('.') else {
            return Ok(None);
        };
        let Ok(task) = format!("sha256:{task}").parse::<Sha256>() else {
            return Ok(None);
        };
        let Some(cell) = self.store.read_cell(&Key::lease(&task)).await? else {
            return Ok(None);
        };
        let lease = parse(&cell.bytes)
            .filter(|lease| lease.id() == id && lease.until > self.clock.now() && is_holders(&lease.holder));
        Ok(lease.map(|lease| (lease, cell.version)))
    }

    /// Lets a lease last from now on; none where somebody was faster.
    pub(super) async fn renew(&self, lease: &Lease, version: &Version) -> Result<Option<Lease>, StoreError> {
        let renewed = Lease {
            until: self.clock.now().plus(self.seconds),
            ..lease.clone()
        };
        self.replace(version, renewed).await
    }

    /// Takes a lease from its holder for the site, which says now what was found; none where somebody was faster.
    pub(super) async fn close(&self, lease: &Lease, version: &Version) -> Result<Option<Lease>, StoreError> {
        let closed = Lease {
            secret: HEXLOWER.encode(&self.random.bytes::<16>()),
            until: self.clock.now().plus(self.seconds),
            ..lease.clone()
        };
        self.replace(version, closed).await
    }

    async fn replace(&self, version: &Version, lease: Lease) -> Result<Option<Lease>, StoreError> {
        let key = Key::lease(&lease.task.digest());
        let swapped = self
            .store
            .swap_cell(&key, Some(version), bytes_of(&lease))
            .await?;
        Ok(matches!(swapped, Swap::Swapped(_)).then_some(lease))
    }

    /// Ends a lease: the job is open, or done.
    pub(super) async fn end(&self, lease: &Lease) -> Result<(), StoreError> {
        let id = lease.id();
        if self.held(&id, |_| true).await?.is_some() {
            self.store.delete(&Key::lease(&lease.task.digest())).await?;
        }
        Ok(())
    }
}

fn bytes_of(lease: &Lease) -> Bytes {
    Bytes::from(serde_json::to_vec(lease).expect("names, digests and texts always serialise"))
}

fn parse(bytes: &[u8]) -> Option<Lease> {
    serde_json::from_slice(bytes).ok()
}
