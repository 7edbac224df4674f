//! Two sites of one charter, as real processes: one mirrors the other, and a consumer pulls from the mirror and proves
//! what came by the ledger of its home.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::world::{Person, Site, assert_same_files, files_below};

fn serve(dir: &Path, name: &str, jurisdiction: &str) -> Site {
    let data = dir.join(name);
    fs::create_dir_all(&data).unwrap();
    let config = format!("jurisdiction = \"{jurisdiction}\"\n[weigh]\non = false\n");
    fs::write(data.join("waag.toml"), config).unwrap();
    Site::serve(&data)
}

struct Scene {
    stuttgart: Site,
    bologna: Site,
    ada: Person,
    ben: Person,
    dir: TempDir,
}

impl Scene {
    /// Two sites that go by one charter; `acme` is at home in Stuttgart.
    fn new() -> Self {
        Self::with(None)
    }

    /// The same, perhaps with a third.
    fn with(third: Option<&Site>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stuttgart = serve(dir.path(), "stuttgart", "DE");
        let bologna = serve(dir.path(), "bologna", "IT");
        let (ada, ben) = (Person::operating(&stuttgart), Person::operating(&bologna));
        let file = dir.path().join("charter.json");
        let file = file.to_str().unwrap();
        ada.run([
            "charter",
            "init",
            file,
            "--federation",
            "example",
            "--root",
            "default",
            "--threshold",
            "1",
        ])
        .ok();
        let two = [
            (&stuttgart, "stuttgart", "acme,secret"),
            (&bologna, "bologna", "torre"),
        ];
        let third = third.map(|site| (site, "oslo", "fjord"));
        for (site, name, owns) in two.into_iter().chain(third) {
            ada.run([
                "charter", "add-site", file, "--name", name, "--owns", owns, "--site", &site.url,
            ])
            .ok();
        }
        ada.run(["charter", "sign", file]).ok();
        for person in [&ada, &ben] {
            person.run(["charter", "adopt", file]).ok();
        }
        ada.create_namespace("acme");
        let model = dir.path().join("model");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(model.join("notes.txt"), "weighed and found good".repeat(5000)).unwrap();
        Self {
            stuttgart,
            bologna,
            ada,
            ben,
            dir,
        }
    }

    fn push(&self, reference: &str, residency: &str) {
        let model = self.dir.path().join("model");
        let more = ["--residency", residency];
        self.ada.try_push(&model, reference, &more).ok();
    }
}

#[test]
fn a_release_is_mirrored_and_a_consumer_who_pulls_from_the_mirror_proves_it_by_its_homes_ledger() {
    let scene = Scene::new();
    let (ada, ben) = (&scene.ada, &scene.ben);
    scene.push("acme/tiny:1.0", "*");
    scene.push("acme/local:1.0", "DE");

    ben.run(["mirror", "add", "stuttgart", "acme/*"]).ok();
    ben.run(["mirror", "run"]).ok();
    let status = ben.run(["mirror", "status", "--json"]).json();
    let states: Vec<(&str, &str)> = status["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| {
            (
                view["artifact"].as_str().unwrap(),
                view["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(states, [("acme/tiny", "held"), ("acme/local", "refused")]);

    // Whoever follows a ledger has witnessed it.
    let shown = ada.run(["ledger", "show", "--json"]).json();
    let witness = &shown["witnessing"]["witnesses"][0];
    assert_eq!(
        (witness["name"].as_str(), witness["jurisdiction"].as_str()),
        (Some("bologna"), Some("IT"))
    );
    assert_eq!(witness["size"], shown["witnessing"]["published"]);
    ada.run(["ledger", "show"]).ok();

    // Somebody who has pinned both sites, and has nothing else of either.
    let consumer = Person::new();
    for site in [&scene.stuttgart, &scene.bologna] {
        consumer.run(["login", &site.url, "--anonymous"]).ok();
    }
    let out = scene.dir.path().join("out");
    let out_text = out.to_str().unwrap();
    consumer
        .run(["pull", "acme/tiny:1.0", out_text, "--site", &scene.bologna.url])
        .ok();
    assert_same_files(&scene.dir.path().join("model"), &out);
    let verified = consumer.run(["verify", out_text, "--json"]).json();
    let home = ada.run(["doctor", "--json"]);
    assert_eq!(home.code(), 0);
    let shown = consumer
        .run(["show", "acme/tiny", "--site", &scene.bologna.url, "--json"])
        .json();
    assert_eq!(verified["digest"], shown["releases"][0]["manifest"]);

    let holders = ben.run(["where", "acme/tiny", "--json"]).json();
    let states: Vec<&str> = holders["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["holds", "home"]);

    // Each proves to the other that it has it; then the mirror gives its copy up, and fetches it only when that is said.
    let drop = |copies: &str| {
        let words = [
            "mirror",
            "drop",
            "acme/tiny:1.0",
            "--copies",
            copies,
            "--yes",
            "--json",
        ];
        ben.run(words)
    };
    assert_eq!(
        ben.run(["mirror", "drop", "acme/tiny:1.0"]).code(),
        2,
        "nobody is asked"
    );
    let refused = drop("2");
    assert_eq!(refused.code(), 3);
    let dropped = drop("1").json();
    assert_eq!(dropped["manifest"], verified["digest"]);
    assert_eq!(dropped["others"].as_array().unwrap().len(), 1);
    ben.run(["mirror", "run"]).ok();
    let state = || {
        let status = ben.run(["mirror", "status", "--json"]).json();
        let releases = status["releases"].as_array().unwrap().clone();
        let tiny = releases.into_iter().find(|view| view["artifact"] == "acme/tiny");
        tiny.unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(), "dropped");
    let shown = ben.run(["where", "acme/tiny"]).ok();
    assert!(
        shown.contains("dropped by its operator; 1 other holds it"),
        "{shown}"
    );
    ben.run(["mirror", "add", "stuttgart", "acme/*"]).ok();
    ben.run(["mirror", "run"]).ok();
    assert_eq!(state(), "held");
    assert_eq!(drop("2").code(), 3);
    let holders = ben.run(["where", "acme/tiny", "--json"]).json();
    let home = holders["holders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|view| view["state"] == "home");
    assert!(home.unwrap()["checked"]["ok"].is_string(), "{holders}");

    ben.run(["where", "acme/tiny:9.9"]).failed(5);
    ben.run(["mirror", "remove", "stuttgart", "acme/*"]).ok();
    ben.run(["mirror", "remove", "stuttgart", "acme/*"]).failed(5);
    let home = ["mirror", "compare", "stuttgart", "bologna"];
    assert!(ada.run(home).failed(1).contains("not every release"));

    // What has to go goes.
    ada.run([
        "withdraw",
        "acme/tiny:1.0",
        "--reason",
        "it should not be",
        "--erase",
    ])
    .ok();
    ben.run(["mirror", "run", "stuttgart"]).ok();
    let gone = consumer.run(["pull", "acme/tiny:1.0", out_text, "--site", &scene.bologna.url]);
    assert_eq!(gone.code(), 5);
}

#[test]
fn a_consumer_who_demands_witnesses_gets_what_other_countries_have_cosigned_and_proves_it_offline() {
    let scene = Scene::new();
    scene.push("acme/tiny:1.0", "*");
    scene.ben.run(["mirror", "add", "stuttgart", "acme/*"]).ok();
    scene.ben.run(["mirror", "run"]).ok();
    let consumer = Person::new();
    let out = scene.dir.path().join("out");
    let out = out.to_str().unwrap();
    let charter = scene.dir.path().join("charter.json");
    for site in [&scene.stuttgart, &scene.bologna] {
        consumer.run(["login", &site.url, "--anonymous"]).ok();
    }

    // Without a charter nobody is a witness.
    let none = consumer.run(["pull", "acme/tiny:1.0", out, "--witnessed"]);
    assert_eq!(none.code(), 2, "{}", none.stderr());
    consumer
        .run(["charter", "adopt", "--here", charter.to_str().unwrap()])
        .ok();
    for site in [&scene.stuttgart, &scene.bologna] {
        let pulled = consumer.run([
            "pull",
            "acme/tiny:1.0",
            out,
            "--witnessed",
            "--json",
            "--site",
            &site.url,
        ]);
        let by = &pulled.json()["witnessed_by"][0];
        assert_eq!(
            (by["name"].as_str(), by["jurisdiction"].as_str()),
            (Some("bologna"), Some("IT"))
        );
        let shown = consumer.run(["verify", out, "--witnessed=1"]);
        assert!(shown.ok().contains("bologna (IT)"));
    }
    // A pull that asks for no witnesses leaves what they said when they were asked.
    consumer.run(["pull", "acme/tiny:1.0", out]).ok();
    consumer.run(["verify", out, "--witnessed"]).ok();
    let two = consumer.run(["verify", out, "--witnessed=2"]);
    assert_eq!(two.code(), 4, "{}", two.stderr());
    assert!(
        two.stderr().contains("asked for: 2; the charter has: 1"),
        "{}",
        two.stderr()
    );

    // Who changes what lies beside the files changes nothing of who has signed.
    let kept = Path::new(out).join(".waag/proof.json");
    let mut proof: serde_json::Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let note = proof["witnesses"][0]["note"].as_str().unwrap().to_owned();
    let mut lines: Vec<&str> = note.split('\n').collect();
    let other_root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    lines[2] = other_root;
    proof["witnesses"][0]["note"] = lines.join("\n").into();
    fs::write(&kept, serde_json::to_vec(&proof).unwrap()).unwrap();
    assert_eq!(consumer.run(["verify", out, "--witnessed"]).code(), 4);
    proof["witnesses"] = serde_json::json!([]);
    fs::write(&kept, serde_json::to_vec(&proof).unwrap()).unwrap();
    assert_eq!(consumer.run(["verify", out, "--witnessed"]).code(), 4);
    consumer.run(["verify", out]).ok();
}

#[test]
fn a_release_is_carried_to_a_site_that_nobody_reaches_and_pulled_from_there() {
    let scene = Scene::new();
    scene.push("acme/tiny:1.0", "*");
    scene.push("acme/local:1.0", "DE");
    let consumer = Person::new();
    consumer.run(["login", &scene.stuttgart.url, "--anonymous"]).ok();
    let Scene {
        stuttgart,
        bologna,
        ada,
        ben,
        dir,
    } = scene;
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (home, there) = (path("stuttgart"), path("bologna"));
    let (full, bent) = (path("full.waag"), path("bent.waag"));
    let to_bologna = |reference: &str, out: &str| {
        ada.run([
            "bundle", "export", reference, "--for", "bologna", "--data", &home, "--out", out, "--json",
        ])
    };
    // A site that runs is not written beside itself.
    assert_eq!(to_bologna("--all", &full).code(), 1);
    stuttgart.stop();
    bologna.stop();
    let written = to_bologna("--all", &full).json();
    assert_eq!(written["releases"].as_array().unwrap().len(), 1);
    assert_eq!(written["left_out"].as_array().unwrap().len(), 1);
    assert_eq!(to_bologna("acme/local:1.0", &bent).code(), 3);

    let take = |file: &str| ben.run(["bundle", "import", file, "--data", &there, "--json"]);
    let mut bytes = fs::read(&full).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bent, &bytes).unwrap();
    assert_eq!(take(&bent).code(), 4);
    assert_eq!(take(&full).json()["fetched"], 1);
    assert_eq!(take(&full).json()["nothing_new"], true);

    let bologna = Site::serve(Path::new(&there));
    consumer.run(["login", &bologna.url, "--anonymous"]).ok();
    let out = dir.path().join("out");
    let out_text = out.to_str().unwrap();
    consumer
        .run(["pull", "acme/tiny:1.0", out_text, "--site", &bologna.url])
        .ok();
    assert_same_files(&dir.path().join("model"), &out);
    consumer.run(["verify", out_text]).ok();
}

#[test]
fn a_private_namespace_is_shared_with_one_site_and_a_third_one_learns_nothing_of_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let oslo = serve(elsewhere.path(), "oslo", "NO");
    let scene = Scene::with(Some(&oslo));
    let (ada, ben, olav) = (&scene.ada, &scene.ben, Person::operating(&oslo));
    let file = scene.dir.path().join("charter.json");
    olav.run(["charter", "adopt", file.to_str().unwrap()]).ok();
    ada.run(["namespace", "create", "secret", "--private"]).ok();
    scene.push("secret/tumour:1.0", "*");
    for person in [ben, &olav] {
        person.run(["mirror", "add", "stuttgart", "secret/*"]).ok();
        person.run(["mirror", "run"]).ok();
        assert_eq!(
            person.run(["mirror", "status", "--json"]).code(),
            1,
            "nothing matches"
        );
    }

    // Public namespaces and strangers to the charter are not shared with.
    assert_eq!(ada.run(["namespace", "share", "acme", "bologna"]).code(), 1);
    assert_eq!(ada.run(["namespace", "share", "secret", "milano"]).code(), 5);
    ada.run(["namespace", "share", "secret", "bologna"]).ok();
    assert_eq!(ada.run(["namespace", "share", "secret", "bologna"]).code(), 2);
    let shown = ada.run(["namespace", "show", "secret", "--json"]).json();
    assert_eq!(shown["sites"].as_array().unwrap().len(), 1);
    for person in [ben, &olav] {
        person.run(["mirror", "run"]).ok();
    }
    let states = |person: &Person| -> Vec<String> {
        let status = person.run(["mirror", "status", "--json"]).json();
        let releases = status["releases"].as_array().unwrap().iter();
        releases
            .map(|view| view["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(ben), ["held"]);
    let status = olav.run(["mirror", "status", "--json"]);
    assert_eq!(status.code(), 1);
    assert!(!status.stdout().contains("tumour"), "{}", status.stdout());

    // A reader at the mirror with a token for it gets it and proves it by its home's ledger; one without does not.
    let token = ben.make_token("reader", &["--scope", "read", "--namespace", "secret"]);
    let (reader, stranger) = (Person::at(&scene.bologna, &token), Person::new());
    reader.run(["login", &scene.stuttgart.url, "--anonymous"]).ok();
    stranger.run(["login", &scene.bologna.url, "--anonymous"]).ok();
    let out = scene.dir.path().join("out");
    let pull = |person: &Person| {
        let words = [
            "pull",
            "secret/tumour:1.0",
            out.to_str().unwrap(),
            "--site",
            &scene.bologna.url,
        ];
        person.run(words)
    };
    assert_eq!(pull(&stranger).code(), 5);
    pull(&reader).ok();
    assert_same_files(&scene.dir.path().join("model"), &out);
    reader.verify(&out).ok();
    ada.run(["mirror", "run", "bologna"]).ok();
    let holders = ada.run(["where", "secret/tumour", "--json"]).json();
    let mut held: Vec<&str> = holders["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["state"].as_str().unwrap())
        .collect();
    held.sort_unstable();
    assert_eq!(held, ["holds", "home"]);

    // It ends: the copy goes, and home reads that it went.
    ada.run(["namespace", "share", "secret", "bologna", "--stop"])
        .ok();
    ben.run(["mirror", "run"]).ok();
    assert_eq!(states(ben), ["erased"]);
    fs::remove_dir_all(&out).unwrap();
    assert_eq!(pull(&reader).code(), 5);
    ada.run(["mirror", "run", "bologna"]).ok();
    assert!(ada.run(["where", "secret/tumour"]).ok().contains("not shared"));
    // What is on the third site's disk. A site that runs replaces files while they are read.
    oslo.stop();
    let store = elsewhere.path().join("oslo").join("store");
    for path in files_below(&store) {
        let bytes = fs::read(store.join(&path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        // Its own rule is the word of its operator.
        let own_rule = path.to_string_lossy().contains("mirror");
        assert!(
            !text.contains("tumour") && (own_rule || !text.contains("secret/")),
            "{path:?}"
        );
    }
}
