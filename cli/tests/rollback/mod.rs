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

/// A site that was used for an hour after it was copied, and the people who saw that.
struct Restored {
    dir: tempfile::TempDir,
    data: PathBuf,
    address: String,
    operator: Person,
    consumer: Person,
    /// How many entries the backup has, and how many there were.
    sizes: (u64, u64),
}

impl Restored {
    fn new(keep_guard: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, backup) = (dir.path().join("site"), dir.path().join("backup"));
        let site = Site::serve(&data);
        let address = site.url.strip_prefix("http://").unwrap().to_owned();
        let operator = Person::operating(&site);
        operator.create_namespace("acme");
        operator.push(&model(dir.path(), "first"), "acme/tiny:1.0");
        operator
            .run(["pull", "acme/tiny:1.0", dir.path().join("old").to_str().unwrap()])
            .ok();
        let consumer = Person::new();
        consumer.run(["login", &site.url, "--anonymous"]).ok();
        let before = size_of(&consumer);
        site.stop();
        copy(&data, &backup);
        let site = Site::serve_with(&data, &["--listen", &address]);
        operator.push(&model(dir.path(), "second"), "acme/tiny:2.0");
        let sizes = (before, size_of(&operator));
        site.stop();
        let guard = fs::read(data.join("guard")).unwrap();
        fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
        if keep_guard {
            fs::write(data.join("guard"), guard).unwrap();
        } else {
            fs::remove_file(data.join("guard")).unwrap();
        }
        Self {
            dir,
            data,
            address,
            operator,
            consumer,
            sizes,
        }
    }

    /// Starts the site as on any day, which it must refuse, and returns what it says.
    fn refused(&self) -> String {
        let data = self.data.to_str().unwrap();
        let answer = self
            .consumer
            .run(["serve", "--data", data, "--listen", "127.0.0.1:0"]);
        assert_eq!(answer.code(), 1);
        answer.stderr()
    }

    fn serve(&self, more: &[&str]) -> Site {
        Site::serve_with(&self.data, &[&["--listen", &self.address], more].concat())
    }

    /// Checks that the successor is refused by who lost something, followed by who did not, and works.
    fn check(&self, site: &Site) {
        let (kept, seen) = self.sizes;
        // Who has seen no more than was restored follows, and so does who knows nothing.
        let newest = self.consumer.run(["ledger", "verify", "--json"]).json();
        assert!(newest["size"].as_u64().unwrap() > kept, "{newest}");
        let newcomer = Person::new();
        newcomer.run(["login", &site.url, "--anonymous"]).ok();
        let out = self.dir.path().join("fresh");
        newcomer.pull("acme/tiny:1.0", &out).json();
        newcomer.verify(&out).ok();
        self.operator.verify(&self.dir.path().join("old")).ok();

        // Who has seen more is told what is lost, and nothing of theirs is signed until they accept it.
        let lost = format!(
            "the entries from {kept} to {}, which were seen, are lost",
            seen - 1
        );
        let third = model(self.dir.path(), "third");
        for error in [
            self.operator.run(["ledger", "show", "--json"]).error(4),
            self.operator.try_push(&third, "acme/tiny:3.0", &[]).error(4),
        ] {
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&lost), "{message}");
            assert!(message.contains("both are kept in "), "{message}");
            assert!(error["hint"].as_str().unwrap().contains("--accept-successor"));
        }
        let token = self.data.join("admin-token");
        let token = token.to_str().unwrap();
        self.operator
            .run(["login", &site.url, "--token-file", token, "--accept-successor"])
            .ok();
        self.operator.push(&third, "acme/tiny:3.0");
        newcomer
            .pull("acme/tiny:3.0", &self.dir.path().join("new"))
            .json();
        newcomer.verify(&self.dir.path().join("new")).ok();
        let shown = newcomer.run(["ledger", "show", "--from", "0", "--json"]).json();
        let entries: Vec<u64> = shown["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["entry"].as_u64().unwrap())
            .collect();
        assert!(
            entries.contains(&(kept - 1)) && !entries.contains(&kept),
            "{entries:?}"
        );
        assert!(entries.contains(&1_000_000_000_000), "{entries:?}");
        for entry in ["0", "1000000000000"] {
            let file = self.dir.path().join(entry);
            let file = file.to_str().unwrap();
            newcomer.run(["ledger", "prove", entry, "--out", file]).ok();
            newcomer.run(["ledger", "verify", file]).ok();
        }
    }
}

#[test]
fn a_guard_that_has_seen_more_than_was_restored_lets_only_a_successor_go_on() {
    let restored = Restored::new(true);
    let refused = restored.refused();
    assert!(refused.contains("waag serve --recovered"), "{refused}");
    let site = restored.serve(&["--recovered"]);
    restored.check(&site);
    site.stop();
    // The word is no longer needed, and does no harm.
    for more in [&[][..], &["--recovered"]] {
        let site = restored.serve(more);
        let newest = restored.consumer.run(["ledger", "verify", "--json"]).json();
        assert!(newest["size"].as_u64().unwrap() > restored.sizes.0);
        site.stop();
    }
    let data = restored.data.to_str().unwrap();
    restored.operator.run(["ledger", "fsck", "--data", data]).ok();
}

#[test]
fn where_the_guard_is_lost_too_the_operator_says_what_others_have_seen() {
    let restored = Restored::new(false);
    let refused = restored.refused();
    assert!(refused.contains("--seen SIZE"), "{refused}");
    let seen = restored.sizes.1.to_string();
    let more = ["--recovered", "--seen", &seen];
    let site = restored.serve(&more);
    restored.check(&site);
    site.stop();
    // Said again, it is about the ledger that has ended.
    let site = restored.serve(&more);
    let lineage = restored
        .consumer
        .run(["ledger", "show", "--from", "2000000000000", "--json"])
        .json();
    assert_eq!(lineage["entries"].as_array().unwrap().len(), 0);
    site.stop();
}
