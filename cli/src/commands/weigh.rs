//! `waag weigh`: what is measured on a model by this machine, without a site's word.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use waag_client::cache::{CACHE_MAX_BYTES, ChunkCache};
use waag_client::event::{Event, Phase, Progress};
use waag_client::pull::{self, PullRequest};
use waag_client::scan::{Links, Scan};
use waag_registry::evaluation::language::{self, DirectorySource, Scored};
use waag_registry::evaluation::speed::Meter;
use waag_registry::evaluation::suite::{self, ReadSuite, SuiteError};
use waag_registry::evaluation::{
    self, Computer, DeviceChoice, LanguageError, Options, Precision, Residency, TaskScore, directory, speed,
};
use waag_schema::release::gate;
use waag_schema::statement::scorecard::{Device, Harness, Section};
use waag_schema::{Reference, Sha256};

use super::open_site;
use super::scorecard::show_sections;
use crate::args::Weigh;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::progress;
use crate::typed::{DeviceArg, PrecisionArg};
use crate::ui::{Page, Report, Ui};

/// How much memory the model's rows may take, roughly; weights are beside that, two layers at a time.
const MEMORY_BYTES: u64 = 8 << 30;
/// How much memory all weights may take while a model's speed is measured.
const WEIGHTS_BYTES: u64 = 64 << 30;
/// The most tensors that an error names.
const NAMED_MAX: usize = 5;

pub(crate) async fn run(args: Weigh, config: &Config, ui: Ui) -> Result<(), Failure> {
    let computer = DeviceChoice::from(args.device)
        .open()
        .map_err(|why| no_device(args.device, &why))?;
    // Weights are measured by the processor as fast as most disks are read: that needs no word.
    if let Some(reason) = computer.fallback().filter(|_| args.suite.is_some() || args.speed) {
        ui.note(format_args!("{reason}: measuring on the processor"));
    }
    let model = Place::find(&args.model, config, ui).await?;
    let suite = match &args.suite {
        Some(text) => Some(Place::find(text, config, ui).await?),
        None => None,
    };
    let precision = match args.precision {
        PrecisionArg::F32 => ("f32", Precision::F32),
        PrecisionArg::Bf16 => ("bf16", Precision::Bf16),
    };
    let samples = args.samples.clone();
    let time = args.speed.then(|| Duration::from_secs(args.speed_seconds));
    let progress = progress::watch(ui);
    let weighing = move || {
        let mut measured = measure(
            &model,
            suite.as_ref(),
            (precision.1, computer),
            samples.as_deref(),
            &progress,
        )?;
        if let Some(time) = time {
            let section = run_for(&model, (precision.1, &measured.computer), time);
            measured.weighed = measured.weighed.with(section);
        }
        // Only now what was fetched may go.
        drop((model, suite));
        Ok::<_, Failure>(measured)
    };
    let measured = tokio::task::spawn_blocking(weighing)
        .await
        .map_err(|e| Failure::failed(format!("weighing ended early: {e}")))??;
    let Measured {
        weighed,
        details,
        scored,
        computer,
    } = measured;
    let weighed = match &scored {
        Some(scored) => weighed.with(scored.section.clone()),
        None => weighed,
    };
    ui.report(&Weighed {
        path: args.model,
        harness: evaluation::engine(),
        device: computer.device(),
        fallback: computer
            .fallback()
            .filter(|_| args.suite.is_some())
            .map(str::to_owned),
        precision: if scored.is_some() {
            precision.0
        } else {
            evaluation::PRECISION
        }
        .to_owned(),
        sections: weighed.sections,
        digest: (!weighed.details.is_empty()).then(|| Sha256::of(&weighed.details)),
        suite: args.suite,
        family: scored
            .as_ref()
            .and_then(|s| Some(s.language.as_ref()?.family.clone())),
        results: scored.as_ref().map(Scored::results),
        language: scored.map(|scored| Asked::of(scored, precision.0)),
        details,
    })
}

/// A device was asked for that cannot be used.
pub(super) fn no_device(asked: DeviceArg, why: &impl std::fmt::Display) -> Failure {
    let asked = DeviceChoice::from(asked);
    Failure::failed(format!("--device {asked}: {why}"))
        .hint("--device auto takes a GPU where there is one, and the processor elsewhere")
}

impl From<DeviceArg> for DeviceChoice {
    fn from(device: DeviceArg) -> Self {
        match device {
            DeviceArg::Auto => Self::Auto,
            DeviceArg::Cpu => Self::Cpu,
            DeviceArg::Cuda(number) => Self::Cuda(number),
        }
    }
}

/// Where something lies on this disk.
struct Place {
    path: PathBuf,
    /// What is removed in the end: it was fetched for this alone.
    fetched: bool,
}

impl Place {
    /// Finds a path here, or fetches a release to a directory of its own.
    async fn find(text: &str, config: &Config, ui: Ui) -> Result<Self, Failure> {
        let here = PathBuf::from(text);
        let reference = match text.parse::<Reference>() {
            Ok(reference) if !here.exists() => reference,
            _ => {
                return Ok(Self {
                    path: here,
                    fetched: false,
                });
            }
        };
        let site = open_site(config, ui)?;
        let found = site.resolve(&reference.artifact, &reference.version).await?;
        // By its digest: a pull that was interrupted goes on.
        let digest = found.manifest.digest();
        let name = digest.hex();
        let path = config.home.root().join("cache/weighed").join(name);
        let cache = ChunkCache::new(config.home.root().join("cache/chunks"), CACHE_MAX_BYTES);
        let request = PullRequest {
            cache: Some(cache),
            force: true,
            ..PullRequest::new(
                Reference {
                    artifact: reference.artifact,
                    version: waag_schema::base::name::Version::Manifest(digest),
                },
                path.clone(),
            )
        };
        pull::pull(&site, &request).await?;
        Ok(Self { path, fetched: true })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.fetched {
            // What cannot be removed is used again by the next one.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What was measured.
struct Measured {
    weighed: evaluation::Weighed,
    details: Value,
    scored: Option<Scored>,
    /// What it was computed on in the end.
    computer: Computer,
}

fn measure(
    model: &Place,
    suite: Option<&Place>,
    (precision, computer): (Precision, Computer),
    samples: Option<&Path>,
    progress: &Progress,
) -> Result<Measured, Failure> {
    // First what is soon known: whether the suite can be read, and the samples be written.
    let read = suite.map(open_suite).transpose()?;
    let mut out = samples
        .map(|path| {
            File::create(path)
                .map(|file| (path, BufWriter::new(file)))
                .map_err(|e| unwritten(path, &e))
        })
        .transpose()?;
    let scan = Scan::of(&model.path, Links::Follow).map_err(waag_client::ClientError::from)?;
    refuse_pickles(&scan)?;
    let files: Vec<_> = scan
        .files
        .into_iter()
        .map(|found| directory::Found {
            path: found.path.to_string(),
            local: found.local,
            size: found.size,
        })
        .collect();
    let weights = files.iter().filter(|file| directory::is_weighed(&file.path));
    let bytes = weights.clone().map(|file| file.size).sum();
    progress(Event::Began {
        phase: Phase::Weigh,
        items: weights.count() as u64,
        bytes,
    });
    let advanced = |bytes| {
        progress(Event::Advanced {
            phase: Phase::Weigh,
            bytes,
        });
    };
    let (weighed, computer) = directory::weigh(&files, &computer, advanced).map_err(Failure::failed)?;
    progress(Event::Ended { phase: Phase::Weigh });
    let details = if weighed.details.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&weighed.details).map_err(Failure::failed)?
    };
    let (scored, computer) = match (&read, suite) {
        (Some(read), Some(suite)) => {
            let asked = ask(model, read, (precision, &computer), progress);
            let (scored, computer) = asked.map_err(|error| broken(&error, model, suite, &details))?;
            (Some(scored), computer)
        }
        _ => (None, computer),
    };
    if let (Some((path, out)), Some(scored)) = (&mut out, &scored) {
        write_samples(scored, out).map_err(|e| unwritten(path, &e))?;
    }
    Ok(Measured {
        weighed,
        details,
        scored,
        computer,
    })
}

fn open_suite(place: &Place) -> Result<ReadSuite, Failure> {
    let opened = if place.fetched {
        // Of what others made nothing is looked for outside of it.
        suite::below(&place.path)
    } else {
        suite::open(&place.path)
    };
    opened.map_err(|error| match error {
        SuiteError::Missing(_) => Failure::new(Exit::NotFound, error),
        _ => Failure::failed(error),
    })
}

/// Asks the model; its weights are read layer by layer, which is what progress is measured by.
fn ask(
    model: &Place,
    suite: &ReadSuite,
    (precision, computer): (Precision, &Computer),
    progress: &Progress,
) -> Result<(Scored, Computer), LanguageError> {
    let total = AtomicU64::new(0);
    let passed = |bytes: u64| {
        // In several rounds weights are read again; a bar that is full stays full.
        let left = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(bytes))
        });
        let bytes = bytes.min(left.unwrap_or(0));
        progress(Event::Advanced {
            phase: Phase::Ask,
            bytes,
        });
    };
    let source = DirectorySource {
        path: model.path.clone(),
        passed: &passed,
    };
    let bytes = source.bytes();
    total.store(bytes, Ordering::Relaxed);
    progress(Event::Began {
        phase: Phase::Ask,
        items: 1,
        bytes,
    });
    let options = Options {
        precision,
        residency: Residency::Streaming,
        memory_bytes: MEMORY_BYTES,
        ..Options::default()
    };
    let scored = quietly(|| language::score_on(computer, &source, suite, options));
    progress(Event::Ended { phase: Phase::Ask });
    scored
}

/// Measures how fast the model is; what keeps it from that is said in the section.
fn run_for(model: &Place, (precision, computer): (Precision, &Computer), time: Duration) -> Section {
    let source = DirectorySource {
        path: model.path.clone(),
        passed: &|_| {},
    };
    let options = Options {
        precision,
        memory_bytes: WEIGHTS_BYTES,
        gpu: computer.gpu(),
        ..Options::default()
    };
    let meter = Meter::find(computer.gpu().map(AsRef::as_ref));
    let measured = quietly(|| speed::measure(&source, options, time, &meter));
    measured.unwrap_or_else(|error| Section::not_measured(speed::SECTION, &error.to_string()))
}

/// Runs what may panic over a broken file, in code that is not ours: the panic is caught there and told as what is wrong
/// with the file, so nobody has to read of it twice.
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = run();
    std::panic::set_hook(told);
    outcome
}

/// Weights that only a program can read are no weights here.
fn refuse_pickles(scan: &Scan) -> Result<(), Failure> {
    if scan
        .files
        .iter()
        .any(|found| directory::is_weighed(found.path.as_str()))
    {
        return Ok(());
    }
    for found in scan
        .files
        .iter()
        .filter(|found| gate::has_to_be_seen(&found.path))
    {
        let mut head = Vec::new();
        File::open(&found.local)
            .and_then(|file| file.take(gate::LOOKED_AT as u64).read_to_end(&mut head))
            .map_err(|e| Failure::failed(format!("cannot read {}: {e}", found.local.display())))?;
        gate::check(&found.path, &head, &[])
            .map_err(|refused| Failure::failed(format!("there is no safetensors file, and {refused}")))?;
    }
    Ok(())
}

/// A model or a suite that cannot be used: which of the two, which file, and what is wrong with it.
fn broken(error: &LanguageError, model: &Place, suite: &Place, details: &Value) -> Failure {
    let place = match error {
        LanguageError::Task { .. } => &suite.path,
        _ => &model.path,
    };
    let failure = Failure::failed(format!("{}: {error}", place.display()));
    if !matches!(error, LanguageError::NotFinite { .. }) {
        return failure;
    }
    let rows = details["tensors"].as_array().into_iter().flatten();
    let bad = rows.filter_map(|row| {
        let count = |key: &str| row[key].as_u64().unwrap_or(0);
        let (nan, infinite) = (count("nan"), count("infinite"));
        (nan + infinite > 0).then(|| {
            format!(
                "{}: {} holds {nan} that are not numbers and {infinite} that are infinite",
                row["file"].as_str().unwrap_or_default(),
                row["name"].as_str().unwrap_or_default()
            )
        })
    });
    failure.details(bad.take(NAMED_MAX).collect())
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

fn write_samples(scored: &Scored, out: &mut BufWriter<File>) -> std::io::Result<()> {
    for sample in scored.language.iter().flat_map(|language| &language.samples) {
        serde_json::to_writer(&mut *out, sample)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// What a model weighs.
#[derive(Serialize)]
struct Weighed {
    path: String,
    harness: Harness,
    device: Device,
    /// Why it is not the device that was wished for.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// Of the section `language`, where a suite was asked; the other sections are exact.
    precision: String,
    sections: Vec<Section>,
    /// The SHA-256 that a scorecard of the same files names.
    digest: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    /// The scores as lm-evaluation-harness writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<BTreeMap<String, BTreeMap<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<Asked>,
    details: Value,
}

/// What a model was asked, and what it said.
#[derive(Serialize)]
struct Asked {
    harness: Harness,
    precision: &'static str,
    family: Option<String>,
    length_max: Option<usize>,
    input_tokens: Option<u64>,
    tasks: Vec<TaskScore>,
    /// The tasks that were not asked, with the reason.
    not_measured: BTreeMap<String, String>,
    /// The SHA-256 that a scorecard of the same model and suite names.
    digest: Option<Sha256>,
}

impl Asked {
    fn of(scored: Scored, precision: &'static str) -> Self {
        let details = scored.details();
        let language = scored.language;
        Self {
            harness: language::engine(),
            precision,
            family: language.as_ref().map(|l| l.family.clone()),
            length_max: language.as_ref().map(|l| l.length_max),
            input_tokens: language.as_ref().map(|l| l.input_tokens),
            tasks: language.map(|l| l.tasks).unwrap_or_default(),
            not_measured: scored.not_measured.into_iter().collect(),
            digest: (!details.is_empty()).then(|| Sha256::of(&details)),
        }
    }
}

impl Report for Weighed {
    fn page(&self, page: &mut Page) {
        page.fact("weighed", &self.path);
        page.fact_if("suite", self.suite.as_ref());
        page.fact(
            "engine",
            format_args!(
                "{} {}, {}",
                self.harness.name,
                self.harness.version,
                evaluation::PRECISION
            ),
        );
        if let Some(asked) = &self.language {
            page.fact(
                "",
                format_args!(
                    "{} {}, {}",
                    asked.harness.name, asked.harness.version, asked.precision
                ),
            );
        }
        let device = self.device.name.as_deref().unwrap_or_default();
        let fallback = self
            .fallback
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        page.fact("device", format_args!("{} {device}{fallback}", self.device.class));
        page.fact_if("family", self.family.as_ref());
        show_sections(page, &self.sections, &self.details);
        for (task, reason) in self.language.iter().flat_map(|asked| &asked.not_measured) {
            page.fact(task, format_args!("not measured because {reason}"));
        }
    }

    fn essential(&self) -> String {
        self.digest.map_or_else(String::new, |digest| digest.to_string())
    }
}
