//! A site asks the models that are published there what its suites ask, and says what anybody can measure.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{bundled, section};
use crate::world::{Person, Site};

/// The tasks of the fixtures as a directory that holds all that they name.
fn suite(desk: &Path) -> PathBuf {
    let suite = desk.join("short");
    fs::create_dir_all(suite.join("tasks")).unwrap();
    for file in ["choice.yaml", "choice.jsonl", "rolling.yaml", "rolling.jsonl"] {
        fs::copy(bundled().join("tasks").join(file), suite.join("tasks").join(file)).unwrap();
    }
    fs::write(suite.join("README.md"), "What is asked.\n").unwrap();
    suite
}

#[test]
fn a_model_is_asked_the_sites_suites_and_anybody_finds_the_same_bits() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("site");
    fs::create_dir_all(&data).unwrap();
    let config = "[weigh]\nsuites = [\"acme/short\", \"acme/absent:1\"]\nspeed = true\nspeed_seconds = 1\n";
    fs::write(data.join("waag.toml"), config).unwrap();
    let site = Site::serve_with(&data, &[]);
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let suite = suite(person.desk());
    let asked = person.try_push(&suite, "acme/short", &["--kind", "suite"]).json();
    for model in ["llama", "bert"] {
        person.push(&bundled().join(model), &format!("acme/{model}"));
    }

    let shown = person.run(["scorecard", "acme/llama", "--wait", "--json"]).json();
    assert!(shown["scorecard"]["suite"].is_null());
    let speed = section(&shown["scorecard"], "speed");
    assert_eq!(speed["notMeasured"], Value::Null);
    assert!(
        speed["results"]
            .to_string()
            .contains("decode_tokens_per_second.f32"),
        "{speed}"
    );
    let cards = shown["suites"].as_array().unwrap();
    assert_eq!(cards.len(), 1, "{shown}");
    let card = &cards[0]["scorecard"];
    assert_eq!(card["suite"]["artifact"], "acme/short");
    assert_eq!(card["suite"]["manifest"], asked["digest"]);
    assert_eq!(card["precision"], "f32");
    assert_eq!(shown["to_come"].as_array().unwrap().len(), 0);

    // Whoever has the files finds the same, and so does who fetches both.
    let model = bundled().join("llama");
    let here = [model.to_str().unwrap(), suite.to_str().unwrap()];
    for [model, suite] in [here, ["acme/llama", "acme/short:latest"]] {
        let local = person.run(["weigh", model, "--suite", suite, "--json"]).json();
        assert_eq!(*section(&local, "language"), card["sections"][0]);
        assert_eq!(local["language"]["digest"], card["details"]["sha256"]);
        assert_eq!(local["language"]["harness"], card["harness"]);
    }
    let left = fs::read_dir(person.desk().join("waag/cache/weighed"));
    assert_eq!(
        left.map_or(0, Iterator::count),
        0,
        "what was fetched to be weighed is removed"
    );

    let page = person.run(["scorecard", "acme/llama"]).ok();
    for said in [
        "acme/short@sha256:",
        "waag_choice",
        "bits_per_byte",
        "parameters",
        "decode, f32",
    ] {
        assert!(page.contains(said), "{said} in {page}");
    }
    assert!(!page.contains("no suite was asked"), "{page}");
    let shown = person.run(["scorecard", "acme/bert", "--wait", "--json"]).json();
    for section in [
        &shown["suites"][0]["scorecard"]["sections"][0],
        section(&shown["scorecard"], "speed"),
    ] {
        let why = section["notMeasured"].as_str().unwrap();
        assert!(why.contains("encoder"), "{shown}");
    }
    person.run(["ledger", "verify"]).ok();
    assert_eq!(site.metric("waag_weighed_suites_total"), 2);
    site.stop();
}

#[test]
fn a_directory_that_is_no_suite_is_not_published_as_one() {
    let world = tempfile::tempdir().unwrap();
    let site = Site::serve(&world.path().join("site"));
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let suite = suite(person.desk());
    let push = || person.try_push(&suite, "acme/short", &["--kind", "suite"]);
    let said = |error: &Value, words: &[&str]| {
        for word in words {
            assert!(
                error["message"].as_str().unwrap().contains(word),
                "{word} in {error}"
            );
        }
    };
    fs::write(
        suite.join("tasks/choice.jsonl"),
        "{\"ctx\": \"a\", \"choices\": [\"b\"], \"gold\": 7}\n",
    )
    .unwrap();
    said(&push().error(1), &["choice.yaml", "document 0"]);
    fs::remove_file(suite.join("tasks/choice.jsonl")).unwrap();
    said(&push().error(1), &["choice.yaml", "tasks/choice.jsonl"]);
    // What lies above is not part of what would be published.
    fs::create_dir_all(person.desk().join("tasks")).unwrap();
    fs::copy(
        bundled().join("tasks/choice.jsonl"),
        person.desk().join("tasks/choice.jsonl"),
    )
    .unwrap();
    said(&push().error(1), &["choice.yaml"]);
    person
        .run([
            "weigh",
            bundled().join("llama").to_str().unwrap(),
            "--suite",
            suite.to_str().unwrap(),
            "--json",
        ])
        .json();
    fs::write(
        suite.join("tasks/choice.yaml"),
        "task: x\noutput_type: generate_until\n",
    )
    .unwrap();
    said(&push().error(1), &["choice.yaml", "generate_until"]);
    fs::remove_file(suite.join("tasks/choice.yaml")).unwrap();
    push().json();
    site.stop();
}
