//! What a compute node does with a job: it measures files on its own disk, with the same code as the site.
//!
//! Invariant: for the same release, suite, engine and precision, what comes out has the bits that the site's own weigher
//! finds. Nothing here knows how the files came; whoever fetched them has checked them against what was signed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use waag_kernels::language::{LanguageError, ModelSource, Options, Precision, Residency};
use waag_schema::base::bytes::Base64;
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::{Device, Harness, Section};
use waag_schema::wire::job::{FinishRequest, Job, SpeedJob};

use super::asking::too_long;
use super::device::Computer;
use super::directory::{self, Found};
use super::language::{self, DirectorySource, Scored};
use super::lineage::{self, Side};
use super::speed::{self, Meter};
use super::weigher::{weighed_files, why_none};
use super::{engine, suite};

/// How much memory a model's rows may take, roughly; weights are beside that.
const MEMORY_BYTES: u64 = 4 << 30;
/// How much memory all weights may take while a model's speed is measured, on a machine that has more.
const WEIGHTS_BYTES: u64 = 64 << 30;
/// How long a model's speed is measured at most, whatever the site asks.
const SPEED_SECONDS_MAX: u64 = 3600;

/// A release on this disk.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its manifest, as it was proven.
    pub manifest: Manifest,
    /// The directory that holds its files.
    pub path: PathBuf,
}

/// A job cannot be done here.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The files cannot be measured. The next one to try will find the same, or this disk is at fault.
    #[error("{0}")]
    Failed(String),
    /// Who waited for it has gone.
    #[error("it was stopped before its end")]
    Stopped,
}

fn failed(error: impl std::fmt::Display) -> WorkError {
    WorkError::Failed(error.to_string())
}

/// Returns what this program measures with.
#[must_use]
pub fn engines() -> Vec<Harness> {
    vec![engine(), language::engine()]
}

/// Measures the weights of a release on this computer, beside those of its base if there is one, and how fast it is if that
/// is asked. Dropping the future ends the latter.
///
/// # Errors
/// When a file cannot be read or is broken.
pub async fn weigh(
    job: &Job,
    release: Release,
    base: Result<Release, String>,
    computer: &Computer,
) -> Result<FinishRequest, WorkError> {
    let computer = computer.clone();
    let cancel = Arc::new(AtomicBool::new(false));
    let _ended = StopsWhenDropped(Arc::clone(&cancel));
    let asked = job.speed.clone();
    let measuring = move || {
        let files = found(&release)?;
        let (weighing, computer) = directory::measure(&files, &computer, |_| {}).map_err(failed)?;
        let (lineage, changed) = match &base {
            Ok(base) => {
                let paths = |files: Vec<Found>| files.into_iter().map(|file| file.path).collect();
                let (own, others) = (on_disk(&release.path), on_disk(&base.path));
                let ours = Side::plain(&own, paths(files));
                let theirs = Side::plain(&others, paths(found(base)?));
                let same = lineage::same_tokenizer(&release.manifest, &base.manifest);
                lineage::of(ours, theirs, same, &weighing).map_err(failed)?
            }
            Err(why) => lineage::none(why),
        };
        let weighed = weighing.finish_with(&why_none(&release.manifest), lineage, &changed);
        let weighed = match asked {
            Some(asked) => weighed.with(run(&release, &asked, &computer, &cancel)?),
            None => weighed,
        };
        Ok((weighed, computer.device()))
    };
    let measured = tokio::task::spawn_blocking(measuring).await;
    let (weighed, device) = measured.map_err(failed)??;
    Ok(result(job, device, weighed.sections, weighed.details))
}

/// Measures how fast a model is; what keeps it from that is said in the section.
fn run(
    release: &Release,
    asked: &SpeedJob,
    computer: &Computer,
    cancel: &AtomicBool,
) -> Result<Section, WorkError> {
    let none = |why: &str| Ok(Section::not_measured(speed::SECTION, why));
    if release.manifest.kind() != Kind::Model || release.manifest.packed().is_some() {
        return none(speed::NO_MODEL);
    }
    let precision = match precision(&asked.precision) {
        Ok(precision) => precision,
        // The site is newer: the weights are measured all the same.
        Err(error) => return none(&error.to_string()),
    };
    let options = Options {
        precision,
        memory_bytes: memory_for_weights(),
        cancel: Some(cancel),
        gpu: computer.gpu(),
        ..Options::default()
    };
    let time = Duration::from_secs(asked.seconds.min(SPEED_SECONDS_MAX));
    let meter = Meter::find(computer.gpu().map(AsRef::as_ref));
    match speed::measure(&TopFiles::of(release), options, time, &meter) {
        Ok(section) => Ok(section),
        Err(LanguageError::Cancelled) => Err(WorkError::Stopped),
        // This disk may be at fault; what is wrong with the model, or too much for the GPU, is said.
        Err(error @ LanguageError::Read { .. }) => Err(failed(error)),
        Err(error) => none(&error.to_string()),
    }
}

/// Returns how much memory a model's weights may take on this machine: half of what is free, so that nobody is killed for it.
fn memory_for_weights() -> u64 {
    let said = |path: &str| std::fs::read_to_string(path).ok();
    let free = said("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    // What the batch system allows to the job, where it says so in the second version of control groups.
    let group = said("/proc/self/cgroup").and_then(|text| {
        let own = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))?
            .to_owned();
        let limit = |group: &Path| {
            let said = std::fs::read_to_string(group.join("memory.max")).ok()?;
            said.trim().parse::<u64>().ok()
        };
        let whole = Path::new("/sys/fs/cgroup").join(own);
        whole.ancestors().filter_map(limit).min()
    });
    let free = free.unwrap_or(2 * MEMORY_BYTES).min(group.unwrap_or(u64::MAX));
    (free / 2).min(WEIGHTS_BYTES)
}

fn precision(named: &str) -> Result<Precision, WorkError> {
    match named {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        other => Err(failed(format_args!(
            "`{other}` is no precision that is known here"
        ))),
    }
}

fn on_disk(path: &Path) -> DirectorySource<'static> {
    DirectorySource {
        path: path.to_owned(),
        passed: &|_| {},
    }
}

/// Asks a model a suite. Dropping the future stops it at the next layer.
///
/// # Errors
/// When the suite or a file cannot be read.
pub async fn ask(
    job: &Job,
    release: Release,
    suite: PathBuf,
    computer: &Computer,
) -> Result<FinishRequest, WorkError> {
    if release.manifest.packed().is_some() {
        let scored = Scored::none("the release's files are packed");
        let device = Computer::processor(None).device();
        return Ok(result(job, device, vec![scored.section], Vec::new()));
    }
    let cancel = Arc::new(AtomicBool::new(false));
    let _ended = StopsWhenDropped(Arc::clone(&cancel));
    let precision = precision(&job.precision)?;
    let stop = Arc::clone(&cancel);
    let computer = computer.clone();
    let mut asking = tokio::task::spawn_blocking(move || {
        let questions = suite::below(&suite).map_err(failed)?;
        let source = TopFiles::of(&release);
        let options = Options {
            precision,
            residency: Residency::Streaming,
            memory_bytes: MEMORY_BYTES,
            cancel: Some(&stop),
            ..Options::default()
        };
        let scored = language::score_on(&computer, &source, &questions, options);
        Ok((scored, computer))
    });
    let mut late = false;
    let ended = match tokio::time::timeout(Duration::from_secs(job.time), &mut asking).await {
        Ok(ended) => ended,
        Err(_) => {
            late = true;
            cancel.store(true, Ordering::Relaxed);
            asking.await
        }
    };
    let (scored, computer) = ended.map_err(failed)??;
    let none = |why: &str| (Scored::none(why), computer);
    let (scored, computer) = match scored {
        Ok(scored) => scored,
        Err(LanguageError::Cancelled) if late => none(&too_long(job.time / 60)),
        Err(LanguageError::Cancelled) => return Err(WorkError::Stopped),
        // This disk may be at fault, or the GPU; what is wrong with the model is wrong everywhere.
        Err(error @ (LanguageError::Read { .. } | LanguageError::Gpu(_))) => return Err(failed(error)),
        Err(error) => none(&error.to_string()),
    };
    let details = scored.details();
    Ok(result(job, computer.device(), vec![scored.section], details))
}

fn result(job: &Job, device: Device, sections: Vec<Section>, details: Vec<u8>) -> FinishRequest {
    FinishRequest {
        lease: job.lease.clone(),
        artifact: job.artifact.clone(),
        manifest: job.manifest,
        harness: job.harness.clone(),
        device,
        precision: job.precision.clone(),
        suite: job.suite.clone(),
        sections,
        details: Base64(details),
    }
}

/// Returns the files of a release that are measured.
fn found(release: &Release) -> Result<Vec<Found>, WorkError> {
    let files = weighed_files(&release.manifest).into_iter().map(|(path, _)| {
        let local = release.path.join(&path);
        let metadata = std::fs::metadata(&local).map_err(|e| failed(format_args!("{path}: {e}")))?;
        Ok(Found {
            size: metadata.len(),
            path,
            local,
        })
    });
    files.collect()
}

/// Ends a forward pass when nobody waits for it any more.
struct StopsWhenDropped(Arc<AtomicBool>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The files at the top of a release, which are all that a model is made of at a site.
struct TopFiles {
    names: BTreeSet<String>,
    directory: DirectorySource<'static>,
}

impl TopFiles {
    fn of(release: &Release) -> Self {
        let layers = release.manifest.layers().iter();
        let names = layers.map(|layer| layer.path.to_string());
        Self {
            names: names.filter(|path| !path.contains('/')).collect(),
            directory: on_disk(&release.path),
        }
    }
}

impl ModelSource for TopFiles {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        if self.names.contains(file) {
            self.directory.length(file)
        } else {
            Ok(None)
        }
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.names.contains(file) {
            self.directory.read(file, offset, into)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}
