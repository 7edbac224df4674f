//! What releases scored on a suite: those that the caller may know of, each by its newest scorecard, page by page.

use waag_registry::access::Caller;
use waag_registry::index::{Index, Prepared};
use waag_schema::base::key::KeyPair;
use waag_schema::content::PlannerId;
use waag_schema::release::Kind;
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::scorecard::{Amount, Device, Harness, Measure, Scorecard, Section, SuiteRelease};
use waag_schema::statement::{Chain, Content, Envelope, Predicate, Release, Statement, Subject, Visibility};
use waag_schema::{ArtifactName, ChunkDigest, Sha256, Timestamp};

/// A fold of statements that nobody had to admit.
struct Book {
    index: Index,
    next: u64,
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn manifest(artifact: &str) -> Sha256 {
    Sha256::of(artifact.as_bytes())
}

fn suite() -> ArtifactName {
    "acme/suite".parse().unwrap()
}

impl Book {
    fn new() -> Self {
        Self {
            index: Index::in_memory("waag/test/1").unwrap(),
            next: 0,
        }
    }

    fn say(&mut self, subject: Subject, predicate: Predicate) {
        let statement = Statement { subject, predicate };
        let envelope = Envelope::sign(&statement.to_bytes(), &[&key()]);
        let prepared = Prepared::parse(envelope).unwrap();
        let at = Timestamp::from_unix(self.next);
        self.index
            .fold(self.next, at, "open", self.next, &prepared)
            .unwrap();
        self.next += 1;
    }

    fn namespace(&mut self, name: &str, visibility: Visibility) {
        let genesis = Genesis {
            keys: KeySet {
                owners: vec![key().public()],
                threshold: 1,
                recovery: Vec::new(),
            },
            home: key().public().site_id(),
            visibility,
        };
        self.say(
            Subject::Namespace(name.parse().unwrap()),
            Predicate::Genesis(genesis),
        );
    }

    fn of(artifact: &str) -> Subject {
        Subject::Manifest(artifact.parse().unwrap(), manifest(artifact))
    }

    fn release(&mut self, artifact: &str) {
        let release = Release {
            namespace: Sha256::of(b"id"),
            link: Chain::default().next(),
            kind: Kind::Model,
            config: Content {
                sha256: manifest(artifact),
                size: 1,
                planner: PlannerId::FastCdc1,
                recipe: ChunkDigest::of(artifact.as_bytes()),
            },
            content: Vec::new(),
        };
        self.say(Self::of(artifact), Predicate::Release(release));
    }

    /// Returns the entry.
    fn score(&mut self, artifact: &str, on: Option<ArtifactName>, value: f64) -> u64 {
        let result = Measure::new("acc", Amount::Real(value)).of_task("arc");
        let scorecard = Scorecard {
            at: Timestamp::from_unix(self.next),
            harness: Harness {
                name: "waag".to_owned(),
                version: "1".to_owned(),
                digest: Sha256::of(b"kernels"),
            },
            device: Device {
                class: "cpu".to_owned(),
                name: None,
                worker: None,
            },
            precision: "f32".to_owned(),
            suite: on.map(|artifact| SuiteRelease {
                artifact,
                manifest: Sha256::of(b"suite"),
            }),
            sections: vec![Section::measured("language", vec![result])],
            details: None,
        };
        self.say(Self::of(artifact), Predicate::Scorecard(scorecard));
        self.next - 1
    }
}

#[test]
fn the_newest_scorecard_of_each_release_that_the_caller_may_read_is_listed() {
    let mut book = Book::new();
    book.namespace("acme", Visibility::Public);
    book.namespace("umbra", Visibility::Private);
    for artifact in ["acme/a", "acme/b", "acme/gone", "umbra/c"] {
        book.release(artifact);
    }
    book.score("acme/a", Some(suite()), 0.1);
    let b = book.score("acme/b", Some(suite()), 0.25);
    let a = book.score("acme/a", Some(suite()), 0.5);
    book.score("acme/a", None, 0.75);
    book.score("acme/b", Some("acme/other".parse().unwrap()), 0.75);
    book.score("acme/gone", Some(suite()), 0.9);
    book.score("umbra/c", Some(suite()), 0.9);
    let withdrawal = Withdrawal {
        namespace: Sha256::of(b"id"),
        link: Chain::default().next(),
        reason: "damaged".to_owned(),
        erase: false,
    };
    book.say(Book::of("acme/gone"), Predicate::Withdrawal(withdrawal));

    let reach = Caller::anonymous().reach();
    let ask = |below: Option<u64>, limit: usize| {
        let found = book.index.questions().scored_on(&reach, &suite(), below, limit);
        let view = |view: waag_schema::wire::leaderboard::ScoredView| {
            let value = view.sections[0].result_of("arc", "acc").unwrap().value;
            (view.entry, view.artifact.to_string(), value.to_f64())
        };
        found.unwrap().into_iter().map(view).collect::<Vec<_>>()
    };
    let all = [(a, "acme/a".to_owned(), 0.5), (b, "acme/b".to_owned(), 0.25)];
    assert_eq!(ask(None, 10), all);
    assert_eq!(ask(None, 1), all[..1]);
    assert_eq!(ask(Some(a), 10), all[1..]);
    assert_eq!(ask(Some(b), 10), []);
    assert_eq!(ask(Some(u64::MAX), 10), all);
}
