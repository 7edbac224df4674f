//! Where what the weigher must know of an artifact is recorded: in this site's ledger, or, where it holds a copy, in that
//! of the artifact's home, which is followed.
//!
//! Invariant: a copy is measured only while this site says that it holds it, its home is believed and was heard from, and
//! everybody may know of its namespace: what is said of it here stands where everybody reads. Its labels are those that
//! its home has recorded, with those of what its own manifest says that it was made from.

use std::sync::Arc;

use waag_schema::policy::{Action, Facts, Label, decide};
use waag_schema::release::kind::Kind;
use waag_schema::statement::{Keeping, NamespaceState, Visibility};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::leases::Task;
use super::weigher::{JobError, Weigher};
use crate::index::{IndexError, Reader};
use crate::ledger::{Followed, Standing};

/// What is recorded of a namespace, and where.
pub(super) struct Record {
    pub(super) namespace: NamespaceState,
    /// The site at which it is recorded.
    pub(super) home: SiteId,
    /// The fold of that site's ledger.
    pub(super) index: Reader,
    /// That ledger, where it is not this site's own.
    copied: Option<Arc<Followed>>,
}

impl Record {
    pub(super) fn is_public(&self) -> bool {
        self.namespace.visibility == Visibility::Public
    }
}

impl Weigher {
    /// Finds where an artifact's namespace is recorded.
    pub(super) async fn record(&self, artifact: &ArtifactName) -> Result<Option<Record>, IndexError> {
        let name = artifact.namespace();
        let wanted = name.clone();
        if let Some(namespace) = self.reader.ask(move |q| q.namespace(&wanted)).await? {
            return Ok(Some(Record {
                namespace,
                home: self.here.site.clone(),
                index: self.reader.clone(),
                copied: None,
            }));
        }
        let found = self.ledgers.home_of(&name).await?;
        Ok(found.map(|(namespace, followed)| Record {
            namespace,
            home: followed.site.clone(),
            index: followed.index.clone(),
            copied: Some(followed),
        }))
    }

    /// Is a job that the ledger leaves open to be done? One on this site's own releases always is.
    pub(super) async fn is_due(&self, task: &Task) -> Result<bool, IndexError> {
        let Some(record) = self.record(&task.artifact).await? else {
            return Ok(false);
        };
        if record.copied.is_none() {
            return Ok(true);
        }
        let (artifact, manifest) = (task.artifact.clone(), task.manifest);
        let known = record
            .index
            .ask(move |q| Ok((q.artifact(&artifact)?, q.release(&artifact, &manifest)?)));
        let (row, release) = known.await?;
        let is_model = row.is_some_and(|row| row.kind == Some(Kind::Model));
        let in_force = release.is_some_and(|release| release.withdrawn.is_none());
        Ok(in_force
            && (is_model || task.suite.is_none())
            && self.is_here(&record, &task.artifact, &task.manifest).await?)
    }

    /// Is a release here, its own or a copy that may be measured?
    pub(super) async fn is_here(
        &self,
        record: &Record,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<bool, IndexError> {
        let (name, wanted) = (artifact.clone(), *manifest);
        let release = record.index.ask(move |q| q.release(&name, &wanted)).await?;
        let Some(followed) = &record.copied else {
            return Ok(release.is_some());
        };
        let believed = followed.standing == Standing::Sound && !followed.is_silent(self.clock.now());
        if release.is_none() || !believed || !record.is_public() {
            return Ok(false);
        }
        let (name, wanted) = (artifact.clone(), *manifest);
        let custody = self.reader.ask(move |q| q.custody_of(&name, &wanted)).await?;
        Ok(custody.is_some_and(|row| row.state == Keeping::Holds))
    }

    /// Returns the labels that a release is under here, and what a verdict on them rests on.
    pub(super) async fn labels(
        &self,
        record: &Record,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<(Vec<Label>, Facts), JobError> {
        // What a copy was made from is in the home's index only a moment after the copy itself.
        let made_from = match &record.copied {
            None => Vec::new(),
            Some(_) => self.manifest(manifest).await?.ancestors(),
        };
        let wanted = artifact.clone();
        let rows = record.index.ask(move |q| {
            let mut rows = q.labels(&wanted)?;
            for ancestor in &made_from {
                rows.extend(q.labels(ancestor)?);
            }
            Ok(rows)
        });
        let labels = rows.await?.into_iter().map(|row| row.label).collect();
        Ok((labels, self.here.facts(&record.home, self.clock.now())))
    }

    /// No byte moves before a verdict.
    pub(super) async fn may_evaluate(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<(), JobError> {
        let record = self.record(artifact).await?;
        let record = record.ok_or_else(|| JobError::Missing(artifact.to_string()))?;
        let (labels, facts) = self.labels(&record, artifact, manifest).await?;
        let verdict = decide(&labels, &facts, Action::Evaluate, &self.here.place());
        if verdict.allowed {
            return Ok(());
        }
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        Err(JobError::Denied(reasons.join("; ")))
    }
}
