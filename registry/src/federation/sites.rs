//! The other sites of the charter, as this one deals with them: who follows each, and how everything stands.
//!
//! A site is followed and mirrored from by one task at a time; reading needs none of them.

mod turns;
mod views;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Semaphore;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::VerifierKey;
use waag_schema::wire::federation::MirrorRule;
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::challenge::Due;
use super::cosigned::Cosigned;
use super::exchange::Told;
use super::fetch::{AT_ONCE, FetchError};
use super::follow::{FollowError, Follower, FollowerParts};
use super::mirror::{Settled, Trouble, Underway};
use super::peer::{Peer, PeerSite};
use super::rules::{AddedRules, RuleError};
use super::signed::Signed;
use super::witness::WitnessKey;
use crate::access::Here;
use crate::clock::Clock;
use crate::content::{Content, ContentError, Uploads};
use crate::index::{Index, IndexError, Reader};
use crate::ledger::{AppendError, FollowedLedgers, Ledger, Standing};
use crate::publish::{Answers, Demand};
use crate::random::Random;
use crate::store::{Key, Store, StoreError, Within};
use crate::telemetry::Metrics;

/// Something with other sites could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    /// The charter names no such site, or this one.
    #[error("the charter names no other site {0}")]
    NoPeer(String),
    /// A site is compared with itself.
    #[error("{0} is compared with itself; name two sites")]
    Itself(SiteId),
    /// There is no copy here of what is meant.
    #[error("there is no {0} here")]
    NotHeld(String),
    /// A copy is not given up, or a site not asked for proof of it, because of what it is.
    #[error("{0}")]
    Drop(String),
    /// Somebody gives up the same copy already.
    #[error("a copy of {0} is being given up already")]
    Going(ArtifactName),
    /// Too few others prove that they have what is to be given up.
    #[error(
        "the copy of {artifact} stays: {proved} of {needed} other sites proved that they have {manifest}"
    )]
    TooFew {
        /// The artifact.
        artifact: ArtifactName,
        /// The release.
        manifest: Sha256,
        /// How many had to.
        needed: u32,
        /// How many did.
        proved: usize,
        /// Why each of the others did not.
        reasons: Vec<String>,
    },
    /// A ledger could not be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A release could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The rules cannot be used.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The own ledger or a copy failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Content failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// An index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory of the indexes cannot be used.
    #[error("{path}: {error}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl SitesError {
    /// Is it about bytes here that are not what they should be, or not there?
    pub(super) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Content(
                ContentError::Damaged { .. }
                    | ContentError::MissingChunk { .. }
                    | ContentError::Store(StoreError::NotFound(_))
            ) | Self::Store(StoreError::NotFound(_))
        )
    }
}

/// Another site, with what follows it.
pub(super) struct Member {
    pub(super) site: PeerSite,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) follower: Arc<tokio::sync::Mutex<Follower>>,
    /// Why the last look failed, if it did.
    trouble: Arc<Mutex<Option<String>>>,
    /// The note that it was last handed, and held while it is handed another.
    pub(super) told: tokio::sync::Mutex<Option<String>>,
    /// What others tell of it, and it of others.
    pub(super) talk: Told,
    /// Held while its releases are mirrored; what is settled of them.
    pub(super) mirroring: Arc<tokio::sync::Mutex<Option<Settled>>>,
}

impl Member {
    /// Did the last look at its ledger fail?
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Puts what the charter says now in the place of what it said. Who follows goes on: a look may be under way, and two
    /// that write one copy would take each other for strangers.
    fn renewed(&self, site: PeerSite, peer: Arc<dyn Peer>) -> Self {
        Self {
            site,
            peer,
            follower: Arc::clone(&self.follower),
            trouble: Arc::clone(&self.trouble),
            told: tokio::sync::Mutex::default(),
            talk: Told::default(),
            mirroring: Arc::clone(&self.mirroring),
        }
    }
}

type Members = BTreeMap<SiteId, Arc<Member>>;

/// What the federation works with.
pub(crate) struct SitesParts {
    pub(crate) here: Here,
    /// The key that cosigns.
    pub(crate) witness_key: Arc<KeyPair>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) content: Content,
    pub(crate) uploads: Uploads,
    pub(crate) reader: Reader,
    pub(crate) ledger: Ledger,
    pub(crate) ledgers: FollowedLedgers,
    pub(crate) demand: Demand,
    pub(crate) answers: Answers,
    pub(crate) random: Random,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// Where the indexes of their ledgers are.
    pub(crate) peers: PathBuf,
    /// The rules of `waag.toml`.
    pub(crate) rules: Vec<MirrorRule>,
    /// How often a site is asked for proof of what it holds, in seconds; never where there is none.
    pub(crate) challenge_seconds: Option<u64>,
}

/// What a site does with other sites.
pub struct Federation {
    pub(super) here: Here,
    pub(super) store: Arc<dyn Store>,
    pub(super) content: Content,
    pub(super) uploads: Uploads,
    pub(super) reader: Reader,
    pub(super) ledger: Ledger,
    pub(super) ledgers: FollowedLedgers,
    pub(super) demand: Demand,
    pub(super) answers: Answers,
    pub(super) random: Random,
    pub(super) challenge_seconds: Option<u64>,
    pub(super) due: Due,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    directory: PathBuf,
    configured: Vec<MirrorRule>,
    added: AddedRules,
    members: Arc<RwLock<Members>>,
    /// Where the charter says that this site answers: host and port.
    authority: RwLock<Option<String>>,
    pub(super) signed: Signed,
    pub(super) witness: WitnessKey,
    pub(super) cosigned: Cosigned,
    pub(super) trouble: Trouble,
    pub(super) underway: Underway,
    /// How many batches of chunks may be under way.
    pub(super) batches: Semaphore,
}

impl Federation {
    pub(crate) fn new(parts: SitesParts) -> Self {
        Self {
            added: AddedRules::new(Arc::clone(&parts.store)),
            witness: WitnessKey::new(&parts.here.site, parts.witness_key),
            here: parts.here,
            store: parts.store,
            content: parts.content,
            uploads: parts.uploads,
            reader: parts.reader,
            ledger: parts.ledger,
            ledgers: parts.ledgers,
            demand: parts.demand,
            answers: parts.answers,
            random: parts.random,
            challenge_seconds: parts.challenge_seconds,
            due: Due::default(),
            clock: parts.clock,
            metrics: parts.metrics,
            directory: parts.peers,
            configured: parts.rules,
            members: Arc::default(),
            authority: RwLock::default(),
            signed: Signed::default(),
            cosigned: Cosigned::default(),
            trouble: Trouble::default(),
            underway: Underway::default(),
            batches: Semaphore::new(AT_ONCE),
        }
    }

    /// Takes the sites of the charter for those that there are. One that was known keeps what was followed; one that is
    /// not named any more is forgotten, and its copies are served no more. What is said of this site itself is where
    /// it answers.
    ///
    /// # Errors
    /// When what was kept of one of them cannot be used.
    pub async fn meet(&self, sites: Vec<(PeerSite, Arc<dyn Peer>)>) -> Result<(), SitesError> {
        let mut members = BTreeMap::new();
        for (site, peer) in sites {
            if site.id == self.here.site {
                let mut authority = self.authority.write().unwrap_or_else(PoisonError::into_inner);
                *authority = authority_of(&site.url);
                continue;
            }
            let id = site.id.clone();
            let member = match self.member(&id) {
                Ok(known) if known.site.log_key == site.log_key => known.renewed(site, peer),
                _ => self.open(site, peer).await?,
            };
            members.insert(id, Arc::new(member));
        }
        self.take_up(members);
        self.load_cosigned().await
    }

    /// From here on there are these. What was followed of each is seen under what the charter says of it now.
    fn take_up(&self, members: Members) {
        let mut all = self.members.write().unwrap_or_else(PoisonError::into_inner);
        self.ledgers.retain(|site| members.contains_key(site));
        *all = members;
        for member in all.values() {
            if let Some(followed) = self.ledgers.of(&member.site.id) {
                self.ledgers.set(member.site.seen_with(&followed));
            }
        }
    }

    async fn open(&self, site: PeerSite, peer: Arc<dyn Peer>) -> Result<Member, SitesError> {
        std::fs::create_dir_all(&self.directory).map_err(|error| SitesError::Io {
            path: self.directory.clone(),
            error,
        })?;
        let path = self.directory.join(format!("{}.db", site.id));
        let origin = waag_schema::ledger::Origin::of(&site.id, 1).to_string();
        let copy: Arc<dyn Store> = Arc::new(Within::new(Arc::clone(&self.store), Key::of_site(&site.id)));
        let parts = FollowerParts {
            site: site.clone(),
            peer: Arc::clone(&peer),
            copy,
            content: Arc::clone(&self.store),
            index: Index::open(&path, &origin)?,
            reader: Reader::new(&path),
            clock: Arc::clone(&self.clock),
        };
        // SQLite's connection may move between threads but not be shared, so this keeps a thread to itself.
        let runtime = tokio::runtime::Handle::current();
        let opened = tokio::task::spawn_blocking(move || runtime.block_on(Follower::open(parts)));
        let follower = opened.await.expect("opening does not panic")?;
        self.ledgers.set(follower.followed());
        Ok(Member {
            site,
            peer,
            follower: Arc::new(tokio::sync::Mutex::new(follower)),
            trouble: Arc::default(),
            told: tokio::sync::Mutex::default(),
            talk: Told::default(),
            mirroring: Arc::default(),
        })
    }

    /// Returns what the charter says of another site.
    #[must_use]
    pub fn peer_site(&self, site: &SiteId) -> Option<PeerSite> {
        self.member(site).ok().map(|member| member.site.clone())
    }

    /// Returns the keys with which other sites cosign.
    pub(super) fn witness_keys(&self) -> BTreeMap<SiteId, VerifierKey> {
        let members = self.members();
        let keys = members
            .iter()
            .map(|member| (member.site.id.clone(), member.site.witness_key.clone()));
        keys.collect()
    }

    pub(super) fn authority(&self) -> Option<String> {
        self.authority
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says why a site is not believed, if so.
    pub(super) fn distrusted(&self, site: &SiteId) -> Option<String> {
        match &self.ledgers.of(site)?.standing {
            Standing::Sound => None,
            Standing::Stopped(reason) => Some(reason.clone()),
        }
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.values().cloned().collect()
    }

    pub(super) fn member(&self, site: &SiteId) -> Result<Arc<Member>, SitesError> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let found = members.get(site).cloned();
        found.ok_or_else(|| SitesError::NoPeer(site.to_string()))
    }

    /// Finds a site by its id or its name in the charter.
    ///
    /// # Errors
    /// When the charter names none.
    pub fn find(&self, text: &str) -> Result<SiteId, SitesError> {
        let named = |member: &Arc<Member>| member.site.id.as_str() == text || member.site.name == text;
        let found = self.members().into_iter().find(named);
        found
            .map(|member| member.site.id.clone())
            .ok_or_else(|| SitesError::NoPeer(text.to_owned()))
    }

    /// Returns who asks for what is fetched on demand.
    #[must_use]
    pub const fn demand(&self) -> &Demand {
        &self.demand
    }
}

/// Host and port of an address, as a signature covers them.
fn authority_of(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}
