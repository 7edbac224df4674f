//! The architectures this engine knows, and what they call their tensors.

use super::config::Shape;
use super::error::{LanguageError, Stop};
use super::tensors::Tensors;
use crate::backend::Backend;
use crate::cpu::product::Linear;
use crate::cpu::rows::Norm;
use crate::cuda::GpuError;

/// A family of models that share names and arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
    Gpt2,
    Bert,
}

impl Family {
    /// Returns the family of a `model_type`, unless the architecture is another head on it.
    pub(crate) fn of(kind: &str, architecture: &str) -> Option<Self> {
        let (family, name) = match kind {
            "llama" => (Self::Llama, "Llama"),
            "mistral" => (Self::Mistral, "Mistral"),
            "qwen2" => (Self::Qwen2, "Qwen2"),
            "qwen3" => (Self::Qwen3, "Qwen3"),
            "gemma" => (Self::Gemma, "Gemma"),
            "gemma2" => (Self::Gemma2, "Gemma2"),
            "gemma3_text" => (Self::Gemma3, "Gemma3"),
            "gpt2" => (Self::Gpt2, "GPT2"),
            "bert" => (Self::Bert, "Bert"),
            _ => return None,
        };
        let rest = architecture.strip_prefix(name);
        let known = match family {
            Self::Bert => matches!(rest, Some("Model" | "ForMaskedLM")),
            Self::Gpt2 => rest == Some("LMHeadModel"),
            _ => rest == Some("ForCausalLM"),
        };
        (known || architecture == kind).then_some(family)
    }

    pub(crate) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }
}

/// The weights of one layer, as they were read or where a backend has them.
pub(crate) struct Layer<L = Linear, N = Norm> {
    pub(crate) attention_norm: N,
    pub(crate) q: L,
    pub(crate) k: L,
    pub(crate) v: L,
    pub(crate) o: L,
    pub(crate) q_norm: Option<N>,
    pub(crate) k_norm: Option<N>,
    /// Normalises what attention adds.
    pub(crate) attention_after: Option<N>,
    pub(crate) mlp_norm: N,
    pub(crate) gate: Option<L>,
    pub(crate) up: L,
    pub(crate) down: L,
    /// Normalises what the second part adds.
    pub(crate) mlp_after: Option<N>,
}

/// A layer that a backend has.
pub(crate) type Placed<B> = Layer<<B as Backend>::Linear, <B as Backend>::Norm>;

impl Layer {
    /// Places a layer on a backend.
    pub(crate) fn place<B: Backend>(self, backend: &B) -> Result<Placed<B>, GpuError> {
        let norm = |norm| backend.norm(norm);
        let linear = |linear| backend.linear(linear);
        Ok(Layer {
            attention_norm: norm(self.attention_norm)?,
            q: linear(self.q)?,
            k: linear(self.k)?,
            v: linear(self.v)?,
            o: linear(self.o)?,
            q_norm: self.q_norm.map(norm).transpose()?,
            k_norm: self.k_norm.map(norm).transpose()?,
            attention_after: self.attention_after.map(norm).transpose()?,
            mlp_norm: norm(self.mlp_norm)?,
            gate: self.gate.map(linear).transpose()?,
            up: linear(self.up)?,
            down: linear(self.down)?,
            mlp_after: self.mlp_after.map(norm).transpose()?,
        })
    }
}

/// The names of a model's tensors.
pub(crate) struct Names {
    /// What stands before all names.
    root: &'static str,
    family: Family,
}

impl Names {
    /// Finds out what stands before the names, and refuses tensors of layers that the shape does not have.
    pub(crate) fn find(shape: &Shape, tensors: &Tensors<'_>) -> Result<Self, Stop> {
        let root = match shape.family {
            Family::Gpt2 if tensors.contains("wte.weight") => "",
            Family::Gpt2 => "transformer.",
            Family::Bert if tensors.contains("bert.embeddings.word_embeddings.weight") => "bert.",
            Family::Bert => "",
            _ => "model.",
        };
        let names = Self {
            root,
            family: shape.family,
        };
        let prefix = format!("{root}{}", names.layers());
        for name in tensors.names() {
            let layer = name.strip_prefix(&prefix).and_then(|rest| rest.split('.').next());
            if layer
                .and_then(|n| n.parse::<usize>().ok())
                .is_some_and(|n| n >= shape.layers.len())
            {
                let problem = format!(
                    "is of a layer that the configuration, with {}, has not",
                    shape.layers.len()
                );
                return Err(LanguageError::tensor(name, problem));
            }
        }
        Ok(names)
    }

    fn layers(&self) -> &'static str {
        match self.family {
            Family::Gpt2 => "h.",
            Family::Bert => "encoder.layer.",
            _ => "layers.",
        }
    }

    /// The table of token vectors.
    pub(crate) fn embedding(&self) -> String {
        let name = match self.family {
            Family::Gpt2 => "wte.weight",
            Family::Bert => "embeddings.word_embeddings.weight",
            _ => "embed_tokens.weight",
        };
        format!("{}{name}", self.root)
    }

    /// The table of position vectors.
    pub(crate) fn positions(&self) -> Option<String> {
        match self.family {
            Family::Gpt2 => Some(format!("{}wpe.weight", self.root)),
            Family::Bert => Some(format!("{}embeddings.position_embeddings.weight", self.root)),
            _ => None,
        }
    }

    /// The vectors of the two segments of an input.
    pub(crate) fn segments(&self) -> Option<String> {
        (self.family == Family::Bert).then(|| format!("{}embeddings.token_type_embeddings.weight", self.root))
    }

    /// The norm before the layers or after them, whichever the family has.
    pub(crate) fn outer_norm(&self, shape: &Shape, tensors: &Tensors<'_>) -> Result<Norm, Stop> {
        let name = match self.family {
            Family::Gpt2 => "ln_f",
            Family::Bert => "embeddings.LayerNorm",
            _ => "norm",
        };
        norm(shape, tensors, &format!("{}{name}", self.root), shape.hidden)
    }

    /// The matrix that makes logits.
    pub(crate) fn head(&self, shape: &Shape) -> String {
        if shape.tied {
            self.embedding()
        } else {
            "lm_head.weight".to_owned()
        }
    }

    /// Reads a layer.
    pub(crate) fn layer(&self, shape: &Shape, tensors: &Tensors<'_>, layer: usize) -> Result<Layer, Stop> {
        let prefix = format!("{}{}{layer}.", self.root, self.layers());
        let reader = Reader {
            shape,
            tensors,
            prefix,
        };
        match self.family {
            Family::Gpt2 => reader.gpt2(),
            Family::Bert => reader.bert(),
            family => reader.rotating(family),
        }
    }
}

fn norm(shape: &Shape, tensors: &Tensors<'_>, name: &str, width: usize) -> Result<Norm, Stop> {
    let bias = match shape.norm {
        crate::cpu::rows::NormKind::Layer => Some(tensors.vector(&format!("{name}.bias"), width)?),
        crate::cpu::rows::NormKind::RootMeanSquare { .. } => None,
    };
    Ok(Norm {
        kind: shape.norm,
        epsilon: shape.epsilon,
        weight: tensors.vector(&format!("{name}.weight"), width)?,
        bias,
    })
}

/// Reads the tensors of one layer.
struct Reader<'a> {
    shape: &'a Shape,
    tensors: &'a Tensors<'a>,
    prefix: String,
}

impl Reader<'_> {
    fn norm(&self, name: &str, width: usize) -> Result<Norm, Stop> {
        norm(self.shape, self.tensors, &format!("{}{name}", self.prefix), width)
    }

    fn linear(&self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Result<Linear, Stop> {
        let name = format!("{}{name}", self.prefix);
        let bias = bias
            .then(|| self.tensors.vector(&format!("{name}.bias"), outputs))
            .transpose()?;
        let matrix = self.tensors.matrix(&format!("{name}.weight"), outputs, inputs)?;
        Ok(Linear { matrix, bias })
    }

    /// Reads a matrix that is stored with one column per output, as several.
    fn by_columns(&self, name: &str, inputs: usize, counts: &[usize]) -> Result<Vec<Linear>, Stop> {
        let outputs = counts.iter().sum();
        let name = format!("{}{name}", self.prefix);
        let matrix = self.tensors.matrix(&format!("{name}.weight"), inputs, outputs)?;
        let mut bias = self.tensors.vector(&format!("{name}.bias"), outputs)?;
        let mut parts = Vec::with_capacity(counts.len());
        for matrix in matrix.split_columns(counts) {
            let rest = bias.split_off(matrix.rows.min(bias.len()));
            parts.push(Linear {
                matrix,
                bias: Some(bias),
            });
            bias = rest;
        }
        Ok(parts)
    }

    fn rotating(&self, family: Family) -> Result<Layer, Stop> {
        let Shape {
            hidden,
            inner,
            head_width,
            ..
        } = *self.shape;
        let (q, kv) = (self.shape.heads * head_width, self.shape.kv_heads * head_width);
        let bias = self.shape.attention_bias;
        let qkv_bias = bias || family == Family::Qwen2;
        let sandwich = matches!(family, Family::Gemma2 | Family::Gemma3);
        let head_norms = matches!(family, Family::Qwen3 | Family::Gemma3);
        let mlp_bias = self.shape.mlp_bias;
        let head_norm = |name| head_norms.then(|| self.norm(name, head_width)).transpose();
        let after = |name| sandwich.then(|| self.norm(name, hidden)).transpose();
        Ok(Layer {
            attention_norm: self.norm("input_layernorm", hidden)?,
            q: self.linear("self_attn.q_proj", q, hidden, qkv_bias)?,
            k: self.linear("self_attn.k_proj", kv, hidden, qkv_bias)?,
            v: self.linear("self_attn.v_proj", kv, hidden, qkv_bias)?,
            o: self.linear("self_attn.o_proj", hidden, q, bias && family != Family::Qwen2)?,
            q_norm: head_norm("self_attn.q_norm")?,
            k_norm: head_norm("self_attn.k_norm")?,
            attention_after: after("post_attention_layernorm")?,
            mlp_norm: self.norm(
                if sandwich {
                    "pre_feedforward_layernorm"
                } else {
                    "post_attention_layernorm"
                },
                hidden,
            )?,
            gate: Some(self.linear("mlp.gate_proj", inner, hidden, mlp_bias)?),
            up: self.linear("mlp.up_proj", inner, hidden, mlp_bias)?,
            down: self.linear("mlp.down_proj", hidden, inner, mlp_bias)?,
            mlp_after: after("post_feedforward_layernorm")?,
        })
    }

    fn gpt2(&self) -> Result<Layer, Stop> {
        let Shape { hidden, inner, .. } = *self.shape;
        let three = self.by_columns("attn.c_attn", hidden, &[hidden; 3])?;
        let one = |name, inputs, outputs| self.by_columns(name, inputs, &[outputs]);
        let parts = [
            three,
            one("attn.c_proj", hidden, hidden)?,
            one("mlp.c_fc", hidden, inner)?,
            one("mlp.c_proj", inner, hidden)?,
        ];
        let parts: Result<[Linear; 6], _> = parts.into_iter().flatten().collect::<Vec<_>>().try_into();
        let [q, k, v, o, up, down] =
            parts.map_err(|_| LanguageError::tensor(&self.prefix, "has not six matrices"))?;
        Ok(Layer {
            attention_norm: self.norm("ln_1", hidden)?,
            q,
            k,
            v,
            o,
            q_norm: None,
            k_norm: None,
            attention_after: None,
            mlp_norm: self.norm("ln_2", hidden)?,
            gate: None,
            up,
            down,
            mlp_after: None,
        })
    }

    fn bert(&self) -> Result<Layer, Stop> {
        let Shape { hidden, inner, .. } = *self.shape;
        let square = |name| self.linear(name, hidden, hidden, true);
        Ok(Layer {
            attention_norm: self.norm("attention.output.LayerNorm", hidden)?,
            q: square("attention.self.query")?,
            k: square("attention.self.key")?,
            v: square("attention.self.value")?,
            o: square("attention.output.dense")?,
            q_norm: None,
            k_norm: None,
            attention_after: None,
            mlp_norm: self.norm("output.LayerNorm", hidden)?,
            gate: None,
            up: self.linear("intermediate.dense", inner, hidden, true)?,
            down: self.linear("output.dense", hidden, inner, true)?,
            mlp_after: None,
        })
    }
}
