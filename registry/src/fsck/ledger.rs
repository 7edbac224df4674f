//! Tree, openings and index against the signed checkpoint.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use waag_schema::ledger::{
    Checkpoint, Class, Commitment, Edge, Leaf, Origin, Pack, PackPath, RefKind, Root, SaltedOpening,
    SignedCheckpoint, Stream, TileKind, TilePath, bundle, entry_number,
};
use waag_schema::statement::{Envelope, Predicate, Subject};

use super::{FsckError, Held, Mode, Report};
use crate::index::{Folded, Home, Index, Rejection};
use crate::ledger::{AppendError, Lineage, prepare};
use crate::store::{Key, Store, StoreError};
use crate::vault::Vault;

/// Entries in one bundle.
const WIDTH: u64 = 256;
/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

/// Where an opening was found.
type Opened = HashMap<Commitment, (Stream, u64, SaltedOpening)>;

/// Checks the ledger. Returns what must be in the store by it, unless not even the checkpoint can be believed.
pub(super) async fn check(
    vault: &Vault,
    store: &Arc<dyn Store>,
    mode: Mode,
    report: &mut Report,
) -> Result<Option<Held>, FsckError> {
    let lineage = Lineage::load(store, vault.origin().site(), vault.key()).await;
    let lineage = match lineage {
        Ok(lineage) => lineage,
        Err(AppendError::Store(error)) => return Err(error.into()),
        Err(error) => {
            report.found("ledger", error, false);
            return Ok(None);
        }
    };
    let Some(newest) = checkpoint(vault, &lineage.origin, store, report).await? else {
        return Ok(None);
    };
    check_guard(vault, &newest, report);
    let ended = lineage.earlier.iter().map(|signed| signed.checkpoint().clone());
    let mut series = Vec::new();
    for checkpoint in ended.chain([newest]) {
        report.entries += checkpoint.size;
        let Some(leaves) = leaves(store, &checkpoint, mode, report).await? else {
            return Ok(None);
        };
        let opened = openings(store, &checkpoint.origin, report).await?;
        series.push(Series {
            checkpoint,
            leaves,
            opened,
        });
    }
    refold(vault, store, mode, series, report).await.map(Some)
}

/// One series of the ledger, as it was found.
struct Series {
    checkpoint: Checkpoint,
    leaves: Vec<Leaf>,
    opened: Opened,
}

/// Reads the checkpoint, which everything else is measured by.
async fn checkpoint(
    vault: &Vault,
    origin: &Origin,
    store: &Arc<dyn Store>,
    report: &mut Report,
) -> Result<Option<Checkpoint>, FsckError> {
    let key = Key::checkpoint(origin.series());
    let Some(cell) = store.read_cell(&key).await? else {
        return Ok(Some(Checkpoint {
            origin: origin.clone(),
            size: 0,
            root: Root::empty(),
        }));
    };
    let read = SignedCheckpoint::parse(&cell.bytes).and_then(|signed| {
        signed.verify(&[vault.key().public()], &[])?;
        Ok(signed.checkpoint().clone())
    });
    match read {
        Ok(checkpoint) if checkpoint.origin == *origin => Ok(Some(checkpoint)),
        Ok(other) => {
            report.found(
                &key,
                format_args!("it is of another ledger, {}", other.origin),
                false,
            );
            Ok(None)
        }
        Err(error) => {
            report.found(&key, error, false);
            Ok(None)
        }
    }
}

fn check_guard(vault: &Vault, checkpoint: &Checkpoint, report: &mut Report) {
    match vault.guard().load() {
        Ok(Some(guarded)) if guarded.origin != checkpoint.origin => {
            let problem = format!(
                "{} was signed, {} is published",
                guarded.origin, checkpoint.origin
            );
            report.found("guard", problem, false);
        }
        Ok(Some(guarded)) if guarded.size > checkpoint.size => {
            let problem = format!(
                "{} entries were signed, {} are published",
                guarded.size, checkpoint.size
            );
            report.found("guard", problem, false);
        }
        Ok(Some(guarded)) if guarded.size == checkpoint.size && guarded.root != checkpoint.root => {
            report.found(
                "guard",
                "another tree of this size was signed: there are two histories",
                false,
            );
        }
        Ok(None) if checkpoint.size > 0 => report.found("guard", "it is missing", false),
        Ok(_) => {}
        Err(error) => report.found("guard", error, false),
    }
}

/// Reads all leaves, checks that they give the signed root, and compares every tile with what they give.
async fn leaves(
    store: &Arc<dyn Store>,
    checkpoint: &Checkpoint,
    mode: Mode,
    report: &mut Report,
) -> Result<Option<Vec<Leaf>>, FsckError> {
    let series = checkpoint.origin.series();
    let mut leaves = Vec::new();
    let mut differing = Vec::new();
    let mut whole = true;
    for index in 0..checkpoint.size.div_ceil(WIDTH) {
        let Some(path) = TilePath::in_tree(TileKind::Entries, index, checkpoint.size) else {
            break;
        };
        let key = Key::tile(series, &path);
        let decoded = match store.get(&key).await {
            Ok(bytes) => bundle::decode(&path, &bytes).map_err(|e| e.to_string()),
            Err(StoreError::NotFound(_)) => Err("it is missing".to_owned()),
            Err(error) => return Err(error.into()),
        };
        match decoded {
            Ok(found) => {
                differing.extend(differs_from_tile(store, series, &path, &found).await);
                leaves.extend(found);
            }
            Err(problem) => {
                report.found(&key, problem, false);
                whole = false;
            }
        }
    }
    if !whole {
        return Ok(None);
    }
    let hashes: Vec<_> = leaves.iter().map(Leaf::hash).collect();
    let growth = Edge::default().grow(&hashes).map_err(AppendError::from)?;
    if growth.root != checkpoint.root {
        for (bundle, problem) in differing {
            report.found(bundle, problem, false);
        }
        let problem = format!(
            "its {} entries give the root {}, not the signed {}",
            growth.size, growth.root, checkpoint.root
        );
        report.found(Key::checkpoint(series), problem, false);
        return Ok(None);
    }
    for (path, bytes) in growth.tiles {
        check_tile(store, mode, &Key::tile(series, &path), bytes.into(), report).await?;
    }
    Ok(Some(leaves))
}

/// Compares a bundle with the tile of its leaves' hashes: if the root does not fit, this names the culprit.
async fn differs_from_tile(
    store: &Arc<dyn Store>,
    series: u32,
    path: &TilePath,
    leaves: &[Leaf],
) -> Option<(Key, String)> {
    let tile = TilePath::new(TileKind::Hashes(0), path.index(), path.width()).ok()?;
    let bytes = store.get(&Key::tile(series, &tile)).await.ok()?;
    let expected: Vec<u8> = leaves.iter().flat_map(|leaf| *leaf.hash().as_bytes()).collect();
    let differing = bytes
        .chunks(32)
        .zip(expected.chunks(32))
        .filter(|(a, b)| a != b)
        .count();
    let problem = format!("{differing} of its entries differ from {tile}: one of the two is damaged");
    (differing > 0).then(|| (Key::tile(series, path), problem))
}

async fn check_tile(
    store: &Arc<dyn Store>,
    mode: Mode,
    key: &Key,
    expected: Bytes,
    report: &mut Report,
) -> Result<(), FsckError> {
    let problem = match store.get(key).await {
        Ok(found) if found == expected => return Ok(()),
        Ok(_) => "it is not what the entries give",
        Err(StoreError::NotFound(_)) => "it is missing",
        Err(error) => return Err(error.into()),
    };
    if mode == Mode::Repair {
        // Derived from leaves that give the signed root, so these are the bytes it had.
        store.delete(key).await?;
        store.put_if_absent(key, expected).await?;
    }
    report.found(key, problem, mode == Mode::Repair);
    Ok(())
}

/// Reads every opening of every stream, by what it commits to.
async fn openings(store: &Arc<dyn Store>, origin: &Origin, report: &mut Report) -> Result<Opened, FsckError> {
    let mut opened = HashMap::new();
    let mut after = None;
    loop {
        let keys = store
            .list(&Key::pack_prefix(origin.series()), after.as_ref(), LISTED_AT_ONCE)
            .await?;
        let Some(last) = keys.last().cloned() else {
            return Ok(opened);
        };
        for key in keys {
            let path: Option<PackPath> = key.ledger_path(origin.series()).and_then(|p| p.parse().ok());
            let (Some(path), Some(cell)) = (path, store.read_cell(&key).await?) else {
                report.found(&key, "it is no pack", false);
                continue;
            };
            match Pack::decode(&cell.bytes) {
                Ok(pack) => {
                    for slot in 0..pack.len() {
                        let Some(opening) = pack.slot(slot) else { continue };
                        let commitment = Commitment::to(origin, &opening.salt, &opening.opening);
                        let seq = path.number * WIDTH + slot as u64;
                        opened.insert(commitment, (path.stream.clone(), seq, opening.clone()));
                    }
                }
                Err(error) => report.found(&key, error, false),
            }
        }
        after = Some(last);
    }
}

/// Folds the ledger anew with every rule and signature checked, and compares the index with that.
async fn refold(
    vault: &Vault,
    store: &Arc<dyn Store>,
    mode: Mode,
    all: Vec<Series>,
    report: &mut Report,
) -> Result<Held, FsckError> {
    let origin = vault.origin();
    let live = Index::open(&vault.index_path(), &origin.to_string())?;
    let mut scratch = Index::in_memory(&origin.to_string())?;
    let (log_key, site_key) = (vault.key().public(), vault.site_key().public());
    let home = Home {
        site: origin.site(),
        log_key: &log_key,
        key: &site_key,
        gaps: false,
    };
    let erases = |leaf: &Leaf| {
        leaf.reference
            .filter(|(kind, _)| *kind == RefKind::Erases)
            .map(|(_, entry)| entry)
    };
    let erased: HashSet<u64> = all
        .iter()
        .flat_map(|one| &one.leaves)
        .filter_map(erases)
        .collect();
    let mut held = Held::default();
    let newest = all.last().map_or(1, |one| one.checkpoint.origin.series());
    let mut end = Folded {
        size: 0,
        root: *Root::empty().as_bytes(),
    };
    scratch.begin()?;
    for Series {
        checkpoint,
        leaves,
        mut opened,
    } in all
    {
        let series = checkpoint.origin.series();
        if series > 1 {
            scratch.begin_series()?;
        }
        end = Folded {
            size: entry_number(series, checkpoint.size).map_err(AppendError::from)?,
            root: *checkpoint.root.as_bytes(),
        };
        for (position, leaf) in (0_u64..).zip(&leaves) {
            let position = entry_number(series, position).map_err(AppendError::from)?;
            let entry = format!("entry {position}");
            let Some((stream, seq, opening)) = opened.remove(&leaf.commitment) else {
                if leaf.class != Class::Pad {
                    if erased.contains(&position) {
                        report.erased += 1;
                    } else {
                        report.found(
                            &entry,
                            "its opening is missing, and no entry says that it was erased",
                            false,
                        );
                    }
                }
                continue;
            };
            report.statements += 1;
            let prepared = match Envelope::parse(opening.opening.envelope()) {
                Ok(envelope) => prepare(store.as_ref(), envelope).await,
                Err(error) => Err(error.into()),
            };
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    report.found(&entry, error, false);
                    continue;
                }
            };
            // A gate may have been passed by a scorecard that was erased since.
            if let Err(error) = scratch.admit(&prepared, &home)
                && (!matches!(error, Rejection::Gate { .. }) || erased.is_empty())
            {
                report.found(&entry, error, false);
            }
            scratch.fold(
                position,
                opening.opening.header().at,
                stream.as_str(),
                seq,
                &prepared,
            )?;
            match (prepared.statement.predicate, prepared.statement.subject) {
                (Predicate::Release(release), Subject::Manifest(_, manifest)) => {
                    held.releases.push((manifest, release));
                }
                (Predicate::Withdrawal(said), Subject::Manifest(_, manifest)) if said.erase => {
                    // Its content is not looked for, unless another release has it.
                    held.releases.retain(|(other, _)| *other != manifest);
                }
                (Predicate::Scorecard(scorecard), _) => held.details.extend(scorecard.details),
                _ => {}
            }
        }
        // A ledger that ended may have left openings of entries that are lost.
        if !opened.is_empty() && series == newest {
            report.found(
                "body",
                format_args!("{} openings belong to no entry", opened.len()),
                false,
            );
        }
    }
    scratch.commit(end)?;
    if live.folded()?.size == end.size && live.dump()? != scratch.dump()? {
        drop(live);
        if mode == Mode::Repair {
            Index::remove(&vault.index_path());
        }
        report.found(
            "index",
            "its rows are not what the ledger gives",
            mode == Mode::Repair,
        );
    }
    Ok(held)
}
