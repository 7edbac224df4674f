//! What a proof shows: a ledger of a few entries in memory, and every way to bend it.

use waag_client::proof::{check_recorded, check_release};
use waag_client::trust::Pin;
use waag_client::{ClientError, SiteUrl};
use waag_schema::base::key::KeyPair;
use waag_schema::base::name::Version;
use waag_schema::content::PlannerId;
use waag_schema::federation::Ending;
use waag_schema::ledger::{
    Checkpoint, Class, Commitment, EntryId, EntryProof, Frontier, Header, InclusionProof, Leaf, MemoryTree,
    Opening, Origin, Root, Salt, SaltedOpening, SignedCheckpoint, Stream, site_key,
};
use waag_schema::release::{About, Built, Kind, ManifestBuilder};
use waag_schema::statement::namespace::{Genesis, KeySet, Rotation};
use waag_schema::statement::predicate::{Release, Withdrawal};
use waag_schema::statement::scorecard::{Device, Harness, Scorecard};
use waag_schema::statement::{Chain, Content, Envelope, Predicate, Statement, Subject, TagMove, Visibility};
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::site::SiteView;
use waag_schema::{ArtifactName, ChunkDigest, Sha256, Timestamp};

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

const SITE: u8 = 99;
const OWNER: u8 = 1;
/// The key that the site signs with what it says for itself.
const SITE_KEY: u8 = 98;

/// A ledger whose entries a test writes one by one.
struct Book {
    site: KeyPair,
    envelopes: Vec<Envelope>,
    /// The chain of the artifact.
    chain: Chain,
    namespace: Sha256,
    artifact: ArtifactName,
    built: Built,
}

fn content(digest: Sha256, size: u64) -> Content {
    Content {
        sha256: digest,
        size,
        planner: PlannerId::FastCdc1,
        recipe: ChunkDigest::of(digest.as_bytes()),
    }
}

fn key_set(owners: &[u8]) -> KeySet {
    KeySet {
        owners: owners.iter().map(|seed| key(*seed).public()).collect(),
        threshold: 1,
        recovery: Vec::new(),
    }
}

impl Book {
    fn new() -> Self {
        let site = key(SITE);
        let genesis = Statement {
            subject: Subject::Namespace("acme".parse().unwrap()),
            predicate: Predicate::Genesis(Genesis {
                keys: key_set(&[OWNER]),
                home: site.public().site_id(),
                visibility: Visibility::Public,
            }),
        };
        let envelope = Envelope::sign(&genesis.to_bytes(), &[&key(OWNER)]);
        let built = ManifestBuilder::new(Kind::Model, About::default())
            .file("a.txt".parse().unwrap(), Sha256::of(b"a"), 1)
            .build()
            .unwrap();
        Self {
            site,
            namespace: Sha256::of(envelope.payload()),
            envelopes: vec![envelope],
            chain: Chain::default(),
            artifact: "acme/tiny".parse().unwrap(),
            built,
        }
    }

    fn say(&mut self, predicate: Predicate, signer: u8) -> &mut Self {
        let statement = Statement {
            subject: Subject::Manifest(self.artifact.clone(), self.built.manifest.digest()),
            predicate,
        };
        let envelope = Envelope::sign(&statement.to_bytes(), &[&key(signer)]);
        self.chain = self.chain.then(envelope.digest());
        self.envelopes.push(envelope);
        self
    }

    fn released(&mut self) -> Release {
        let config = self.built.manifest.config();
        Release {
            namespace: self.namespace,
            link: self.chain.next(),
            kind: Kind::Model,
            config: content(config.digest, config.size),
            content: vec![content(Sha256::of(b"a"), 1)],
        }
    }

    fn release(&mut self, signer: u8) -> &mut Self {
        let release = self.released();
        self.say(Predicate::Release(release), signer)
    }

    fn tag(&mut self, tag: &str) -> &mut Self {
        let tag = TagMove {
            namespace: self.namespace,
            link: self.chain.next(),
            tag: tag.parse().unwrap(),
            from: None,
        };
        self.say(Predicate::Tag(tag), OWNER)
    }

    /// What the site has measured, as this key signs it.
    fn weighed(&mut self, subject: Sha256, signer: u8) -> &mut Self {
        let statement = Statement {
            subject: Subject::Manifest(self.artifact.clone(), subject),
            predicate: Predicate::Scorecard(Scorecard {
                at: Timestamp::from_unix(1_700_000_000),
                harness: Harness {
                    name: "waag".to_owned(),
                    version: "1.1".to_owned(),
                    digest: Sha256::of(b"kernels"),
                },
                device: Device {
                    class: "cpu".to_owned(),
                    name: None,
                    worker: None,
                },
                precision: "exact".to_owned(),
                suite: None,
                sections: Vec::new(),
                details: None,
            }),
        };
        self.envelopes
            .push(Envelope::sign(&statement.to_bytes(), &[&key(signer)]));
        self
    }

    fn rotate(&mut self, to: u8) -> &mut Self {
        let statement = Statement {
            subject: Subject::Namespace("acme".parse().unwrap()),
            predicate: Predicate::Rotation(Rotation {
                namespace: self.namespace,
                link: Chain::default().then(self.envelopes[0].digest()).next(),
                keys: key_set(&[to]),
            }),
        };
        let envelope = Envelope::sign(&statement.to_bytes(), &[&key(OWNER), &key(to)]);
        self.envelopes.push(envelope);
        self
    }

    fn origin(&self) -> Origin {
        Origin::of(&self.site.public().site_id(), 1)
    }

    fn pin(&self) -> Pin {
        let view = SiteView {
            id: self.site.public().site_id(),
            origin: self.origin().to_string(),
            log_key: self.origin().verifier(self.site.public()).to_string(),
            site_key: self.site.public(),
            witness_key: String::new(),
            jurisdiction: None,
            version: "0".to_owned(),
        };
        let url: SiteUrl = "http://127.0.0.1:1".parse().unwrap();
        Pin::of(&view, &url).unwrap()
    }

    fn proof(&self) -> Proof {
        let openings = self.envelopes.iter().zip(0_u8..).map(|(envelope, i)| {
            let header = Header {
                id: EntryId::from_bytes([i; 16]),
                prev: None,
                stream: Stream::open(),
                seq: i.into(),
                at: Timestamp::from_unix(1_700_000_000),
            };
            SaltedOpening {
                salt: Salt::from_bytes([i; 32]),
                opening: Opening::new(header, envelope.bytes()).unwrap(),
            }
        });
        let entries: Vec<(Leaf, SaltedOpening)> = openings
            .map(|opened| {
                let leaf = Leaf {
                    class: Class::Open,
                    reference: None,
                    commitment: Commitment::to(&self.origin(), &opened.salt, &opened.opening),
                };
                (leaf, opened)
            })
            .collect();
        let tree: MemoryTree = entries.iter().map(|(leaf, _)| leaf.hash()).collect();
        let size = tree.size();
        let checkpoint = Checkpoint {
            origin: self.origin(),
            size,
            root: Frontier::from_source(&tree, size).unwrap().root(),
        };
        let proven = entries.into_iter().zip(0..).map(|((leaf, opened), index)| {
            EntryProof::new(&leaf, opened, InclusionProof::make(&tree, index, size).unwrap())
        });
        Proof {
            checkpoint: SignedCheckpoint::sign(checkpoint, &self.site).to_string(),
            entries: proven.collect(),
            earlier: Vec::new(),
            site_key: None,
        }
    }

    fn check(&self, version: &str) -> Result<waag_client::proof::Proven, String> {
        self.check_proof(version, &self.proof())
    }

    fn check_proof(&self, version: &str, proof: &Proof) -> Result<waag_client::proof::Proven, String> {
        let version: Version = version.parse().unwrap();
        let manifest = self.built.manifest.bytes();
        check_release(&self.pin(), &self.artifact, &version, manifest, proof).map_err(|error| {
            assert!(matches!(error, ClientError::Verification { .. }), "{error:?}");
            error.to_string()
        })
    }
}

#[track_caller]
fn refused(result: Result<waag_client::proof::Proven, String>, because: &str) {
    let reason = result.map(|proven| proven.entry).unwrap_err();
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn a_release_is_proven_with_its_tag_and_signer() {
    let mut book = Book::new();
    book.release(OWNER).tag("1.0");
    let proven = book.check("1.0").unwrap();
    assert_eq!((proven.entry, proven.tag_entry), (1, Some(2)));
    assert_eq!(proven.signed_by, [key(OWNER).public().fingerprint()]);
    assert_eq!(proven.at, Timestamp::from_unix(1_700_000_000));
    let by_digest = book.check(&book.built.manifest.digest().to_string()).unwrap();
    assert_eq!((by_digest.entry, by_digest.tag_entry), (1, None));
    refused(book.check("2.0"), "lets the tag `2.0` name");
    refused(book.check(&Sha256::of(b"other").to_string()), "was asked for");
}

#[test]
fn what_is_signed_behind_the_end_that_a_charter_names_is_nobodys_word() {
    let mut book = Book::new();
    book.release(OWNER).tag("1.0");
    let proof = book.proof();
    let tree: Checkpoint = {
        let signed: SignedCheckpoint = proof.checkpoint.parse().unwrap();
        signed.checkpoint().clone()
    };
    let manifest = book.built.manifest.bytes();
    let (name, version) = (&book.artifact, "1.0".parse().unwrap());
    for (series, size, root, holds) in [
        (1, tree.size, tree.root, true),
        (1, tree.size + 1, Root::empty(), true),
        (2, 1, Root::empty(), true),
        (1, tree.size, Root::empty(), false),
        (1, tree.size - 1, tree.root, false),
    ] {
        let mut pin = book.pin();
        pin.ends = vec![(series, Ending { size, root })];
        let checked = check_release(&pin, name, &version, manifest, &proof);
        assert_eq!(checked.is_ok(), holds, "{series} {size}");
        if let Err(error) = checked {
            assert!(error.to_string().contains("the charter ends"), "{error}");
        }
    }
}

#[test]
fn only_the_namespaces_own_keys_count() {
    let mut book = Book::new();
    book.release(7);
    refused(
        book.check(&book.built.manifest.digest().to_string()),
        "0 of the namespace's keys signed",
    );
}

#[test]
fn after_a_rotation_only_the_new_keys_count_and_before_it_only_the_old() {
    let digest = Book::new().built.manifest.digest().to_string();
    let mut book = Book::new();
    book.rotate(2).release(2);
    assert_eq!(
        book.check(&digest).unwrap().signed_by,
        [key(2).public().fingerprint()]
    );
    let mut book = Book::new();
    book.release(OWNER).rotate(2);
    assert_eq!(
        book.check(&digest).unwrap().signed_by,
        [key(OWNER).public().fingerprint()]
    );
    let mut book = Book::new();
    book.rotate(2).release(OWNER);
    refused(book.check(&digest), "0 of the namespace's keys signed");
    let mut book = Book::new();
    book.release(2).rotate(2);
    refused(book.check(&digest), "0 of the namespace's keys signed");
}

#[test]
fn a_withdrawal_is_seen() {
    let mut book = Book::new();
    book.release(OWNER);
    let withdrawal = Withdrawal {
        namespace: book.namespace,
        link: book.chain.next(),
        reason: "wrong weights".to_owned(),
        erase: false,
    };
    book.say(Predicate::Withdrawal(withdrawal), OWNER);
    let proven = book.check(&book.built.manifest.digest().to_string()).unwrap();
    assert_eq!(proven.withdrawn.as_deref(), Some("wrong weights"));
}

#[test]
fn a_scorecard_counts_under_the_key_that_the_pinned_one_names() {
    let digest = Book::new().built.manifest.digest();
    let book = |subject, signer| {
        let mut book = Book::new();
        book.release(OWNER).weighed(subject, signer);
        book
    };
    let with_note = |book: &Book, by: u8| Proof {
        site_key: Some(site_key::sign(&key(by), &key(SITE_KEY).public()).unwrap()),
        ..book.proof()
    };
    let good = book(digest, SITE_KEY);
    let proven = good
        .check_proof(&digest.to_string(), &with_note(&good, SITE))
        .unwrap();
    assert_eq!(proven.weighed[0].entry, 2);
    let check = |book: &Book, proof: &Proof| book.check_proof(&digest.to_string(), proof);
    refused(check(&good, &good.proof()), "which key the site signs with");
    refused(check(&good, &with_note(&good, SITE_KEY)), "not signed by");
    let forged = book(digest, OWNER);
    refused(
        check(&forged, &with_note(&forged, SITE)),
        "the scorecard, entry 2",
    );
    let other = book(Sha256::of(b"other"), SITE_KEY);
    refused(check(&other, &with_note(&other, SITE)), "another release");
    let mut altered = with_note(&good, SITE);
    altered.entries[2].salt = Salt::from_bytes([9; 32]);
    refused(check(&good, &altered), "the scorecard, entry 2");
}

#[test]
fn a_release_must_speak_of_exactly_the_manifests_files() {
    let digest = Book::new().built.manifest.digest().to_string();
    for spoil in [
        |release: &mut Release| release.content[0].size = 2,
        |release: &mut Release| release.content.clear(),
        |release: &mut Release| release.config.size += 1,
        |release: &mut Release| release.kind = Kind::Dataset,
    ] {
        let mut book = Book::new();
        let mut release = book.released();
        spoil(&mut release);
        book.say(Predicate::Release(release), OWNER);
        assert!(book.check(&digest).is_err());
    }
}

#[test]
fn statements_of_one_chain_must_follow_each_other() {
    let mut book = Book::new();
    book.release(OWNER);
    book.chain.head = Some(Sha256::of(b"another release"));
    book.tag("1.0");
    refused(book.check("1.0"), "names another predecessor");
    let mut book = Book::new();
    book.release(OWNER);
    book.chain = Chain::default();
    book.tag("1.0");
    refused(book.check("1.0"), "stands behind statement 1");
}

#[test]
fn entries_that_are_missing_moved_or_changed_are_refused() {
    let mut book = Book::new();
    book.release(OWNER).tag("1.0");
    let good = book.proof();
    book.check_proof("1.0", &good).unwrap();
    for missing in 0..3 {
        let mut proof = good.clone();
        proof.entries.remove(missing);
        assert!(book.check_proof("1.0", &proof).is_err(), "{missing}");
    }
    let mut proof = good.clone();
    proof.entries.swap(1, 2);
    refused(book.check_proof("1.0", &proof), "the ledger's order");
    let mut proof = good.clone();
    proof.entries.insert(0, proof.entries[0].clone());
    refused(book.check_proof("1.0", &proof), "the ledger's order");
    let mut proof = good.clone();
    proof.entries[1].salt = Salt::from_bytes([9; 32]);
    refused(book.check_proof("1.0", &proof), "entry 1");
    let mut proof = good;
    proof.entries[2].opening = proof.entries[1].opening.clone();
    refused(book.check_proof("1.0", &proof), "entry 2");
}

#[test]
fn a_checkpoint_of_another_site_proves_nothing() {
    let mut book = Book::new();
    book.release(OWNER).tag("1.0");
    let mut proof = book.proof();
    let signed: SignedCheckpoint = proof.checkpoint.parse().unwrap();
    proof.checkpoint = SignedCheckpoint::sign(signed.checkpoint().clone(), &key(7)).to_string();
    refused(book.check_proof("1.0", &proof), "not signed by");
    let mut other = Book::new();
    other.site = key(98);
    other.release(OWNER).tag("1.0");
    refused(book.check_proof("1.0", &other.proof()), "it is of the ledger");
}

#[test]
fn a_receipt_must_hold_exactly_what_was_sent() {
    let mut book = Book::new();
    book.release(OWNER).tag("1.0");
    let proof = book.proof();
    let (signed, positions) = check_recorded(&book.pin(), &proof, &book.envelopes[1..]).unwrap();
    assert_eq!((signed.checkpoint().size, positions), (3, vec![1, 2]));
    let other = Envelope::sign(book.envelopes[1].payload(), &[&key(7)]);
    assert!(check_recorded(&book.pin(), &proof, &[other]).is_err());
}
