//! Text into tokens, by the model's own `tokenizer.json`.
//!
//! The rules are those of lm-evaluation-harness: special tokens as the tokenizer adds them by itself, none where
//! the text already begins with the prefix token's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

use super::error::{LanguageError, NotMeasured, Stop};
use super::source::{self, ModelSource};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
/// Four times the largest in common use.
const BYTES_MAX: u64 = 128 << 20;
const SETTINGS_BYTES_MAX: u64 = 16 << 20;

/// A model's tokenizer.
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    /// Stands before a text that has nothing before it.
    pub(crate) prefix: u32,
    prefix_text: String,
    /// Whether a text begins with the BOS token, where the settings say so against the tokenizer.
    bos: Option<(u32, bool)>,
}

impl Tokens {
    /// Opens a model's tokenizer; `bos` and `eos` are what its configuration says.
    pub(crate) fn open(source: &dyn ModelSource, bos: Option<u32>, eos: Option<u32>) -> Result<Self, Stop> {
        let bytes =
            source::whole(source, FILE, BYTES_MAX)?.ok_or_else(|| NotMeasured::NoFile(FILE.to_owned()))?;
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(&bytes))?;
        if let ModelWrapper::BPE(model) = tokenizer.get_model()
            && model.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            let found = "that drops merges at random".to_owned();
            return Err(NotMeasured::Variant {
                field: FILE.to_owned(),
                found,
            }
            .into());
        }
        // What a file says of lengths is for training.
        tokenizer
            .with_truncation(None)
            .map_err(|e| LanguageError::file(FILE, e))?;
        tokenizer.with_padding(None);
        let settings = source::whole(source, SETTINGS, SETTINGS_BYTES_MAX)?;
        let settings: Value = match settings {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| LanguageError::file(SETTINGS, e))?,
            None => Value::Null,
        };
        let named = |key: &str| {
            let token = settings.get(key)?;
            let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
            tokenizer.token_to_id(text)
        };
        let bos = named("bos_token").or(bos);
        let prefix = bos.or_else(|| named("eos_token")).or(eos);
        let prefix = prefix
            .ok_or_else(|| LanguageError::file(SETTINGS, "names neither a bos_token nor an eos_token"))?;
        let prefix_text = tokenizer.id_to_token(prefix).unwrap_or_default();
        let adds = settings.get("add_bos_token").and_then(Value::as_bool);
        Ok(Self {
            prefix,
            prefix_text,
            bos: bos.zip(adds),
            tokenizer,
        })
    }

    /// Returns the tokens of a text, special ones included as the tokenizer would.
    pub(crate) fn of(&self, text: &str) -> Result<Vec<u32>, Stop> {
        if !self.prefix_text.is_empty() && text.starts_with(&self.prefix_text) {
            return self.plainly(text);
        }
        let mut tokens = self.encode(text, true)?;
        match self.bos {
            Some((bos, true)) if tokens.first() != Some(&bos) => tokens.insert(0, bos),
            Some((bos, false)) if tokens.first() == Some(&bos) => {
                tokens.remove(0);
            }
            _ => {}
        }
        Ok(tokens)
    }

    /// Returns the tokens of a text and no others.
    pub(crate) fn plainly(&self, text: &str) -> Result<Vec<u32>, Stop> {
        self.encode(text, false)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Stop> {
        guarded(|| self.tokenizer.encode_fast(text, special)).map(|encoding| encoding.get_ids().to_vec())
    }
}

/// Runs what reads a foreign file with foreign code: its panics are the file's fault.
fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Stop> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(LanguageError::file(FILE, error)),
        Err(_) => Err(LanguageError::file(FILE, "cannot be used: it contradicts itself")),
    }
}
