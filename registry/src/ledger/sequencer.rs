//! The one writer of a ledger.
//!
//! ```text
//! admit at size S -> create seq/S -> read it back -> tiles, packs, guard -> sign -> publish -> fold -> answer
//! ```
//!
//! Group commit without a timer: an idle ledger commits at once; what arrives meanwhile is the next batch.
//! After any doubt about what the store holds, the sequencer forgets what it knows, recovers by the path that
//! every start takes, and looks at the batch again: what turns out to be recorded is answered with its place,
//! the rest is committed anew. That cannot record a statement twice: a copy of the first try that arrives late
//! finds its key taken, or takes it and is found there.
//!
//! Only a write that the store has confirmed counts as durable. What was merely read may have been left by a
//! write that failed half-way, and be gone after a power loss; it is written again before anything rests on it.
//!
//! Budget of one commit: 3 groups of syncs (the commit object; tiles, packs and guard together; the
//! checkpoint), then one SQLite transaction without a sync.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::{
    BatchNonce, Checkpoint, CommitRecord, Edge, Growth, Leaf, LedgerError, Origin, SignedCheckpoint,
    WriterId, entry_number,
};

use super::admission::Batch;
use super::guard::Guard;
use super::materialise::materialise;
use super::{AppendError, Request, Submission};
use crate::clock::Clock;
use crate::index::{Folded, Index};
use crate::random::Random;
use crate::store::{Key, Store, StoreError, Swap, Version};
use crate::telemetry::Metrics;

/// Entries in one batch: what fills a bundle.
const BATCH_ENTRIES_MAX: usize = 256;
/// Bytes of envelopes in one batch.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How often a commit object whose answer was lost is sent again.
const COMMIT_TRIES: usize = 3;
/// How often a batch is looked at before its submitters are asked to come back.
const BATCH_TRIES: usize = 3;

/// What a sequencer works with.
pub struct Parts {
    /// Where the ledger is.
    pub store: Arc<dyn Store>,
    /// The name of the site's first ledger; of the one that goes on, once the store has been looked at.
    pub origin: Origin,
    /// The ledger's key.
    pub key: Arc<KeyPair>,
    /// The key that signs what the site says of its ledger.
    pub site_key: Arc<KeyPair>,
    /// What the key has signed.
    pub guard: Guard,
    /// The fold.
    pub index: Index,
    /// When it is.
    pub clock: Arc<dyn Clock>,
    /// Salts and nonces.
    pub random: Random,
    /// What is counted.
    pub metrics: Metrics,
}

/// Where the published tree stands.
pub(super) struct Tip {
    pub(super) edge: Edge,
    /// The leaves of the last bundle, if that is not full.
    pub(super) partial: Vec<Leaf>,
    /// The checkpoint cell as it was last seen.
    pub(super) cell: Option<Version>,
}

/// The writer.
pub struct Sequencer {
    pub(super) parts: Parts,
    /// The last checkpoints of the series that ended; none while it is not known which there are.
    pub(super) earlier: Option<Vec<SignedCheckpoint>>,
    /// None while it is not known what the store holds.
    pub(super) tip: Option<Tip>,
    pub(super) published: watch::Sender<SignedCheckpoint>,
    pub(super) writer: WriterId,
    /// Deletes the last commit object beside the admission of the next batch.
    pub(super) cleaning: Option<JoinHandle<()>>,
}

impl Sequencer {
    pub(super) const fn series(&self) -> u32 {
        self.parts.origin.series()
    }

    /// Returns the number of an entry of this series.
    pub(super) fn number(&self, index: u64) -> Result<u64, LedgerError> {
        entry_number(self.series(), index)
    }

    /// Commits what is submitted, until every handle to the ledger is gone.
    pub(super) async fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        while let Some(first) = submissions.recv().await {
            let mut batch = vec![first];
            let weight = |batch: &[Submission]| {
                let envelopes = || batch.iter().flat_map(|s| s.request.envelopes());
                (
                    envelopes().count(),
                    envelopes().map(|e| e.bytes().len()).sum::<usize>(),
                )
            };
            while let (entries, bytes) = weight(&batch)
                && entries < BATCH_ENTRIES_MAX
                && bytes < BATCH_BYTES_MAX
            {
                match submissions.try_recv() {
                    Ok(next) => batch.push(next),
                    Err(_) => break,
                }
            }
            self.commit(batch).await;
        }
        self.cleaned().await;
    }

    /// Waits until the last commit object is deleted, or is known to be left: never more than one is under way.
    pub(super) async fn cleaned(&mut self) {
        if let Some(cleaning) = self.cleaning.take() {
            // It fails only when the runtime ends, and then the next start deletes.
            let _ = cleaning.await;
        }
    }

    /// Commits one batch and answers every submission in it.
    async fn commit(&mut self, mut batch: Vec<Submission>) {
        let mut failure = None;
        for _ in 0..BATCH_TRIES {
            let tried = match self.ready().await {
                Ok(tip) => self.try_commit(tip, &mut batch).await,
                Err(error) => {
                    tracing::error!(%error, "the ledger cannot be recovered; the next submission tries again");
                    // What cannot be completed may be an earlier copy of what is submitted.
                    failure = failure.or(Some(committed(error)));
                    break;
                }
            };
            match tried {
                Ok(positions) => {
                    for (submission, positions) in batch.into_iter().zip(positions) {
                        // Who asked may have gone; the statement stands all the same.
                        let _ = submission.answer.send(Ok(positions));
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "a commit failed; the ledger recovers and looks again");
                    if let Err(error) = self.parts.index.rollback() {
                        tracing::error!(%error, "the index could not drop a batch");
                    }
                    // Without room for a commit object nothing was written, and there is no doubt.
                    let full = matches!(error, AppendError::Store(StoreError::Full(_)));
                    failure = failure.or(Some(error));
                    if full {
                        break;
                    }
                }
            }
        }
        // The first failure is what decides whether anything may have been written.
        let failure = failure.unwrap_or_else(|| AppendError::Unknown("no try was made".to_owned()));
        for submission in batch {
            let _ = submission.answer.send(Err(match &failure {
                AppendError::Store(StoreError::Full(key)) => {
                    AppendError::Store(StoreError::Full(key.clone()))
                }
                failure => AppendError::Unknown(failure.to_string()),
            }));
        }
    }

    /// Returns where the published tree stands; learns it first, where a failure left that open.
    async fn ready(&mut self) -> Result<Tip, AppendError> {
        match self.tip.take() {
            Some(tip) => Ok(tip),
            None => self.recover(super::Restored::No).await,
        }
    }

    /// Commits what can be admitted of the batch and returns where each submission's statements stand; who is
    /// rejected is told so and leaves the batch. After a failure `self.tip` is none.
    async fn try_commit(
        &mut self,
        tip: Tip,
        batch: &mut Vec<Submission>,
    ) -> Result<Vec<Vec<u64>>, AppendError> {
        let old_size = tip.edge.size();
        self.parts.index.begin()?;
        let mut made = Batch::new(self.number(old_size)?);
        let mut positions = Vec::with_capacity(batch.len());
        while let Some(submission) = batch.get(positions.len()) {
            self.parts.index.mark()?;
            let before = made.entries.len();
            let admitted = match &submission.request {
                Request::Append(envelopes) => self.admit(&mut made, envelopes).await,
                Request::Erase { entry, ground } => self.admit_erasure(&mut made, *entry, ground),
                Request::Say { statement, copies_of } => self
                    .admit_own(&mut made, statement, copies_of.as_ref())
                    .map(|position| vec![position]),
                Request::Renew => self.admit_revocations(&mut made).map(|position| vec![position]),
            };
            match admitted {
                Ok(admitted) => {
                    self.parts.index.keep()?;
                    positions.push(admitted);
                }
                Err(error) => {
                    made.entries.truncate(before);
                    self.parts.index.undo()?;
                    let _ = batch.remove(positions.len()).answer.send(Err(error));
                }
            }
        }
        if made.entries.is_empty() {
            self.parts.index.rollback()?;
            self.tip = Some(tip);
            return Ok(positions);
        }
        if made.withdraws {
            // In the same batch: no tree shows a withdrawal that the newest list does not name.
            self.admit_revocations(&mut made)?;
        }
        let Batch { entries, erases, .. } = made;
        let count = entries.len() as u64;
        let nonce = BatchNonce::from_bytes(self.parts.random.bytes());
        let (record, growth) = CommitRecord::new(&tip.edge, self.writer, nonce, entries)?;
        self.cleaned().await;
        self.create(&record).await?;
        // Committed. A crash or a failure from here on is completed by the next recovery.
        let tip = self
            .finish(&tip, &record, growth, erases)
            .await
            .map_err(committed)?;
        self.parts.metrics.entries.inc_by(count);
        self.parts.metrics.commits.inc();
        self.tip = Some(tip);
        // The record holds salts and bodies and is not needed any more; a start deletes what a crash leaves.
        let (store, key) = (
            Arc::clone(&self.parts.store),
            Key::commit(self.series(), old_size),
        );
        self.cleaning = Some(tokio::spawn(async move {
            if let Err(error) = store.delete(&key).await {
                tracing::warn!(%key, %error, "a finished commit object is left to the next start");
            }
        }));
        Ok(positions)
    }

    /// Takes a committed record to tiles, packs, guard, checkpoint and index.
    async fn finish(
        &mut self,
        tip: &Tip,
        record: &CommitRecord,
        growth: Growth,
        erases: bool,
    ) -> Result<Tip, AppendError> {
        let checkpoint = Checkpoint {
            origin: self.parts.origin.clone(),
            size: growth.size,
            root: growth.root,
        };
        let (made, guarded) = tokio::join!(
            materialise(
                self.parts.store.as_ref(),
                self.series(),
                record,
                &growth,
                &tip.partial
            ),
            self.guard(checkpoint.clone())
        );
        made?;
        guarded?;
        let cell = self.publish(checkpoint.clone(), tip.cell.as_ref()).await?;
        if erases {
            // What still holds the opening goes as well: commit objects, and rows that were folded from it.
            self.parts.index.rollback()?;
            self.delete_commits(self.series(), checkpoint.size).await?;
            self.catch_up(&checkpoint).await?;
        } else {
            self.parts.index.commit(Folded {
                size: self.number(growth.size)?,
                root: *growth.root.as_bytes(),
            })?;
        }
        Ok(Tip {
            partial: next_partial(&tip.partial, record),
            edge: growth.edge,
            cell: Some(cell),
        })
    }

    /// Creates the commit object and makes sure that it is ours and durable, whatever the store answered.
    async fn create(&self, record: &CommitRecord) -> Result<(), AppendError> {
        let key = Key::commit(self.series(), record.before().size);
        let bytes = Bytes::from(record.encode());
        for attempt in 0..COMMIT_TRIES {
            let answered = match self.parts.store.put_if_absent(&key, bytes.clone()).await {
                // Without room for the first copy nothing is under way. After a doubt that is not so clear.
                Err(full @ StoreError::Full(_)) if attempt == 0 => return Err(full.into()),
                answered => answered,
            };
            // Lost answers, late arrivals and other writers all show here: only what is read back counts.
            match self.parts.store.get(&key).await {
                Ok(found) if found != bytes => {
                    return Err(AppendError::Unknown(format!("another writer committed {key}")));
                }
                // It is there, and the store says that it stays.
                Ok(_) if answered.is_ok() => return Ok(()),
                Ok(_) | Err(StoreError::NotFound(_)) => {
                    // Sending the same bytes again makes a late arrival of the first copy harmless.
                    tracing::warn!(%key, ?answered, "a commit object was not confirmed; it is sent again");
                }
                Err(error) => return Err(committed(error.into())),
            }
        }
        Err(AppendError::Unknown(format!("{key} could not be created")))
    }

    /// Makes the guard durable; only then may the checkpoint be signed.
    pub(super) async fn guard(&self, checkpoint: Checkpoint) -> Result<(), AppendError> {
        let guard = self.parts.guard.clone();
        let saved = tokio::task::spawn_blocking(move || guard.save(&checkpoint)).await;
        saved
            .expect("saving the guard does not panic")
            .map_err(|error| AppendError::Unknown(format!("the guard could not be saved: {error}")))
    }

    /// Signs a guarded checkpoint and publishes it, unless a larger one is published.
    pub(super) async fn publish(
        &self,
        checkpoint: Checkpoint,
        cell: Option<&Version>,
    ) -> Result<Version, AppendError> {
        let size = checkpoint.size;
        let signed = SignedCheckpoint::sign(checkpoint, &self.parts.key);
        let bytes = Bytes::from(signed.to_string());
        match self
            .parts
            .store
            .swap_cell(&Key::checkpoint(self.series()), cell, bytes)
            .await?
        {
            Swap::Swapped(version) => {
                self.parts
                    .metrics
                    .ledger_size
                    .set(i64::try_from(size).unwrap_or(i64::MAX));
                self.published.send_replace(signed);
                Ok(version)
            }
            Swap::Lost => Err(AppendError::Unknown(
                "the checkpoint was changed by somebody else".to_owned(),
            )),
        }
    }
}

/// Makes sure that a failure after the commit object was sent is never taken for a refusal.
fn committed(error: AppendError) -> AppendError {
    match error {
        AppendError::Store(error) => AppendError::Unknown(error.to_string()),
        error => error,
    }
}

/// The leaves of the last bundle once a record is applied.
pub(super) fn next_partial(partial: &[Leaf], record: &CommitRecord) -> Vec<Leaf> {
    let mut leaves = partial.to_vec();
    leaves.extend(record.entries().iter().map(|e| *e.leaf()));
    let full = leaves.len() - leaves.len() % 256;
    leaves.split_off(full)
}
