//! In which other jurisdictions the ledger that proves a release was cosigned, by the charter that is believed here.
//!
//! A witness's line is on a tree of its own. Of it and the proof's tree one is the beginning of the other: the hashes that
//! show so are kept with the line, and both are checked again without a network. A line counts where its tree holds what
//! the proof proves. Which keys are witnesses', and in which country each stands, is the charter's word and nobody
//! else's; a site may leave lines out, and cannot make any up.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use waag_schema::base::bytes::Base64;
use waag_schema::federation::{Charter, SiteTerms};
use waag_schema::ledger::merkle::verify_consistency;
use waag_schema::ledger::{Checkpoint, Hash, KeyKind, Note, VerifierKey, entry_place};
use waag_schema::policy::Country;
use waag_schema::wire::ledger::WitnessingView;
use waag_schema::{SiteId, Timestamp};

use crate::ask::Ask;
use crate::charter::Believed;
use crate::error::{ClientError, Result};
use crate::proof::Proven;
use crate::site::Site;
use crate::trust::Trust;

/// The most lines that are kept of one release: a charter has no more sites.
const LINES_MAX: usize = 256;
/// Witnesses look about once a second, and come behind: so often they are asked for, over some fifteen seconds.
const TRIES: u32 = 7;

/// In how many other jurisdictions a ledger must be cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// In as many as the charter asks for, at least one.
    AsCharter,
    /// In so many.
    AtLeast(u32),
}

impl Quorum {
    fn of(self, charter: &Charter) -> u32 {
        match self {
            Self::AsCharter => charter.terms().witnesses.jurisdictions.max(1),
            Self::AtLeast(number) => number,
        }
    }
}

/// `charter`, or a number from 1 on.
impl FromStr for Quorum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "charter" => Ok(Self::AsCharter),
            number => match number.parse() {
                Ok(number @ 1..) => Ok(Self::AtLeast(number)),
                _ => Err("a number of jurisdictions, 1 or more, or `charter` is expected".to_owned()),
            },
        }
    }
}

/// A site that has cosigned what a proof proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WitnessedBy {
    /// The site.
    pub site: SiteId,
    /// What the charter calls it.
    pub name: String,
    /// Its country, by the charter.
    pub jurisdiction: Country,
    /// As of when.
    pub at: Timestamp,
}

/// A witness's line as it lies beside pulled files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The cosigned tree's checkpoint with the line.
    note: String,
    /// What leads from the smaller of this tree and the proof's to the larger (RFC 9162, 2.1.4).
    path: Vec<Base64>,
}

impl Line {
    fn new(note: &str, path: &[Hash]) -> Self {
        let hashes = path.iter().map(|hash| Base64(hash.as_bytes().to_vec()));
        Self {
            note: note.to_owned(),
            path: hashes.collect(),
        }
    }
}

/// A line that is a witness's of the charter, on a tree of the proof's ledger that holds what is needed.
struct Held {
    by: WitnessedBy,
    tree: Checkpoint,
}

/// How many leaves of its tree a proof needs: up to the release, its tag and its label.
fn needed(proven: &Proven) -> u64 {
    let label = proven.label.as_ref().map(|(entry, _)| *entry);
    let entries = [Some(proven.entry), proven.tag_entry, label];
    let series = proven.checkpoint.checkpoint().origin.series();
    let leaves = entries
        .into_iter()
        .flatten()
        .map(|entry| match entry_place(entry) {
            (of, index) if of == series => index + 1,
            // What an earlier series holds is named by the first entry of this one.
            _ => 1,
        });
    leaves.max().unwrap_or(1)
}

/// Reads a line. None where it counts for nothing: nobody's that is known, of another ledger, or on too small a tree.
fn read(charter: &Charter, proven: &Proven, note: &str) -> Result<Option<Held>> {
    let refused = |error: &dyn std::fmt::Display| ClientError::verification("witness's line", error);
    let tree = proven.checkpoint.checkpoint();
    let note = Note::parse(note.as_bytes()).map_err(|e| refused(&e))?;
    let found: Checkpoint = note.text().parse().map_err(|e| refused(&e))?;
    if found.origin != tree.origin || found.size < needed(proven) {
        return Ok(None);
    }
    let home = tree.origin.site();
    for site in others(charter, home) {
        let key: [VerifierKey; 1] = [site.witness_key.clone()];
        let named = |signature: &waag_schema::ledger::NoteSignature| {
            signature.name() == key[0].name() && signature.id() == key[0].id()
        };
        if !note.signatures().iter().any(named) {
            continue;
        }
        let verified = note.verify(&key).map_err(|e| refused(&e))?;
        let Some(at) = verified.iter().filter_map(|signed| signed.time).max() else {
            continue;
        };
        let by = WitnessedBy {
            site: site.id.clone(),
            name: site.name.to_string(),
            jurisdiction: site.jurisdiction,
            at,
        };
        return Ok(Some(Held { by, tree: found }));
    }
    Ok(None)
}

/// The sites whose lines count for the ledger of this one: those in other jurisdictions.
fn others<'c>(charter: &'c Charter, home: &SiteId) -> impl Iterator<Item = &'c SiteTerms> {
    let home = charter.site(home).map(|home| home.jurisdiction);
    charter.terms().sites.iter().filter(move |site| {
        home.is_some_and(|home| home != site.jurisdiction) && site.witness_key.kind() == KeyKind::Witness
    })
}

/// In how many other jurisdictions a ledger can be cosigned.
fn possible(charter: &Charter, home: &SiteId) -> usize {
    let countries: BTreeSet<Country> = others(charter, home).map(|site| site.jurisdiction).collect();
    countries.len()
}

/// Checks that one of two trees is the beginning of the other.
fn check_path(held: &Held, of: &Checkpoint, path: &[Hash]) -> Result<()> {
    let (old, new) = in_order(&held.tree, of);
    verify_consistency(&old.tree(), &new.tree(), path).map_err(|error| {
        ClientError::verification(
            format_args!(
                "tree of {} entries that {} cosigned",
                held.tree.size, held.by.name
            ),
            format_args!("it is not of the history that the proof is in: {error}"),
        )
    })
}

fn in_order<'t>(a: &'t Checkpoint, b: &'t Checkpoint) -> (&'t Checkpoint, &'t Checkpoint) {
    if a.size <= b.size { (a, b) } else { (b, a) }
}

/// Of each site once, the newest line.
fn once(mut found: Vec<WitnessedBy>) -> Vec<WitnessedBy> {
    found.sort_by(|a, b| (&a.name, &a.site, b.at).cmp(&(&b.name, &b.site, a.at)));
    found.dedup_by(|later, first| later.site == first.site);
    found
}

fn countries(found: &[WitnessedBy]) -> BTreeSet<Country> {
    found.iter().map(|one| one.jurisdiction).collect()
}

fn charter_of(trust: &Trust, home: &SiteId) -> Result<Option<Charter>> {
    Believed::new(trust.home().clone()).naming(home)
}

/// Returns who has cosigned what a proof proves, by lines that lie beside it. Nobody, where no charter is believed.
pub(crate) fn kept(trust: &Trust, proven: &Proven, lines: &[Line]) -> Result<Vec<WitnessedBy>> {
    let tree = proven.checkpoint.checkpoint();
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let Some(charter) = charter_of(trust, tree.origin.site())? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for line in lines.iter().take(LINES_MAX) {
        let Some(held) = read(&charter, proven, &line.note)? else {
            continue;
        };
        let hash = |bytes: &Base64| <[u8; 32]>::try_from(bytes.0.as_slice()).map(Hash::from_bytes);
        let path: Vec<Hash> = line
            .path
            .iter()
            .map(hash)
            .collect::<Result<_, _>>()
            .map_err(|_| {
                ClientError::verification("witness's line", "its path has a hash of another length")
            })?;
        check_path(&held, tree, &path)?;
        found.push(held.by);
    }
    Ok(once(found))
}

/// Returns the charter that says whose witnesses count for the ledger of a site.
///
/// # Errors
/// [`ClientError::NoCharter`] when none is believed that names the site.
pub(crate) fn judge(trust: &Trust, home: &SiteId) -> Result<Charter> {
    charter_of(trust, home)?.ok_or_else(|| ClientError::NoCharter { site: home.clone() })
}

/// Checks that enough jurisdictions have cosigned.
///
/// # Errors
/// [`ClientError::Verification`] when there are too few.
pub(crate) fn check(
    charter: &Charter,
    home: &SiteId,
    what: &dyn std::fmt::Display,
    found: &[WitnessedBy],
    quorum: Quorum,
) -> Result<()> {
    let (asked, countries) = (quorum.of(charter), countries(found));
    if countries.len() as u64 >= u64::from(asked) {
        return Ok(());
    }
    let by: Vec<String> = found
        .iter()
        .map(|one| format!("{} ({})", one.name, one.jurisdiction))
        .collect();
    let by = if by.is_empty() {
        "nobody".to_owned()
    } else {
        by.join(", ")
    };
    Err(ClientError::verification(
        format_args!("witnesses of {what}"),
        format_args!(
            "up to what is proven here it is cosigned in other jurisdictions: {} (by {by}); asked for: {asked}; the charter has: {}",
            countries.len(),
            possible(charter, home)
        ),
    ))
}

/// Asks a site who has cosigned the ledger that proves a release.
///
/// # Errors
/// When no charter is believed that names the release's home, too few jurisdictions have cosigned, also some seconds later,
/// or a line does not hold.
pub async fn ask(site: &Site, proven: &Proven, quorum: Quorum) -> Result<Vec<WitnessedBy>> {
    let home = site.home_of(&proven.checkpoint)?;
    Ok(home.witnessed(proven, quorum).await?.1)
}

impl Site {
    /// Asks for the lines of witnesses on the ledger in which a proof is, until enough jurisdictions have cosigned what it
    /// proves; they are looked for some seconds long, because witnesses come behind.
    pub(crate) async fn witnessed(
        &self,
        proven: &Proven,
        quorum: Quorum,
    ) -> Result<(Vec<Line>, Vec<WitnessedBy>)> {
        let tree = proven.checkpoint.checkpoint();
        let home = tree.origin.site();
        let what = &proven.artifact;
        let charter = judge(self.trust(), home)?;
        // More than the charter has cannot be waited for.
        let can_be = quorum.of(&charter) as usize <= possible(&charter, home);
        let mut tried = 1;
        loop {
            let (lines, found) = self.lines(&charter, proven).await?;
            match check(&charter, home, what, &found, quorum) {
                Ok(()) => return Ok((lines, found)),
                Err(error @ ClientError::Verification { .. }) if tried < TRIES && can_be => {
                    self.pause(tried, &error).await;
                    tried += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns lines that were kept under an earlier proof of the same release, with what leads from them to this one.
    pub(crate) async fn again(&self, proven: &Proven, lines: &[Line]) -> Result<Vec<Line>> {
        let tree = proven.checkpoint.checkpoint();
        let mut kept = Vec::new();
        for line in lines.iter().take(LINES_MAX) {
            let note = Note::parse(line.note.as_bytes()).ok();
            let found: Option<Checkpoint> = note.and_then(|note| note.text().parse().ok());
            let Some(found) = found.filter(|found| found.origin == tree.origin) else {
                continue;
            };
            let (old, new) = in_order(&found, tree);
            let path = self.consistency(old, new).await?;
            if verify_consistency(&old.tree(), &new.tree(), &path).is_ok() {
                kept.push(Line::new(&line.note, &path));
            }
        }
        Ok(kept)
    }

    async fn lines(&self, charter: &Charter, proven: &Proven) -> Result<(Vec<Line>, Vec<WitnessedBy>)> {
        let tree = proven.checkpoint.checkpoint();
        let view: WitnessingView = self
            .transport()
            .json(Ask::get(self.ledger_api("witnesses")))
            .await?;
        let (mut lines, mut found) = (Vec::new(), Vec::new());
        for witness in view.witnesses.iter().take(LINES_MAX) {
            let Some(held) = read(charter, proven, &witness.note)? else {
                continue;
            };
            let (old, new) = in_order(&held.tree, tree);
            let path = self.consistency(old, new).await?;
            check_path(&held, tree, &path)?;
            lines.push(Line::new(&witness.note, &path));
            found.push(held.by);
        }
        Ok((lines, once(found)))
    }
}
