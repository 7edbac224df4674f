//! What goes out: names, versions and their proofs. Whatever a caller may not know of is not found.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::ledger::Stream;
use waag_schema::policy::{Action, Label, decide};
use waag_schema::release::files::LIST_MAX_BYTES;
use waag_schema::release::kind::Kind;
use waag_schema::release::{Files, Manifest};
use waag_schema::statement::{Chain, NamespaceState, Visibility};
use waag_schema::wire::artifact::{
    ArtifactPage, ArtifactView, LabelView, Labels, Proof, Resolved, ScorecardView, Scorecards,
};
use waag_schema::wire::leaderboard::LeaderboardPage;
use waag_schema::wire::site::NamespaceView;
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256, SiteId};

use super::PublishError;
use super::demand::Demand;
use super::packed::{PackedFiles, Whereabouts};
use super::shelf::Shelf;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::content::Content;
use crate::evaluation::{Progress, engine};
use crate::index::{ContentRow, Reader, Wanted};
use crate::ledger::{AppendError, FollowedLedgers, Ledger};
use crate::store::{Key, Store, StoreError};

/// The most lines of one listing.
const PAGE_MAX: usize = 1000;

/// The most scorecards of one answer in each ledger.
pub(super) const SCORECARDS_MAX: usize = 100;

/// The most scorecards on one page of a leaderboard.
const SCORED_PAGE_MAX: usize = 100;

/// The most scorecards that travel with a release.
const SCORECARDS_WITH_MAX: usize = 8;

/// In how many of an artifact's newest packed releases a file is looked for by its digest alone.
const LISTS_MAX: usize = 16;

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBytes {
    /// The recipe of the layer that holds them.
    pub recipe: ChunkDigest,
    /// Which of the layer's bytes they are.
    pub within: Range<u64>,
}

/// Answers what is here.
#[derive(Clone)]
pub struct Catalogue {
    /// Who this site is.
    pub here: Here,
    /// Where manifests are.
    pub store: Arc<dyn Store>,
    /// What is recorded.
    pub reader: Reader,
    /// What proves it.
    pub ledger: Ledger,
    /// What other sites record.
    pub ledgers: FollowedLedgers,
    /// What is fetched from them once somebody asks.
    pub demand: Demand,
    /// What is stored.
    pub content: Content,
    /// Where packed files lie.
    pub packed: PackedFiles,
    /// What is being weighed.
    pub weighing: Progress,
    /// When it is.
    pub clock: Arc<dyn Clock>,
}

impl Catalogue {
    /// Returns a namespace.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn namespace(&self, caller: &Caller, name: &Namespace) -> Result<NamespaceView, PublishError> {
        let (state, shelf) = self.readable(caller, name).await?;
        let wanted = name.clone();
        let gates = shelf.index(self).ask(move |q| q.gates(&wanted)).await?;
        Ok(NamespaceView {
            gates,
            name: state.name,
            id: state.id,
            owners: state.keys.owners,
            threshold: state.keys.threshold,
            recovery: state.keys.recovery,
            home: state.home,
            visibility: state.visibility,
            sites: state.sites,
            chain: state.chain,
        })
    }

    /// Proves how a namespace began and how its keys have changed since: all its own statements.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn namespace_proof(&self, caller: &Caller, name: &Namespace) -> Result<Proof, PublishError> {
        let (_, shelf) = self.readable(caller, name).await?;
        let wanted = name.clone();
        let entries = shelf
            .index(self)
            .ask(move |q| q.namespace_entries(&wanted))
            .await?;
        Ok(shelf.prove(self, &entries).await?)
    }

    /// Lists the artifacts that fit, of those that the caller may know of.
    ///
    /// # Errors
    /// When the index fails.
    pub async fn list(&self, caller: &Caller, wanted: Wanted) -> Result<ArtifactPage, PublishError> {
        let reach = caller.reach();
        let (asked, of_own) = (wanted.clone(), reach.clone());
        let mut artifacts = self
            .reader
            .ask(move |q| q.artifacts(&of_own, &asked, PAGE_MAX + 1))
            .await?;
        for copies in self.copies(&reach, &wanted, PAGE_MAX + 1).await? {
            artifacts.extend(copies);
        }
        artifacts.sort_by(|a, b| a.name.cmp(&b.name));
        artifacts.dedup_by(|a, b| a.name == b.name);
        let next = (artifacts.len() > PAGE_MAX).then(|| {
            artifacts.truncate(PAGE_MAX);
            artifacts[PAGE_MAX - 1].name.clone()
        });
        Ok(ArtifactPage { artifacts, next })
    }

    /// Returns an artifact. One that does not exist yet is shown, empty, to who may publish it.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn artifact(&self, caller: &Caller, name: &ArtifactName) -> Result<ArtifactView, PublishError> {
        let (namespace, shelf) = self.readable(caller, &name.namespace()).await?;
        let wanted = name.clone();
        let (row, mut tags, mut releases) = shelf
            .index(self)
            .ask(move |q| Ok((q.artifact(&wanted)?, q.tags(&wanted)?, q.releases(&wanted)?)))
            .await?;
        let publishes = shelf.is_own() && caller.may_publish(&name.namespace());
        if row.is_none() && !publishes {
            return Err(PublishError::NotFound(format!("artifact {name}")));
        }
        if let Some(held) = self.held(&shelf, name).await? {
            releases.retain(|release| held.contains(&release.manifest));
            tags.retain(|tag| held.contains(&tag.manifest));
            if releases.is_empty() {
                return Err(PublishError::NotFound(format!("artifact {name}")));
            }
        }
        Ok(ArtifactView {
            name: name.clone(),
            kind: row.as_ref().and_then(|r| r.kind),
            namespace: namespace.id,
            chain: row.as_ref().map_or_else(Chain::default, |r| r.chain),
            label: row.and_then(|r| r.label),
            tags,
            releases,
        })
    }

    /// Returns the labels that an artifact is under, its own and those of what it was made from, proven as far as the
    /// caller may know of them.
    ///
    /// # Errors
    /// When there is no such artifact that the caller may know of.
    pub async fn labels(&self, caller: &Caller, name: &ArtifactName) -> Result<Labels, PublishError> {
        let (namespace, shelf) = self.readable(caller, &name.namespace()).await?;
        let (wanted, asking) = (name.clone(), caller.clone());
        let (row, labels, entries) = shelf
            .index(self)
            .ask(move |q| {
                let (mut labels, mut entries) = (Vec::new(), Vec::new());
                for row in q.labels(&wanted)? {
                    let namespace = row.artifact.namespace();
                    let state = q.namespace(&namespace)?;
                    let known = state.is_some_and(|state| asking.may_read(&state));
                    if known {
                        entries.extend(q.namespace_entries(&namespace)?);
                        entries.push(row.position);
                    }
                    labels.push(LabelView {
                        artifact: known.then_some(row.artifact),
                        label: row.label,
                        entry: known.then_some(row.position),
                    });
                }
                Ok((q.artifact(&wanted)?, labels, entries))
            })
            .await?;
        if row.is_none() {
            return Err(PublishError::NotFound(format!("artifact {name}")));
        }
        let mut entries = entries;
        entries.sort_unstable();
        entries.dedup();
        let proof = match entries.as_slice() {
            [] => None,
            entries => Some(shelf.prove(self, entries).await?),
        };
        Ok(Labels {
            home: namespace.home,
            labels,
            proof,
        })
    }

    /// Returns what was measured on an artifact's releases, by its home and by other sites whose ledgers are followed
    /// here, proven; and what this site is still to measure.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn scorecards(&self, caller: &Caller, name: &ArtifactName) -> Result<Scorecards, PublishError> {
        let (namespace, shelf) = self.readable(caller, &name.namespace()).await?;
        let wanted = name.clone();
        let (row, mut scorecards, mut releases) = shelf
            .index(self)
            .ask(move |q| {
                Ok((
                    q.artifact(&wanted)?,
                    q.scorecards(&wanted, SCORECARDS_MAX)?,
                    q.releases(&wanted)?,
                ))
            })
            .await?;
        if let Some(held) = self.held(&shelf, name).await? {
            scorecards.retain(|view| held.contains(&view.manifest));
            releases.retain(|release| held.contains(&release.manifest));
        }
        if row.is_none() || (!shelf.is_own() && releases.is_empty()) {
            return Err(PublishError::NotFound(format!("artifact {name}")));
        }
        let visible: HashSet<Sha256> = releases.iter().map(|release| release.manifest).collect();
        let (others, others_proofs) = self.others(&shelf, name, &scorecards, &visible).await?;
        let engine = engine();
        // What this site still has to measure on a copy, its own scorecards say.
        let own: Vec<&ScorecardView> = if shelf.is_own() {
            scorecards.iter().collect()
        } else {
            let of_here = others.iter().filter(|other| other.site == self.here.site);
            of_here.map(|other| &other.view).collect()
        };
        // What is said of a copy stands where everybody reads.
        let is_open = namespace.visibility == Visibility::Public;
        let weighs = shelf.is_own() || (is_open && self.may_evaluate(&shelf, name).await?);
        let has_one = |manifest: &Sha256| {
            let by_this = |view: &&&ScorecardView| {
                (&view.scorecard.harness.name, &view.scorecard.harness.version)
                    == (&engine.name, &engine.version)
            };
            own.iter().filter(by_this).any(|view| view.manifest == *manifest)
        };
        let is_model = row.is_some_and(|row| row.kind == Some(Kind::Model));
        let in_force = releases
            .iter()
            .filter(|release| weighs && release.withdrawn.is_none());
        let cards: Vec<_> = own.iter().map(|view| (&view.manifest, &view.scorecard)).collect();
        let jobs = in_force.flat_map(|release| {
            let weights = (!has_one(&release.manifest)).then_some(None);
            let suites = self.weighing.unasked(&release.manifest, &cards);
            let asked = suites.into_iter().filter(|_| is_model).map(Some);
            weights
                .into_iter()
                .chain(asked)
                .map(move |suite| (release, suite))
        });
        let weighing = jobs
            .filter_map(|(release, suite)| {
                self.weighing
                    .of(name, &release.manifest, suite.as_ref(), release.bytes)
            })
            .take(SCORECARDS_MAX)
            .collect();
        let mut entries: Vec<u64> = scorecards.iter().map(|view| view.entry).collect();
        entries.sort_unstable();
        let proof = match entries.as_slice() {
            [] => None,
            entries => Some(shelf.prove(self, entries).await?),
        };
        Ok(Scorecards {
            scorecards,
            weighing,
            proof,
            others,
            others_proofs,
        })
    }

    /// Do the labels of a copy let this site measure it?
    async fn may_evaluate(&self, shelf: &Shelf, name: &ArtifactName) -> Result<bool, PublishError> {
        let wanted = name.clone();
        let rows = shelf.index(self).ask(move |q| q.labels(&wanted)).await?;
        let labels: Vec<Label> = rows.into_iter().map(|row| row.label).collect();
        let facts = self.here.facts(&shelf.home(&self.here), self.clock.now());
        Ok(decide(&labels, &facts, Action::Evaluate, &self.here.place()).allowed)
    }

    /// Lists what the releases that the caller may know of scored on a suite, newest scorecard first.
    ///
    /// # Errors
    /// When the index fails.
    pub async fn leaderboard(
        &self,
        caller: &Caller,
        suite: &ArtifactName,
        below: Option<u64>,
    ) -> Result<LeaderboardPage, PublishError> {
        let (reach, wanted) = (caller.reach(), suite.clone());
        let mut scored = self
            .reader
            .ask(move |q| q.scored_on(&reach, &wanted, below, SCORED_PAGE_MAX + 1))
            .await?;
        let next = (scored.len() > SCORED_PAGE_MAX).then(|| {
            scored.truncate(SCORED_PAGE_MAX);
            scored[SCORED_PAGE_MAX - 1].entry
        });
        Ok(LeaderboardPage { scored, next })
    }

    /// Returns the details of a scorecard of an artifact.
    ///
    /// # Errors
    /// When there are none that the caller may know of.
    pub async fn scorecard_details(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        details: &Sha256,
    ) -> Result<Bytes, PublishError> {
        let (_, shelf) = self.readable(caller, &name.namespace()).await?;
        let mut asked = Vec::new();
        // Those of its home, and what this site has found itself on a copy of it.
        let own = (!shelf.is_own()).then_some(&self.reader);
        for index in [shelf.index(self)].into_iter().chain(own) {
            let (wanted, digest) = (name.clone(), *details);
            asked.extend(index.ask(move |q| q.details_of(&wanted, &digest)).await?);
        }
        // What a suite found request by request is for those who may read the suite as well.
        let mut known = false;
        for suite in asked {
            known |= match suite {
                None => true,
                Some(suite) => self.readable(caller, &suite.namespace()).await.is_ok(),
            };
        }
        if !known {
            return Err(PublishError::NotFound(format!(
                "scorecard of {name} with {details}"
            )));
        }
        match self.store.get(&Key::scorecard(details)).await {
            // A copy brings those of its time; what its home has found since then stays there.
            Err(StoreError::NotFound(_)) if !shelf.is_own() => Err(PublishError::NotFound(format!(
                "copy of the details {details}: its home has them"
            ))),
            found => Ok(found?),
        }
    }

    /// Returns a version's manifest and the proof that its publisher signed it.
    ///
    /// # Errors
    /// When there is none that the caller may know of, or its label denies serving it to the caller.
    pub async fn resolve(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        version: &Version,
    ) -> Result<Resolved, PublishError> {
        let shelf = self.may_serve(caller, name).await?;
        let (artifact, wanted, namespace) = (name.clone(), version.clone(), name.namespace());
        let found = shelf
            .index(self)
            .ask(move |q| {
                let tag = match &wanted {
                    Version::Tag(tag) => match q.tag(&artifact, tag)? {
                        Some(tag) => Some(tag),
                        None => return Ok(None),
                    },
                    Version::Manifest(_) => None,
                };
                let digest = match (&tag, &wanted) {
                    (Some(tag), _) => tag.manifest,
                    (None, Version::Manifest(digest)) => *digest,
                    (None, Version::Tag(_)) => return Ok(None),
                };
                let Some(release) = q.release(&artifact, &digest)? else {
                    return Ok(None);
                };
                let mut entries = q.namespace_entries(&namespace)?;
                entries.push(release.entry);
                entries.extend(tag.map(|t| t.entry));
                entries.extend(q.artifact(&artifact)?.and_then(|row| row.label_position));
                entries.extend(q.withdrawal(&artifact, &digest)?);
                entries.extend(q.newest("revocation-list")?.map(|l| l.position));
                entries.extend(q.scorecard_entries(&artifact, &digest, SCORECARDS_WITH_MAX)?);
                entries.sort_unstable();
                Ok(Some((digest, entries)))
            })
            .await?;
        let (digest, entries) =
            found.ok_or_else(|| PublishError::NotFound(format!("version {version} of {name}")))?;
        self.check_held(&shelf, name, &digest).await?;
        let manifest = self.store.get(&Key::manifest(&digest)).await?;
        let proof = shelf.prove(self, &entries).await?;
        Ok(Resolved {
            artifact: name.clone(),
            digest,
            manifest: manifest.to_vec().into(),
            proof,
        })
    }

    /// Returns how a layer of an artifact is made of chunks, if it may be served to the caller.
    ///
    /// # Errors
    /// When there is none that the caller may know of, or the artifact's label denies it.
    pub async fn file(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        file: &Sha256,
    ) -> Result<ContentRow, PublishError> {
        let shelf = self.may_serve(caller, name).await?;
        let (artifact, wanted) = (name.clone(), *file);
        let row = shelf
            .index(self)
            .ask(move |q| q.content_of(&artifact, &wanted))
            .await?;
        row.ok_or_else(|| PublishError::NotFound(format!("file {file} of {name}")))
    }

    /// Returns where the bytes of a file of an artifact are, packed or not, if it may be served to the caller.
    ///
    /// # Errors
    /// When there is none that the caller may know of (in the 16 newest of the releases that pack files), or
    /// the artifact's label denies it.
    pub async fn bytes(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        file: &Sha256,
    ) -> Result<FileBytes, PublishError> {
        let missing = match self.file(caller, name, file).await {
            Ok(row) => {
                return Ok(FileBytes {
                    recipe: row.recipe,
                    within: 0..row.size,
                });
            }
            Err(error @ PublishError::NotFound(_)) => error,
            Err(error) => return Err(error),
        };
        // Who may not know of the artifact gets the same answer as for a file that it lacks.
        let Ok(shelf) = self.may_serve(caller, name).await else {
            return Err(missing);
        };
        let artifact = name.clone();
        let manifests = shelf
            .index(self)
            .ask(move |q| q.packed_releases(&artifact, LISTS_MAX))
            .await?;
        for manifest in manifests {
            let read = async || self.read_list(caller, name, &manifest).await;
            let Some(packed) = self.packed.of(manifest, read).await? else {
                continue;
            };
            if let Some((tar, within)) = packed.find(file) {
                let row = self.file(caller, name, &tar).await?;
                return Ok(FileBytes {
                    recipe: row.recipe,
                    within,
                });
            }
        }
        Err(missing)
    }

    /// Reads which files a release packs; none where manifest or list are not at hand.
    async fn read_list(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<Whereabouts>, PublishError> {
        let manifest = match self.store.get(&Key::manifest(manifest)).await {
            Ok(bytes) => Manifest::parse(bytes.to_vec())?,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(list) = manifest.packed().map(|packed| packed.list) else {
            return Ok(None);
        };
        let row = self.file(caller, name, &list.digest).await?;
        // It was read before it was published, but is read here with the same bound.
        let recipe = self.content.recipe(&row.recipe).await?;
        let Some(recipe) = recipe.filter(|recipe| recipe.size() <= LIST_MAX_BYTES as u64) else {
            return Ok(None);
        };
        let bytes = self.content.head(&recipe, recipe.size()).await?;
        let read = move || Files::of(&manifest, Some(&bytes)).map(|files| Whereabouts::of(&files));
        Ok(Some(self.content.on_pool(read).await?))
    }

    /// Returns an entry of the ledger with its opening, proven.
    ///
    /// # Errors
    /// When there is none, it was erased, or it belongs to a namespace that the caller may not know of.
    pub async fn entry(&self, caller: &Caller, entry: u64) -> Result<Proof, PublishError> {
        let missing = || PublishError::NotFound(format!("entry {entry} of the ledger"));
        let (subject, place) = self
            .reader
            .ask(move |q| Ok((q.namespace_of(entry)?, q.place_of(entry)?)))
            .await?;
        let (subject, (stream, _)) = subject.zip(place).ok_or_else(missing)?;
        if let Some(namespace) = subject {
            self.readable(caller, &namespace).await.map_err(|_| missing())?;
        }
        self.may_open(caller, &stream)
            .await?
            .then_some(())
            .ok_or_else(missing)?;
        Ok(self.ledger.prove(&[entry]).await?)
    }

    /// May the caller read what stands in this stream, of the own ledger or of a copy?
    async fn may_open(&self, caller: &Caller, stream: &str) -> Result<bool, PublishError> {
        let stream: Stream = stream.parse().map_err(AppendError::from)?;
        if stream == Stream::open() || caller.is_admin() {
            return Ok(true);
        }
        match stream.namespace() {
            Some(namespace) => Ok(self.readable(caller, &namespace).await.is_ok()),
            None => Ok(false),
        }
    }

    /// Returns an entry of another site's ledger, proven from the copy of it.
    ///
    /// # Errors
    /// When there is none, it was erased, or the caller may not know of it.
    pub async fn entry_of(&self, caller: &Caller, site: &SiteId, entry: u64) -> Result<Proof, PublishError> {
        let missing = || PublishError::NotFound(format!("entry {entry} of the ledger of {site}"));
        let followed = self.ledgers.of(site).ok_or_else(missing)?;
        let known = followed.index.ask(move |q| q.place_of(entry)).await?;
        let (stream, _) = known.ok_or_else(missing)?;
        self.may_open(caller, &stream)
            .await?
            .then_some(())
            .ok_or_else(missing)?;
        Ok(followed.prove(&[entry]).await?)
    }

    /// Finds a namespace, and where what is recorded of it stands: in the own ledger, or in that of its home.
    pub(super) async fn readable(
        &self,
        caller: &Caller,
        name: &Namespace,
    ) -> Result<(NamespaceState, Shelf), PublishError> {
        let found = self.shelf(name).await?;
        found
            .filter(|(state, shelf)| {
                caller.may_read(state) && (shelf.is_own() || state.is_for(&self.here.site))
            })
            .ok_or_else(|| PublishError::NotFound(format!("namespace `{name}`")))
    }

    /// No byte moves before a verdict.
    async fn may_serve(&self, caller: &Caller, name: &ArtifactName) -> Result<Shelf, PublishError> {
        let (_, shelf) = self.readable(caller, &name.namespace()).await?;
        let wanted = name.clone();
        let (row, rows) = shelf
            .index(self)
            .ask(move |q| Ok((q.artifact(&wanted)?, q.labels(&wanted)?)))
            .await?;
        row.ok_or_else(|| PublishError::NotFound(format!("artifact {name}")))?;
        let now = self.clock.now();
        shelf.check_known(name, now)?;
        let labels: Vec<Label> = rows.into_iter().map(|row| row.label).collect();
        let facts = self.here.facts(&shelf.home(&self.here), now);
        // A copy is served by who may hold it; the home serves what it may serve.
        let own = if shelf.is_own() {
            Action::Serve
        } else {
            Action::Hold
        };
        for (action, place) in [(own, self.here.place()), (Action::Serve, caller.place())] {
            let verdict = decide(&labels, &facts, action, &place);
            if !verdict.allowed {
                let reasons = verdict.reasons.iter().map(ToString::to_string).collect();
                return Err(PublishError::Denied {
                    artifact: name.clone(),
                    reasons,
                });
            }
        }
        Ok(shelf)
    }
}
