//! From a committed record to tiles and packs. Idempotent: whoever finds a committed record may do it again,
//! and the same bytes come out. The sequencer does it for every batch, a start for what a crash left.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use waag_schema::ledger::{
    CommitRecord, Growth, Leaf, Pack, PackPath, RefKind, SaltedOpening, bundle, entry_place,
};
use waag_schema::statement::{Envelope, Predicate, Statement};

use super::AppendError;
use crate::store::{Key, Store, StoreError, Swap};

/// How often a pack is tried again when another writer (an erasure) changed it in between.
const TRIES_MAX: usize = 8;

/// Writes the tiles, entry bundles and packs of a record. `partial` holds the leaves of the last bundle before it.
pub(super) async fn materialise(
    store: &dyn Store,
    series: u32,
    record: &CommitRecord,
    growth: &Growth,
    partial: &[Leaf],
) -> Result<(), AppendError> {
    let leaves: Vec<Leaf> = record.entries().iter().map(|e| *e.leaf()).collect();
    let bundles = bundle::grow(record.before().size, partial, &leaves)?;
    let objects = growth
        .tiles
        .iter()
        .chain(&bundles)
        .map(|(path, bytes)| (Key::tile(series, path), Bytes::copy_from_slice(bytes)))
        .collect();
    // Tiles and packs share one group of syncs: neither needs the other.
    let (tiles, packs) = tokio::join!(store.put_all(objects), fill_packs(store, series, record));
    tiles?;
    packs?;
    blank_erased(store, record).await
}

/// Blanks the openings that entries of this record erase.
async fn blank_erased(store: &dyn Store, record: &CommitRecord) -> Result<(), AppendError> {
    for entry in record.entries() {
        let (Some((RefKind::Erases, target)), Some(opened)) = (entry.leaf().reference, entry.opening())
        else {
            continue;
        };
        let envelope = Envelope::parse(opened.opening.envelope())?;
        if let Predicate::Erasure(erasure) = Statement::parse(envelope.payload())?.predicate {
            let (path, slot) = PackPath::of(&erasure.stream.parse()?, erasure.seq);
            erase_slot(store, entry_place(target).0, &path, slot).await?;
        }
    }
    Ok(())
}

/// Blanks one opening.
pub(crate) async fn erase_slot(
    store: &dyn Store,
    series: u32,
    path: &PackPath,
    slot: usize,
) -> Result<(), AppendError> {
    change_pack(store, series, path, |pack| {
        pack.erase(slot);
        Ok(Change::Write)
    })
    .await
}

async fn fill_packs(store: &dyn Store, series: u32, record: &CommitRecord) -> Result<(), AppendError> {
    let mut packs: BTreeMap<PackPath, Vec<(usize, &SaltedOpening)>> = BTreeMap::new();
    for opened in record.entries().iter().filter_map(|e| e.opening()) {
        let header = opened.opening.header();
        let (path, slot) = PackPath::of(&header.stream, header.seq);
        packs.entry(path).or_default().push((slot, opened));
    }
    for (path, openings) in packs {
        fill_pack(store, series, &path, &openings).await?;
    }
    Ok(())
}

async fn fill_pack(
    store: &dyn Store,
    series: u32,
    path: &PackPath,
    openings: &[(usize, &SaltedOpening)],
) -> Result<(), AppendError> {
    change_pack(store, series, path, |pack| {
        for (slot, opening) in openings {
            match (*slot).cmp(&pack.len()) {
                // Filled by an earlier try, and perhaps erased since: an erased slot is never filled again.
                Ordering::Less if pack.slot(*slot).is_none_or(|found| found == *opening) => {}
                // Going on would lose an opening, this one or the one that is there.
                Ordering::Less => return Err(StoreError::Conflict(Key::pack(series, path)).into()),
                Ordering::Equal => {
                    pack.append((*opening).clone())?;
                }
                // Commits fill packs in order, so what was read is older than the commit before this one.
                Ordering::Greater => return Ok(Change::ReadAgain),
            }
        }
        Ok(Change::Write)
    })
    .await
}

/// What to do with a pack once it was looked at.
enum Change {
    /// Write it, also where nothing changed: what a failed try left may not be durable yet.
    Write,
    /// It was read stale.
    ReadAgain,
}

/// Changes a pack by compare-and-swap.
async fn change_pack(
    store: &dyn Store,
    series: u32,
    path: &PackPath,
    change: impl Fn(&mut Pack) -> Result<Change, AppendError>,
) -> Result<(), AppendError> {
    let key = Key::pack(series, path);
    for _ in 0..TRIES_MAX {
        let cell = store.read_cell(&key).await?;
        let mut pack = cell
            .as_ref()
            .map_or_else(|| Ok(Pack::default()), |c| Pack::decode(&c.bytes))?;
        if let Change::ReadAgain = change(&mut pack)? {
            continue;
        }
        let version = cell.as_ref().map(|c| &c.version);
        if let Swap::Swapped(_) = store.swap_cell(&key, version, pack.encode().into()).await? {
            return Ok(());
        }
    }
    Err(AppendError::Unknown(format!("{key} cannot be read as it is")))
}
