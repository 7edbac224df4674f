//! Scorecards of an artifact and of a suite, with what stands behind them.

use std::collections::HashSet;

use bytes::Bytes;
use waag_schema::policy::{Action, Label, decide};
use waag_schema::release::kind::Kind;
use waag_schema::statement::Visibility;
use waag_schema::wire::artifact::{ScorecardView, Scorecards};
use waag_schema::wire::leaderboard::LeaderboardPage;
use waag_schema::{ArtifactName, Sha256};

use super::Catalogue;
use crate::access::Caller;
use crate::evaluation::engine;
use crate::publish::PublishError;
use crate::publish::shelf::Shelf;
use crate::store::{Key, StoreError};

/// The most scorecards of one answer in each ledger.
pub(in crate::publish) const SCORECARDS_MAX: usize = 100;

/// The most scorecards on one page of a leaderboard.
const SCORED_PAGE_MAX: usize = 100;

impl Catalogue {
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
}
