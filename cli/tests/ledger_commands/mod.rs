//! The ledger as a reader and an operator see it: entries, proofs as files, the whole tree, erasure, fsck.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Person, Site, files_below, flip_a_bit};

struct Scene {
    site: Site,
    operator: Person,
    dir: TempDir,
}

impl Scene {
    /// A site with one release in a public and one in a private namespace.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::serve(&dir.path().join("site"));
        let operator = Person::operating(&site);
        operator.create_namespace("acme");
        operator.run(["namespace", "create", "secret", "--private"]).ok();
        let scene = Self { site, operator, dir };
        for target in ["acme/tiny:1.0", "secret/tiny:1.0"] {
            scene.operator.push(&scene.model(target), target);
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn model(&self, content: &str) -> PathBuf {
        let path = self.path(&content.replace(['/', ':'], "-"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("notes.txt"), content).unwrap();
        path
    }

    fn stranger(&self) -> Person {
        let stranger = Person::new();
        stranger.run(["login", &self.site.url, "--anonymous"]).ok();
        stranger
    }

    /// Returns the position of the first entry of this kind about this name.
    fn entry(&self, kind: &str, subject: &str) -> String {
        let shown = self
            .operator
            .run(["ledger", "show", "--limit", "100", "--json"])
            .json();
        let entries = shown["entries"].as_array().unwrap();
        let found = entries
            .iter()
            .find(|e| e["kind"] == kind && e["subject"] == subject);
        found.unwrap_or_else(|| panic!("no {kind} of {subject} in {shown}"))["entry"].to_string()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn state_of(person: &Person, entry: &str) -> Value {
    let shown = person
        .run(["ledger", "show", "--from", entry, "--limit", "1", "--json"])
        .json();
    shown["entries"][0]["state"].clone()
}

#[test]
fn entries_are_shown_to_who_may_read_them() {
    let scene = Scene::new();
    let release = scene.entry("release", "acme/tiny");
    let hidden = scene.entry("release", "secret/tiny");
    let stranger = scene.stranger();
    assert_eq!(state_of(&stranger, &release), "proven");
    assert_eq!(state_of(&stranger, &hidden), "restricted");
    assert_eq!(state_of(&scene.operator, &hidden), "proven");

    let shown = stranger.run(["ledger", "show", "--limit", "2", "--json"]).json();
    let size = shown["size"].as_u64().unwrap();
    let last: Vec<u64> = shown["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["entry"].as_u64().unwrap())
        .collect();
    assert_eq!(last, [size - 2, size - 1]);
    let page = stranger
        .run(["ledger", "show", "--from", &hidden, "--limit", "1"])
        .ok();
    assert!(page.contains("(restricted)"), "{page}");
    assert!(!page.contains("secret"), "{page}");
    let beyond = stranger
        .run(["ledger", "show", "--from", "1000", "--json"])
        .json();
    assert_eq!(beyond["entries"], json!([]));
}

#[test]
fn a_proof_is_checked_without_the_site() {
    let scene = Scene::new();
    let release = scene.entry("release", "acme/tiny");
    let file = scene.path("proof");
    let stranger = scene.stranger();
    let proven = stranger
        .run(["ledger", "prove", &release, "--out", text(&file), "--json"])
        .json();
    assert_eq!(proven["kind"], "release");
    assert_eq!(proven["proof"], fs::read_to_string(&file).unwrap());
    // Without --out, standard output is the file.
    let printed = stranger.run(["ledger", "prove", &release]).ok();
    let copy = scene.path("copy");
    fs::write(&copy, &printed).unwrap();
    assert!(printed.starts_with("c2sp.org/tlog-proof@v1\n"));

    let unknown = stranger.run(["ledger", "prove", "1000", "--json"]).error(5);
    assert_eq!(unknown["code"], "not_found");
    let Scene { site, dir, .. } = scene;
    site.stop();
    for file in [&file, &copy] {
        let verified = stranger.run(["ledger", "verify", text(file), "--json"]).json();
        assert_eq!(
            (&verified["verified"], &verified["kind"], &verified["subject"]),
            (&json!(true), &json!("release"), &json!("acme/tiny"))
        );
    }
    // A newcomer has pinned nobody: what travels with a proof vouches for nothing.
    let error = Person::new()
        .run(["ledger", "verify", text(&file), "--json"])
        .error(4);
    assert!(
        error["message"].as_str().unwrap().contains("not pinned"),
        "{error}"
    );
    let changed = printed.replacen("index ", "index 1", 1);
    fs::write(&copy, changed).unwrap();
    stranger.run(["ledger", "verify", text(&copy), "--json"]).error(4);
    fs::write(&copy, "nonsense").unwrap();
    stranger.run(["ledger", "verify", text(&copy), "--json"]).error(4);
    let missing = dir.path().join("none");
    stranger
        .run(["ledger", "verify", text(&missing), "--json"])
        .error(5);
}

#[test]
fn the_whole_ledger_is_computed_anew() {
    let scene = Scene::new();
    let release = scene.entry("release", "acme/tiny");
    let stranger = scene.stranger();
    let first = stranger.run(["ledger", "verify", "--json"]).json();
    assert_eq!(first["verified"], true);
    assert_eq!(first["size"], first["continues"]);
    assert!(first["restricted"].as_u64().unwrap() >= 2, "{first}");
    scene.operator.push(&scene.model("more"), "acme/tiny:2.0");
    let again = stranger.run(["ledger", "verify", &release, "--json"]).json();
    assert_eq!(again["continues"], first["size"]);
    assert!(again["size"].as_u64() > first["size"].as_u64());
    assert_eq!(again["entry"]["kind"], "release");
    let page = stranger.run(["ledger", "verify"]).ok();
    assert!(page.contains("as signed"), "{page}");
}

#[test]
fn an_erased_entry_says_so_and_every_other_proof_still_holds() {
    let scene = Scene::new();
    let tag = scene.entry("tag", "acme/tiny");
    let release = scene.entry("release", "acme/tiny");
    let stranger = scene.stranger();
    let erase = |person: &Person, more: &[&str]| {
        let words = ["ledger", "erase", tag.as_str(), "--ground", "gdpr-17", "--json"];
        person.run(words.iter().chain(more))
    };
    let error = erase(&scene.operator, &[]).error(2);
    assert!(error["hint"].as_str().unwrap().contains("--yes"), "{error}");
    erase(&stranger, &["--yes"]).error(3);
    let erased = erase(&scene.operator, &["--yes"]).json();
    assert_eq!(
        (&erased["erased"].to_string(), &erased["ground"]),
        (&tag, &json!("gdpr-17"))
    );
    assert_eq!(state_of(&stranger, &tag), "erased");
    assert_eq!(state_of(&scene.operator, &tag), "erased");
    scene.operator.run(["ledger", "prove", &tag, "--json"]).error(5);
    assert_eq!(state_of(&stranger, &release), "proven");
    let verified = stranger.run(["ledger", "verify", "--json"]).json();
    assert_eq!(verified["erasures"], 1);
    scene.site.stop();
    let data = scene.dir.path().join("site");
    let whole = stranger
        .run(["ledger", "fsck", "--data", text(&data), "--json"])
        .json();
    assert_eq!(whole["erased"], 1);
}

#[test]
fn fsck_names_what_is_damaged_and_repairs_what_can_be_derived() {
    let scene = Scene::new();
    let somebody = scene.stranger();
    let data = scene.path("site");
    let fsck = |more: &[&str]| {
        let words = ["ledger", "fsck", "--data", text(&data), "--json"];
        somebody.run(words.iter().chain(more))
    };
    let error = fsck(&[]).error(1);
    assert!(error["message"].as_str().unwrap().contains("in use"), "{error}");
    scene.site.stop();
    let whole = fsck(&[]).json();
    assert_eq!(whole["whole"], true);

    let below = |part: &str| {
        let files = files_below(&data.join("store"));
        let found = files
            .into_iter()
            .find(|file| file.to_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("nothing of {part}"))
    };
    // Narrower ones are left from when the tree was smaller.
    let tile = below(&format!("tile/0/000.p/{}", whole["entries"]));
    flip_a_bit(&data.join("store").join(&tile));
    let error = fsck(&[]).error(4);
    let details = error["details"].to_string();
    assert!(details.contains(tile.to_str().unwrap()), "{details}");
    let mended = fsck(&["--repair"]).json();
    assert_eq!(mended["repaired"].as_array().unwrap().len(), 1, "{mended}");
    assert_eq!(fsck(&[]).json()["repaired"], json!([]));

    let chunk = below("chunk");
    flip_a_bit(&data.join("store").join(&chunk));
    let error = fsck(&["--repair"]).error(4);
    let details = error["details"].to_string();
    assert!(details.contains(chunk.to_str().unwrap()), "{details}");
    let nothing = scene.dir.path().join("nothing");
    somebody
        .run(["ledger", "fsck", "--data", text(&nothing), "--json"])
        .error(5);
    assert!(!nothing.exists(), "looking makes nothing");
}
