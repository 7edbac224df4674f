//! Three sites in three network namespaces, as real processes that speak TLS over links that are slow and lossy: one is cut
//! off and comes back, one is killed while it mirrors and starts again. In the end all know the same, and whatever any of
//! them holds is what was signed.
//!
//! Skipped, with a line that says why, where no namespaces can be made or there is no `openssl`.

mod net;
mod relay;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use waag_registry::fsck::{Mode, fsck};
use waag_registry::store::FsStore;

use self::net::{Net, say};
use crate::world::{Answer, Person, Site, assert_same_files, files_below};

/// Name, country, namespace.
const SITES: [(&str, &str, &str); 3] = [
    ("stuttgart", "DE", "acme"),
    ("bologna", "IT", "torre"),
    ("oslo", "NO", "fjord"),
];
const STUTTGART: usize = 0;
const BOLOGNA: usize = 1;
const OSLO: usize = 2;
/// Files of the release during whose mirroring the mirror is killed; each is one request.
const LARGE: usize = 40;
/// Looks after which all must know the same: news of news takes some.
const ROUNDS: usize = 12;

/// Makes a certificate for all addresses, which is its own authority, where `openssl` is installed.
fn certify(dir: &Path, net: &Net) -> Result<(), String> {
    let names: Vec<String> = (0..SITES.len())
        .map(|place| format!("IP:{}", net.address(place)))
        .collect();
    let said = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "30", "-subj", "/CN=waag test"])
        .args(["-addext", &format!("subjectAltName={}", names.join(","))])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "authorities.pem"])
        .current_dir(dir)
        .output()
        .map_err(|error| format!("openssl: {error}"))?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

struct Scene {
    // Sites end before the network in which they are.
    sites: Vec<Option<Site>>,
    operators: Vec<Person>,
    net: Net,
    dir: TempDir,
}

impl Scene {
    fn new() -> Result<Self, String> {
        let net = Net::new(&SITES.map(|(name, ..)| name))?;
        let dir = tempfile::tempdir().unwrap();
        certify(dir.path(), &net)?;
        let mut scene = Self {
            sites: (0..SITES.len()).map(|_| None).collect(),
            operators: Vec::new(),
            net,
            dir,
        };
        for place in 0..SITES.len() {
            // So slow that a mirror of what is large takes as long as it is waited for.
            scene.configure(place, (place == BOLOGNA).then_some(50_000));
            scene.start(place);
            scene.operators.push(scene.operator(place));
        }
        scene.found();
        Ok(scene)
    }

    fn data(&self, place: usize) -> PathBuf {
        self.dir.path().join(SITES[place].0)
    }

    fn configure(&self, place: usize, bytes_per_second: Option<u64>) {
        let (_, country, _) = SITES[place];
        let mut text = format!(
            "jurisdiction = \"{country}\"\n[weigh]\non = false\n\
             [tls]\ncertificate = \"../authorities.pem\"\nkey = \"../key.pem\"\n"
        );
        for (other, ..) in SITES.iter().filter(|(name, ..)| *name != SITES[place].0) {
            text += &format!("[[mirror]]\nsite = \"{other}\"\n");
            if let Some(rate) = bytes_per_second {
                text += &format!("bytes_per_second = {rate}\n");
            }
        }
        fs::create_dir_all(self.data(place)).unwrap();
        fs::write(self.data(place).join("waag.toml"), text).unwrap();
    }

    fn start(&mut self, place: usize) {
        let (data, listen) = (self.data(place), self.net.listen(place));
        let serve = || Site::serve_with(&data, &["--listen", &listen]);
        self.sites[place] = Some(self.net.at(place, serve));
    }

    fn site(&self, place: usize) -> &Site {
        self.sites[place].as_ref().unwrap()
    }

    /// Somebody who believes the test's certificate and has logged in with a token.
    fn person(&self, place: usize, token: &Path) -> Person {
        let person = Person::new();
        let authorities = "authorities.pem";
        fs::copy(self.dir.path().join(authorities), person.desk().join(authorities)).unwrap();
        let (url, trust) = (self.net.url(place), &self.site(place).fingerprint);
        let token = token.to_str().unwrap();
        let login = ["login", &url, "--trust", trust, "--token-file", token];
        self.net.at(place, || person.run(login).ok());
        person
    }

    fn operator(&self, place: usize) -> Person {
        let person = self.person(place, &self.site(place).admin_token());
        person.run(["key", "generate", "--no-passphrase"]).ok();
        person
    }

    /// Somebody of a site's country, who goes by the charter.
    fn reader(&self, place: usize) -> Person {
        let operator = &self.operators[place];
        let more = [
            "--namespace",
            "acme,torre,fjord",
            "--jurisdiction",
            SITES[place].1,
        ];
        let token = self.net.at(place, || operator.make_token("reader", &more));
        let reader = self.person(place, &token);
        let charter = self.dir.path().join("charter.json");
        let adopt = ["charter", "adopt", charter.to_str().unwrap(), "--here"];
        reader.run(adopt).ok();
        reader
    }

    /// Runs a command of a site's operator, at the site.
    fn run(&self, place: usize, arguments: &[&str]) -> Answer {
        self.net.at(place, || self.operators[place].run(arguments))
    }

    /// All sites adopt one charter, and begin their namespaces.
    fn found(&self) {
        let file = self.dir.path().join("charter.json");
        let file = file.to_str().unwrap();
        let init = [
            "charter",
            "init",
            file,
            "--federation",
            "example",
            "--root",
            "default",
        ];
        self.run(STUTTGART, &[&init[..], &["--threshold", "1"]].concat())
            .ok();
        for (place, (name, _, owns)) in SITES.iter().enumerate() {
            let (url, trust) = (self.net.url(place), self.site(place).fingerprint.as_str());
            let add = ["charter", "add-site", file, "--name", name, "--owns", owns];
            let site = ["--site", &url, "--trust", trust];
            self.run(STUTTGART, &[&add[..], &site].concat()).ok();
        }
        self.run(STUTTGART, &["charter", "sign", file]).ok();
        for (place, (_, _, namespace)) in SITES.iter().enumerate() {
            self.run(place, &["charter", "adopt", file]).ok();
            self.run(place, &["namespace", "create", namespace]).ok();
        }
    }

    /// Publishes so many files, which are nobody else's.
    fn push(&self, place: usize, reference: &str, residency: &str, files: usize) {
        let model = self.model(reference);
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        for number in 0..files {
            let bytes = noise(&format!("{reference} {number}"), 32 << 10);
            fs::write(model.join(format!("{number}.bin")), bytes).unwrap();
        }
        let model = model.to_str().unwrap();
        self.run(place, &["push", model, reference, "--residency", residency])
            .ok();
    }

    /// Where the files of a release came from.
    fn model(&self, reference: &str) -> PathBuf {
        self.dir.path().join(reference.replace(['/', ':'], "-"))
    }

    /// Does this for all places side by side.
    fn everywhere<T: Send>(&self, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..SITES.len())
                .map(|place| scope.spawn(move || work(place)))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    }

    /// Lets everybody look until nobody finds anything new.
    fn settle(&self) {
        let look = |place: usize| {
            let ran = self.run(place, &["mirror", "run", "--json"]).json();
            let news = ["entries", "fetched", "refused", "erased", "failed"];
            let nothing = Value::Array(Vec::new());
            (news.iter().all(|what| ran[what] == 0) && ran["troubles"] == nothing)
                .then_some(())
                .ok_or(ran)
        };
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            last = self.everywhere(look);
            if last.iter().all(Result::is_ok) {
                return;
            }
        }
        panic!("after {ROUNDS} rounds there are still news: {last:?}");
    }

    /// Which releases a site holds, has erased or refused, as anybody at a place is told: artifact, release, holder, state.
    fn custody(&self, place: usize, artifacts: &[&str]) -> BTreeSet<[String; 4]> {
        let mut all = BTreeSet::new();
        for artifact in artifacts {
            let said = self.run(place, &["where", artifact, "--json"]).json();
            for view in said["holders"].as_array().unwrap() {
                let text = |what: &str| view[what].as_str().unwrap().to_owned();
                all.insert([
                    (*artifact).to_owned(),
                    text("manifest"),
                    text("site"),
                    text("state"),
                ]);
            }
        }
        all
    }

    /// The states of the releases that a site mirrors.
    fn states(&self, place: usize) -> BTreeMap<(String, String), String> {
        let said = self.run(place, &["mirror", "status", "--json"]).json();
        let text = |view: &Value, what: &str| view[what].as_str().unwrap().to_owned();
        let views = said["releases"].as_array().unwrap().iter();
        views
            .map(|view| {
                (
                    (text(view, "artifact"), text(view, "manifest")),
                    text(view, "state"),
                )
            })
            .collect()
    }

    /// The same of one artifact's releases, sorted.
    fn states_of(&self, place: usize, artifact: &str) -> Vec<String> {
        let states = self.states(place).into_iter();
        let own = states.filter(|((name, _), _)| name == artifact);
        let mut states: Vec<String> = own.map(|(_, state)| state).collect();
        states.sort();
        states
    }

    /// Each site's ledger as the others know it: how many entries.
    fn ledgers(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut known: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for place in 0..SITES.len() {
            let said = self.run(place, &["mirror", "status", "--json"]).json();
            for peer in said["peers"].as_array().unwrap() {
                assert_eq!(peer["stopped"], Value::Null, "{peer}");
                let name = peer["name"].as_str().unwrap().to_owned();
                known
                    .entry(name)
                    .or_default()
                    .insert(peer["entries"].as_u64().unwrap());
            }
        }
        known
    }

    /// Chunks in a site's store, whoever needs them.
    fn chunks(&self, place: usize) -> usize {
        let chunks = self.data(place).join("store/chunks");
        if chunks.exists() {
            files_below(&chunks).len()
        } else {
            0
        }
    }

    /// Somebody at a place pulls what its site has of it, and proves it.
    fn pull_and_verify(&self, place: usize, reader: &Person, reference: &str) {
        let out = self
            .dir
            .path()
            .join(format!("out-{place}-{}", reference.replace(['/', ':'], "-")));
        self.net.at(place, || {
            reader.pull(reference, &out).ok();
            reader.verify(&out).ok();
        });
        assert_same_files(&self.model(reference), &out);
    }
}

/// Bytes that compress and repeat nowhere.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let blocks = (0..length.div_ceil(32))
        .map(|n| *waag_schema::Sha256::of(format!("{seed}/{n}").as_bytes()).as_bytes());
    blocks.flatten().take(length).collect()
}

const ARTIFACTS: [&str; 5] = [
    "acme/open",
    "acme/local",
    "acme/large",
    "torre/union",
    "fjord/open",
];

#[test]
fn three_sites_on_a_bad_network_agree_whoever_was_cut_off_or_killed() {
    let mut scene = match Scene::new() {
        Ok(scene) => scene,
        Err(why) => return say(&format!("SKIPPED, {why}")),
    };
    scene.push(STUTTGART, "acme/open:1", "*", 2);
    scene.push(STUTTGART, "acme/local:1", "DE", 1);
    scene.push(BOLOGNA, "torre/union:1", "EU", 1);
    scene.push(OSLO, "fjord/open:1", "*", 1);
    scene.settle();
    let states = scene.everywhere(|place| scene.states(place).into_values().collect::<Vec<_>>());
    assert_eq!(states[STUTTGART], ["held", "held"]);
    assert_eq!(states[BOLOGNA], ["refused", "held", "held"]);
    assert_eq!(states[OSLO], ["refused", "held", "refused"]);

    // One is cut off. The others go on; it goes on, too.
    scene.net.cut(OSLO);
    scene.push(STUTTGART, "acme/open:2", "*", 1);
    let why = ["--erase", "--reason", "it should not be"];
    scene
        .run(STUTTGART, &[&["withdraw", "acme/open:1"], &why[..]].concat())
        .ok();
    scene.push(OSLO, "fjord/open:2", "*", 1);
    scene.run(BOLOGNA, &["mirror", "run", "stuttgart"]).ok();
    assert_eq!(scene.states_of(BOLOGNA, "acme/open"), ["erased", "held"]);
    assert_eq!(scene.states_of(OSLO, "acme/open"), ["held"]);

    // One is killed while it mirrors.
    let before = scene.chunks(BOLOGNA);
    scene.push(STUTTGART, "acme/large:1", "EU", LARGE);
    while scene.chunks(BOLOGNA) <= before + 1 {
        // Time passes by work, not by sleeping.
        scene.run(BOLOGNA, &["mirror", "status", "--json"]).ok();
    }
    scene.sites[BOLOGNA].take().unwrap().kill();
    let come = scene.chunks(BOLOGNA) - before;
    assert!(come < LARGE, "all {come} chunks had come before it was killed");
    scene.configure(BOLOGNA, None);
    scene.start(BOLOGNA);

    // The other comes back. All know the same in the end.
    scene.net.join(OSLO);
    scene.settle();
    for (name, sizes) in scene.ledgers() {
        assert_eq!(sizes.len(), 1, "{name} is known with {sizes:?} entries");
    }
    let custody = scene.everywhere(|place| scene.custody(place, &ARTIFACTS));
    assert!(
        custody.iter().all(|told| *told == custody[STUTTGART]),
        "{custody:?}"
    );
    assert_eq!(scene.states_of(OSLO, "acme/open"), ["erased", "held"]);
    assert_eq!(scene.states_of(BOLOGNA, "acme/large"), ["held"]);
    assert_eq!(scene.states_of(OSLO, "acme/large"), ["refused"]);
    assert_eq!(scene.states_of(BOLOGNA, "fjord/open"), ["held", "held"]);

    // Whatever any of them holds is what was signed, by its home's ledger.
    let held: [&[&str]; 3] = [
        &[
            "acme/open:2",
            "acme/local:1",
            "acme/large:1",
            "torre/union:1",
            "fjord/open:1",
            "fjord/open:2",
        ],
        &[
            "acme/open:2",
            "acme/large:1",
            "torre/union:1",
            "fjord/open:1",
            "fjord/open:2",
        ],
        &["acme/open:2", "fjord/open:1", "fjord/open:2"],
    ];
    scene.everywhere(|place| {
        let reader = scene.reader(place);
        for reference in held[place] {
            scene.pull_and_verify(place, &reader, reference);
        }
    });
    for place in 0..SITES.len() {
        scene.sites[place].take().unwrap().stop();
        let data = scene.data(place);
        let store = std::sync::Arc::new(FsStore::open(&data.join("store")).unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let report = runtime.block_on(fsck(&data, store, Mode::Check)).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}
