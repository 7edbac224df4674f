//! Taking a bundle in: every object is checked, then its ledger is followed and its releases are mirrored as if its site
//! had been asked. What this site's policy denies is refused on record.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use waag_schema::SiteId;
use waag_schema::federation::Charter;
use waag_schema::federation::bundle::Carried;
use waag_schema::wire::federation::{MirroredView, State};

use super::file::Carrier;
use super::{BundleFile, CarryError};
use crate::federation::peer::Peer;
use crate::federation::{Federation, Mirrored};
use crate::site::Site;

/// What came of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Whose it is.
    pub site: SiteId,
    /// The version of the charter that was adopted by it, if one was.
    pub charter: Option<u64>,
    /// Entries of its ledger that are new.
    pub entries: u64,
    /// What was done for its releases.
    pub mirrored: Mirrored,
    /// How each that it carries stands.
    pub releases: Vec<MirroredView>,
    /// Those that no entry of its ledger speaks of.
    pub unknown: Vec<Carried>,
}

impl Imported {
    /// Was all of it here before?
    #[must_use]
    pub fn is_nothing_new(&self) -> bool {
        self.charter.is_none() && self.entries == 0 && self.mirrored == Mirrored::default()
    }

    /// Is everything that it carries held here, or gone as it should be?
    #[must_use]
    pub fn is_held(&self) -> bool {
        let well = |view: &MirroredView| matches!(view.state, State::Held | State::Withdrawn | State::Erased);
        self.unknown.is_empty() && self.releases.iter().all(well)
    }
}

/// Takes a bundle into an open site.
///
/// # Errors
/// When the file is damaged, the charter does not name its site, or its ledger is not believed. Then no release of it was
/// taken.
pub async fn import(site: &Arc<Site>, path: &Path) -> Result<Imported, CarryError> {
    let bundle = BundleFile::open(path).await?;
    bundle.verify().await?;
    if bundle.cover().site == *site.id() {
        return Err(CarryError::Own);
    }
    let charter = step(site, &bundle).await?;
    let mut imported = site.federation().import(&bundle).await?;
    imported.charter = charter;
    Ok(imported)
}

/// Goes on to the newest charter that the bundle carries, if there is one here from which it follows.
async fn step(site: &Arc<Site>, bundle: &BundleFile) -> Result<Option<u64>, CarryError> {
    let Some(known) = site.here().adopted.charter() else {
        return Ok(None);
    };
    let mut steps = Vec::new();
    for bytes in &bundle.cover().charters {
        if Charter::parse(&bytes.0)?.version() >= known.version() {
            steps.push(bytes.0.clone());
        }
    }
    if steps.is_empty() {
        return Ok(None);
    }
    let view = site.charters().step(&steps).await?;
    if view.version == known.version() {
        return Ok(None);
    }
    site.join(site.sites_of_charter()).await?;
    Ok(Some(view.version))
}

impl Federation {
    async fn import(&self, bundle: &BundleFile) -> Result<Imported, CarryError> {
        let cover = bundle.cover();
        let only: HashSet<_> = cover
            .releases
            .iter()
            .map(|release| (release.artifact.clone(), release.manifest))
            .collect();
        let carried = bundle.clone();
        let carrier = move |copy| -> Arc<dyn Peer> {
            Arc::new(Carrier {
                bundle: carried,
                copy,
            })
        };
        let (looked, mirrored, releases) = self.take_in(&cover.site, &only, carrier).await?;
        let seen: HashSet<_> = releases
            .iter()
            .map(|view| (view.artifact.clone(), view.manifest))
            .collect();
        let unknown = cover
            .releases
            .iter()
            .filter(|release| !seen.contains(&(release.artifact.clone(), release.manifest)));
        Ok(Imported {
            site: cover.site.clone(),
            charter: None,
            entries: looked.new,
            mirrored,
            unknown: unknown.cloned().collect(),
            releases,
        })
    }
}
