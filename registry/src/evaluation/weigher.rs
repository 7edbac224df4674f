//! The site's own weigher: looks in the index for releases that have no scorecard of this engine, has their files measured
//! on its [`Bench`], and has the ledger record what was found.
//!
//! When the site stops, the task is dropped, and whoever measures ends; nothing was said, and the next start begins that
//! release anew. The same happens to a release that is withdrawn while it is measured.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::content::recipe::Recipe;
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::{Details, Scorecard, SuiteRelease};
use waag_schema::statement::{Predicate, Statement, Subject};
use waag_schema::{ArtifactName, Sha256};

use super::bench::{self, Bench};
use super::directory::is_weighed;
use super::leases::{Holder, Leases, Task};
use super::line::{Done, Lineage, Order, Shelf, Work};
use super::weights::put;
use super::{PRECISION, Progress, Suites, engine, lineage};
use crate::access::Here;
use crate::clock::Clock;
use crate::content::{Content, ContentError};
use crate::index::{IndexError, Reader};
use crate::ledger::{AppendError, FollowedLedgers, Ledger};
use crate::store::{Key, Store, StoreError};
use crate::telemetry::Metrics;

/// Releases looked up at once.
pub(super) const PAGE: usize = 64;
/// How often a release is tried before it is given up, until the next start.
pub(super) const TRIES_MAX: u32 = 3;
/// When all releases are looked through again: labels change, and what failed may have been put right.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// How often the index is asked whether it has come as far as what is published, and how many times.
const FOLDED_EVERY: Duration = Duration::from_millis(10);
const FOLDED_TRIES: u32 = 500;
/// The weigher gives way to everything else by so much.
const NICE: i32 = 10;
/// What a weigher takes of memory beside what the operator allows to a model's rows: its program and threads, chunks, a
/// header of the greatest size, a row for each tensor, a suite.
const LIMIT_BYTES_BASE: u64 = 1 << 30;
/// Weights are given so much time beside what the operator allows to a suite: that of a slow disk.
pub(super) const BYTES_A_SECOND_MIN: u64 = 10 << 20;
/// The sections of a scorecard of weights.
pub(super) const SECTIONS: [&str; 4] = ["weights", "lineage", "language", "speed"];

/// Weighs what a site holds.
pub(crate) struct Weigher {
    pub(crate) here: Here,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) reader: Reader,
    pub(crate) content: Content,
    pub(crate) ledger: Ledger,
    /// Those of the homes of what the site holds copies of.
    pub(crate) ledgers: FollowedLedgers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) progress: Progress,
    pub(crate) suites: Suites,
    pub(crate) leases: Leases,
    pub(crate) bench: Bench,
}

/// A release was not weighed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error("its label denies that it is evaluated here: {0}")]
    Denied(String),
    #[error("the manifest is not one that can be read: {0}")]
    Manifest(String),
    #[error("the suite cannot be used: {0}")]
    Suite(String),
    #[error("{0} is not here")]
    Missing(String),
    #[error("the lease: {0}")]
    Lease(String),
    #[error("it was withdrawn")]
    Withdrawn,
    #[error("it takes longer than {} minutes", .0.as_secs().div_ceil(60))]
    Late(Duration),
    /// The files could not be measured, as the weigher says.
    #[error("{0}")]
    Measure(String),
    /// The weigher could not measure.
    #[error("the weigher {0}")]
    Weigher(String),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Weigher {
    /// Weighs for ever. Dropping the future ends it at once.
    pub(crate) async fn run(self) {
        self.progress.turn_on();
        let mut growth = self.ledger.growth();
        let mut again = tokio::time::interval(AGAIN_AFTER);
        let mut from = 0;
        loop {
            let published = growth.borrow_and_update().checkpoint().size;
            self.folded(published).await;
            match self.look_and_ask(from).await {
                Ok(next) => from = next,
                Err(error) => tracing::error!(%error, "it cannot be seen what there is to weigh"),
            }
            tokio::select! {
                changed = growth.changed() => if changed.is_err() { return },
                _ = again.tick() => from = 0,
            }
        }
    }

    /// Waits until the index holds what is published now.
    pub(super) async fn folded_now(&self) {
        let published = self.ledger.growth().borrow().checkpoint().size;
        self.folded(published).await;
    }

    /// Waits until the index holds what is published, which it does a moment later: what is looked for too early
    /// would be looked for again only when more comes.
    async fn folded(&self, size: u64) {
        let mut ticks = tokio::time::interval(FOLDED_EVERY);
        for _ in 0..FOLDED_TRIES {
            ticks.tick().await;
            // An index that fails says so when it is asked what there is to weigh.
            if self
                .reader
                .ask(|q| q.size())
                .await
                .is_ok_and(|folded| folded >= size)
            {
                return;
            }
        }
    }

    /// Weighs what has no scorecard yet from this position on, then asks what was not asked yet; returns from where to
    /// look next.
    pub(crate) async fn look_and_ask(&self, from: u64) -> Result<u64, IndexError> {
        let next = self.look(from).await?;
        self.ask_all().await?;
        Ok(next)
    }

    /// Weighs what has no scorecard yet from this position on; returns from where to look next.
    pub(super) async fn look(&self, mut from: u64) -> Result<u64, IndexError> {
        loop {
            let found = self.open(None, from, PAGE).await?;
            if found.is_empty() {
                return Ok(from);
            }
            for (position, artifact, manifest) in found {
                from = position + 1;
                // Who waits for the scorecard of the weights shall know of those that follow.
                self.name_suites().await?;
                let task = Task {
                    artifact: artifact.clone(),
                    manifest,
                    suite: None,
                };
                if !self.is_due(&task).await? {
                    continue;
                }
                while !self.progress.is_given_up(&artifact, &manifest, None) {
                    let weighing = self.weigh(&artifact, &manifest);
                    match self.under_lease(position, task.clone(), weighing).await {
                        Ok(_) => break,
                        Err(error @ JobError::Withdrawn) => {
                            tracing::info!(%artifact, %manifest, %error, "not weighed");
                            self.progress.end();
                            break;
                        }
                        Err(error @ JobError::Denied(_)) => {
                            // The label decides, and may change; it is looked at again.
                            tracing::info!(%artifact, %manifest, %error, "not weighed");
                            self.progress
                                .fail(&artifact, &manifest, None, &error.to_string(), u32::MAX);
                            break;
                        }
                        Err(error) => {
                            let tries =
                                self.progress
                                    .fail(&artifact, &manifest, None, &error.to_string(), TRIES_MAX);
                            self.metrics.weigh_failures.inc();
                            tracing::warn!(%artifact, %manifest, %error, tries, "weighing failed");
                        }
                    }
                }
            }
        }
    }

    /// Does a job under a lease of the site's own. Nothing is done where another has it, or has done it: then it says
    /// false.
    pub(super) async fn under_lease(
        &self,
        position: u64,
        task: Task,
        job: impl Future<Output = Result<(), JobError>>,
    ) -> Result<bool, JobError> {
        let taken = self.taken(position, task.clone(), Holder::Site).await;
        let Some(lease) = taken.map_err(|e| JobError::Lease(e.to_string()))? else {
            return Ok(false);
        };
        let keep = async {
            let mut ticks = tokio::time::interval(Duration::from_secs(self.leases.seconds.div_ceil(4)));
            loop {
                ticks.tick().await;
                let held = self.leases.held(&lease.id(), |of| *of == Holder::Site).await;
                let renewed = match held {
                    Ok(Some((lease, version))) => self.leases.renew(&lease, &version).await,
                    other => other.map(|_| None),
                };
                match renewed {
                    Ok(Some(_)) => {}
                    Ok(None) => return JobError::Lease("it was lost".to_owned()),
                    Err(error) => tracing::warn!(%error, "a lease could not be renewed"),
                }
            }
        };
        let done = tokio::select! {
            done = job => done,
            error = keep => Err(error),
            error = self.withdrawn(&task) => Err(error),
        };
        self.leases.end(&lease).await?;
        done.map(|()| true)
    }

    /// Waits until the release, or the suite that it is asked, is withdrawn.
    async fn withdrawn(&self, task: &Task) -> JobError {
        let mut growth = self.ledger.growth();
        let suite = task.suite.as_ref();
        let subjects = [(&task.artifact, &task.manifest)]
            .into_iter()
            .chain(suite.map(|suite| (&suite.artifact, &suite.manifest)));
        loop {
            let published = growth.borrow_and_update().checkpoint().size;
            self.folded(published).await;
            for (artifact, manifest) in subjects.clone() {
                match self.is_withdrawn(artifact, manifest).await {
                    Ok(true) => return JobError::Withdrawn,
                    Ok(false) => {}
                    // Then it is measured to its end.
                    Err(error) => tracing::warn!(%error, "it cannot be seen whether a release is withdrawn"),
                }
            }
            if growth.changed().await.is_err() {
                // The site is stopping, and ends this.
                return std::future::pending().await;
            }
        }
    }

    /// Is it withdrawn, as its home's ledger says?
    async fn is_withdrawn(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<bool, IndexError> {
        let Some(record) = self.record(artifact).await? else {
            return Ok(true);
        };
        let (artifact, manifest) = (artifact.clone(), *manifest);
        let found = record.index.ask(move |q| q.withdrawal(&artifact, &manifest));
        Ok(found.await?.is_some())
    }

    async fn weigh(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<(), JobError> {
        self.may_evaluate(artifact, manifest).await?;
        let parsed = self.manifest(manifest).await?;
        let done = self.measure(artifact, manifest, &parsed).await?;
        bench::check(&done.sections, &SECTIONS, &done.details).map_err(JobError::Measure)?;
        self.say(artifact, manifest, None, done).await?;
        self.metrics.weighed.inc();
        self.progress.end();
        tracing::info!(%artifact, %manifest, "weighed");
        Ok(())
    }

    /// Enters what was found in the ledger.
    pub(super) async fn say(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        suite: Option<SuiteRelease>,
        done: Done,
    ) -> Result<(), JobError> {
        let (harness, precision) = match &suite {
            None => (engine(), PRECISION),
            Some(_) => (super::language::engine(), self.suites.precision()),
        };
        let scorecard = Scorecard {
            at: self.clock.now(),
            harness,
            device: done.device,
            precision: precision.to_owned(),
            suite,
            sections: done.sections,
            details: (!done.details.is_empty()).then(|| Details {
                sha256: Sha256::of(&done.details),
                size: done.details.len() as u64,
            }),
        };
        scorecard.check().map_err(JobError::Measure)?;
        Ok(self.enter(artifact, manifest, scorecard, done.details).await?)
    }

    /// Keeps a scorecard's details, then has the ledger record it. A crash in between leaves details that nothing names.
    pub(super) async fn enter(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        scorecard: Scorecard,
        details: Vec<u8>,
    ) -> Result<(), AppendError> {
        if let Some(named) = &scorecard.details {
            let key = Key::scorecard(&named.sha256);
            self.store.put_if_absent(&key, Bytes::from(details)).await?;
        }
        let statement = Statement {
            subject: Subject::Manifest(artifact.clone(), *manifest),
            predicate: Predicate::Scorecard(scorecard),
        };
        self.ledger.say(statement).await?;
        Ok(())
    }

    /// Reads a manifest that is stored here.
    pub(super) async fn manifest(&self, digest: &Sha256) -> Result<Manifest, JobError> {
        let bytes = self.store.get(&Key::manifest(digest)).await?;
        Manifest::parse(bytes.to_vec()).map_err(|e| JobError::Manifest(e.to_string()))
    }

    async fn measure(
        &self,
        artifact: &ArtifactName,
        digest: &Sha256,
        manifest: &Manifest,
    ) -> Result<Done, JobError> {
        let model = self.files(artifact, manifest).await?;
        let total = model.values().map(Recipe::size).sum();
        self.progress.begin(artifact, digest, None, total);
        let (lineage, other) = self.lineage(artifact, manifest).await?;
        let order = Order {
            work: Work::Weights {
                why_none: why_none(manifest),
                lineage,
            },
            device: self.suites.device(),
            limit_bytes: self.limit_bytes(0),
            model,
            other,
        };
        let limit = self.suites.time() + Duration::from_secs(total / BYTES_A_SECOND_MIN);
        let passed = |bytes| {
            self.progress.passed(bytes);
            self.metrics.weighed_bytes.inc_by(bytes);
        };
        let mut done = self.carried_out(&order, limit, passed).await?;
        if let Some(speed) = self.speed(artifact, manifest, &done.device).await? {
            put(&mut done.sections, speed);
        }
        Ok(done)
    }

    /// Has an order carried out; says in the log what computes, if that is not what it could have been.
    pub(super) async fn carried_out(
        &self,
        order: &Order,
        limit: Duration,
        passed: impl Fn(u64) + Sync,
    ) -> Result<Done, JobError> {
        let done = self.bench.measure(order, &self.content, limit, passed).await?;
        if let Some(why) = &done.fallback
            && self.progress.note_fallback(why)
        {
            tracing::info!("measuring on the processor: {why}");
        }
        Ok(done)
    }

    /// Returns how much memory a weigher may take that has so many bytes of weights to hold, in parts.
    pub(super) fn limit_bytes(&self, weights: u64) -> u64 {
        let base = LIMIT_BYTES_BASE + self.suites.memory_bytes();
        base.saturating_add(weights)
    }

    /// Finds out what the weights of a release are compared with.
    async fn lineage(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<(Lineage, Shelf), JobError> {
        let (name, digest) = match self.base_of(artifact, manifest).await? {
            Ok(base) => base,
            Err(why) => return Ok((Lineage::None(why.to_owned()), Shelf::new())),
        };
        let theirs = self.manifest(&digest).await?;
        let lineage = Lineage::Base {
            tokenizer_equal: lineage::same_tokenizer(manifest, &theirs),
        };
        Ok((lineage, self.files(&name, &theirs).await?))
    }

    /// Finds the base that the weights of a release are compared with, or says why there is none.
    pub(super) async fn base_of(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<Result<(ArtifactName, Sha256), &'static str>, JobError> {
        let Some(base) = manifest.base() else {
            return Ok(Err("no base is named"));
        };
        let Version::Manifest(digest) = &base.version else {
            return Ok(Err("the base is not named by its digest"));
        };
        let is_own = base.artifact.namespace() == artifact.namespace();
        let is_here = match self.record(&base.artifact).await? {
            Some(record) if record.is_public() || is_own => {
                self.is_here(&record, &base.artifact, digest).await?
            }
            _ => false,
        };
        if !is_here {
            return Ok(Err(
                "the base is not at this site, for all who may read the release",
            ));
        }
        match self.may_evaluate(&base.artifact, digest).await {
            Err(JobError::Denied(_)) => {
                return Ok(Err("the label of the base denies that it is evaluated here"));
            }
            other => other?,
        }
        Ok(Ok((base.artifact.clone(), *digest)))
    }

    /// Returns the safetensors files of a model, by path.
    async fn files(&self, artifact: &ArtifactName, manifest: &Manifest) -> Result<Shelf, JobError> {
        let mut files = Shelf::new();
        for (path, digest) in weighed_files(manifest) {
            files.insert(path, self.recipe(artifact, &digest).await?);
        }
        Ok(files)
    }

    pub(super) async fn recipe(&self, artifact: &ArtifactName, file: &Sha256) -> Result<Recipe, JobError> {
        let missing = || JobError::Missing(format!("the file {file}"));
        let record = self.record(artifact).await?.ok_or_else(missing)?;
        let (wanted, digest) = (artifact.clone(), *file);
        let row = record.index.ask(move |q| q.content_of(&wanted, &digest)).await?;
        let row = row.ok_or_else(missing)?;
        self.content.recipe(&row.recipe).await?.ok_or_else(missing)
    }
}

/// Returns the files of a release that are measured, by path.
pub(super) fn weighed_files(manifest: &Manifest) -> Vec<(String, Sha256)> {
    let is_model = manifest.kind() == Kind::Model;
    let layers = manifest.layers().iter().filter(|_| is_model);
    let mut files: Vec<_> = layers
        .filter(|layer| is_weighed(layer.path.as_str()))
        .map(|layer| (layer.path.to_string(), layer.blob.digest))
        .collect();
    files.sort();
    files
}

/// Says why nothing is measured on a release without such files.
pub(super) fn why_none(manifest: &Manifest) -> String {
    match (manifest.kind(), manifest.packed()) {
        (Kind::Model, None) => "the release has no safetensors file".to_owned(),
        (Kind::Model, Some(_)) => "the release has no safetensors file that is not packed".to_owned(),
        (kind, _) => format!("it is a {kind}"),
    }
}

/// Lets this thread run only where nobody else wants to.
pub(super) fn give_way() {
    // On Linux this is the thread's alone. Where it is refused, it runs like the others.
    let _ = rustix::process::nice(NICE);
}
