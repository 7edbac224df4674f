//! A push to a running site, and nothing more, gives a signed scorecard; a directory weighs the same without any site.

mod second;
mod worker;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

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

/// A model of two tensors in a directory of this name.
fn small_model(world: &Path, seed: u64) -> PathBuf {
    let model = world.join(format!("model-{seed}"));
    fs::create_dir(&model).unwrap();
    let tensors = [Tensor::new("embed", &[512, 1024], seed)];
    safetensors::write(&model.join("model.safetensors"), &tensors);
    model
}

#[test]
fn a_second_site_confirms_bit_for_bit_and_what_is_altered_on_the_way_is_caught() {
    let world = tempfile::tempdir().unwrap();
    let (first, second) = (
        Site::serve_as_it_comes(&world.path().join("first")),
        Site::serve_as_it_comes(&world.path().join("second")),
    );
    let model = small_model(world.path(), 1);
    let person = Person::operating(&second);
    let push = |site: &Site| {
        let token = site.admin_token();
        person
            .run(["login", &site.url, "--token-file", token.to_str().unwrap()])
            .ok();
        person.create_namespace("acme");
        person.push(&model, "acme/tiny:1.0");
        person.run(["scorecard", "acme/tiny:1.0", "--wait"]).ok();
    };
    push(&second);
    push(&first);

    let against = ["scorecard", "acme/tiny:1.0", "--against"];
    let ask = |url: &str, more: &[&str]| person.run(against.iter().chain([&url]).chain(more).copied());
    let shown = ask(&second.url, &["--json"]).json();
    let agreement = &shown["others"][0]["agreements"][0];
    assert_eq!(
        (
            &agreement["section"],
            &agreement["verdict"],
            &agreement["bit_for_bit"]
        ),
        (&"weights".into(), &"confirmed".into(), &Value::Bool(true))
    );
    assert_ne!(shown["others"][0]["site"], shown["site"]);
    let page = ask(&second.url, &[]).ok();
    assert!(page.contains("confirmed, bit for bit"), "{page}");

    // Somebody on the way to it makes the second site say another number.
    let way = altering(&second.url, b"\"524288\"", b"\"524289\"");
    person.run(["login", &way, "--anonymous"]).ok();
    person.run(["login", &first.url, "--anonymous"]).ok();
    let error = ask(&way, &["--json"]).error(4);
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("scorecards of acme/tiny"), "{said}");
}

/// A model of one tensor all of whose bytes are this one.
fn flat_model(world: &Path, byte: u8) -> PathBuf {
    let model = world.join(format!("flat-{byte}"));
    fs::create_dir(&model).unwrap();
    let header = r#"{"a":{"dtype":"BF16","shape":[2,512],"data_offsets":[0,2048]}}"#;
    let mut bytes = safetensors::framed(header);
    bytes.extend_from_slice(&[byte; 2048]);
    fs::write(model.join("model.safetensors"), bytes).unwrap();
    model
}

/// Listens on this machine and passes on what the site at this address says, with other bytes in place of some.
fn altering(url: &str, from: &'static [u8], to: &'static [u8]) -> String {
    let site = url.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for asking in listener.incoming() {
            let Ok(mut asking) = asking else { return };
            let mut answering = TcpStream::connect(&site).unwrap();
            let (mut out, mut back) = (answering.try_clone().unwrap(), asking.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = io::copy(&mut asking, &mut out);
                let _ = out.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while let Ok(count @ 1..) = answering.read(&mut buffer) {
                    for at in 0..count {
                        if buffer[at..count].starts_with(from) {
                            buffer[at..at + to.len()].copy_from_slice(to);
                        }
                    }
                    if back.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_tag_moves_only_to_what_passes_its_gate() {
    let world = tempfile::tempdir().unwrap();
    let site = Site::serve_as_it_comes(&world.path().join("site"));
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let gate = ["namespace", "gate", "acme", "--tag", "prod", "--metric"];
    let require = |more: &[&str]| person.run(gate.iter().chain(more).copied());
    require(&["nonfinite", "--at-most", "0"]).ok();
    require(&["parameters", "--at-least", "1000"]).ok();
    let shown = person.run(["namespace", "show", "acme"]).ok();
    assert!(
        shown.contains("nonfinite at most 0") && shown.contains("parameters at least 1000"),
        "{shown}"
    );

    // What was not weighed yet does not pass, nor what has numbers that are none.
    let noise = flat_model(world.path(), 0xff);
    let early = person.try_push(&noise, "acme/noise:prod", &[]).error(3);
    assert!(
        early["details"][0].as_str().unwrap().contains("no scorecard yet"),
        "{early}"
    );
    person.push(&noise, "acme/noise:1.0");
    person.run(["scorecard", "acme/noise:1.0", "--wait"]).ok();
    let svr = world.path().join("svr.json");
    let asked = |name: &str| person.run(["scorecard", name, "--json", "--svr", svr.to_str().unwrap()]);
    let unfit = asked("acme/noise:1.0").error(3);
    assert!(
        unfit["details"][0]
            .as_str()
            .unwrap()
            .starts_with("before the tag prod: nonfinite"),
        "{unfit}"
    );
    assert!(!svr.exists());
    let refused = person.run(["tag", "acme/noise:1.0", "prod", "--json"]).error(3);
    let said = refused["details"][0].as_str().unwrap();
    assert!(said.starts_with("nonfinite at most 0: it has "), "{said}");
    assert!(
        refused["hint"].as_str().unwrap().contains("waag tag"),
        "{refused}"
    );

    let finite = flat_model(world.path(), 0x3f);
    person.push(&finite, "acme/fine:1.0");
    person.run(["scorecard", "acme/fine:1.0", "--wait"]).ok();
    person.run(["tag", "acme/fine:1.0", "prod"]).ok();
    asked("acme/fine:1.0").json();
    let envelope: Value = serde_json::from_slice(&fs::read(&svr).unwrap()).unwrap();
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let note = fs::read_to_string(svr.with_file_name("svr.json.key")).unwrap();
    assert!(note.contains("\nsite ssh-ed25519 "), "{note}");
    // A file of before is never taken for what is said now, nor is anybody's lost.
    let there = asked("acme/fine:1.0").error(1);
    assert!(
        there["message"].as_str().unwrap().contains("is there already"),
        "{there}"
    );
    fs::remove_file(&svr).unwrap();
    fs::remove_file(svr.with_file_name("svr.json.key")).unwrap();

    // The namespace's chain goes on, and everything verifies with a gate in it.
    let out = world.path().join("out");
    person.pull("acme/fine:prod", &out).ok();
    person.verify(&out).ok();
    person.run(["ledger", "verify"]).ok();
    person
        .run(["namespace", "gate", "acme", "--tag", "prod", "--remove"])
        .ok();
    person.run(["tag", "acme/noise:1.0", "prod"]).ok();
    let open = asked("acme/fine:1.0").error(5);
    assert!(open["message"].as_str().unwrap().contains("no gate"), "{open}");
    assert!(!svr.exists());
    assert!(!person.run(["namespace", "show", "acme"]).ok().contains("gate"));

    let compared = person
        .run(["compare", "acme/noise:1.0", "acme/fine:1.0", "--json"])
        .json();
    let rows = compared["sections"][0]["results"].as_array().unwrap();
    let nan = rows.iter().find(|row| row["metric"] == "nan").unwrap();
    assert_eq!((&nan["a"], &nan["b"]), (&"1024".into(), &"0".into()));
    let page = person.run(["compare", "acme/noise:1.0", "acme/fine:1.0"]).ok();
    assert!(page.contains("l2_norm") && page.contains('█'), "{page}");
    let nobody = person.run(["leaderboard", "acme/suite", "--json"]).error(5);
    assert!(nobody["message"].as_str().unwrap().contains("acme/suite"));
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
