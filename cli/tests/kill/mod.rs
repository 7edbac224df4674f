//! `kill -9` under load: the site is killed again and again while publishers push, and started again at once.
//!
//! `WAAG_KILL_ROUNDS` (default 10) says how often. What must hold: every push that was acknowledged is recorded
//! exactly once, at the entry that was told; pushes that were under way go through once the site is back (or say that it cannot be reached, and go through
//! when they are tried again); and in
//! the end everything that the site keeps is what its signed ledger says.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;
use waag_registry::fsck::{Mode, fsck};
use waag_registry::store::FsStore;

use crate::world::{Person, Site};

const PUBLISHERS: usize = 3;
/// The exit code of a command that could not reach the site.
const UNREACHABLE: i32 = 6;

/// One publisher: pushes small models one after the other until told to stop, and tells of each.
fn publish(person: &Person, number: usize, enough: &AtomicBool, told: &Sender<()>) -> Vec<Value> {
    let mut acknowledged = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let n = acknowledged.len();
        let model = person.desk().join(format!("model-{n}"));
        fs::create_dir_all(&model).unwrap();
        let content = format!("publisher {number}, model {n}").repeat(5000);
        fs::write(model.join("weights.bin"), content).unwrap();
        // Nobody listens any more once the rounds are over.
        let _ = told.send(());
        let answer = person.try_push(&model, &format!("acme/p{number}n{n}:1.0"), &[]);
        // Killed too often for one push's patience: not acknowledged, so it is pushed again.
        if answer.code() != UNREACHABLE {
            acknowledged.push(answer.json());
        }
    }
    acknowledged
}

/// Asks the site for its counters a number of times: time passes by work, not by sleeping.
fn let_work_pass(site: &Site, requests: u64) {
    for _ in 0..requests {
        site.metric("waag_ledger_size");
    }
}

#[test]
fn a_site_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    let rounds: u64 = std::env::var("WAAG_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("site");
    let mut site = Site::serve(&data);
    let address = site.url.strip_prefix("http://").unwrap().to_owned();
    let operator = Person::operating(&site);
    operator.create_namespace("acme");

    let enough = AtomicBool::new(false);
    let (told, tells) = channel();
    let acknowledged: Vec<Value> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                let (person, enough, told) = (operator.colleague(), &enough, told.clone());
                scope.spawn(move || publish(&person, number, enough, &told))
            })
            .collect();
        for round in 0..rounds {
            for _ in 0..=round % 3 {
                tells.recv().unwrap();
            }
            let_work_pass(&site, round * 7 % 40);
            site.kill();
            site = Site::serve_with(&data, &["--listen", &address]);
        }
        enough.store(true, Ordering::Relaxed);
        publishers
            .into_iter()
            .flat_map(|publisher| publisher.join().unwrap())
            .collect()
    });

    assert!(acknowledged.len() >= PUBLISHERS);
    for push in &acknowledged {
        let name = push["name"].as_str().unwrap();
        let shown = operator.run(["show", name, "--json"]).json();
        let releases = shown["releases"].as_array().unwrap();
        assert_eq!(releases.len(), 1, "{name} is recorded once");
        assert_eq!(
            releases[0]["entry"], push["entry"],
            "{name} is where it was told to be"
        );
    }
    let last = acknowledged.last().unwrap()["name"].as_str().unwrap();
    let out = directory.path().join("out");
    operator.pull(&format!("{last}:1.0"), &out).ok();
    operator.verify(&out).ok();
    site.stop();
    check_everything(&data);
}

fn check_everything(data: &Path) {
    let store = Arc::new(FsStore::open(&data.join("store")).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(fsck(data, store, Mode::Check)).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
