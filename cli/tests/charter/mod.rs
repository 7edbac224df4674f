//! A federation from its founding on: charters that people sign and sites adopt, namespaces that have owners, labels
//! after the fact and what follows from them, all of it with real processes.

mod labels;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Person, Site};

/// Two sites in two countries, each with its operator; both operators hold a root key.
struct Scene {
    stuttgart: Site,
    oslo: Site,
    ada: Person,
    ben: Person,
    dir: TempDir,
}

fn serve(dir: &Path, name: &str, jurisdiction: &str) -> Site {
    let data = dir.join(name);
    fs::create_dir_all(&data).unwrap();
    let config = format!("jurisdiction = \"{jurisdiction}\"\n[weigh]\non = false\n");
    fs::write(data.join("waag.toml"), config).unwrap();
    Site::serve(&data)
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stuttgart = serve(dir.path(), "stuttgart", "DE");
        let oslo = serve(dir.path(), "oslo", "NO");
        let (ada, ben) = (Person::operating(&stuttgart), Person::operating(&oslo));
        Self {
            stuttgart,
            oslo,
            ada,
            ben,
            dir,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a draft of version 1 that names both sites and asks for both root keys.
    fn draft(&self, name: &str) -> String {
        let file = self.path(name);
        let bens = public_key(&self.ben);
        let root = ["--root", "default", "--root", &bens, "--threshold", "2"];
        self.ada
            .run(
                ["charter", "init", &file, "--federation", "example"]
                    .iter()
                    .chain(&root),
            )
            .ok();
        for (site, name, owns) in [
            (&self.stuttgart, "stuttgart", "acme"),
            (&self.oslo, "oslo", "fjord/*,fjord-*"),
        ] {
            self.ada
                .run([
                    "charter", "add-site", &file, "--name", name, "--owns", owns, "--site", &site.url,
                ])
                .ok();
        }
        file
    }

    /// Signs with both root keys.
    fn sign(&self, file: &str) {
        let first = self.ada.run(["charter", "sign", file, "--json"]).json();
        assert_eq!(
            (&first["state"], &first["root"]["missing"]),
            (&"unsigned".into(), &1.into())
        );
        let both = self.ben.run(["charter", "sign", file, "--json"]).json();
        assert_eq!(
            (&both["state"], &both["root"]["missing"]),
            (&"complete".into(), &0.into())
        );
    }

    /// Founds the federation; both sites go by version 1.
    fn found(&self) -> String {
        let file = self.draft("charter-1.json");
        self.sign(&file);
        for person in [&self.ada, &self.ben] {
            person.run(["charter", "adopt", &file]).ok();
        }
        file
    }
}

fn public_key(person: &Person) -> String {
    person.run(["key", "show", "-q"]).ok().trim().to_owned()
}

fn show(person: &Person) -> Value {
    person.run(["charter", "show", "--json"]).json()
}

#[test]
fn a_federation_is_founded_and_its_sites_go_by_one_charter() {
    let scene = Scene::new();
    let (ada, ben) = (&scene.ada, &scene.ben);
    let alone = ada.run(["charter", "show"]).failed(5);
    assert!(alone.contains("federation of one"), "{alone}");

    let file = scene.draft("charter-1.json");
    let drafted = ada.run(["charter", "show", &file, "--json"]).json();
    assert_eq!(drafted["state"], "draft");
    let refused = ada.run(["charter", "adopt", &file]).failed(2);
    assert!(refused.contains("nobody has signed it"), "{refused}");

    ada.run(["charter", "sign", &file]).ok();
    let refused = ada.run(["charter", "adopt", &file]).failed(3);
    assert!(refused.contains("1 of the root keys"), "{refused}");
    let refused = ada
        .run([
            "charter",
            "add-site",
            &file,
            "--name",
            "third",
            "--site",
            &scene.oslo.url,
        ])
        .failed(2);
    assert!(refused.contains("is signed"), "{refused}");
    ben.run(["charter", "sign", &file]).ok();

    // Whoever is no operator of the site changes nothing there.
    let token = ada.make_token("reader", &["--scope", "read", "--namespace", "acme"]);
    let reader = Person::at(&scene.stuttgart, &token);
    reader.run(["charter", "adopt", &file]).failed(3);

    for person in [ada, ben] {
        let adopted = person.run(["charter", "adopt", &file, "--json"]).json();
        let shown = show(person);
        assert_eq!(shown["sha256"], adopted["sha256"]);
        assert_eq!(shown["version"], 1);
        assert_eq!(shown["entry"], adopted["entry"]);
        // Once more changes nothing.
        let again = person.run(["charter", "adopt", &file, "--json"]).json();
        assert_eq!(again, adopted);
        let entry = person
            .run(["ledger", "show", "--from", &adopted["entry"].to_string()])
            .ok();
        assert!(entry.contains("charter-adopted"), "{entry}");
    }

    // It is known after a restart as well.
    let data = scene.stuttgart.data.clone();
    let url = scene.stuttgart.url.strip_prefix("http://").unwrap().to_owned();
    let before = show(ada);
    scene.stuttgart.stop();
    let _again = Site::serve_with(&data, &["--listen", &url]);
    assert_eq!(show(ada), before);
}

#[test]
fn a_namespace_of_another_site_is_not_begun() {
    let scene = Scene::new();
    scene.found();
    for name in ["fjord", "fjord-climate"] {
        let refused = scene.ada.run(["namespace", "create", name]).failed(1);
        assert!(refused.contains("belongs to the site oslo"), "{refused}");
        scene.ben.create_namespace(name);
    }
    scene.ada.create_namespace("acme");
    // What the charter gives to nobody is free.
    scene.ada.create_namespace("fjordland");
}

#[test]
fn the_next_version_needs_the_root_keys_of_both() {
    let scene = Scene::new();
    let one = scene.found();
    let cleo = Person::new();
    cleo.run(["key", "generate", "--no-passphrase"]).ok();
    // Ada's key is lost: Ben's and Cleo's are the new root. Two of the old ones must sign all the same.
    let (two, bens, cleos) = (
        scene.path("charter-2.json"),
        public_key(&scene.ben),
        public_key(&cleo),
    );
    scene
        .ben
        .run([
            "charter", "init", &two, "--from", &one, "--root", &bens, "--root", &cleos,
        ])
        .ok();
    scene.ben.run(["charter", "sign", &two]).ok();
    cleo.run(["charter", "sign", &two]).ok();
    let shown = scene.ben.run(["charter", "show", &two, "--json"]).json();
    assert_eq!(shown["root"]["missing"], 0);
    assert_eq!(shown["previous_root"]["missing"], 1);
    let refused = scene.ben.run(["charter", "adopt", &two]).failed(3);
    assert!(refused.contains("the charter before it"), "{refused}");
    scene.ada.run(["charter", "sign", &two]).ok();
    scene.ben.run(["charter", "adopt", &two]).ok();
    assert_eq!(show(&scene.ben)["version"], 2);

    // A site that leaves is told by the charter that names it no longer; it goes by that, too.
    let three = scene.path("charter-3.json");
    scene.ben.run(["charter", "init", &three, "--from", &two]).ok();
    scene
        .ben
        .run(["charter", "remove-site", &three, "stuttgart"])
        .ok();
    scene.ben.run(["charter", "sign", &three]).ok();
    cleo.run(["charter", "sign", &three, "--previous", &two]).ok();
    // Who lags names every step.
    let refused = scene.ada.run(["charter", "adopt", &three]).failed(4);
    assert!(refused.contains("after version 1 comes 2"), "{refused}");
    scene.ada.run(["charter", "adopt", &two, &three]).ok();
    assert_eq!(show(&scene.ada)["version"], 3);
}

#[test]
fn two_charters_of_one_version_are_refused_and_kept() {
    let scene = Scene::new();
    scene.found();
    let file = scene.draft("other-1.json");
    let draft = fs::read_to_string(&file).unwrap();
    fs::write(&file, draft.replace("fjord-*", "fjell-*")).unwrap();
    scene.sign(&file);
    // This home has seen the first one.
    let refused = scene.ada.run(["charter", "adopt", &file]).failed(4);
    assert!(refused.contains("two charters of `example`"), "{refused}");
    // So has the site, whoever comes with it.
    let colleague = Person::at(&scene.stuttgart, &scene.stuttgart.admin_token());
    let refused = colleague.run(["charter", "adopt", &file]).failed(4);
    assert!(
        refused.contains("there are two charters of version 1"),
        "{refused}"
    );
    let kept = |dir: &Path| fs::read_dir(dir).unwrap().count();
    assert_eq!(kept(&scene.stuttgart.data.join("store/charter-evidence")), 1);
    assert_eq!(kept(&scene.ada.desk().join("waag/charters/example/evidence")), 1);
    assert_eq!(show(&scene.ada)["version"], 1);
}

#[test]
fn a_charter_that_means_another_site_is_refused() {
    let scene = Scene::new();
    let file = scene.draft("charter-1.json");
    let draft = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        draft.replace("\"jurisdiction\": \"DE\"", "\"jurisdiction\": \"AT\""),
    )
    .unwrap();
    scene.sign(&file);
    let refused = scene.ada.run(["charter", "adopt", &file]).failed(1);
    assert!(refused.contains("jurisdiction is AT, and it is DE"), "{refused}");
    scene.ben.run(["charter", "adopt", &file]).ok();
    let stranger = Site::serve(&scene.dir.path().join("stranger"));
    let refused = Person::operating(&stranger)
        .run(["charter", "adopt", &file])
        .failed(1);
    assert!(refused.contains("does not name this site"), "{refused}");
}

#[test]
fn without_a_network_a_site_is_added_by_what_it_prints_of_its_keys() {
    let scene = Scene::new();
    let keys = scene.ben.run(["charter", "show", "--keys", "--json"]).json();
    let said = |name: &str| keys[name].as_str().unwrap().to_owned();
    let file = scene.path("draft.json");
    scene
        .ada
        .run(["charter", "init", &file, "--federation", "example"])
        .ok();
    let words = [
        "charter",
        "add-site",
        &file,
        "--name",
        "oslo",
        "--url",
        &scene.oslo.url,
        "--jurisdiction",
        "NO",
        "--log-key",
        &said("log_key"),
        "--site-key",
        &said("site_key"),
        "--witness-key",
        &said("witness_key"),
    ];
    scene.ada.run(words).ok();
    scene.ada.run(["charter", "sign", &file]).ok();
    // Root keys are their holders': a site's operator adopts what they signed.
    scene.ben.run(["charter", "adopt", &file]).ok();
    assert_eq!(show(&scene.ben)["charter"]["sites"][0]["id"], keys["id"]);
}

#[test]
fn whoever_believes_a_charter_verifies_what_came_from_any_of_its_sites() {
    let scene = Scene::new();
    let file = scene.found();
    scene.ben.create_namespace("fjord");
    let model = scene.dir.path().join("model");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("notes.txt"), "text").unwrap();
    scene.ben.push(&model, "fjord/tiny:1.0");
    let reader = Person::new();
    let out = scene.dir.path().join("out");
    let words = [
        "pull",
        "fjord/tiny:1.0",
        out.to_str().unwrap(),
        "--site",
        &scene.oslo.url,
    ];
    let refused = reader.run(words).failed(2);
    assert!(refused.contains("no site is pinned"), "{refused}");
    reader.run(["charter", "adopt", &file, "--here"]).ok();
    reader.run(words).ok();
    reader.verify(&out).ok();
}
