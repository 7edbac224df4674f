//! The site has its models asked what the configured suites ask, after their weights were measured.
//!
//! What there is to ask is derived from the ledger like everything that is weighed: models without a scorecard of this
//! engine, in this precision, on the suite's manifest. When the site stops, the task is dropped, which ends whoever asks,
//! and nothing is said.
//!
//! Of a suite's documents nothing leaves: the statement has sums, the details log-likelihoods by position.

use std::collections::BTreeMap;
use std::time::Duration;

use waag_kernels::language::Precision;
use waag_schema::base::name::{Reference, Version};
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::{Section, SuiteRelease};
use waag_schema::{ArtifactName, Sha256};

use super::bench;
use super::device::{Computer, DeviceChoice};
use super::language::{SECTION, Scored};
use super::leases::Task;
use super::line::{Done, Order, Shelf, Work};
use super::suite::{self, ReadSuite, SuiteError};
use super::weigher::{JobError, PAGE, TRIES_MAX, Weigher};
use crate::config::{Weigh, WeighPrecision};
use crate::content::{Content, ContentError};
use crate::index::IndexError;

/// What the site asks its models, and within which bounds.
#[derive(Debug, Clone)]
pub(crate) struct Suites {
    named: Vec<Reference>,
    pub(super) precision: Precision,
    device: DeviceChoice,
    memory_bytes: u64,
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
            device: config.device,
            memory_bytes: config.memory_mib << 20,
            time: Duration::from_secs(config.minutes.saturating_mul(60)),
            speed: config.speed.then(|| Duration::from_secs(config.speed_seconds)),
        }
    }

    /// How long a suite may take on a model.
    pub(super) const fn seconds(&self) -> u64 {
        self.time.as_secs()
    }

    pub(super) const fn time(&self) -> Duration {
        self.time
    }

    /// How much memory a model's rows may take.
    pub(super) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What numbers are to be computed on, of weights as well.
    pub(super) const fn device(&self) -> DeviceChoice {
        self.device
    }

    pub(super) const fn precision(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl Weigher {
    /// Finds out which releases of which suites are asked now, and says so to who waits.
    pub(super) async fn name_suites(&self) -> Result<Vec<SuiteRelease>, IndexError> {
        let mut found: Vec<SuiteRelease> = Vec::new();
        for reference in &self.suites.named {
            let Reference { artifact, version } = reference.clone();
            let Some(record) = self.record(&artifact).await? else {
                continue;
            };
            let name = artifact.clone();
            let manifest = match version {
                Version::Manifest(manifest) => Some(manifest),
                Version::Tag(tag) => {
                    let view = record.index.ask(move |q| q.tag(&name, &tag)).await?;
                    view.map(|view| view.manifest)
                }
            };
            if let Some(manifest) = manifest
                && !found.iter().any(|suite| suite.manifest == manifest)
                && self.is_here(&record, &artifact, &manifest).await?
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
            let mut from = 0;
            loop {
                let found = self.open(Some(&suite), from, PAGE).await?;
                if found.is_empty() {
                    break;
                }
                for (position, artifact, release) in found {
                    from = position + 1;
                    self.ask_until_done(position, &artifact, &release, &suite).await;
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
    ) {
        let task = Task {
            artifact: artifact.clone(),
            manifest: *release,
            suite: Some(suite.clone()),
        };
        // An index that fails says so when it is asked what else there is to ask.
        if !self.is_due(&task).await.unwrap_or(false) {
            return;
        }
        while !self.progress.is_given_up(artifact, release, Some(suite)) {
            let asking = self.ask(artifact, release, suite);
            let Err(failed) = self.under_lease(position, task.clone(), asking).await else {
                return;
            };
            if matches!(failed, JobError::Withdrawn) {
                tracing::info!(%artifact, suite = %suite.artifact, error = %failed, "not asked");
                self.progress.end();
                return;
            }
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
    ) -> Result<(), JobError> {
        self.may_evaluate(&suite.artifact, &suite.manifest).await?;
        self.may_evaluate(artifact, release).await?;
        let other = self.suite(suite).await?;
        let manifest = self.manifest(release).await?;
        let model = self.model_files(artifact, &manifest).await?;
        let weights = model.iter().filter(|(path, _)| path.ends_with(".safetensors"));
        let total = weights.map(|(_, recipe)| recipe.size()).sum();
        self.progress.begin(artifact, release, Some(suite), total);
        let done = if manifest.packed().is_some() {
            unasked("the release's files are packed")
        } else {
            let order = Order {
                work: Work::Language {
                    bf16: self.suites.precision == Precision::Bf16,
                    memory_bytes: self.suites.memory_bytes,
                },
                device: self.suites.device,
                limit_bytes: self.limit_bytes(total),
                model,
                other,
            };
            let limit = self.suites.time;
            let passed = |bytes| self.progress.passed(bytes);
            match self.carried_out(&order, limit, passed).await {
                Ok(done) => done,
                Err(JobError::Suite(why)) => {
                    return Err(JobError::Suite(format!("{}: {why}", suite.artifact)));
                }
                Err(JobError::Late(limit)) => unasked(&too_long(limit.as_secs() / 60)),
                Err(error) => return Err(error),
            }
        };
        bench::check(&done.sections, &[SECTION], &done.details).map_err(JobError::Measure)?;
        self.say(artifact, release, Some(suite.clone()), done).await?;
        self.metrics.asked.inc();
        self.progress.end();
        tracing::info!(%artifact, manifest = %release, suite = %suite.artifact, "asked");
        Ok(())
    }

    /// Returns the files of a suite.
    async fn suite(&self, suite: &SuiteRelease) -> Result<Shelf, JobError> {
        let manifest = self.manifest(&suite.manifest).await?;
        if manifest.kind() != Kind::Suite {
            let why = format!("{}: it is a {}", suite.artifact, manifest.kind());
            return Err(JobError::Suite(why));
        }
        let mut files = Shelf::new();
        for layer in manifest.layers() {
            let recipe = self.recipe(&suite.artifact, &layer.blob.digest).await?;
            files.insert(layer.path.to_string(), recipe);
        }
        Ok(files)
    }

    /// Returns the files at the top of a release.
    pub(super) async fn model_files(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<Shelf, JobError> {
        let mut files = Shelf::new();
        for layer in manifest.layers() {
            if !layer.path.as_str().contains('/') {
                let recipe = self.recipe(artifact, &layer.blob.digest).await?;
                files.insert(layer.path.to_string(), recipe);
            }
        }
        Ok(files)
    }
}

/// Says that a model was not asked. Nothing has computed.
fn unasked(why: &str) -> Done {
    Done {
        device: Computer::processor(None).device(),
        fallback: None,
        sections: vec![Scored::none(why).section],
        details: Vec::new(),
    }
}

/// The time that a site gives a suite was over.
pub(super) fn too_long(minutes: u64) -> String {
    format!("it takes longer than the {minutes} minutes that this site gives it")
}

impl Scored {
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
    files: &Shelf,
) -> Result<Result<ReadSuite, SuiteError>, ContentError> {
    let sizes = files.iter().map(|(path, recipe)| (path.as_str(), recipe.size()));
    let parts = match suite::parts(sizes) {
        Ok(parts) => parts,
        Err(error) => return Ok(Err(error)),
    };
    let mut held = BTreeMap::new();
    for (path, size) in parts {
        if let Some(recipe) = files.get(path) {
            held.insert(path.to_owned(), content.head(recipe, size).await?);
        }
    }
    Ok(content.on_pool(move || suite::of_files(&held)).await)
}
