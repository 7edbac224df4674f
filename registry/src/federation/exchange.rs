//! What followers tell each other of third sites: the checkpoints that each has verified, held against what is followed here.
//!
//! ```text
//! told by P: a checkpoint of S -> does S's key sign it? no: left alone, S is not hurt by it
//!     not larger than what is followed here -> is it a beginning of that?      no: evidence, S is believed no more
//!     larger -> do the tiles that P has of it show that it goes on from that?  no: evidence, S is believed no more
//!            -> S has to show as much here within some looks; held against it then, trouble that is shown until then
//! ```
//! So whoever shows two sites different histories is found out as soon as these two hear each other. What convicts is told as
//! well: who has the longer history, or one of the same length, knows then without hearing of the other from anybody else;
//! who has the shorter one needs the tiles of the longer, from somebody who follows it. A site is convicted by its own
//! signatures only.
//!
//! Budget: one request at each thorough look, its answer at most 4 MiB and 1,024 notes; the same answer again costs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::wire::federation::Evidence;
use waag_schema::{Sha256, SiteId};

use super::follow::FollowError;
use super::peer::PeerError;
use super::sites::{Federation, Member, SitesError};
use crate::ledger::{AppendError, Followed, Standing, root_at};
use crate::store::{Cell, Key, Store};

/// The most bytes of an answer.
pub(super) const CHECKPOINTS_BYTES_MAX: usize = 4 << 20;
/// The most notes of one.
const NOTES_MAX: usize = 1024;
/// The most bytes of the notes that are told: in JSON they are a little more.
const TOLD_BYTES_MAX: usize = 2 << 20;
/// In how many looks a site may lack what it has shown to another one: the other's look may have come right before.
const UNSHOWN_LOOKS: u32 = 10;

/// A tree that others were shown and this site was not yet.
#[derive(Debug, Clone)]
struct Ahead {
    signed: SignedCheckpoint,
    told_by: String,
    looks: u32,
}

/// What was told of a site, and by it.
#[derive(Debug, Default)]
pub(super) struct Told {
    ahead: Mutex<Option<Ahead>>,
    /// What the site told last, if all of it was held against what is followed.
    last: Mutex<Option<Sha256>>,
}

impl Told {
    fn ahead(&self) -> MutexGuard<'_, Option<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Option<Sha256>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a tree that is larger than what is followed for the one that has to be shown. Returns one of the same size and
    /// another root, if such a one was told before.
    fn note(&self, signed: &SignedCheckpoint, told_by: &str) -> Option<SignedCheckpoint> {
        let mut ahead = self.ahead();
        let new = signed.checkpoint();
        if let Some(known) = ahead.as_ref() {
            let old = known.signed.checkpoint();
            if (&old.origin, old.size) == (&new.origin, new.size) {
                return (old.root != new.root).then(|| known.signed.clone());
            }
            if (old.origin.series(), old.size) > (new.origin.series(), new.size) {
                return None;
            }
        }
        *ahead = Some(Ahead {
            signed: signed.clone(),
            told_by: told_by.to_owned(),
            looks: 0,
        });
        None
    }
}

/// What a note that was told comes to.
enum Held {
    /// Nothing is left to be done about it.
    Settled,
    /// It is to be looked at again.
    Later,
}

impl Federation {
    /// Returns what this site has verified of others, and what convicts some.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn told(&self) -> Result<Vec<String>, SitesError> {
        let (mut notes, mut bytes) = (Vec::new(), 0);
        for followed in self.ledgers.all() {
            let mut own: Vec<String> = followed.trees.iter().map(ToString::to_string).collect();
            if followed.standing != Standing::Sound
                && let Some(cell) = followed.store.read_cell(&Key::evidence()).await?
            {
                own.extend(evidence(&cell));
            }
            for note in own {
                bytes += note.len();
                if notes.len() == NOTES_MAX || bytes > TOLD_BYTES_MAX {
                    return Ok(notes);
                }
                notes.push(note);
            }
        }
        Ok(notes)
    }

    /// Hears from a site what it has verified of others, and holds it against what is followed here.
    ///
    /// # Errors
    /// When there is no such site, it does not answer, or something here fails.
    pub async fn hear(&self, site: &SiteId) -> Result<(), SitesError> {
        let teller = self.member(site)?;
        let notes = match teller.peer.checkpoints().await {
            Ok(notes) => notes,
            Err(PeerError::Absent(_)) => return Ok(()),
            Err(error) => return Err(FollowError::from(error).into()),
        };
        let digest = Sha256::of(notes.concat().as_bytes());
        if *teller.talk.last() == Some(digest) {
            return Ok(());
        }
        let mut settled = true;
        for note in notes.iter().take(NOTES_MAX) {
            settled &= matches!(self.hold(&teller, note).await?, Held::Settled);
        }
        *teller.talk.last() = settled.then_some(digest);
        Ok(())
    }

    /// Holds one note against what is followed of the ledger that it is of.
    async fn hold(&self, teller: &Arc<Member>, note: &str) -> Result<Held, SitesError> {
        if note.len() > NOTE_BYTES_MAX {
            return Ok(Held::Settled);
        }
        let Ok(signed) = SignedCheckpoint::parse(note.as_bytes()) else {
            return Ok(Held::Settled);
        };
        let new = signed.checkpoint();
        let (site, series) = (new.origin.site(), new.origin.series());
        // What it says of itself is what a look is for; of this site, witnesses say it.
        if *site == teller.site.id || *site == self.here.site {
            return Ok(Held::Settled);
        }
        let (Ok(of), Some(followed)) = (self.member(site), self.ledgers.of(site)) else {
            return Ok(Held::Settled);
        };
        if followed.standing != Standing::Sound {
            return Ok(Held::Settled);
        }
        let known = followed.tree_of(series);
        if known.is_some_and(|known| known.note().text() == signed.note().text()) {
            return Ok(Held::Settled);
        }
        if of.site.end_before(new).is_some() {
            // Nobody's word: who holds the key behind the end convicts nobody.
            return Ok(Held::Settled);
        }
        if signed.verify(&[of.site.log_key], &[]).is_err() {
            tracing::warn!(%site, teller = %teller.site.id, "a site tells of a checkpoint that was never signed");
            return Ok(Held::Settled);
        }
        match known {
            Some(known) if new.size <= known.checkpoint().size => {
                if is_beginning(&followed, &signed, known).await? {
                    return Ok(Held::Settled);
                }
                return self.accuse_told(&of, [known.clone(), signed.clone()]).await;
            }
            _ => {}
        }
        if followed
            .newest()
            .is_some_and(|newest| newest.checkpoint().origin.series() > series)
        {
            // Its end was lost, and a later series goes on: that says the ledger itself.
            return Ok(Held::Settled);
        }
        if let Some(other) = of.talk.note(&signed, &teller.site.name) {
            return self.accuse_told(&of, [other, signed.clone()]).await;
        }
        let Some(known) = known.filter(|known| known.checkpoint().size > 0) else {
            return Ok(Held::Settled);
        };
        if self.is_pardoned(&of, [known, &signed]).await? {
            return Ok(Held::Settled);
        }
        let (found, peer) = (signed.clone(), Arc::clone(&teller.peer));
        let held = self
            .follower_if_free(&of, async move |follower| {
                follower.hold_against(&found, peer).await
            })
            .await;
        match held {
            Ok(Some(())) | Err(FollowError::Stopped(_)) => Ok(Held::Settled),
            Ok(None) | Err(FollowError::Peer(_) | FollowError::Lies(_)) => Ok(Held::Later),
            Err(error) => Err(error.into()),
        }
    }

    /// After a look at a site: does it show here by now what it has shown to others? Returns what is wrong if it does not.
    pub(super) async fn hold_to_told(&self, member: &Arc<Member>) -> Result<Option<String>, SitesError> {
        let ahead = member.talk.ahead().clone();
        let (Some(ahead), Some(followed)) = (ahead, self.ledgers.of(&member.site.id)) else {
            return Ok(None);
        };
        let new = ahead.signed.checkpoint();
        let newest = followed.newest().map(|newest| newest.checkpoint());
        let shown = newest.map_or(0, |newest| newest.size);
        match followed.tree_of(new.origin.series()) {
            Some(known) if known.checkpoint().size >= new.size => {
                if !is_beginning(&followed, &ahead.signed, known).await? {
                    self.accuse_told(member, [known.clone(), ahead.signed.clone()])
                        .await?;
                }
                *member.talk.ahead() = None;
                return Ok(None);
            }
            _ if newest.is_some_and(|newest| newest.origin.series() > new.origin.series()) => {
                *member.talk.ahead() = None;
                return Ok(None);
            }
            _ => {}
        }
        let mut looks = 0;
        if let Some(ahead) = member.talk.ahead().as_mut() {
            ahead.looks = ahead.looks.saturating_add(1);
            looks = ahead.looks;
        }
        Ok((looks > UNSHOWN_LOOKS).then(|| {
            format!(
                "it shows {shown} entries of {} here, and has shown {} to {}",
                new.origin, new.size, ahead.told_by
            )
        }))
    }

    /// Stops believing a site that has signed both of these, which cannot be beginnings of one history.
    async fn accuse_told(
        &self,
        member: &Arc<Member>,
        notes: [SignedCheckpoint; 2],
    ) -> Result<Held, SitesError> {
        let [known, found] = &notes;
        if self.is_pardoned(member, [known, found]).await? {
            return Ok(Held::Settled);
        }
        let reason = if known.checkpoint().size == found.checkpoint().size {
            "it signed two trees of one size"
        } else {
            "it signed two histories"
        };
        let accused = self
            .follower_if_free(member, async move |follower| {
                let notes: Vec<&SignedCheckpoint> = notes.iter().collect();
                follower.accuse(reason, &notes).await
            })
            .await?;
        Ok(accused.map_or(Held::Later, |()| Held::Settled))
    }

    /// Was it decided that a contradiction as far as this is not held against the site any more?
    async fn is_pardoned(&self, member: &Member, notes: [&SignedCheckpoint; 2]) -> Result<bool, SitesError> {
        let Some(cell) = self.copy_of(member).read_cell(&Key::pardoned()).await? else {
            return Ok(false);
        };
        let pardoned = read_pardoned(&cell);
        let [known, found] = notes.map(SignedCheckpoint::checkpoint);
        let until = pardoned.get(&found.origin.series()).copied().unwrap_or(0);
        // Whichever of the two is the other history: both were known then, or the one that was told is.
        Ok(found.size <= until || (known.size > found.size && known.size <= until))
    }

    /// A person decides to believe a site again: what others have seen until now is not held against it.
    pub(super) fn forgive_told(member: &Member) {
        *member.talk.ahead() = None;
    }
}

/// Is a tree a beginning of a larger one that was followed, or the same?
async fn is_beginning(
    followed: &Followed,
    small: &SignedCheckpoint,
    large: &SignedCheckpoint,
) -> Result<bool, AppendError> {
    let (small, large) = (small.checkpoint(), large.checkpoint());
    if small.size == large.size {
        return Ok(small.root == large.root);
    }
    let here = root_at(followed.store.as_ref(), small.size, large).await?;
    Ok(here == small.root)
}

/// Returns the checkpoints that convict a site.
fn evidence(cell: &Cell) -> Vec<String> {
    let evidence: Option<Evidence> = serde_json::from_slice(&cell.bytes).ok();
    evidence.map_or_else(Vec::new, |evidence| evidence.checkpoints)
}

/// Reads up to which size of each series a contradiction is not held against a site.
pub(super) fn read_pardoned(cell: &Cell) -> BTreeMap<u32, u64> {
    serde_json::from_slice(&cell.bytes).unwrap_or_default()
}

/// Adds what convicted a site to what is not held against it any more.
pub(super) fn pardon(mut pardoned: BTreeMap<u32, u64>, against: &Cell) -> Option<Bytes> {
    for note in evidence(against) {
        let Ok(signed) = SignedCheckpoint::parse(note.as_bytes()) else {
            continue;
        };
        let tree = signed.checkpoint();
        let until = pardoned.entry(tree.origin.series()).or_default();
        *until = tree.size.max(*until);
    }
    serde_json::to_vec(&pardoned).ok().map(Bytes::from)
}
