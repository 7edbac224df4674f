//! Why something may be done somewhere, or may not: the verdict, and the statements that it rests on.
//!
//! The verdict is computed here, by the same pure function as at every site, from labels whose statements were checked
//! against the pinned key. A site can keep a label back, as it can keep back any newest statement; it cannot change one.

use std::path::Path;

use serde::Serialize;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::policy::{Action, Facts, GroupTerms, Label, Place, Verdict, decide};
use waag_schema::wire::artifact::Labels;
use waag_schema::{ArtifactName, SiteId, Timestamp};

use crate::error::{ClientError, Result};
use crate::home::Home;
use crate::proof::check_labels;
use crate::site::Site;
use crate::trust::Trust;
use crate::verify;

/// A label that a verdict rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ground {
    /// Whose label it is; none where that may not be known here.
    pub artifact: Option<ArtifactName>,
    /// What it says.
    pub label: Label,
    /// The ledger entry that says so; none where that may not be known here.
    pub entry: Option<u64>,
    /// Whether its statement was checked, or only the site says so.
    pub proven: bool,
}

/// The labels that an artifact is under.
#[derive(Debug, Clone)]
pub struct Grounds {
    /// The artifact.
    pub name: ArtifactName,
    /// Where it was published.
    pub home: SiteId,
    /// The site whose ledger was asked.
    pub ledger: SiteId,
    /// Its own label first.
    pub labels: Vec<Ground>,
    /// What it was made from and what of that is not known here.
    pub unknown: Vec<ArtifactName>,
}

impl Grounds {
    /// Asks a site.
    ///
    /// # Errors
    /// When there is no such artifact for the caller, or a statement does not hold.
    pub async fn ask(site: &Site, artifact: &ArtifactName) -> Result<Self> {
        let answer: Labels = site.labels(artifact).await?;
        if let Some(proof) = &answer.proof {
            let checkpoint: SignedCheckpoint = check_labels(site.pin(), artifact, &answer.labels, proof)?;
            site.observe(&checkpoint).await?;
        } else if answer.labels.iter().any(|label| label.entry.is_some()) {
            return Err(ClientError::verification(
                format_args!("labels of {artifact}"),
                "the site gives no proof of them",
            ));
        }
        let labels = answer.labels.into_iter().map(|view| Ground {
            proven: view.entry.is_some(),
            artifact: view.artifact,
            label: view.label,
            entry: view.entry,
        });
        Ok(Self {
            name: artifact.clone(),
            home: answer.home,
            ledger: site.pin().site.clone(),
            labels: labels.collect(),
            unknown: Vec::new(),
        })
    }

    /// Reads what a pull has kept beside the files; no network is needed. Labels of what the artifact was made from are
    /// not kept there: it says which are missing.
    ///
    /// # Errors
    /// When nothing was pulled there, or the proof does not hold.
    pub fn kept(home: &Home, directory: &Path) -> Result<Self> {
        let (site, proven) = verify::proven(&Trust::new(home.clone()), directory)?;
        let own = proven.label.map(|(entry, label)| Ground {
            artifact: Some(proven.artifact.clone()),
            label,
            entry: Some(entry),
            proven: true,
        });
        let unknown = proven.manifest.ancestors();
        Ok(Self {
            home: proven.namespace.home,
            ledger: site,
            labels: own.into_iter().collect(),
            unknown: unknown
                .into_iter()
                .filter(|ancestor| *ancestor != proven.artifact)
                .collect(),
            name: proven.artifact,
        })
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, at: Timestamp, groups: &[GroupTerms], action: Action, place: &Place) -> Verdict {
        let labels: Vec<Label> = self.labels.iter().map(|ground| ground.label.clone()).collect();
        let facts = Facts {
            home: self.home.clone(),
            at,
            groups: groups.into(),
        };
        decide(&labels, &facts, action, place)
    }
}
