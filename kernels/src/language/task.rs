//! What a suite asks: tasks with their documents.
//!
//! A description is the common subset of lm-evaluation-harness's YAML. A key that would change the requests and
//! that this engine does not know is refused, so that a number never stands under the name of another.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::{LanguageError, NotMeasured, Stop};
use super::template::{Template, as_text};
use super::yaml;

const DOCUMENTS_MAX: usize = 1 << 22;
const CHOICES_MAX: usize = 1 << 10;
/// The largest tolerance that a task may state: beyond a tenth nothing is confirmed.
const TOLERANCE_MAX: f64 = 0.1;

/// Keys that change nothing that is asked.
const IGNORED: [&str; 16] = [
    "dataset_path",
    "dataset_name",
    "training_split",
    "fewshot_split",
    "fewshot_delimiter",
    "fewshot_config",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "tag",
    "group",
    "task_alias",
    "custom_dataset",
    "generation_kwargs",
    "version",
    "unsafe_code",
    "dataset_revision",
];

/// What is asked of each document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// How likely a continuation is.
    Loglikelihood,
    /// How likely a whole text is.
    Rolling,
    /// Which of several continuations is likeliest.
    MultipleChoice,
}

/// A task without its documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The task's name.
    pub name: String,
    /// What is asked of each document.
    pub kind: TaskKind,
    /// The JSONL files of the split that is asked, as the description names them.
    pub data_files: Vec<String>,
    /// The metrics that the description lists.
    pub metrics: Vec<String>,
    /// How far another engine or device may be from a score, as a share of it, if the description says so: its
    /// `metadata` has a `tolerance`.
    pub tolerance: Option<f64>,
    text: String,
    target: String,
    choices: Option<Value>,
    delimiter: String,
    introduction: String,
}

/// A task: a description and its documents.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) description: Description,
    pub(crate) documents: Vec<Value>,
    text: Template,
    target: Template,
    choices: Choices,
}

#[derive(Debug, Clone)]
enum Choices {
    None,
    Fixed(Vec<String>),
    Made(Template),
}

/// What is asked, all in one run.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    /// The tasks, in order.
    pub tasks: Vec<Task>,
}

/// What is asked of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    Loglikelihood {
        context: String,
        continuation: String,
    },
    Rolling {
        text: String,
    },
    MultipleChoice {
        context: String,
        choices: Vec<String>,
        gold: Vec<usize>,
    },
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    ///
    /// [`Stop::Failed`] when it is no task description, [`Stop::NotMeasured`] when it asks for what this engine
    /// does not do.
    pub fn parse(text: &str) -> Result<Self, Stop> {
        let failed = |problem: String| LanguageError::Task {
            task: "(unnamed)".to_owned(),
            problem,
        };
        let value = yaml::parse(text).map_err(failed)?;
        let Value::Object(map) = &value else {
            return Err(failed("is no mapping".to_owned()).into());
        };
        let name = map
            .get("task")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if name.is_empty() {
            return Err(failed("`task` does not name it".to_owned()).into());
        }
        let failed = |problem: String| {
            Stop::from(LanguageError::Task {
                task: name.clone(),
                problem,
            })
        };
        let unknown = |field: &str, found: &Value| {
            let found: String = found.to_string().chars().take(80).collect();
            Stop::from(NotMeasured::Variant {
                field: format!("{name}: {field}"),
                found,
            })
        };
        let text_of = |key: &str| -> Result<Option<String>, Stop> {
            match map.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(other) => Ok(Some(as_text(other).map_err(|p| failed(format!("{key} is {p}")))?)),
            }
        };
        let mut kind = None;
        let mut split = "test";
        for (key, value) in map {
            match (key.as_str(), value) {
                (_, Value::Null) => {}
                ("output_type", value) => {
                    kind = Some(match value.as_str() {
                        Some("loglikelihood") => TaskKind::Loglikelihood,
                        Some("loglikelihood_rolling") => TaskKind::Rolling,
                        Some("multiple_choice") => TaskKind::MultipleChoice,
                        _ => return Err(unknown(key, value)),
                    });
                }
                ("num_fewshot", Value::Number(shots)) if shots.as_i64() == Some(0) => {}
                ("repeats", Value::Number(repeats)) if repeats.as_i64() == Some(1) => {}
                (
                    "task" | "dataset_kwargs" | "metric_list" | "doc_to_text" | "doc_to_target"
                    | "doc_to_choice" | "metadata",
                    _,
                ) => {}
                (
                    "test_split" | "validation_split" | "target_delimiter" | "description",
                    Value::String(_),
                ) => {}
                (key, _) if IGNORED.contains(&key) => {}
                _ => return Err(unknown(key, value)),
            }
        }
        if !map.contains_key("test_split") && map.contains_key("validation_split") {
            split = "validation";
        }
        let split = map
            .get(&format!("{split}_split"))
            .and_then(Value::as_str)
            .unwrap_or(split);
        let files = map
            .get("dataset_kwargs")
            .and_then(|kwargs| kwargs.get("data_files"));
        let files = files.map_or(&Value::Null, |files| files.get(split).unwrap_or(files));
        let data_files = match files {
            Value::String(file) => vec![file.clone()],
            Value::Array(files) => files
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => {
                return Err(failed(format!(
                    "dataset_kwargs.data_files names no file of the split {split}"
                )));
            }
        };
        let metrics = map
            .get("metric_list")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let metrics = metrics.filter_map(|m| m.get("metric").unwrap_or(m).as_str());
        let kind = kind.ok_or_else(|| failed("has no output_type".to_owned()))?;
        if kind == TaskKind::MultipleChoice && map.get("doc_to_choice").is_none_or(Value::is_null) {
            return Err(failed("has no doc_to_choice".to_owned()));
        }
        Ok(Self {
            kind,
            data_files,
            metrics: metrics.map(str::to_owned).collect(),
            tolerance: tolerance(map.get("metadata")).map_err(failed)?,
            text: text_of("doc_to_text")?.unwrap_or_default(),
            target: text_of("doc_to_target")?.ok_or_else(|| failed("has no doc_to_target".to_owned()))?,
            choices: map.get("doc_to_choice").filter(|value| !value.is_null()).cloned(),
            delimiter: text_of("target_delimiter")?.unwrap_or_else(|| " ".to_owned()),
            introduction: text_of("description")?.unwrap_or_default(),
            name: name.clone(),
        })
    }

    /// Makes a task of the description and its documents: JSON objects, one on each line.
    ///
    /// # Errors
    ///
    /// When there are no documents, one is no object, or a template is not understood.
    pub fn with_documents(self, jsonl: &[u8]) -> Result<Task, LanguageError> {
        let failed = |problem: String| LanguageError::Task {
            task: self.name.clone(),
            problem,
        };
        let mut documents = Vec::new();
        for (number, line) in jsonl.split(|byte| *byte == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let document: Value =
                serde_json::from_slice(line).map_err(|e| failed(format!("line {}: {e}", number + 1)))?;
            if !document.is_object() {
                return Err(failed(format!("line {} is no object", number + 1)));
            }
            documents.push(document);
            if documents.len() > DOCUMENTS_MAX {
                return Err(failed(format!("has more than {DOCUMENTS_MAX} documents")));
            }
        }
        let Some(first) = documents.first() else {
            return Err(failed("has no documents".to_owned()));
        };
        // Text that is the name of a field means that field.
        let template = |text: &str| {
            if first.get(text).is_some() {
                return Ok(Template::field(text));
            }
            Template::parse(text).map_err(|problem| failed(format!("`{text}`: {problem}")))
        };
        let choices = match &self.choices {
            None => Choices::None,
            Some(Value::String(text)) => Choices::Made(template(text)?),
            Some(Value::Array(list)) => {
                let list: Result<_, _> = list.iter().map(as_text).collect();
                Choices::Fixed(list.map_err(failed)?)
            }
            Some(Value::Object(map)) => {
                let list: Result<_, _> = map.values().map(as_text).collect();
                Choices::Fixed(list.map_err(failed)?)
            }
            Some(other) => return Err(failed(format!("doc_to_choice is {other}"))),
        };
        Ok(Task {
            text: template(&self.text)?,
            target: template(&self.target)?,
            choices,
            documents,
            description: self,
        })
    }
}

impl Task {
    /// Returns the task's description.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns how many documents it has.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Checks that each document can be asked.
    ///
    /// # Errors
    /// When one of them lacks what the description takes from it; the error says which.
    pub fn check(&self) -> Result<(), LanguageError> {
        (0..self.documents()).try_for_each(|at| self.question(at).map(|_| ()))
    }

    pub(crate) fn failed(&self, problem: String) -> LanguageError {
        LanguageError::Task {
            task: self.description.name.clone(),
            problem,
        }
    }

    /// Returns what is put before a choice.
    pub(crate) fn delimiter(&self) -> &str {
        &self.description.delimiter
    }

    /// Returns what is asked of a document.
    pub(crate) fn question(&self, at: usize) -> Result<Question, LanguageError> {
        self.question_of(&self.documents[at])
            .map_err(|problem| self.failed(format!("document {at}: {problem}")))
    }

    fn question_of(&self, document: &Value) -> Result<Question, String> {
        let context = || {
            self.text
                .text(document)
                .map(|text| format!("{}{text}", self.description.introduction))
        };
        match self.description.kind {
            TaskKind::Rolling => Ok(Question::Rolling {
                text: self.target.text(document)?,
            }),
            TaskKind::Loglikelihood => Ok(Question::Loglikelihood {
                context: context()?,
                continuation: self.target.text(document)?,
            }),
            TaskKind::MultipleChoice => {
                let choices = self.choices_of(document)?;
                let gold = gold(&self.target.value(document)?, &choices)?;
                Ok(Question::MultipleChoice {
                    context: context()?,
                    choices,
                    gold,
                })
            }
        }
    }

    fn choices_of(&self, document: &Value) -> Result<Vec<String>, String> {
        let choices = match &self.choices {
            Choices::Fixed(choices) => choices.clone(),
            Choices::Made(template) => match template.value(document)? {
                Value::Array(list) => list.iter().map(as_text).collect::<Result<_, _>>()?,
                other => return Err(format!("its choices are {other}, no list")),
            },
            Choices::None => Vec::new(),
        };
        if !(1..=CHOICES_MAX).contains(&choices.len()) {
            return Err(format!(
                "has {} choices, 1 to {CHOICES_MAX} can be asked",
                choices.len()
            ));
        }
        Ok(choices)
    }
}

/// Returns the tolerance that a description states in its `metadata`, of which lm-evaluation-harness reads nothing.
fn tolerance(metadata: Option<&Value>) -> Result<Option<f64>, String> {
    let stated = match metadata.and_then(|metadata| metadata.get("tolerance")) {
        None | Some(Value::Null) => return Ok(None),
        Some(stated) => stated,
    };
    let found = match stated {
        Value::Number(number) => number.as_f64(),
        // Other readers of YAML take a number without a point, such as 1e-4, for text.
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match found {
        // Of the two zeros one.
        Some(share) if (0.0..=TOLERANCE_MAX).contains(&share) => Ok(Some(share.abs())),
        _ => {
            let stated: String = stated.to_string().chars().take(80).collect();
            Err(format!(
                "metadata.tolerance is {stated}, which is no number from 0 to {TOLERANCE_MAX}"
            ))
        }
    }
}

/// Returns the positions of the right choices.
fn gold(value: &Value, choices: &[String]) -> Result<Vec<usize>, String> {
    let one = |value: &Value| {
        let index = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => match text.parse() {
                Ok(index) if text.bytes().all(|b| b.is_ascii_digit()) => Some(index),
                _ => choices
                    .iter()
                    .position(|choice| choice == text)
                    .map(|at| at as u64),
            },
            _ => None,
        };
        let index = index
            .and_then(|index| usize::try_from(index).ok())
            .filter(|index| *index < choices.len());
        index.ok_or_else(|| {
            format!(
                "its target is {value}, which is none of {} choices",
                choices.len()
            )
        })
    };
    match value {
        Value::Array(list) if !list.is_empty() => {
            let gold: BTreeSet<usize> = list.iter().map(one).collect::<Result<_, _>>()?;
            Ok(gold.into_iter().collect())
        }
        value => one(value).map(|index| vec![index]),
    }
}
