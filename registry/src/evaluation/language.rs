//! The section `language`: what a model scores on a suite.
//!
//! Invariant: the section and its details depend on the model's files, the suite's files, the engine and the precision
//! only, so whoever has them can check every number. Of the suite's documents nothing is in either of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde::Serialize;
use waag_kernels::language::{
    Language, LanguageError, LanguageSection, ModelSource, Options, REVISION, SOURCES, Sample, evaluate,
};
use waag_schema::Sha256;
use waag_schema::statement::scorecard::{Amount, Harness, Measure, Section};

use super::device::Computer;
use super::suite::ReadSuite;

/// The section's name.
pub const SECTION: &str = "language";

/// What came out.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The section.
    pub section: Section,
    /// What stands behind it, where it was measured.
    pub language: Option<LanguageSection>,
    /// The tasks that were not asked, with the reason.
    pub not_measured: Vec<(String, String)>,
}

/// Returns what measures here.
#[must_use]
pub fn engine() -> Harness {
    Harness {
        name: "waag-language".to_owned(),
        version: format!("{}.{REVISION}", super::REVISION),
        digest: Sha256::of(SOURCES.concat().as_bytes()),
    }
}

/// Measures a model on a suite.
///
/// # Errors
/// When the model is broken or cannot be read, or the caller cancelled. What this engine does not know is no error.
pub fn score(
    source: &dyn ModelSource,
    suite: &ReadSuite,
    options: Options<'_>,
) -> Result<Scored, LanguageError> {
    let not_measured = suite.not_measured.clone();
    let none = |reason: &str| Scored {
        section: Section::not_measured(SECTION, reason),
        language: None,
        not_measured: not_measured.clone(),
    };
    if suite.suite.tasks.is_empty() {
        let reason = not_measured.first().map_or("", |(_, reason)| reason);
        return Ok(none(reason));
    }
    Ok(match evaluate(source, &suite.suite, options)? {
        Language::Measured(language) => Scored {
            section: section(&language),
            language: Some(language),
            not_measured,
        },
        Language::NotMeasured(reason) => {
            let reason = reason.to_string();
            none(reason.strip_prefix("not measured because ").unwrap_or(&reason))
        }
    })
}

/// Measures a model on a suite, on this computer, or on the processor where that may take over from a GPU that fails.
/// Returns on what, too; the bits do not show it.
///
/// # Errors
/// As [`score`].
pub fn score_on(
    computer: &Computer,
    source: &dyn ModelSource,
    suite: &ReadSuite,
    options: Options<'_>,
) -> Result<(Scored, Computer), LanguageError> {
    let on = |computer: &Computer| {
        let gpu = computer.gpu();
        score(source, suite, Options { gpu, ..options })
    };
    match on(computer) {
        Err(LanguageError::Gpu(error)) => {
            let Some(processor) = computer.without_gpu(&error.to_string()) else {
                return Err(error.into());
            };
            Ok((on(&processor)?, processor))
        }
        scored => Ok((scored?, computer.clone())),
    }
}

fn section(language: &LanguageSection) -> Section {
    let count = |metric: &str, count: usize| Measure::new(metric, Amount::Count(count as u64));
    let mut results = vec![
        Measure::new("input_tokens", Amount::Count(language.input_tokens)),
        count("length_max", language.length_max),
    ];
    for task in &language.tasks {
        for metric in &task.metrics {
            // A text of no bytes has no bits a byte.
            if !metric.value.is_nan() {
                let error = metric.standard_error.filter(|error| !error.is_nan());
                results.push(
                    Measure::new(metric.name, Amount::Real(metric.value))
                        .of_task(&task.task)
                        .within(error.map(Amount::Real))
                        .apart(task.tolerance.map(Amount::Real))
                        .over(task.documents as u64),
                );
            }
        }
        results.push(count("requests", task.requests).of_task(&task.task));
        results.push(Measure::new("tokens", Amount::Count(task.tokens)).of_task(&task.task));
        results.push(count("truncated", task.truncated).of_task(&task.task));
    }
    Section::measured(SECTION, results)
}

#[derive(Serialize)]
struct DetailsJson<'a> {
    version: u32,
    /// A row for each request, in the suite's order.
    samples: &'a [Sample],
}

impl Scored {
    /// Returns the details, as JSON; empty where nothing was measured.
    #[must_use]
    pub fn details(&self) -> Vec<u8> {
        let json = |language: &LanguageSection| {
            let json = DetailsJson {
                version: 1,
                samples: &language.samples,
            };
            serde_json::to_vec(&json).expect("numbers, strings and lists always serialise")
        };
        self.language.as_ref().map(json).unwrap_or_default()
    }

    /// Returns the scores of each task as lm-evaluation-harness names them: with the name of its filter, and without.
    #[must_use]
    pub fn results(&self) -> BTreeMap<String, BTreeMap<String, serde_json::Value>> {
        let tasks = self.language.iter().flat_map(|language| &language.tasks);
        tasks
            .map(|task| {
                let mut row = BTreeMap::from([("sample_len".to_owned(), task.documents.into())]);
                for metric in &task.metrics {
                    let error = metric
                        .standard_error
                        .map(|e| (format!("{}_stderr", metric.name), e));
                    for (name, value) in [(metric.name.to_owned(), metric.value)].into_iter().chain(error) {
                        row.insert(format!("{name},none"), value.into());
                        row.insert(name, value.into());
                    }
                }
                (task.task.clone(), row)
            })
            .collect()
    }
}

/// A model in a directory of this disk.
pub struct DirectorySource<'a> {
    /// The directory.
    pub path: PathBuf,
    /// Is told how many bytes of weights were read.
    pub passed: &'a (dyn Fn(u64) + Sync),
}

impl DirectorySource<'_> {
    /// Returns how many bytes of weights there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let weights = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "safetensors"));
        weights
            .filter_map(|entry| Some(std::fs::metadata(entry.path()).ok()?.len()))
            .fold(0, u64::saturating_add)
    }
}

impl ModelSource for DirectorySource<'_> {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.path.join(file)) {
            // What is no file, such as a pipe, is not waited for.
            Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.path.join(file))?.read_exact_at(into, offset)?;
        if file.ends_with(".safetensors") {
            (self.passed)(into.len() as u64);
        }
        Ok(())
    }
}
