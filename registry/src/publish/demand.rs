//! What consumers ask for that is fetched from other sites only once somebody asks.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waag_schema::{ArtifactName, Sha256, SiteId};

/// The most releases that are asked for at once.
const DEMAND_MAX: usize = 1024;

#[derive(Default)]
struct State {
    /// Those that would be fetched if somebody asked, as the rules were last looked at.
    offered: HashSet<(SiteId, ArtifactName, Sha256)>,
    asked: HashSet<(ArtifactName, Sha256)>,
}

/// Releases that are fetched on demand, and those that somebody asked for. Cheap to clone; clones see the same.
#[derive(Clone, Default)]
pub struct Demand {
    state: Arc<Mutex<State>>,
    asked: Arc<Notify>,
}

impl Demand {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which releases of a site are fetched if somebody asks: of these artifacts, or of all.
    pub(crate) fn offer(
        &self,
        site: &SiteId,
        among: Option<&BTreeSet<ArtifactName>>,
        releases: impl Iterator<Item = (ArtifactName, Sha256)>,
    ) {
        if among.is_some_and(BTreeSet::is_empty) {
            return;
        }
        let mut state = self.state();
        let said = |artifact: &ArtifactName| among.is_none_or(|among| among.contains(artifact));
        state
            .offered
            .retain(|(of, artifact, _)| of != site || !said(artifact));
        state
            .offered
            .extend(releases.map(|(artifact, manifest)| (site.clone(), artifact, manifest)));
    }

    /// Asks for a release, and says whether it will be fetched.
    pub(crate) fn is_wanted(&self, site: &SiteId, artifact: &ArtifactName, manifest: &Sha256) -> bool {
        let mut state = self.state();
        if !state
            .offered
            .contains(&(site.clone(), artifact.clone(), *manifest))
        {
            return false;
        }
        if state.asked.len() < DEMAND_MAX && state.asked.insert((artifact.clone(), *manifest)) {
            self.asked.notify_one();
        }
        true
    }

    /// Waits until somebody asks.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Returns the artifacts that somebody asked for.
    pub(crate) fn asked_for(&self) -> Vec<ArtifactName> {
        let state = self.state();
        state.asked.iter().map(|(artifact, _)| artifact.clone()).collect()
    }

    /// Has somebody asked for it?
    pub(crate) fn contains(&self, artifact: &ArtifactName, manifest: &Sha256) -> bool {
        self.state().asked.contains(&(artifact.clone(), *manifest))
    }

    /// It is here.
    pub(crate) fn done(&self, artifact: &ArtifactName, manifest: &Sha256) {
        self.state().asked.remove(&(artifact.clone(), *manifest));
    }
}
