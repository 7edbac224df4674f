use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use waag_kernels::language::{LanguageSection, ModelSource, Options, Precision, Residency, evaluate};

use super::fixtures::{Directory, json, measure, numbers, root, suite};

/// The reference's log-likelihoods of a task, in order.
fn requests(expected: &Value, task: &str) -> Vec<f64> {
    let requests = expected["requests"][task].as_array().unwrap();
    let each = requests.iter().flat_map(|r| {
        if r.is_array() {
            numbers(r)
        } else {
            numbers(&Value::from(vec![r.clone()]))
        }
    });
    each.collect()
}

fn loglikelihoods(section: &LanguageSection, task: &str) -> Vec<f64> {
    let samples = section.samples.iter().filter(|sample| sample.task == task);
    samples.map(|sample| sample.loglikelihood).collect()
}

fn metric(section: &LanguageSection, name: &str) -> (f64, Option<f64>) {
    let mut metrics = section.tasks.iter().flat_map(|task| &task.metrics);
    let metric = metrics.find(|metric| metric.name == name).unwrap();
    (metric.value, metric.standard_error)
}

fn worst(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn bits_per_byte(expected: &Value) -> f64 {
    expected["results"]["waag_rolling"]["bits_per_byte,none"]
        .as_f64()
        .unwrap()
}

const TASKS: [&str; 2] = ["waag_rolling", "waag_choice"];

#[test]
fn f32_scores_are_those_of_the_reference() {
    let section = measure("llama", Options::default());
    let expected = &json("expected_lm_eval.json")["float32"];
    for task in TASKS {
        let off = worst(&loglikelihoods(&section, task), &requests(expected, task));
        assert!(off < 1e-3, "{task}: a request is {off} nats off");
    }
    for (task, results) in expected["results"].as_object().unwrap() {
        for (key, value) in results.as_object().unwrap() {
            let (value, Some(name)) = (value.as_f64().unwrap(), key.strip_suffix(",none")) else {
                assert_eq!(key, "sample_len");
                let score = section.tasks.iter().find(|score| score.task == *task).unwrap();
                assert_eq!(Some(score.documents as u64), value.as_u64());
                continue;
            };
            let ours = match name.strip_suffix("_stderr") {
                Some(name) => metric(&section, name).1.unwrap(),
                None => metric(&section, name).0,
            };
            let off = (ours - value).abs() / value;
            assert!(
                off < if name == "bits_per_byte" { 1e-6 } else { 1e-5 },
                "{name} is {ours}, not {value}"
            );
        }
    }
}

#[test]
fn bf16_scores_are_as_near_as_the_references_own() {
    let options = Options {
        precision: Precision::Bf16,
        ..Options::default()
    };
    let ours = measure("llama", options);
    let expected = json("expected_lm_eval.json");
    let exact = &expected["float32"];
    let (_, theirs) = expected
        .as_object()
        .unwrap()
        .iter()
        .find(|(key, _)| key.contains("bfloat16"))
        .unwrap();
    for task in TASKS {
        let truth = requests(exact, task);
        let (own, other) = (
            worst(&loglikelihoods(&ours, task), &truth),
            worst(&requests(theirs, task), &truth),
        );
        assert!(
            own <= 2.0 * other,
            "{task}: a request is {own} nats off, the reference's at most {other}"
        );
    }
    let truth = bits_per_byte(exact);
    let (own, other) = (
        (metric(&ours, "bits_per_byte").0 - truth).abs(),
        (bits_per_byte(theirs) - truth).abs(),
    );
    assert!(own <= 2.0 * other);
}

#[test]
fn where_weights_are_and_how_many_threads_work_does_not_show() {
    let mut seen: Vec<LanguageSection> = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        seen.clear();
        for (residency, threads, memory_bytes) in [
            (Residency::Resident, 1, 8 << 30),
            (Residency::Streaming, 1, 8 << 30),
            (Residency::Streaming, 4, 8 << 30),
            // So little that the sequences go in many rounds.
            (Residency::Streaming, 3, 2 << 20),
        ] {
            let options = Options {
                precision,
                residency,
                memory_bytes,
                ..Options::default()
            };
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            seen.push(pool.install(|| measure("llama", options)));
        }
        for other in &seen[1..] {
            assert_eq!(other, &seen[0]);
        }
    }
}

#[test]
fn an_old_spelling_and_two_files_give_the_same_bits() {
    if !root().join("llama-old-sharded").exists() {
        return;
    }
    let (new, old) = (
        measure("llama", Options::default()),
        measure("llama-old-sharded", Options::default()),
    );
    assert_eq!(new, old);
}

/// Counts what is read of the weights.
struct Counting(Directory, AtomicU64);

impl ModelSource for Counting {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        self.0.length(file)
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if file.ends_with(".safetensors") {
            self.1.fetch_add(into.len() as u64, Ordering::Relaxed);
        }
        self.0.read(file, offset, into)
    }
}

#[test]
fn weights_are_read_once_wherever_they_are() {
    for residency in [Residency::Resident, Residency::Streaming] {
        let source = Counting(Directory::of("llama"), AtomicU64::new(0));
        let options = Options {
            residency,
            ..Options::default()
        };
        evaluate(&source, &suite(&root()), options).unwrap();
        let length = source.length("model.safetensors").unwrap().unwrap();
        let read = source.1.load(Ordering::Relaxed);
        // Of a long token table only the parts that occur are read.
        assert!(
            read > length / 2 && read <= length,
            "{residency:?}: {read} of {length} bytes"
        );
    }
}
