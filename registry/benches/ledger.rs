//! The ledger's speed, as ratios to what this machine can do in the same run.
//!
//! `cargo bench -p waag-registry --bench ledger` prints one table. `WAAG_BENCH_ENTRIES` (default 50,000) is the
//! size of the ledger that is built, proven, folded again and started from.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waag_registry::clock::SystemClock;
use waag_registry::index::{Index, Reader};
use waag_registry::ledger::{self, Guard, Ledger, Opened, Parts, Restored};
use waag_registry::random::Random;
use waag_registry::store::FsStore;
use waag_registry::telemetry::Metrics;
use waag_schema::Sha256;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::Origin;
use waag_schema::policy::Label;
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::predicate::Residency;
use waag_schema::statement::{Chain, Envelope, Predicate, Statement, Subject, Visibility};

/// Publishers that write side by side; each waits for its answer before it writes again.
const PUBLISHERS: usize = 200;
/// How often a single operation is repeated to find its median.
const ROUNDS: usize = 40;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn sign(subject: Subject, predicate: Predicate) -> Envelope {
    Envelope::sign(&Statement { subject, predicate }.to_bytes(), &[&key()])
}

fn genesis() -> Envelope {
    let keys = KeySet {
        owners: vec![key().public()],
        threshold: 1,
        recovery: Vec::new(),
    };
    let genesis = Genesis {
        keys,
        home: key().public().site_id(),
        visibility: Visibility::Public,
    };
    sign(
        Subject::Namespace("acme".parse().expect("a name")),
        Predicate::Genesis(genesis),
    )
}

/// The next statement on one artifact.
fn label(namespace: Sha256, artifact: usize, chain: &Chain) -> Envelope {
    let label = Label::from_cli(&["EU".parse().expect("a place")], &[], &[]).expect("a label");
    let residency = Residency {
        namespace,
        link: chain.next(),
        label,
    };
    let name = format!("acme/m{artifact}").parse().expect("a name");
    sign(Subject::Artifact(name), Predicate::Residency(residency))
}

async fn open(directory: &Path) -> Opened {
    let origin = Origin::of(&key().public().site_id(), 1);
    let index = directory.join("index.db");
    let parts = Parts {
        store: Arc::new(FsStore::open(&directory.join("store")).expect("a directory")),
        index: Index::open(&index, &origin.to_string()).expect("an index"),
        origin,
        key: Arc::new(key()),
        site_key: Arc::new(KeyPair::from_seed(&[2; 32])),
        guard: Guard::new(&directory.join("guard")),
        clock: Arc::new(SystemClock),
        random: Random::from_seed(1),
        metrics: Metrics::default(),
    };
    ledger::open(parts, Reader::new(&index), Restored::No)
        .await
        .expect("the ledger opens")
}

async fn close(opened: Opened) {
    let Opened { ledger, task } = opened;
    drop(ledger);
    task.await.expect("the writer ends");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Writes and syncs a small file and its directory: what one group of syncs costs here.
fn sync_once(directory: &Path, n: usize) -> Duration {
    let start = now();
    let path = directory.join(format!("sync-{n}"));
    let file = std::fs::File::create(&path).expect("a file");
    std::io::Write::write_all(&mut &file, &[0; 4096]).expect("4 KiB");
    file.sync_all().expect("a sync");
    std::fs::File::open(directory)
        .and_then(|d| d.sync_all())
        .expect("a sync");
    start.elapsed()
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn row(what: &str, value: &str, ratio: &str) {
    println!("{what:<52} {value:>18}  {ratio}");
}

async fn sustained(ledger: &Ledger, namespace: Sha256, entries: usize) -> Duration {
    // Signed beforehand: publishers sign on their own machines.
    let each = entries / PUBLISHERS;
    let signed: Vec<Vec<Envelope>> = (0..PUBLISHERS)
        .map(|artifact| {
            let mut chain = Chain::default();
            (0..each)
                .map(|_| {
                    let envelope = label(namespace, artifact, &chain);
                    chain = chain.then(envelope.digest());
                    envelope
                })
                .collect()
        })
        .collect();
    let start = now();
    let publishers: Vec<_> = signed
        .into_iter()
        .map(|envelopes| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for envelope in envelopes {
                    ledger
                        .append(vec![envelope])
                        .await
                        .expect("the statement follows");
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("no publisher fails");
    }
    start.elapsed()
}

#[tokio::main]
async fn main() {
    let entries: usize = std::env::var("WAAG_BENCH_ENTRIES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(50_000);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();

    let syncs = median((0..ROUNDS).map(|n| sync_once(path, n)).collect());
    row(
        "one file synced with its directory",
        &format!("{:.2} ms", syncs.as_secs_f64() * 1e3),
        "",
    );
    let message = vec![7_u8; 600];
    let (pair, signature) = (key(), key().sign(&message));
    let start = now();
    for _ in 0..2000 {
        pair.public().verify(&message, &signature).expect("it holds");
    }
    let verify = start.elapsed() / 2000;
    row(
        "one ed25519 signature verified",
        &format!("{:.1} us", verify.as_secs_f64() * 1e6),
        "",
    );

    let opened = open(path).await;
    let namespace = genesis();
    opened
        .ledger
        .append(vec![namespace.clone()])
        .await
        .expect("the namespace begins");
    let namespace = Sha256::of(namespace.payload());

    let mut single = Vec::new();
    let mut chain = Chain::default();
    for _ in 0..ROUNDS {
        let envelope = label(namespace, PUBLISHERS, &chain);
        chain = chain.then(envelope.digest());
        let start = now();
        opened
            .ledger
            .append(vec![envelope])
            .await
            .expect("the statement follows");
        single.push(start.elapsed());
    }
    let single = median(single);
    let ratio = format!("{:.1} x one sync", single.as_secs_f64() / syncs.as_secs_f64());
    row(
        "a single statement, signed to answered (median)",
        &format!("{:.2} ms", single.as_secs_f64() * 1e3),
        &ratio,
    );

    let elapsed = sustained(&opened.ledger, namespace, entries).await;
    let rate = (entries / PUBLISHERS * PUBLISHERS) as f64 / elapsed.as_secs_f64();
    let ratio = format!(
        "{:.2} of what verifying alone allows on one core",
        rate * verify.as_secs_f64()
    );
    row(
        "statements, sustained, 200 publishers",
        &format!("{rate:.0} /s"),
        &ratio,
    );

    let size = opened.ledger.checkpoint().checkpoint().size;
    let mut proofs = Vec::new();
    for n in 0..ROUNDS as u64 {
        let position = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % size;
        let start = now();
        opened
            .ledger
            .prove(&[position])
            .await
            .expect("the entry is proven");
        proofs.push(start.elapsed());
    }
    row(
        &format!("a proof from {size} entries (median)"),
        &format!("{:.2} ms", median(proofs).as_secs_f64() * 1e3),
        "",
    );
    close(opened).await;

    let start = now();
    close(open(path).await).await;
    row(
        &format!("a start with {size} entries, index current"),
        &format!("{:.2} s", start.elapsed().as_secs_f64()),
        "",
    );

    Index::remove(&path.join("index.db"));
    let start = now();
    close(open(path).await).await;
    let elapsed = start.elapsed().as_secs_f64();
    row(
        &format!("a start with {size} entries, index deleted"),
        &format!("{elapsed:.2} s"),
        &format!("{:.0} entries/s", size as f64 / elapsed),
    );
}
