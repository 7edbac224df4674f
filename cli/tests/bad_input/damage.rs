//! Bits that flip, at the site and on the consumer's disk; proofs that were exchanged.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Scene, message};
use crate::world::safetensors::{self, Tensor};
use crate::world::{Person, flip_a_bit};

/// A model of one shard of 8 MiB, so that it has several chunks.
fn model(scene: &Scene) -> PathBuf {
    let path = scene.model("model");
    let tensors = [
        Tensor::new("a", &[1024, 2048], 1),
        Tensor::new("b", &[1024, 2048], 2),
    ];
    safetensors::write(&path.join("model.safetensors"), &tensors);
    path
}

/// Returns the largest stored chunks first.
fn stored_chunks(site: &Path) -> Vec<PathBuf> {
    let mut chunks = Vec::new();
    for dir in fs::read_dir(site.join("store/chunks")).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            chunks.push((fs::metadata(&path).unwrap().len(), path));
        }
    }
    chunks.sort();
    chunks.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn a_bit_that_flipped_in_a_stored_chunk_is_found_by_the_pull_which_names_the_file() {
    let scene = Scene::new();
    scene.operator.push(&model(&scene), "acme/tiny");
    flip_a_bit(&stored_chunks(&scene.site.data)[0]);
    let out = scene.at("out");
    let error = scene.operator.pull("acme/tiny", &out).error(4);
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    // Nothing of it stands under its name.
    assert!(!out.join("model.safetensors").exists());
}

#[test]
fn a_disk_that_is_full_is_named_and_what_came_before_is_kept() {
    let scene = Scene::new();
    let path = model(&scene);
    // Larger than the other file may become below, and pulled in pieces of which some fit.
    fs::write(path.join("a.txt"), "a").unwrap();
    scene.operator.push(&path, "acme/tiny");
    let out = scene.at("out");
    // A limit on the size of files stands for a full disk; its signal must not end the program.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 4096; exec \"$0\" pull acme/tiny {} --no-cache --json",
        out.display()
    );
    let error = scene.operator.run_shell(&limited).error(1);
    assert!(message(&error).contains(".waag/partial"), "{error}");
    assert!(super::hint(&error).contains("make room"), "{error}");
    assert!(!out.join("model.safetensors").exists());
    scene.operator.pull("acme/tiny", &out).json();
    scene.operator.verify(&out).ok();
}

#[test]
fn a_part_of_a_release_is_planned_pulled_and_verified_as_a_part() {
    let scene = Scene::new();
    let path = model(&scene);
    fs::write(path.join("a.txt"), "a").unwrap();
    scene.operator.push(&path, "acme/tiny");
    let out = scene.at("out");
    let directory = out.to_str().unwrap();
    let pull = |more: &[&str]| {
        let words = ["pull", "acme/tiny", directory, "--tensors", "^b$"];
        scene.operator.run(words.iter().chain(more))
    };
    let planned = pull(&["--include", "*.safetensors", "--dry-run", "--json"]).json();
    assert_eq!(
        (&planned["dry_run"], &planned["files"], &planned["fetch_chunks"]),
        (&Value::from(true), &Value::from(1), &Value::from(1)),
        "{planned}"
    );
    assert!(pull(&["--dry-run"]).ok().contains("to fetch"));
    assert!(!out.exists());
    let pulled = pull(&["--include", "*.safetensors", "--json"]).json();
    assert_eq!(pulled["files"], 1);
    let words = scene.operator.run(["verify", directory]);
    assert!(words.ok().contains("partial: 1 of "), "{}", words.stdout());
    assert!(
        words.ok().contains("1 file made of signed tensors"),
        "{}",
        words.stdout()
    );
    // The whole file comes under the same name; what is there is the pull's own, so it is replaced.
    scene.operator.pull("acme/tiny", &out).json();
    let verified = scene.operator.verify(&out).json();
    assert_eq!(verified.get("partial"), None);
}

#[test]
fn each_file_that_is_not_as_signed_is_named_by_verify_and_mended_by_pull() {
    let scene = Scene::new();
    let path = model(&scene);
    fs::write(path.join("a.txt"), "a").unwrap();
    fs::write(path.join("b.txt"), "b").unwrap();
    scene.operator.push(&path, "acme/tiny");
    let out = scene.at("out");
    scene.operator.pull("acme/tiny", &out).json();

    flip_a_bit(&out.join("model.safetensors"));
    fs::remove_file(out.join("a.txt")).unwrap();
    fs::write(out.join("b.txt"), "bb").unwrap();
    fs::write(out.join("mine.txt"), "not signed").unwrap();
    let error = scene.operator.verify(&out).error(4);
    let faults: Vec<(&str, &str)> = error["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["path"].as_str().unwrap(), file["fault"].as_str().unwrap()))
        .collect();
    assert_eq!(
        faults,
        [
            ("a.txt", "missing"),
            ("b.txt", "size"),
            ("model.safetensors", "digest")
        ]
    );

    // Nobody can know whether the damage was done on purpose.
    let error = scene.operator.pull("acme/tiny", &out).error(1);
    assert_eq!(error["details"], Value::from(vec!["b.txt", "model.safetensors"]));
    let received = scene.operator.mend("acme/tiny", &out).json()["received_bytes"]
        .as_u64()
        .unwrap();
    assert!(received < 5 << 20, "more came than the damaged chunk: {received}");
    let verified = scene.operator.verify(&out).json();
    assert_eq!(verified["extra"], Value::from(vec!["mine.txt"]));
}

#[test]
fn only_a_pinned_site_is_believed_whatever_lies_beside_the_files() {
    let scene = Scene::new();
    scene.operator.push(&model(&scene), "acme/tiny");
    let out = scene.at("out");
    scene.operator.pull("acme/tiny", &out).json();
    let error = Person::new().verify(&out).error(4);
    assert!(message(&error).contains("not pinned"), "{error}");

    for entry in fs::read_dir(out.join(".waag")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && fs::metadata(&path).unwrap().len() > 0 {
            let kept = fs::read(&path).unwrap();
            flip_a_bit(&path);
            let answer = scene.operator.verify(&out);
            assert_ne!(answer.code(), 0, "a change of {} was not seen", path.display());
            fs::write(&path, kept).unwrap();
        }
    }
    scene.operator.verify(&out).json();
}
