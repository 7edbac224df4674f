//! Witnessing: this site says of another one's ledger that its newest tree continues all that it has said this of.
//!
//! ```text
//! asked (C2SP add-checkpoint): signature -> continues what was cosigned, by the proof that was sent  ─┐
//! followed: every entry was checked -> continues what was cosigned, by the copy                      ─┴-> cell -> line
//! ```
//!
//! Invariant. For each ledger one cell holds the newest tree that was cosigned. It is written by compare-and-swap before a
//! line is given out, so no two lines, asked for at once or across a crash, are of trees that contradict each other. Times
//! never run backwards. What contradicts the cell or the copy is kept as evidence and ends the trust in that site. Following
//! and folding are left to `follow`, other sites' lines on the own ledger to `cosigned`.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waag_schema::base::key::KeyPair;
use waag_schema::federation::SiteTerms;
use waag_schema::ledger::merkle::verify_consistency;
use waag_schema::ledger::{
    Checkpoint, LedgerError, Note, NoteSignature, Origin, Root, SignedCheckpoint, Submission, Tree,
};
use waag_schema::{SiteId, Timestamp};

use super::follow::FollowError;
use super::peer::PeerError;
use super::sites::{Federation, Member, SitesError};
use crate::ledger::{AppendError, Standing, root_at};
use crate::store::{Key, Store, StoreError, Swap, Within};

/// How old a line on an unchanged tree may get.
const AGAIN_AFTER_SECONDS: u64 = 600;
/// How often a cell is tried that others write as well.
const TRIES: usize = 8;

/// A checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It is of no ledger of the charter.
    #[error("the charter names no ledger `{0}`")]
    UnknownOrigin(String),
    /// The ledger has not signed it, or its site is not believed.
    #[error("{0}")]
    Refused(String),
    /// The request contradicts itself.
    #[error("{0}")]
    Bad(String),
    /// It leads on from another size than the one that was cosigned last.
    #[error("the newest tree that was cosigned has {0} entries")]
    OtherSize(u64),
    /// It is not shown to continue what was cosigned last.
    #[error(transparent)]
    Proof(LedgerError),
    /// Too many ask at once.
    #[error("others are cosigning the same ledger")]
    Busy,
    /// The ledger's site did not take the line.
    #[error("the line could not be handed over: {0}")]
    Peer(#[from] PeerError),
    /// Something here failed.
    #[error(transparent)]
    Sites(Box<SitesError>),
}

impl From<SitesError> for WitnessError {
    fn from(error: SitesError) -> Self {
        Self::Sites(Box::new(error))
    }
}

impl From<StoreError> for WitnessError {
    fn from(error: StoreError) -> Self {
        SitesError::from(error).into()
    }
}

impl From<AppendError> for WitnessError {
    fn from(error: AppendError) -> Self {
        SitesError::from(error).into()
    }
}

/// The key that cosigns, under its name.
pub(super) struct WitnessKey {
    name: String,
    pair: Arc<KeyPair>,
}

impl WitnessKey {
    pub(super) fn new(site: &SiteId, pair: Arc<KeyPair>) -> Self {
        Self {
            name: SiteTerms::witness_name(site),
            pair,
        }
    }

    fn line(&self, vouched: &Vouched) -> Result<NoteSignature, LedgerError> {
        vouched.signed()?.cosign(&self.name, &self.pair, vouched.at)
    }

    /// The text with this witness's line only, as it is handed to the ledger.
    fn note(&self, vouched: &Vouched) -> Result<String, LedgerError> {
        let mut note = Note::new(vouched.signed()?.note().text())?;
        note.add(self.line(vouched)?)?;
        Ok(note.to_string())
    }
}

/// What the cell of a ledger holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Vouched {
    /// The newest tree that was cosigned, as its ledger signed it.
    checkpoint: String,
    /// The time that was signed with it.
    at: Timestamp,
    /// It has turned out to be of another history than the one that is followed: nothing more of this ledger is cosigned.
    #[serde(default)]
    ended: bool,
}

impl Vouched {
    fn signed(&self) -> Result<SignedCheckpoint, LedgerError> {
        self.checkpoint.parse()
    }
}

/// How a tree is shown to continue the one that was cosigned last.
enum Shown<'a> {
    /// By what was sent.
    Sent(&'a Submission),
    /// By the copy, in which every entry was checked up to this tree.
    Followed,
}

impl Federation {
    /// Cosigns a checkpoint that its ledger sends, if it continues all that were cosigned.
    ///
    /// # Errors
    /// As C2SP tlog-witness says, or when something here fails.
    pub async fn add_checkpoint(&self, submission: &Submission) -> Result<NoteSignature, WitnessError> {
        let unknown = || WitnessError::UnknownOrigin(submission.origin().chars().take(100).collect());
        let origin: Origin = submission.origin().parse().map_err(|_| unknown())?;
        let member = self.member(origin.site()).map_err(|_| unknown())?;
        let bad = |error: LedgerError| WitnessError::Bad(error.to_string());
        let signed = SignedCheckpoint::parse(submission.note.to_string().as_bytes()).map_err(bad)?;
        signed
            .verify(&[member.site.log_key], &[])
            .map_err(|error| WitnessError::Refused(error.to_string()))?;
        if let Some(end) = member.site.end_before(signed.checkpoint()) {
            let text = format!(
                "the charter ends {origin} at {} entries, with another tree",
                end.size
            );
            return Err(WitnessError::Refused(text));
        }
        if submission.old > signed.checkpoint().size {
            return Err(WitnessError::Bad(format!(
                "the old size {} is larger than the checkpoint's, {}",
                submission.old,
                signed.checkpoint().size
            )));
        }
        let vouched = self.vouch(&member, &signed, &Shown::Sent(submission)).await?;
        Ok(self.witness.line(&vouched).map_err(AppendError::from)?)
    }

    /// Cosigns the newest tree of a site that was followed to its end, unless that was done a short time ago, and hands
    /// the line to the site. Returns the size that is cosigned, none if nothing was followed yet.
    ///
    /// # Errors
    /// When there is no such site, it is not believed, it takes no line, or something here fails.
    pub async fn witness(&self, site: &SiteId) -> Result<Option<u64>, WitnessError> {
        let member = self.member(site)?;
        let Some(signed) = self
            .ledgers
            .of(site)
            .and_then(|followed| followed.newest().cloned())
        else {
            return Ok(None);
        };
        let vouched = self.vouch(&member, &signed, &Shown::Followed).await?;
        let note = self.witness.note(&vouched).map_err(AppendError::from)?;
        let mut told = member.told.lock().await;
        if told.as_ref() != Some(&note) {
            member.peer.cosign(&note).await?;
            *told = Some(note);
        }
        Ok(Some(signed.checkpoint().size))
    }

    /// Returns the newest tree of a series that was cosigned here, as a note with this site's line, if there is one.
    pub(super) async fn cosigned_of(
        &self,
        site: &SiteId,
        series: u32,
    ) -> Result<Option<(String, Checkpoint, Timestamp)>, SitesError> {
        let member = self.member(site)?;
        let Some(cell) = self.copy_of(&member).read_cell(&Key::witnessed(series)).await? else {
            return Ok(None);
        };
        let vouched: Vouched = serde_json::from_slice(&cell.bytes).map_err(|e| corrupt(&e))?;
        if vouched.ended {
            return Ok(None);
        }
        let note = self.witness.note(&vouched).map_err(AppendError::from)?;
        let tree = vouched.signed().map_err(AppendError::from)?.checkpoint().clone();
        Ok(Some((note, tree, vouched.at)))
    }

    pub(super) fn copy_of(&self, member: &Member) -> Within {
        Within::new(Arc::clone(&self.store), Key::of_site(&member.site.id))
    }

    /// Moves the cell of a ledger to a tree that continues the one that it holds.
    async fn vouch(
        &self,
        member: &Arc<Member>,
        signed: &SignedCheckpoint,
        shown: &Shown<'_>,
    ) -> Result<Vouched, WitnessError> {
        let site = &member.site.id;
        if let Some(followed) = self.ledgers.of(site)
            && let Standing::Stopped(reason) = &followed.standing
        {
            return Err(WitnessError::Refused(format!("{site} is not believed: {reason}")));
        }
        let copy = self.copy_of(member);
        let key = Key::witnessed(signed.checkpoint().origin.series());
        for _ in 0..TRIES {
            let cell = copy.read_cell(&key).await?;
            let known: Option<Vouched> = match &cell {
                Some(cell) => Some(serde_json::from_slice(&cell.bytes).map_err(|e| damaged(&e))?),
                None => None,
            };
            let now = self.clock.now();
            if let Some(known) = &known {
                let newest = known.signed().map_err(|e| damaged(&e))?;
                if known.ended {
                    let text = format!(
                        "{} was cosigned here in another history",
                        newest.checkpoint().origin
                    );
                    return Err(WitnessError::Refused(text));
                }
                let same = newest.note().text() == signed.note().text();
                if matches!(shown, Shown::Followed) && same && now < known.at.plus(AGAIN_AFTER_SECONDS) {
                    return Ok(known.clone());
                }
                self.check(member, Some(&newest), signed, shown).await?;
            } else {
                self.check(member, None, signed, shown).await?;
            }
            let vouched = Vouched {
                checkpoint: signed.to_string(),
                at: known.map_or(now, |known| known.at.max(now)),
                ended: false,
            };
            let bytes = Bytes::from(serde_json::to_vec(&vouched).map_err(|e| damaged(&e))?);
            let version = cell.as_ref().map(|cell| &cell.version);
            if let Swap::Swapped(_) = copy.swap_cell(&key, version, bytes).await? {
                return Ok(vouched);
            }
        }
        Err(WitnessError::Busy)
    }

    /// Checks that a tree continues the one that was cosigned last, and that the copy does not contradict it.
    async fn check(
        &self,
        member: &Arc<Member>,
        known: Option<&SignedCheckpoint>,
        signed: &SignedCheckpoint,
        shown: &Shown<'_>,
    ) -> Result<(), WitnessError> {
        let new = signed.checkpoint();
        let old = known.map(|known| known.checkpoint());
        if let Some(known) = known
            && known.checkpoint().size == new.size
            && known.checkpoint().root != new.root
        {
            self.accuse(member, "it signed two trees of one size", &[known, signed])
                .await?;
            return Err(WitnessError::OtherSize(new.size));
        }
        let tree = old.map_or_else(empty, Checkpoint::tree);
        if let Shown::Sent(submission) = shown {
            if submission.old != tree.size {
                return Err(WitnessError::OtherSize(tree.size));
            }
            // What is followed here is held against it as well, as far as it reaches.
            self.check_copy(member, signed).await?;
            return verify_consistency(&tree, &new.tree(), &submission.proof).map_err(WitnessError::Proof);
        }
        let Some(known) = known else { return Ok(()) };
        if tree.size > new.size {
            // Its ledger has sent a larger one: it is cosigned again when it was followed that far.
            return Err(WitnessError::OtherSize(tree.size));
        }
        if root_at(&self.copy_of(member), tree.size, new).await? != tree.root {
            self.accuse(member, "it signed two histories", &[known, signed])
                .await?;
            return Err(WitnessError::OtherSize(tree.size));
        }
        Ok(())
    }

    /// Checks that a tree is a beginning of the one that was followed, if it is not larger.
    async fn check_copy(&self, member: &Arc<Member>, signed: &SignedCheckpoint) -> Result<(), WitnessError> {
        let new = signed.checkpoint();
        let Some(followed) = self.ledgers.of(&member.site.id) else {
            return Ok(());
        };
        let Some(newest) = followed.tree_of(new.origin.series()) else {
            return Ok(());
        };
        let tree = newest.checkpoint();
        if new.size > tree.size || root_at(&self.copy_of(member), new.size, tree).await? == new.root {
            return Ok(());
        }
        self.accuse(member, "it signed two histories", &[newest, signed])
            .await?;
        let text = format!("{} is not believed any more", member.site.id);
        Err(WitnessError::Refused(text))
    }

    async fn accuse(
        &self,
        member: &Arc<Member>,
        reason: &'static str,
        notes: &[&SignedCheckpoint],
    ) -> Result<(), WitnessError> {
        let notes: Vec<SignedCheckpoint> = notes.iter().copied().cloned().collect();
        let accused = self
            .follower(member, async move |follower| {
                let notes: Vec<&SignedCheckpoint> = notes.iter().collect();
                follower.accuse(reason, &notes).await
            })
            .await;
        Ok(accused.map_err(SitesError::from)?)
    }

    /// Ends the cosigning of ledgers of which another history was cosigned than the one that is believed from now on.
    pub(super) async fn end_contradicted(&self, member: &Member) -> Result<(), SitesError> {
        let copy = self.copy_of(member);
        let Some(followed) = self.ledgers.of(&member.site.id) else {
            return Ok(());
        };
        for newest in &followed.trees {
            let tree = newest.checkpoint();
            let key = Key::witnessed(tree.origin.series());
            let Some(cell) = copy.read_cell(&key).await? else {
                continue;
            };
            let mut vouched: Vouched = serde_json::from_slice(&cell.bytes).map_err(|e| corrupt(&e))?;
            let signed = vouched.signed().map_err(AppendError::from)?;
            let old = signed.checkpoint();
            if old.size > tree.size || root_at(&copy, old.size, tree).await? == old.root {
                continue;
            }
            vouched.ended = true;
            let bytes = Bytes::from(serde_json::to_vec(&vouched).map_err(|e| corrupt(&e))?);
            if let Swap::Lost = copy.swap_cell(&key, Some(&cell.version), bytes).await? {
                return Err(FollowError::from(corrupt(&"the cell was written by somebody else")).into());
            }
        }
        Ok(())
    }
}

fn empty() -> Tree {
    Tree {
        size: 0,
        root: Root::empty(),
    }
}

fn corrupt(what: &dyn std::fmt::Display) -> AppendError {
    LedgerError::Malformed {
        what: "record of what was cosigned",
        reason: what.to_string(),
    }
    .into()
}

fn damaged(what: &dyn std::fmt::Display) -> WitnessError {
    corrupt(what).into()
}
