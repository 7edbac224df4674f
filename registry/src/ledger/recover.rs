//! A start, and every other moment in which it is not known what the store holds.
//!
//! 1. Take the published checkpoint and check it by this ledger's own key.
//! 2. Look ahead: follow the commit objects that continue the tree, and write nothing yet.
//! 3. Compare with the guard. It may be behind, if it is the beginning of the same tree; if it is ahead or
//!    another, the store was rolled back or exchanged, and nothing is written or signed. A checkpoint that was
//!    read stale looks the same, and a commit object that arrived late and came to nothing could then be taken
//!    for the next one: so this comes before anything is made of them, and the store is asked again.
//! 4. Roll forward: materialise each commit (the same function as every day). Guard and publish the tree, also
//!    where it is published already: the swap proves that the checkpoint is the newest and makes it durable.
//! 5. Fold what the index lacks, delete finished commit objects.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};
use waag_schema::ledger::merkle::{self, root_nodes};
use waag_schema::ledger::{
    Checkpoint, Class, CommitRecord, Edge, LedgerError, RefKind, Root, SignedCheckpoint, Tree, WriterId,
};
use waag_schema::statement::Envelope;

use super::materialise::materialise;
use super::prepare::prepare;
use super::reader::{LedgerReader, load_bundle, load_tiles};
use super::sequencer::{Parts, Sequencer, Tip, next_partial};
use super::streams::Streams;
use super::{AppendError, Ledger, SERIES, WAITING_BYTES_MAX, WAITING_MAX};
use crate::index::{Folded, Reader};
use crate::store::{Key, Store, StoreError, Version};

/// Entries folded in one transaction while the index catches up.
const FOLDED_AT_ONCE: u64 = 4096;
/// How often recovery is tried before who waits for it is told so.
const RECOVER_TRIES: usize = 3;
/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

/// Whether the operator says that the store comes from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// An ordinary start.
    No,
    /// `waag serve --recovered`: go on without a guard, if nobody saw more than was restored.
    Yes,
}

/// A ledger that is ready.
pub struct Opened {
    /// The handle.
    pub ledger: Ledger,
    /// The writer; it ends when every handle is gone.
    pub task: tokio::task::JoinHandle<()>,
}

/// Brings store, guard and index to one state and starts the writer.
///
/// # Errors
/// When they contradict each other; the message says what an operator can do.
pub async fn open(parts: Parts, reader: Reader, restored: Restored) -> Result<Opened, AppendError> {
    let empty = Checkpoint {
        origin: parts.origin.clone(),
        size: 0,
        root: Root::empty(),
    };
    let (published, seen) = watch::channel(SignedCheckpoint::sign(empty, &parts.key));
    let writer = WriterId::from_bytes(parts.random.bytes());
    let ledger_reader = LedgerReader {
        store: Arc::clone(&parts.store),
        index: reader,
        origin: parts.origin.clone(),
    };
    let mut sequencer = Sequencer {
        parts,
        tip: None,
        published,
        writer,
        cleaning: None,
    };
    // SQLite's connection may move between threads but not be shared, so the writer keeps a thread to itself.
    let runtime = tokio::runtime::Handle::current();
    let recovered = tokio::task::spawn_blocking(move || {
        runtime.block_on(async move {
            let tip = sequencer.recover(restored).await?;
            sequencer.tip = Some(tip);
            Ok::<_, AppendError>(sequencer)
        })
    });
    let sequencer = recovered.await.expect("recovery does not panic")?;
    let (submissions, waiting) = mpsc::channel(WAITING_MAX);
    let runtime = tokio::runtime::Handle::current();
    let task = tokio::task::spawn_blocking(move || runtime.block_on(sequencer.run(waiting)));
    Ok(Opened {
        ledger: Ledger {
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            submissions,
            published: seen,
            reader: ledger_reader,
        },
        task,
    })
}

impl Sequencer {
    /// Learns what the store holds, completes what a crash left, and returns where the tree stands.
    pub(super) async fn recover(&mut self, restored: Restored) -> Result<Tip, AppendError> {
        self.cleaned().await;
        let mut tries = 0;
        loop {
            tries += 1;
            // A batch that was half folded when something failed would block every later one.
            self.parts.index.rollback()?;
            match self.try_recover(restored).await {
                // A read may have been stale, or a write still under way: the store is asked again. What truly
                // contradicts itself does so again.
                Err(error) if tries < RECOVER_TRIES => {
                    tracing::warn!(%error, "the ledger could not be recovered; it is tried again");
                }
                recovered => return recovered,
            }
        }
    }

    async fn try_recover(&mut self, restored: Restored) -> Result<Tip, AppendError> {
        let (published, cell) = self.published_checkpoint().await?;
        let store = Arc::clone(&self.parts.store);
        let mut edge = load_edge(store.as_ref(), &published).await?;
        let ahead = self.look_ahead(edge.clone()).await?;
        let tip = Checkpoint {
            origin: self.parts.origin.clone(),
            size: ahead.last().map_or(published.size, |tree| tree.size),
            root: ahead.last().map_or(published.root, |tree| tree.root),
        };
        self.compare_with_guard(&published, &ahead, &tip, restored)
            .await?;
        let mut partial = load_bundle(store.as_ref(), published.size / 256, published.size).await?;
        for tree in &ahead {
            let key = Key::commit(SERIES, edge.size());
            let bytes = store.get(&key).await?;
            let record = CommitRecord::decode(&self.parts.origin, &bytes)?;
            let growth = record.grow(&edge)?;
            if (growth.size, growth.root) != (tree.size, tree.root) {
                return Err(AppendError::Unknown(format!("{key} changed while it was read")));
            }
            // Sent again, because it may have been read before it was durable.
            store.put_if_absent(&key, bytes).await?;
            materialise(store.as_ref(), &record, &growth, &partial).await?;
            partial = next_partial(&partial, &record);
            edge = growth.edge;
        }
        if tip.size > published.size {
            tracing::info!(
                from = published.size,
                to = tip.size,
                "completing what was committed before"
            );
        }
        self.guard(tip.clone()).await?;
        let cell = if tip.size > 0 {
            Some(self.publish(tip.clone(), cell.as_ref()).await?)
        } else {
            cell
        };
        self.catch_up(&tip).await?;
        self.delete_finished_commits(tip.size).await;
        Ok(Tip { edge, partial, cell })
    }

    /// Returns the trees that the commit objects make of this one, in order.
    async fn look_ahead(&self, mut edge: Edge) -> Result<Vec<Tree>, AppendError> {
        let mut ahead = Vec::new();
        loop {
            let bytes = match self.parts.store.get(&Key::commit(SERIES, edge.size())).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound(_)) => return Ok(ahead),
                Err(error) => return Err(error.into()),
            };
            let growth = CommitRecord::decode(&self.parts.origin, &bytes)?.grow(&edge)?;
            ahead.push(Tree {
                size: growth.size,
                root: growth.root,
            });
            edge = growth.edge;
        }
    }

    async fn published_checkpoint(&self) -> Result<(Checkpoint, Option<Version>), AppendError> {
        let origin = &self.parts.origin;
        let Some(cell) = self.parts.store.read_cell(&Key::checkpoint(SERIES)).await? else {
            return Ok((
                Checkpoint {
                    origin: origin.clone(),
                    size: 0,
                    root: Root::empty(),
                },
                None,
            ));
        };
        let signed = SignedCheckpoint::parse(&cell.bytes)?;
        if signed.checkpoint().origin != *origin {
            return Err(AppendError::Stopped(format!(
                "the store holds the ledger {}, this site's key is that of {origin}; put back the key that belongs to the store",
                signed.checkpoint().origin
            )));
        }
        signed.verify(&[self.parts.key.public()], &[])?;
        Ok((signed.checkpoint().clone(), Some(cell.version)))
    }

    /// Refuses to go on when this key has signed another history than the store holds.
    async fn compare_with_guard(
        &self,
        published: &Checkpoint,
        ahead: &[Tree],
        tip: &Checkpoint,
        restored: Restored,
    ) -> Result<(), AppendError> {
        let loaded = self.parts.guard.load();
        let guarded = match loaded {
            Ok(guarded) => guarded,
            Err(error) if restored == Restored::No => {
                return Err(AppendError::Stopped(format!("the guard cannot be read: {error}")));
            }
            Err(_) => None,
        };
        let Some(guarded) = guarded else {
            if tip.size > 0 && restored == Restored::No {
                return Err(AppendError::Stopped(format!(
                    "the store holds {} entries but the guard, which remembers what was signed, is missing; if the store comes from a backup, start with `waag serve --recovered`",
                    tip.size
                )));
            }
            return Ok(());
        };
        if guarded.origin != tip.origin {
            return Err(AppendError::Stopped(format!(
                "the guard is of the ledger {}, not {}",
                guarded.origin, tip.origin
            )));
        }
        if guarded.size > tip.size {
            return Err(AppendError::Stopped(format!(
                "{} entries were signed, the store holds only {}: it was rolled back; put back the newer store, or the entries beyond are lost to everybody who saw them",
                guarded.size, tip.size
            )));
        }
        let same = if guarded.size <= published.size {
            self.root_at(guarded.size, published.size).await? == guarded.root
        } else {
            // Only whole commits are ever guarded.
            ahead.contains(&guarded.tree())
        };
        if !same {
            return Err(AppendError::Stopped(format!(
                "the first {} entries in the store are not the ones that were signed: it holds a second history",
                guarded.size
            )));
        }
        Ok(())
    }

    /// Folds the entries that the index lacks; all of them, where it does not fit the tree.
    pub(super) async fn catch_up(&mut self, tip: &Checkpoint) -> Result<(), AppendError> {
        let folded = self.parts.index.folded()?;
        if !self.fits(&folded, tip).await? {
            tracing::warn!(
                folded = folded.size,
                size = tip.size,
                "the index does not fit the ledger and is folded anew"
            );
            self.parts.index.reset()?;
        }
        let from = self.parts.index.folded()?.size;
        if from == tip.size {
            return Ok(());
        }
        let mut streams =
            Streams::open(self.parts.store.as_ref(), &self.parts.origin, &self.parts.index).await?;
        let mut openings = 0;
        let mut holds_erased = false;
        let mut position = from;
        while position < tip.size {
            let end = tip
                .size
                .min(position - position % FOLDED_AT_ONCE + FOLDED_AT_ONCE);
            self.parts.index.begin()?;
            for at in position..end {
                openings += u64::from(self.fold_at(at, tip.size, &mut streams).await?);
                let leaf = streams.leaf(self.parts.store.as_ref(), at, tip.size).await?;
                if let Some((RefKind::Erases, target)) = leaf.reference {
                    holds_erased |= self.parts.index.questions().place_of(target)?.is_some();
                }
            }
            // An erased opening leaves its slot. A pack that was read stale, or is lost, has too few of them, and
            // what was not folded from it would be taken for new when it is sent again.
            if streams.passed() < openings {
                self.parts.index.reset()?;
                return Err(AppendError::Stopped(format!(
                    "the packs lack openings of entries from {from} to {end}; run `waag ledger fsck`"
                )));
            }
            if end == tip.size {
                for (stream, count) in streams.counts() {
                    self.parts.index.set_stream_count(stream, count)?;
                }
            }
            let root = if end == tip.size {
                tip.root
            } else {
                self.root_at(end, tip.size).await?
            };
            self.parts.index.commit(Folded {
                size: end,
                root: *root.as_bytes(),
            })?;
            position = end;
        }
        tracing::info!(from, to = tip.size, "the index caught up with the ledger");
        if holds_erased {
            // Rows were folded from an opening that is erased now: all of them are folded anew, without it, and
            // the file is rewritten. The second pass finds no such row, so this ends.
            self.parts.index.reset()?;
            Box::pin(self.catch_up(tip)).await?;
            self.parts.index.scrub()?;
        }
        Ok(())
    }

    /// Folds one entry and says whether it has, or had, an opening.
    async fn fold_at(
        &mut self,
        position: u64,
        size: u64,
        streams: &mut Streams,
    ) -> Result<bool, AppendError> {
        let store = Arc::clone(&self.parts.store);
        let leaf = streams.leaf(store.as_ref(), position, size).await?;
        let Some((stream, seq, opened)) = streams.take(store.as_ref(), &leaf.commitment).await? else {
            if leaf.class == Class::Pad {
                return Ok(false);
            }
            if !streams.is_erased(store.as_ref(), position, size).await? {
                return Err(AppendError::Stopped(format!(
                    "the opening of entry {position} is missing or damaged, and no entry says that it was erased; put back the packs (`body/`) from a backup, and see `waag ledger fsck`"
                )));
            }
            return Ok(true);
        };
        let prepared = prepare(store.as_ref(), Envelope::parse(opened.opening.envelope())?).await?;
        let at = opened.opening.header().at;
        self.parts
            .index
            .fold(position, at, stream.as_str(), seq, &prepared)?;
        Ok(true)
    }

    async fn fits(&self, folded: &Folded, tip: &Checkpoint) -> Result<bool, AppendError> {
        if folded.size > tip.size {
            return Ok(false);
        }
        let root = if folded.size == tip.size {
            tip.root
        } else {
            self.root_at(folded.size, tip.size).await?
        };
        Ok(*root.as_bytes() == folded.root)
    }

    async fn root_at(&self, size: u64, tree: u64) -> Result<Root, AppendError> {
        let source = load_tiles(self.parts.store.as_ref(), &root_nodes(size), tree).await?;
        Ok(merkle::root(&source, size).map_err(LedgerError::from)?)
    }

    /// Deletes commit objects of what is published, or leaves them to the next start: they are in nobody's way.
    async fn delete_finished_commits(&self, size: u64) {
        if let Err(error) = self.delete_commits(size).await {
            tracing::warn!(%error, "finished commit objects are left to the next start");
        }
    }

    /// Deletes the commit objects of entries below this size. They hold salts and openings.
    pub(super) async fn delete_commits(&self, size: u64) -> Result<(), StoreError> {
        let finished = |key: &Key| key.last().parse::<u64>().is_ok_and(|old| old < size);
        let mut after = None;
        loop {
            let prefix = Key::commit_prefix(SERIES);
            let keys = self
                .parts
                .store
                .list(&prefix, after.as_ref(), LISTED_AT_ONCE)
                .await?;
            for key in keys.iter().filter(|key| finished(key)) {
                self.parts.store.delete(key).await?;
            }
            match keys.last() {
                Some(last) if keys.len() == LISTED_AT_ONCE => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }
}

async fn load_edge(store: &dyn Store, published: &Checkpoint) -> Result<Edge, AppendError> {
    let source = load_tiles(store, &root_nodes(published.size), published.size).await?;
    // The partial tiles at the right edge are what the root is joined from, so this reads no more than they.
    let edge = Edge::from_source(&source, published.size)?;
    if edge.root() != published.root {
        return Err(AppendError::Stopped(format!(
            "the tiles in the store do not give the root of the published checkpoint at {} entries; run `waag ledger fsck`",
            published.size
        )));
    }
    Ok(edge)
}
