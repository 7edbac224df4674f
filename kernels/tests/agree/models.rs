//! Whole models of the fixtures, held against the CPU: every bit; by matrix units, as near to `float32` as they may be.

use super::*;
use crate::language::{
    Description, Language, MemorySource, Model, Options, Residency, Sequence, Stop, Suite, evaluate,
};

/// A model of the fixtures.
fn fixture(name: &str) -> MemorySource {
    let folder = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = files.map(|entry| {
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    });
    MemorySource {
        files: files.collect(),
    }
}

fn sequences(model: &Model<'_>) -> Vec<Sequence> {
    let mut random = Random::new();
    let lengths = [model.length_max().min(40), 1, 7];
    let sequence = |length: usize| {
        let mut token = || random.below(model.vocabulary() as u32);
        Sequence {
            tokens: (0..length).map(|_| token()).collect(),
            asked: (0..length).map(|at| (at, vec![token()])).collect(),
        }
    };
    lengths.map(sequence).into()
}

/// What a model says, to the last bit.
fn said(source: &MemorySource, options: Options<'_>) -> Vec<u64> {
    let model = Model::open(source, options).unwrap();
    let sequences = sequences(&model);
    if !model.predicts() {
        let rows = model.hidden(&sequences).unwrap();
        return rows.iter().flatten().map(|x| u64::from(x.to_bits())).collect();
    }
    let answers = model.ask(&sequences).unwrap();
    let bits =
        |answer: &crate::language::Answer| [u64::from(answer.best), answer.log_probabilities[0].to_bits()];
    answers.iter().flatten().flat_map(bits).collect()
}

#[test]
fn every_family_of_models_says_the_same_on_a_gpu() {
    for gpu in crate::agree::devices() {
        let names = [
            "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2", "bert",
        ];
        let ways = [
            (Precision::F32, Residency::Streaming),
            (Precision::Bf16, Residency::Resident),
            (Precision::F32, Residency::Resident),
        ];
        for (name, (precision, residency)) in names.into_iter().zip(ways.into_iter().cycle()) {
            let source = fixture(name);
            let options = Options {
                precision,
                residency,
                ..Options::default()
            };
            let on_gpu = Options {
                gpu: Some(&gpu),
                ..options
            };
            assert_eq!(
                said(&source, on_gpu),
                said(&source, options),
                "{name} {precision:?}"
            );
        }
    }
}

fn read_json(file: &str) -> serde_json::Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    serde_json::from_slice(&std::fs::read(format!("{folder}/{file}")).unwrap()).unwrap()
}

/// The log-probabilities of each next token of the reference's input, and the reference's in `float32`.
fn next_tokens(name: &str, options: Options<'_>) -> (Vec<f64>, Vec<f64>) {
    let expected = &read_json("expected.json")["families"][name];
    let numbers = |key: &str| -> Vec<f64> {
        let all = expected[key].as_array().unwrap();
        all.iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let tokens: Vec<u32> = numbers("input_ids").iter().map(|token| *token as u32).collect();
    let asked = tokens[1..].iter().enumerate().map(|(at, next)| (at, vec![*next]));
    let sequence = Sequence {
        asked: asked.collect(),
        tokens,
    };
    let source = fixture(name);
    let model = Model::open(&source, options).unwrap();
    let answers = model.ask(&[sequence]).unwrap().remove(0);
    let found = answers.iter().map(|answer| answer.log_probabilities[0]);
    (found.collect(), numbers("logprobs"))
}

#[test]
fn models_by_matrix_units_are_as_near_to_f32_as_without() {
    for gpu in crate::agree::devices() {
        let names = [
            "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gpt2",
        ];
        for name in names {
            let options = Options {
                precision: Precision::Bf16,
                residency: Residency::Resident,
                ..Options::default()
            };
            let units = Options {
                gpu: Some(&gpu),
                matrix_units: true,
                ..options
            };
            let (here, truth) = next_tokens(name, options);
            let (found, _) = next_tokens(name, units);
            let worst = |found: &[f64]| {
                let off = found.iter().zip(&truth).map(|(a, b)| (a - b).abs());
                off.fold(0.0, f64::max)
            };
            let mean = |found: &[f64]| {
                let off = found.iter().zip(&truth).map(|(a, b)| (a - b).abs());
                off.sum::<f64>() / truth.len() as f64
            };
            assert!(
                worst(&found) <= 2.0 * worst(&here) && mean(&found) <= 2.0 * mean(&here),
                "{name}: {:e} nats off, {:e} without",
                worst(&found),
                worst(&here)
            );
            assert_ne!(found, here, "{name}: nothing went through matrix units");
        }
    }
}

/// The texts of the reference's tasks, whose `bfloat16` says how far off one may be.
#[test]
fn scores_by_matrix_units_are_within_the_references_own_distance() {
    for gpu in crate::agree::devices() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let read = |file: &str| std::fs::read(format!("{folder}/{file}")).unwrap();
        let description = String::from_utf8(read("tasks/rolling.yaml")).unwrap();
        let description = Description::parse(&description).unwrap();
        let data = read(&description.data_files[0]);
        let suite = Suite {
            tasks: vec![description.with_documents(&data).unwrap()],
        };
        let options = Options {
            precision: Precision::Bf16,
            gpu: Some(&gpu),
            matrix_units: true,
            ..Options::default()
        };
        let Language::Measured(section) = evaluate(&fixture("llama"), &suite, options).unwrap() else {
            panic!("the llama is measured");
        };
        let all = read_json("expected_lm_eval.json");
        let of = |arithmetic: &str| -> Vec<f64> {
            let requests = &all[arithmetic]["requests"]["waag_rolling"];
            let number = |x: &serde_json::Value| x.as_f64().or_else(|| x[0].as_f64()).unwrap();
            requests.as_array().unwrap().iter().map(number).collect()
        };
        let (truth, other) = (of("float32"), of("bfloat16_softmax_float32"));
        let found: Vec<f64> = section
            .samples
            .iter()
            .map(|sample| sample.loglikelihood)
            .collect();
        let worst = |found: &[f64]| {
            assert_eq!(found.len(), truth.len());
            let off = found.iter().zip(&truth).map(|(a, b)| (a - b).abs());
            off.fold(0.0, f64::max)
        };
        assert!(
            worst(&found) <= 2.0 * worst(&other),
            "a text is {} nats off, the reference's at most {}",
            worst(&found),
            worst(&other)
        );
    }
}

#[test]
fn a_gpu_with_too_little_memory_reads_weights_as_it_needs_them_and_says_so() {
    // The llama has 406,560 bytes of weights: two layers of 121,000, a head and a token table, which stays here, of 82,000.
    let Ok(small) = Gpu::emulated(300_000) else { return };
    let source = fixture("llama");
    let ask = |gpu| {
        let options = Options {
            residency: Residency::Resident,
            gpu,
            ..Options::default()
        };
        let model = Model::open(&source, options).unwrap();
        let sequences = [Sequence {
            tokens: vec![1, 2, 3],
            asked: vec![(2, vec![7])],
        }];
        (model.fallback().cloned(), model.ask(&sequences).unwrap())
    };
    let (reason, answers) = ask(Some(&small));
    assert!(matches!(reason, Some(GpuError::Memory { .. })), "{reason:?}");
    assert_eq!(answers, ask(None).1);
    // And with next to none it fails, and says why.
    let Ok(none) = Gpu::emulated(10_000) else { return };
    let options = Options {
        gpu: Some(&none),
        ..Options::default()
    };
    let model = Model::open(&source, options).unwrap();
    let error = model.ask(&sequences(&model)).unwrap_err();
    assert!(
        matches!(
            &error,
            Stop::Failed(crate::language::LanguageError::Gpu(GpuError::Memory { .. }))
        ),
        "{error}"
    );
}

#[test]
fn a_gpu_keeps_keys_and_values_as_the_processor_does() {
    for gpu in crate::agree::devices() {
        for (name, residency) in [("gemma3", Residency::Resident), ("gpt2", Residency::Streaming)] {
            let source = fixture(name);
            let decode = |gpu| {
                let options = Options {
                    residency,
                    gpu,
                    ..Options::default()
                };
                let model = Model::open(&source, options).unwrap();
                let mut decoder = model.decoder().unwrap();
                (0..20)
                    .map(|token| decoder.take(token, &[token]).unwrap())
                    .collect::<Vec<_>>()
            };
            assert_eq!(decode(Some(&gpu)), decode(None), "{name}");
        }
    }
}
