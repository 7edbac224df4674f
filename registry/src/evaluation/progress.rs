//! What is being weighed right now, and what could not be: for people to see, gone with the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use waag_schema::statement::scorecard::{Scorecard, SuiteRelease};
use waag_schema::wire::artifact::WeighingView;
use waag_schema::{ArtifactName, Sha256};

/// Shared between who weighs and who asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether this site weighs at all.
    on: bool,
    /// What models are asked, and in which precision.
    suites: (Vec<SuiteRelease>, &'static str),
    now: Option<Now>,
    /// What compute nodes are at.
    lent: HashSet<Job>,
    failed: HashMap<Job, Failure>,
    /// Why the processor computes and no GPU, as it was said last.
    fallback: Option<String>,
}

/// A release, and the suite that it is asked if it is asked one.
type Job = (ArtifactName, Sha256, Option<Sha256>);

fn job(artifact: &ArtifactName, manifest: &Sha256, suite: Option<&SuiteRelease>) -> Job {
    (artifact.clone(), *manifest, suite.map(|suite| suite.manifest))
}

#[derive(Debug)]
struct Now {
    job: Job,
    done: u64,
    total: u64,
}

#[derive(Debug)]
struct Failure {
    tries: u32,
    given_up: bool,
    reason: String,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn turn_on(&self) {
        self.state().on = true;
    }

    pub(super) fn name_suites(&self, suites: Vec<SuiteRelease>, precision: &'static str) {
        self.state().suites = (suites, precision);
    }

    /// Returns the suites for which a model has none of these scorecards.
    #[must_use]
    pub fn unasked(&self, manifest: &Sha256, scorecards: &[(&Sha256, &Scorecard)]) -> Vec<SuiteRelease> {
        let engine = super::language::engine();
        let (suites, precision) = self.state().suites.clone();
        let has_one = |suite: &SuiteRelease| {
            scorecards.iter().any(|(of, card)| {
                *of == manifest
                    && card
                        .suite
                        .as_ref()
                        .is_some_and(|asked| asked.manifest == suite.manifest)
                    && (&card.harness.name, &card.harness.version) == (&engine.name, &engine.version)
                    && card.precision == precision
            })
        };
        suites.into_iter().filter(|suite| !has_one(suite)).collect()
    }

    pub(super) fn begin(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        suite: Option<&SuiteRelease>,
        total: u64,
    ) {
        self.state().now = Some(Now {
            job: job(artifact, manifest, suite),
            done: 0,
            total,
        });
    }

    /// Notes why the processor computes and no GPU; returns whether that is news.
    pub(super) fn note_fallback(&self, why: &str) -> bool {
        let mut state = self.state();
        let is_news = state.fallback.as_deref() != Some(why);
        state.fallback = Some(why.to_owned());
        is_news
    }

    pub(super) fn passed(&self, bytes: u64) {
        if let Some(now) = &mut self.state().now {
            // Weights may be read more than once, in rounds.
            now.done = now.done.saturating_add(bytes).min(now.total);
        }
    }

    pub(super) fn end(&self) {
        let mut state = self.state();
        if let Some(Now { job, .. }) = state.now.take() {
            state.failed.remove(&job);
        }
    }

    /// Notes that a compute node has taken a job.
    pub(super) fn lend(&self, artifact: &ArtifactName, manifest: &Sha256, suite: Option<&SuiteRelease>) {
        self.state().lent.insert(job(artifact, manifest, suite));
    }

    /// Notes that it has it no more.
    pub(super) fn take_back(&self, artifact: &ArtifactName, manifest: &Sha256, suite: Option<&SuiteRelease>) {
        self.state().lent.remove(&job(artifact, manifest, suite));
    }

    /// Forgets the failures of what is done.
    pub(super) fn forget(&self, artifact: &ArtifactName, manifest: &Sha256, suite: Option<&SuiteRelease>) {
        self.state().failed.remove(&job(artifact, manifest, suite));
    }

    /// Notes a failure; returns how often this release failed by now.
    pub(super) fn fail(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        suite: Option<&SuiteRelease>,
        reason: &str,
        tries_max: u32,
    ) -> u32 {
        let mut state = self.state();
        state.now = None;
        let failure = state
            .failed
            .entry(job(artifact, manifest, suite))
            .or_insert(Failure {
                tries: 0,
                given_up: false,
                reason: String::new(),
            });
        failure.tries += 1;
        failure.given_up = failure.tries >= tries_max;
        reason.clone_into(&mut failure.reason);
        failure.tries
    }

    pub(super) fn is_given_up(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        suite: Option<&SuiteRelease>,
    ) -> bool {
        self.state()
            .failed
            .get(&job(artifact, manifest, suite))
            .is_some_and(|failure| failure.given_up)
    }

    /// Says how far a release has come that has no scorecard yet; nothing where this site does not weigh.
    #[must_use]
    pub fn of(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        suite: Option<&SuiteRelease>,
        bytes: u64,
    ) -> Option<WeighingView> {
        let state = self.state();
        if !state.on {
            return None;
        }
        let job = job(artifact, manifest, suite);
        let failure = state.failed.get(&job);
        let now = state.now.as_ref().filter(|now| now.job == job);
        let word = match (now, failure) {
            (Some(_), _) => "weighing",
            (None, _) if state.lent.contains(&job) => "weighing",
            (None, Some(failure)) if failure.given_up => "given up",
            _ => "waiting",
        };
        Some(WeighingView {
            manifest: *manifest,
            suite: suite.cloned(),
            state: word.to_owned(),
            done: now.map_or(0, |now| now.done),
            total: now.map_or(bytes, |now| now.total),
            reason: failure.map(|failure| failure.reason.clone()),
        })
    }
}
