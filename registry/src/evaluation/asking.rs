//! The site asks its models what the configured suites ask, after their weights were measured.
//!
//! What there is to ask is derived from the ledger like everything that is weighed: models without a scorecard of this
//! engine, in this precision, on the suite's manifest. A suite is read once for all models that wait for it. The forward
//! pass runs on threads of lower priority; when the site stops, the task is dropped, which has them stop at the next layer,
//! and nothing is said.
//!
//! Of a suite's documents nothing leaves: the statement has sums, the details log-likelihoods by position.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use waag_kernels::language::{LanguageError, Options, Precision, Residency};
use waag_schema::base::name::{Reference, Version};
use waag_schema::content::recipe::Recipe;
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::{Details, Scorecard, Section, SuiteRelease};
use waag_schema::statement::{Predicate, Statement, Subject};
use waag_schema::{ArtifactName, Sha256};

use super::device;
use super::language::{self, SECTION, Scored};
use super::leases::Task;
use super::source::StoreSource;
use super::suite::{self, DESCRIPTION_BYTES_MAX, DOCUMENT_BYTES_MAX, ReadSuite, SuiteError};
use super::weigher::{JobError, PAGE, TRIES_MAX, Weigher, give_way};
use crate::config::{Weigh, WeighPrecision};
use crate::content::{Content, ContentError};
use crate::index::IndexError;
use crate::store::Key;

/// What the site asks its models, and within which bounds.
#[derive(Debug, Clone)]
pub(crate) struct Suites {
    named: Vec<Reference>,
    pub(super) precision: Precision,
    pub(super) memory_bytes: u64,
    time: Duration,
    /// How long it may take to measure how fast a model is, if that is measured.
    pub(super) speed: Option<Duration>,
}

impl Suites {
    /// Takes what the operator decided; names that cannot be read were refused with the file.
    pub(crate) fn of(config: &Weigh) -> Self {
        Self {
            named: config.suites().unwrap_or_default(),
            precision: match config.precision {
                WeighPrecision::F32 => Precision::F32,
                WeighPrecision::Bf16 => Precision::Bf16,
            },
            memory_bytes: config.memory_mib << 20,
            time: Duration::from_secs(config.minutes.saturating_mul(60)),
            speed: config.speed.then(|| Duration::from_secs(config.speed_seconds)),
        }
    }

    /// How long a suite may take on a model.
    pub(super) const fn seconds(&self) -> u64 {
        self.time.as_secs()
    }

    pub(super) const fn precision(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Ends a forward pass when nobody waits for it any more.
pub(super) struct Cancel(pub(super) Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Weigher {
    /// Finds out which releases of which suites are asked now, and says so to who waits.
    pub(super) async fn name_suites(&self) -> Result<Vec<SuiteRelease>, IndexError> {
        let mut found: Vec<SuiteRelease> = Vec::new();
        for reference in &self.suites.named {
            let Reference { artifact, version } = reference.clone();
            let name = artifact.clone();
            let manifest = match version {
                Version::Manifest(manifest) => Some(manifest),
                Version::Tag(tag) => {
                    let view = self.reader.ask(move |q| q.tag(&name, &tag)).await?;
                    view.map(|view| view.manifest)
                }
            };
            if let Some(manifest) = manifest
                && !found.iter().any(|suite| suite.manifest == manifest)
            {
                found.push(SuiteRelease { artifact, manifest });
            }
        }
        self.progress.name_suites(found.clone(), self.suites.precision());
        Ok(found)
    }

    /// Asks what was not asked yet.
    pub(super) async fn ask_all(&self) -> Result<(), IndexError> {
        for suite in self.name_suites().await? {
            let mut read = None;
            let mut from = 0;
            loop {
                let (engine, manifest, precision) =
                    (language::engine(), suite.manifest, self.suites.precision());
                let found = self
                    .reader
                    .ask(move |q| {
                        let engine = (engine.name.as_str(), engine.version.as_str());
                        q.unasked(&manifest, engine, precision, from, PAGE)
                    })
                    .await?;
                if found.is_empty() {
                    break;
                }
                for (position, artifact, release) in found {
                    from = position + 1;
                    self.ask_until_done(position, &artifact, &release, &suite, &mut read)
                        .await;
                }
            }
        }
        Ok(())
    }

    async fn ask_until_done(
        &self,
        position: u64,
        artifact: &ArtifactName,
        release: &Sha256,
        suite: &SuiteRelease,
        read: &mut Option<Arc<ReadSuite>>,
    ) {
        while !self.progress.is_given_up(artifact, release, Some(suite)) {
            let task = Task {
                artifact: artifact.clone(),
                manifest: *release,
                suite: Some(suite.clone()),
            };
            let asking = self.ask(artifact, release, suite, read);
            let Err(failed) = self.under_lease(position, task, asking).await else {
                return;
            };
            let why = failed.to_string();
            let fail = |tries| self.progress.fail(artifact, release, Some(suite), &why, tries);
            if matches!(failed, JobError::Denied(_) | JobError::Suite(_)) {
                // Until the next start: nothing that is tried again now would change it.
                fail(1);
                tracing::info!(%artifact, suite = %suite.artifact, error = %failed, "not asked");
                return;
            }
            let tries = fail(TRIES_MAX);
            self.metrics.weigh_failures.inc();
            tracing::warn!(%artifact, suite = %suite.artifact, error = %failed, tries, "asking failed");
        }
    }

    async fn ask(
        &self,
        artifact: &ArtifactName,
        release: &Sha256,
        suite: &SuiteRelease,
        read: &mut Option<Arc<ReadSuite>>,
    ) -> Result<(), JobError> {
        self.may_evaluate(&suite.artifact).await?;
        self.may_evaluate(artifact).await?;
        let questions = match read {
            Some(questions) => Arc::clone(questions),
            None => Arc::clone(read.insert(Arc::new(self.suite(suite).await?))),
        };
        let manifest = self.manifest(release).await?;
        let files = self.model_files(artifact, &manifest).await?;
        let weights = files.iter().filter(|(path, _)| path.ends_with(".safetensors"));
        let total = weights.map(|(_, recipe)| recipe.size()).sum();
        self.progress.begin(artifact, release, Some(suite), total);
        let scored = if manifest.packed().is_some() {
            Scored::none("the release's files are packed")
        } else {
            self.forward(files, questions).await?
        };
        let details = scored.details();
        let scorecard = Scorecard {
            at: self.clock.now(),
            harness: language::engine(),
            device: device(),
            precision: self.suites.precision().to_owned(),
            suite: Some(suite.clone()),
            sections: vec![scored.section],
            details: (!details.is_empty()).then(|| Details {
                sha256: Sha256::of(&details),
                size: details.len() as u64,
            }),
        };
        if let Some(named) = &scorecard.details {
            let key = Key::scorecard(&named.sha256);
            self.store.put_if_absent(&key, Bytes::from(details)).await?;
        }
        let statement = Statement {
            subject: Subject::Manifest(artifact.clone(), *release),
            predicate: Predicate::Scorecard(scorecard),
        };
        self.ledger.say(statement).await?;
        self.metrics.asked.inc();
        self.progress.end();
        tracing::info!(%artifact, manifest = %release, suite = %suite.artifact, "asked");
        Ok(())
    }

    async fn manifest(&self, digest: &Sha256) -> Result<Manifest, JobError> {
        let bytes = self.store.get(&Key::manifest(digest)).await?;
        Manifest::parse(bytes.to_vec()).map_err(|e| JobError::Manifest(e.to_string()))
    }

    /// Reads a suite from the store.
    async fn suite(&self, suite: &SuiteRelease) -> Result<ReadSuite, JobError> {
        let manifest = self.manifest(&suite.manifest).await?;
        let bad = |why: String| JobError::Suite(format!("{}: {why}", suite.artifact));
        if manifest.kind() != Kind::Suite {
            return Err(bad(format!("it is a {}", manifest.kind())));
        }
        let mut files = BTreeMap::new();
        for layer in manifest.layers() {
            let recipe = self.recipe(&suite.artifact, &layer.blob.digest).await?;
            files.insert(layer.path.to_string(), recipe);
        }
        let read = read_suite(&self.content, files).await?;
        read.map_err(|e| bad(e.to_string()))
    }

    /// Returns the files at the top of a release.
    pub(super) async fn model_files(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<BTreeMap<String, Recipe>, JobError> {
        let mut files = BTreeMap::new();
        for layer in manifest.layers() {
            if !layer.path.as_str().contains('/') {
                let recipe = self.recipe(artifact, &layer.blob.digest).await?;
                files.insert(layer.path.to_string(), recipe);
            }
        }
        Ok(files)
    }

    /// Runs a model on threads of lower priority, for as long as it may take.
    async fn forward(
        &self,
        files: BTreeMap<String, Recipe>,
        questions: Arc<ReadSuite>,
    ) -> Result<Scored, JobError> {
        let cancel = Arc::new(AtomicBool::new(false));
        let _ended = Cancel(Arc::clone(&cancel));
        let source = StoreSource {
            files,
            content: self.content.clone(),
            runtime: Handle::current(),
            progress: self.progress.clone(),
            cancel: Arc::clone(&cancel),
            kept: Mutex::new(VecDeque::new()),
        };
        let (precision, memory_bytes) = (self.suites.precision, self.suites.memory_bytes);
        let (answer, mut answered) = oneshot::channel();
        let stop = Arc::clone(&cancel);
        let run = move || {
            give_way();
            let options = Options {
                precision,
                residency: Residency::Streaming,
                memory_bytes,
                cancel: Some(&stop),
                ..Options::default()
            };
            let pool = rayon::ThreadPoolBuilder::new()
                .thread_name(|at| format!("ask-{at}"))
                .start_handler(|_| give_way())
                .build();
            let scored = match pool {
                Ok(pool) => pool.install(|| language::score(&source, &questions, options)),
                // Threads are short: this one is there.
                Err(_) => language::score(&source, &questions, options),
            };
            // Who waits may have gone: then nobody wants it.
            let _ = answer.send(scored);
        };
        std::thread::Builder::new()
            .name("ask".to_owned())
            .spawn(run)
            .map_err(|e| JobError::Thread(e.to_string()))?;
        let mut late = false;
        let ended = match tokio::time::timeout(self.suites.time, &mut answered).await {
            Ok(ended) => ended,
            Err(_) => {
                late = true;
                cancel.store(true, Ordering::Relaxed);
                answered.await
            }
        };
        match ended.map_err(|_| JobError::Thread("it panicked".to_owned()))? {
            Ok(scored) => Ok(scored),
            Err(LanguageError::Cancelled | LanguageError::Read { .. }) if late => {
                Ok(Scored::too_long(self.suites.time.as_secs() / 60))
            }
            // The store may be better next time; what is wrong with the model stays wrong.
            Err(error @ (LanguageError::Read { .. } | LanguageError::Cancelled)) => {
                Err(JobError::Thread(error.to_string()))
            }
            Err(error) => Ok(Scored::none(&error.to_string())),
        }
    }
}

impl Scored {
    /// The time that a site gives a suite was over.
    pub(super) fn too_long(minutes: u64) -> Self {
        Self::none(&format!(
            "it takes longer than the {minutes} minutes that this site gives it"
        ))
    }

    /// Nothing was measured.
    pub(super) fn none(reason: &str) -> Self {
        Self {
            section: Section::not_measured(SECTION, reason),
            language: None,
            not_measured: Vec::new(),
        }
    }
}

/// Reads a suite from these files of the store; what can be no part of a suite is passed over.
pub(crate) async fn read_suite(
    content: &Content,
    files: BTreeMap<String, Recipe>,
) -> Result<Result<ReadSuite, SuiteError>, ContentError> {
    let mut held = BTreeMap::new();
    let mut left = DOCUMENT_BYTES_MAX;
    for (path, recipe) in files.into_iter().filter(|(path, _)| suite::is_part(path)) {
        let limit = if suite::is_description(&path) {
            DESCRIPTION_BYTES_MAX
        } else {
            left
        };
        if recipe.size() > limit {
            let problem = format!("has {} bytes, {limit} more are read of a suite", recipe.size());
            return Ok(Err(SuiteError::File { path, problem }));
        }
        if !suite::is_description(&path) {
            left -= recipe.size();
        }
        let bytes = content.head(&recipe, recipe.size()).await?;
        held.insert(path, bytes);
    }
    Ok(content.on_pool(move || suite::of_files(&held)).await)
}
