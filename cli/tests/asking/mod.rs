//! `waag weigh --suite` against numbers of a reference implementation: `kernels/tests/fixtures`, or the directory that
//! `WAAG_EVAL_FIXTURES` names.

mod at_a_site;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::Person;

const TASKS: [&str; 2] = ["waag_rolling", "waag_choice"];

fn root() -> PathBuf {
    std::env::var_os("WAAG_EVAL_FIXTURES").map_or_else(bundled, PathBuf::from)
}

/// The ones that are here: tests that bend them know their sizes.
fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/tests/fixtures")
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(root().join("expected_lm_eval.json")).unwrap()).unwrap()
}

/// Weighs a model of the fixtures on the two tasks; returns the answer and the samples.
fn weigh(person: &Person, model: &str, more: &[&str]) -> (Value, Vec<Value>) {
    let model = root().join(model);
    let (suite, samples) = (root().join("tasks"), person.desk().join("samples.jsonl"));
    let words = [
        "weigh",
        model.to_str().unwrap(),
        "--suite",
        suite.to_str().unwrap(),
        "--samples",
        samples.to_str().unwrap(),
        "--json",
    ];
    let answer = person.run(words.iter().chain(more)).json();
    let lines = fs::read_to_string(&samples).unwrap();
    (
        answer,
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

/// The reference's log-likelihoods of a task, in order.
fn requests(expected: &Value, task: &str) -> Vec<f64> {
    let each = expected["requests"][task].as_array().unwrap().iter();
    let flat = each.flat_map(|r| r.as_array().cloned().unwrap_or_else(|| vec![r.clone()]));
    flat.map(|x| x.as_f64().unwrap()).collect()
}

fn of_task(samples: &[Value], task: &str) -> Vec<f64> {
    let own = samples.iter().filter(|sample| sample["task"] == task);
    own.map(|sample| sample["loglikelihood"].as_f64().unwrap())
        .collect()
}

fn worst(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn section<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let sections = answer["sections"].as_array().unwrap();
    sections.iter().find(|section| section["name"] == name).unwrap()
}

#[test]
fn f32_scores_are_found_under_the_references_names_and_are_its_numbers() {
    let person = Person::new();
    let expected = &expected()["float32"];
    let (answer, samples) = weigh(&person, "llama", &[]);
    assert_eq!(answer["family"], "llama");
    assert_eq!(answer["precision"], "f32");
    assert!(section(&answer, "weights")["notMeasured"].is_null());
    for (task, results) in expected["results"].as_object().unwrap() {
        for (key, value) in results.as_object().unwrap() {
            let (ours, value) = (answer["results"][task][key].as_f64(), value.as_f64().unwrap());
            let ours = ours.unwrap_or_else(|| panic!("no {task} {key} in {answer}"));
            let gate = if key.starts_with("bits_per_byte") {
                1e-6
            } else {
                1e-5
            };
            assert!(
                (ours - value).abs() <= gate * value,
                "{key} is {ours}, not {value}"
            );
            let plain = key.trim_end_matches(",none");
            assert_eq!(answer["results"][task][plain].as_f64(), Some(ours));
        }
    }
    for task in TASKS {
        let off = worst(&of_task(&samples, task), &requests(expected, task));
        assert!(off < 1e-3, "{task}: a request is {off} nats off");
    }
    // What stands in the section is what stands in the results, to the last bit.
    let results = section(&answer, "language")["results"].as_array().unwrap();
    let acc = results
        .iter()
        .find(|r| r["metric"] == "acc_norm" && r["task"] == "waag_choice")
        .unwrap();
    for (key, name) in [
        ("value", "acc_norm,none"),
        ("standardError", "acc_norm_stderr,none"),
    ] {
        let signed: f64 = acc[key].as_str().unwrap().parse().unwrap();
        assert_eq!(Some(signed), answer["results"]["waag_choice"][name].as_f64());
    }
    let keys: Vec<&String> = samples[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["choice", "doc", "greedy", "loglikelihood", "task", "tokens"]
    );
    for sample in &samples {
        assert_eq!(sample["choice"].is_null(), sample["task"] == "waag_rolling");
        assert!(sample["greedy"].is_boolean() && sample["tokens"].as_u64().unwrap() > 0);
    }
}

#[test]
fn bf16_scores_are_as_near_as_the_references_own() {
    let person = Person::new();
    let expected = expected();
    let exact = &expected["float32"];
    let families = expected.as_object().unwrap();
    let (_, theirs) = families.iter().find(|(key, _)| key.contains("bfloat16")).unwrap();
    let (answer, samples) = weigh(&person, "llama", &["--precision", "bf16", "--device", "cpu"]);
    assert_eq!(answer["precision"], "bf16");
    assert!(answer["fallback"].is_null());
    for task in TASKS {
        let truth = requests(exact, task);
        let (own, other) = (
            worst(&of_task(&samples, task), &truth),
            worst(&requests(theirs, task), &truth),
        );
        assert!(
            own <= 2.0 * other,
            "{task}: a request is {own} nats off, the reference's at most {other}"
        );
    }
    let bits = |of: &Value| of["waag_rolling"]["bits_per_byte,none"].as_f64().unwrap();
    let truth = bits(&exact["results"]);
    let (own, other) = (bits(&answer["results"]) - truth, bits(&theirs["results"]) - truth);
    assert!(own.abs() <= 2.0 * other.abs());
}

#[test]
fn every_model_of_the_fixtures_is_measured_or_says_why_not() {
    let person = Person::new();
    let mut seen = 0;
    let mut models: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("config.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    models.sort();
    let mut of_llama = Value::Null;
    for model in &models {
        let (answer, samples) = weigh(&person, model, &[]);
        assert!(section(&answer, "weights")["notMeasured"].is_null(), "{model}");
        let language = section(&answer, "language");
        if model.starts_with("bert") {
            let reason = language["notMeasured"].as_str().unwrap();
            assert!(reason.contains("encoder"), "{reason}");
            assert!(samples.is_empty());
            continue;
        }
        assert!(language["notMeasured"].is_null(), "{model}: {language}");
        let bits = answer["results"]["waag_rolling"]["bits_per_byte,none"]
            .as_f64()
            .unwrap();
        assert!(bits.is_finite() && bits > 0.0, "{model}: {bits}");
        assert!(!samples.is_empty());
        match model.as_str() {
            "llama" => of_llama = language.clone(),
            // Sharded, and in the older spelling: the same bits.
            "llama-old-sharded" => assert_eq!(*language, of_llama),
            _ => {}
        }
        seen += 1;
    }
    assert!(seen >= 1, "{models:?}");
}

#[test]
fn one_description_is_a_suite_and_a_page_shows_its_scores() {
    let person = Person::new();
    let model = root().join("llama");
    let suite = root().join("tasks/choice.yaml");
    let (model, suite) = (model.to_str().unwrap(), suite.to_str().unwrap());
    let answer = person.run(["weigh", model, "--suite", suite]);
    let page = answer.ok();
    for said in ["waag_choice", "acc_bytes", "STDERR", "█", "parameters", "llama"] {
        assert!(page.contains(said), "{said} in {page}");
    }
    assert!(!page.contains("waag_rolling"), "{page}");
    // No GPU is found here, and that is said.
    if page.contains("cpu") {
        assert!(answer.stderr().contains("no GPU"), "{}", answer.stderr());
        assert!(page.contains("no GPU"), "{page}");
    }
}

#[test]
fn speed_is_measured_where_it_is_asked_for_and_beside_the_machines_own() {
    let person = Person::new();
    let model = root().join("llama");
    let model = model.to_str().unwrap();
    let plain = person.run(["weigh", model, "--json"]).json();
    assert_eq!(section(&plain, "speed")["notMeasured"], "it was not asked for");
    let words = ["weigh", model, "--speed", "--speed-seconds", "1"];
    let weighed = person.run(words.iter().chain(&["--json"])).json();
    // Nothing else changes by it.
    assert_eq!(weighed["digest"], plain["digest"]);
    let speed = section(&weighed, "speed");
    let value = |metric: &str| -> f64 {
        let results = speed["results"].as_array().unwrap();
        let found = results.iter().find(|r| r["metric"] == metric).unwrap();
        found["value"].as_str().unwrap().parse().unwrap()
    };
    for metric in [
        "read_bytes_per_second",
        "peak_flop_per_second",
        "prefill_tokens_per_second.f32",
        "prefill_of_peak.f32",
        "decode_tokens_per_second.f32",
        "decode_of_read.f32",
    ] {
        assert!(value(metric) > 0.0, "{metric}");
    }
    let page = person.run(words).ok();
    for said in ["prefill, f32", "decode, f32", "GFLOP/s", "energy"] {
        assert!(page.contains(said), "{said} in {page}");
    }
    person.run(["weigh", model, "--speed-seconds", "1"]).failed(2);
}
