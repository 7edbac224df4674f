//! Two owners on two machines, neither of which ever sees the other's key.

use std::fs;

use serde_json::{Value, json};

use super::{Scene, fingerprint, public_key};
use crate::world::{Person, assert_same_files};

/// A namespace that two of three owners sign for. Ben and Cyd have tokens of their own.
struct Owners {
    scene: Scene,
    ben: Person,
    cyd: Person,
}

impl Owners {
    fn new(more: &[&str]) -> Self {
        let scene = Scene::new();
        let (ben, cyd) = (scene.colleague(), scene.colleague());
        let file = scene.path("owners.json");
        let (bens, cyds) = (public_key(&ben), public_key(&cyd));
        let words = [
            "namespace",
            "rotate",
            "acme",
            "--add-owner",
            &bens,
            "--add-owner",
            &cyds,
        ];
        let words = words.into_iter().chain(["--threshold", "2", "--out", &file]);
        scene.operator.run(words.chain(more.iter().copied())).ok();
        ben.run(["sign", &file, "--submit"]).ok();
        Self { scene, ben, cyd }
    }

    fn ada(&self) -> &Person {
        &self.scene.operator
    }

    /// Ada runs a command that leaves its draft in this file.
    fn draft(&self, words: &[&str], file: &str) -> Value {
        let more = ["--out", file, "--json"];
        self.ada().run(words.iter().chain(&more)).json()
    }

    fn release(&self, tag: &str) -> String {
        let file = self.scene.path("first.json");
        let model = self.scene.model(tag);
        let target = format!("acme/tiny:{tag}");
        self.draft(&["push", model.to_str().unwrap(), &target], &file);
        self.ben.run(["sign", &file]).ok();
        self.ada().run(["sign", &file, "--submit"]).ok();
        target
    }
}

/// Nobody answers there: signing asks nobody.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn a_push_that_two_of_three_owners_sign_is_pulled_and_proven() {
    let world = Owners::new(&[]);
    let (ada, ben) = (world.ada(), &world.ben);
    let model = world.scene.model("weights");
    let file = world.scene.path("push.json");
    let push = [
        "push",
        model.to_str().unwrap(),
        "acme/tiny:1.0",
        "--residency",
        "EU,*",
    ];
    let begun = world.draft(&push, &file);
    assert_eq!(
        (&begun["kind"], &begun["complete"]),
        (&json!("release"), &json!(false))
    );
    assert_eq!(begun["files"][0]["path"], "notes.txt");
    assert_eq!(begun["files"][0]["bytes"], 7);
    let says: Vec<&str> = begun["says"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap())
        .collect();
    let digest = begun["subject"]
        .as_str()
        .unwrap()
        .strip_prefix("acme/tiny@")
        .unwrap();
    assert_eq!(
        says,
        [
            format!("releases the model {digest}"),
            "1 file, 7 bytes".to_owned(),
            "label: allow hold, serve, evaluate at EU, *".to_owned(),
            format!("tag `1.0`: from nothing to {digest}"),
        ]
    );
    // Nothing is there yet, and one owner cannot change that, however often.
    assert!(ada.list().is_empty());
    let error = ada.run(["sign", &file, "--submit", "--json"]).error(3);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1 of 3 owners signed, 2 must"), "{message}");

    // The content is at the site: Ben needs the file alone, and no network.
    let received = world.scene.site.received_bytes();
    let signed = ben.run(["sign", &file, "--site", NOWHERE, "--json"]).json();
    assert_eq!(signed["parts"][0]["complete"], true);
    assert_eq!(signed["says"], begun["says"]);
    ben.run(["sign", &file, "--submit", "--json"]).error(3);
    ada.run(["sign", &file, "--site", NOWHERE]).ok();
    // Three statements: Ben has the last word, and has it recorded with his own token.
    let recorded = ben.run(["sign", &file, "--submit", "--json"]).json();
    assert_eq!(recorded["kind"], "release");
    assert_eq!(world.scene.site.received_bytes(), received);
    // If that answer had been lost, the same again finds it.
    assert_eq!(ada.run(["sign", &file, "--submit", "--json"]).json(), recorded);

    let reader = Person::new();
    reader.run(["login", &world.scene.site.url, "--anonymous"]).ok();
    let out = world.scene.dir.path().join("out");
    reader.pull("acme/tiny:1.0", &out).json();
    assert_same_files(&model, &out);
    let verified = reader.verify(&out).json();
    let mut expected = [fingerprint(ada), fingerprint(ben)];
    expected.sort();
    let mut signers: Vec<String> = serde_json::from_value(verified["signed_by"].clone()).unwrap();
    signers.sort();
    assert_eq!(signers, expected);
}

#[test]
fn a_tag_and_a_withdrawal_wait_for_a_second_owner() {
    let world = Owners::new(&[]);
    let target = world.release("1.0");
    let file = world.scene.path("draft.json");
    for words in [
        &["tag", &target, "stable"][..],
        &["withdraw", &target, "--reason", "no licence"],
    ] {
        let alone = world.ada().run(words.iter().chain(&["--json"])).error(3);
        assert!(alone["hint"].as_str().unwrap().contains("--out"), "{alone}");
        let begun = world.draft(words, &file);
        assert_eq!(begun["kind"], words[0].replace("withdraw", "withdrawal"));
        world.cyd.run(["sign", &file, "--site", NOWHERE]).ok();
        // Any of them has it recorded.
        world.ben.run(["sign", &file, "--submit"]).ok();
        // There is nothing left to sign.
        let more = ["--out", &file, "--json"];
        world.ada().run(words.iter().chain(&more)).error(1);
    }
    let shown = world.ada().run(["show", "acme/tiny", "--json"]).json();
    assert_eq!(shown["tags"].as_array().unwrap().len(), 2);
    assert_eq!(shown["releases"][0]["withdrawn"], "no licence");
}

#[test]
fn what_others_have_recorded_since_makes_a_draft_stale() {
    let world = Owners::new(&[]);
    let target = world.release("1.0");
    let (first, second) = (world.scene.path("first"), world.scene.path("second"));
    world.draft(&["tag", &target, "one"], &first);
    world.draft(&["tag", &target, "two"], &second);
    world.ben.run(["sign", &second]).ok();
    world.ben.run(["sign", &first, "--submit"]).ok();
    let error = world.ada().run(["sign", &second, "--submit", "--json"]).error(1);
    assert!(error["message"].as_str().unwrap().contains("any more"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("anew"), "{error}");
}

#[test]
fn a_draft_is_refused_if_it_was_changed_or_is_not_for_this_key() {
    let world = Owners::new(&[]);
    let file = world.scene.path("push.json");
    let model = world.scene.model("weights");
    world.draft(&["push", model.to_str().unwrap(), "acme/tiny"], &file);
    let bytes = fs::read(&file).unwrap();

    // Somebody with a key and a namespace of their own.
    let token = world
        .ada()
        .make_token("dan", &["--scope", "read,publish", "--namespace", "other"]);
    let dan = Person::at(&world.scene.site, &token);
    let error = dan.run(["sign", &file, "--json"]).error(3);
    assert!(
        error["message"].as_str().unwrap().contains("0 of the owner keys"),
        "{error}"
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
    // Somebody who does not know the site has nothing to prove it by.
    let eve = Person::new();
    eve.run(["key", "generate", "--no-passphrase"]).ok();
    eve.run(["sign", &file, "--json"]).error(5);

    let json: Value = serde_json::from_slice(&bytes).unwrap();
    for part in [
        "/envelopes/0",
        "/unsigned/0",
        "/upload/manifest",
        "/proof/entries/0/opening",
    ] {
        let mut changed = json.clone();
        let text = changed.pointer(part).unwrap().as_str().unwrap();
        let middle = text.len() / 2;
        let other = if text.as_bytes()[middle] == b'A' { "B" } else { "A" };
        let text = format!("{}{other}{}", &text[..middle], &text[middle + 1..]);
        *changed.pointer_mut(part).unwrap() = json!(text);
        fs::write(&file, changed.to_string()).unwrap();
        let error = world.ben.run(["sign", &file, "--json"]).error(4);
        assert_eq!(error["code"], "verification", "{part}: {error}");
    }
    // As it was, it is good.
    fs::write(&file, &bytes).unwrap();
    world.ben.run(["sign", &file]).ok();
}

#[test]
fn recovery_keys_bring_back_a_namespace_whose_owners_are_lost() {
    let safe = Person::new();
    safe.run(["key", "generate", "--no-passphrase"]).ok();
    let recovery = public_key(&safe);
    let world = Owners::new(&["--recovery", &recovery]);
    let shown = world.ada().run(["namespace", "show", "acme", "--json"]).json();
    assert_eq!(shown["recovery"].as_array().unwrap().len(), 1);
    assert!(
        world
            .ada()
            .run(["namespace", "show", "acme"])
            .ok()
            .contains(&fingerprint(&safe))
    );

    // All three owners have lost their keys. Fay takes over, with a key of her own.
    let fay = world.scene.colleague();
    let file = world.scene.path("recovery.json");
    let (own, gone) = (
        public_key(&fay),
        [world.ada(), &world.ben, &world.cyd].map(fingerprint),
    );
    let mut words = vec![
        "namespace",
        "rotate",
        "acme",
        "--add-owner",
        &own,
        "--threshold",
        "1",
    ];
    for lost in &gone {
        words.extend(["--remove-owner", lost]);
    }
    fay.run(words.iter().chain(&["--json"])).error(3);
    fay.run(words.iter().chain(&["--out", &file])).ok();
    safe.run(["login", &world.scene.site.url, "--anonymous"]).ok();
    let signed = safe.run(["sign", &file, "--site", NOWHERE, "--json"]).json();
    assert_eq!(signed["complete"], true);
    assert_eq!(signed["parts"][0]["quorums"][0]["of"], "recovery keys");
    fay.run(["sign", &file, "--submit"]).ok();
    fay.push(&world.scene.model("after"), "acme/tiny");
    world
        .ada()
        .try_push(&world.scene.model("late"), "acme/tiny", &[])
        .error(3);

    fay.run(["namespace", "rotate", "acme", "--no-recovery"]).ok();
    let shown = fay.run(["namespace", "show", "acme", "--json"]).json();
    assert_eq!(shown["recovery"], json!([]));
}
