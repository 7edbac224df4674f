//! Mirroring: which releases of other sites this one should hold, may hold, holds; and getting there.
//!
//! ```text
//! rules -> is it withdrawn? -> may this site hold it (labels as followed)? -> closure -> asked again -> custody
//! ```
//!
//! What this site holds is what it last said of its custody in its own ledger; nothing else remembers it, and nothing
//! is shown before. A label that was tightened and a withdrawal that erases take effect here, at the next look.

mod holders;
mod said;
mod settled;
mod standing;
mod underway;
mod wanted;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use waag_schema::policy::{Action, Label, Verdict, decide};
use waag_schema::release::Manifest;
use waag_schema::statement::Keeping;
use waag_schema::wire::federation::{MirrorRule, When};
use waag_schema::{ArtifactName, Sha256, SiteId, Timestamp};

pub(super) use self::said::release_in;
pub(super) use self::settled::Settled;
pub(super) use self::standing::Trouble;
pub(super) use self::underway::Underway;
pub(super) use self::wanted::{LISTED_AT_ONCE, Wanted};
use super::fetch::{Fetch, chunks_of};
use super::peer::Peer;
use super::sites::{Federation, Member, SitesError};
use crate::index::{IndexError, Prepared, Questions};
use crate::ledger::{Followed, Standing, prepare};
use crate::store::Key;

/// Why a copy goes whose label would let it stay.
const NO_LONGER_SHARED: &str = "its namespace is not shared with this site any more";

/// Where releases come from.
pub(super) struct Source<'a> {
    pub(super) member: &'a Arc<Member>,
    /// Who gives their content.
    pub(super) peer: Arc<dyn Peer>,
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

    /// Does for each release of a site, or of these artifacts of it, what rules, labels and withdrawals ask for. Says
    /// also what has to be looked at again though nothing changes.
    pub(super) async fn mirror_from(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        rules: &[MirrorRule],
        among: Option<&BTreeSet<ArtifactName>>,
    ) -> Result<(Mirrored, BTreeSet<ArtifactName>), SitesError> {
        let (mut done, mut open) = (Mirrored::default(), BTreeSet::new());
        let member = from.member;
        let mut wanted = self.wanted(&member.site, followed, rules, among).await?;
        if let Some(only) = from.only {
            wanted.retain(|one| one.is_held() || only.contains(&(one.artifact.clone(), one.view.manifest)));
            // What has to go, last: what was carried may go on from its chunks.
            wanted.sort_by_key(Wanted::is_held);
        }
        done.erased += self.end_giving_up(followed, &mut wanted).await?;
        let on_demand = wanted
            .iter()
            .filter(|one| one.when == When::OnDemand && !one.is_held() && !one.closed);
        let on_demand = on_demand.filter(|one| one.view.withdrawn.is_none());
        if from.only.is_none() {
            self.demand.offer(
                &member.site.id,
                among,
                on_demand.map(|one| (one.artifact.clone(), one.view.manifest)),
            );
        }
        for release in wanted {
            match self.settle(from, followed, &release).await {
                Ok(step) => {
                    self.trouble.note(&release, None);
                    match step {
                        Step::Nothing => {}
                        Step::Open => drop(open.insert(release.artifact)),
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
                    open.insert(release.artifact);
                }
            }
        }
        Ok((done, open))
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
                    self.erase(followed, release, (Keeping::Erased, &reason)).await?;
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
            // Erased because a label forbids it is refused already; what was given up goes on being that.
            let erased = release
                .custody
                .as_ref()
                .is_some_and(|row| row.state == Keeping::Erased);
            if said || erased || release.is_dropped() {
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
            return Ok(Step::Open);
        }
        // Who carries a file here, or asks for what is fetched on demand, wants it.
        let unasked = release.when == When::Always && from.only.is_none();
        if unasked && self.stays_away(followed, release).await? {
            // It may be asked for though nothing is recorded.
            return Ok(Step::Open);
        }
        // Were it left from before, what comes now would be given up again.
        let giving_up = Key::giving_up(&release.artifact, &release.view.manifest);
        followed.store.delete(&giving_up).await?;
        let step = self.fetch(from, followed, release).await?;
        if release.is_dropped() {
            let again = Key::again(&release.artifact, &release.view.manifest);
            followed.store.delete(&again).await?;
        }
        self.demand.done(&release.artifact, &release.view.manifest);
        Ok(step)
    }

    /// Fetches the closure of a release, and says that it is held.
    async fn fetch(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<Step, SitesError> {
        let manifest = release.view.manifest;
        let (envelope, statement) = self.statement(followed, release).await?;
        let holders = self.holders_of(from, followed, release).await?;
        let fetch = Fetch {
            holders: &holders,
            store: &self.store,
            content: &self.content,
            artifact: &release.artifact,
            manifest,
            release: &statement,
            bytes_per_second: release.bytes_per_second,
            at_once: &self.batches,
            received: &self.metrics.mirrored_bytes,
        };
        let (bytes, recipes) = fetch.plan().await?;
        // What it was made from stands in its manifest, and those labels hold as well.
        let ancestors: Vec<ArtifactName> = ancestors(&bytes);
        if self.deny_made_from(followed, release, &ancestors).await? {
            if release.begun {
                self.discard(followed, release).await?;
            }
            // That label may be another one day, and nothing here says then what was made from it.
            return Ok(Step::Open);
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
            self.erase(followed, release, (Keeping::Erased, &reason)).await?;
            return Ok(Step::Erased);
        }
        self.say(followed, release, Keeping::Holds, None).await?;
        drop(underway);
        self.end_fetch(followed.store.as_ref(), release).await?;
        let prepared = prepare(self.store.as_ref(), envelope).await?;
        from.member
            .arrived(release.view.entry, release.view.at, prepared)
            .await?;
        Ok(Step::Fetched)
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
}

/// What a manifest says that its files were made from.
fn ancestors(manifest: &Bytes) -> Vec<ArtifactName> {
    Manifest::parse(manifest.to_vec()).map_or_else(|_| Vec::new(), |manifest| manifest.ancestors())
}

/// The labels that an artifact is under, its own and those of what it was made from.
pub(super) fn labels_of(q: &Questions<'_>, artifact: &ArtifactName) -> Result<Vec<Label>, IndexError> {
    Ok(q.labels(artifact)?.into_iter().map(|row| row.label).collect())
}

/// What was done for one release.
enum Step {
    Nothing,
    /// Nothing yet: it has to be looked at again.
    Open,
    Fetched,
    Refused,
    Erased,
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
