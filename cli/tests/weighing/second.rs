//! Two sites of one charter: what one has published and weighed, the other mirrors and weighs, and both list the other's
//! scorecards as confirming.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::world::{Person, Site};

fn serve(dir: &Path, name: &str, jurisdiction: &str) -> Site {
    let data = dir.join(name);
    fs::create_dir_all(&data).unwrap();
    let config = format!("jurisdiction = \"{jurisdiction}\"\n[weigh]\nsuites = [\"acme/short\"]\n");
    fs::write(data.join("waag.toml"), config).unwrap();
    Site::serve_with(&data, &[])
}

/// The suite of the kernels' fixtures, as a directory to publish.
fn suite(dir: &Path, fixtures: &Path) -> std::path::PathBuf {
    let suite = dir.join("short");
    fs::create_dir_all(suite.join("tasks")).unwrap();
    for file in fs::read_dir(fixtures.join("tasks")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), suite.join("tasks").join(file.file_name())).unwrap();
    }
    suite
}

#[test]
fn what_a_mirror_weighs_itself_is_listed_at_both_sites_as_confirming_the_home() {
    let world = tempfile::tempdir().unwrap();
    let dir = world.path();
    let (stuttgart, bologna) = (serve(dir, "stuttgart", "DE"), serve(dir, "bologna", "IT"));
    let (ada, ben) = (Person::operating(&stuttgart), Person::operating(&bologna));
    let charter = dir.join("charter.json");
    let charter = charter.to_str().unwrap();
    let founded = ["charter", "init", charter, "--federation", "example"];
    let by = ["--root", "default", "--threshold", "1"];
    ada.run(founded.iter().chain(&by).copied()).ok();
    for (site, name, owns) in [(&stuttgart, "stuttgart", "acme"), (&bologna, "bologna", "torre")] {
        ada.run([
            "charter", "add-site", charter, "--name", name, "--owns", owns, "--site", &site.url,
        ])
        .ok();
    }
    ada.run(["charter", "sign", charter]).ok();
    for person in [&ada, &ben] {
        person.run(["charter", "adopt", charter]).ok();
    }
    ada.create_namespace("acme");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/tests/fixtures");
    let everywhere = ["--residency", "*"];
    let of_suite = ["--kind", "suite", "--residency", "*"];
    ada.try_push(&suite(dir, &fixtures), "acme/short", &of_suite).ok();
    ada.try_push(&fixtures.join("llama"), "acme/llama:1.0", &everywhere)
        .ok();
    ada.run(["scorecard", "acme/llama:1.0", "--wait"]).ok();

    ben.run(["mirror", "add", "stuttgart", "acme/*"]).ok();
    ben.run(["mirror", "run"]).ok();
    let at_bologna = ben
        .run(["scorecard", "acme/llama:1.0", "--wait", "--json"])
        .json();
    ada.run(["mirror", "run"]).ok();
    let at_stuttgart = ada.run(["scorecard", "acme/llama:1.0", "--json"]).json();
    for shown in [&at_bologna, &at_stuttgart] {
        let others = shown["others"].as_array().unwrap();
        let mut asked: Vec<Option<&str>> = Vec::new();
        for other in others {
            let card = &other["card"];
            assert_eq!(other["proven"], true, "{other}");
            assert_eq!(other["verdict"], "confirmed", "{other}");
            assert_eq!(other["greatest"], Value::Null);
            assert_ne!(other["site"], shown["site"]);
            assert_eq!(other["against"]["site"], shown["site"]);
            assert_eq!(card["scorecard"]["device"]["class"], "cpu");
            let digest = card["scorecard"]["harness"]["digest"].as_str().unwrap();
            assert!(digest.starts_with("sha256:"));
            asked.push(card["scorecard"]["suite"]["artifact"].as_str());
        }
        asked.sort_unstable();
        assert_eq!(asked, [None, Some("acme/short")], "{shown}");
    }
    for person in [&ada, &ben] {
        let page = person.run(["scorecard", "acme/llama:1.0"]).ok();
        assert_eq!(page.matches("also by").count(), 2, "{page}");
        assert!(
            page.contains("confirmed, bit for bit") && page.contains("acme/short"),
            "{page}"
        );
        person.run(["ledger", "verify"]).ok();
    }
    // Who knows only the home is told what is not proven to them.
    let stranger = Person::new();
    stranger.run(["login", &stuttgart.url, "--anonymous"]).ok();
    let shown = stranger.run(["scorecard", "acme/llama:1.0", "--json"]).json();
    assert_eq!(shown["others"][0]["proven"], false);
    let page = stranger.run(["scorecard", "acme/llama:1.0"]).ok();
    assert!(page.contains("not proven"), "{page}");
    stuttgart.stop();
    bologna.stop();
    for name in ["stuttgart", "bologna"] {
        let data = dir.join(name);
        ben.run(["ledger", "fsck", "--data", data.to_str().unwrap()]).ok();
    }
}
