//! How each release of another site stands here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use waag_schema::statement::Keeping;
use waag_schema::wire::federation::{MirrorRule, MirroredView, State, When};
use waag_schema::{ArtifactName, Sha256};

use super::NO_LONGER_SHARED;
use super::wanted::Wanted;
use crate::federation::peer::PeerSite;
use crate::federation::sites::{Federation, SitesError};
use crate::ledger::Followed;

/// What was tried in vain, since the start.
#[derive(Default)]
pub(in crate::federation) struct Trouble(Mutex<BTreeMap<(ArtifactName, Sha256), String>>);

impl Trouble {
    pub(super) fn note(&self, release: &Wanted, reason: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (release.artifact.clone(), release.view.manifest);
        match reason {
            Some(reason) => drop(all.insert(key, reason)),
            None => drop(all.remove(&key)),
        }
    }

    pub(super) fn of(&self, artifact: &ArtifactName, manifest: &Sha256) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(artifact.clone(), *manifest)).cloned()
    }
}

impl Federation {
    /// Says how each release stands that rules match or that is or was held.
    pub(in crate::federation) async fn standings(
        &self,
        site: &PeerSite,
        followed: &Followed,
        rules: &[MirrorRule],
    ) -> Result<Vec<MirroredView>, SitesError> {
        let all = self.wanted(site, followed, rules, None).await?;
        Ok(all
            .into_iter()
            .map(|release| self.standing(followed, release))
            .collect())
    }

    pub(super) fn standing(&self, followed: &Followed, release: Wanted) -> MirroredView {
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
            (Some(Keeping::Dropped), _) if release.when == When::Always => {
                (State::Dropped, row.and_then(|row| row.reason.clone()))
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
