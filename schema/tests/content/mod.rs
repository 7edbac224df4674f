//! Chunks, recipes, manifests: what is written is what is read, and what is malformed is refused.

mod chunk;
mod encoding;
mod gguf;
mod manifest;
mod model;
mod packing;
mod planner;
mod recipe;
mod safetensors;

use std::fmt::Write as _;

/// A safetensors file in the making: tensors one behind the other.
#[derive(Debug, Clone, Default)]
struct Layout {
    tensors: Vec<(String, &'static str, Vec<u64>, u64)>,
    metadata: Option<String>,
}

impl Layout {
    fn tensor(mut self, name: impl Into<String>, dtype: &'static str, shape: &[u64], size: u64) -> Self {
        self.tensors.push((name.into(), dtype, shape.to_vec(), size));
        self
    }

    /// A tensor of bytes.
    fn bytes(self, name: impl Into<String>, shape: &[u64]) -> Self {
        let size = shape.iter().product();
        self.tensor(name, "U8", shape, size)
    }

    fn json(&self) -> Vec<u8> {
        let mut json = "{".to_owned();
        if let Some(note) = &self.metadata {
            write!(json, r#""__metadata__":{{"note":"{note}"}},"#).unwrap();
        }
        let mut at = 0;
        for (name, dtype, shape, size) in &self.tensors {
            write!(
                json,
                r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{}]}},"#,
                at + size
            )
            .unwrap();
            at += size;
        }
        if json.ends_with(',') {
            json.pop();
        }
        json.push('}');
        json.into_bytes()
    }

    fn data_size(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.3).sum()
    }

    fn header(&self) -> waag_schema::content::Header {
        let json = self.json();
        let size = 8 + json.len() as u64 + self.data_size();
        waag_schema::content::Header::parse(&json, size).unwrap()
    }

    /// The whole file, each tensor filled from a seed of its own.
    fn file(&self, seed_of: impl Fn(&str) -> u64) -> Vec<u8> {
        let json = self.json();
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(&json);
        for (name, _, _, size) in &self.tensors {
            file.extend(noise(seed_of(name), *size as usize));
        }
        file
    }
}

/// Bytes that look random and are the same everywhere (xorshift64*).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
