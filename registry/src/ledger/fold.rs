//! What an index lacks of a ledger that is stored, folded: this site's own, or the copy of another one's.
//!
//! No rule is checked here: what stands in a ledger was admitted, by the sequencer or by the follower.

use std::cmp::Ordering;

use waag_schema::ledger::merkle::{self, root_nodes};
use waag_schema::ledger::{Checkpoint, Class, LedgerError, RefKind, Root, entry_number, entry_place};
use waag_schema::statement::Envelope;

use super::AppendError;
use super::prepare::prepare;
use super::reader::load_tiles;
use super::streams::Streams;
use crate::index::{Folded, Index};
use crate::store::Store;

/// Entries folded in one transaction. Envelopes are found by digest, so the entries of one transaction change pages all
/// over the file: the fewer transactions, the fewer times each page is written.
const FOLDED_AT_ONCE: u64 = 32_768;
/// From this many entries on, the index gets more memory while it catches up.
const MANY_ENTRIES: u64 = 4 * FOLDED_AT_ONCE;

/// Which openings are there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// All of them that are not erased.
    Everything,
    /// Those that everybody may read.
    Open,
}

/// A fold of a stored ledger into an index.
pub(crate) struct Folding<'a> {
    /// Where the ledger is.
    pub(crate) ledger: &'a dyn Store,
    /// Where recipes and manifests are.
    pub(crate) content: &'a dyn Store,
    /// The index.
    pub(crate) index: &'a mut Index,
    /// The last trees of all series.
    pub(crate) trees: Vec<Checkpoint>,
    /// What can be read.
    pub(crate) reads: Reads,
}

impl Folding<'_> {
    /// Folds the entries that the index lacks; all of them, where it does not fit the tree.
    pub(crate) async fn catch_up(&mut self) -> Result<(), AppendError> {
        let folded = self.index.folded()?;
        let trees = self.trees.clone();
        if !self.fits(&folded, &trees).await? {
            tracing::warn!(
                folded = folded.size,
                size = trees.last().map_or(0, |tree| tree.size),
                "the index does not fit the ledger and is folded anew"
            );
            self.index.reset()?;
        }
        let mut holds_erased = false;
        for tree in &trees {
            let (series, index) = entry_place(self.index.folded()?.size);
            let from = match series.cmp(&tree.origin.series()) {
                Ordering::Less => 0,
                Ordering::Equal => index,
                Ordering::Greater => continue,
            };
            if from < tree.size {
                self.index.set_roomy(tree.size - from >= MANY_ENTRIES)?;
                holds_erased |= self.fold_tree(&trees, tree, from).await?;
                self.index.set_roomy(false)?;
            }
        }
        if holds_erased {
            // Rows were folded from an opening that is erased now: all of them are folded anew, without it, and
            // the file is rewritten. The second pass finds no such row, so this ends.
            self.index.reset()?;
            Box::pin(self.catch_up()).await?;
            self.index.scrub()?;
        }
        Ok(())
    }

    /// Folds a series from an entry on, and says whether rows are there that one of its entries erases.
    async fn fold_tree(
        &mut self,
        trees: &[Checkpoint],
        tree: &Checkpoint,
        from: u64,
    ) -> Result<bool, AppendError> {
        let store = self.ledger;
        let series = tree.origin.series();
        if from == 0 && series > 1 {
            // Read by the cursors outside the batch; a crash behind it leaves nothing of the series folded.
            self.index.begin_series()?;
        }
        let mut streams = Streams::open(store, &tree.origin, self.index).await?;
        let mut openings = 0;
        let mut holds_erased = false;
        let mut position = from;
        while position < tree.size {
            let end = tree
                .size
                .min(position - position % FOLDED_AT_ONCE + FOLDED_AT_ONCE);
            self.index.begin()?;
            for at in position..end {
                openings += u64::from(self.fold_at(at, trees, tree, &mut streams).await?);
                let leaf = streams.leaf(store, at, tree.size).await?;
                if let Some((RefKind::Erases, target)) = leaf.reference {
                    holds_erased |= self.index.questions().place_of(target)?.is_some();
                }
            }
            // An erased opening leaves its slot. A pack that was read stale, or is lost, has too few of them, and
            // what was not folded from it would be taken for new when it is sent again.
            if streams.passed() < openings {
                self.index.reset()?;
                return Err(AppendError::Stopped(format!(
                    "the packs lack openings of entries from {position} to {end} of {}; run `waag ledger fsck`",
                    tree.origin
                )));
            }
            if end == tree.size {
                // A copy may hold slots behind this tree, of a look that did not come to its end.
                let behind = match self.reads {
                    Reads::Everything => 0,
                    Reads::Open => streams.passed() - openings,
                };
                for (stream, count) in streams.counts() {
                    self.index.set_stream_count(stream, count - behind)?;
                }
            }
            let root = if end == tree.size {
                tree.root
            } else {
                root_at(store, end, tree).await?
            };
            self.index.commit(Folded {
                size: entry_number(series, end)?,
                root: *root.as_bytes(),
            })?;
            position = end;
        }
        tracing::info!(ledger = %tree.origin, from, to = tree.size, "the index caught up with the ledger");
        Ok(holds_erased)
    }

    /// Folds one entry and says whether it has, or had, an opening.
    async fn fold_at(
        &mut self,
        position: u64,
        trees: &[Checkpoint],
        tree: &Checkpoint,
        streams: &mut Streams,
    ) -> Result<bool, AppendError> {
        let number = entry_number(tree.origin.series(), position)?;
        let store = self.ledger;
        let leaf = streams.leaf(store, position, tree.size).await?;
        let Some((stream, seq, opened)) = streams.take(store, &leaf.commitment).await? else {
            if leaf.class == Class::Pad || (leaf.class == Class::Restricted && self.reads == Reads::Open) {
                return Ok(false);
            }
            if !streams.is_erased(store, trees, number).await? {
                return Err(AppendError::Stopped(format!(
                    "the opening of entry {number} is missing or damaged, and no entry says that it was erased; put back the packs (`body/`) from a backup, and see `waag ledger fsck`"
                )));
            }
            return Ok(true);
        };
        let prepared = prepare(self.content, Envelope::parse(opened.opening.envelope())?).await?;
        let at = opened.opening.header().at;
        self.index.fold(number, at, stream.as_str(), seq, &prepared)?;
        Ok(true)
    }

    async fn fits(&self, folded: &Folded, trees: &[Checkpoint]) -> Result<bool, AppendError> {
        if folded.size == 0 {
            return Ok(true);
        }
        let (series, size) = entry_place(folded.size);
        let tree = trees.iter().find(|tree| tree.origin.series() == series);
        let Some(tree) = tree.filter(|tree| size <= tree.size) else {
            return Ok(false);
        };
        let root = if size == tree.size {
            tree.root
        } else {
            root_at(self.ledger, size, tree).await?
        };
        Ok(*root.as_bytes() == folded.root)
    }
}

/// Returns the root that a tree had at an earlier size.
pub(crate) async fn root_at(ledger: &dyn Store, size: u64, tree: &Checkpoint) -> Result<Root, AppendError> {
    let series = tree.origin.series();
    let source = load_tiles(ledger, series, &root_nodes(size), tree.size).await?;
    Ok(merkle::root(&source, size).map_err(LedgerError::from)?)
}
