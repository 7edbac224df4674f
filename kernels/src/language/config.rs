//! What `config.json` says, in both spellings that are in use, as one shape.
//!
//! Invariant: every count of a [`Shape`] is within bounds that keep sums and products of two of them in range,
//! and heads divide as they must. Whether tensors agree is found out when they are opened.

use serde_json::Value;

use super::error::{LanguageError, NotMeasured, Stop};
use super::family::Family;
use super::reach::{Reach, layers};
use crate::cpu::rows::{Activation, NormKind};

pub(super) const LAYERS_MAX: usize = 4096;
const WIDTH_MAX: usize = 1 << 20;
const VOCABULARY_MAX: usize = 1 << 24;
pub(super) const POSITIONS_MAX: usize = 1 << 30;
/// The configuration's own default where nothing says how long an input may be.
const POSITIONS_DEFAULT: usize = 2048;

/// What a model is made of.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) family: Family,
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) inner: usize,
    pub(crate) positions: usize,
    pub(crate) layers: Vec<Reach>,
    /// The frequencies of each kind of rotation.
    pub(crate) rotations: Vec<Vec<f32>>,
    pub(crate) norm: NormKind,
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    pub(crate) attention_scale: f32,
    pub(crate) attention_cap: Option<f32>,
    pub(crate) final_cap: Option<f32>,
    pub(crate) scale_embedding: bool,
    pub(crate) attention_bias: bool,
    pub(crate) mlp_bias: bool,
    pub(crate) tied: bool,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

/// A `config.json`, read field by field.
pub(super) struct Config<'a>(pub(super) &'a Value);

impl<'a> Config<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Stop> {
        self.get(name).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| LanguageError::config(name, format!("is {value}, not true or false")))
        })
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Stop> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|x| x.is_finite());
        number
            .map(Some)
            .ok_or_else(|| LanguageError::config(name, format!("is {value}, not a number")))
    }

    pub(super) fn positive(&self, name: &str) -> Result<Option<f64>, Stop> {
        match self.number(name)? {
            Some(x) if x <= 0.0 => Err(LanguageError::config(name, format!("is {x}, not above zero"))),
            other => Ok(other),
        }
    }

    pub(super) fn maybe_count(&self, name: &str, max: usize) -> Result<Option<usize>, Stop> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
        match count {
            Some(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(LanguageError::config(
                name,
                format!("is {value}, not a count from 1 to {max}"),
            )),
        }
    }

    pub(super) fn count(&self, name: &str, max: usize) -> Result<usize, Stop> {
        self.maybe_count(name, max)?
            .ok_or_else(|| LanguageError::config(name, "is missing"))
    }

    /// A token id, or the first of a list of them.
    fn token(&self, name: &str) -> Option<u32> {
        let value = self.get(name)?;
        let value = value.as_array().map_or(Some(value), |list| list.first())?;
        value.as_u64().and_then(|id| u32::try_from(id).ok())
    }
}

impl Shape {
    /// Reads a configuration.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Stop> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| LanguageError::file("config.json", e))?;
        let config = Config(&value);
        let kind = config.text("model_type").unwrap_or_default();
        let architecture = config
            .get("architectures")
            .and_then(|list| list.get(0))
            .and_then(Value::as_str)
            .unwrap_or(kind);
        let family = Family::of(kind, architecture).ok_or_else(|| {
            NotMeasured::Architecture(
                if architecture.is_empty() {
                    "(none named)"
                } else {
                    architecture
                }
                .to_owned(),
            )
        })?;
        if let Some(found) = config.get("quantization_config") {
            return Err(variant(
                "quantization_config",
                found.get("quant_method").unwrap_or(found),
            ));
        }
        match family {
            Family::Gpt2 => Self::gpt2(&config),
            Family::Bert => Self::bert(&config),
            _ => Self::rotating(&config, family),
        }
    }

    /// All families with rotary positions and gated layers.
    fn rotating(config: &Config<'_>, family: Family) -> Result<Self, Stop> {
        let gemma = family.is_gemma();
        let hidden = config.count("hidden_size", WIDTH_MAX)?;
        let heads = config.count("num_attention_heads", WIDTH_MAX)?;
        let kv_heads = config
            .maybe_count("num_key_value_heads", WIDTH_MAX)?
            .unwrap_or(heads);
        if heads % kv_heads != 0 {
            return Err(LanguageError::config(
                "num_key_value_heads",
                format!("is {kv_heads}, which does not divide {heads} heads"),
            ));
        }
        let head_width = match config.maybe_count("head_dim", WIDTH_MAX)? {
            Some(width) => width,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(LanguageError::config(
                    "num_attention_heads",
                    format!("is {heads}, which does not divide {hidden}"),
                ));
            }
        };
        if head_width % 2 != 0 {
            return Err(LanguageError::config(
                "head_dim",
                format!("is {head_width}, which has no halves"),
            ));
        }
        if config
            .number("partial_rotary_factor")?
            .is_some_and(|factor| factor < 1.0)
        {
            return Err(variant(
                "partial_rotary_factor",
                config.0.get("partial_rotary_factor").unwrap_or(&Value::Null),
            ));
        }
        if config
            .get("use_bidirectional_attention")
            .is_some_and(|v| v != &Value::Bool(false))
        {
            return Err(variant("use_bidirectional_attention", &Value::Bool(true)));
        }
        let activation = match config
            .text("hidden_activation")
            .or_else(|| config.text("hidden_act"))
        {
            // Early Gemma files say `gelu` and mean the one with the hyperbolic tangent.
            Some("gelu") if family == Family::Gemma => Activation::GeluTanh,
            None if gemma => Activation::GeluTanh,
            None | Some("silu" | "swish") => Activation::Silu,
            Some("gelu") => Activation::GeluErf,
            Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Activation::GeluTanh,
            Some(other) => return Err(variant("hidden_act", &Value::from(other))),
        };
        let query_width = match config.positive("query_pre_attn_scalar")? {
            Some(width) if matches!(family, Family::Gemma2 | Family::Gemma3) => width,
            None if matches!(family, Family::Gemma2 | Family::Gemma3) => 256.0,
            _ => to_f64(head_width),
        };
        let (layers, rotations) = layers(config, family, head_width)?;
        Ok(Self {
            family,
            vocabulary: config.count("vocab_size", VOCABULARY_MAX)?,
            hidden,
            heads,
            kv_heads,
            head_width,
            inner: config.count("intermediate_size", WIDTH_MAX)?,
            positions: config
                .maybe_count("max_position_embeddings", POSITIONS_MAX)?
                .unwrap_or(POSITIONS_DEFAULT),
            layers,
            rotations,
            norm: NormKind::RootMeanSquare {
                offset: if gemma { 1.0 } else { 0.0 },
            },
            epsilon: config.positive("rms_norm_eps")?.unwrap_or(1e-6),
            activation,
            attention_scale: narrow(1.0 / query_width.sqrt()),
            attention_cap: cap(config, "attn_logit_softcapping", family == Family::Gemma2, 50.0)?,
            final_cap: cap(config, "final_logit_softcapping", family == Family::Gemma2, 30.0)?,
            scale_embedding: gemma,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
            tied: config.flag("tie_word_embeddings", gemma)?,
            bos: config.token("bos_token_id"),
            eos: config.token("eos_token_id"),
        })
    }

    fn gpt2(config: &Config<'_>) -> Result<Self, Stop> {
        for field in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
            if config.flag(field, false)? {
                return Err(variant(field, &Value::Bool(true)));
            }
        }
        let hidden = config.count("n_embd", WIDTH_MAX)?;
        let scaled = config.flag("scale_attn_weights", true)?;
        let mut shape = Self::absolute(
            config,
            Family::Gpt2,
            hidden,
            config.count("n_head", WIDTH_MAX)?,
            config.count("n_layer", LAYERS_MAX)?,
        )?;
        shape.inner = config.maybe_count("n_inner", WIDTH_MAX)?.unwrap_or(4 * hidden);
        shape.positions = config.maybe_count("n_positions", POSITIONS_MAX)?.unwrap_or(1024);
        shape.epsilon = config.positive("layer_norm_epsilon")?.unwrap_or(1e-5);
        shape.activation = match config.text("activation_function") {
            None | Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
            Some("gelu") => Activation::GeluErf,
            Some(other) => return Err(variant("activation_function", &Value::from(other))),
        };
        if !scaled {
            shape.attention_scale = 1.0;
        }
        Ok(shape)
    }

    fn bert(config: &Config<'_>) -> Result<Self, Stop> {
        if config.flag("is_decoder", false)? {
            return Err(variant("is_decoder", &Value::Bool(true)));
        }
        if let Some(other) = config
            .text("position_embedding_type")
            .filter(|kind| *kind != "absolute")
        {
            return Err(variant("position_embedding_type", &Value::from(other)));
        }
        let hidden = config.count("hidden_size", WIDTH_MAX)?;
        let heads = config.count("num_attention_heads", WIDTH_MAX)?;
        let mut shape = Self::absolute(
            config,
            Family::Bert,
            hidden,
            heads,
            config.count("num_hidden_layers", LAYERS_MAX)?,
        )?;
        shape.inner = config.count("intermediate_size", WIDTH_MAX)?;
        shape.positions = config
            .maybe_count("max_position_embeddings", POSITIONS_MAX)?
            .unwrap_or(512);
        shape.epsilon = config.positive("layer_norm_eps")?.unwrap_or(1e-12);
        shape.activation = match config.text("hidden_act") {
            None | Some("gelu") => Activation::GeluErf,
            Some("gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
            Some(other) => return Err(variant("hidden_act", &Value::from(other))),
        };
        Ok(shape)
    }

    /// What the families with learned positions share.
    fn absolute(
        config: &Config<'_>,
        family: Family,
        hidden: usize,
        heads: usize,
        layers: usize,
    ) -> Result<Self, Stop> {
        if !hidden.is_multiple_of(heads) {
            return Err(LanguageError::config(
                "heads",
                format!("are {heads}, which does not divide {hidden}"),
            ));
        }
        let head_width = hidden / heads;
        Ok(Self {
            family,
            vocabulary: config.count("vocab_size", VOCABULARY_MAX)?,
            hidden,
            heads,
            kv_heads: heads,
            head_width,
            inner: hidden,
            positions: POSITIONS_DEFAULT,
            layers: vec![
                Reach {
                    window: None,
                    rotation: 0
                };
                layers
            ],
            rotations: Vec::new(),
            norm: NormKind::Layer,
            epsilon: 1e-5,
            activation: Activation::GeluTanh,
            attention_scale: narrow(1.0 / to_f64(head_width).sqrt()),
            attention_cap: None,
            final_cap: None,
            scale_embedding: false,
            attention_bias: true,
            mlp_bias: true,
            tied: config.flag("tie_word_embeddings", true)?,
            bos: config.token("bos_token_id"),
            eos: config.token("eos_token_id"),
        })
    }
}

/// Reads a bound that `null` turns off.
fn cap(config: &Config<'_>, field: &str, by_default: bool, default: f32) -> Result<Option<f32>, Stop> {
    if config.0.get(field).is_none() && by_default {
        return Ok(Some(default));
    }
    Ok(config.positive(field)?.map(narrow))
}

pub(super) fn variant(field: &str, found: &Value) -> Stop {
    let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
    NotMeasured::Variant {
        field: field.to_owned(),
        found: found.chars().take(80).collect(),
    }
    .into()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "that is how the numbers are defined"
)]
pub(super) fn narrow(x: f64) -> f32 {
    x as f32
}

#[expect(clippy::cast_precision_loss, reason = "counts here are below 2^30")]
pub(super) fn to_f64(count: usize) -> f64 {
    count as f64
}
