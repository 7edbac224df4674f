//! A push to a running site, and nothing more, gives a signed scorecard; a directory weighs the same without any site.

use std::fs;

use serde_json::Value;

use crate::world::safetensors::{self, Tensor};
use crate::world::{Person, Site};

#[test]
fn a_push_is_followed_by_its_scorecard() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("site");
    fs::create_dir_all(&data).unwrap();
    // As it comes: weighing is on.
    fs::write(data.join("waag.toml"), "").unwrap();
    let site = Site::serve(&data);
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let model = world.path().join("model");
    fs::create_dir(&model).unwrap();
    let tensors = [
        Tensor::new("layers.0.weight", &[512, 1024], 1),
        Tensor::new("layers.1.weight", &[512, 1024], 2),
    ];
    safetensors::write(&model.join("model.safetensors"), &tensors);
    let pushed = person.push(&model, "acme/tiny:1.0");

    let shown = person.run(["scorecard", "acme/tiny:1.0", "--wait", "--json"]).json();
    assert_eq!(shown["manifest"], pushed["digest"]);
    let weights = &shown["scorecard"]["sections"][0];
    assert_eq!(weights["name"], "weights");
    let value = |metric: &str| {
        let results = weights["results"].as_array().unwrap();
        let found = results.iter().find(|r| r["metric"] == metric);
        found.map_or(Value::Null, |r| r["value"].clone())
    };
    assert_eq!(value("parameters"), "1048576");
    assert_eq!(value("tensors"), "2");
    assert_eq!(shown["details"]["tensors"].as_array().unwrap().len(), 2);

    let path = model.to_str().unwrap();
    let weighed = person.run(["weigh", path, "--json"]).json();
    assert_eq!(&weighed["sections"][0], weights);
    assert_eq!(weighed["digest"], shown["scorecard"]["details"]["sha256"]);

    let page = person.run(["scorecard", "acme/tiny:1.0"]).ok();
    for said in ["1,048,576 parameters", "int4", "not measured because", "█"] {
        assert!(page.contains(said), "{said} in {page}");
    }
    // It is in the ledger, and what was pulled before and after verifies as ever.
    person.run(["ledger", "verify"]).ok();
    let out = world.path().join("out");
    person.pull("acme/tiny:1.0", &out).ok();
    person.verify(&out).ok();
    assert_eq!(site.metric("waag_weighed_releases_total"), 1);
    site.stop();
}

#[test]
fn a_site_that_does_not_weigh_says_that_there_is_no_scorecard() {
    let world = tempfile::tempdir().unwrap();
    let site = Site::serve(&world.path().join("site"));
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let file = world.path().join("notes.txt");
    fs::write(&file, "x").unwrap();
    person.push(&file, "acme/notes");
    let answer = person.run(["scorecard", "acme/notes", "--wait", "--json"]);
    assert_eq!(answer.code(), 5);
}
