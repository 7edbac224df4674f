//! What a proof says, once every entry's way to a signed root is checked: over all series of a site's ledger.
//!
//! Each series must be tied to the next: entry 0 of a successor, signed by the site's key, commits to exactly the
//! last checkpoint of the ledger before it that the proof shows. What the site says for itself must be signed by the key
//! that the pinned one names as the site's, where the proof shows that.

use waag_schema::Timestamp;
use waag_schema::base::key::PublicKey;
use waag_schema::ledger::{EntryProof, SignedCheckpoint, entry_number, site_key};
use waag_schema::statement::{Envelope, Predicate, Statement, Successor};
use waag_schema::wire::artifact::Proof;

use crate::error::{ClientError, Result};
use crate::trust::Pin;

/// No honest proof has more entries: a genesis, rotations, and four statements.
const ENTRIES_MAX: usize = 10_000;

/// An entry that was found in the ledger, with what it says.
pub(crate) struct Said {
    /// Its number.
    pub(crate) index: u64,
    pub(crate) at: Timestamp,
    pub(crate) envelope: Envelope,
    pub(crate) statement: Statement,
}

/// A proof that was checked as far as signatures of the site, paths and the order of series go.
pub(crate) struct Read {
    /// The newest checkpoint.
    pub(crate) newest: SignedCheckpoint,
    /// The checkpoints of the series that it shows, the newest last.
    pub(crate) series: Vec<SignedCheckpoint>,
    /// What opens a successor and what was asked for, in the order of their numbers.
    pub(crate) entries: Vec<Said>,
    /// Whether it shows which key the site signs with; then all that the site says is signed by that.
    pub(crate) site_signed: bool,
}

impl Read {
    /// Returns the entries without those that only say which ledger a series continues.
    pub(crate) fn statements(&self) -> impl Iterator<Item = &Said> {
        let opens = |said: &Said| matches!(said.statement.predicate, Predicate::Successor(_));
        self.entries.iter().filter(move |said| !opens(said))
    }
}

/// Checks each entry's way to the root, and reads what it says.
pub(crate) fn read(pin: &Pin, what: &dyn std::fmt::Display, proof: &Proof) -> Result<Read> {
    let refused = |reason: String| ClientError::verification(what, reason);
    let all: usize = proof.earlier.iter().map(|part| part.entries.len()).sum();
    if all + proof.entries.len() > ENTRIES_MAX {
        return Err(refused(format!(
            "{} entries, at most {ENTRIES_MAX} are read",
            all + proof.entries.len()
        )));
    }
    let earlier = proof.earlier.iter().map(|part| (&part.checkpoint, &part.entries));
    let mut series: Vec<SignedCheckpoint> = Vec::new();
    let mut entries: Vec<Said> = Vec::new();
    let site_key = proof
        .site_key
        .as_ref()
        .map(|note| site_key::read(note.as_bytes(), pin.key()));
    let site_key = site_key.transpose().map_err(|e| refused(e.to_string()))?;
    for (checkpoint, part) in earlier.chain([(&proof.checkpoint, &proof.entries)]) {
        let signed = SignedCheckpoint::parse(checkpoint.as_bytes()).map_err(|e| refused(e.to_string()))?;
        pin.check_signed(&signed)?;
        let from = entries.len();
        for entry in part {
            let said = read_entry(pin, &signed, entry, entries.last()).map_err(refused)?;
            if let Some(key) = &site_key {
                check_signed(key, &said).map_err(refused)?;
            }
            entries.push(said);
        }
        if let Some(ended) = series.last() {
            follows(ended, entries.get(from)).map_err(refused)?;
        }
        series.push(signed);
    }
    let newest = series.last().cloned();
    Ok(Read {
        newest: newest.ok_or_else(|| refused("it has no checkpoint".to_owned()))?,
        series,
        entries,
        site_signed: site_key.is_some(),
    })
}

/// Checks that what a site says for itself is signed by its key; of a successor, the ledger's key was asked for.
fn check_signed(key: &PublicKey, said: &Said) -> Result<(), String> {
    let predicate = &said.statement.predicate;
    if !predicate.is_a_sites() || matches!(predicate, Predicate::Successor(_)) {
        return Ok(());
    }
    let signed = said.envelope.verify(&[*key], 1);
    signed.map_err(|e| format!("the {}, entry {}: {e}", predicate.name(), said.index))
}

/// Says what an entry that does not hold seems to be, for whoever looks for it.
fn seems(entry: &EntryProof) -> &'static str {
    let envelope = Envelope::parse(entry.opening.envelope());
    let scorecard = b"urn:waag:predicate:scorecard:";
    let is_one = |payload: &[u8]| payload.windows(scorecard.len()).any(|at| at == scorecard);
    if envelope.is_ok_and(|envelope| is_one(envelope.payload())) {
        "the scorecard, "
    } else {
        ""
    }
}

fn read_entry(
    pin: &Pin,
    signed: &SignedCheckpoint,
    entry: &EntryProof,
    last: Option<&Said>,
) -> Result<Said, String> {
    let series = signed.checkpoint().origin.series();
    let index = entry_number(series, entry.index).map_err(|e| e.to_string())?;
    let named = |e: &dyn std::fmt::Display| format!("{}entry {index}: {e}", seems(entry));
    if last.is_some_and(|last| last.index >= index) {
        return Err(named(&"it does not stand in the ledger's order"));
    }
    let opening = entry.verify(signed.checkpoint()).map_err(|e| named(&e))?;
    let envelope = Envelope::parse(opening.envelope()).map_err(|e| named(&e))?;
    let statement = Statement::parse(envelope.payload()).map_err(|e| named(&e))?;
    if let Predicate::Successor(_) = statement.predicate {
        envelope.verify(&[*pin.key()], 1).map_err(|e| named(&e))?;
        if series == 1 || entry.index != 0 {
            return Err(named(&"no successor begins here"));
        }
    }
    Ok(Said {
        index,
        at: opening.header().at,
        envelope,
        statement,
    })
}

/// Checks that a series begins by naming the last checkpoint of the one before it.
fn follows(ended: &SignedCheckpoint, first: Option<&Said>) -> Result<(), String> {
    let ended = ended.checkpoint();
    let predicate = first.map(|said| &said.statement.predicate);
    let Some(Predicate::Successor(Successor {
        origin, size, root, ..
    })) = predicate
    else {
        return Err(format!("it does not show what follows {}", ended.origin));
    };
    if (origin, size, root) != (&ended.origin, &ended.size, &ended.root) {
        return Err(format!(
            "its ledger continues {origin} at {size} entries, the proof shows {} entries of {}, or others",
            ended.size, ended.origin
        ));
    }
    Ok(())
}
