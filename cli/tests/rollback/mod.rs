//! A site that was set back, or that has a second history: its own guard was set back with it, so that nobody but
//! the clients can notice. They must.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::{Person, Site};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn model(dir: &Path, content: &str) -> PathBuf {
    let path = dir.join(content);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("notes.txt"), content).unwrap();
    path
}

fn size_of(person: &Person) -> u64 {
    let shown = person.run(["ledger", "show", "--limit", "1", "--json"]).json();
    shown["size"].as_u64().unwrap()
}

/// Expects that nothing of the site is believed, and that both checkpoints are kept where the error says.
fn expect_evidence(error: &Value, words: &str) {
    assert_eq!(error["code"], "verification");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    let (_, kept) = message.split_once("both are kept in ").unwrap();
    let notes: Vec<String> = kept
        .split(" and ")
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(notes.len(), 2);
    assert_ne!(notes[0], notes[1]);
    let origin = |note: &String| note.lines().next().unwrap().to_owned();
    assert_eq!(origin(&notes[0]), origin(&notes[1]));
    assert!(
        notes.iter().all(|note| note.contains("\u{2014} waag/")),
        "{notes:?}"
    );
}

#[test]
fn a_ledger_that_was_set_back_or_forked_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("site"), dir.path().join("backup"));
    let site = Site::serve(&data);
    let address = site.url.strip_prefix("http://").unwrap().to_owned();
    let serve = || Site::serve_with(&data, &["--listen", &address]);
    let operator = Person::operating(&site);
    operator.create_namespace("acme");
    operator.push(&model(dir.path(), "first"), "acme/tiny:1.0");
    let consumer = Person::new();
    consumer.run(["login", &site.url, "--anonymous"]).ok();
    site.stop();
    copy(&data, &backup);

    // An hour goes by, in which the site is used.
    let site = serve();
    operator.push(&model(dir.path(), "second"), "acme/tiny:2.0");
    let out = dir.path().join("out");
    consumer.pull("acme/tiny:2.0", &out).json();
    let seen = size_of(&consumer);
    site.stop();

    // Everything is put back, the guard too: the site itself sees nothing wrong.
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let site = serve();
    let words = "was set back";
    let fresh = dir.path().join("fresh");
    expect_evidence(&consumer.pull("acme/tiny:1.0", &fresh).error(4), words);
    assert!(!fresh.exists(), "nothing was written");
    for command in [
        &["ledger", "show", "--json"][..],
        &["ledger", "verify", "--json"],
        &["ledger", "prove", "0", "--json"],
        &["login", &site.url, "--anonymous", "--json"],
    ] {
        expect_evidence(&consumer.run(command).error(4), words);
    }
    // Nor is anything signed for it: that would be a second history of the publisher's own.
    let third = model(dir.path(), "third");
    expect_evidence(&operator.try_push(&third, "acme/tiny:3.0", &[]).error(4), words);
    let reason = ["withdraw", "acme/tiny:1.0", "--reason", "why", "--json"];
    expect_evidence(&operator.run(reason).error(4), words);
    let rotate = ["namespace", "rotate", "acme", "--threshold", "1", "--json"];
    expect_evidence(&operator.run(rotate).error(4), words);
    // What was pulled before is as good as it was.
    consumer.verify(&out).ok();

    // Somebody who knows nothing of it goes on publishing, until there is as much as before, and more.
    let newcomer = Person::operating(&site);
    let key = operator.desk().join("waag/keys/default");
    let key = ["--key", key.to_str().unwrap()];
    let mut round = 0;
    while size_of(&newcomer) < seen {
        round += 1;
        let content = model(dir.path(), &format!("other-{round}"));
        newcomer
            .try_push(&content, &format!("acme/tiny:other-{round}"), &key)
            .json();
    }
    let words = "two histories";
    for more in 0..2 {
        expect_evidence(&consumer.pull("acme/tiny:1.0", &fresh).error(4), words);
        expect_evidence(&consumer.run(["ledger", "verify", "--json"]).error(4), words);
        expect_evidence(&operator.try_push(&third, "acme/tiny:3.0", &[]).error(4), words);
        let content = model(dir.path(), &format!("more-{more}"));
        newcomer
            .try_push(&content, &format!("acme/tiny:more-{more}"), &key)
            .json();
    }
    assert!(size_of(&newcomer) > seen);
}
