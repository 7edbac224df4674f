//! A start, and every other moment in which it is not known what the store holds.
//!
//! 1. Take the published checkpoint and check it by this ledger's own key.
//! 2. Look ahead: follow the commit objects that continue the tree, and write nothing yet.
//! 3. Compare with the guard (`restored`). It may be behind, if it is the beginning of the same tree; if it is ahead or
//!    another, the store was rolled back or exchanged, and nothing is written or signed. A checkpoint that was
//!    read stale looks the same, and a commit object that arrived late and came to nothing could then be taken
//!    for the next one: so this comes before anything is made of them, and the store is asked again. Only where
//!    the operator says that a backup was restored, the ledger ends here instead, and a successor goes on.
//! 4. Roll forward: materialise each commit (the same function as every day). Guard and publish the tree, also
//!    where it is published already: the swap proves that the checkpoint is the newest and makes it durable.
//! 5. Fold what the index lacks, delete finished commit objects.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};
use waag_schema::ledger::merkle::root_nodes;
use waag_schema::ledger::{
    Checkpoint, CommitRecord, Edge, HashSource, Leaf, Node, Root, SignedCheckpoint, Tree, WriterId,
};

use super::fold::{self, Folding, Reads};
use super::lineage::{Lineage, published};
use super::materialise::materialise;
use super::reader::{LedgerReader, load_bundle, load_tiles};
use super::restored::Restored;
use super::sequencer::{Parts, Sequencer, Tip, next_partial};
use super::{AppendError, Ledger, WAITING_BYTES_MAX, WAITING_MAX};
use crate::index::Reader;
use crate::store::{Key, Store, StoreError};

/// How often recovery is tried before who waits for it is told so.
const RECOVER_TRIES: usize = 3;
/// Entries of a bundle.
const WIDTH: u64 = 256;
/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

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
    let mut sequencer = Sequencer {
        parts,
        earlier: None,
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
    let ledger_reader = LedgerReader {
        store: Arc::clone(&sequencer.parts.store),
        index: reader,
        earlier: sequencer.earlier.clone().unwrap_or_default().into(),
        origin: sequencer.parts.origin.clone(),
    };
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
        let store = Arc::clone(&self.parts.store);
        if self.earlier.is_none() {
            // Once: a process that runs never opens a successor, and nobody else writes here.
            let lineage = Lineage::load(&store, self.parts.origin.site(), &self.parts.key).await?;
            self.parts.origin = lineage.origin;
            self.earlier = Some(lineage.earlier);
        }
        let series = self.series();
        let (published, cell) = published(&store, &self.parts.origin, &self.parts.key).await?;
        let published = published.checkpoint().clone();
        let mut edge = load_edge(store.as_ref(), &published).await?;
        let ahead = self.look_ahead(edge.clone()).await?;
        let tip = Checkpoint {
            origin: self.parts.origin.clone(),
            size: ahead.last().map_or(published.size, |tree| tree.size),
            root: ahead.last().map_or(published.root, |tree| tree.root),
        };
        if let Some(seen) = self.beyond(&published, &ahead, &tip, restored).await? {
            self.end_here(&published, seen).await?;
            // The operator has spoken for the successor's first tree as well, if the guard is missing.
            return Box::pin(self.try_recover(Restored::Yes)).await;
        }
        let mut partial = load_partial(store.as_ref(), &published).await?;
        for tree in &ahead {
            let key = Key::commit(series, edge.size());
            let bytes = store.get(&key).await?;
            let record = CommitRecord::decode(&self.parts.origin, &bytes)?;
            let growth = record.grow(&edge)?;
            if (growth.size, growth.root) != (tree.size, tree.root) {
                return Err(AppendError::Unknown(format!("{key} changed while it was read")));
            }
            // Sent again, because it may have been read before it was durable.
            store.put_if_absent(&key, bytes).await?;
            materialise(store.as_ref(), series, &record, &growth, &partial).await?;
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
            let bytes = match self
                .parts
                .store
                .get(&Key::commit(self.series(), edge.size()))
                .await
            {
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

    /// Folds the entries that the index lacks.
    pub(super) async fn catch_up(&mut self, tip: &Checkpoint) -> Result<(), AppendError> {
        let trees = self.trees(tip);
        let store = self.parts.store.as_ref();
        let mut folding = Folding {
            ledger: store,
            content: store,
            index: &mut self.parts.index,
            trees,
            reads: Reads::Everything,
        };
        folding.catch_up().await
    }

    /// Returns the last trees of all series.
    fn trees(&self, tip: &Checkpoint) -> Vec<Checkpoint> {
        let earlier = self.earlier.iter().flatten().map(|signed| signed.checkpoint());
        earlier.chain([tip]).cloned().collect()
    }

    /// Returns the root that a tree had at an earlier size.
    pub(super) async fn root_at(&self, size: u64, tree: &Checkpoint) -> Result<Root, AppendError> {
        fold::root_at(self.parts.store.as_ref(), size, tree).await
    }

    /// Deletes commit objects of what is published, or leaves them to the next start: they are in nobody's way.
    async fn delete_finished_commits(&self, size: u64) {
        let ended = self.earlier.iter().flatten();
        // What was committed and not published when a ledger ended is no part of it, and holds salts as well.
        let ended = ended.map(|signed| (signed.checkpoint().origin.series(), u64::MAX));
        for (series, size) in ended.chain([(self.series(), size)]) {
            if let Err(error) = self.delete_commits(series, size).await {
                tracing::warn!(%error, "finished commit objects are left to the next start");
            }
        }
    }

    /// Deletes the commit objects of entries below this size. They hold salts and openings.
    pub(super) async fn delete_commits(&self, series: u32, size: u64) -> Result<(), StoreError> {
        let finished = |key: &Key| key.last().parse::<u64>().is_ok_and(|old| old < size);
        let mut after = None;
        loop {
            let prefix = Key::commit_prefix(series);
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

/// Loads the leaves of the entry bundle that grows next; each must be the one that was hashed, or its damage would be
/// copied into every bundle that follows.
async fn load_partial(store: &dyn Store, published: &Checkpoint) -> Result<Vec<Leaf>, AppendError> {
    let (series, size) = (published.origin.series(), published.size);
    let leaves = load_bundle(store, series, size / WIDTH, size).await?;
    let first = size - size % WIDTH;
    let nodes: Vec<Node> = (first..size).map(|index| Node { level: 0, index }).collect();
    let hashes = load_tiles(store, series, &nodes, size).await?;
    let fits = |(node, leaf): (&Node, &Leaf)| {
        let hash = hashes.hash_at(node.level, node.index);
        hash.is_ok_and(|hash| hash == leaf.hash())
    };
    if leaves.len() == nodes.len() && nodes.iter().zip(&leaves).all(fits) {
        return Ok(leaves);
    }
    Err(AppendError::Stopped(format!(
        "the last entry bundle in the store (entries from {first}) is not what was hashed; put it back from a backup, and see `waag ledger fsck`"
    )))
}

async fn load_edge(store: &dyn Store, published: &Checkpoint) -> Result<Edge, AppendError> {
    let source = load_tiles(
        store,
        published.origin.series(),
        &root_nodes(published.size),
        published.size,
    )
    .await?;
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
