//! Why there is no language section: something is broken, or this engine cannot measure it.

use std::fmt;
use std::io;

use crate::cuda::GpuError;

/// A model or a suite cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Its name in the model.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A file that every model has is not there.
    #[error("the model has no {file}")]
    Missing {
        /// Its name in the model.
        file: String,
    },
    /// A file is not what its name says.
    #[error("{file}: {problem}")]
    File {
        /// Its name in the model.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration contradicts itself or is outside all bounds.
    #[error("config.json: {field} {problem}")]
    Config {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor is missing, or not as the configuration says.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A task cannot be asked as it is written.
    #[error("task {task}: {problem}")]
    Task {
        /// The task.
        task: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model's answer to a document is not a number, so no score would mean anything.
    #[error("task {task}, document {document}: the model's log-probability is not a finite number")]
    NotFinite {
        /// The task.
        task: String,
        /// The document's position.
        document: usize,
    },
    /// The GPU failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The caller asked to stop.
    #[error("stopped before the end, as asked")]
    Cancelled,
}

/// Why nothing was measured although nothing is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotMeasured {
    /// The engine does not know the architecture.
    Architecture(String),
    /// The model makes vectors of texts and predicts no tokens.
    Encoder(String),
    /// The engine knows the architecture but not this variant of it.
    Variant {
        /// The field of `config.json`, or the file.
        field: String,
        /// What it says.
        found: String,
    },
    /// Weights are stored in a format that the engine does not compute with.
    Format {
        /// The tensor.
        tensor: String,
        /// The format's name in safetensors.
        found: String,
    },
    /// There is no file that the section needs.
    NoFile(String),
    /// The memory allowed is too small.
    Memory {
        /// What a pass over the longest window would take.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not measured because ")?;
        match self {
            Self::Architecture(name) => write!(f, "this engine does not know the architecture {name}"),
            Self::Encoder(family) => write!(
                f,
                "a {family} is an encoder: it makes vectors of texts and predicts no tokens"
            ),
            Self::Variant { field, found } => write!(f, "this engine does not know {field} {found}"),
            Self::Format { tensor, found } => write!(f, "{tensor} is stored as {found}"),
            Self::NoFile(name) => write!(f, "there is no {name}"),
            Self::Memory { needed, allowed } => {
                write!(
                    f,
                    "a window takes {needed} bytes of memory and {allowed} are allowed"
                )
            }
        }
    }
}

/// What ends a measurement early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Something is broken.
    #[error(transparent)]
    Failed(#[from] LanguageError),
    /// Nothing is broken.
    #[error("{0}")]
    NotMeasured(NotMeasured),
}

impl From<NotMeasured> for Stop {
    fn from(reason: NotMeasured) -> Self {
        Self::NotMeasured(reason)
    }
}

impl From<GpuError> for Stop {
    fn from(error: GpuError) -> Self {
        Self::Failed(error.into())
    }
}

impl LanguageError {
    pub(crate) fn file(file: &str, problem: impl fmt::Display) -> Stop {
        Self::File {
            file: file.to_owned(),
            problem: problem.to_string(),
        }
        .into()
    }

    pub(crate) fn config(field: &str, problem: impl fmt::Display) -> Stop {
        Self::Config {
            field: field.to_owned(),
            problem: problem.to_string(),
        }
        .into()
    }

    pub(crate) fn tensor(name: &str, problem: impl fmt::Display) -> Stop {
        Self::Tensor {
            name: name.to_owned(),
            problem: problem.to_string(),
        }
        .into()
    }
}
