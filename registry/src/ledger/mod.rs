//! This site's ledger: statements in, positions and proofs out.
//!
//! One sequencer appends (`sequencer`); a start brings the store, the guard and the index to one state by
//! the same functions (`recover`); proofs are read from published tiles and packs (`reader`). The commit
//! point is the creation of `seq/<old size>`; nothing is acknowledged before it is in a signed, published tree.
//! A ledger that cannot be continued ends, and a successor, the next series, goes on (`lineage`); positions here
//! are entry numbers, which count through all of them.

mod admission;
mod fold;
mod followed;
mod guard;
mod lineage;
mod materialise;
mod prepare;
mod reader;
mod recover;
mod restored;
mod sequencer;
mod streams;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use waag_schema::Namespace;
use waag_schema::ledger::{LedgerError, Origin, PackPath, SignedCheckpoint, Stream, TilePath};
use waag_schema::statement::{Envelope, Statement, StatementError};
use waag_schema::wire::artifact::Proof;

pub(crate) use fold::{Folding, Reads, root_at};
pub(crate) use followed::owns;
pub use followed::{Followed, FollowedLedgers, Standing};
pub use guard::Guard;
pub(crate) use lineage::Lineage;
pub(crate) use materialise::erase_slot;
pub(crate) use prepare::prepare;
pub(crate) use reader::{load_bundle, load_tiles};
pub use recover::{Opened, open};
pub use restored::Restored;
pub use sequencer::{Parts, Sequencer};

use crate::index::{IndexError, Rejection};
use crate::store::{Key, StoreError};

/// Submissions that wait while a commit is under way; beyond this a caller is told to come back.
const WAITING_MAX: usize = 256;
/// Bytes of envelopes that wait or are being committed: each submission may have 8 MiB.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Statements were not appended, or cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A statement may not be recorded now.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// An envelope cannot be read.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Too many wait already: come back.
    #[error("too many statements wait to be recorded")]
    Busy,
    /// It is not known whether they were appended: send the same again, and learn.
    #[error("the ledger could not be written: {0}")]
    Unknown(String),
    /// The ledger has stopped, because going on could break it.
    #[error("the ledger has stopped: {0}")]
    Stopped(String),
    /// The ledger has no such entry.
    #[error("there is no entry {0}")]
    NoEntry(u64),
    /// An entry's opening was erased, so it cannot be proven.
    #[error("entry {0} was erased")]
    Erased(u64),
    /// The stored ledger is damaged.
    #[error("the stored ledger is damaged: {0}")]
    Damaged(#[from] LedgerError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the sequencer is asked for.
enum Request {
    /// Append statements, together or not at all.
    Append(Vec<Envelope>),
    /// Erase the opening of an entry.
    Erase { entry: u64, ground: String },
    /// Say anew which releases are withdrawn, so that a reader sees how fresh that is.
    Renew,
    /// Say what this site has measured, or does with a copy; of another site's private namespace to whoever may read
    /// that.
    Say {
        statement: Box<Statement>,
        copies_of: Option<Namespace>,
    },
}

impl Request {
    fn envelopes(&self) -> &[Envelope] {
        match self {
            Self::Append(envelopes) => envelopes,
            Self::Erase { .. } | Self::Renew | Self::Say { .. } => &[],
        }
    }
}

/// A request and who waits for its answer.
struct Submission {
    request: Request,
    answer: oneshot::Sender<Result<Vec<u64>, AppendError>>,
    /// Its part of the bytes that may wait, given back when it is answered.
    _room: OwnedSemaphorePermit,
}

/// A handle to the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    submissions: mpsc::Sender<Submission>,
    /// Bytes of envelopes that may still wait.
    room: Arc<Semaphore>,
    published: watch::Receiver<SignedCheckpoint>,
    reader: reader::LedgerReader,
}

impl Ledger {
    /// Appends statements together; returns their positions, in a published tree. Statements that were
    /// appended before, all of them, are answered with the positions they have.
    ///
    /// # Errors
    /// When one of them may not follow what is recorded, or the ledger cannot be written.
    pub async fn append(&self, envelopes: Vec<Envelope>) -> Result<Vec<u64>, AppendError> {
        self.submit(Request::Append(envelopes)).await
    }

    /// Erases the opening of an entry from this site: packs, commit objects, index. The leaf stays, and with it
    /// every proof of every other entry. Returns where that was recorded.
    ///
    /// # Errors
    /// When there is no such opening (any more), the ground is no code, or the ledger cannot be written.
    pub async fn erase(&self, entry: u64, ground: &str) -> Result<Vec<u64>, AppendError> {
        let ground = ground.to_owned();
        self.submit(Request::Erase { entry, ground }).await
    }

    /// Says anew, with the time, which releases are withdrawn.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn renew(&self) -> Result<Vec<u64>, AppendError> {
        self.submit(Request::Renew).await
    }

    /// Records what this site says of a release, signed with the site's key; returns its position.
    ///
    /// # Errors
    /// When there is no such release, or the ledger cannot be written.
    pub(crate) async fn say(&self, statement: Statement) -> Result<Vec<u64>, AppendError> {
        self.say_to(statement, None).await
    }

    /// The same of a copy; of a release in another site's private namespace only to whoever may read that.
    pub(crate) async fn say_to(
        &self,
        statement: Statement,
        copies_of: Option<Namespace>,
    ) -> Result<Vec<u64>, AppendError> {
        let statement = Box::new(statement);
        self.submit(Request::Say { statement, copies_of }).await
    }

    /// Tells whenever the ledger has grown.
    pub(crate) fn growth(&self) -> watch::Receiver<SignedCheckpoint> {
        self.published.clone()
    }

    async fn submit(&self, request: Request) -> Result<Vec<u64>, AppendError> {
        let bytes: usize = request.envelopes().iter().map(|e| e.bytes().len()).sum();
        let bytes = u32::try_from(bytes).map_err(|_| AppendError::Busy)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| AppendError::Busy)?;
        let (answer, answered) = oneshot::channel();
        self.submissions
            .try_send(Submission {
                request,
                answer,
                _room: room,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AppendError::Busy,
                mpsc::error::TrySendError::Closed(_) => {
                    AppendError::Stopped("the site is shutting down".to_owned())
                }
            })?;
        answered
            .await
            .unwrap_or_else(|_| Err(AppendError::Unknown("the site stopped meanwhile".to_owned())))
    }

    /// Returns the newest published checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.published.borrow().clone()
    }

    /// Returns the name of the series that goes on.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.reader.origin
    }

    /// Returns the note that says which key the site signs with.
    #[must_use]
    pub fn site_key(&self) -> Option<&str> {
        self.reader.site_key.as_deref()
    }

    /// Returns the newest checkpoint of a series; of one that ended, its last.
    #[must_use]
    pub fn checkpoint_of(&self, series: u32) -> Option<SignedCheckpoint> {
        let of = |signed: &&SignedCheckpoint| signed.checkpoint().origin.series() == series;
        let newest = (series == self.origin().series()).then(|| self.checkpoint());
        newest.or_else(|| self.reader.earlier.iter().find(of).cloned())
    }

    /// Proves entries under the newest published checkpoint.
    ///
    /// # Errors
    /// When an entry is not in it, was erased, or the stored ledger is damaged.
    pub async fn prove(&self, positions: &[u64]) -> Result<Proof, AppendError> {
        self.reader
            .prove_all(positions.to_vec(), &self.checkpoint())
            .await
    }

    /// Returns the pack of openings that everybody may read, if there is one; none of any other stream.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pack(&self, series: u32, path: &PackPath) -> Result<Option<bytes::Bytes>, StoreError> {
        if path.stream != Stream::open() {
            return Ok(None);
        }
        self.pack_of_any(series, path).await
    }

    /// Returns a pack of any stream: who asks for it has made sure that the caller may read it.
    pub(crate) async fn pack_of_any(
        &self,
        series: u32,
        path: &PackPath,
    ) -> Result<Option<bytes::Bytes>, StoreError> {
        let cell = self.reader.store.read_cell(&Key::pack(series, path)).await?;
        Ok(cell.map(|cell| cell.bytes))
    }

    /// Returns a tile or an entry bundle as it is stored.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn tile(&self, series: u32, path: &TilePath) -> Result<bytes::Bytes, StoreError> {
        self.reader.tile(series, path).await
    }
}
