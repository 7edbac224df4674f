//! What witnesses say of this site's own ledger: lines that they hand over, kept, and put under checkpoints.
//!
//! Invariant: only lines are kept that hold under a witness key of the charter, on a tree that this ledger has or had; of
//! each witness the one on its largest tree, and of those the newest.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use waag_schema::ledger::{Checkpoint, CommitRecord, Note, SignedCheckpoint, VerifierKey};
use waag_schema::wire::ledger::{WitnessView, WitnessingView};
use waag_schema::{SiteId, Timestamp};

use super::sites::{Federation, SitesError};
use super::witness::WitnessError;
use crate::ledger::{AppendError, root_at};
use crate::store::{Key, StoreError, Swap};

/// How far ahead a witness's clock may be.
const AHEAD_MAX_SECONDS: u64 = 300;
const TRIES: usize = 8;

/// The lines, by the site of the witness: each a note with the text that it is on.
#[derive(Default)]
pub(super) struct Cosigned(RwLock<BTreeMap<SiteId, Line>>);

#[derive(Clone)]
struct Line {
    note: Note,
    checkpoint: Checkpoint,
    key: VerifierKey,
    at: Timestamp,
}

impl Federation {
    /// Reads what was kept.
    pub(super) async fn load_cosigned(&self) -> Result<(), SitesError> {
        let kept = match self.store.read_cell(&Key::cosigned()).await? {
            Some(cell) => notes(&cell.bytes),
            None => BTreeMap::new(),
        };
        self.show_cosigned(&kept);
        Ok(())
    }

    fn show_cosigned(&self, kept: &BTreeMap<SiteId, String>) {
        let lines = kept
            .iter()
            .filter_map(|(site, note)| Some((site.clone(), self.read_line(note).ok()?.1)))
            .collect();
        *self.cosigned.0.write().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// Reads a note with a witness's line and says whose it is.
    fn read_line(&self, note: &str) -> Result<(SiteId, Line), WitnessError> {
        let bad = |error: waag_schema::ledger::LedgerError| WitnessError::Bad(error.to_string());
        let parsed = Note::parse(note.as_bytes()).map_err(bad)?;
        let checkpoint: Checkpoint = parsed.text().parse().map_err(bad)?;
        let keys = self.witness_keys();
        let known: Vec<VerifierKey> = keys.values().cloned().collect();
        let refused = |error: waag_schema::ledger::LedgerError| WitnessError::Refused(error.to_string());
        let verified = parsed.verify(&known).map_err(refused)?;
        let [signed] = verified.as_slice() else {
            return Err(WitnessError::Bad("more than one witness's line".to_owned()));
        };
        let site = keys.iter().find(|(_, key)| *key == signed.key);
        let (Some((site, key)), Some(at)) = (site, signed.time) else {
            return Err(WitnessError::Bad("no witness's line".to_owned()));
        };
        let mut note = Note::new(parsed.text()).map_err(bad)?;
        let own = parsed
            .signatures()
            .iter()
            .filter(|line| line.name() == key.name() && line.id() == key.id());
        for line in own.take(1) {
            note.add(line.clone()).map_err(bad)?;
        }
        let line = Line {
            note,
            checkpoint,
            key: key.clone(),
            at,
        };
        Ok((site.clone(), line))
    }

    /// Takes a witness's line on a tree of this site's ledger.
    ///
    /// # Errors
    /// When it is no witness's of the charter, does not hold, is on another ledger or tree, or the store fails.
    pub async fn cosign(&self, note: &str) -> Result<(), WitnessError> {
        let (site, line) = self.read_line(note)?;
        let found = &line.checkpoint;
        let unknown = || WitnessError::UnknownOrigin(found.origin.to_string());
        if found.origin != *self.ledger.origin() {
            return Err(unknown());
        }
        if line.at > self.clock.now().plus(AHEAD_MAX_SECONDS) {
            return Err(WitnessError::Bad(format!(
                "it was signed at {}, which is not yet",
                line.at
            )));
        }
        let newest = self.ledger.checkpoint();
        let tree = newest.checkpoint();
        if found.size > tree.size || root_at(self.store.as_ref(), found.size, tree).await? != found.root {
            tracing::error!(%site, size = found.size, root = %found.root,
                "a witness has seen a tree that this ledger does not have: who else holds its key, or was a backup restored?");
            return Err(WitnessError::Bad(format!(
                "this ledger has no tree of {} entries with the root {}",
                found.size, found.root
            )));
        }
        for _ in 0..TRIES {
            let cell = self.store.read_cell(&Key::cosigned()).await?;
            let mut kept = cell
                .as_ref()
                .map_or_else(BTreeMap::new, |cell| notes(&cell.bytes));
            let earlier = kept.get(&site).and_then(|note| self.read_line(note).ok());
            if earlier.is_some_and(|(_, kept)| (kept.checkpoint.size, kept.at) >= (found.size, line.at)) {
                return Ok(());
            }
            kept.insert(site.clone(), line.note.to_string());
            let members = self.witness_keys();
            kept.retain(|site, _| members.contains_key(site));
            let bytes = serde_json::to_vec(&kept).map_err(|e| WitnessError::Bad(e.to_string()))?;
            let version = cell.as_ref().map(|cell| &cell.version);
            let key = Key::cosigned();
            let swapped = self.store.swap_cell(&key, version, Bytes::from(bytes)).await?;
            if let Swap::Swapped(_) = swapped {
                self.show_cosigned(&kept);
                return Ok(());
            }
        }
        Err(WitnessError::Busy)
    }

    /// Puts the witnesses' lines under a checkpoint of this site's.
    #[must_use]
    pub fn published(&self, mut signed: SignedCheckpoint) -> SignedCheckpoint {
        let lines = self.cosigned.0.read().unwrap_or_else(PoisonError::into_inner);
        let text = signed.note().text().to_owned();
        for line in lines.values().filter(|line| line.note.text() == text) {
            for signature in line.note.signatures() {
                // Beyond what a note may carry, the rest is left out.
                if signed.add(signature.clone()).is_err() {
                    return signed;
                }
            }
        }
        signed
    }

    /// Says how far the own ledger is committed, published and witnessed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn witnessing(&self) -> Result<WitnessingView, SitesError> {
        let newest = self.ledger.checkpoint();
        let tree = newest.checkpoint();
        let committed = match self
            .store
            .get(&Key::commit(tree.origin.series(), tree.size))
            .await
        {
            Ok(bytes) => {
                let record = CommitRecord::decode(&tree.origin, &bytes).map_err(AppendError::from)?;
                tree.size + record.entries().len() as u64
            }
            Err(StoreError::NotFound(_)) => tree.size,
            Err(error) => return Err(error.into()),
        };
        let lines: Vec<(SiteId, Line)> = {
            let lines = self.cosigned.0.read().unwrap_or_else(PoisonError::into_inner);
            let own = lines
                .iter()
                .filter(|(_, line)| line.checkpoint.origin == tree.origin);
            own.map(|(site, line)| (site.clone(), line.clone())).collect()
        };
        let charter = self.here.adopted.charter();
        // A witness of a tree is one of every tree before it.
        let witnessed = charter.as_ref().and_then(|charter| {
            let sizes = lines
                .iter()
                .map(|(_, line)| line.checkpoint.size)
                .chain([tree.size]);
            let enough = |size: &u64| {
                let seen = lines.iter().filter(|(_, line)| line.checkpoint.size >= *size);
                let keys: Vec<VerifierKey> = seen.map(|(_, line)| line.key.clone()).collect();
                charter.is_witnessed(&self.here.site, &keys)
            };
            sizes.filter(enough).max()
        });
        let witnesses = lines
            .into_iter()
            .map(|(site, line)| self.witness_view(site, &line));
        Ok(WitnessingView {
            origin: tree.origin.to_string(),
            committed,
            published: tree.size,
            witnessed,
            jurisdictions: charter.map(|charter| charter.terms().witnesses.jurisdictions),
            witnesses: witnesses.collect(),
        })
    }

    /// Says how far another site's ledger was followed, and who has cosigned its newest tree, as far as that came with it;
    /// this site as well.
    ///
    /// # Errors
    /// When no such ledger is followed, or the store fails.
    pub async fn witnessing_of(&self, site: &SiteId) -> Result<WitnessingView, SitesError> {
        let followed = self.ledgers.of(site);
        let newest = followed.as_ref().and_then(|followed| followed.newest());
        let newest = newest.ok_or_else(|| SitesError::NoPeer(site.to_string()))?;
        let tree = newest.checkpoint();
        let note = newest.note();
        let own = self.cosigned_of(site, tree.origin.series()).await?;
        let came = note.signatures().iter().filter_map(|signature| {
            let mut one = Note::new(note.text()).ok()?;
            one.add(signature.clone()).ok()?;
            self.read_line(&one.to_string()).ok()
        });
        let mut lines: BTreeMap<SiteId, WitnessView> = came
            .map(|(site, line)| (site.clone(), self.witness_view(site, &line)))
            .collect();
        let charter = self.here.adopted.charter();
        let here = charter.as_ref().and_then(|charter| charter.site(&self.here.site));
        if let (Some((note, tree, at)), Some(terms)) = (own, here) {
            let view = WitnessView {
                name: terms.name.to_string(),
                jurisdiction: Some(terms.jurisdiction.to_string()),
                site: terms.id.clone(),
                size: tree.size,
                at,
                key: terms.witness_key.to_string(),
                note,
            };
            lines.insert(terms.id.clone(), view);
        }
        Ok(WitnessingView {
            origin: tree.origin.to_string(),
            committed: tree.size,
            published: tree.size,
            witnessed: None,
            jurisdictions: charter.map(|charter| charter.terms().witnesses.jurisdictions),
            witnesses: lines.into_values().collect(),
        })
    }

    fn witness_view(&self, site: SiteId, line: &Line) -> WitnessView {
        let terms = self.peer_site(&site);
        WitnessView {
            name: terms
                .as_ref()
                .map_or_else(|| site.to_string(), |terms| terms.name.clone()),
            jurisdiction: terms
                .and_then(|terms| terms.jurisdiction)
                .map(|country| country.to_string()),
            site,
            size: line.checkpoint.size,
            at: line.at,
            key: line.key.to_string(),
            note: line.note.to_string(),
        }
    }
}

/// Reads the cell. What cannot be read is as good as nothing: witnesses come again.
fn notes(bytes: &[u8]) -> BTreeMap<SiteId, String> {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "what witnesses have said cannot be read, and is forgotten");
        BTreeMap::new()
    })
}
