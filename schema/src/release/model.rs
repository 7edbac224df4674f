//! ModelPack's configuration of a model: the JSON blob that a manifest cites as its `config`.
//!
//! The specification forbids fields of our own here, so only its own stand in it; what waag adds stands in
//! the manifest's annotations. Facts come from a model's `config.json`, which is written by strangers and
//! may be missing, malformed or huge: what is not plainly there is left out, and nothing fails. Element types
//! and the number of parameters come from the safetensors headers, which were checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::builder::About;
use crate::base::digest::Sha256;
use crate::base::json::{self, JsonError};
use crate::base::name::FilePath;
use crate::content::safetensors::Header;

/// A `config.json` beyond this size is not read: real ones have a few kilobytes.
pub const CONFIG_JSON_MAX_BYTES: usize = 1 << 20;
/// A ModelPack configuration beyond this size is not read; 10,000 layers need 750 KB.
pub const MODEL_CONFIG_MAX_BYTES: usize = 4 << 20;
/// Longer words are no architecture's name.
const WORD_MAX_BYTES: usize = 128;

/// What is known about a model from its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    architecture: Option<String>,
    family: Option<String>,
    declared_precision: Option<String>,
    quantization: Option<String>,
    parameters: u64,
    precisions: BTreeSet<&'static str>,
}

impl ModelFacts {
    /// Starts with nothing known.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            architecture: None,
            family: None,
            declared_precision: None,
            quantization: None,
            parameters: 0,
            precisions: BTreeSet::new(),
        }
    }

    /// Takes what a `config.json` says; nothing, if it cannot be read.
    #[must_use]
    pub fn with_config_json(mut self, bytes: &[u8]) -> Self {
        if bytes.len() > CONFIG_JSON_MAX_BYTES {
            return self;
        }
        let Ok(config) = serde_json::from_slice::<Value>(bytes) else {
            return self;
        };
        self.family = word(config.get("model_type"));
        self.architecture = word(config.pointer("/architectures/0")).or_else(|| self.family.clone());
        // Newer writers say `dtype`.
        self.declared_precision = word(config.get("torch_dtype")).or_else(|| word(config.get("dtype")));
        self.quantization = word(config.pointer("/quantization_config/quant_method"));
        self
    }

    /// Adds one safetensors file.
    #[must_use]
    pub fn with_header(mut self, header: &Header) -> Self {
        self.parameters = self.parameters.saturating_add(header.parameters());
        self.precisions.extend(header.precisions());
        self
    }

    /// Returns the number of parameters in the files that were added.
    #[must_use]
    pub const fn parameters(&self) -> u64 {
        self.parameters
    }

    fn precision(&self) -> Option<String> {
        if self.precisions.is_empty() {
            return self.declared_precision.clone();
        }
        Some(self.precisions.iter().copied().collect::<Vec<_>>().join(","))
    }
}

/// A short word without surprises: it ends on web pages and in search.
fn word(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    (!text.is_empty() && text.len() <= WORD_MAX_BYTES && text.bytes().all(plain)).then(|| text.to_owned())
}

/// Returns ModelPack's text for a number of parameters, as in `8.0B`; nothing below 50.
#[must_use]
pub fn param_size(parameters: u64) -> Option<String> {
    const UNITS: [(u64, char); 5] = [
        (1_000, 'K'),
        (1_000_000, 'M'),
        (1_000_000_000, 'B'),
        (1_000_000_000_000, 'T'),
        (1_000_000_000_000_000, 'Q'),
    ];
    // Rounded to tenths of the unit, half up; a unit is large enough when that stays below 1,000.
    let tenths = |unit: u64| (u128::from(parameters) * 20 + u128::from(unit)) / (u128::from(unit) * 2);
    let (unit, letter) = UNITS
        .into_iter()
        .find(|(unit, _)| tenths(*unit) < 10_000)
        .unwrap_or(UNITS[4]);
    let tenths = tenths(unit);
    (tenths > 0).then(|| format!("{}.{}{letter}", tenths / 10, tenths % 10))
}

/// ModelPack's configuration, with the fields that we write. Others are ignored when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelConfig {
    // Fields stand in the order of their JSON names: the writer keeps it, and the keys must be sorted.
    /// What a runtime needs to know.
    pub config: Properties,
    /// What people need to know.
    pub descriptor: Descriptor,
    /// The layers.
    pub modelfs: ModelFs,
}

/// What a runtime needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Properties {
    /// As in `LlamaForCausalLM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// As in `safetensors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// As in `8.0B`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param_size: Option<String>,
    /// As in `bfloat16,float32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// As in `gptq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
}

/// What people need to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptor {
    /// As in `llama`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// SPDX expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which revision of its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where it came from.
    #[serde(rename = "sourceURL", skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// Which version it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFs {
    /// The digest of each layer when unpacked; for raw layers that is the layer itself.
    #[serde(rename = "diffIds")]
    pub diff_ids: Vec<Sha256>,
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl ModelConfig {
    /// Puts together what is known; `diff_ids` stand in the order of the manifest's layers.
    #[must_use]
    pub fn new<'p>(
        about: &About,
        facts: &ModelFacts,
        weights: impl Iterator<Item = &'p FilePath>,
        diff_ids: Vec<Sha256>,
    ) -> Self {
        // The specification wants a name of one character at least, where there is one.
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            config: Properties {
                architecture: facts.architecture.clone(),
                format: format_of(weights),
                param_size: param_size(facts.parameters),
                precision: facts.precision(),
                quantization: facts.quantization.clone(),
            },
            descriptor: Descriptor {
                family: facts.family.clone(),
                licenses: text(&about.license).into_iter().collect(),
                name: text(&about.title),
                revision: text(&about.revision),
                source_url: text(&about.source),
                version: text(&about.version),
            },
            modelfs: ModelFs {
                diff_ids,
                kind: "layers".to_owned(),
            },
        }
    }

    /// Returns the configuration's bytes: sorted keys, no spaces.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a tree of strings is JSON")
    }

    /// Reads a configuration, also a foreign one.
    ///
    /// # Errors
    /// When it is too large, not strict JSON, or not shaped like ModelPack's.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        json::from_slice(bytes, MODEL_CONFIG_MAX_BYTES)
    }
}

/// Returns the format of the weights; the first of this list where there are several.
fn format_of<'p>(weights: impl Iterator<Item = &'p FilePath>) -> Option<String> {
    const FORMATS: [&str; 4] = ["safetensors", "gguf", "onnx", "tflite"];
    weights
        .filter_map(|path| FORMATS.iter().position(|format| path.has_extension(format)))
        .min()
        .map(|first| FORMATS[first].to_owned())
}
