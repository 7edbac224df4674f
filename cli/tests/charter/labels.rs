//! Labels after the fact and by lineage, and what `waag explain` says of them.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::Scene;

fn model(scene: &Scene, content: &str) -> PathBuf {
    let path = scene.dir.path().join(content);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("notes.txt"), content).unwrap();
    path
}

#[test]
fn a_label_is_tightened_and_widened_after_the_fact() {
    let scene = Scene::new();
    scene.found();
    let ada = &scene.ada;
    ada.create_namespace("acme");
    ada.push(&model(&scene, "one"), "acme/tiny:1.0");
    let explain = |place: &str, action: &str| {
        let answer = ada.run([
            "explain",
            "acme/tiny",
            "--at",
            place,
            "--action",
            action,
            "--json",
        ]);
        answer.json()["verdict"]["allowed"].clone()
    };
    assert_eq!(explain("oslo", "hold"), false, "there is no label");
    assert_eq!(explain("US", "serve"), true, "from home everybody is served");

    let wide = [
        "label",
        "acme/tiny",
        "--residency",
        "EU,NO",
        "--allow",
        "hold,serve",
        "--json",
    ];
    let labelled = ada.run(wide).json();
    assert!(labelled["entry"].is_u64());
    assert_eq!(ada.run(wide).json()["entry"], json!(null), "it says the same");
    assert_eq!(explain("oslo", "hold"), true);
    assert_eq!(explain("oslo", "evaluate"), false);
    assert_eq!(explain("US", "serve"), false);

    ada.run(["label", "acme/tiny", "--residency", "DE"]).ok();
    assert_eq!(explain("oslo", "hold"), false);
    assert_eq!(explain("stuttgart", "evaluate"), true);
    // A label that would send it away from where it is, is refused there.
    let refused = ada.run(["label", "acme/tiny", "--residency", "NO"]).failed(3);
    assert!(
        refused.contains("label 1 has no rule that allows hold"),
        "{refused}"
    );

    // With --out, others sign it; here one key is enough.
    let file = scene.path("label.json");
    ada.run(["label", "acme/tiny", "--residency", "EEA", "--out", &file])
        .ok();
    ada.run(["sign", &file, "--submit", "--yes"]).ok();
    assert_eq!(explain("oslo", "hold"), true);
}

#[test]
fn what_something_was_made_from_binds_it_as_well() {
    let scene = Scene::new();
    scene.found();
    let ada = &scene.ada;
    ada.create_namespace("acme");
    let (data, base) = (model(&scene, "data"), model(&scene, "base"));
    ada.try_push(&data, "acme/data:1", &["--kind", "dataset", "--residency", "*"])
        .ok();
    ada.try_push(
        &base,
        "acme/base:1",
        &["--residency", "*", "--trained-on", "acme/data:1"],
    )
    .ok();
    ada.try_push(
        &model(&scene, "tuned"),
        "acme/tuned:1",
        &["--residency", "*", "--base", "acme/base:1"],
    )
    .ok();
    let explain = |place: &str| {
        ada.run([
            "explain",
            "acme/tuned",
            "--at",
            place,
            "--action",
            "hold",
            "--json",
        ])
        .json()
    };
    let oslo = explain("oslo");
    assert_eq!(oslo["verdict"]["allowed"], true, "{oslo}");
    let whose: Vec<&str> = oslo["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["artifact"].as_str().unwrap())
        .collect();
    assert_eq!(whose, ["acme/tuned", "acme/base", "acme/data"]);
    assert!(
        oslo["labels"]
            .as_array()
            .unwrap()
            .iter()
            .all(|l| l["proven"] == true)
    );
    // The training data's label is tightened: everything that was made of it follows.
    ada.run(["label", "acme/data", "--residency", "DE"]).ok();
    let oslo = explain("oslo");
    assert_eq!(oslo["verdict"]["allowed"], false);
    assert_eq!(oslo["verdict"]["reasons"][2]["reason"], "no_rule_matches");
    // Also where a site decides by itself: nobody without a jurisdiction is served any more.
    let out = scene.path("out");
    let refused = ada.run(["pull", "acme/tuned:1", &out]).failed(3);
    assert!(refused.contains("label 3"), "{refused}");
    // What is done nowhere with the data is done nowhere with the model.
    ada.run(["label", "acme/data", "--residency", "DE", "--deny", "evaluate"])
        .ok();
    let text = ada
        .run([
            "explain",
            "acme/tuned",
            "--site",
            "stuttgart",
            "--action",
            "evaluate",
        ])
        .ok();
    assert!(text.contains("denied"), "{text}");
}

#[test]
fn groups_of_the_charter_are_places_of_a_label() {
    let scene = Scene::new();
    let file = scene.draft("charter-1.json");
    let draft = fs::read_to_string(&file).unwrap();
    let group = r#""groups": [{"name": "nordic", "members": [
        {"country": "NO", "from": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z"},
        {"country": "SE", "from": "2020-01-01T00:00:00Z", "until": null}]}]"#;
    fs::write(&file, draft.replace("\"groups\": []", group)).unwrap();
    scene.sign(&file);
    scene.ada.run(["charter", "adopt", &file]).ok();
    let ada = &scene.ada;
    ada.create_namespace("acme");
    ada.try_push(
        &model(&scene, "one"),
        "acme/tiny:1.0",
        &["--residency", "DE,group:nordic"],
    )
    .ok();
    for (when, allowed) in [("2029-12-31T23:59:59Z", true), ("2030-01-01T00:00:00Z", false)] {
        let words = [
            "explain",
            "acme/tiny",
            "--at",
            "oslo",
            "--action",
            "hold",
            "--when",
            when,
            "--json",
        ];
        assert_eq!(ada.run(words).json()["verdict"]["allowed"], allowed, "{when}");
    }
    // A group that nobody has named denies as much as it can, and allows nothing.
    ada.run(["label", "acme/tiny", "--residency", "group:unheard"])
        .failed(3);
}

#[test]
fn a_pulled_directory_explains_itself_without_a_network() {
    let scene = Scene::new();
    let file = scene.found();
    let ada = &scene.ada;
    ada.create_namespace("acme");
    ada.try_push(
        &model(&scene, "one"),
        "acme/tiny:1.0",
        &["--residency", "*", "--deny", "evaluate"],
    )
    .ok();
    let out = scene.dir.path().join("out");
    ada.pull("acme/tiny:1.0", &out).ok();
    let reader = crate::world::Person::new();
    reader.run(["charter", "adopt", &file, "--here"]).ok();
    scene.stuttgart.stop();
    let ask = |action: &str| {
        let words = [
            "explain",
            out.to_str().unwrap(),
            "--at",
            "oslo",
            "--action",
            action,
            "--json",
        ];
        reader.run(words).json()
    };
    assert_eq!(ask("hold")["verdict"]["allowed"], true);
    let denied = ask("evaluate");
    assert_eq!(denied["verdict"]["reasons"][0]["reason"], "denied_by");
    assert!(denied["labels"][0]["entry"].is_u64());
}
