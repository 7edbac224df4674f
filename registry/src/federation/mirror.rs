//! Mirroring: which releases of other sites this one should hold, may hold, holds; and getting there.
//!
//! ```text
//! rules -> is it withdrawn? -> may this site hold it (labels as followed)? -> closure -> asked again -> custody
//! ```
//!
//! What this site holds is what it last said of its custody in its own ledger; nothing else remembers it, and nothing
//! is shown before. A label that was tightened and a withdrawal that erases take effect here, at the next look.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use waag_schema::ledger::Origin;
use waag_schema::policy::{Action, Label, Verdict, decide};
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::{
    Custody, Envelope, Keeping, Predicate, Release, Statement, Subject, Visibility,
};
use waag_schema::wire::artifact::{Proof, ReleaseView};
use waag_schema::wire::federation::{MirrorRule, MirroredView, State, When};
use waag_schema::{ArtifactName, ChunkDigest, Hours, Namespace, Sha256, SiteId, Timestamp};

use super::fetch::{Fetch, chunks_of};
use super::peer::{Peer, PeerSite};
use super::rules::{is_of, takes};
use super::sites::SitesError;
use super::sites::{Federation, Member};
use crate::index::{CustodyRow, IndexError, Prepared, Questions};
use crate::ledger::{AppendError, Followed, Standing, prepare};
use crate::store::{Key, Store, StoreError};

/// Keys handled in one listing.
pub(super) const LISTED_AT_ONCE: usize = 1000;

/// Why a copy goes whose label would let it stay.
const NO_LONGER_SHARED: &str = "its namespace is not shared with this site any more";

/// What was tried in vain, since the start.
#[derive(Default)]
pub(super) struct Trouble(Mutex<BTreeMap<(ArtifactName, Sha256), String>>);

impl Trouble {
    fn note(&self, release: &Wanted, reason: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (release.artifact.clone(), release.view.manifest);
        match reason {
            Some(reason) => drop(all.insert(key, reason)),
            None => drop(all.remove(&key)),
        }
    }

    fn of(&self, artifact: &ArtifactName, manifest: &Sha256) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(artifact.clone(), *manifest)).cloned()
    }
}

/// A release that a rule matches, with what its home's ledger says of it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) artifact: ArtifactName,
    pub(super) view: ReleaseView,
    pub(super) kind: Option<Kind>,
    labels: Vec<Label>,
    erase: bool,
    /// Its namespace is private, and may be read here no more.
    closed: bool,
    when: When,
    bytes_per_second: Option<u64>,
    hours: Option<Hours>,
    custody: Option<CustodyRow>,
    /// A fetch of it began and did not end.
    begun: bool,
}

impl Wanted {
    /// A release that is held, for a look at what it needs.
    pub(super) const fn of(artifact: ArtifactName, view: ReleaseView) -> Self {
        Self {
            artifact,
            view,
            kind: None,
            labels: Vec::new(),
            erase: false,
            closed: false,
            when: When::OnDemand,
            bytes_per_second: None,
            hours: None,
            custody: None,
            begun: false,
        }
    }

    fn is_held(&self) -> bool {
        self.custody
            .as_ref()
            .is_some_and(|row| row.state == Keeping::Holds)
    }
}

/// Where releases come from.
pub(super) struct Source<'a> {
    pub(super) member: &'a Arc<Member>,
    /// Who gives their content.
    pub(super) peer: &'a dyn Peer,
    /// Only these are fetched, where it says which.
    pub(super) only: Option<&'a HashSet<(ArtifactName, Sha256)>>,
}

/// What was done for a site's releases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Fetched.
    pub fetched: u64,
    /// Refused, as a label says.
    pub refused: u64,
    /// Deleted.
    pub erased: u64,
    /// Not fetched, for another reason.
    pub failed: u64,
}

impl Federation {
    /// Returns the releases of a site that rules match or that are held, each with how the home's ledger and this
    /// site's stand to it.
    pub(super) async fn wanted(
        &self,
        site: &PeerSite,
        followed: &Followed,
        rules: &[MirrorRule],
    ) -> Result<Vec<Wanted>, SitesError> {
        let rules: Vec<MirrorRule> = rules.iter().filter(|rule| is_of(rule, site)).cloned().collect();
        let custody = self.reader.ask(|q| q.custody(None)).await?;
        let held: BTreeMap<(ArtifactName, Sha256), CustodyRow> = custody
            .into_iter()
            .filter(|row| row.site == self.here.site)
            .map(|row| ((row.artifact.clone(), row.manifest), row))
            .collect();
        let begun = begun(followed.store.as_ref()).await?;
        let (owner, here) = (site.clone(), self.here.site.clone());
        let found = followed.index.ask(move |q| {
            let mut found = Vec::new();
            let mut shut: BTreeMap<Namespace, bool> = BTreeMap::new();
            for (artifact, view) in q.all_releases()? {
                if !owner.owns(&artifact.namespace()) {
                    continue;
                }
                let row = q.artifact(&artifact)?;
                let kind: Option<Kind> = row.as_ref().and_then(|row| row.kind);
                let custody = held.get(&(artifact.clone(), view.manifest)).cloned();
                let rule = rules.iter().find(|rule| takes(rule, &artifact, kind));
                let keeps = custody.as_ref().is_some_and(|row| row.state == Keeping::Holds);
                let begun =
                    !begun.is_empty() && begun.contains(&Key::fetching_prefix(&artifact, &view.manifest));
                if rule.is_none() && !keeps && !begun {
                    continue;
                }
                let namespace = artifact.namespace();
                let closed = match shut.get(&namespace) {
                    Some(closed) => *closed,
                    None => {
                        let state = q.namespace(&namespace)?;
                        let closed = state.is_some_and(|state| !state.is_for(&here));
                        shut.insert(namespace, closed);
                        closed
                    }
                };
                found.push(Wanted {
                    kind,
                    labels: labels_of(q, &artifact)?,
                    erase: q.is_to_be_erased(&artifact, &view.manifest)?,
                    closed,
                    when: rule.map_or(When::OnDemand, |rule| rule.when),
                    bytes_per_second: rule.and_then(|rule| rule.bytes_per_second),
                    hours: rule.and_then(|rule| rule.hours),
                    artifact,
                    view,
                    custody,
                    begun,
                });
            }
            Ok(found)
        });
        Ok(found.await?)
    }

    /// May this site hold a release under these labels?
    fn may_hold(&self, home: &SiteId, labels: &[Label]) -> Verdict {
        let facts = self.here.facts(home, self.clock.now());
        decide(labels, &facts, Action::Hold, &self.here.place())
    }

    /// Says what a release that could be fetched waits for.
    fn not_yet(&self, release: &Wanted) -> Option<String> {
        let hours = release.hours?;
        (!hours.contain(self.clock.now())).then(|| format!("fetched at {hours} UTC"))
    }

    /// Does for each release of a site what rules, labels and withdrawals ask for.
    pub(super) async fn mirror_from(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        rules: &[MirrorRule],
    ) -> Result<Mirrored, SitesError> {
        let mut done = Mirrored::default();
        let member = from.member;
        let mut wanted = self.wanted(&member.site, followed, rules).await?;
        if let Some(only) = from.only {
            wanted.retain(|one| one.is_held() || only.contains(&(one.artifact.clone(), one.view.manifest)));
            // What has to go, last: what was carried may go on from its chunks.
            wanted.sort_by_key(Wanted::is_held);
        }
        let on_demand = wanted
            .iter()
            .filter(|one| one.when == When::OnDemand && !one.is_held() && !one.closed);
        let on_demand = on_demand.filter(|one| one.view.withdrawn.is_none());
        if from.only.is_none() {
            self.demand.offer(
                &member.site.id,
                on_demand.map(|one| (one.artifact.clone(), one.view.manifest)),
            );
        }
        for release in wanted {
            match self.settle(from, followed, &release).await {
                Ok(step) => {
                    self.trouble.note(&release, None);
                    match step {
                        Step::Nothing => {}
                        Step::Fetched => done.fetched += 1,
                        Step::Refused => done.refused += 1,
                        Step::Erased => done.erased += 1,
                    }
                }
                Err(error) => {
                    done.failed += 1;
                    self.metrics.mirror_failures.inc();
                    tracing::warn!(site = %member.site.id, %error, "a release could not be mirrored");
                    self.trouble.note(&release, Some(error.to_string()));
                }
            }
        }
        Ok(done)
    }

    async fn settle(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<Step, SitesError> {
        let verdict = self.may_hold(&followed.site, &release.labels);
        if release.is_held() {
            let reason = if release.erase {
                let said = release.view.withdrawn.as_deref().unwrap_or_default();
                Some(format!("withdrawn with erasure: {said}"))
            } else if release.closed {
                Some(NO_LONGER_SHARED.to_owned())
            } else if verdict.allowed {
                None
            } else {
                Some(verdict.to_string())
            };
            return match reason {
                Some(reason) => {
                    self.erase(followed, release, &reason).await?;
                    Ok(Step::Erased)
                }
                None => Ok(Step::Nothing),
            };
        }
        if release.begun && (release.erase || release.closed || !verdict.allowed) {
            // What came before it was forbidden goes, though it was never whole.
            self.discard(followed, release).await?;
        }
        if followed.standing != Standing::Sound || release.view.withdrawn.is_some() || release.closed {
            return Ok(Step::Nothing);
        }
        if !verdict.allowed {
            let said = release
                .custody
                .as_ref()
                .is_some_and(|row| row.state == Keeping::Refused);
            // Erased because a label forbids it is refused already.
            let erased = release
                .custody
                .as_ref()
                .is_some_and(|row| row.state == Keeping::Erased);
            if said || erased {
                return Ok(Step::Nothing);
            }
            self.say(followed, release, Keeping::Refused, Some(&verdict.to_string()))
                .await?;
            return Ok(Step::Refused);
        }
        let asked = self.demand.contains(&release.artifact, &release.view.manifest);
        if release.when == When::OnDemand && !asked {
            return Ok(Step::Nothing);
        }
        if self.not_yet(release).is_some() {
            return Ok(Step::Nothing);
        }
        self.fetch(from, followed, release).await?;
        self.demand.done(&release.artifact, &release.view.manifest);
        Ok(Step::Fetched)
    }

    /// Fetches the closure of a release, and says that it is held.
    async fn fetch(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<(), SitesError> {
        let manifest = release.view.manifest;
        let (envelope, statement) = self.statement(followed, release).await?;
        let fetch = Fetch {
            peer: from.peer,
            store: &self.store,
            content: &self.content,
            artifact: &release.artifact,
            manifest,
            release: &statement,
            bytes_per_second: release.bytes_per_second,
            received: &self.metrics.mirrored_bytes,
        };
        let (bytes, recipes) = fetch.plan().await?;
        // What it was made from stands in its manifest, and those labels hold as well.
        let ancestors: Vec<ArtifactName> = ancestors(&bytes);
        if self.deny_made_from(followed, release, &ancestors).await? {
            if release.begun {
                self.discard(followed, release).await?;
            }
            return Ok(());
        }
        // From here on nobody deletes these chunks, whoever else needs them no more.
        let underway = self.underway.begin(chunks_of(&recipes)).await;
        // Were this to end before it is held, it is known from this what there may be to delete.
        let begun = recipes.iter().map(|(_, recipe)| {
            let key = Key::fetching(&release.artifact, &manifest, &recipe.digest());
            (key, Bytes::from(recipe.canonical()))
        });
        followed.store.put_all(begun.collect()).await?;
        let artifact = release.artifact.clone();
        let scorecards = followed
            .index
            .ask(move |q| q.scorecards(&artifact, usize::from(u16::MAX)));
        let mut scorecards = scorecards.await?;
        scorecards.retain(|view| view.manifest == manifest);
        fetch.fetch(bytes, &recipes, &scorecards).await?;
        // The label may have been tightened while bytes moved: what counts is what is known now.
        let (artifact, here) = (release.artifact.clone(), self.here.site.clone());
        let now = followed.index.ask(move |q| {
            let mut labels = labels_of(q, &artifact)?;
            for ancestor in &ancestors {
                labels.extend(labels_of(q, ancestor)?);
            }
            let closed = q
                .namespace(&artifact.namespace())?
                .is_some_and(|state| !state.is_for(&here));
            Ok((labels, q.is_to_be_erased(&artifact, &manifest)?, closed))
        });
        let (labels, erase, closed) = now.await?;
        let verdict = self.may_hold(&followed.site, &labels);
        if erase || closed || !verdict.allowed {
            let reason = if erase {
                "withdrawn with erasure".to_owned()
            } else if closed {
                NO_LONGER_SHARED.to_owned()
            } else {
                verdict.to_string()
            };
            drop(underway);
            return self.erase(followed, release, &reason).await;
        }
        self.say(followed, release, Keeping::Holds, None).await?;
        drop(underway);
        self.end_fetch(followed.store.as_ref(), release).await?;
        let prepared = prepare(self.store.as_ref(), envelope).await?;
        from.member
            .arrived(release.view.entry, release.view.at, prepared)
            .await
    }

    /// Does a label of what a release was made from forbid to hold it? Then that is on record.
    async fn deny_made_from(
        &self,
        followed: &Followed,
        release: &Wanted,
        ancestors: &[ArtifactName],
    ) -> Result<bool, SitesError> {
        let (mut labels, ancestors) = (release.labels.clone(), ancestors.to_vec());
        let theirs = followed.index.ask(move |q| {
            let mut found = Vec::new();
            for ancestor in &ancestors {
                found.extend(labels_of(q, ancestor)?);
            }
            Ok(found)
        });
        labels.extend(theirs.await?);
        let verdict = self.may_hold(&followed.site, &labels);
        if verdict.allowed {
            return Ok(false);
        }
        if release
            .custody
            .as_ref()
            .is_none_or(|row| row.state != Keeping::Refused)
        {
            self.say(followed, release, Keeping::Refused, Some(&verdict.to_string()))
                .await?;
        }
        Ok(true)
    }

    /// Reads the signed statement of a release from the copy of its ledger.
    pub(super) async fn statement(
        &self,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<(Envelope, Release), SitesError> {
        let entry = release.view.entry;
        let proof = followed.prove(&[entry]).await?;
        let found = release_in(&proof, &release.artifact, &release.view.manifest)?;
        Ok(found.ok_or(AppendError::NoEntry(entry))?)
    }

    /// Enters in the own ledger what is done with the bytes of a release.
    pub(super) async fn say(
        &self,
        followed: &Followed,
        release: &Wanted,
        state: Keeping,
        reason: Option<&str>,
    ) -> Result<(), SitesError> {
        let (home, size) = followed.newest().map_or_else(
            || (Origin::of(&followed.site, 1), 0),
            |signed| (signed.checkpoint().origin.clone(), signed.checkpoint().size),
        );
        let name = release.artifact.namespace();
        let state_of = name.clone();
        let namespace = followed.index.ask(move |q| q.namespace(&state_of)).await?;
        // While that fold is made anew nobody knows who may read it: better said later than to everybody.
        let namespace = namespace.ok_or_else(|| {
            AppendError::Unknown(format!(
                "what {} records of `{name}` is being read anew",
                followed.site
            ))
        })?;
        let private = namespace.visibility == Visibility::Private;
        self.say_as_of((home, size), release, (state, reason), private.then_some(name))
            .await
    }

    /// The same, of a home whose ledger is known to this size; of another site's private namespace only to whoever may
    /// read that.
    pub(super) async fn say_as_of(
        &self,
        (home, size): (Origin, u64),
        release: &Wanted,
        (state, reason): (Keeping, Option<&str>),
        copies_of: Option<Namespace>,
    ) -> Result<(), SitesError> {
        let custody = Custody {
            artifact: release.artifact.clone(),
            manifest: release.view.manifest,
            state,
            reason: reason.map(Custody::reason),
            home,
            size,
        };
        let statement = Statement {
            subject: Subject::Site(self.here.site.clone()),
            predicate: Predicate::Custody(custody),
        };
        self.ledger.say_to(statement, copies_of).await?;
        Ok(())
    }

    /// Says how each release stands that rules match or that is or was held.
    pub(super) async fn standings(
        &self,
        site: &PeerSite,
        followed: &Followed,
        rules: &[MirrorRule],
    ) -> Result<Vec<MirroredView>, SitesError> {
        let all = self.wanted(site, followed, rules).await?;
        Ok(all
            .into_iter()
            .map(|release| self.standing(followed, release))
            .collect())
    }

    fn standing(&self, followed: &Followed, release: Wanted) -> MirroredView {
        let row = release.custody.as_ref();
        let verdict = self.may_hold(&followed.site, &release.labels);
        let trouble = self.trouble.of(&release.artifact, &release.view.manifest);
        let (state, reason) = match (row.map(|row| row.state), trouble) {
            (_, Some(trouble)) => (State::Failed, Some(trouble)),
            (Some(Keeping::Holds), _) => match &release.view.withdrawn {
                Some(why) => (State::Withdrawn, Some(format!("held; {why}"))),
                None => (State::Held, None),
            },
            (Some(Keeping::Erased), _)
                if !verdict.allowed || release.closed || release.view.withdrawn.is_some() =>
            {
                (State::Erased, row.and_then(|row| row.reason.clone()))
            }
            _ if release.view.withdrawn.is_some() => (State::Withdrawn, release.view.withdrawn.clone()),
            _ if !verdict.allowed => (State::Refused, Some(verdict.to_string())),
            _ if release.closed => (State::Refused, Some(NO_LONGER_SHARED.to_owned())),
            _ if release.when == When::OnDemand => (State::OnDemand, None),
            _ => (State::Waiting, self.not_yet(&release)),
        };
        MirroredView {
            manifest: release.view.manifest,
            home: followed.site.clone(),
            state,
            reason,
            bytes: release.view.bytes,
            since: row.map(|row| row.at),
            artifact: release.artifact,
        }
    }
}

/// Finds the signed statement of a release in a proof of its entry.
pub(super) fn release_in(
    proof: &Proof,
    artifact: &ArtifactName,
    manifest: &Sha256,
) -> Result<Option<(Envelope, Release)>, AppendError> {
    let parts = proof
        .earlier
        .iter()
        .map(|part| &part.entries)
        .chain([&proof.entries]);
    for proven in parts.flatten() {
        let envelope = Envelope::parse(proven.opening.envelope())?;
        let said = Statement::parse(envelope.payload())?;
        if let (Predicate::Release(found), Subject::Manifest(name, digest)) = (said.predicate, said.subject)
            && name == *artifact
            && digest == *manifest
        {
            return Ok(Some((envelope, found)));
        }
    }
    Ok(None)
}

/// What a manifest says that its files were made from.
fn ancestors(manifest: &Bytes) -> Vec<ArtifactName> {
    Manifest::parse(manifest.to_vec()).map_or_else(|_| Vec::new(), |manifest| manifest.ancestors())
}

/// The labels that an artifact is under, its own and those of what it was made from.
fn labels_of(q: &Questions<'_>, artifact: &ArtifactName) -> Result<Vec<Label>, IndexError> {
    Ok(q.labels(artifact)?.into_iter().map(|row| row.label).collect())
}

/// What was done for one release.
enum Step {
    Nothing,
    Fetched,
    Refused,
    Erased,
}

/// Returns what the keys of all releases begin with of which a fetch began and did not end.
async fn begun(copy: &dyn Store) -> Result<HashSet<String>, StoreError> {
    let (mut found, mut after) = (HashSet::new(), None);
    loop {
        let keys = copy
            .list(Key::all_fetching_prefix(), after.as_ref(), LISTED_AT_ONCE)
            .await?;
        let Some(last) = keys.last().cloned() else {
            return Ok(found);
        };
        let prefixes = keys.iter().filter_map(|key| key.as_str().rsplit_once('/'));
        found.extend(prefixes.map(|(release, _)| format!("{release}/")));
        after = Some(last);
    }
}

/// The chunks of releases that are being fetched: nobody deletes them meanwhile.
#[derive(Clone, Default)]
pub(super) struct Underway {
    /// Held by all who begin for a moment, and by who deletes.
    pause: Arc<tokio::sync::RwLock<()>>,
    noted: Arc<Mutex<Vec<Arc<HashSet<ChunkDigest>>>>>,
}

impl Underway {
    /// Notes chunks; waits while somebody deletes.
    async fn begin(&self, chunks: HashSet<ChunkDigest>) -> Noted {
        let _nobody_deletes = self.pause.read().await;
        let chunks = Arc::new(chunks);
        self.noted().push(Arc::clone(&chunks));
        Noted {
            all: self.clone(),
            chunks,
        }
    }

    /// Lets nobody begin as long as what it returns is kept.
    pub(super) async fn pause(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.pause.write().await
    }

    /// Forgets of these chunks those that are noted.
    pub(super) fn spare(&self, chunks: &mut HashSet<ChunkDigest>) {
        for noted in self.noted().iter() {
            chunks.retain(|chunk| !noted.contains(chunk));
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Arc<HashSet<ChunkDigest>>>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks that are noted until this goes.
struct Noted {
    all: Underway,
    chunks: Arc<HashSet<ChunkDigest>>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.all.noted().retain(|noted| !Arc::ptr_eq(noted, &self.chunks));
    }
}

impl Member {
    /// Folds what a release's own content says of it.
    async fn arrived(&self, entry: u64, at: Timestamp, prepared: Prepared) -> Result<(), SitesError> {
        let mut follower = Arc::clone(&self.follower).lock_owned().await;
        let write = move || {
            let index = follower.index();
            index.begin()?;
            let folded = index.folded()?;
            if let Err(error) = index.arrived(entry, at, &prepared) {
                index.rollback()?;
                return Err(error);
            }
            index.commit(folded)
        };
        Ok(tokio::task::spawn_blocking(write)
            .await
            .expect("folding does not panic")?)
    }
}
