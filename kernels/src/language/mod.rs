//! What a language model says of texts: log-probabilities, perplexities, choices.
//!
//! [`Model`] is the forward pass, from `config.json` and safetensors; [`Suite`] is what is asked; [`evaluate`]
//! brings both together with the semantics of lm-evaluation-harness 0.4.13. Models that this engine does not
//! know are [`NotMeasured`], which is a value and no error.
//!
//! - `config`, `reach`, `family`, `tensors`: what the files of a model say.
//! - `forward`, `layers`: from tokens to rows, through layers, to log-probabilities.
//! - `decode`: the same for one token after the other.
//! - `tokens`, `request`: text into windows of tokens.
//! - `task`, `template`, `yaml`: what is asked.
//! - `embedding`: vectors of whole texts, from encoders.
//! - `score`: from log-probabilities to numbers that people compare.
//! - `sources`: what these numbers are made of.

mod config;
mod decode;
mod embedding;
mod error;
mod family;
mod forward;
mod layers;
mod reach;
mod request;
mod score;
mod source;
mod sources;
mod task;
mod template;
mod tensors;
mod tokens;
mod yaml;

pub use decode::Decoder;
pub use embedding::{Pooling, embed};
pub use error::{LanguageError, NotMeasured, Stop};
pub use forward::{Answer, Model, Options, Residency, Sequence};
pub use score::{Language, LanguageSection, Metric, Sample, TaskScore, evaluate};
pub use source::{MemorySource, ModelSource};
pub use sources::{REVISION, SOURCES};
pub use task::{Description, Suite, Task, TaskKind};

pub use crate::cpu::precision::Precision;
