//! The weigher as a process: what it is given, what becomes of it, and what the site makes of that.
//!
//! The process is this test program itself, called so that it runs [`the_weigher`] alone.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use waag_registry::clock::ManualClock;
use waag_registry::config::{Config, Weigh};
use waag_registry::evaluation::{Bench, DeviceChoice, Program, child};
use waag_registry::store::{Cell, Key, MemoryStore, Put, Store, StoreError, Swap, Version};
use waag_schema::release::kind::Kind;
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::scorecard::Scorecard;
use waag_schema::statement::{Predicate, Subject, Visibility};
use waag_schema::wire::artifact::Scorecards;

use crate::world::{Draft, File, MIDNIGHT, Publisher, World};

/// Called by name with a socket for its standard input; whoever runs all tests that are ignored gives it none.
#[test]
#[ignore = "it is what other tests start as a process"]
fn the_weigher() {
    let _ = child::main();
}

/// What a site starts: this program, as a weigher. The mark is one more name of a test, of none.
fn weigher(mark: &str) -> Bench {
    let words = [
        "weigher::the_weigher",
        mark,
        "--exact",
        "--ignored",
        "--nocapture",
    ];
    Bench::Process(Program {
        path: std::env::current_exe().unwrap(),
        arguments: words.map(OsString::from).into(),
    })
}

/// Finds what the system says of the process that was started with this mark.
fn process_with(mark: &str) -> PathBuf {
    let marked = |path: &PathBuf| {
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    let mut all = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.find(marked).unwrap()
}

fn fixture(path: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/tests/fixtures");
    std::fs::read(fixtures.join(path)).unwrap()
}

/// A shell that does this.
fn shell(script: &str) -> Bench {
    Bench::Process(Program {
        path: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".into(), script.into()],
    })
}

/// A store that gives out no chunk while it is shut.
#[derive(Default)]
struct Gate {
    inner: MemoryStore,
    shut: AtomicBool,
    /// Somebody stands before it.
    reached: Notify,
    opened: Notify,
}

impl Gate {
    fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn pass(&self, key: &Key) {
        let opened = self.opened.notified();
        if key.to_string().starts_with("chunks/") && self.shut.load(Ordering::SeqCst) {
            self.reached.notify_one();
            opened.await;
        }
    }
}

#[async_trait]
impl Store for Gate {
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        self.inner.put_if_absent(key, bytes).await
    }
    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError> {
        self.inner.put_all(objects).await
    }
    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.pass(key).await;
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.pass(key).await;
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.inner.head(key).await
    }
    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        self.inner.read_cell(key).await
    }
    async fn swap_cell(&self, key: &Key, old: Option<&Version>, bytes: Bytes) -> Result<Swap, StoreError> {
        self.inner.swap_cell(key, old, bytes).await
    }
    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.stage(key, bytes).await
    }
    async fn has_room(&self) -> Result<bool, StoreError> {
        self.inner.has_room().await
    }
    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError> {
        self.inner.promote(moves).await
    }
}

async fn pushed(world: &World) -> (Publisher, Draft) {
    let acme = Publisher::begin(world, "acme", 7, Visibility::Public).await;
    let files = vec![File::new("model.safetensors", fixture("llama/model.safetensors"))];
    let (draft, _) = acme.push(world, "acme/tiny", "1.0", files).await;
    (acme, draft)
}

async fn shown(world: &World, draft: &Draft) -> Scorecards {
    let catalogue = world.site.catalogue();
    catalogue.scorecards(&world.admin, &draft.artifact).await.unwrap()
}

/// A world with a model that has a base, and a suite for it; returns the model.
async fn furnished(minutes: u64) -> (World, Draft) {
    let weigh = Weigh {
        minutes,
        suites: vec!["tests/short:1".to_owned()],
        device: DeviceChoice::Cpu,
        ..Weigh::default()
    };
    let config = Config {
        weigh,
        ..Config::default()
    };
    let world = World::configured(config).await;
    let tests = Publisher::begin(&world, "tests", 8, Visibility::Public).await;
    let tasks = ["choice.yaml", "choice.jsonl"].map(|file| format!("tasks/{file}"));
    let tasks = tasks.map(|path| File::new(&path, fixture(&path))).into();
    let chain = tests.chain(&world, &"tests/short".parse().unwrap()).await;
    let suite = tests.draft_of(Kind::Suite, "tests/short", chain, tasks);
    let (id, _) = crate::world::send(&world, &world.admin, &suite).await;
    let envelopes = tests.statements(&suite, None, "1", None);
    let intake = world.site.intake();
    let published = intake.publish(&world.admin, &id, &suite.manifest, &envelopes);
    published.await.unwrap();
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let model = ["config.json", "model.safetensors", "tokenizer.json"];
    let model = model.map(|file| File::new(file, fixture(&format!("llama/{file}"))));
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", model.into()).await;
    (world, draft)
}

#[tokio::test]
async fn a_process_finds_the_bits_that_a_thread_finds() {
    let mut found = Vec::new();
    for bench in [Bench::Thread, weigher("same-bits")] {
        let (world, draft) = furnished(60).await;
        world.site.weigh_all_on(bench).await.unwrap();
        let cards = shown(&world, &draft).await.scorecards;
        let cards: Vec<Scorecard> = cards.into_iter().map(|view| view.scorecard).collect();
        assert_eq!(cards.len(), 2);
        assert!(cards.iter().all(|card| card.details.is_some()), "{cards:?}");
        // What was measured is counted to the last byte.
        let weights = fixture("llama/model.safetensors").len() as u64;
        assert_eq!(world.site.metrics().weighed_bytes.get(), weights);
        found.push(cards);
    }
    assert_eq!(found[0], found[1]);
}

#[tokio::test]
async fn the_process_holds_a_socket_and_nothing_of_the_site() {
    let gate = Arc::new(Gate::default());
    let weigh = Weigh {
        device: DeviceChoice::Cpu,
        memory_mib: 123,
        ..Weigh::default()
    };
    let config = Config {
        weigh,
        ..Config::default()
    };
    let clock = Arc::new(ManualClock::at(MIDNIGHT));
    let world = World::one_of(1, config, &clock, gate.clone()).await;
    let (_, draft) = pushed(&world).await;
    gate.shut.store(true, Ordering::SeqCst);
    let look = async {
        gate.reached.notified().await;
        // It has asked for its first chunk, and waits for it.
        let process = process_with("of-the-site");
        let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap();
        assert_eq!(read("environ"), "");
        let data = world.data().display().to_string();
        assert!(!read("cmdline").contains(&data));
        assert_eq!(std::fs::read_link(process.join("cwd")).unwrap(), Path::new("/"));
        for fd in std::fs::read_dir(process.join("fd")).unwrap() {
            let open = std::fs::read_link(fd.unwrap().path()).unwrap();
            let open = open.display().to_string();
            let known = ["socket:", "pipe:", "/dev/null"];
            assert!(known.iter().any(|known| open.starts_with(known)), "{open}");
        }
        let limits = read("limits");
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
            assert_eq!(words[0], words[1], "{line}");
            words[0].parse::<u64>().unwrap()
        };
        assert_eq!(limit("Max open files"), 0);
        assert_eq!(limit("Max file size"), 0);
        assert_eq!(limit("Max data size"), (1 << 30) + (123 << 20));
        gate.open();
    };
    let (weighed, ()) = tokio::join!(world.site.weigh_all_on(weigher("of-the-site")), look);
    weighed.unwrap();
    assert_eq!(shown(&world, &draft).await.scorecards.len(), 1);
}

#[tokio::test]
async fn a_weigher_that_is_killed_leaves_the_job_open_and_the_next_attempt_signs() {
    let world = World::new().await;
    let (_, draft) = pushed(&world).await;
    let marks = tempfile::tempdir().unwrap();
    let Bench::Process(Program { path, arguments }) = weigher("second") else {
        unreachable!()
    };
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "if /bin/mkdir {}/first; then kill -9 $$; fi; exec {} {}",
        marks.path().display(),
        path.display(),
        words.join(" ")
    );
    world.site.weigh_all_on(shell(&script)).await.unwrap();
    assert_eq!(world.site.metrics().weigh_failures.get(), 1);
    let found = shown(&world, &draft).await;
    assert_eq!((found.scorecards.len(), found.weighing), (1, Vec::new()));
}

#[tokio::test]
async fn however_a_weigher_ends_the_site_has_the_reason_and_gives_up_after_three_attempts() {
    let foreign = format!(r#"{{"get":{{"chunks":["{}"],"passed":0}}}}"#, "0".repeat(64));
    for (script, reason) in [
        ("kill -9 $$".to_owned(), "ended by signal 9"),
        ("kill -11 $$".to_owned(), "ended by signal 11"),
        (
            "echo memory allocation of 7 bytes failed >&2; kill -6 $$".to_owned(),
            "ended by signal 6: memory allocation of 7 bytes failed",
        ),
        ("exit 3".to_owned(), "ended with exit code 3"),
        ("no such program".to_owned(), "ended with exit code 127"),
        (
            "echo nonsense >&0; exec /bin/cat >/dev/null".to_owned(),
            "said what is not understood",
        ),
        (
            format!("echo '{foreign}' >&0; exec /bin/cat >/dev/null"),
            "asked for what is not its own",
        ),
    ] {
        let world = World::new().await;
        let (_, draft) = pushed(&world).await;
        world.site.weigh_all_on(shell(&script)).await.unwrap();
        assert_eq!(world.site.metrics().weigh_failures.get(), 3);
        let found = shown(&world, &draft).await;
        assert_eq!(found.scorecards, []);
        let [view] = found.weighing.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(view.state, "given up");
        let said = view.reason.clone().unwrap();
        assert!(said.contains(&format!("the weigher {reason}")), "{said}");
    }
}

#[tokio::test]
async fn a_weigher_that_is_too_slow_is_ended_and_the_scorecard_of_the_suite_says_so() {
    let (world, draft) = furnished(0).await;
    world
        .site
        .weigh_all_on(shell("exec /bin/cat >/dev/null"))
        .await
        .unwrap();
    let found = shown(&world, &draft).await;
    let [view] = found.scorecards.as_slice() else {
        panic!("{found:?}")
    };
    let said = view.scorecard.section("language").unwrap().not_measured.clone();
    let reason = "it takes longer than the 0 minutes that this site gives it";
    assert_eq!(said.as_deref(), Some(reason));
    // Weights are tried again: it was this machine that was slow.
    let reason = found.weighing[0].reason.clone().unwrap();
    assert!(reason.contains("longer than 0 minutes"), "{reason}");
}

#[tokio::test]
async fn a_release_that_is_withdrawn_is_measured_no_further() {
    for bench in [Bench::Thread, weigher("withdrawn")] {
        let gate = Arc::new(Gate::default());
        let world = World::over(gate.clone()).await;
        let (acme, draft) = pushed(&world).await;
        gate.shut.store(true, Ordering::SeqCst);
        let withdraw = async {
            gate.reached.notified().await;
            let withdrawal = Withdrawal {
                namespace: acme.namespace,
                link: acme.chain(&world, &draft.artifact).await.next(),
                reason: "wrong tokenizer".to_owned(),
                erase: false,
            };
            let subject = Subject::Manifest(draft.artifact.clone(), draft.digest);
            let envelope = acme
                .sign(subject, Predicate::Withdrawal(withdrawal))
                .bytes()
                .to_vec();
            let intake = world.site.intake();
            let said = intake
                .statements(&world.admin, &draft.artifact, &[envelope])
                .await;
            said.unwrap();
        };
        // The gate stays shut: who waits for the measurement would wait for ever.
        let (weighed, ()) = tokio::join!(world.site.weigh_all_on(bench), withdraw);
        weighed.unwrap();
        assert_eq!(world.site.metrics().weigh_failures.get(), 0);
        assert_eq!(shown(&world, &draft).await.scorecards, []);
    }
}
