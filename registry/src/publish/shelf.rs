//! Where what is recorded of a namespace stands: in this site's ledger, or in that of its home, of which a copy is
//! followed here. What is asked and proven is the same; a copy is given out only where this site says that it holds it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use waag_schema::statement::{Keeping, NamespaceState};
use waag_schema::wire::artifact::{ArtifactSummary, Proof};
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId, Timestamp};

use super::PublishError;
use super::catalogue::Catalogue;
use crate::access::{Here, Reach};
use crate::index::{Reader, Wanted};
use crate::ledger::{AppendError, Followed, Standing};

/// Where something stands.
pub(super) enum Shelf {
    /// In this site's ledger.
    Own,
    /// In that of its home.
    Copy(Arc<Followed>),
}

impl Shelf {
    pub(super) const fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }

    /// Returns the index that knows it.
    pub(super) fn index<'a>(&'a self, catalogue: &'a Catalogue) -> &'a Reader {
        match self {
            Self::Own => &catalogue.reader,
            Self::Copy(followed) => &followed.index,
        }
    }

    /// Returns its home.
    pub(super) fn home(&self, here: &Here) -> SiteId {
        match self {
            Self::Own => here.site.clone(),
            Self::Copy(followed) => followed.site.clone(),
        }
    }

    /// Proves entries of that ledger.
    pub(super) async fn prove(&self, catalogue: &Catalogue, entries: &[u64]) -> Result<Proof, AppendError> {
        match self {
            Self::Own => catalogue.ledger.prove(entries).await,
            Self::Copy(followed) => followed.prove(entries).await,
        }
    }

    /// Checks that what its home says of it now is known here.
    pub(super) fn check_known(&self, artifact: &ArtifactName, now: Timestamp) -> Result<(), PublishError> {
        let Self::Copy(followed) = self else { return Ok(()) };
        if let Standing::Stopped(reason) = &followed.standing {
            return Err(PublishError::Distrusted {
                artifact: artifact.clone(),
                home: followed.site.clone(),
                reason: reason.clone(),
            });
        }
        if followed.is_silent(now) {
            return Err(PublishError::Silent {
                artifact: artifact.clone(),
                home: followed.site.clone(),
                since: followed.heard,
            });
        }
        Ok(())
    }
}

impl Catalogue {
    /// Finds where a namespace is recorded: here, or at the site whose own the charter says it is.
    pub(super) async fn shelf(
        &self,
        name: &Namespace,
    ) -> Result<Option<(NamespaceState, Shelf)>, PublishError> {
        let wanted = name.clone();
        if let Some(state) = self.reader.ask(move |q| q.namespace(&wanted)).await? {
            return Ok(Some((state, Shelf::Own)));
        }
        let found = self.ledgers.home_of(name).await?;
        Ok(found.map(|(state, followed)| (state, Shelf::Copy(followed))))
    }

    /// Returns which releases of an artifact are here; none where the artifact is this site's own.
    pub(super) async fn held(
        &self,
        shelf: &Shelf,
        artifact: &ArtifactName,
    ) -> Result<Option<HashSet<Sha256>>, PublishError> {
        if shelf.is_own() {
            return Ok(None);
        }
        let wanted = artifact.clone();
        let here = self.here.site.clone();
        let custody = self.reader.ask(move |q| q.custody(Some(&wanted))).await?;
        let held = custody.into_iter();
        let held = held.filter(|row| row.site == here && row.state == Keeping::Holds);
        let mut held: HashSet<Sha256> = held.map(|row| row.manifest).collect();
        let (wanted, all) = (artifact.clone(), held.clone());
        let going = shelf.index(self).ask(move |q| {
            let mut going = Vec::new();
            for manifest in all {
                if q.is_to_be_erased(&wanted, &manifest)? {
                    going.push(manifest);
                }
            }
            Ok(going)
        });
        for manifest in going.await? {
            held.remove(&manifest);
        }
        Ok(Some(held))
    }

    /// Checks that a release is here. One that is fetched once somebody asks for it is asked for hereby.
    pub(super) async fn check_held(
        &self,
        shelf: &Shelf,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<(), PublishError> {
        let held = self.held(shelf, artifact).await?;
        if held.is_none_or(|held| held.contains(manifest)) {
            return Ok(());
        }
        if let Shelf::Copy(followed) = shelf
            && self.demand.is_wanted(&followed.site, artifact, manifest)
        {
            return Err(PublishError::Coming {
                artifact: artifact.clone(),
                home: followed.site.clone(),
            });
        }
        Err(PublishError::NotFound(format!(
            "copy of {manifest} of {artifact}"
        )))
    }

    /// Lists the copies that fit, site by site.
    pub(super) async fn copies(
        &self,
        reach: &Reach,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Vec<ArtifactSummary>>, PublishError> {
        let here = self.here.site.clone();
        let custody = self.reader.ask(|q| q.custody(None)).await?;
        let mut held: HashMap<ArtifactName, u64> = HashMap::new();
        for row in custody {
            if row.site == here && row.state == Keeping::Holds {
                *held.entry(row.artifact).or_default() += 1;
            }
        }
        let mut lists = Vec::new();
        if held.is_empty() {
            return Ok(lists);
        }
        for followed in self.ledgers.all() {
            let mut list = Vec::new();
            let mut asked = wanted.clone();
            loop {
                let (reach, page) = (reach.clone(), asked.clone());
                let found = followed
                    .index
                    .ask(move |q| q.artifacts(&reach, &page, limit))
                    .await?;
                let last = found.last().map(|summary| summary.name.clone());
                let full = found.len() == limit;
                list.extend(found.into_iter().filter_map(|summary| {
                    let releases = *held.get(&summary.name)?;
                    let own = followed.owns(&summary.name.namespace());
                    own.then_some(ArtifactSummary { releases, ..summary })
                }));
                if !full || list.len() >= limit {
                    break;
                }
                asked.after = last;
            }
            lists.push(list);
        }
        Ok(lists)
    }
}
