//! A small model for the demo: bfloat16 weights of normal noise, so that they are stored and weighed as real ones are.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

const TENSORS: [(&str, usize, usize); 4] = [
    ("model.embed_tokens.weight", 512, 256),
    ("model.layers.0.self_attn.q_proj.weight", 256, 256),
    ("model.layers.0.mlp.up_proj.weight", 1024, 256),
    ("lm_head.weight", 512, 256),
];

/// Writes the model: a safetensors file, a config, and a page about it.
pub(super) fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    fs::write(
        directory.join("config.json"),
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"torch_dtype\": \"bfloat16\"}\n",
    )?;
    fs::write(
        directory.join("README.md"),
        "# A model made for the demo\n\nIts weights are noise.\n",
    )?;
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, rows, columns) in TENSORS {
        let begin = end;
        end += rows * columns * 2;
        let entry = serde_json::json!({
            "dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end],
        });
        header.insert(name.to_owned(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = io::BufWriter::new(fs::File::create(directory.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = 0x5eed_u64;
    for _ in 0..end / 2 {
        file.write_all(&bfloat16(0.02 * normal(&mut state)).to_le_bytes())?;
    }
    file.flush()
}

/// A sum of twelve uniform numbers less six: near enough to normal.
fn normal(state: &mut u64) -> f32 {
    let sum: u32 = (0..12).map(|_| u32::from(next(state))).sum();
    sum as f32 / 65_536.0 - 6.0
}

/// The splitmix64 generator's upper bits.
fn next(state: &mut u64) -> u16 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 48) as u16
}

/// Cut, not rounded: noise stays noise.
fn bfloat16(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}
