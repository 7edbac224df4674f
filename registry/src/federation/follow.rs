//! Following: another site's ledger is read, checked, copied and folded, entry by entry, and never back.
//!
//! ```text
//! checkpoint -> signature, origin -> growth bound -> continues what was seen -> leaves give the signed root
//!            -> openings are what leaves commit to -> statements may follow, signed by whom they must be
//!            -> copy (tiles, bundles, packs) -> index -> watermark
//! ```
//!
//! What not everybody may read, and this site may, comes behind that (`streams`).
//!
//! Nothing is written that was not checked. A tree that contradicts what was seen is kept with it as evidence, and
//! nothing more is believed of that site until an admin decides. The watermark moves forward only, and last.
//!
//! Budget: 45 bytes for each entry and its opening cross the network once; memory is one step of 16,384 leaves
//! (0.7 MB) and a few packs, however far behind the copy is.

mod conviction;
mod entries;
mod streams;
mod told;
mod trees;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waag_schema::ledger::{LedgerError, Origin, SignedCheckpoint};
use waag_schema::wire::federation::Evidence;
use waag_schema::{SiteId, Timestamp};

use self::streams::Kept;
use super::peer::{Peer, PeerError, PeerSite};
use crate::clock::Clock;
use crate::index::{Index, IndexError, Reader};
use crate::ledger::{AppendError, Folding, Followed, Reads, Standing};
use crate::store::{Cell, Key, Store, StoreError, Swap};

/// How old what is kept of the time of the last word may be.
const HEARD_KEPT_SECONDS: u64 = 600;
const WIDTH: u64 = 256;

/// A ledger was not followed any further.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It cannot be asked. Ask again later.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What came is not what it signed. Ask again: it may be damaged on the way, or there.
    #[error("{0}")]
    Lies(String),
    /// It shows an older tree than before. Ask again; if that stays so, a backup was restored there.
    #[error("it shows {shown} entries of {origin}, {known} were seen")]
    Behind {
        /// The ledger.
        origin: Origin,
        /// How many it shows.
        shown: u64,
        /// How many were seen.
        known: u64,
    },
    /// The charter ends it with another tree than it shows.
    #[error("the charter ends {origin} at {end} entries; it shows {shown}, or another tree of as many")]
    Ended {
        /// The ledger.
        origin: Origin,
        /// With how many entries it ends.
        end: u64,
        /// How many it shows.
        shown: u64,
    },
    /// It is not believed any more, until an admin decides.
    #[error("it is not believed any more: {0}")]
    Stopped(String),
    /// The charter names it no more.
    #[error("the charter does not name {0} any more")]
    Dropped(SiteId),
    /// What is kept of it here cannot be used.
    #[error(transparent)]
    Copy(#[from] AppendError),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Copy(error.into())
    }
}

impl From<IndexError> for FollowError {
    fn from(error: IndexError) -> Self {
        Self::Copy(error.into())
    }
}

fn lies(what: impl std::fmt::Display) -> FollowError {
    FollowError::Lies(what.to_string())
}

/// What a look at a ledger has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// How many entries are new.
    pub new: u64,
}

/// What the store keeps of a ledger that is followed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Watermark {
    /// The last checkpoints of all series, the newest last.
    trees: Vec<String>,
    /// The note that says which key the site signs with: what it has measured is proven to others by that.
    #[serde(default)]
    site_key: Option<String>,
    /// When it was last heard from, or a little earlier.
    heard: Option<Timestamp>,
}

/// Follows one ledger.
pub(super) struct Follower {
    site: PeerSite,
    peer: Arc<dyn Peer>,
    /// That site's part of the store.
    copy: Arc<dyn Store>,
    /// Where recipes and manifests are.
    content: Arc<dyn Store>,
    index: Index,
    reader: Reader,
    clock: Arc<dyn Clock>,
    trees: Vec<SignedCheckpoint>,
    site_key: Option<Arc<str>>,
    heard: Option<Timestamp>,
    /// The time that is in the store.
    heard_kept: Option<Timestamp>,
    cell: Option<Cell>,
    standing: Standing,
    /// Entries without an opening of which no later one has said yet that they are erased.
    blank: BTreeSet<u64>,
    /// What is kept of streams that not everybody may read.
    kept: Kept,
    /// Rows were folded from openings that are erased since.
    stale: bool,
    /// Who gives tiles instead of the site itself.
    teller: Option<Arc<dyn Peer>>,
    /// What is looked at was carried here, so nobody is heard: time is what the ledger itself says.
    carried: bool,
}

/// What a follower works with.
pub(super) struct FollowerParts {
    pub(super) site: PeerSite,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) copy: Arc<dyn Store>,
    pub(super) content: Arc<dyn Store>,
    pub(super) index: Index,
    pub(super) reader: Reader,
    pub(super) clock: Arc<dyn Clock>,
}

impl Follower {
    /// Takes up the copy where it was left.
    pub(super) async fn open(parts: FollowerParts) -> Result<Self, FollowError> {
        let FollowerParts {
            site,
            peer,
            copy,
            content,
            index,
            reader,
            clock,
        } = parts;
        let mut follower = Self {
            site,
            peer,
            copy,
            content,
            index,
            reader,
            clock,
            trees: Vec::new(),
            site_key: None,
            heard: None,
            heard_kept: None,
            cell: None,
            standing: Standing::Sound,
            blank: BTreeSet::new(),
            kept: Kept::default(),
            stale: false,
            teller: None,
            carried: false,
        };
        follower.load().await?;
        Ok(follower)
    }

    async fn load(&mut self) -> Result<(), FollowError> {
        self.cell = self.copy.read_cell(&Key::watermark()).await?;
        let kept: Watermark = match &self.cell {
            Some(cell) => serde_json::from_slice(&cell.bytes)
                .map_err(|e| damaged(&format_args!("the watermark of {}: {e}", self.site.id)))?,
            None => Watermark::default(),
        };
        self.trees = kept
            .trees
            .iter()
            .map(|note| self.signed(note.as_bytes()))
            .collect::<Result<_, _>>()?;
        self.site_key = kept.site_key.map(Arc::from);
        (self.heard, self.heard_kept) = (kept.heard, kept.heard);
        if let Some(cell) = self.copy.read_cell(&Key::evidence()).await? {
            let evidence: Evidence = serde_json::from_slice(&cell.bytes)
                .map_err(|e| damaged(&format_args!("the evidence against {}: {e}", self.site.id)))?;
            self.standing = Standing::Stopped(evidence.reason);
        }
        self.blank.clear();
        self.index.rollback()?;
        self.folding().catch_up().await?;
        self.load_streams().await?;
        self.stale = false;
        Ok(())
    }

    fn folding(&mut self) -> Folding<'_> {
        Folding {
            ledger: self.copy.as_ref(),
            content: self.content.as_ref(),
            index: &mut self.index,
            trees: self
                .trees
                .iter()
                .map(|signed| signed.checkpoint().clone())
                .collect(),
            reads: Reads::Open,
        }
    }

    /// Returns what was followed, for whoever answers questions.
    pub(super) fn followed(&self) -> Followed {
        Followed {
            site: self.site.id.clone(),
            jurisdiction: self.site.jurisdiction,
            owns: self.site.owns.clone(),
            trees: self.trees.clone(),
            site_key: self.site_key.clone(),
            index: self.reader.clone(),
            heard: self.heard.unwrap_or(Timestamp::from_unix(0)),
            standing: self.standing.clone(),
            changes: self.index.changes(),
            store: Arc::clone(&self.copy),
        }
    }

    /// Goes on by what the charter says of the site now. Whose ledger it is stays the same.
    pub(super) fn go_by(&mut self, site: PeerSite, peer: Arc<dyn Peer>) {
        (self.site, self.peer) = (site, peer);
    }

    pub(super) const fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Follows the ledger as far as it was carried here. What was followed already goes on being what counts.
    pub(super) async fn look_at_carried(&mut self, carrier: Arc<dyn Peer>) -> Result<Looked, FollowError> {
        let online = std::mem::replace(&mut self.peer, carrier);
        self.carried = true;
        let looked = self.look().await;
        self.carried = false;
        self.peer = online;
        match looked {
            // An older tree of the same history: a bundle that came late.
            Err(FollowError::Behind { .. }) => Ok(Looked { new: 0 }),
            looked => looked,
        }
    }

    /// When the site has spoken last, as far as is known.
    fn word_at(&self) -> Result<Option<Timestamp>, FollowError> {
        let now = self.clock.now();
        if !self.carried {
            return Ok(Some(now));
        }
        // A file does not carry what is said in private namespaces, so what they forbid now is not known by it.
        if self.kept.has_namespaces() {
            return Ok(self.heard);
        }
        // A list of what is withdrawn has a time that the ledger's key has signed.
        let list = self.index.questions().newest("revocation-list")?;
        Ok(self.heard.max(list.map(|list| list.at.min(now))))
    }

    /// Looks once, and follows the ledger to where it is now.
    pub(super) async fn look(&mut self) -> Result<Looked, FollowError> {
        if let Standing::Stopped(reason) = &self.standing {
            return Err(FollowError::Stopped(reason.clone()));
        }
        let looked = self.try_look().await;
        if looked.is_err() {
            // What was checked before the failure stays; what was half folded does not.
            self.index.rollback()?;
        }
        looked
    }

    async fn try_look(&mut self) -> Result<Looked, FollowError> {
        let known = self.trees.last().map(ToString::to_string);
        // Before the checkpoint: what is counted now is in the tree that is shown then.
        let streams = if self.carried {
            None
        } else {
            Some(self.peer.streams().await?)
        };
        let due = self.kept.withdrawn.clone();
        let Some(note) = self.peer.checkpoint(None, known.as_deref()).await? else {
            if let Some(streams) = streams {
                self.take_streams(streams, &due).await?;
            }
            self.hear(false).await?;
            return Ok(Looked { new: 0 });
        };
        let newest = self.signed(&note)?;
        if self.site_key.is_none() {
            self.site_key = Some(self.ask_site_key().await?);
        }
        let mut new = 0;
        for target in self.targets(&newest).await? {
            new += self.follow_to(&target).await?;
        }
        if let Some(entry) = self.blank.first() {
            // Erased since its tree was signed, and the next tree will say so; or withheld.
            let text = format!("entry {entry} is for everybody to read and is not served");
            self.load().await?;
            return Err(FollowError::Lies(text));
        }
        if self.stale {
            // Rows were folded from what is erased now: all are folded anew, without it.
            self.index.reset()?;
            self.folding().catch_up().await?;
            self.index.scrub()?;
            self.stale = false;
        }
        if let Some(streams) = streams {
            self.take_streams(streams, &due).await?;
        }
        self.hear(new > 0).await?;
        Ok(Looked { new })
    }

    /// Notes that the site has answered with what it signed.
    async fn hear(&mut self, grown: bool) -> Result<(), FollowError> {
        self.heard = self.word_at()?;
        let due = match (self.heard_kept, self.heard) {
            (Some(kept), Some(heard)) => kept.plus(HEARD_KEPT_SECONDS) <= heard,
            (None, _) => true,
            (_, None) => false,
        };
        if grown || due { self.keep().await } else { Ok(()) }
    }

    /// Moves the watermark.
    async fn keep(&mut self) -> Result<(), FollowError> {
        let watermark = Watermark {
            trees: self.trees.iter().map(ToString::to_string).collect(),
            site_key: self.site_key.as_deref().map(str::to_owned),
            heard: self.heard,
        };
        let bytes = Bytes::from(serde_json::to_vec(&watermark).map_err(|e| damaged(&e))?);
        let version = self.cell.as_ref().map(|cell| &cell.version);
        match self
            .copy
            .swap_cell(&Key::watermark(), version, bytes.clone())
            .await?
        {
            Swap::Swapped(version) => {
                self.cell = Some(Cell { bytes, version });
                self.heard_kept = self.heard;
                Ok(())
            }
            Swap::Lost => Err(damaged(&"the watermark was moved by somebody else")),
        }
    }
}

fn damaged(what: &dyn std::fmt::Display) -> FollowError {
    AppendError::from(LedgerError::Malformed {
        what: "copy of another site's ledger",
        reason: what.to_string(),
    })
    .into()
}
