//! Makes models as people publish them: shards, their index, `config.json`, `tokenizer.json`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::safetensors::{self, Tensor};

const HIDDEN: u64 = 2048;
const INTERMEDIATE: u64 = 5632;
const VOCABULARY: u64 = 32_000;
const KEY_VALUE: u64 = 256;

/// The tensors of a Llama of the shape of TinyLlama with this many layers: about 44 million parameters a
/// layer, and 131 million for the embeddings.
pub(crate) fn llama(layers: u64) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut add = |name: String, shape: &[u64]| {
        let content = tensors.len() as u64;
        tensors.push(Tensor::new(name, shape, content));
    };
    add("model.embed_tokens.weight".to_owned(), &[VOCABULARY, HIDDEN]);
    for layer in 0..layers {
        for (part, shape) in [
            ("input_layernorm", &[HIDDEN][..]),
            ("mlp.down_proj", &[HIDDEN, INTERMEDIATE]),
            ("mlp.gate_proj", &[INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", &[INTERMEDIATE, HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.k_proj", &[KEY_VALUE, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.v_proj", &[KEY_VALUE, HIDDEN]),
        ] {
            add(format!("model.layers.{layer}.{part}.weight"), shape);
        }
    }
    add("model.norm.weight".to_owned(), &[HIDDEN]);
    add("lm_head.weight".to_owned(), &[VOCABULARY, HIDDEN]);
    tensors
}

/// Writes a model directory with the tensors in about this many shards of about the same size.
pub(crate) fn write(dir: &Path, layers: u64, tensors: &[Tensor], shards: usize) {
    fs::create_dir_all(dir).unwrap();
    write_json(&dir.join("config.json"), &config(layers));
    write_json(&dir.join("tokenizer.json"), &tokenizer());
    fs::write(
        dir.join("README.md"),
        "# A model made for a test\n\nIts weights are noise.\n",
    )
    .unwrap();
    write_shards(dir, tensors, shards);
}

/// Writes the shards and their index, and nothing else. Shards that are there already under the same name
/// are written again.
pub(crate) fn write_shards(dir: &Path, tensors: &[Tensor], shards: usize) {
    let groups = split(tensors, shards);
    let mut map = Map::new();
    for (i, group) in groups.iter().enumerate() {
        let name = shard_name(i, groups.len());
        safetensors::write(&dir.join(&name), group);
        for tensor in *group {
            map.insert(tensor.name.clone(), Value::String(name.clone()));
        }
    }
    let total: u64 = tensors.iter().map(Tensor::bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    write_json(&dir.join("model.safetensors.index.json"), &index);
}

pub(crate) fn shard_name(index: usize, of: usize) -> String {
    format!("model-{:05}-of-{of:05}.safetensors", index + 1)
}

/// Cuts the tensors, in their order, into groups of about the same size.
pub(crate) fn split(tensors: &[Tensor], groups: usize) -> Vec<&[Tensor]> {
    let total: u64 = tensors.iter().map(Tensor::bytes).sum();
    let mut parts = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        sum += tensor.bytes();
        let full = sum * groups as u64 >= total * (parts.len() as u64 + 1);
        if full || i + 1 == tensors.len() {
            parts.push(&tensors[start..=i]);
            start = i + 1;
        }
    }
    assert_eq!(parts.len(), groups, "the tensors are too large to be cut so");
    parts
}

/// Copies a directory by links: what is not written again is not stored again.
pub(crate) fn link_copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::hard_link(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn write_json(path: &Path, value: &Value) {
    // A copy made of links must not be written through.
    let _ = fs::remove_file(path);
    fs::write(path, serde_json::to_string_pretty(value).unwrap() + "\n").unwrap();
}

fn config(layers: u64) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": layers,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": VOCABULARY,
    })
}

/// A byte-level BPE without merges, in the form that the `tokenizers` library reads: every text has tokens.
fn tokenizer() -> Value {
    let special = ["<unk>", "<s>", "</s>"];
    let mut vocabulary = Map::new();
    for (id, token) in special.iter().enumerate() {
        vocabulary.insert((*token).to_owned(), json!(id));
    }
    for (id, c) in byte_alphabet().into_iter().enumerate() {
        vocabulary.insert(c.to_string(), json!(id + special.len()));
    }
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []},
    })
}

/// The printable stand-ins for the 256 bytes that byte-level tokenizers use: printable Latin-1 stands for
/// itself, the rest for the characters from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let itself = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    (0..=255_u8)
        .map(|b| {
            if itself(b) {
                return char::from(b);
            }
            next += 1;
            char::from_u32(next - 1).unwrap()
        })
        .collect()
}
