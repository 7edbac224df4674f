//! The site's own weigher: looks in the index for releases that have no scorecard of this engine, reads their files
//! from the store, and has the ledger record what was found.
//!
//! Chunks are read on the async threads; decoding, checking and measuring runs on one thread of lower priority, so that
//! no transfer waits for it. Between the two are at most [`AHEAD`] chunks. When the site stops, the task is dropped, the
//! thread finds its channel closed and ends; nothing was said, and the next start begins that release anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use waag_schema::base::name::Version;
use waag_schema::content::recipe::{Piece, Recipe};
use waag_schema::policy::{Action, Label, decide};
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::Section;
use waag_schema::statement::{Predicate, Statement, Subject, Visibility};
use waag_schema::{ArtifactName, Sha256};

use super::directory::is_weighed;
use super::leases::{Holder, Leases, Task};
use super::{Progress, Suites, WeighError, Weighed, Weighing, engine, lineage};
use crate::access::Here;
use crate::clock::Clock;
use crate::content::{Content, ContentError};
use crate::index::{IndexError, Reader};
use crate::ledger::{AppendError, Ledger};
use crate::store::{Key, Store, StoreError};
use crate::telemetry::Metrics;

/// Chunks between reading and measuring, of 4 MiB at most.
const AHEAD: usize = 4;
/// Releases looked up at once.
pub(super) const PAGE: usize = 64;
/// How often a release is tried before it is given up, until the next start.
pub(super) const TRIES_MAX: u32 = 3;
/// When all releases are looked through again: labels change, and what failed may have been put right.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
/// How often the index is asked whether it has come as far as what is published, and how many times.
const FOLDED_EVERY: Duration = Duration::from_millis(10);
const FOLDED_TRIES: u32 = 500;
/// The weigher's thread gives way to everything else by so much.
const NICE: i32 = 10;

/// Weighs what a site holds.
pub(crate) struct Weigher {
    pub(crate) here: Here,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) reader: Reader,
    pub(crate) content: Content,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) progress: Progress,
    pub(crate) suites: Suites,
    pub(crate) leases: Leases,
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
    #[error(transparent)]
    Weigh(#[from] WeighError),
    #[error("the weigher's thread ended: {0}")]
    Thread(String),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What the measuring thread is told.
enum Step {
    Begin(String, u64),
    Piece(Piece, Bytes),
    End,
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
            let engine = engine();
            let found = self
                .reader
                .ask(move |q| q.unweighed(&engine.name, &engine.version, from, PAGE))
                .await?;
            if found.is_empty() {
                return Ok(from);
            }
            for (position, artifact, manifest) in found {
                from = position + 1;
                // Who waits for the scorecard of the weights shall know of those that follow.
                self.name_suites().await?;
                while !self.progress.is_given_up(&artifact, &manifest, None) {
                    let task = Task {
                        artifact: artifact.clone(),
                        manifest,
                        suite: None,
                    };
                    let weighing = self.weigh(&artifact, &manifest);
                    match self.under_lease(position, task, weighing).await {
                        Ok(_) => break,
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
        let taken = self.taken(position, task, Holder::Site).await;
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
        };
        self.leases.end(&lease).await?;
        done.map(|()| true)
    }

    async fn weigh(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<(), JobError> {
        self.may_evaluate(artifact).await?;
        let bytes = self.store.get(&Key::manifest(manifest)).await?;
        let parsed = Manifest::parse(bytes.to_vec()).map_err(|e| JobError::Manifest(e.to_string()))?;
        let weighed = self.measure(artifact, manifest, &parsed).await?;
        let scorecard = weighed.scorecard(self.clock.now());
        if let Some(details) = &scorecard.details {
            let key = Key::scorecard(&details.sha256);
            self.store
                .put_if_absent(&key, Bytes::from(weighed.details))
                .await?;
        }
        let statement = Statement {
            subject: Subject::Manifest(artifact.clone(), *manifest),
            predicate: Predicate::Scorecard(scorecard),
        };
        self.ledger.say(statement).await?;
        self.metrics.weighed.inc();
        self.progress.end();
        tracing::info!(%artifact, %manifest, "weighed");
        Ok(())
    }

    /// No byte moves before a verdict.
    pub(super) async fn may_evaluate(&self, artifact: &ArtifactName) -> Result<(), JobError> {
        let wanted = artifact.clone();
        let rows = self.reader.ask(move |q| q.labels(&wanted)).await?;
        let labels: Vec<Label> = rows.into_iter().map(|row| row.label).collect();
        let facts = self.here.facts(&self.here.site, self.clock.now());
        let verdict = decide(&labels, &facts, Action::Evaluate, &self.here.place());
        if verdict.allowed {
            return Ok(());
        }
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        Err(JobError::Denied(reasons.join("; ")))
    }

    async fn measure(
        &self,
        artifact: &ArtifactName,
        digest: &Sha256,
        manifest: &Manifest,
    ) -> Result<Weighed, JobError> {
        let files = self.files(artifact, manifest).await?;
        let total = files.iter().map(|(_, recipe)| recipe.size()).sum();
        self.progress.begin(artifact, digest, None, total);
        let why = why_none(manifest);
        let weighing = self.read(&files).await?;
        let (lineage, changed) = self.lineage(artifact, manifest, &files, &weighing).await?;
        let weighed = weighing.finish_with(&why, lineage, &changed);
        Ok(match self.speed(artifact, manifest).await? {
            Some(speed) => weighed.with(speed),
            None => weighed,
        })
    }

    /// Measures these files.
    async fn read(&self, files: &[(String, Recipe)]) -> Result<Weighing, JobError> {
        let (steps, taken) = mpsc::channel(AHEAD);
        let (answer, answered) = oneshot::channel();
        std::thread::Builder::new()
            .name("weigh".to_owned())
            .spawn(move || {
                // Who waits may have gone: then nobody wants it.
                let _ = answer.send(take(taken));
            })
            .map_err(|e| JobError::Thread(e.to_string()))?;
        // A step that cannot be sent means that the thread has ended, and its answer says why.
        let sent = self.send(&steps, files).await;
        drop(steps);
        match answered.await {
            Ok(Ok(weighing)) => sent.map(|()| weighing),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(JobError::Thread("it panicked".to_owned())),
        }
    }

    /// Compares the weights with those of the base that the release names, if it names one that is here.
    async fn lineage(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
        files: &[(String, Recipe)],
        weighing: &Weighing,
    ) -> Result<(Section, Vec<lineage::Row>), JobError> {
        let none = |why: &str| Ok((Section::not_measured("lineage", why), Vec::new()));
        let (name, digest) = match self.base_of(artifact, manifest).await? {
            Ok(base) => base,
            Err(why) => return none(why),
        };
        let bytes = self.store.get(&Key::manifest(&digest)).await?;
        let theirs = Manifest::parse(bytes.to_vec()).map_err(|e| JobError::Manifest(e.to_string()))?;
        let stored = |files: Vec<(String, Recipe)>| {
            let place = |recipe| lineage::Place::Stored(self.content.clone(), recipe);
            files
                .into_iter()
                .map(|(path, recipe)| (path, place(recipe)))
                .collect()
        };
        let base_files = stored(self.files(&name, &theirs).await?);
        lineage::of(
            (manifest, stored(files.to_vec())),
            (&theirs, base_files),
            weighing,
        )
        .await
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
        let (name, wanted) = (base.artifact.clone(), *digest);
        let (namespace, release) = self
            .reader
            .ask(move |q| Ok((q.namespace(&name.namespace())?, q.release(&name, &wanted)?)))
            .await?;
        let is_public = namespace.is_some_and(|state| state.visibility == Visibility::Public);
        let is_own = base.artifact.namespace() == artifact.namespace();
        if release.is_none() || !(is_public || is_own) {
            return Ok(Err(
                "the base is not at this site, for all who may read the release",
            ));
        }
        match self.may_evaluate(&base.artifact).await {
            Err(JobError::Denied(_)) => {
                return Ok(Err("the label of the base denies that it is evaluated here"));
            }
            other => other?,
        }
        Ok(Ok((base.artifact.clone(), *digest)))
    }

    /// Returns the safetensors files of a model, by path.
    async fn files(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<Vec<(String, Recipe)>, JobError> {
        let mut files = Vec::new();
        for (path, digest) in weighed_files(manifest) {
            files.push((path, self.recipe(artifact, &digest).await?));
        }
        Ok(files)
    }

    async fn send(&self, steps: &mpsc::Sender<Step>, files: &[(String, Recipe)]) -> Result<(), JobError> {
        for (path, recipe) in files {
            if steps
                .send(Step::Begin(path.clone(), recipe.size()))
                .await
                .is_err()
            {
                return Ok(());
            }
            for piece in recipe.pieces() {
                let stored = self.content.stored_chunk(&piece.chunk).await?;
                if steps.send(Step::Piece(*piece, stored)).await.is_err() {
                    return Ok(());
                }
                self.progress.passed(u64::from(piece.length));
                self.metrics.weighed_bytes.inc_by(u64::from(piece.length));
            }
            if steps.send(Step::End).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) async fn recipe(&self, artifact: &ArtifactName, file: &Sha256) -> Result<Recipe, JobError> {
        let (wanted, digest) = (artifact.clone(), *file);
        let row = self.reader.ask(move |q| q.content_of(&wanted, &digest)).await?;
        let missing = || JobError::Missing(format!("the file {file}"));
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

/// Measures what comes, on a thread of its own.
fn take(mut steps: mpsc::Receiver<Step>) -> Result<Weighing, JobError> {
    give_way();
    let mut weighing = Weighing::new();
    while let Some(step) = steps.blocking_recv() {
        match step {
            Step::Begin(path, size) => weighing.begin(&path, size),
            Step::Piece(piece, stored) => {
                let damaged = || ContentError::Damaged {
                    what: "chunk",
                    digest: piece.chunk,
                };
                let raw = Content::opened(&stored, piece.chunk).ok_or_else(damaged)?;
                let own = raw.get(piece.offset as usize..piece.offset as usize + piece.length as usize);
                weighing.take(own.ok_or_else(damaged)?)?;
            }
            Step::End => weighing.end()?,
        }
    }
    Ok(weighing)
}

/// Lets this thread run only where nobody else wants to.
pub(super) fn give_way() {
    // On Linux this is the thread's alone. Where it is refused, it runs like the others.
    let _ = rustix::process::nice(NICE);
}
