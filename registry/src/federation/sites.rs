//! The other sites of the charter, as this one deals with them: who follows each, and how everything stands.
//!
//! A site is followed and mirrored from by one task at a time; reading needs none of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::task::JoinSet;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::VerifierKey;
use waag_schema::wire::federation::{
    HolderView, MirrorRule, MirrorStatus, MirroredView, PeerView, RuleView, RunAnswer, When,
};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::cosigned::Cosigned;
use super::fetch::FetchError;
use super::follow::{FollowError, Follower, FollowerParts, Looked};
use super::mirror::{Mirrored, Source, Trouble, Underway};
use super::peer::{Peer, PeerSite};
use super::rules::{AddedRules, RuleError, is_of, takes};
use super::signed::Signed;
use super::witness::WitnessKey;
use crate::access::Here;
use crate::clock::Clock;
use crate::content::{Content, ContentError, Uploads};
use crate::index::{CustodyRow, Index, IndexError, Reader};
use crate::ledger::{AppendError, FollowedLedgers, Ledger, Standing};
use crate::publish::Demand;
use crate::store::{Key, Store, StoreError, Within};
use crate::telemetry::{Metrics, OfPeer};

/// How often another site's ledger is looked at: what is published there is known here within a second and some round
/// trips. Nothing new is one request, answered by a tag.
const LOOKED_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// At every so many looks it is gone through what rules, labels and failures ask for, also where nothing is new.
const THOROUGH_EVERY: u64 = 5;

/// Something with other sites could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    /// The charter names no such site, or this one.
    #[error("the charter names no other site {0}")]
    NoPeer(String),
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

/// Another site, with what follows it.
pub(super) struct Member {
    pub(super) site: PeerSite,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) follower: Arc<tokio::sync::Mutex<Follower>>,
    /// Why the last look failed, if it did.
    trouble: Arc<Mutex<Option<String>>>,
    /// The note that it was last handed, and held while it is handed another.
    pub(super) told: tokio::sync::Mutex<Option<String>>,
    /// Held while its releases are mirrored.
    mirroring: Arc<tokio::sync::Mutex<()>>,
}

impl Member {
    /// Puts what the charter says now in the place of what it said. Who follows goes on: a look may be under way, and two
    /// that write one copy would take each other for strangers.
    fn renewed(&self, site: PeerSite, peer: Arc<dyn Peer>) -> Self {
        Self {
            site,
            peer,
            follower: Arc::clone(&self.follower),
            trouble: Arc::clone(&self.trouble),
            told: tokio::sync::Mutex::default(),
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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// Where the indexes of their ledgers are.
    pub(crate) peers: PathBuf,
    /// The rules of `waag.toml`.
    pub(crate) rules: Vec<MirrorRule>,
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

    fn members(&self) -> Vec<Arc<Member>> {
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

    /// Looks at a site's ledger once and follows it to where it is.
    ///
    /// # Errors
    /// When it does not answer, or what it shows does not hold.
    pub async fn look(&self, site: &SiteId) -> Result<Looked, SitesError> {
        let member = self.member(site)?;
        let looked = self
            .follower(&member, async |follower| follower.look().await)
            .await;
        let label = OfPeer {
            peer: site.to_string(),
        };
        let mut trouble = member.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &looked {
            Ok(looked) => {
                self.metrics.followed.get_or_create(&label).inc_by(looked.new);
                *trouble = None;
            }
            Err(error) => {
                self.metrics.follow_failures.get_or_create(&label).inc();
                *trouble = Some(error.to_string());
            }
        }
        drop(trouble);
        if let Some(followed) = self.ledgers.of(site) {
            let silent = self.clock.now().unix().saturating_sub(followed.heard.unix());
            let gauge = self.metrics.silence.get_or_create(&label).clone();
            gauge.set(i64::try_from(silent).unwrap_or(i64::MAX));
        }
        Ok(looked?)
    }

    /// Works with the one who follows a site, by what the charter says of it now, on a thread of its own, and shows to all
    /// what came of it, unless the charter has dropped the site meanwhile.
    pub(super) async fn follower<T: Send + 'static>(
        &self,
        member: &Arc<Member>,
        work: impl AsyncFnOnce(&mut Follower) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, FollowError> {
        let mut follower = Arc::clone(&member.follower).lock_owned().await;
        let id = member.site.id.clone();
        let now = self.member(&id).map_err(|_| FollowError::Dropped(id.clone()))?;
        follower.go_by(now.site.clone(), Arc::clone(&now.peer));
        let runtime = tokio::runtime::Handle::current();
        let (ledgers, members) = (self.ledgers.clone(), Arc::clone(&self.members));
        let worked = tokio::task::spawn_blocking(move || {
            let done = runtime.block_on(work(&mut follower));
            let members = members.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(member) = members.get(&id) {
                ledgers.set(member.site.seen_with(&follower.followed()));
            }
            done
        });
        worked.await.expect("following does not panic")
    }

    /// Believes a site again after what was found against it.
    ///
    /// # Errors
    /// When there is no such site, or what is kept of it cannot be used.
    pub async fn absolve(&self, site: &SiteId) -> Result<(), SitesError> {
        let member = self.member(site)?;
        self.follower(&member, async |follower| follower.absolve().await)
            .await?;
        self.end_contradicted(&member).await
    }

    /// Fetches, refuses and deletes what rules, labels and withdrawals of a site ask for, as far as it was followed.
    ///
    /// # Errors
    /// When there is no such site, or an index fails. What cannot be done for one release is noted and counted.
    pub async fn mirror(&self, site: &SiteId) -> Result<Mirrored, SitesError> {
        let member = self.member(site)?;
        let _alone = member.mirroring.lock().await;
        let rules = self.rules().await?;
        let Some(followed) = self.ledgers.of(site) else {
            return Ok(Mirrored::default());
        };
        let from = Source {
            member: &member,
            peer: member.peer.as_ref(),
            only: None,
        };
        self.mirror_from(&from, &followed, &rules).await
    }

    /// Follows a site's ledger as far as it was carried here, and fetches these of its releases from what was carried;
    /// says what came of it and how each stands.
    pub(super) async fn take_in(
        &self,
        site: &SiteId,
        only: &HashSet<(ArtifactName, Sha256)>,
        carrier: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Peer>,
    ) -> Result<(Looked, Mirrored, Vec<MirroredView>), SitesError> {
        let member = self.member(site)?;
        let _alone = member.mirroring.lock().await;
        let followed = || {
            self.ledgers
                .of(site)
                .ok_or_else(|| SitesError::NoPeer(site.to_string()))
        };
        let carrier = carrier(Arc::clone(&followed()?.store));
        let asked = Arc::clone(&carrier);
        let looked = self
            .follower(&member, async |follower| follower.look_at_carried(asked).await)
            .await?;
        let names: BTreeSet<String> = only.iter().map(|(artifact, _)| artifact.to_string()).collect();
        let rules = [MirrorRule {
            site: site.to_string(),
            artifacts: names.into_iter().collect(),
            kinds: Vec::new(),
            when: When::Always,
            bytes_per_second: None,
            hours: None,
        }];
        // Without a name a rule means all.
        let rules = if only.is_empty() { &[] } else { rules.as_slice() };
        let followed = followed()?;
        let from = Source {
            member: &member,
            peer: carrier.as_ref(),
            only: Some(only),
        };
        let mirrored = self.mirror_from(&from, &followed, rules).await?;
        let mut views = self.standings(&member.site, &followed, rules).await?;
        views.retain(|view| only.contains(&(view.artifact.clone(), view.manifest)));
        Ok((looked, mirrored, views))
    }

    /// Looks at one site, or at all, now, and mirrors from them; says what came of it.
    ///
    /// # Errors
    /// When the charter names no such site.
    pub async fn run_now(&self, site: Option<&str>) -> Result<RunAnswer, SitesError> {
        let sites = match site {
            Some(text) => vec![self.find(text)?],
            None => self
                .members()
                .iter()
                .map(|member| member.site.id.clone())
                .collect(),
        };
        let mut answer = RunAnswer {
            erased: self.erase_own().await? as u64,
            ..RunAnswer::default()
        };
        for site in sites {
            match self.look(&site).await {
                Ok(looked) => answer.entries += looked.new,
                Err(error) => answer.troubles.push(format!("{site}: {error}")),
            }
            if let Err(error) = self.witness(&site).await {
                answer.troubles.push(format!("{site}: {error}"));
            }
            match self.mirror(&site).await {
                Ok(mirrored) => {
                    answer.fetched += mirrored.fetched;
                    answer.refused += mirrored.refused;
                    answer.erased += mirrored.erased;
                    answer.failed += mirrored.failed;
                }
                Err(error) => answer.troubles.push(format!("{site}: {error}")),
            }
        }
        Ok(answer)
    }

    /// Looks at every site again and again, and mirrors from each what is to be mirrored; at once where somebody asks
    /// for what is fetched on demand. Sites are looked at side by side: one that is slow holds up no other. Ends never.
    pub async fn run(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOKED_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What is under way ends with this.
        let mut running: JoinSet<SiteId> = JoinSet::new();
        let mut busy: BTreeSet<SiteId> = BTreeSet::new();
        let mut number: u64 = 0;
        loop {
            let thorough = tokio::select! {
                _ = looks.tick() => {
                    number += 1;
                    number % THOROUGH_EVERY == 1
                }
                () = self.demand.asked() => true,
                Some(done) = running.join_next(), if !running.is_empty() => {
                    match done {
                        Ok(site) => drop(busy.remove(&site)),
                        Err(_) => busy.clear(),
                    }
                    continue;
                }
            };
            if thorough && let Err(error) = self.erase_own().await {
                tracing::warn!(%error, "what was withdrawn with erasure could not be deleted");
            }
            for member in self.members() {
                let id = member.site.id.clone();
                if busy.insert(id.clone()) {
                    let federation = Arc::clone(&self);
                    running.spawn(async move {
                        federation.turn(&id, thorough).await;
                        id
                    });
                }
            }
        }
    }

    async fn turn(&self, site: &SiteId, thorough: bool) {
        let news = match self.look(site).await {
            Ok(looked) => looked.new > 0,
            Err(error) => {
                // Once in a while: whoever is away is away at each look.
                if thorough {
                    tracing::warn!(%site, %error, "a ledger could not be followed");
                }
                false
            }
        };
        let cosigned = self.witness(site).await;
        if !news && !thorough {
            return;
        }
        if let Err(error) = cosigned {
            tracing::warn!(%site, %error, "a ledger could not be cosigned");
        }
        if let Err(error) = self.mirror(site).await {
            tracing::warn!(%site, %error, "nothing could be mirrored");
        }
    }

    /// Returns all rules.
    ///
    /// # Errors
    /// When those that were added cannot be read.
    pub async fn rules(&self) -> Result<Vec<MirrorRule>, SitesError> {
        let mut rules = self.configured.clone();
        rules.extend(self.added.all().await?);
        Ok(rules)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When the charter names no such site, or the rule is no good.
    pub async fn add_rule(&self, rule: MirrorRule) -> Result<(), SitesError> {
        self.find(&rule.site)?;
        Ok(self.added.add(rule).await?)
    }

    /// Says how everything stands.
    ///
    /// # Errors
    /// When an index or the store fails.
    pub async fn status(&self) -> Result<MirrorStatus, SitesError> {
        let rules = self.rules().await?;
        let mut status = MirrorStatus {
            peers: self.peers().await?,
            rules: Vec::new(),
            releases: Vec::new(),
        };
        let members = self.members();
        for member in &members {
            if let Some(followed) = self.ledgers.of(&member.site.id) {
                status
                    .releases
                    .extend(self.standings(&member.site, &followed, &rules).await?);
            }
        }
        for rule in rules {
            let mut matches = 0;
            let of = members.iter().find(|member| is_of(&rule, &member.site));
            if let Some(member) = of
                && let Some(followed) = self.ledgers.of(&member.site.id)
            {
                let alone = [rule.clone()];
                let found = self.wanted(&member.site, &followed, &alone).await?;
                matches = found
                    .iter()
                    .filter(|one| takes(&rule, &one.artifact, one.kind))
                    .count() as u64;
            }
            let error = match of {
                None => Some(format!("the charter names no other site `{}`", rule.site)),
                Some(_) if matches == 0 => Some("it matches no release".to_owned()),
                Some(_) => None,
            };
            status.rules.push(RuleView { rule, matches, error });
        }
        Ok(status)
    }

    /// Returns the other sites, as they stand.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn peers(&self) -> Result<Vec<PeerView>, SitesError> {
        let mut views = Vec::new();
        for member in self.members() {
            let site = &member.site;
            let Some(followed) = self.ledgers.of(&site.id) else {
                continue;
            };
            let trouble = member
                .trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let evidence = followed.store.read_cell(&Key::evidence()).await?;
            views.push(PeerView {
                site: site.id.clone(),
                name: site.name.clone(),
                jurisdiction: site.jurisdiction.map(|country| country.to_string()),
                url: site.url.clone(),
                entries: followed.trees.iter().map(|tree| tree.checkpoint().size).sum(),
                heard: (followed.heard.unix() > 0).then_some(followed.heard),
                trouble,
                stopped: match &followed.standing {
                    Standing::Sound => None,
                    Standing::Stopped(reason) => Some(reason.clone()),
                },
                evidence: evidence.and_then(|cell| serde_json::from_slice(&cell.bytes).ok()),
            });
        }
        Ok(views)
    }

    /// Which sites have said what of their custody of an artifact's releases?
    ///
    /// # Errors
    /// When an index fails.
    pub async fn holders(&self, artifact: &ArtifactName) -> Result<Vec<HolderView>, SitesError> {
        let now = self.clock.now();
        let own = (self.here.clone(), self.reader.clone(), now);
        let theirs = self.ledgers.all().into_iter().map(|followed| {
            let here = Here::new(followed.site.clone(), followed.jurisdiction);
            (here, followed.index.clone(), followed.heard)
        });
        let mut holders = Vec::new();
        for (site, index, verified) in std::iter::once(own).chain(theirs) {
            let wanted = artifact.clone();
            let found = index.ask(move |q| Ok((q.custody(Some(&wanted))?, q.releases(&wanted)?)));
            let (custody, releases) = found.await?;
            let jurisdiction = site.jurisdiction.map(|country| country.to_string());
            // The release stands in its ledger, so it is at home there.
            holders.extend(releases.into_iter().map(|release| HolderView {
                site: site.site.clone(),
                jurisdiction: jurisdiction.clone(),
                manifest: release.manifest,
                state: "home".to_owned(),
                reason: release.withdrawn.map(|why| format!("withdrawn: {why}")),
                since: release.at,
                entry: release.entry,
                verified,
            }));
            let said = |row: CustodyRow| HolderView {
                site: site.site.clone(),
                jurisdiction: jurisdiction.clone(),
                manifest: row.manifest,
                state: row.state.as_str().to_owned(),
                reason: row.reason,
                since: row.at,
                entry: row.entry,
                verified,
            };
            holders.extend(custody.into_iter().filter(|row| row.site == site.site).map(said));
        }
        Ok(holders)
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
