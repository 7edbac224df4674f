//! The everyday commands: what they answer to a person, to a script that wants one word, and to a program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Person, Site};

struct Scene {
    site: Site,
    operator: Person,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::serve(&dir.path().join("site"));
        let operator = Person::operating(&site);
        operator.create_namespace("acme");
        Self { site, operator, dir }
    }

    /// Makes a directory of one file with this content.
    fn model(&self, content: &str) -> PathBuf {
        let path = self.dir.path().join(content);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("notes.txt"), content).unwrap();
        path
    }
}

/// Replaces what differs from run to run by what it is.
fn shape(text: &str) -> String {
    let digest = |word: &str| word.starts_with("sha256:") && word.len() == 71;
    let time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let fingerprint = |word: &str| word.starts_with("SHA256:");
    let site =
        |word: &str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let number = |word: &str| word.parse::<u64>().is_ok();
    let mut lines = String::new();
    for line in text.lines() {
        // Whether the site has said already that nothing is withdrawn, and at which entry, is its own affair.
        if line.starts_with("withdrawn ") {
            continue;
        }
        let mut before = "";
        for word in line.split(' ') {
            let shown = match word.trim_end_matches(',') {
                "" => word,
                w if digest(w) => "<digest>",
                w if time(w) => "<time>",
                w if fingerprint(w) => "<key>",
                w if site(w) => "<site>",
                // Behind its name, or in the first column of a table.
                w if number(w) && ["entry", ""].contains(&before) => "<entry>",
                _ => word,
            };
            lines.push_str(shown);
            lines.push(' ');
            if !word.is_empty() {
                before = word;
            }
        }
        lines.truncate(lines.trim_end_matches(' ').len());
        lines.push('\n');
    }
    lines
}

#[test]
fn results_read_well() {
    let scene = Scene::new();
    let operator = &scene.operator;
    let path = scene.model("first");
    let words = |words: &[&str]| shape(&operator.run(words).ok());
    let path = path.to_str().unwrap();
    insta::assert_snapshot!(
        "push-dry-run",
        words(&["push", path, "acme/tiny:1.0", "--dry-run"])
    );
    insta::assert_snapshot!(
        "push",
        words(&[
            "push",
            path,
            "acme/tiny:1.0",
            "--residency",
            "*",
            "--deny",
            "evaluate"
        ])
    );
    insta::assert_snapshot!("tag", words(&["tag", "acme/tiny:1.0", "stable"]));
    insta::assert_snapshot!("show", words(&["show", "acme/tiny"]));
    insta::assert_snapshot!("show-release", words(&["show", "acme/tiny:stable"]));
    insta::assert_snapshot!("list", words(&["list"]));
    insta::assert_snapshot!("pull", words(&["pull", "acme/tiny:stable"]));
    insta::assert_snapshot!("verify", words(&["verify", "tiny"]));
    insta::assert_snapshot!("namespace-show", words(&["namespace", "show", "acme"]));
    assert_eq!(words(&["push", path, "acme/tiny:1.0", "-q"]), "<digest>\n");
}

#[test]
fn failures_say_what_to_type_next() {
    let scene = Scene::new();
    let answer = scene.operator.run(["pull", "acme/other"]);
    assert_eq!((answer.code(), answer.stdout().as_str()), (5, ""));
    insta::assert_snapshot!("not-found", answer.stderr());
}

#[test]
fn a_token_allows_what_it_says_until_it_is_revoked() {
    let scene = Scene::new();
    scene
        .operator
        .run(["namespace", "create", "secret", "--private"])
        .ok();
    scene.operator.push(&scene.model("hidden"), "secret/tiny");
    scene.operator.push(&scene.model("open"), "acme/tiny");
    let token = scene
        .operator
        .make_token("reader", &["--namespace", "secret", "--days", "7"]);
    let reader = Person::at(&scene.site, &token);
    let who = reader.run(["whoami", "--json"]).json();
    assert_eq!(who["token"]["label"], "reader");
    assert_eq!(
        (&who["token"]["scopes"], &who["token"]["namespaces"]),
        (&json!(["read"]), &json!(["secret"]))
    );
    assert_eq!(reader.list(), ["acme/tiny", "secret/tiny"]);

    let nobody = Person::new();
    nobody.run(["login", &scene.site.url, "--anonymous"]).ok();
    assert_eq!(nobody.list(), ["acme/tiny"]);
    nobody.pull("secret/tiny", &scene.dir.path().join("out")).error(5);

    let listed = scene.operator.run(["token", "list", "--json"]).json();
    let tokens = listed["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    let id = who["token"]["id"].as_str().unwrap();
    scene.operator.run(["token", "revoke", id]).ok();
    reader.run(["whoami", "--json"]).error(3);
    reader.run(["logout"]).ok();
    assert_eq!(reader.run(["whoami", "--json"]).json()["token"], Value::Null);
    assert_eq!(reader.list(), ["acme/tiny"]);
}

#[test]
fn a_namespace_of_two_owners_needs_both_keys() {
    let scene = Scene::new();
    let operator = &scene.operator;
    operator
        .run(["key", "generate", "--name", "second", "--no-passphrase"])
        .ok();
    let both = ["--key", "default", "--key", "second"];
    let create = ["namespace", "create", "pair", "--threshold", "2", "--json"];
    let created = operator.run(create.iter().chain(&both)).json();
    assert_eq!(created["owners"].as_array().unwrap().len(), 2);
    let model = scene.model("shared");
    operator.try_push(&model, "pair/tiny", &[]).error(3);
    operator.try_push(&model, "pair/tiny", &both).json();
}

#[test]
fn keys_are_ours_to_read_only_and_listed_without_their_secrets() {
    let person = Person::new();
    let made = person
        .run(["key", "generate", "--no-passphrase", "--json"])
        .json();
    let path = PathBuf::from(made["path"].as_str().unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(person.run(["key", "show", "--json"]).json(), made);
    assert_eq!(
        person.run(["key", "list", "--json"]).json(),
        json!({"keys": [made]})
    );
    let public = person.run(["key", "show", path.to_str().unwrap(), "-q"]).ok();
    assert_eq!(public.trim_end(), made["public_key"].as_str().unwrap());
}

#[test]
fn a_site_that_starts_again_is_the_same_site() {
    let scene = Scene::new();
    scene.operator.push(&scene.model("kept"), "acme/tiny");
    let (before, data) = (
        scene.operator.run(["show", "acme/tiny", "--json"]).json(),
        scene.site.data.clone(),
    );
    let address = scene.site.url.strip_prefix("http://").unwrap().to_owned();
    scene.site.stop();
    fs::remove_file(data.join("index.db")).unwrap();
    let again = Site::serve_with(&data, &["--listen", &address]);
    assert_eq!(scene.operator.run(["show", "acme/tiny", "--json"]).json(), before);
    again.stop();
    fs::write(data.join("waag.toml"), "lisen = \"127.0.0.1:0\"\n").unwrap();
    let answer = scene
        .operator
        .run(["serve", "--data", data.to_str().unwrap(), "--json"]);
    let error = answer.error(1);
    assert!(error["message"].as_str().unwrap().contains("lisen"), "{error}");
}

#[test]
fn completions_name_the_commands() {
    let person = Person::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = person.run(["completions", shell]).ok();
        assert!(script.contains("push") && script.contains("residency"), "{shell}");
    }
}
