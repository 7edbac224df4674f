//! Which releases of another site are looked at: those that rules match, that are held, or whose fetch began.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use waag_schema::policy::Label;
use waag_schema::release::kind::Kind;
use waag_schema::statement::Keeping;
use waag_schema::wire::artifact::ReleaseView;
use waag_schema::wire::federation::{MirrorRule, When};
use waag_schema::{ArtifactName, Hours, Namespace, Sha256};

use super::labels_of;
use crate::federation::peer::PeerSite;
use crate::federation::rules::{is_of, takes};
use crate::federation::sites::{Federation, SitesError};
use crate::index::{CustodyRow, IndexError, Questions};
use crate::ledger::Followed;
use crate::store::{Key, Store, StoreError};

/// Keys handled in one listing.
pub(in crate::federation) const LISTED_AT_ONCE: usize = 1000;

/// A release that a rule matches, with what its home's ledger says of it.
#[derive(Debug, Clone)]
pub(in crate::federation) struct Wanted {
    pub(in crate::federation) artifact: ArtifactName,
    pub(in crate::federation) view: ReleaseView,
    /// A rule matches it.
    pub(in crate::federation) matched: bool,
    pub(super) labels: Vec<Label>,
    pub(super) erase: bool,
    /// Its namespace is private, and may be read here no more.
    pub(super) closed: bool,
    pub(super) when: When,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) hours: Option<Hours>,
    pub(super) custody: Option<CustodyRow>,
    /// A fetch of it began and did not end.
    pub(super) begun: bool,
}

impl Wanted {
    /// A release that is held, for a look at what it needs.
    pub(in crate::federation) const fn of(artifact: ArtifactName, view: ReleaseView) -> Self {
        Self {
            artifact,
            view,
            matched: false,
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

    pub(in crate::federation) fn is_held(&self) -> bool {
        self.custody
            .as_ref()
            .is_some_and(|row| row.state == Keeping::Holds)
    }

    /// Was it held here, and given up by who runs this site?
    pub(in crate::federation) fn is_dropped(&self) -> bool {
        self.custody
            .as_ref()
            .is_some_and(|row| row.state == Keeping::Dropped)
    }
}

/// Returns what the keys of all releases begin with of which a fetch began and did not end.
pub(super) async fn begun(copy: &dyn Store) -> Result<HashSet<String>, StoreError> {
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

/// Returns the releases of artifacts, in the ledger's order.
fn releases_of(
    q: &Questions<'_>,
    artifacts: BTreeSet<ArtifactName>,
) -> Result<Vec<(ArtifactName, ReleaseView)>, IndexError> {
    let mut found = Vec::new();
    for artifact in artifacts {
        let releases = q.releases(&artifact)?;
        found.extend(releases.into_iter().map(|view| (artifact.clone(), view)));
    }
    found.sort_by_key(|(_, view)| view.entry);
    Ok(found)
}

impl Federation {
    /// Returns the releases of a site that rules match or that are held, each with how the home's ledger and this
    /// site's stand to it: of these artifacts, or of all.
    pub(in crate::federation) async fn wanted(
        &self,
        site: &PeerSite,
        followed: &Followed,
        rules: &[MirrorRule],
        among: Option<&BTreeSet<ArtifactName>>,
    ) -> Result<Vec<Wanted>, SitesError> {
        if among.is_some_and(BTreeSet::is_empty) {
            return Ok(Vec::new());
        }
        let rules: Vec<MirrorRule> = rules.iter().filter(|rule| is_of(rule, site)).cloned().collect();
        let artifacts = among.cloned();
        let custody = self.reader.ask(move |q| match &artifacts {
            None => q.custody(None),
            Some(artifacts) => {
                let rows = artifacts.iter().map(|artifact| q.custody(Some(artifact)));
                Ok(rows.collect::<Result<Vec<_>, _>>()?.concat())
            }
        });
        let custody = custody.await?;
        let held: BTreeMap<(ArtifactName, Sha256), CustodyRow> = custody
            .into_iter()
            .filter(|row| row.site == self.here.site)
            .map(|row| ((row.artifact.clone(), row.manifest), row))
            .collect();
        let begun = begun(followed.store.as_ref()).await?;
        let (owner, here) = (site.clone(), self.here.site.clone());
        let artifacts = among.cloned();
        let found = followed.index.ask(move |q| {
            let releases = match artifacts {
                None => q.all_releases()?,
                Some(artifacts) => releases_of(q, artifacts)?,
            };
            let mut found = Vec::new();
            let mut shut: BTreeMap<Namespace, bool> = BTreeMap::new();
            for (artifact, view) in releases {
                if !owner.owns(&artifact.namespace()) {
                    continue;
                }
                let row = q.artifact(&artifact)?;
                let kind: Option<Kind> = row.as_ref().and_then(|row| row.kind);
                let label = row.as_ref().and_then(|row| row.label.as_ref());
                let custody = held.get(&(artifact.clone(), view.manifest)).cloned();
                let rule = rules.iter().find(|rule| takes(rule, &artifact, kind, label));
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
                    labels: labels_of(q, &artifact)?,
                    erase: q.is_to_be_erased(&artifact, &view.manifest)?,
                    closed,
                    when: rule.map_or(When::OnDemand, |rule| rule.when),
                    bytes_per_second: rule.and_then(|rule| rule.bytes_per_second),
                    hours: rule.and_then(|rule| rule.hours),
                    matched: rule.is_some(),
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
}
