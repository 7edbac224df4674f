//! A ledger by itself over a store that can fail, authors who write to it, and a check of all that it stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use waag_registry::clock::ManualClock;
use waag_registry::index::{Index, Reader};
use waag_registry::ledger::{self, AppendError, Guard, Ledger, Parts, Restored};
use waag_registry::random::Random;
use waag_registry::store::{FaultyStore, Key, MemoryStore, Store};
use waag_registry::telemetry::Metrics;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::merkle::{prove_consistency, root, verify_consistency};
use waag_schema::ledger::{
    Commitment, HashSource, Leaf, MemoryTree, Origin, Pack, PackPath, SignedCheckpoint, TileKind, TilePath,
    bundle,
};
use waag_schema::policy::Label;
use waag_schema::release::kind::Kind;
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::predicate::Residency;
use waag_schema::statement::{Chain, Envelope, Predicate, Release, Statement, Subject, TagMove, Visibility};
use waag_schema::{ArtifactName, Sha256};

use super::{File, MIDNIGHT, name, noise};

/// The series that all of this is about.
const SERIES: u32 = 1;

/// A ledger's store, key, guard and index, whether or not a sequencer runs.
pub(crate) struct LedgerWorld {
    /// What the sequencer uses.
    pub(crate) store: Arc<FaultyStore>,
    /// What is truly stored.
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) origin: Origin,
    key: Arc<KeyPair>,
    directory: tempfile::TempDir,
    starts: u64,
    seed: u64,
}

/// A sequencer that runs.
pub(crate) struct Running {
    pub(crate) ledger: Ledger,
    reader: Reader,
    task: tokio::task::JoinHandle<()>,
}

/// What a ledger holds.
pub(crate) struct Found {
    pub(crate) size: u64,
    /// Where each envelope stands.
    pub(crate) positions: HashMap<Sha256, u64>,
}

/// A directory in memory where there is one: thousands of short lives sync a lot.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

impl LedgerWorld {
    pub(crate) fn new(seed: u64) -> Self {
        let key = Arc::new(KeyPair::from_seed(&[7; 32]));
        let memory = Arc::new(MemoryStore::new());
        Self {
            store: Arc::new(FaultyStore::new(memory.clone())),
            memory,
            origin: Origin::of(&key.public().site_id(), SERIES),
            key,
            directory: directory(),
            starts: 0,
            seed,
        }
    }

    /// Returns another ledger in the same state. No sequencer may run.
    pub(crate) fn fork(&self) -> Self {
        let memory = Arc::new(self.memory.fork());
        let copy = directory();
        for file in ["guard", "index.db"] {
            std::fs::copy(self.data().join(file), copy.path().join(file)).unwrap();
        }
        Self {
            store: Arc::new(FaultyStore::new(memory.clone())),
            memory,
            origin: self.origin.clone(),
            key: Arc::clone(&self.key),
            directory: copy,
            starts: self.starts,
            seed: self.seed,
        }
    }

    /// Where guard and index lie.
    pub(crate) fn data(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn start(&mut self) -> Result<Running, AppendError> {
        self.starts += 1;
        let random = Random::from_seed(self.seed.wrapping_mul(1000).wrapping_add(self.starts));
        self.open(self.store.clone(), self.data(), random, Restored::No)
            .await
    }

    /// Starts with the operator's word that the store comes from a backup.
    pub(crate) async fn recover(&mut self) -> Result<Running, AppendError> {
        self.starts += 1;
        let random = Random::from_seed(self.seed.wrapping_mul(1000).wrapping_add(self.starts));
        self.open(self.store.clone(), self.data(), random, Restored::Yes)
            .await
    }

    async fn open(
        &self,
        store: Arc<dyn Store>,
        data: &Path,
        random: Random,
        restored: Restored,
    ) -> Result<Running, AppendError> {
        let path = data.join("index.db");
        let index = Index::open(&path, &self.origin.to_string())?;
        let reader = Reader::new(&path);
        let parts = Parts {
            store: Arc::clone(&store),
            origin: self.origin.clone(),
            key: Arc::clone(&self.key),
            guard: Guard::new(&data.join("guard")),
            index,
            site_key: Arc::new(KeyPair::from_seed(&[251; 32])),
            clock: Arc::new(ManualClock::at(MIDNIGHT)),
            random,
            metrics: Metrics::default(),
        };
        let opened = ledger::open(parts, reader.clone(), restored).await?;
        Ok(Running {
            ledger: opened.ledger,
            reader,
            task: opened.task,
        })
    }

    /// Checks that the rows of the index are what the ledger gives when it is folded from nothing, elsewhere.
    pub(crate) async fn check_index(&self, running: &Running) {
        let rows = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (found, expected) = (rows(running.index().await), rows(self.refolded().await));
        let missing: Vec<_> = expected.difference(&found).collect();
        let extra: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "the index lacks {missing:#?} and has {extra:#?}"
        );
    }

    async fn refolded(&self) -> String {
        let elsewhere = directory();
        std::fs::copy(self.data().join("guard"), elsewhere.path().join("guard")).unwrap();
        let running = self
            .open(
                self.memory.clone(),
                elsewhere.path(),
                Random::from_seed(0),
                Restored::No,
            )
            .await
            .unwrap();
        let rows = running.index().await;
        running.stop().await;
        rows
    }

    /// Recomputes everything from the stored leaves and openings, and panics where anything differs. Commit
    /// objects of what is published must be gone if `tidy`.
    pub(crate) fn check(&self, tidy: bool) -> Found {
        let stored: BTreeMap<String, Bytes> = self.memory.dump();
        let within = |prefix: &str| {
            let prefix = format!("ledger/{SERIES}/{prefix}");
            let found = stored.iter().filter(move |(key, _)| key.starts_with(&prefix));
            found.map(|(key, bytes)| {
                let path = key.strip_prefix(&format!("ledger/{SERIES}/")).unwrap();
                (path.to_owned(), bytes.clone())
            })
        };
        let Some(checkpoint) = stored.get(Key::checkpoint(SERIES).as_str()) else {
            return Found {
                size: 0,
                positions: HashMap::new(),
            };
        };
        let checkpoint = SignedCheckpoint::parse(checkpoint).unwrap();
        let size = checkpoint.checkpoint().size;

        let mut leaves: Vec<Leaf> = Vec::new();
        for number in 0..=size / 256 {
            if let Some(path) = TilePath::in_tree(TileKind::Entries, number, size) {
                let bytes = &stored[Key::tile(SERIES, &path).as_str()];
                leaves.extend(bundle::decode(&path, bytes).unwrap());
            }
        }
        assert_eq!(leaves.len() as u64, size);
        let tree: MemoryTree = leaves.iter().map(Leaf::hash).collect();
        self.check_signed(&tree);
        self.check_tiles(&leaves, &tree, within("tile/"));
        for level in 0.. {
            if size >> (8 * u32::from(level)) == 0 {
                break;
            }
            for number in 0..=size >> (8 * (u32::from(level) + 1)) {
                if let Some(path) = TilePath::in_tree(TileKind::Hashes(level), number, size) {
                    assert!(
                        stored.contains_key(Key::tile(SERIES, &path).as_str()),
                        "no {path}"
                    );
                }
            }
        }

        let at: HashMap<Commitment, u64> = leaves.iter().map(|l| l.commitment).zip(0..).collect();
        let mut positions = HashMap::new();
        for (path, bytes) in within("body/") {
            let path: PackPath = path.parse().unwrap();
            let pack = Pack::decode(&bytes).unwrap();
            for slot in 0..pack.len() {
                let opened = pack.slot(slot).expect("nothing was erased");
                let header = opened.opening.header();
                assert_eq!(
                    PackPath::of(&header.stream, header.seq),
                    (path.clone(), slot),
                    "an opening lies in another place"
                );
                let commitment = Commitment::to(&self.origin, &opened.salt, &opened.opening);
                // A commit that is not published yet may have filled its packs.
                let Some(position) = at.get(&commitment) else {
                    assert!(!tidy, "an opening of no entry in {path}");
                    continue;
                };
                let envelope = Sha256::of(opened.opening.envelope());
                let before = positions.insert(envelope, *position);
                assert_eq!(before, None, "a statement was recorded twice");
            }
        }
        assert_eq!(positions.len() as u64, size, "an entry has no opening");
        if tidy {
            assert_eq!(within("seq/").count(), 0, "commit objects are left");
        }
        Found { size, positions }
    }

    /// All checkpoints that were ever published are signed and begin the same tree.
    fn check_signed(&self, tree: &MemoryTree) {
        let signed = self.store.history(&Key::checkpoint(SERIES)).into_iter();
        let mut trees: Vec<_> = signed
            .map(|bytes| {
                let signed = SignedCheckpoint::parse(&bytes).unwrap();
                signed.verify(&[self.key.public()], &[]).unwrap();
                signed.checkpoint().tree()
            })
            .collect();
        trees.sort_by_key(|tree| tree.size);
        let mut before = None;
        for now in trees {
            // After a power loss a published tree may have to be rolled forward again.
            if now.size > tree.size() {
                continue;
            }
            assert_eq!(root(tree, now.size).unwrap(), now.root);
            if let Some(before) = before.replace(now) {
                let proof = prove_consistency(tree, before.size, now.size).unwrap();
                verify_consistency(&before, &now, &proof).unwrap();
            }
        }
    }

    fn check_tiles(&self, leaves: &[Leaf], tree: &MemoryTree, tiles: impl Iterator<Item = (String, Bytes)>) {
        for (path, bytes) in tiles {
            let path: TilePath = path.parse().unwrap();
            let start = path.index() * 256;
            let end = start + u64::from(path.width());
            let expected = match path.kind() {
                TileKind::Entries if end <= leaves.len() as u64 => {
                    bundle::encode(&leaves[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()])
                }
                TileKind::Hashes(level) if end <= tree.size() >> (8 * u32::from(level)) => {
                    let hash = |index| *tree.hash_at(8 * level, index).unwrap().as_bytes();
                    (start..end).flat_map(hash).collect()
                }
                // A commit that is not published yet may have made its tiles.
                _ => continue,
            };
            assert_eq!(bytes, expected, "{path} is of another tree");
        }
    }
}

impl Running {
    /// Ends the sequencer; what was accepted is answered first.
    pub(crate) async fn stop(self) {
        drop(self.ledger);
        self.task.await.unwrap();
    }

    /// Returns every row of the index.
    pub(crate) async fn index(&self) -> String {
        self.reader.dump().await.unwrap()
    }
}

/// Somebody with a namespace and one artifact in it.
pub(crate) struct Author {
    pub(crate) genesis: Envelope,
    artifact: ArtifactName,
    namespace: Sha256,
    key: KeyPair,
}

impl Author {
    pub(crate) fn new(world: &LedgerWorld, namespace: &str, visibility: Visibility) -> Self {
        let key = KeyPair::from_seed(Sha256::of(namespace.as_bytes()).as_bytes());
        let genesis = Genesis {
            keys: KeySet {
                owners: vec![key.public()],
                threshold: 1,
                recovery: Vec::new(),
            },
            home: world.origin.site().clone(),
            visibility,
        };
        let statement = Statement {
            subject: Subject::Namespace(namespace.parse().unwrap()),
            predicate: Predicate::Genesis(genesis),
        };
        let genesis = Envelope::sign(&statement.to_bytes(), &[&key]);
        Self {
            artifact: name(&format!("{namespace}/model")),
            namespace: Sha256::of(genesis.payload()),
            genesis,
            key,
        }
    }

    fn sign(&self, subject: Subject, predicate: Predicate) -> Envelope {
        Envelope::sign(&Statement { subject, predicate }.to_bytes(), &[&self.key])
    }

    /// Stores recipes and signs a release that names them, and a tag; nothing, where the store does not confirm
    /// a recipe.
    pub(crate) async fn release(&self, world: &LedgerWorld, chain: Chain, n: u64) -> Option<Vec<Envelope>> {
        let weights = File::new("w.bin", noise(n, 1000));
        let config = File::new("config", noise(!n, 100));
        for file in [&weights, &config] {
            let key = Key::recipe(&file.recipe.digest());
            let recipe = file.recipe.canonical().into();
            world.store.put_if_absent(&key, recipe).await.ok()?;
        }
        let release = Release {
            namespace: self.namespace,
            link: chain.next(),
            kind: Kind::Model,
            config: config.content(),
            content: vec![weights.content()],
        };
        let manifest = Sha256::of(&n.to_be_bytes());
        let subject = Subject::Manifest(self.artifact.clone(), manifest);
        let released = self.sign(subject.clone(), Predicate::Release(release));
        let tag = TagMove {
            namespace: self.namespace,
            link: chain.then(released.digest()).next(),
            tag: format!("v{n}").parse().unwrap(),
            from: None,
        };
        let tagged = self.sign(subject, Predicate::Tag(tag));
        Some(vec![released, tagged])
    }

    /// Signs this many labels, one after another.
    pub(crate) fn labels(&self, mut chain: Chain, count: usize, n: u64) -> Vec<Envelope> {
        let mut envelopes = Vec::new();
        for number in 0..count as u64 {
            let countries = ["DE", "FR", "NL", "ES", "IT"];
            let country = countries[usize::try_from((n + number) % 5).unwrap()];
            let label = Label::from_cli(&[country.parse().unwrap()], &[], &[]).unwrap();
            let residency = Residency {
                namespace: self.namespace,
                link: chain.next(),
                label,
            };
            let envelope = self.sign(
                Subject::Artifact(self.artifact.clone()),
                Predicate::Residency(residency),
            );
            chain = chain.then(envelope.digest());
            envelopes.push(envelope);
        }
        envelopes
    }
}

/// Returns where a chain stands once these envelopes are recorded.
pub(crate) fn behind(chain: Chain, envelopes: &[Envelope]) -> Chain {
    envelopes.iter().fold(chain, |chain, e| chain.then(e.digest()))
}
