//! What is being weighed right now, and what could not be: for people to see, gone with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

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
    now: Option<Now>,
    failed: HashMap<(ArtifactName, Sha256), Failure>,
}

#[derive(Debug)]
struct Now {
    release: (ArtifactName, Sha256),
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

    pub(super) fn turn_on(&self) {
        self.state().on = true;
    }

    pub(super) fn begin(&self, artifact: &ArtifactName, manifest: &Sha256, total: u64) {
        self.state().now = Some(Now {
            release: (artifact.clone(), *manifest),
            done: 0,
            total,
        });
    }

    pub(super) fn passed(&self, bytes: u64) {
        if let Some(now) = &mut self.state().now {
            now.done += bytes;
        }
    }

    pub(super) fn end(&self) {
        let mut state = self.state();
        if let Some(Now { release, .. }) = state.now.take() {
            state.failed.remove(&release);
        }
    }

    /// Notes a failure; returns how often this release failed by now.
    pub(super) fn fail(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        reason: &str,
        tries_max: u32,
    ) -> u32 {
        let mut state = self.state();
        state.now = None;
        let failure = state
            .failed
            .entry((artifact.clone(), *manifest))
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

    pub(super) fn is_given_up(&self, artifact: &ArtifactName, manifest: &Sha256) -> bool {
        let release = (artifact.clone(), *manifest);
        self.state()
            .failed
            .get(&release)
            .is_some_and(|failure| failure.given_up)
    }

    /// Says how far a release has come that has no scorecard yet; nothing where this site does not weigh.
    #[must_use]
    pub fn of(&self, artifact: &ArtifactName, manifest: &Sha256, bytes: u64) -> Option<WeighingView> {
        let state = self.state();
        if !state.on {
            return None;
        }
        let release = (artifact.clone(), *manifest);
        let failure = state.failed.get(&release);
        let now = state.now.as_ref().filter(|now| now.release == release);
        let word = match (now, failure) {
            (Some(_), _) => "weighing",
            (None, Some(failure)) if failure.given_up => "given up",
            _ => "waiting",
        };
        Some(WeighingView {
            manifest: *manifest,
            state: word.to_owned(),
            done: now.map_or(0, |now| now.done),
            total: now.map_or(bytes, |now| now.total),
            reason: failure.map(|failure| failure.reason.clone()),
        })
    }
}
