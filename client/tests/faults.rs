//! Transfers over a network that fails: each ends complete and verified, or says what went wrong, in bounded time;
//! and once the network is well, the same command completes what was begun.
//!
//! `WAAG_FAULT_SEEDS` (default 24) says how many seeds are met, `WAAG_FAULT_SEED` begins at another one.

use std::fs;
use std::time::Duration;

use waag_client::pull::{PullRequest, pull};
use waag_client::push::{Push, Pushed};
use waag_client::verify::verify;
use waag_client::{ClientError, Home, Pinning, Result, Secret, Settings, Site, event, site};

use crate::proxy::{Dice, Proxy};
use crate::world::{World, files_below, noise, safetensors};

/// What one seed may take: a few stalls of which each is waited for.
const BOUNDED: Duration = Duration::from_secs(120);
/// Connections that fail: fewer than a request is tried.
const FAILING: u64 = 3;
/// Seeds under way at once.
const AT_ONCE: usize = 6;

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let first = number("WAAG_FAULT_SEED").unwrap_or(1);
    (first..first + number("WAAG_FAULT_SEEDS").unwrap_or(24)).collect()
}

fn settings() -> Settings {
    Settings {
        connect_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(700),
        ..Settings::default()
    }
}

/// Somebody whose way to the site leads over a network of their own.
struct Traveller {
    proxy: Proxy,
    site: Site,
    home: Home,
}

impl Traveller {
    async fn new(world: &World, name: &str) -> Self {
        let proxy = Proxy::to(&world.running.url).await;
        let home = Home::new(world.path(&format!("home-{name}")));
        let token = Secret::new(fs::read_to_string(world.path("data/admin-token")).unwrap().trim());
        site::login(&home, &proxy.url, &Pinning::Loopback, Some(&token), &settings())
            .await
            .unwrap();
        let site = Site::open(&home, &proxy.url, None, &settings()).unwrap();
        Self { proxy, site, home }
    }

    fn suffer(&self, seed: u64, corrupting: bool) {
        let mut dice = Dice::new(seed);
        let failing = 1 + dice.below(FAILING);
        self.proxy
            .suffer((0..failing).map(|_| dice.faults(2_000_000, corrupting)).collect());
    }

    async fn push(&self, world: &World, directory: &str, reference: &str) -> Result<Pushed> {
        let push = Push::prepare(&self.site, world.push_request(directory, reference)).await?;
        push.execute(std::slice::from_ref(&world.key)).await
    }
}

fn model(world: &World, directory: &str, seed: u64) {
    let weights = safetensors(&[("a", 800, seed), ("b", 900, seed + 1)]);
    let files: [(&str, &[u8]); 3] = [
        ("config.json", br#"{"model_type":"llama"}"#),
        ("more.bin", &noise(seed, 70_000)),
        ("model.safetensors", &weights),
    ];
    world.write(directory, &files);
}

/// Lets a story be told for each seed, a few at once; a failure names its seed.
async fn for_each_seed(tell: impl AsyncFn(u64)) {
    use futures_util::StreamExt as _;
    futures_util::stream::iter(seeds())
        .map(|seed| {
            let told = tell(seed);
            async move {
                let told = tokio::time::timeout(BOUNDED, told).await;
                assert!(told.is_ok(), "seed {seed}: it does not end");
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

#[tokio::test]
async fn a_push_over_a_failing_network_completes() {
    let w = World::new().await;
    for_each_seed(async |seed| {
        let (directory, reference) = (format!("m{seed}"), format!("acme/m{seed}:1"));
        model(&w, &directory, seed * 10);
        let traveller = Traveller::new(&w, &directory).await;
        traveller.suffer(seed, false);
        let pushed = traveller.push(&w, &directory, &reference).await;
        let pushed = pushed.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let out = format!("out{seed}");
        let pulled = w.pull(&reference, &out).await.unwrap();
        assert_eq!(pulled.digest, pushed.digest, "seed {seed}");
    })
    .await;
}

#[tokio::test]
async fn a_pull_over_a_failing_network_completes() {
    let w = World::new().await;
    model(&w, "model", 7);
    w.push("model", "acme/tiny:1").await.unwrap();
    for_each_seed(async |seed| {
        let traveller = Traveller::new(&w, &format!("p{seed}")).await;
        traveller.suffer(seed, false);
        let target = w.path(&format!("out{seed}"));
        let request = PullRequest::new("acme/tiny:1".parse().unwrap(), target);
        let pulled = pull(&traveller.site, &request).await;
        pulled.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        verify(&traveller.home, &request.target, &event::silent())
            .await
            .unwrap();
        same_files(&w, "model", &format!("out{seed}"), seed);
    })
    .await;
}

#[tokio::test]
async fn what_is_corrupted_on_its_way_is_never_taken_for_what_was_signed() {
    let w = World::new().await;
    model(&w, "model", 7);
    w.push("model", "acme/tiny:1").await.unwrap();
    for_each_seed(async |seed| {
        let traveller = Traveller::new(&w, &format!("c{seed}")).await;
        let target = w.path(&format!("out{seed}"));
        let request = PullRequest::new("acme/tiny:1".parse().unwrap(), target);
        traveller.suffer(seed, true);
        if let Err(error) = pull(&traveller.site, &request).await {
            assert!(is_named(&error), "seed {seed}: {error:?}");
            // What came before the fault is kept, and nothing false with it.
            traveller.proxy.suffer(Vec::new());
            let again = pull(&traveller.site, &request).await;
            again.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        verify(&traveller.home, &request.target, &event::silent())
            .await
            .unwrap();
        same_files(&w, "model", &format!("out{seed}"), seed);

        let (directory, reference) = (format!("m{seed}"), format!("acme/m{seed}:1"));
        model(&w, &directory, seed * 10);
        traveller.suffer(seed + 1000, true);
        if let Err(error) = traveller.push(&w, &directory, &reference).await {
            assert!(is_named(&error), "seed {seed}: {error:?}");
            traveller.proxy.suffer(Vec::new());
            let again = traveller.push(&w, &directory, &reference).await;
            again.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        w.pull(&reference, &format!("back{seed}")).await.unwrap();
        same_files(&w, &directory, &format!("back{seed}"), seed);
        assert!(traveller.proxy.met() > 0, "seed {seed} met nothing");
    })
    .await;
}

/// A corrupted byte may hit anything: a status, a length, a token, a signature, a chunk.
const fn is_named(error: &ClientError) -> bool {
    !matches!(
        error,
        ClientError::Io { .. } | ClientError::Key(_) | ClientError::Scan(_)
    )
}

fn same_files(w: &World, left: &str, right: &str, seed: u64) {
    for file in files_below(&w.path(left)) {
        let name = file.strip_prefix(w.path(left)).unwrap();
        let (here, there) = (
            fs::read(&file).unwrap(),
            fs::read(w.path(right).join(name)).unwrap(),
        );
        assert!(here == there, "seed {seed}: {} differs", name.display());
    }
}
