//! Finding and comparing what a site holds: search, list, diff.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::safetensors::{self, Tensor};
use crate::world::{Person, Site};

/// A small model: a large tensor, small ones that share a chunk, a configuration.
fn model(dir: &Path, tensors: &[Tensor], hidden: u64) {
    fs::create_dir_all(dir).unwrap();
    safetensors::write(&dir.join("model.safetensors"), tensors);
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden});
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("README.md"), "# tiny\n").unwrap();
}

fn tensors() -> Vec<Tensor> {
    vec![
        Tensor::new("embed", &[512, 1024], 1),
        Tensor::new("layer.0.norm", &[64], 2),
        Tensor::new("layer.0.proj", &[512, 512], 3),
        Tensor::new("layer.1.norm", &[64], 4),
        Tensor::new("layer.1.bias", &[64], 5),
        Tensor::new("head", &[512, 1024], 6),
    ]
}

/// One tensor renamed, one trained further, one small one gone and one new.
fn tuned() -> Vec<Tensor> {
    let mut tensors = tensors();
    tensors[0].name = "embedding".to_owned();
    tensors[2].seed ^= 0xff00;
    tensors.remove(3);
    tensors.push(Tensor::new("scale", &[32], 9));
    tensors
}

struct Scene {
    site: Site,
    operator: Person,
    one: PathBuf,
    two: PathBuf,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        model(&one, &tensors(), 1024);
        model(&two, &tuned(), 2048);
        let site = Site::serve(&dir.path().join("site"));
        let operator = Person::operating(&site);
        operator.create_namespace("acme");
        let license = ["--license", "Apache-2.0"];
        operator.try_push(&one, "acme/tiny:1.0", &license).json();
        operator.try_push(&two, "acme/tiny:2.0", &license).json();
        Self {
            site,
            operator,
            one,
            two,
            _dir: dir,
        }
    }
}

fn check(found: &Value) {
    assert_eq!(found["same"], false);
    let files = &found["files"];
    assert_eq!(files["same"], 1);
    let changed: Vec<&str> = files["changed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(changed, ["config.json", "model.safetensors"]);
    assert_eq!(
        found["tensors"],
        json!({
            "same": 3,
            "added": ["scale"],
            "removed": ["layer.1.norm"],
            "renamed": [{"from": "embed", "to": "embedding"}],
            "changed": [{"name": "layer.0.proj", "what": "values"}],
            "undecided": 0,
        })
    );
    assert_eq!(
        found["config"]["fields"],
        json!([{"field": "hidden_size", "a": 1024, "b": 2048}])
    );
    // Two matrices of a mebibyte are in both.
    let shared = found["chunks"]["shared_bytes"].as_u64().unwrap();
    assert!((2 << 20..3 << 20).contains(&shared), "{shared}");
}

#[test]
fn releases_are_compared_without_fetching_them() {
    let scene = Scene::new();
    let before = scene.site.metric("waag_content_sent_bytes_total");
    let found = scene
        .operator
        .run(["diff", "acme/tiny:1.0", "acme/tiny:2.0", "--json"])
        .json();
    check(&found);
    let sent = scene.site.metric("waag_content_sent_bytes_total") - before;
    assert!(sent < 16 << 10, "{sent} bytes were fetched to compare megabytes");
    assert!(found["a"]["digest"].as_str().unwrap().starts_with("sha256:"));

    let page = scene
        .operator
        .run(["diff", "acme/tiny:1.0", "acme/tiny:2.0"])
        .ok();
    for words in [
        "renamed  embed",
        "-> embedding",
        "hidden_size  1024  2048",
        "files: 1 the same",
    ] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    scene
        .operator
        .run(["diff", "acme/tiny:1.0", "acme/tiny:3.0", "--json"])
        .error(5);
    scene
        .operator
        .run(["diff", "acme/tiny:1.0", "./none", "--json"])
        .error(5);
}

#[test]
fn a_directory_is_compared_with_what_was_published() {
    let scene = Scene::new();
    let diff = |a: &str, b: &str| scene.operator.run(["diff", a, b, "--json"]).json();
    let (one, two) = (scene.one.to_str().unwrap(), scene.two.to_str().unwrap());
    check(&diff(one, two));
    check(&diff("acme/tiny:1.0", two));
    check(&diff(one, "acme/tiny:2.0"));
    let same = diff(one, "acme/tiny:1.0");
    assert_eq!(
        (&same["same"], &same["tensors"]["same"]),
        (&json!(true), &json!(6))
    );
    let word = scene.operator.run(["diff", one, "acme/tiny:1.0", "-q"]).ok();
    assert_eq!(word, "same\n");
}

#[test]
fn artifacts_are_found_by_words() {
    let scene = Scene::new();
    let notes = scene.operator.desk().join("notes");
    fs::create_dir_all(&notes).unwrap();
    fs::write(notes.join("data.txt"), "1\n").unwrap();
    scene
        .operator
        .try_push(
            &notes,
            "acme/words & more".split(' ').next().unwrap(),
            &["--kind", "dataset"],
        )
        .json();
    let search = |words: &[&str]| {
        let found = scene
            .operator
            .run(["search", "--json"].iter().chain(words))
            .json();
        let names = found["artifacts"].as_array().unwrap().iter();
        names
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(search(&["tiny"]), ["acme/tiny"]);
    assert_eq!(search(&["LLAMA", "apache"]), ["acme/tiny"]);
    assert_eq!(search(&["dataset"]), ["acme/words"]);
    assert_eq!(search(&["acme"]), ["acme/tiny", "acme/words"]);
    assert!(search(&["llama", "dataset"]).is_empty());
    assert!(search(&["100%", "&after=x"]).is_empty());
    assert!(search(&["acme", "--namespace", "other"]).is_empty());
    let page = scene.operator.run(["list"]).ok();
    let line = page.lines().find(|line| line.starts_with("acme/tiny")).unwrap();
    for word in ["model", "Apache-2.0", "LlamaForCausalLM"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    let none = scene.operator.run(["search", "nothing-like-it"]).ok();
    assert!(none.contains("has all these words"), "{none}");
}
