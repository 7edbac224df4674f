//! A site's ledger, read by somebody who believes nothing but its pinned key.
//!
//! Every entry that is shown was proven to stand where it is said to stand. An entry whose opening is not
//! served is shown as what its leaf says it is, and the leaf too is checked against the signed root.

mod audit;
mod leaves;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use waag_schema::ledger::{
    Checkpoint, Class, KeyKind, Note, RefKind, SignedCheckpoint, TlogProof, VerifierKey, entry_number,
    entry_place,
};
use waag_schema::statement::{Predicate, Subject};
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::ledger::{EraseRequest, WitnessingView};
use waag_schema::{Sha256, SiteId, Timestamp};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::said::{Said, read};
use crate::site::Site;
use crate::trust::{Pin, Trust};

pub use audit::{Audited, audit};
use leaves::Leaves;

/// Entries asked for at once.
const ENTRIES_AT_ONCE: usize = 8;
/// The most entries that are shown at once.
pub const SHOWN_MAX: u64 = 10_000;

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was read and proven.
    Proven,
    /// Its opening is for others to read.
    Restricted,
    /// Its opening was erased, as a later entry says.
    Erased,
    /// It never had an opening.
    Pad,
    /// Anybody may read it, no entry says that it was erased, and yet the site does not serve it.
    Withheld,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proven => "proven",
            Self::Restricted => "restricted",
            Self::Erased => "erased",
            Self::Pad => "pad",
            Self::Withheld => "withheld",
        })
    }
}

/// An entry of a ledger, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryView {
    /// Its number.
    pub entry: u64,
    /// What is known of it.
    pub state: State,
    /// When the site recorded it.
    pub at: Option<Timestamp>,
    /// What kind of statement it is, such as `release`.
    pub kind: Option<String>,
    /// The name that it is about.
    pub subject: Option<String>,
    /// The manifest that it is about, if it is about one.
    pub digest: Option<Sha256>,
}

/// Some entries of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The site.
    pub site: SiteId,
    /// How many entries the ledger has, in all its series.
    pub size: u64,
    /// The entries, in the ledger's order.
    pub entries: Vec<EntryView>,
}

/// Says how far a ledger is committed, published and witnessed. That each witness's line is of the key that is named was
/// checked; whether that key is the site's that is named, and how many are enough, is the site's word: a charter that is
/// believed says it.
///
/// # Errors
/// When the site does not answer, or a line does not hold.
pub async fn witnessing(site: &Site) -> Result<WitnessingView> {
    let view: WitnessingView = site
        .transport()
        .json(Ask::get("/api/v1/ledger/witnesses"))
        .await?;
    for witness in &view.witnesses {
        let refused = |error: &dyn std::fmt::Display| {
            ClientError::verification("witness's line", format!("{}: {error}", witness.name))
        };
        let key: VerifierKey = witness.key.parse().map_err(|e| refused(&e))?;
        let note = Note::parse(witness.note.as_bytes()).map_err(|e| refused(&e))?;
        let checkpoint: Checkpoint = note.text().parse().map_err(|e| refused(&e))?;
        let keys = [key];
        let verified = note.verify(&keys).map_err(|e| refused(&e))?;
        let said = (view.origin.as_str(), witness.size, Some(witness.at));
        let origin = checkpoint.origin.to_string();
        let found = (
            origin.as_str(),
            checkpoint.size,
            verified.first().and_then(|one| one.time),
        );
        if said != found || keys[0].kind() != KeyKind::Witness {
            return Err(refused(&"it says something else than the site"));
        }
    }
    Ok(view)
}

/// An entry with a proof that stands on its own.
#[derive(Debug, Clone)]
pub struct ProvenEntry {
    /// The site whose ledger holds it.
    pub site: SiteId,
    /// How many entries the ledger had when it was proven.
    pub size: u64,
    /// What it says.
    pub view: EntryView,
    /// The proof, as C2SP's tlog-proof.
    pub proof: TlogProof,
}

/// An entry whose opening is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// The entry.
    pub erased: u64,
    /// The ground that was recorded.
    pub ground: String,
    /// The entry that says so.
    pub entry: u64,
}

impl EntryView {
    fn unread(entry: u64, state: State) -> Self {
        Self {
            entry,
            state,
            at: None,
            kind: None,
            subject: None,
            digest: None,
        }
    }

    fn of(said: &Said) -> Self {
        let subject = &said.statement.subject;
        Self {
            entry: said.index,
            state: State::Proven,
            at: Some(said.at),
            kind: Some(said.statement.predicate.name().to_owned()),
            subject: Some(subject.name()),
            digest: match subject {
                Subject::Manifest(_, digest) => Some(*digest),
                _ => None,
            },
        }
    }
}

/// Shows entries: from `from` on, or the last ones.
///
/// # Errors
/// When the site does not answer, or what it answers does not hold.
pub async fn show(site: &Site, from: Option<u64>, limit: u64) -> Result<Page> {
    let newest = site.observed().await?;
    let trees: Vec<Checkpoint> = {
        let lineage = site.lineage(&newest).await?;
        lineage.iter().map(|signed| signed.checkpoint().clone()).collect()
    };
    let numbers = numbers(&trees, from, limit.min(SHOWN_MAX))?;
    let read: Vec<(u64, Option<EntryView>)> = stream::iter(numbers)
        .map(|entry| async move {
            match fetch(site, entry).await {
                Ok((_, said, _)) => Ok((entry, Some(EntryView::of(&said)))),
                Err(ClientError::Absent(_)) => Ok((entry, None)),
                Err(error) => Err(error),
            }
        })
        .buffered(ENTRIES_AT_ONCE)
        .try_collect()
        .await?;
    let mut leaves: Vec<Leaves<'_>> = trees.iter().map(|tree| Leaves::new(site, tree.clone())).collect();
    let mut entries = Vec::with_capacity(read.len());
    for (entry, view) in read {
        entries.push(match view {
            Some(view) => view,
            None => EntryView::unread(entry, why_unread(&mut leaves, entry).await?),
        });
    }
    Ok(Page {
        site: site.pin().site.clone(),
        size: trees.iter().map(|tree| tree.size).sum(),
        entries,
    })
}

/// Returns the numbers of so many entries, from one on, or of the last ones.
fn numbers(trees: &[Checkpoint], from: Option<u64>, limit: u64) -> Result<Vec<u64>> {
    let mut ranges = Vec::with_capacity(trees.len());
    for tree in trees {
        let first = entry_number(tree.origin.series(), 0);
        let first = first.map_err(|e| ClientError::verification("ledger", e))?;
        ranges.push(first..first + tree.size);
    }
    let Some(from) = from else {
        let last = ranges.into_iter().flat_map(|range| {
            let start = range.end.saturating_sub(limit).max(range.start);
            start..range.end
        });
        let last: Vec<u64> = last.collect();
        let skipped = last
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        return Ok(last[skipped..].to_vec());
    };
    let on = ranges
        .into_iter()
        .flat_map(|range| range.start.max(from)..range.end);
    Ok(on.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// Finds out from the leaves why an entry is not served.
async fn why_unread(series: &mut [Leaves<'_>], entry: u64) -> Result<State> {
    let (of, index) = entry_place(entry);
    let Some(at) = series.iter().position(|leaves| leaves.series() == of) else {
        return Err(ClientError::Absent(format!("the ledger has no entry {entry}")));
    };
    let class = series[at].leaf(index).await?.class;
    if class == Class::Pad {
        return Ok(State::Pad);
    }
    for leaves in &mut series[at..] {
        if leaves.is_referred_to(RefKind::Erases, entry).await? {
            return Ok(State::Erased);
        }
    }
    Ok(match class {
        Class::Restricted => State::Restricted,
        _ => State::Withheld,
    })
}

/// Fetches an entry with its proof, and checks both.
///
/// # Errors
/// When there is no such entry for the caller, or the proof does not hold.
pub async fn prove(site: &Site, entry: u64) -> Result<ProvenEntry> {
    let (newest, said, proof) = fetch(site, entry).await?;
    site.observe(&newest.0).await?;
    let signed = newest.1;
    let size = signed.checkpoint().size;
    let (_, index) = entry_place(entry);
    let earlier = proof
        .earlier
        .iter()
        .find(|part| part.checkpoint == signed.to_string());
    let entries = earlier.map_or(&proof.entries, |part| &part.entries);
    let found = entries.iter().find(|found| found.index == index);
    let found = found.ok_or_else(|| ClientError::verification("proof", "it holds no such entry"))?;
    Ok(ProvenEntry {
        site: site.pin().site.clone(),
        size,
        view: EntryView::of(&said),
        proof: TlogProof::of_entry(found, signed),
    })
}

/// Checks a proof that was kept as a file, without a network: only pins are believed.
///
/// # Errors
/// [`ClientError::Verification`] when it is none, its site is not pinned, or it does not hold.
pub fn check_proof(trust: &Trust, text: &[u8]) -> Result<ProvenEntry> {
    let refused = |reason: &dyn std::fmt::Display| ClientError::verification("proof", reason);
    let proof = TlogProof::parse(text).map_err(|e| refused(&e))?;
    let signed = &proof.checkpoint;
    let site = signed.checkpoint().origin.site().clone();
    let pin = trust.by_site(&site)?;
    let pin = pin.ok_or_else(|| {
        refused(&format_args!(
            "it is of the site {site}, which is not pinned here"
        ))
    })?;
    pin.check_signed(signed)?;
    // Of another size it cannot be judged without the network; of the same size it must be the same tree.
    trust.compare(&pin, signed)?;
    let one = Proof {
        checkpoint: signed.to_string(),
        entries: vec![proof.entry().map_err(|e| refused(&e))?],
        earlier: Vec::new(),
        site_key: None,
    };
    let number = entry_number(signed.checkpoint().origin.series(), proof.index);
    let (_, said) = read_one(&pin, number.map_err(|e| refused(&e))?, &one)?;
    Ok(ProvenEntry {
        site,
        size: signed.checkpoint().size,
        view: EntryView::of(&said),
        proof,
    })
}

/// Has the opening of an entry erased, and checks that the ledger says so.
///
/// # Errors
/// When the token is no admin's, there is no such opening (any more), or the ground is no code.
pub async fn erase(site: &Site, entry: u64, ground: &str) -> Result<Erased> {
    let request = EraseRequest {
        entry,
        ground: ground.to_owned(),
    };
    let ask = Ask::post("/api/v1/ledger/erasures", &request).once();
    let proof: Proof = site.transport().json(ask).await?;
    let refused = |reason: String| ClientError::verification("receipt", reason);
    let read = read(site.pin(), &"receipt", &proof)?;
    let recorded = read.statements().find(|said| match &said.statement.predicate {
        Predicate::Erasure(erasure) => erasure.entry == entry && erasure.ground == ground,
        _ => false,
    });
    let recorded = recorded.ok_or_else(|| refused(format!("no entry says that entry {entry} is erased")))?;
    site.observe(&read.newest).await?;
    Ok(Erased {
        erased: entry,
        ground: ground.to_owned(),
        entry: recorded.index,
    })
}

/// The newest checkpoint, and that of the series in which an entry is.
type Both = (SignedCheckpoint, SignedCheckpoint);

async fn fetch(site: &Site, entry: u64) -> Result<(Both, Said, Proof)> {
    let ask = Ask::get(format!("/api/v1/ledger/entries/{entry}"));
    let proof: Proof = site.transport().json(ask).await?;
    let (both, said) = read_one(site.pin(), entry, &proof)?;
    Ok((both, said, proof))
}

/// Checks a proof of exactly this entry.
fn read_one(pin: &Pin, entry: u64, proof: &Proof) -> Result<(Both, Said)> {
    let what = format!("entry {entry}");
    let refused = |reason: &str| ClientError::verification(&what, reason);
    let read = read(pin, &what, proof)?;
    let (series, _) = entry_place(entry);
    let of = |signed: &&SignedCheckpoint| signed.checkpoint().origin.series() == series;
    let signed = read.series.iter().find(of).cloned();
    let signed = signed.ok_or_else(|| refused("the proof is of other series"))?;
    let others = read.statements().any(|said| said.index != entry);
    match read.entries.into_iter().find(|said| said.index == entry) {
        Some(one) if !others => Ok(((read.newest, signed), one)),
        _ => Err(refused("the proof is of other entries")),
    }
}
