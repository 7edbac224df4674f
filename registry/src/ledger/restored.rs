//! A store that comes from a backup: may its ledger go on, or has somebody seen more than was restored?
//!
//! The guard is asked at every start, and what it knows is never overruled in silence: without the operator's
//! word a site whose guard is missing, ahead, or of another history does not start. With it, the ledger goes on
//! only where nothing says that more was seen; otherwise it ends at the published tree, and a successor is
//! opened (`lineage`). What clients have seen is not known here; the operator can say it.

use std::sync::Arc;

use waag_schema::ledger::{Checkpoint, Tree, entry_number, entry_place};
use waag_schema::statement::{Seen, Successor};

use super::AppendError;
use super::lineage::{self, Lineage};
use super::sequencer::Sequencer;

/// Whether the operator says that the store comes from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// An ordinary start.
    No,
    /// `waag serve --recovered`: go on without a guard, if nobody saw more than was restored.
    Yes,
    /// `waag serve --recovered --seen SIZE`: the same, and somebody has seen the ledger at this size, which is the
    /// number of the entry behind the last that was seen.
    Seen(u64),
}

/// What the guard says of the store.
enum Guarded {
    /// The store continues what was signed.
    Fits,
    /// It cannot say anything.
    Nothing(String),
    /// This was signed, and the store does not continue it.
    Beyond(Checkpoint, String),
}

impl Sequencer {
    /// Compares the store with what this key has signed, and with what the operator says. Returns what was seen
    /// that it does not hold, if the ledger shall end for that.
    pub(super) async fn beyond(
        &self,
        published: &Checkpoint,
        ahead: &[Tree],
        tip: &Checkpoint,
        restored: Restored,
    ) -> Result<Option<Seen>, AppendError> {
        let guarded = self.guarded(published, ahead, tip).await?;
        match (guarded, restored) {
            (Guarded::Nothing(what), Restored::No) => Err(AppendError::Stopped(format!(
                "{what}; if the store comes from a backup, start with `waag serve --recovered`, and if somebody has seen more than its {} entries, add `--seen SIZE`, the most that was seen",
                tip.size
            ))),
            (Guarded::Beyond(_, what), Restored::No) => Err(AppendError::Stopped(format!(
                "{what}; put back the store that was signed, or, if it is lost, end this ledger at {} entries and go on with a successor: `waag serve --recovered`",
                published.size
            ))),
            (Guarded::Beyond(tree, what), _) => {
                tracing::warn!("{what}");
                Ok(Some(lineage::seen(&tree)))
            }
            (_, Restored::Seen(size)) if size > entry_number(tip.origin.series(), tip.size)? => {
                let (series, size) = entry_place(size);
                let origin = waag_schema::ledger::Origin::of(tip.origin.site(), series);
                let root = None;
                Ok(Some(Seen { origin, size, root }))
            }
            (_, Restored::Seen(size)) => {
                tracing::warn!(
                    seen = size,
                    holds = tip.size,
                    "the store holds no less than was seen, so `--seen` ends nothing; if clients tell of two histories, name more than it holds"
                );
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn guarded(
        &self,
        published: &Checkpoint,
        ahead: &[Tree],
        tip: &Checkpoint,
    ) -> Result<Guarded, AppendError> {
        let guarded = match self.parts.guard.load() {
            Ok(Some(guarded)) => guarded,
            Ok(None) if tip.size == 0 => return Ok(Guarded::Fits),
            Ok(None) => {
                return Ok(Guarded::Nothing(format!(
                    "the store holds {} entries but the guard, which remembers what was signed, is missing",
                    tip.size
                )));
            }
            Err(error) => return Ok(Guarded::Nothing(format!("the guard cannot be read: {error}"))),
        };
        if guarded.origin.site() != tip.origin.site() {
            return Err(AppendError::Stopped(format!(
                "the guard is of the ledger {}, not {}",
                guarded.origin, tip.origin
            )));
        }
        if guarded.origin.series() < tip.origin.series() {
            // Nothing was signed in this series yet when it was written. What it says of the ledger before was
            // decided when that one ended.
            return Ok(Guarded::Fits);
        }
        if guarded.origin != tip.origin {
            let what = format!(
                "the ledger {} was signed, the store ends with {}: it was rolled back",
                guarded.origin, tip.origin
            );
            return Ok(Guarded::Beyond(guarded, what));
        }
        if guarded.size > tip.size {
            let what = format!(
                "{} entries were signed, the store holds only {}: it was rolled back",
                guarded.size, tip.size
            );
            return Ok(Guarded::Beyond(guarded, what));
        }
        let same = if guarded.size <= published.size {
            self.root_at(guarded.size, published).await? == guarded.root
        } else {
            // Only whole commits are ever guarded.
            ahead.contains(&guarded.tree())
        };
        if same {
            return Ok(Guarded::Fits);
        }
        let what = format!(
            "the first {} entries in the store are not the ones that were signed: it holds a second history",
            guarded.size
        );
        Ok(Guarded::Beyond(guarded, what))
    }

    /// Ends the ledger with its published tree, and opens the one that goes on.
    pub(super) async fn end_here(&mut self, published: &Checkpoint, seen: Seen) -> Result<(), AppendError> {
        let parts = &self.parts;
        let successor = Successor {
            origin: published.origin.clone(),
            size: published.size,
            root: published.root,
            seen: Some(seen),
        };
        let with = (parts.clock.as_ref(), &parts.random);
        let opened = Lineage::open_successor(&Arc::clone(&parts.store), &parts.key, with, successor).await?;
        tracing::warn!(ended = %published.origin, size = published.size, %opened, "a successor goes on");
        self.earlier = None;
        Ok(())
    }
}
