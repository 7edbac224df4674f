//! The series of a site's ledger: those that have ended, and the one that goes on.
//!
//! Invariant: the series that goes on is the highest of which the store holds a checkpoint or the first commit
//! object; every other one ended with its published checkpoint, to which entry 0 of the one behind it commits.
//! A key never signs again under the name of a ledger that ended. A number may be missing between two series: a
//! backup can lack a successor too, and what was signed under its name is then never continued.
//!
//! A successor is opened by one creation, that of its `seq/0`. A crash before it: nothing has happened, and the
//! site refuses to start as it did before. A crash behind it: the series is there, and the next start completes it
//! as it completes every commit. The guard names the old ledger until then, which says nothing of the new one;
//! where it is missing, that start asks for the operator's word once more.

use std::sync::Arc;

use waag_schema::SiteId;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::number::SERIES_MAX;
use waag_schema::ledger::{
    BatchNonce, Checkpoint, Class, CommitRecord, Edge, Entry, EntryId, Header, Opening, Origin, Pack,
    PackPath, Root, Salt, SaltedOpening, SignedCheckpoint, Stream, WriterId,
};
use waag_schema::statement::{Envelope, Predicate, Seen, Statement, Subject, Successor};

use super::AppendError;
use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Key, Store, StoreError, Version};

/// How many series may be missing in a row.
const MISSING_MAX: u32 = 8;

/// What the store holds of a site's ledger.
pub(crate) struct Lineage {
    /// The last checkpoints of the series that ended, in order.
    pub(crate) earlier: Vec<SignedCheckpoint>,
    /// The series that goes on.
    pub(crate) origin: Origin,
}

impl Lineage {
    /// Reads which series there are, and checks that each follows the one before it.
    pub(crate) async fn load(
        store: &Arc<dyn Store>,
        site: &SiteId,
        key: &KeyPair,
    ) -> Result<Self, AppendError> {
        let mut lineage = Self {
            earlier: Vec::new(),
            origin: Origin::of(site, 1),
        };
        let mut series = 2;
        while series <= lineage.origin.series() + MISSING_MAX {
            if let Some(successor) = opened(store, &Origin::of(site, series), key).await? {
                let (ended, _) = published(store, &lineage.origin, key).await?;
                let last = ended.checkpoint();
                if (&successor.origin, successor.size, successor.root) != (&last.origin, last.size, last.root)
                {
                    return Err(AppendError::Stopped(format!(
                        "{} continues {} at {} entries, the store holds {} entries of {}, or others: put back {}",
                        Origin::of(site, series),
                        successor.origin,
                        successor.size,
                        last.size,
                        last.origin,
                        Key::checkpoint(last.origin.series())
                    )));
                }
                lineage.earlier.push(ended);
                lineage.origin = Origin::of(site, series);
            }
            series += 1;
        }
        Ok(lineage)
    }

    /// Opens the ledger that follows one which is ended hereby. Whether it is there then is for the next
    /// [`Self::load`] to say.
    pub(crate) async fn open_successor(
        store: &Arc<dyn Store>,
        key: &KeyPair,
        (clock, random): (&dyn Clock, &Random),
        successor: Successor,
    ) -> Result<Origin, AppendError> {
        let ended = successor.origin.series();
        let lost = successor.seen.as_ref().map_or(0, |seen| seen.origin.series());
        let series = ended.max(lost) + 1;
        if series > SERIES_MAX.min(ended + MISSING_MAX) {
            return Err(AppendError::Stopped(format!(
                "the store ends with series {ended}, series {lost} was seen: that is too far apart; put back a newer backup"
            )));
        }
        let origin = Origin::of(successor.origin.site(), series);
        let statement = Statement {
            subject: Subject::Site(origin.site().clone()),
            predicate: Predicate::Successor(successor),
        };
        let envelope = Envelope::sign(&statement.to_bytes(), &[key]);
        let mut id = [0; 16];
        id.copy_from_slice(&envelope.digest().as_bytes()[..16]);
        let header = Header {
            id: EntryId::from_bytes(id),
            prev: None,
            stream: Stream::open(),
            seq: 0,
            at: clock.now(),
        };
        let opened = SaltedOpening {
            salt: Salt::from_bytes(random.bytes()),
            opening: Opening::new(header, envelope.bytes())?,
        };
        let entry = Entry::new(&origin, Class::Admin, None, opened)?;
        let writer = WriterId::from_bytes(random.bytes());
        let nonce = BatchNonce::from_bytes(random.bytes());
        let (record, _) = CommitRecord::new(&Edge::default(), writer, nonce, vec![entry])?;
        store
            .put_if_absent(&Key::commit(series, 0), record.encode().into())
            .await?;
        Ok(origin)
    }
}

/// Returns the published checkpoint of a series, the empty tree's if none is, and the cell that it is in.
pub(super) async fn published(
    store: &Arc<dyn Store>,
    origin: &Origin,
    key: &KeyPair,
) -> Result<(SignedCheckpoint, Option<Version>), AppendError> {
    let Some(cell) = store.read_cell(&Key::checkpoint(origin.series())).await? else {
        let empty = Checkpoint {
            origin: origin.clone(),
            size: 0,
            root: Root::empty(),
        };
        return Ok((SignedCheckpoint::sign(empty, key), None));
    };
    let signed = SignedCheckpoint::parse(&cell.bytes)?;
    if signed.checkpoint().origin != *origin {
        return Err(AppendError::Stopped(format!(
            "the store holds the ledger {}, this site's key is that of {origin}; put back the key that belongs to the store",
            signed.checkpoint().origin
        )));
    }
    signed.verify(&[key.public()], &[])?;
    Ok((signed, Some(cell.version)))
}

/// Returns what opened a series, if it was opened.
async fn opened(
    store: &Arc<dyn Store>,
    origin: &Origin,
    key: &KeyPair,
) -> Result<Option<Successor>, AppendError> {
    let series = origin.series();
    let opened = match store.get(&Key::commit(series, 0)).await {
        Ok(bytes) => {
            let record = CommitRecord::decode(origin, &bytes)?;
            record.entries().first().and_then(|e| e.opening()).cloned()
        }
        Err(StoreError::NotFound(_)) => {
            if store.read_cell(&Key::checkpoint(series)).await?.is_none() {
                return Ok(None);
            }
            let (path, slot) = PackPath::of(&Stream::open(), 0);
            let cell = store.read_cell(&Key::pack(series, &path)).await?;
            let pack = cell.map(|cell| Pack::decode(&cell.bytes)).transpose()?;
            pack.and_then(|pack| pack.slot(slot).cloned())
        }
        Err(error) => return Err(error.into()),
    };
    let unsound = || AppendError::Stopped(format!("the store does not say which ledger {origin} continues"));
    let envelope = Envelope::parse(opened.ok_or_else(unsound)?.opening.envelope())?;
    envelope.verify(&[key.public()], 1)?;
    match Statement::parse(envelope.payload())?.predicate {
        Predicate::Successor(successor) => Ok(Some(successor)),
        _ => Err(unsound()),
    }
}

/// Makes what is said of a tree that cannot be continued.
pub(super) fn seen(tree: &Checkpoint) -> Seen {
    Seen {
        origin: tree.origin.clone(),
        size: tree.size,
        root: Some(tree.root),
    }
}
