//! What a GPU does of this crate's work, against what it could do at most, measured in the same run.
//!
//! `cargo bench -p waag-kernels --bench device` needs a driver and a device; where there is none it says why, in one
//! line, and ends. It checks that results are those of the CPU before it takes any time, and prints rates with their share
//! of a limit. What it prints belongs, with its date and the device's name, into `kernels/README.md`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints; the crate itself does neither"
)]

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use waag_kernels::cuda::{Gpu, GpuPass};
use waag_kernels::language::{Answer, MemorySource, Model, Options, Precision, Residency, Sequence};
use waag_kernels::{Element, Pass};

const ROUNDS: usize = 5;
/// Weights that are measured at a time, 1 GiB, and pieces they come in.
const BYTES: usize = 1 << 30;
const PIECE: usize = 4 << 20;
/// The shape of a layer of 8 billion parameters' models; two of them.
const LAYERS: usize = 2;
const HIDDEN: usize = 4096;
const INNER: usize = 14336;
const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const HEAD: usize = 128;
const VOCABULARY: usize = 32_000;
const LENGTH: usize = 2048;

/// Returns the least seconds of some rounds.
fn seconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        drop(work());
        least = start.elapsed().as_secs_f64().min(least);
    }
    least
}

/// Elements like those of a layer: signs at random, a few exponents.
fn weights(element: Element, bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut weights = Vec::with_capacity(bytes + 8);
    while weights.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let random = (state >> 32) as u32;
        match element {
            Element::F32 => weights.extend_from_slice(&(0x3c00_0000 | (random & 0x80ff_ffff)).to_le_bytes()),
            Element::Bf16 => weights.extend_from_slice(&(0x3c00 | (random & 0x80ff) as u16).to_le_bytes()),
            Element::F16 => weights.extend_from_slice(&(0x2000 | (random & 0x87ff) as u16).to_le_bytes()),
            Element::F8E4m3 | Element::F8E5m2 => weights.push((random & 0x9f) as u8 | 0x20),
        }
    }
    weights.truncate(bytes);
    weights
}

fn measure(gpu: &Arc<Gpu>, element: Element, bytes: &[u8]) -> waag_kernels::pass::Measured {
    let mut pass = GpuPass::new(gpu, element).unwrap();
    for piece in bytes.chunks(PIECE) {
        pass.add(piece).unwrap();
    }
    pass.finish().unwrap()
}

/// Weights from memory to their numbers, copies included.
fn sections(gpu: &Arc<Gpu>, read: f64) {
    let mut room = vec![0_u8; BYTES];
    let source = weights(Element::Bf16, BYTES);
    let copied = BYTES as f64 / 1e9 / seconds(|| room.copy_from_slice(&source));
    println!("one thread copies {copied:.1} GB/s within the machine's memory");
    for element in Element::ALL {
        let bytes = weights(element, BYTES);
        let part = &bytes[..32 << 20];
        let mut pass = Pass::new(element);
        pass.add(part).unwrap();
        assert_eq!(
            measure(gpu, element, part),
            pass.finish().unwrap(),
            "{}",
            element.name()
        );
        let rate = BYTES as f64 / 1e9 / seconds(|| measure(gpu, element, &bytes));
        // The first rounds bring the weights there: the difference is that of the others.
        let tallied = |rounds| seconds(|| gpu.tally_rounds(element, &bytes, rounds).unwrap());
        let resident = BYTES as f64 * 40.0 / 1e9 / (tallied(41) - tallied(1));
        println!(
            "weights, {:8} {rate:6.1} GB/s from memory to numbers, copies included; tally of what is there {resident:.0} GB/s, {:.2} of reads",
            element.name(),
            resident / read
        );
    }
}

/// One row times weights, as they are multiplied for each token that is written.
fn rows(gpu: &Arc<Gpu>, read: f64) {
    for (outputs, depth) in [
        (HEADS * HEAD, HIDDEN),
        (KV_HEADS * HEAD, HIDDEN),
        (INNER, HIDDEN),
        (HIDDEN, INNER),
    ] {
        // The first call makes the memory ready as well: the difference is that of the others.
        let few = seconds(|| gpu.row_rounds(BYTES, outputs, depth, 1).unwrap());
        let mut bytes = 0.0;
        let all = seconds(|| bytes = gpu.row_rounds(BYTES, outputs, depth, 401).unwrap());
        let rate = bytes * 400.0 / 401.0 / 1e9 / (all - few);
        println!(
            "a row times {outputs} x {depth} of bf16: {rate:.0} GB/s, {:.2} of reads",
            rate / read
        );
    }
}

/// Tokens one after the other: what they read of weights, to what could be read.
fn decode(gpu: &Arc<Gpu>, read: f64) {
    let source = model();
    let options = Options {
        precision: Precision::Bf16,
        residency: Residency::Resident,
        gpu: Some(gpu),
        ..Options::default()
    };
    let model = Model::open(&source, options).unwrap();
    for before in [0, 1024] {
        let mut decoder = model.decoder().unwrap();
        for token in 0..before + 1 {
            decoder.take(token, &[]).unwrap();
        }
        let tokens = 32;
        let seconds = seconds(|| (0..tokens).for_each(|token| drop(decoder.take(token, &[]).unwrap())));
        let rate = f64::from(tokens) / seconds;
        let moved = model.pass_bytes() as f64 * rate / 1e9;
        println!(
            "decode, bf16: {rate:.0} tokens/s of {LAYERS} layers and the head behind {before} others, {moved:.0} GB/s of weights, {:.2} of reads",
            moved / read
        );
    }
}

/// A Llama with random bf16 weights.
fn model() -> MemorySource {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
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
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in shapes {
        let begin = data.len();
        data.extend(weights(Element::Bf16, 2 * shape.iter().product::<usize>()));
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
        ("config.json".to_owned(), serde_json::to_vec(&config).unwrap()),
        ("model.safetensors".to_owned(), file),
    ];
    MemorySource { files: files.into() }
}

fn sequences(length: usize, count: usize) -> Vec<Sequence> {
    let sequence = |s: usize| {
        let tokens = (0..length).map(|i| ((i * 7919 + s * 104_729) % VOCABULARY) as u32);
        let tokens: Vec<u32> = tokens.collect();
        Sequence {
            asked: tokens.iter().enumerate().map(|(i, t)| (i, vec![*t])).collect(),
            tokens,
        }
    };
    (0..count).map(sequence).collect()
}

fn ask(
    source: &MemorySource,
    gpu: Option<&Arc<Gpu>>,
    (precision, matrix_units): (Precision, bool),
    sequences: &[Sequence],
) -> (f64, Vec<Vec<Answer>>) {
    let options = Options {
        precision,
        residency: Residency::Resident,
        gpu,
        matrix_units,
        ..Options::default()
    };
    let model = Model::open(source, options).unwrap();
    let mut answers = Vec::new();
    let seconds = seconds(|| answers = model.ask(sequences).unwrap());
    (seconds, answers)
}

/// The forward pass, in tokens and operations.
fn forward(gpu: &Arc<Gpu>, fused: f64, matrix: f64) {
    let source = model();
    let few = sequences(33, 2);
    let layer = HIDDEN * (2 * HEADS + 2 * KV_HEADS) * HEAD + 3 * HIDDEN * INNER;
    let numbers = |answers: &[Vec<Answer>]| -> Vec<f64> {
        let all = answers.iter().flatten();
        all.flat_map(|answer| answer.log_probabilities.clone()).collect()
    };
    for (way, name) in [
        ((Precision::F32, false), "f32"),
        ((Precision::Bf16, false), "bf16"),
        ((Precision::Bf16, true), "bf16 by matrix units"),
    ] {
        let (_, found) = ask(&source, Some(gpu), way, &few);
        let (_, expected) = ask(&source, None, way, &few);
        if way.1 {
            let off = numbers(&found)
                .iter()
                .zip(numbers(&expected))
                .map(|(found, expected)| (found - expected).abs())
                .fold(0.0, f64::max);
            println!("language, {name}: {off:.1e} nats from the CPU at most");
            assert!(off < 0.1, "a GPU says nearly what the CPU says");
        } else {
            assert_eq!(found, expected, "a GPU says what the CPU says");
        }
        let count = 4;
        let (seconds, _) = ask(&source, Some(gpu), way, &sequences(LENGTH, count));
        let attention = HEADS * HEAD * LENGTH;
        let operations = (2 * (LAYERS * (layer + attention) + HIDDEN * VOCABULARY) * LENGTH * count) as f64;
        let rate = operations / 1e12 / seconds;
        println!(
            "language, {name}: {:.0} tokens/s of {LAYERS} layers, {rate:.2} TFLOP/s, {:.2} of fused multiply-adds, {:.2} of matrix units",
            (LENGTH * count) as f64 / seconds,
            rate / fused,
            rate / matrix,
        );
    }
}

fn main() {
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(reason) => {
            println!("{reason}: nothing is measured");
            return;
        }
    };
    let (major, minor) = gpu.capability();
    println!(
        "{}, compute capability {major}.{minor}, driver for CUDA {}, {:.0} GB, kernels {} {}",
        gpu.name(),
        gpu.driver(),
        gpu.memory_bytes() as f64 / 1e9,
        Gpu::kernels_digest(),
        if gpu.assembled_by_driver() {
            "assembled by the driver"
        } else {
            "as they were compiled"
        },
    );
    let (bytes, rounds) = (4_usize << 30, 20);
    gpu.read_rounds(bytes, 1).unwrap();
    let read = bytes as f64 * f64::from(rounds) / 1e9 / seconds(|| gpu.read_rounds(bytes, rounds).unwrap());
    let rate = |work: &dyn Fn() -> f64| {
        let mut operations = 0.0;
        let seconds = seconds(|| operations = work());
        operations / 1e12 / seconds
    };
    let fused = rate(&|| gpu.fused_rounds(100_000).unwrap());
    let matrix = rate(&|| gpu.matrix_rounds(100_000).unwrap());
    println!(
        "limits: reads {read:.0} GB/s, fused multiply-adds {fused:.1} TFLOP/s, matrix units in bf16 {matrix:.0} TFLOP/s"
    );
    sections(&gpu, read);
    rows(&gpu, read);
    decode(&gpu, read);
    forward(&gpu, fused, matrix);
}
