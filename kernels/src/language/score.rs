//! From log-probabilities to the numbers that people compare: those of lm-evaluation-harness, under its names.
//!
//! | metric | of |
//! |---|---|
//! | `bits_per_byte`, `byte_perplexity`, `word_perplexity`, `token_perplexity` | whole texts, by sums over all documents |
//! | `acc`, `acc_norm`, `acc_bytes` | choices, as they are, by length in characters, by length in bytes |
//! | `acc`, `perplexity` | continuations: all tokens likeliest; e to the mean of negative log-likelihoods |

use serde::Serialize;

use super::error::{LanguageError, NotMeasured, Stop};
use super::forward::{Model, Options};
use super::request::{Reply, Request, Requests};
use super::source::ModelSource;
use super::task::{Question, Suite, Task, TaskKind};
use super::template::is_space;
use super::tokens::Tokens;
use crate::cpu::precision::Precision;

/// The outcome of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Language {
    /// The section.
    Measured(LanguageSection),
    /// Why there is none.
    NotMeasured(NotMeasured),
}

/// What was measured on a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LanguageSection {
    /// The architecture's family.
    pub family: String,
    /// The arithmetic: `f32` or `bf16`.
    pub precision: &'static str,
    /// The longest input in tokens.
    pub length_max: usize,
    /// Tokens that went through the model.
    pub input_tokens: u64,
    /// One for each task, in the suite's order.
    pub tasks: Vec<TaskScore>,
    /// One for each request, in the suite's order.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// The scores of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScore {
    /// The task's name.
    pub task: String,
    /// How many documents there are.
    pub documents: usize,
    /// How many log-likelihoods were asked for.
    pub requests: usize,
    /// How many tokens were predicted.
    pub tokens: u64,
    /// How many requests had more context than fits.
    pub truncated: usize,
    /// The scores.
    pub metrics: Vec<Metric>,
    /// How far another engine or device may be from each of them, as a share of it, if the description says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// What the description lists beside these.
    pub not_measured: Vec<String>,
}

/// One score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its name in lm-evaluation-harness.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its standard error, where it is a mean over more than one document.
    pub standard_error: Option<f64>,
}

/// What came out for one request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The task's name.
    pub task: String,
    /// The document's position.
    pub doc: usize,
    /// The choice's position, for a choice.
    pub choice: Option<usize>,
    /// In nats.
    pub loglikelihood: f64,
    /// Whether every token was the likeliest.
    pub greedy: bool,
    /// How many tokens were predicted.
    pub tokens: usize,
}

/// Measures a model on a suite. All tasks go through the model together, so weights are read once.
///
/// # Errors
///
/// When the model or a task is broken, or the caller cancelled.
pub fn evaluate(
    source: &dyn ModelSource,
    suite: &Suite,
    options: Options<'_>,
) -> Result<Language, LanguageError> {
    match section(source, suite, options) {
        Ok(section) => Ok(Language::Measured(section)),
        Err(Stop::NotMeasured(reason)) => Ok(Language::NotMeasured(reason)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// A document with what was asked of it.
struct Asked {
    question: Question,
    requests: Vec<Request>,
}

fn section(source: &dyn ModelSource, suite: &Suite, options: Options<'_>) -> Result<LanguageSection, Stop> {
    let model = Model::open(source, options)?;
    if !model.predicts() {
        return Err(NotMeasured::Encoder(model.family()).into());
    }
    let (bos, eos) = model.special_tokens();
    let tokens = Tokens::open(source, bos, eos)?;
    let length_max = model.length_max();
    let mut requests = Requests::new(&tokens, length_max);
    let mut tasks = Vec::with_capacity(suite.tasks.len());
    for task in &suite.tasks {
        let asked = (0..task.documents()).map(|at| ask(task, at, &mut requests));
        tasks.push(asked.collect::<Result<Vec<_>, _>>()?);
    }
    let sequences = requests.sequences();
    let answers = model.ask(&sequences)?;
    let mut scores = Vec::with_capacity(tasks.len());
    let mut samples = Vec::new();
    for (task, asked) in suite.tasks.iter().zip(&tasks) {
        let first = samples.len();
        for (doc, asked) in asked.iter().enumerate() {
            for (at, request) in asked.requests.iter().enumerate() {
                let Reply {
                    loglikelihood,
                    greedy,
                    tokens,
                } = request.reply(&sequences, &answers);
                let name = task.description().name.clone();
                if !loglikelihood.is_finite() {
                    return Err(LanguageError::NotFinite {
                        task: name,
                        document: doc,
                    }
                    .into());
                }
                let choice = (task.description().kind == TaskKind::MultipleChoice).then_some(at);
                samples.push(Sample {
                    task: name,
                    doc,
                    choice,
                    loglikelihood,
                    greedy,
                    tokens,
                });
            }
        }
        scores.push(score(task, asked, &samples[first..]));
    }
    Ok(LanguageSection {
        family: model.family(),
        precision: match options.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        },
        length_max,
        input_tokens: sequences.iter().map(|s| s.tokens.len() as u64).sum(),
        tasks: scores,
        samples,
    })
}

/// Asks what a task asks of a document.
fn ask(task: &Task, at: usize, requests: &mut Requests<'_>) -> Result<Asked, Stop> {
    let question = task.question(at)?;
    let mut one = |context: &str, continuation: &str| {
        let request = requests.continuation(context, continuation)?;
        request.map_err(|problem| Stop::from(task.failed(format!("document {at}: {problem}"))))
    };
    let requests = match &question {
        Question::Loglikelihood {
            context,
            continuation,
        } => vec![one(context, continuation)?],
        Question::MultipleChoice { context, choices, .. } => choices
            .iter()
            .map(|choice| one(context, &format!("{}{choice}", task.delimiter())))
            .collect::<Result<_, _>>()?,
        Question::Rolling { text } => vec![requests.rolling(text)?],
    };
    Ok(Asked { question, requests })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of documents, bytes and tokens are below 2^53"
)]
fn score(task: &Task, asked: &[Asked], samples: &[Sample]) -> TaskScore {
    let total: f64 = samples.iter().map(|sample| sample.loglikelihood).sum();
    let tokens: u64 = samples.iter().map(|sample| sample.tokens as u64).sum();
    let metrics = match task.description().kind {
        TaskKind::Rolling => {
            let (mut words, mut bytes) = (0, 0);
            for asked in asked {
                if let Question::Rolling { text } = &asked.question {
                    words += words_of(text);
                    bytes += text.len();
                }
            }
            let per = |count: f64| libm::exp(-total / count);
            vec![
                single("word_perplexity", per(words as f64)),
                single("byte_perplexity", per(bytes as f64)),
                single("bits_per_byte", -total / bytes as f64 / std::f64::consts::LN_2),
                single("token_perplexity", per(tokens as f64)),
            ]
        }
        TaskKind::Loglikelihood => {
            let right: Vec<bool> = samples.iter().map(|sample| sample.greedy).collect();
            vec![
                mean("acc", &right),
                single("perplexity", libm::exp(-total / samples.len() as f64)),
            ]
        }
        TaskKind::MultipleChoice => {
            let mut right = [const { Vec::new() }; 3];
            let mut rest = samples;
            for asked in asked {
                if let Question::MultipleChoice { choices, gold, .. } = &asked.question {
                    let (own, after) = rest.split_at(choices.len());
                    rest = after;
                    let lengths: [fn(&String) -> usize; 3] = [|_| 1, |c| c.chars().count(), String::len];
                    for (right, length) in right.iter_mut().zip(lengths) {
                        let scores = own
                            .iter()
                            .zip(choices)
                            .map(|(s, c)| s.loglikelihood / length(c) as f64);
                        right.push(gold.contains(&greatest(scores)));
                    }
                }
            }
            let names = ["acc", "acc_norm", "acc_bytes"];
            names
                .iter()
                .zip(&right)
                .map(|(name, right)| mean(name, right))
                .collect()
        }
    };
    let listed = task.description().metrics.iter();
    let not_measured = listed.filter(|name| !metrics.iter().any(|metric| metric.name == **name));
    TaskScore {
        task: task.description().name.clone(),
        documents: asked.len(),
        requests: samples.len(),
        tokens,
        truncated: asked
            .iter()
            .flat_map(|a| &a.requests)
            .filter(|r| r.truncated)
            .count(),
        not_measured: not_measured.cloned().collect(),
        tolerance: task.description().tolerance,
        metrics,
    }
}

fn single(name: &'static str, value: f64) -> Metric {
    Metric {
        name,
        value,
        standard_error: None,
    }
}

/// Returns the share of what is right, with its standard error.
#[expect(clippy::cast_precision_loss, reason = "counts of documents are below 2^53")]
fn mean(name: &'static str, right: &[bool]) -> Metric {
    let count = right.len() as f64;
    let value = right.iter().filter(|right| **right).count() as f64 / count;
    let squares: f64 = right
        .iter()
        .map(|right| (f64::from(u8::from(*right)) - value) * (f64::from(u8::from(*right)) - value))
        .sum();
    let error = (squares / (count - 1.0)).sqrt() / count.sqrt();
    Metric {
        name,
        value,
        standard_error: (right.len() > 1).then_some(error),
    }
}

/// Returns the position of the greatest, the first of equals.
fn greatest(scores: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, score) in scores.enumerate() {
        if score > best.1 {
            best = (at, score);
        }
    }
    best.0
}

/// Counts what stretches of white space separate, empty pieces at the ends included.
fn words_of(text: &str) -> usize {
    let mut pieces = 1;
    let mut in_space = false;
    for c in text.chars() {
        let space = is_space(c);
        pieces += usize::from(space && !in_space);
        in_space = space;
    }
    pieces
}

#[test]
fn words_are_counted_as_python_splits() {
    for (text, expected) in [
        ("", 1),
        ("a", 1),
        (" a", 2),
        ("a  b\n", 3),
        (" ", 2),
        ("a\u{a0}b\u{1c}c", 3),
    ] {
        assert_eq!(words_of(text), expected, "{text:?}");
    }
}

#[test]
fn standard_errors_are_those_of_samples() {
    let metric = mean("acc", &[true, false, false, true]);
    assert!((metric.value - 0.5).abs() < 1e-15);
    assert!((metric.standard_error.unwrap() - (1.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-15);
    assert_eq!(mean("acc", &[true]).standard_error, None);
}
