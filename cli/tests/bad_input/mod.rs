//! What a person may do wrong, or find damaged: a clear message, the right exit code, and nothing recorded.

mod damage;
mod files;
mod safetensors;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Person, Site};

/// A site with its operator, who owns the namespace `acme`, and a directory to make files in.
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

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a directory with a `config.json` in it.
    fn model(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("config.json"), "{\"model_type\": \"llama\"}\n").unwrap();
        path
    }

    /// Pushes what must be refused: checks the exit code, and that nothing was recorded; returns the error.
    fn refused(&self, person: &Person, path: &Path, target: &str, more: &[&str], code: i32) -> Value {
        let before = self.operator.recorded();
        let error = person.try_push(path, target, more).error(code);
        assert_eq!(self.operator.recorded(), before, "something was recorded");
        error
    }
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

fn hint(error: &Value) -> &str {
    error["hint"].as_str().unwrap()
}

#[test]
fn names_that_break_the_rules_are_usage_errors() {
    let person = Person::new();
    for target in [
        "tiny",
        "Acme/tiny",
        "acme/a/b",
        "api/tiny",
        "acme/tiny:-x",
        "acme/tiny@sha256:00",
    ] {
        let error = person.try_push(person.desk(), target, &[]).error(2);
        assert_eq!(error["code"], "usage");
        assert!(
            message(&error).contains(target.split([':', '@']).next().unwrap()),
            "{error}"
        );
    }
    let error = person
        .run(["pull", "--json", "acme/tiny", "out", "--nonsense"])
        .error(2);
    assert!(message(&error).contains("--nonsense"), "{error}");
    let words = person.run(["pull"]);
    assert_eq!((words.code(), words.stdout().as_str()), (2, ""));
}

#[test]
fn without_a_site_the_next_step_is_named() {
    let person = Person::new();
    let error = person.run(["list", "--json"]).error(2);
    assert!(hint(&error).contains("waag login URL"), "{error}");
    let error = person
        .run(["list", "--json", "--site", "http://127.0.0.1:9"])
        .error(2);
    assert_eq!(hint(&error), "waag login http://127.0.0.1:9");
}

#[test]
fn a_site_that_does_not_answer_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::serve(&dir.path().join("site"));
    let operator = Person::operating(&site);
    let url = site.url.clone();
    site.stop();
    let error = operator.run(["list", "--json"]).error(6);
    assert!(message(&error).contains(&url), "{error}");
}

#[test]
fn what_is_not_there_is_not_found() {
    let scene = Scene::new();
    let operator = &scene.operator;
    let model = scene.model("model");
    operator.push(&model, "acme/tiny:1.0");
    for reference in [
        "acme/other",
        "acme/tiny:2.0",
        "nobody/tiny",
        &format!("acme/tiny@sha256:{}", "0".repeat(64)),
    ] {
        let error = operator.pull(reference, &scene.at("out")).error(5);
        assert_eq!(error["code"], "not_found");
    }
    assert!(!scene.at("out").exists());
    operator
        .run(["show", "acme/other2", "--json", "--site", &scene.site.url])
        .error(5);
    Person::at(
        &scene.site,
        &operator.make_token("reader", &["--namespace", "acme"]),
    )
    .run(["show", "acme/other", "--json"])
    .error(5);
    operator.verify(&model).error(5);
    scene.refused(operator, &scene.at("nothing"), "acme/tiny", &[], 5);
    scene.refused(operator, &model, "acme/new", &["--key", "none"], 5);
    scene.refused(operator, &model, "nobody/tiny", &[], 5);
}

#[test]
fn what_is_named_here_and_not_there_is_not_found_wherever_it_is_named() {
    let scene = Scene::new();
    let operator = &scene.operator;
    operator.push(&scene.model("model"), "acme/tiny:1.0");
    let (out, none) = (scene.at("out"), scene.at("none"));
    let (out, none) = (out.to_str().unwrap(), none.to_str().unwrap());
    let pull = ["pull", "acme/tiny:1.0", out, "--no-cache", "--json"];
    for more in [
        ["--ca", none],
        ["--reuse", none],
        ["--include", "*.bin"],
        ["--tensors", "nothing"],
    ] {
        let error = operator.run(pull.iter().chain(&more)).error(5);
        assert_eq!(error["hint"], Value::Null, "{error}");
    }
    operator.run(["verify", none, "--json"]).error(5);
    operator.run(["sign", none, "--json"]).error(5);
    operator
        .run(["login", &scene.site.url, "--token-file", none, "--json"])
        .error(5);
    for absent in [
        ["token", "revoke", "0123456789abcdef"],
        ["ledger", "prove", "4711"],
    ] {
        let error = operator.run(absent.iter().chain(&["--json"])).error(5);
        assert_eq!(error["hint"], Value::Null, "{error}");
    }
}

#[test]
fn a_cache_that_is_none_is_warned_of() {
    let scene = Scene::new();
    scene.operator.push(&scene.model("model"), "acme/tiny:1.0");
    fs::write(scene.at("file"), "x").unwrap();
    let (out, file) = (scene.at("out"), scene.at("file"));
    let pull = ["pull", "acme/tiny:1.0", out.to_str().unwrap(), "--cache"];
    let pulled = scene.operator.run(pull.iter().chain(&[file.to_str().unwrap()]));
    pulled.ok();
    let told = pulled.stderr();
    assert!(told.starts_with("warning: cannot keep chunks in "), "{told}");
}

#[test]
fn another_site_at_a_pinned_address_is_told_of_before_its_token_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::serve(&dir.path().join("one"));
    let operator = Person::operating(&site);
    let url = site.url.clone();
    site.stop();
    let address = url.strip_prefix("http://").unwrap();
    let _other = Site::serve_with(&dir.path().join("two"), &["--listen", address]);
    let error = operator.run(["list", "--json"]).error(4);
    assert!(hint(&error).contains("--trust"), "{error}");
}

#[test]
fn a_token_without_the_namespaces_key_publishes_nothing() {
    let scene = Scene::new();
    let token = scene
        .operator
        .make_token("ci", &["--scope", "read,publish", "--namespace", "acme"]);
    let stranger = Person::at(&scene.site, &token);
    let error = scene.refused(&stranger, &scene.model("model"), "acme/tiny", &[], 3);
    assert!(
        message(&error).contains("0 of the owner keys of `acme` would sign, 1 must"),
        "{error}"
    );
    // With the owner's key it does.
    let key = scene.operator.desk().join("waag/keys/default");
    stranger
        .try_push(
            &scene.model("model"),
            "acme/tiny",
            &["--key", key.to_str().unwrap()],
        )
        .json();
}

#[test]
fn a_key_without_the_token_publishes_nothing() {
    let scene = Scene::new();
    let key = scene.operator.desk().join("waag/keys/default");
    let key = ["--key", key.to_str().unwrap()];
    let model = scene.model("model");
    let reader = scene.operator.make_token("reader", &["--namespace", "acme"]);
    let reader = Person::at(&scene.site, &reader);
    let error = scene.refused(&reader, &model, "acme/tiny", &key, 3);
    assert!(
        message(&error).contains("may not publish in the namespace `acme`"),
        "{error}"
    );
    scene.operator.push(&model, "acme/tiny:1.0");
    fs::write(model.join("more"), "more").unwrap();
    scene.refused(&reader, &model, "acme/tiny:2.0", &key, 3);

    let nobody = Person::new();
    nobody.run(["login", &scene.site.url, "--anonymous"]).ok();
    let error = scene.refused(&nobody, &model, "acme/tiny:2.0", &key, 3);
    assert!(
        message(&error).contains("needs a token") && hint(&error).contains("waag login"),
        "{error}"
    );
    // A token that the site does not know is not kept.
    let answer = nobody.run_with(
        ["login", &scene.site.url, "--token-file", "-", "--json"],
        b"waag_wrong\n",
    );
    assert!(hint(&answer.error(3)).contains("waag login"));
    let who = nobody.run(["whoami", "--json"]).json();
    assert_eq!(who["token"], Value::Null);
}

#[test]
fn a_name_that_is_taken_stays_its_owners() {
    let scene = Scene::new();
    let second = Person::operating(&scene.site);
    let show = || scene.operator.run(["namespace", "show", "acme", "--json"]).json();
    let before = show();
    let error = second.run(["namespace", "create", "acme", "--json"]).error(1);
    assert!(message(&error).contains("acme"), "{error}");
    let reader = Person::at(
        &scene.site,
        &scene.operator.make_token("reader", &["--namespace", "acme"]),
    );
    reader.run(["namespace", "create", "other", "--json"]).error(3);
    assert_eq!(show(), before);
    scene
        .operator
        .run(["namespace", "show", "other", "--json"])
        .error(5);
}

#[test]
fn a_tag_moves_only_when_it_is_told_to() {
    let scene = Scene::new();
    let model = scene.model("model");
    let first = scene.operator.push(&model, "acme/tiny:1.0");
    scene.operator.push(&model, "acme/tiny");
    fs::write(model.join("more"), "more").unwrap();
    let error = scene.refused(&scene.operator, &model, "acme/tiny:1.0", &[], 1);
    assert!(
        message(&error).contains(first["digest"].as_str().unwrap()),
        "{error}"
    );
    assert!(hint(&error).contains("--move"), "{error}");
    let moved = scene.operator.push(&model, "acme/tiny");
    assert_ne!(moved["digest"], first["digest"]);
    let told = scene
        .operator
        .try_push(&model, "acme/tiny:1.0", &["--move"])
        .json();
    assert_eq!(told["digest"], moved["digest"]);
}

#[test]
fn a_label_that_denies_is_a_refusal_with_reasons() {
    let scene = Scene::new();
    let model = scene.model("model");
    // The site names no jurisdiction, so that it matches no country.
    let error = scene.refused(&scene.operator, &model, "acme/tiny", &["--residency", "DE"], 3);
    assert_eq!(error["code"], "refused");
    assert!(!error["details"].as_array().unwrap().is_empty(), "{error}");
    let error = scene.refused(
        &scene.operator,
        &model,
        "acme/tiny",
        &["--residency", "Germany"],
        2,
    );
    assert!(message(&error).contains("Germany"), "{error}");
    let error = scene.refused(&scene.operator, &model, "acme/tiny", &["--deny", "serve"], 2);
    assert!(message(&error).contains("--residency"), "{error}");

    let own = ["--residency", "*", "--allow", "hold"];
    scene.operator.try_push(&model, "acme/tiny", &own).json();
    let error = scene.operator.pull("acme/tiny", &scene.at("out")).error(3);
    assert!(!error["details"].as_array().unwrap().is_empty(), "{error}");
    assert!(!scene.at("out").exists());
}

#[test]
fn another_site_at_a_known_address_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::serve(&dir.path().join("one"));
    let operator = Person::operating(&site);
    let port = site.url.clone();
    site.stop();
    let address = port.strip_prefix("http://").unwrap();
    let other = Site::serve_with(&dir.path().join("two"), &["--listen", address]);
    assert_eq!(other.url, port);
    let token = other.admin_token();
    let login = [
        "login",
        &other.url,
        "--token-file",
        token.to_str().unwrap(),
        "--json",
    ];
    let error = operator.run(login).error(4);
    assert!(hint(&error).contains("--trust"), "{error}");
    let wrong = "a".repeat(32);
    operator
        .run(login.iter().chain(&["--trust", wrong.as_str()]))
        .error(4);
}

#[test]
fn a_key_is_never_overwritten_and_its_passphrase_is_needed() {
    let scene = Scene::new();
    let operator = &scene.operator;
    let error = operator
        .run(["key", "generate", "--no-passphrase", "--json"])
        .error(1);
    assert!(hint(&error).contains("--name"), "{error}");
    let error = operator
        .run(["key", "generate", "--name", "../x", "--no-passphrase", "--json"])
        .error(2);
    assert!(message(&error).contains("../x"), "{error}");
    let error = operator
        .run(["key", "generate", "--name", "locked", "--json"])
        .error(2);
    assert!(hint(&error).contains("--passphrase-file"), "{error}");
    operator
        .run_with(
            ["key", "generate", "--name", "locked", "--passphrase-file", "-"],
            b"open\n",
        )
        .ok();
    let create = ["namespace", "create", "vault", "--key", "locked", "--json"];
    let error = operator.run(create).error(1);
    assert!(hint(&error).contains("--passphrase-file"), "{error}");
    let with_file = || create.iter().chain(&["--passphrase-file", "-"]);
    operator.run_with(with_file(), b"wrong\n").error(1);
    operator.run_with(with_file(), b"open\n").json();
}
