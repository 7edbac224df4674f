//! A push to a running site, and nothing more, gives a signed scorecard; a directory weighs the same without any site.

use std::fs;

use serde_json::Value;
use waag_schema::base::bytes::Base64;

use crate::world::safetensors::{self, Tensor};
use crate::world::{Person, Site};

#[test]
fn a_push_is_followed_by_its_scorecard() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("site");
    let site = Site::serve_as_it_comes(&data);
    let config = fs::read_to_string(data.join("waag.toml")).unwrap();
    assert!(config.starts_with('#'));
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

    let shown = person
        .run(["scorecard", "acme/tiny:1.0", "--wait", "--json"])
        .json();
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
    let verified = person.verify(&out).json();
    assert_eq!(verified["weighed"][0]["scorecard"], shown["scorecard"]);
    let at_site = person.run(["verify", "acme/tiny:1.0", "--json"]).json();
    assert_eq!(at_site["weighed"], verified["weighed"]);
    let page = person.run(["verify", "acme/tiny:1.0"]).ok();
    assert!(
        page.contains("weighed by") && page.contains("weights, by waag"),
        "{page}"
    );
    // One digit of it altered on the way or on disk is seen, and said which statement it is.
    let proof = out.join(".waag/proof.json");
    let (whole, entry) = (
        fs::read_to_string(&proof).unwrap(),
        &verified["weighed"][0]["entry"],
    );
    fs::write(&proof, altered(&whole, entry.as_u64().unwrap())).unwrap();
    let answer = person.run(["verify", out.to_str().unwrap(), "--json"]).error(4);
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains(&format!("the scorecard, entry {entry}")), "{said}");
    fs::write(&proof, whole).unwrap();
    assert_eq!(site.metric("waag_weighed_releases_total"), 1);

    // The same with one tensor trained on: the other one is known to be the same without being read.
    let trained = [
        Tensor::new("layers.0.weight", &[512, 1024], 1),
        Tensor::new("layers.1.weight", &[512, 1024], 3),
    ];
    safetensors::write(&model.join("model.safetensors"), &trained);
    let base = ["--base", "acme/tiny:1.0"];
    person.try_push(&model, "acme/tuned:1.0", &base).json();
    let shown = person
        .run(["scorecard", "acme/tuned:1.0", "--wait", "--json"])
        .json();
    let lineage = &shown["scorecard"]["sections"][1];
    let value = |metric: &str| {
        let results = lineage["results"].as_array().unwrap();
        let found = results.iter().find(|r| r["metric"] == metric).unwrap();
        found["value"].clone()
    };
    assert_eq!(value("tensors_matched"), "2");
    assert_eq!(value("tensors_identical"), "1");
    assert_eq!(value("tokenizer_equal"), "1");
    assert_eq!(shown["details"]["lineage"].as_array().unwrap().len(), 2);
    assert!(
        person
            .run(["scorecard", "acme/tuned:1.0"])
            .ok()
            .contains("cosine")
    );
    site.stop();
}

/// The kept proof with another number in the statement of this entry.
fn altered(kept: &str, entry: u64) -> String {
    let mut kept: Value = serde_json::from_str(kept).unwrap();
    let entries = kept["proof"]["entries"].as_array_mut().unwrap();
    let found = entries.iter_mut().find(|e| e["index"] == entry).unwrap();
    let bytes = |value: Value| serde_json::from_value::<Base64>(value).unwrap().0;
    let text = |bytes: Vec<u8>| serde_json::to_value(Base64(bytes)).unwrap();
    let opening = bytes(found["opening"].clone());
    let payload = opening
        .windows(11)
        .position(|at| at == b"\"payload\":\"")
        .unwrap()
        + 11;
    let length = opening[payload..].iter().position(|b| *b == b'"').unwrap();
    let end = payload + length;
    let said = bytes(String::from_utf8(opening[payload..end].to_vec()).unwrap().into());
    let changed = String::from_utf8(said).unwrap().replace("1048576", "1048577");
    let changed = text(changed.into_bytes());
    let whole = [
        &opening[..payload],
        changed.as_str().unwrap().as_bytes(),
        &opening[end..],
    ];
    found["opening"] = text(whole.concat());
    kept.to_string()
}

#[test]
fn what_runs_code_when_it_is_loaded_is_not_published() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("site");
    let site = Site::serve(&data);
    let address = site.url.strip_prefix("http://").unwrap().to_owned();
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let model = world.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("pytorch_model.bin"), b"\x80\x02}q\x00.").unwrap();

    let error = person.try_push(&model, "acme/old", &[]).error(3);
    assert!(
        error["details"][0].as_str().unwrap().contains("safetensors"),
        "{error}"
    );
    // The site looks for itself, and has the last word.
    let insisted = ["--allow-format", "pickle"];
    let error = person.try_push(&model, "acme/old", &insisted).error(3);
    assert!(
        error["details"][0]
            .as_str()
            .unwrap()
            .contains("pytorch_model.bin"),
        "{error}"
    );
    site.stop();
    fs::write(
        data.join("waag.toml"),
        "[weigh]\non = false\n[formats]\nallow = [\"pickle\"]\n",
    )
    .unwrap();
    let site = Site::serve_with(&data, &["--listen", &address]);
    person.try_push(&model, "acme/old", &insisted).json();
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
