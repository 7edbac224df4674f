//! A small world: one site in this process, a publisher with a key, and the verbs of a person.

pub(crate) mod ledger;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waag_registry::Site;
use waag_registry::access::Caller;
use waag_registry::clock::ManualClock;
use waag_registry::config::Config;
use waag_registry::ledger::Restored;
use waag_registry::random::Random;
use waag_registry::site::{Collaborators, OpenSite, SiteError};
use waag_registry::store::{MemoryStore, Store};
use waag_schema::base::key::KeyPair;
use waag_schema::content::encoding::encode;
use waag_schema::content::planner::ChunkPlan;
use waag_schema::content::recipe::{Recipe, RecipeBuilder};
use waag_schema::policy::Label;
use waag_schema::release::builder::{About, ManifestBuilder};
use waag_schema::release::kind::Kind;
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::predicate::Residency;
use waag_schema::statement::{
    Chain, Content, Envelope, Predicate, Release, Statement, Subject, TagMove, Visibility,
};
use waag_schema::wire::upload::FileRecipe;
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256, Timestamp};

/// Half past nothing in particular.
pub(crate) const MIDNIGHT: Timestamp = Timestamp::from_unix(1_795_219_200);

/// Where a site lives.
#[derive(Debug)]
pub(crate) enum Directory {
    /// Gone with the world.
    Own(tempfile::TempDir),
    /// Somebody else's.
    Given(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}

/// A site in a directory of its own.
pub(crate) struct World {
    pub(crate) site: Arc<Site>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) admin: Caller,
    writer: tokio::task::JoinHandle<()>,
    directory: Directory,
    seed: u64,
    config: Config,
}

impl World {
    /// Opens a new site over a store in memory.
    pub(crate) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    /// Opens a new site that was configured so.
    pub(crate) async fn configured(config: Config) -> Self {
        let directory = Directory::Own(tempfile::tempdir().unwrap());
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::at(MIDNIGHT)));
        Self::open_as(config, directory, store, clock, 1, Restored::No)
            .await
            .map_err(|e| e.1)
            .unwrap()
    }

    /// Opens a new site over this store.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        let directory = Directory::Own(tempfile::tempdir().unwrap());
        Self::open(
            directory,
            store,
            Arc::new(ManualClock::at(MIDNIGHT)),
            1,
            Restored::No,
            Config::default(),
        )
        .await
        .unwrap()
    }

    /// Opens one of several sites that share a clock.
    pub(crate) async fn one_of(
        seed: u64,
        config: Config,
        clock: &Arc<ManualClock>,
        store: Arc<dyn Store>,
    ) -> Self {
        let directory = Directory::Own(tempfile::tempdir().unwrap());
        Self::open(directory, store, Arc::clone(clock), seed, Restored::No, config)
            .await
            .unwrap()
    }

    /// Opens a site in this directory, new or not.
    pub(crate) async fn at(data: &Path, store: Arc<dyn Store>) -> Self {
        let directory = Directory::Given(data.to_owned());
        Self::open(
            directory,
            store,
            Arc::new(ManualClock::at(MIDNIGHT)),
            1,
            Restored::No,
            Config::default(),
        )
        .await
        .map_err(|e| e.1)
        .unwrap()
    }

    /// Opens a clone of the site, of which its directory and store were copied.
    pub(crate) async fn clone_at(&self, data: &Path, store: Arc<dyn Store>) -> Self {
        let directory = Directory::Given(data.to_owned());
        let (clock, config) = (Arc::clone(&self.clock), self.config.clone());
        Self::open(directory, store, clock, self.seed + 500, Restored::No, config)
            .await
            .map_err(|e| e.1)
            .unwrap()
    }

    /// Stops the site.
    pub(crate) async fn stop(self) {
        let Self { site, writer, .. } = self;
        drop(site);
        writer.await.unwrap();
    }

    async fn open(
        directory: Directory,
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        seed: u64,
        restored: Restored,
        config: Config,
    ) -> Result<Self, (Directory, SiteError)> {
        Self::open_as(config, directory, store, clock, seed, restored).await
    }

    async fn open_as(
        config: Config,
        directory: Directory,
        store: Arc<dyn Store>,
        clock: Arc<ManualClock>,
        seed: u64,
        restored: Restored,
    ) -> Result<Self, (Directory, SiteError)> {
        let parts = Collaborators {
            store: Arc::clone(&store),
            clock: clock.clone(),
            random: Random::from_seed(seed),
        };
        let OpenSite { site, writer } = match Site::open(directory.path(), &config, parts, restored).await {
            Ok(open) => open,
            Err(error) => return Err((directory, error)),
        };
        let secret = std::fs::read_to_string(directory.path().join("admin-token")).unwrap();
        let admin = site.tokens().caller(secret.trim()).await.unwrap();
        Ok(Self {
            site,
            store,
            clock,
            admin,
            writer,
            directory,
            seed,
            config,
        })
    }

    /// The site's data directory, without the store.
    pub(crate) fn data(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the site, lets `between` change what lies there, and starts it again.
    pub(crate) async fn restart(self, between: impl FnOnce(&Path)) -> Result<Self, SiteError> {
        self.restart_over(None, Restored::No, between).await
    }

    /// The same, perhaps with another store in the place of the old one.
    pub(crate) async fn restart_over(
        self,
        other: Option<Arc<dyn Store>>,
        restored: Restored,
        between: impl FnOnce(&Path),
    ) -> Result<Self, SiteError> {
        let Self {
            site,
            store,
            clock,
            writer,
            directory,
            seed,
            config,
            ..
        } = self;
        drop(site);
        writer.await.unwrap();
        between(directory.path());
        let store = other.unwrap_or(store);
        Self::open(directory, store, clock, seed + 1, restored, config)
            .await
            .map_err(|(_, error)| error)
    }

    /// Returns every row of the index.
    pub(crate) async fn index(&self) -> String {
        self.site.reader().dump().await.unwrap()
    }
}

/// Somebody with a key and a namespace.
pub(crate) struct Publisher {
    pub(crate) key: KeyPair,
    pub(crate) namespace: Sha256,
}

/// A file of a release.
pub(crate) struct File {
    pub(crate) path: FilePath,
    pub(crate) bytes: Vec<u8>,
    pub(crate) recipe: Recipe,
}

/// A release, ready to send.
pub(crate) struct Draft {
    pub(crate) artifact: ArtifactName,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Sha256,
    pub(crate) files: Vec<File>,
    pub(crate) release: Release,
}

pub(crate) fn name(text: &str) -> ArtifactName {
    text.parse().unwrap()
}

/// Bytes that compress and repeat nowhere.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut counter = 0_u64;
    while bytes.len() < length {
        bytes.extend_from_slice(ChunkDigest::of(format!("{seed}/{counter}").as_bytes()).as_bytes());
        counter += 1;
    }
    bytes.truncate(length);
    bytes
}

impl File {
    pub(crate) fn new(path: &str, bytes: Vec<u8>) -> Self {
        let path: FilePath = path.parse().unwrap();
        let mut plan = ChunkPlan::for_file(&path, Some(bytes.len() as u64));
        let mut lengths = Vec::new();
        let mut at = 0;
        while let Some(length) = plan.next_len(&bytes[at..], true).unwrap() {
            lengths.push(length);
            at += length;
        }
        let mut builder = RecipeBuilder::new(plan.planner());
        let mut rest = bytes.as_slice();
        for length in lengths {
            let (chunk, behind) = rest.split_at(length);
            builder.push_chunk(ChunkDigest::of(chunk), length).unwrap();
            rest = behind;
        }
        Self {
            path,
            recipe: builder.finish(),
            bytes,
        }
    }

    pub(crate) fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    /// The chunks in order, encoded as a client encodes them.
    pub(crate) fn chunks(&self) -> Vec<(ChunkDigest, Vec<u8>)> {
        let mut at = 0;
        let mut chunks = Vec::new();
        for piece in self.recipe.pieces() {
            let end = at + piece.length as usize;
            chunks.push((
                piece.chunk,
                encode(&self.bytes[at..end]).unwrap().stored().to_vec(),
            ));
            at = end;
        }
        chunks
    }

    pub(crate) fn wire(&self) -> FileRecipe {
        FileRecipe {
            sha256: self.sha256(),
            recipe: self.recipe.canonical().into(),
        }
    }

    pub(crate) fn content(&self) -> Content {
        Content {
            sha256: self.sha256(),
            size: self.bytes.len() as u64,
            planner: self.recipe.planner(),
            recipe: self.recipe.digest(),
        }
    }
}

impl Publisher {
    /// Begins a namespace and has it admitted.
    pub(crate) async fn begin(world: &World, namespace: &str, seed: u8, visibility: Visibility) -> Self {
        let key = KeyPair::from_seed(&[seed; 32]);
        let genesis = genesis(&key, namespace, world, visibility);
        world
            .site
            .intake()
            .namespace(&world.admin, genesis.bytes())
            .await
            .unwrap();
        Self {
            key,
            namespace: Sha256::of(genesis.payload()),
        }
    }

    /// Somebody whose namespace was admitted before.
    pub(crate) async fn known(world: &World, namespace: &str, seed: u8) -> Self {
        let view = world
            .site
            .catalogue()
            .namespace(&world.admin, &namespace.parse().unwrap())
            .await
            .unwrap();
        Self {
            key: KeyPair::from_seed(&[seed; 32]),
            namespace: view.id,
        }
    }

    /// Where the chain of an artifact has come to.
    pub(crate) async fn chain(&self, world: &World, artifact: &ArtifactName) -> Chain {
        world
            .site
            .catalogue()
            .artifact(&world.admin, artifact)
            .await
            .unwrap()
            .chain
    }

    /// Signs a predicate.
    pub(crate) fn sign(&self, subject: Subject, predicate: Predicate) -> Envelope {
        Envelope::sign(&Statement { subject, predicate }.to_bytes(), &[&self.key])
    }

    /// Puts a release together.
    pub(crate) fn draft(&self, artifact: &str, chain: Chain, files: Vec<File>) -> Draft {
        self.draft_of(Kind::Model, artifact, chain, files)
    }

    /// The same, of any kind.
    pub(crate) fn draft_of(&self, kind: Kind, artifact: &str, chain: Chain, files: Vec<File>) -> Draft {
        let artifact = name(artifact);
        let mut builder = ManifestBuilder::new(kind, About::default());
        for file in &files {
            builder = builder.file(file.path.clone(), file.sha256(), file.bytes.len() as u64);
        }
        let built = builder.build().unwrap();
        let config = File::new("config", built.config);
        let mut content: Vec<Content> = files.iter().map(File::content).collect();
        content.sort_by_key(|c| c.sha256);
        content.dedup();
        let release = Release {
            namespace: self.namespace,
            link: chain.next(),
            kind,
            config: config.content(),
            content,
        };
        let digest = built.manifest.digest();
        let mut files = files;
        files.push(config);
        Draft {
            artifact,
            digest,
            manifest: built.manifest.into_bytes(),
            files,
            release,
        }
    }

    /// Signs a draft's release, a label if one is given, and a tag.
    pub(crate) fn statements(
        &self,
        draft: &Draft,
        label: Option<Label>,
        tag: &str,
        from: Option<Sha256>,
    ) -> Vec<Vec<u8>> {
        let subject = Subject::Manifest(draft.artifact.clone(), draft.digest);
        let mut chain = Chain {
            counter: draft.release.link.counter - 1,
            head: draft.release.link.previous,
        };
        let mut envelopes = vec![self.sign(subject.clone(), Predicate::Release(draft.release.clone()))];
        chain = chain.then(envelopes[0].digest());
        if let Some(label) = label {
            let residency = Residency {
                namespace: self.namespace,
                link: chain.next(),
                label,
            };
            let envelope = self.sign(
                Subject::Artifact(draft.artifact.clone()),
                Predicate::Residency(residency),
            );
            chain = chain.then(envelope.digest());
            envelopes.push(envelope);
        }
        let tag = TagMove {
            namespace: self.namespace,
            link: chain.next(),
            tag: tag.parse().unwrap(),
            from,
        };
        envelopes.push(self.sign(subject, Predicate::Tag(tag)));
        envelopes.iter().map(|e| e.bytes().to_vec()).collect()
    }

    /// Pushes files under a tag, as an admin. Returns the draft and the raw bytes that were sent.
    pub(crate) async fn push(
        &self,
        world: &World,
        artifact: &str,
        tag: &str,
        files: Vec<File>,
    ) -> (Draft, u64) {
        let chain = self.chain(world, &name(artifact)).await;
        let draft = self.draft(artifact, chain, files);
        let (id, sent) = send(world, &world.admin, &draft).await;
        let envelopes = self.statements(&draft, None, tag, None);
        world
            .site
            .intake()
            .publish(&world.admin, &id, &draft.manifest, &envelopes)
            .await
            .unwrap();
        (draft, sent)
    }
}

/// A namespace's genesis, signed by its one key.
pub(crate) fn genesis(key: &KeyPair, namespace: &str, world: &World, visibility: Visibility) -> Envelope {
    let genesis = Genesis {
        keys: KeySet {
            owners: vec![key.public()],
            threshold: 1,
            recovery: Vec::new(),
        },
        home: world.site.id().clone(),
        visibility,
    };
    let subject = Subject::Namespace(namespace.parse().unwrap());
    Envelope::sign(
        &Statement {
            subject,
            predicate: Predicate::Genesis(genesis),
        }
        .to_bytes(),
        &[key],
    )
}

/// Opens an upload for a draft and sends what is missing, and seals every file.
pub(crate) async fn send(world: &World, caller: &Caller, draft: &Draft) -> (Sha256, u64) {
    let uploads = world.site.uploads();
    let owner = &caller.token().unwrap().id;
    let id = uploads
        .open(owner, draft.artifact.clone(), draft.digest)
        .await
        .unwrap();
    let files: Vec<FileRecipe> = draft.files.iter().map(File::wire).collect();
    let answer = uploads.plan(caller, &id, &files).await.unwrap();
    let mut sent = 0;
    for (chunk, stored) in draft.files.iter().flat_map(File::chunks) {
        if answer.missing.contains(&chunk) {
            sent += uploads.receive(&id, chunk, stored.into()).await.unwrap();
        }
    }
    for file in files {
        uploads
            .seal(caller, &id, &file.sha256, &file.recipe.0)
            .await
            .unwrap();
    }
    (id, sent)
}

/// A safetensors file of bf16 tensors with these names and shapes, filled with noise that depends on the name.
pub(crate) fn safetensors(tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape) in tensors {
        let length = shape.iter().product::<u64>() * 2;
        let start = data.len() as u64;
        let seed = u64::from(ChunkDigest::of(name.rsplit('.').next().unwrap().as_bytes()).as_bytes()[0]);
        data.extend(noise(seed, usize::try_from(length).unwrap()));
        let entry =
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, start + length]});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}
