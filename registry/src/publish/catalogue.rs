//! What goes out: names, versions and their proofs. Whatever a caller may not know of is not found.

mod bytes;
mod entries;
mod scorecards;

use std::sync::Arc;

use waag_schema::base::key::KeyPair;
use waag_schema::base::name::Version;
use waag_schema::policy::{Action, Label, decide};
use waag_schema::statement::{Chain, NamespaceState};
use waag_schema::wire::artifact::{ArtifactPage, ArtifactView, LabelView, Labels, Proof, Resolved};
use waag_schema::wire::site::NamespaceView;
use waag_schema::{ArtifactName, Namespace};

pub use self::bytes::FileBytes;
pub(super) use self::scorecards::SCORECARDS_MAX;
use super::PublishError;
use super::answers::Answers;
use super::demand::Demand;
use super::packed::PackedFiles;
use super::shelf::Shelf;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::content::Content;
use crate::evaluation::Progress;
use crate::index::{Reader, Wanted};
use crate::ledger::{FollowedLedgers, Ledger};
use crate::store::{Key, Store};

/// The most lines of one listing.
const PAGE_MAX: usize = 1000;

/// The most scorecards that travel with a release.
const SCORECARDS_WITH_MAX: usize = 8;

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
    /// What the site signs with what it says itself.
    pub site_key: Arc<KeyPair>,
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
    /// Who has asked for proof of what is stored.
    pub answers: Answers,
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
