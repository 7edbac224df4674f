//! Models and suites that lie or cannot be used: a clear word about which file and why, and no panic.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bundled;
use crate::world::{Answer, Person};

/// A copy of a model and of the tasks, to be bent.
fn copied(person: &Person, model: &str) -> PathBuf {
    let to = person.desk().join("model");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(bundled().join(model)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let tasks = person.desk().join("tasks");
    fs::create_dir_all(&tasks).unwrap();
    for file in ["choice.yaml", "choice.jsonl", "rolling.yaml", "rolling.jsonl"] {
        fs::copy(bundled().join("tasks").join(file), tasks.join(file)).unwrap();
    }
    to
}

fn bend(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, serde_json::to_vec(&value).unwrap()).unwrap();
}

fn weigh(person: &Person) -> Answer {
    person.run(["weigh", "model", "--suite", "tasks", "--json"])
}

/// Expects an error that says these words, and nothing of a panic.
fn refused(person: &Person, words: &[&str]) -> String {
    let answer = weigh(person);
    let error = answer.error(1);
    let said = error.to_string();
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(!answer.stderr().contains("panicked"), "{}", answer.stderr());
    said
}

/// A file, what is changed in it, and what is said then.
type Lie = (&'static str, fn(&mut Value), &'static [&'static str]);

/// Tokens that the model does not have.
fn more_tokens(tokenizer: &mut Value) {
    for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = json!(id.as_u64().unwrap() + 100_000);
    }
}

#[test]
fn a_model_that_lies_is_refused_by_the_name_of_its_file() {
    let cases: [Lie; 4] = [
        ("config.json", |c| c["hidden_size"] = json!(96), &["shape"]),
        (
            "config.json",
            |c| c["num_attention_heads"] = json!(-3),
            &["config.json", "num_attention_heads"],
        ),
        (
            "config.json",
            |c| c["num_hidden_layers"] = json!(4000),
            &["model.layers", "missing"],
        ),
        ("tokenizer.json", more_tokens, &["tokenizer.json", "makes token"]),
    ];
    for (file, change, words) in cases {
        let person = Person::new();
        let model = copied(&person, "llama");
        bend(&model.join(file), change);
        refused(&person, words);
    }
    let person = Person::new();
    let model = copied(&person, "llama");
    fs::write(model.join("tokenizer.json"), "{\"version\": \"1.0\", ").unwrap();
    refused(&person, &["tokenizer.json"]);
    fs::write(model.join("config.json"), "[1, 2").unwrap();
    refused(&person, &["config.json"]);
}

#[test]
fn a_shard_that_is_missing_or_cut_is_refused_by_its_name() {
    let person = Person::new();
    let model = copied(&person, "llama-old-sharded");
    let shard = model.join("model-00002-of-00002.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    refused(&person, &["model-00002-of-00002.safetensors"]);
    fs::remove_file(&shard).unwrap();
    refused(&person, &["model-00002-of-00002.safetensors"]);
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let person = Person::new();
    let model = copied(&person, "llama");
    let file = model.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    // BF16: all bits set are no number.
    bytes[end - 4000..].fill(0xff);
    fs::write(&file, bytes).unwrap();
    refused(
        &person,
        &["not a finite number", "model.safetensors", "that are not numbers"],
    );
}

#[test]
fn pickled_weights_are_refused_with_what_to_do() {
    let person = Person::new();
    let model = copied(&person, "llama");
    fs::remove_file(model.join("model.safetensors")).unwrap();
    fs::write(model.join("pytorch_model.bin"), b"\x80\x02}q\x00.").unwrap();
    refused(&person, &["pytorch_model.bin", "pickle", "safetensors"]);
}

#[test]
fn tasks_that_cannot_be_asked_are_refused_by_the_name_of_their_file() {
    let person = Person::new();
    copied(&person, "llama");
    let data = person.desk().join("tasks/choice.jsonl");
    fs::write(&data, "\n\n").unwrap();
    refused(&person, &["choice.yaml", "no documents"]);
    fs::write(&data, "{\"ctx\": \n").unwrap();
    refused(&person, &["choice.yaml", "line 1"]);
    fs::remove_file(&data).unwrap();
    refused(&person, &["choice.yaml", "tasks/choice.jsonl"]);
    let description = person.desk().join("tasks/choice.yaml");
    fs::write(&description, "task: [unclosed").unwrap();
    refused(&person, &["choice.yaml"]);
    fs::write(
        &description,
        fs::read(person.desk().join("tasks/rolling.yaml")).unwrap(),
    )
    .unwrap();
    refused(&person, &["waag_rolling"]);
    fs::remove_file(&description).unwrap();
    fs::remove_file(person.desk().join("tasks/rolling.yaml")).unwrap();
    refused(&person, &["no task description"]);
    let answer = person.run(["weigh", "model", "--suite", "nowhere", "--json"]);
    assert!(answer.error(5).to_string().contains("nowhere"));
}

#[test]
fn what_this_engine_does_not_know_is_not_measured_and_no_failure() {
    let person = Person::new();
    let model = copied(&person, "llama");
    let reason = || {
        let answer = weigh(&person).json();
        let sections = answer["sections"].as_array().unwrap();
        let language = sections.iter().find(|s| s["name"] == "language").unwrap();
        language["notMeasured"].as_str().unwrap().to_owned()
    };
    // One task that is unknown leaves the other.
    let rolling = person.desk().join("tasks/rolling.yaml");
    fs::write(&rolling, "task: told\noutput_type: generate_until\n").unwrap();
    let answer = weigh(&person).json();
    assert!(answer["results"]["waag_choice"]["acc,none"].is_number());
    let why = answer["language"]["not_measured"].to_string();
    assert!(why.contains("generate_until"), "{why}");

    bend(&model.join("config.json"), |config| {
        config["model_type"] = json!("mamba");
        config["architectures"] = json!(["MambaForCausalLM"]);
    });
    assert!(reason().contains("MambaForCausalLM"));
    let page = person.run(["weigh", "model", "--suite", "tasks"]).ok();
    assert!(
        page.contains("not measured because this engine does not know"),
        "{page}"
    );
    fs::remove_file(model.join("config.json")).unwrap();
    assert!(reason().contains("config.json"));
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let person = Person::new();
    copied(&person, "llama");
    let words = ["weigh", "model", "--suite", "tasks", "--json", "--device"];
    let error = person.run(words.iter().chain(&["cuda:99"])).error(1);
    assert!(error.to_string().contains("cuda:99"), "{error}");
    let error = person.run(words.iter().chain(&["tpu"])).error(2);
    assert!(error.to_string().contains("tpu"), "{error}");
    let answer = person.run([
        "weigh",
        "model",
        "--suite",
        "tasks",
        "--samples",
        "no/such/file",
        "--json",
    ]);
    assert!(answer.error(1).to_string().contains("no/such/file"));
}
