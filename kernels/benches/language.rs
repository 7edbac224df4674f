//! How fast the forward pass is, against the multiplications that this processor could do at most.
//!
//! `cargo bench -p waag-kernels --bench language` makes a Llama of random bf16 weights in memory, pushes some
//! sequences through it and prints tokens per second of the clock and GFLOP/s of processor time, best of some
//! rounds, on one thread and on all. The limit is measured in the same run, in processor time too: what else the
//! machine does hardly shows.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints; the crate itself does neither"
)]

use std::hint::black_box;
use std::time::Instant;

use serde_json::json;
use waag_kernels::language::{MemorySource, Model, Options, Precision, Residency, Sequence};
use waag_kernels::roofline;

const ROUNDS: usize = 3;
const LAYERS: usize = 2;
const HIDDEN: usize = 2048;
const INNER: usize = 5632;
const HEADS: usize = 32;
const KV_HEADS: usize = 4;
const HEAD: usize = 64;
const VOCABULARY: usize = 32_000;

/// Returns the seconds that this process's threads have run, or the clock's where the system does not say.
fn processor_seconds(clock: Instant) -> f64 {
    let threads = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    match nanoseconds.sum::<u64>() {
        0 => clock.elapsed().as_secs_f64(),
        sum => sum as f64 / 1e9,
    }
}

/// Returns the least seconds of some rounds: of the clock, and of processors.
fn seconds<T>(mut work: impl FnMut() -> T) -> (f64, f64) {
    let mut least = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let before = processor_seconds(start);
        black_box(work());
        least.0 = start.elapsed().as_secs_f64().min(least.0);
        least.1 = (processor_seconds(start) - before).min(least.1);
    }
    least
}

/// Makes a model with weights of a plausible size.
fn model() -> MemorySource {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HEADS * HEAD, HIDDEN]),
            ("self_attn.k_proj", vec![KV_HEADS * HEAD, HIDDEN]),
            ("self_attn.v_proj", vec![KV_HEADS * HEAD, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HEADS * HEAD]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    let (mut header, mut data, mut state) = (serde_json::Map::new(), Vec::new(), 1_u32);
    for (name, shape) in shapes {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Signs at random, exponents around 2^-6.
            let bits = 0x3c00 | ((state >> 16) & 0x80ff);
            data.extend_from_slice(&bits.to_le_bytes()[..2]);
        }
        header.insert(
            format!("{name}.weight"),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    let files = [
        ("config.json", serde_json::to_vec(&config).unwrap()),
        ("model.safetensors", file),
    ];
    MemorySource {
        files: files
            .into_iter()
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .collect(),
    }
}

/// Returns the floating-point operations for sequences of this length in which every token is asked for.
fn operations(length: usize, sequences: usize) -> f64 {
    let layer = HIDDEN * (2 * HEADS + 2 * KV_HEADS) * HEAD + 3 * HIDDEN * INNER;
    let attention = HEADS * HEAD * length;
    (2 * (LAYERS * (layer + attention) + HIDDEN * VOCABULARY) * length * sequences) as f64
}

fn main() {
    let rounds = 20_000_000;
    let limit = (rounds * roofline::OPERATIONS_PER_ROUND) as f64
        / 1e9
        / seconds(|| roofline::fused_multiply_adds(rounds)).1;
    println!("one thread could do {limit:.0} GFLOP/s");
    let source = model();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "precision", "threads", "sequences", "tokens/s", "GFLOP/s", "of limit"
    );
    for (precision, name) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
        for threads in [1, all] {
            for (length, count) in [(128, 4), (1024, 1)] {
                let options = Options {
                    precision,
                    residency: Residency::Resident,
                    ..Options::default()
                };
                let opened = Model::open(&source, options).unwrap();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let sequences: Vec<Sequence> = (0..count)
                    .map(|s| {
                        let tokens: Vec<u32> = (0..length as u32)
                            .map(|i| (i * 7919 + s * 104_729) % VOCABULARY as u32)
                            .collect();
                        Sequence {
                            asked: tokens.iter().enumerate().map(|(i, t)| (i, vec![*t])).collect(),
                            tokens,
                        }
                    })
                    .collect();
                let (clock, processor) = pool.install(|| seconds(|| opened.ask(&sequences).unwrap()));
                let rate = operations(length, sequences.len()) / 1e9 / processor;
                let tokens = (length * sequences.len()) as f64 / clock;
                let share = rate / limit;
                println!(
                    "{name:>9} {threads:>7} {:>9} {tokens:>9.1} {rate:>15.1} {share:>9.2}",
                    format!("{count}x{length}")
                );
            }
        }
    }
    decode(&source, all);
}

/// One token after the other, each of which reads all weights, beside reading memory by turns.
fn decode(source: &MemorySource, all: usize) {
    const TOKENS: u32 = 16;
    let memory: Vec<u64> = (0..32 << 20).collect();
    for (precision, name) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16")] {
        for threads in [1, all] {
            let options = Options {
                precision,
                residency: Residency::Resident,
                ..Options::default()
            };
            let model = Model::open(source, options).unwrap();
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (mut read, mut decoded) = (f64::MAX, f64::MAX);
            pool.install(|| {
                for _ in 0..ROUNDS {
                    read = seconds(|| roofline::read(&memory)).0.min(read);
                    let write = || {
                        let mut decoder = model.decoder().unwrap();
                        (0..TOKENS).for_each(|token| drop(decoder.take(token, &[]).unwrap()));
                    };
                    decoded = seconds(write).0.min(decoded);
                }
            });
            let read = memory.len() as f64 * 8.0 / 1e9 / read;
            let moved = model.pass_bytes() as f64 * f64::from(TOKENS) / 1e9 / decoded;
            println!(
                "{name:>9} {threads:>7}    decode {:>9.1} {moved:>11.1} GB/s {:>9.2} of {read:.1} GB/s",
                f64::from(TOKENS) / decoded,
                moved / read
            );
        }
    }
}
