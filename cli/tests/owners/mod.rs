//! What owners of a namespace decide: who they are, together or apart, and what is no longer to be used.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Person, Site};

mod drafts;

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

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn model(&self, content: &str) -> PathBuf {
        let path = self.dir.path().join(content);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("notes.txt"), content).unwrap();
        path
    }

    /// Somebody else with a key, who may publish in the namespace.
    fn colleague(&self) -> Person {
        let token = self
            .operator
            .make_token("colleague", &["--scope", "read,publish", "--namespace", "acme"]);
        Person::at(&self.site, &token)
    }
}

fn public_key(person: &Person) -> String {
    person.run(["key", "show", "-q"]).ok().trim().to_owned()
}

fn fingerprint(person: &Person) -> String {
    let shown = person.run(["key", "show", "--json"]).json();
    shown["fingerprint"].as_str().unwrap().to_owned()
}

fn key_file(person: &Person) -> String {
    person
        .desk()
        .join("waag/keys/default")
        .to_str()
        .unwrap()
        .to_owned()
}

fn owners(person: &Person) -> (usize, Value) {
    let shown = person.run(["namespace", "show", "acme", "--json"]).json();
    (
        shown["owners"].as_array().unwrap().len(),
        shown["threshold"].clone(),
    )
}

#[test]
fn owners_on_several_machines_sign_one_after_the_other() {
    let scene = Scene::new();
    let (ada, ben) = (&scene.operator, scene.colleague());
    ada.push(&scene.model("before"), "acme/tiny:1.0");
    let file = scene.path("rotation.json");
    let bens = public_key(&ben);
    let rotate = |more: &[&str]| {
        let words = [
            "namespace",
            "rotate",
            "acme",
            "--add-owner",
            &bens,
            "--threshold",
            "2",
            "--json",
        ];
        ada.run(words.iter().chain(more))
    };
    let error = rotate(&[]).error(3);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1 of 2 new owners signed, 2 must"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("--out"), "{error}");
    assert_eq!(owners(ada), (1, json!(1)));

    let begun = rotate(&["--out", &file]).json();
    assert_eq!(begun["complete"], false);
    let error = ada.run(["namespace", "submit", "acme", &file, "--json"]).error(3);
    assert!(error["message"].as_str().unwrap().contains("more signatures"));
    let signed = ben.run(["sign", &file, "--json"]).json();
    assert_eq!(signed["complete"], true);
    assert_eq!(signed["kind"], "rotation");
    assert_eq!(
        signed["says"],
        json!([
            format!("new owner {}", fingerprint(&ben)),
            "2 of 2 owners must sign, not 1 of 1"
        ])
    );
    ben.run(["namespace", "submit", "other", &file, "--json"])
        .error(2);
    let recorded = ben.run(["namespace", "submit", "acme", &file, "--json"]).json();
    assert!(recorded["entry"].is_u64());
    assert_eq!(owners(ada), (2, json!(2)));
    // What is recorded is not recorded again.
    ben.run(["sign", &file, "--submit", "--json"]).error(1);

    // From now on it takes both, and that is said before anything is sent.
    let received = scene.site.received_bytes();
    let error = ada.try_push(&scene.model("after"), "acme/tiny:2.0", &[]).error(3);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1 of the owner keys"), "{message}");
    assert!(message.contains("2 must"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("--out"), "{error}");
    assert_eq!(scene.site.received_bytes(), received);
    let both = ["--key", "default", "--key", &key_file(&ben)];
    ada.try_push(&scene.model("after"), "acme/tiny:2.0", &both).json();

    // What was released before is still proven.
    for tag in ["1.0", "2.0"] {
        let out = scene.dir.path().join(format!("out-{tag}"));
        ben.pull(&format!("acme/tiny:{tag}"), &out).json();
        ben.verify(&out).ok();
    }
}

#[test]
fn a_key_is_replaced_in_one_step_where_both_are_at_hand() {
    let scene = Scene::new();
    let ada = &scene.operator;
    ada.run(["key", "generate", "--name", "new", "--no-passphrase"])
        .ok();
    let old = fingerprint(ada);
    let recorded = ada
        .run([
            "namespace",
            "rotate",
            "acme",
            "--add",
            "new",
            "--remove",
            &old,
            "--sign-with",
            "default",
            "--sign-with",
            "new",
            "--json",
        ])
        .json();
    assert_eq!(recorded["kind"], "rotation");
    ada.try_push(&scene.model("first"), "acme/tiny", &[]).error(3);
    ada.try_push(&scene.model("first"), "acme/tiny", &["--key", "new"])
        .json();
    // The public half's file serves as well, and a key can be named by its path.
    let public = key_file(ada) + ".pub";
    ada.run([
        "namespace",
        "rotate",
        "acme",
        "--add",
        &public,
        "--sign-with",
        "new",
    ])
    .ok();
    assert_eq!(owners(ada), (2, json!(1)));
    ada.run([
        "namespace",
        "rotate",
        "acme",
        "--remove",
        &key_file(ada),
        "--sign-with",
        "new",
    ])
    .ok();
    assert_eq!(owners(ada), (1, json!(1)));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let scene = Scene::new();
    let own = fingerprint(&scene.operator);
    for (change, code) in [
        (&[][..], 2),
        (&["--threshold", "2"], 2),
        (&["--add", "default"], 2),
        (&["--remove", &own], 2),
        (&["--remove", "SHA256:unknown"], 2),
        (&["--add", "ssh-ed25519 nonsense"], 2),
        (&["--add", "nobody"], 5),
        (&["--recovery", "default"], 2),
        (&["--no-recovery"], 2),
    ] {
        let words = ["namespace", "rotate", "acme", "--json"];
        scene.operator.run(words.iter().chain(change)).error(code);
    }
    scene
        .operator
        .run(["namespace", "rotate", "other", "--threshold", "1", "--json"])
        .error(5);
    let file = scene.path("nonsense");
    fs::write(&file, "{}").unwrap();
    scene.operator.run(["sign", &file, "--json"]).error(4);
    let missing = scene.path("missing");
    scene.operator.run(["sign", &missing, "--json"]).error(5);
}

#[test]
fn a_withdrawn_release_is_not_pulled_unless_one_insists() {
    let scene = Scene::new();
    let operator = &scene.operator;
    let digest = operator.push(&scene.model("bad"), "acme/tiny:1.0")["digest"].clone();
    operator.push(&scene.model("good"), "acme/tiny:2.0");
    let out = scene.dir.path().join("out");
    operator.pull("acme/tiny:1.0", &out).json();

    let withdraw = |person: &Person, reference: &str, reason: &str| {
        person.run(["withdraw", reference, "--reason", reason, "--json"])
    };
    let reason = "trained on data without a licence";
    withdraw(operator, "acme/tiny:1.0", " ").error(2);
    withdraw(operator, "acme/tiny:3.0", reason).error(5);
    let colleague = scene.colleague();
    withdraw(&colleague, "acme/tiny:1.0", reason).error(3);
    let done = withdraw(operator, "acme/tiny:1.0", reason).json();
    assert_eq!((&done["digest"], &done["reason"]), (&digest, &json!(reason)));
    assert!(done["entry"].is_u64());
    // Once is enough, by whatever name.
    let again = withdraw(
        operator,
        &format!("acme/tiny@{}", digest.as_str().unwrap()),
        "other",
    )
    .json();
    assert_eq!(
        (&again["reason"], &again["entry"]),
        (&json!(reason), &Value::Null)
    );

    let fresh = scene.dir.path().join("fresh");
    for reference in [
        "acme/tiny:1.0",
        &format!("acme/tiny@{}", digest.as_str().unwrap()),
    ] {
        let error = colleague.pull(reference, &fresh).error(3);
        assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
    }
    assert!(!fresh.exists());
    colleague.pull("acme/tiny:2.0", &fresh).json();
    let shown = operator.run(["show", "acme/tiny", "--json"]).json();
    let releases = shown["releases"].as_array().unwrap();
    let withdrawn = releases.iter().find(|r| r["manifest"] == digest).unwrap();
    assert_eq!(withdrawn["withdrawn"], reason);

    // Whoever insists is told whenever it is verified.
    operator
        .run(["pull", "acme/tiny:1.0", out.to_str().unwrap(), "--withdrawn"])
        .ok();
    let verify = ["verify", out.to_str().unwrap(), "--withdrawn"];
    let verified = operator.run(verify);
    assert!(verified.ok().contains(reason));
    assert!(verified.stderr().contains("has withdrawn it"));
    let verified = operator.run(verify.iter().chain(&["--json"])).json();
    assert_eq!(verified["withdrawn"], reason);
    // A script is told by the exit code.
    let error = operator.verify(&out).error(3);
    assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
    assert_eq!(operator.run(["verify", out.to_str().unwrap(), "-q"]).code(), 3);
}

#[test]
fn what_is_known_of_withdrawals_may_be_too_old() {
    let scene = Scene::new();
    let operator = &scene.operator;
    operator.push(&scene.model("bad"), "acme/tiny:1.0");
    operator.push(&scene.model("good"), "acme/tiny:2.0");
    // With a withdrawal the site says anew what is withdrawn.
    operator
        .run(["withdraw", "acme/tiny:1.0", "--reason", "bad"])
        .ok();
    let out = scene.path("out");
    operator.run(["pull", "acme/tiny:2.0", &out]).ok();
    let verify = |days: &str| operator.run(["verify", &out, "--max-age", days, "--json"]);
    let verified = verify("1").json();
    let at = verified["fresh_as_of"].as_str().unwrap();
    assert!(operator.run(["verify", &out]).ok().contains(at));
    // Known to the second: sooner or later that second is over.
    let answers = std::iter::repeat_with(|| verify("0")).take(10_000);
    let stale = answers.into_iter().find(|answer| answer.code() != 0).unwrap();
    let error = stale.error(4);
    assert!(error["message"].as_str().unwrap().contains(at), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("waag pull"), "{error}");
}
