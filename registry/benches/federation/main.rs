//! The federation's speed: how soon others know what was published, how fast a ledger is followed from its beginning,
//! what it takes to find that two sites agree, how fast bytes are mirrored, and what followers cost when nothing happens.
//!
//! `cargo bench -p waag-registry --bench federation` prints one table. `WAAG_BENCH_STATEMENTS` (default 20,000) is the
//! length of the ledger that is followed, `WAAG_BENCH_RELEASES` (default 2,000) how many releases are looked at again,
//! `WAAG_BENCH_COMPARED` (default 1,000,000) how many two sites compare,
//! `WAAG_BENCH_PUBLISHED` (default 60) how often something is published to see how soon it is known, `WAAG_BENCH_MIB`
//! (default 256) how much is mirrored.

mod compared;
mod network;
mod sites;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waag_registry::federation::{LocalPeer, Peer, PeerSite};
use waag_registry::store::{FsStore, Key, MemoryStore, Store};
use waag_schema::content::encoding::encode;
use waag_schema::content::planner::ChunkPlan;
use waag_schema::content::recipe::{Recipe, RecipeBuilder};
use waag_schema::ledger::{
    Class, Commitment, Edge, Hash, Leaf, Pack, PackPath, Stream, TileKind, TilePath, bundle,
};
use waag_schema::release::builder::{About, ManifestBuilder};
use waag_schema::release::kind::Kind;
use waag_schema::statement::{Chain, Content, Predicate, Release, Subject};
use waag_schema::wire::upload::FileRecipe;
use waag_schema::{ChunkDigest, FilePath, Sha256};

use self::sites::{Home, everything_of, join, label, runtime, sign};

/// Statements that are submitted together.
const BATCH: usize = 200;
/// Who follows a site while nothing happens, and for how long.
const FOLLOWERS: usize = 8;
const IDLE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits")]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn number(name: &str, default: usize) -> usize {
    let said = std::env::var(name).ok().and_then(|n| n.parse().ok());
    said.unwrap_or(default)
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn row(what: &str, value: &str, ratio: &str) {
    println!("{what:<58} {value:>30}  {ratio}");
}

fn fs(directory: &Path, name: &str) -> Arc<dyn Store> {
    Arc::new(FsStore::open(&directory.join(name).join("store")).expect("a directory"))
}

/// Nanoseconds that threads whose name begins so have worked; all of them where it is empty.
fn worked(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let times = tasks.flatten().filter_map(|task| {
        let called = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let ours = called.starts_with(name);
        ours.then(|| stat.split(' ').next()?.parse::<u64>().ok())
            .flatten()
    });
    times.sum()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

/// How soon a site that follows, as sites do, has verified what was published.
async fn publish_to_verified(directory: &Path, published: usize, far: bool) {
    let (a, b) = if far { ("afar", "bfar") } else { ("anear", "bnear") };
    let mut home = Home::open(directory, a, fs(directory, a), vec![]).await;
    let mut other = Home::open(directory, b, fs(directory, b), vec![everything_of(a)]).await;
    let (near, back) = (home.serve().await, other.serve().await);
    if far {
        home.terms.url = format!("http://{}", network::far(near).await);
        other.terms.url = format!("http://{}", network::far(back).await);
    }
    join(&[&home, &other]).await;
    let following = tokio::spawn(Arc::clone(other.site.federation()).run());
    let (artifact, mut chain, mut times) = (home.artifact("m"), Chain::default(), Vec::new());
    for number in 0..published {
        // At any moment between two looks.
        wait(Duration::from_millis(37 * (number as u64 * 31 % 40))).await;
        let envelope = label(home.namespace, &artifact, &chain, "DE");
        chain = chain.then(envelope.digest());
        let start = now();
        let envelopes = [envelope.bytes().to_vec()];
        let recorded = home.site.intake().statements(&home.admin, &artifact, &envelopes);
        recorded.await.expect("the statement follows");
        let size = home.site.ledger().checkpoint().checkpoint().size;
        let known = || {
            let followed = other.site.catalogue().ledgers.of(home.site.id());
            followed.and_then(|followed| Some(followed.newest()?.checkpoint().size))
        };
        while known().unwrap_or(0) < size {
            wait(Duration::from_millis(1)).await;
        }
        times.push(start.elapsed());
    }
    following.abort();
    times.sort();
    let at = |percent: usize| milliseconds(times[(times.len() * percent / 100).min(times.len() - 1)]);
    let what = if far {
        "published to verified, 50 ms apart"
    } else {
        "published to verified, loopback"
    };
    let value = format!("{} / {} / {} ms", at(50), at(95), at(99));
    row(&format!("{what} (p50 / p95 / p99 of {published})"), &value, "");
}

/// A ledger of so many statements.
async fn filled(directory: &Path, statements: usize) -> Home {
    let home = Home::open(directory, "filled", Arc::new(MemoryStore::new()), vec![]).await;
    let mut chains: Vec<_> = (0..100)
        .map(|n| (home.artifact(&format!("m{n}")), Chain::default()))
        .collect();
    let mut made = 0;
    while made < statements {
        let mut batch = Vec::new();
        for number in made..statements.min(made + BATCH) {
            let (artifact, chain) = &mut chains[number % 100];
            let envelope = label(home.namespace, artifact, chain, "DE");
            *chain = chain.then(envelope.digest());
            batch.push(envelope);
        }
        made += batch.len();
        home.site.ledger().append(batch).await.expect("they follow");
    }
    home
}

async fn met(directory: &Path, name: &str, home: &Home) -> Home {
    let rules = vec![everything_of(&home.terms.name)];
    let other = Home::open(directory, name, Arc::new(MemoryStore::new()), rules).await;
    let peer: Arc<dyn Peer> = Arc::new(LocalPeer::new(&home.site, other.terms.here()));
    let sites: Vec<(PeerSite, Arc<dyn Peer>)> = vec![(home.terms.clone(), peer)];
    other.site.federation().meet(sites).await.expect("they meet");
    other
}

async fn follow_from_scratch(directory: &Path, statements: usize) {
    let home = filled(directory, statements).await;
    let other = met(directory, "scratch", &home).await;
    let (start, cpu) = (now(), worked(""));
    let looked = other
        .site
        .federation()
        .look(home.site.id())
        .await
        .expect("it is followed");
    let (time, cpu) = (start.elapsed().as_secs_f64(), (worked("") - cpu) as f64 / 1e9);
    let each = looked.new as f64;
    row(
        &format!("{} entries followed from scratch", looked.new),
        &format!("{:.0} /s per core", each / cpu),
        &format!(
            "{:.0} /s, every signature verified, serving included; goal 6,000",
            each / time
        ),
    );
    hashes_alone(&home).await;
}

/// What the same entries cost without signatures, rules and rows: leaves, tree, commitments.
async fn hashes_alone(home: &Home) {
    let ledger = home.site.ledger();
    let signed = ledger.checkpoint();
    let tree = signed.checkpoint();
    let (mut bundles, mut packs) = (Vec::new(), Vec::new());
    for index in 0..tree.size.div_ceil(256) {
        let path = TilePath::in_tree(TileKind::Entries, index, tree.size).expect("it is in the tree");
        bundles.push((path, ledger.tile(1, &path).await.expect("a bundle")));
        let (path, _) = PackPath::of(&Stream::open(), index * 256);
        packs.push(ledger.pack(1, &path).await.expect("a pack"));
    }
    let start = now();
    let mut leaves: Vec<Leaf> = Vec::new();
    for (path, bytes) in &bundles {
        leaves.extend(bundle::decode(path, bytes).expect("it is well"));
    }
    let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
    let grown = Edge::default().grow(&hashes).expect("it grows");
    assert_eq!(grown.root, tree.root);
    let mut open = leaves
        .iter()
        .filter(|leaf| matches!(leaf.class, Class::Open | Class::Admin));
    for pack in packs.iter().flatten() {
        let pack = Pack::decode(pack).expect("it is well");
        for slot in 0..pack.len() {
            let opened = pack.slot(slot).expect("nothing is erased");
            let commitment = Commitment::to(&tree.origin, &opened.salt, &opened.opening);
            assert_eq!(Some(commitment), open.next().map(|leaf| leaf.commitment));
        }
    }
    let rate = tree.size as f64 / start.elapsed().as_secs_f64();
    row(
        "the same, hashes and commitments alone, one core",
        &format!("{rate:.0} /s"),
        "goal 100,000",
    );
}

/// A file in pieces.
struct File {
    bytes: Vec<u8>,
    recipe: Recipe,
}

impl File {
    fn new(bytes: Vec<u8>) -> Self {
        let path: FilePath = "w.bin".parse().expect("a path");
        let mut plan = ChunkPlan::for_file(&path, Some(bytes.len() as u64));
        let (mut at, mut lengths) = (0, Vec::new());
        while let Some(length) = plan.next_len(&bytes[at..], true).expect("it is cut") {
            lengths.push(length);
            at += length;
        }
        let mut builder = RecipeBuilder::new(plan.planner());
        let mut rest = bytes.as_slice();
        for length in lengths {
            let (chunk, behind) = rest.split_at(length);
            builder
                .push_chunk(ChunkDigest::of(chunk), length)
                .expect("it fits");
            rest = behind;
        }
        Self {
            recipe: builder.finish(),
            bytes,
        }
    }

    fn content(&self) -> Content {
        Content {
            sha256: Sha256::of(&self.bytes),
            size: self.bytes.len() as u64,
            planner: self.recipe.planner(),
            recipe: self.recipe.digest(),
        }
    }
}

/// What a turn costs when so many releases stand as they were left.
async fn looked_at_again(directory: &Path, releases: usize) {
    let home = Home::open(directory, "many", Arc::new(MemoryStore::new()), vec![]).await;
    let other = met(directory, "agrees", &home).await;
    let (weights, config) = (File::new(vec![1; 1000]), File::new(b"{}".to_vec()));
    for file in [&weights, &config] {
        let key = Key::recipe(&file.recipe.digest());
        let kept = home.store.put_if_absent(&key, file.recipe.canonical().into());
        kept.await.expect("memory has room");
    }
    let mut batch = Vec::new();
    for number in 0..releases {
        let artifact = home.artifact(&format!("m{number}"));
        // The other site is in no place where these may be: it notes that, once, and nothing moves.
        let labelled = label(home.namespace, &artifact, &Chain::default(), "NO");
        let chain = Chain::default().then(labelled.digest());
        let release = Release {
            namespace: home.namespace,
            link: chain.next(),
            kind: Kind::Model,
            config: config.content(),
            content: vec![weights.content()],
        };
        let manifest = Sha256::of(&number.to_be_bytes());
        batch.push(labelled);
        batch.push(sign(
            Subject::Manifest(artifact, manifest),
            Predicate::Release(release),
        ));
        if batch.len() >= BATCH || number + 1 == releases {
            home.site
                .ledger()
                .append(std::mem::take(&mut batch))
                .await
                .expect("they follow");
        }
    }
    let federation = other.site.federation();
    federation.look(home.site.id()).await.expect("it is followed");
    let refused = federation
        .mirror(home.site.id())
        .await
        .expect("they are refused")
        .refused;
    let start = now();
    let again = federation.mirror(home.site.id()).await.expect("nothing is left");
    assert_eq!((again.refused, again.failed), (0, 0));
    let time = start.elapsed().as_secs_f64();
    row(
        &format!("a turn in which {refused} releases stand as they were left"),
        &format!("{:.2} ms", time * 1e3),
        "only what has changed is looked at",
    );
}

/// Publishes one file of so many bytes that repeat nowhere.
async fn push(home: &Home, bytes: usize) {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let path: FilePath = "w.bin".parse().expect("a path");
    let weights = File::new(noise);
    let about = ManifestBuilder::new(Kind::Model, About::default());
    let built = about.file(path, weights.content().sha256, bytes as u64).build();
    let built = built.expect("a manifest");
    let config = File::new(built.config);
    let (artifact, manifest) = (home.artifact("large"), built.manifest.digest());
    let (uploads, owner) = (home.site.uploads(), &home.admin.token().expect("a token").id);
    let id = uploads
        .open(owner, artifact.clone(), manifest)
        .await
        .expect("it opens");
    let files: Vec<FileRecipe> = [&weights, &config]
        .map(|file| FileRecipe {
            sha256: file.content().sha256,
            recipe: file.recipe.canonical().into(),
        })
        .into();
    uploads
        .plan(&home.admin, &id, &files)
        .await
        .expect("it is planned");
    for (file, sent) in [&weights, &config].into_iter().zip(&files) {
        let mut at = 0;
        for piece in file.recipe.pieces() {
            let raw = &file.bytes[at..at + piece.length as usize];
            let stored = encode(raw).expect("it is encoded").stored().to_vec();
            uploads
                .receive(&id, piece.chunk, stored.into())
                .await
                .expect("it is taken");
            at += raw.len();
        }
        let sealed = uploads.seal(&home.admin, &id, &sent.sha256, &sent.recipe.0);
        sealed.await.expect("it is whole");
    }
    let release = Release {
        namespace: home.namespace,
        link: Chain::default().next(),
        kind: Kind::Model,
        config: config.content(),
        content: vec![weights.content()],
    };
    let subject = Subject::Manifest(artifact.clone(), manifest);
    let released = sign(subject, Predicate::Release(release));
    let labelled = label(
        home.namespace,
        &artifact,
        &Chain::default().then(released.digest()),
        "DE",
    );
    let envelopes = [released.bytes().to_vec(), labelled.bytes().to_vec()];
    let (intake, bytes) = (home.site.intake(), built.manifest.into_bytes());
    let published = intake.publish(&home.admin, &id, &bytes, &envelopes);
    published.await.expect("it is published");
}

/// How fast bytes come to a mirror, beside what loopback carries.
async fn mirrored(directory: &Path, mib: usize) {
    let bytes = mib << 20;
    let link = network::loopback(bytes.max(1 << 30)).await;
    let mut home = Home::open(directory, "large", fs(directory, "large"), vec![]).await;
    let mut other = Home::open(
        directory,
        "copy",
        fs(directory, "copy"),
        vec![everything_of("large")],
    )
    .await;
    home.serve().await;
    other.serve().await;
    join(&[&home, &other]).await;
    push(&home, bytes).await;
    let federation = other.site.federation();
    federation.look(home.site.id()).await.expect("it is followed");
    let (start, cpu) = (now(), worked(""));
    let came = federation.mirror(home.site.id()).await.expect("it is mirrored");
    assert_eq!((came.fetched, came.failed), (1, 0));
    let (time, cpu) = (start.elapsed().as_secs_f64(), (worked("") - cpu) as f64 / 1e9);
    let rate = bytes as f64 / time;
    row("loopback, one connection", &format!("{:.2} GB/s", link / 1e9), "");
    row(
        &format!("{mib} MiB mirrored, verified and synced"),
        &format!("{:.2} GB/s", rate / 1e9),
        &format!(
            "{:.2} of loopback, {:.1} CPU s/GB at both ends; goal 0.8",
            rate / link,
            cpu * 1e9 / bytes as f64
        ),
    );
}

/// What followers cost a site while nothing happens. Sites open and serve on threads of their own, to be told apart.
fn idle(directory: &Path) {
    let (asked, asking) = (runtime("asked"), runtime("asking"));
    let home = asked.block_on(async {
        let mut home = Home::open(directory, "idle", fs(directory, "idle"), vec![]).await;
        home.serve().await;
        home
    });
    let others: Vec<Home> = asking.block_on(async {
        let mut others = Vec::new();
        for number in 0..FOLLOWERS {
            let name = format!("peer{number}");
            let mut other = Home::open(directory, &name, fs(directory, &name), vec![]).await;
            other.serve().await;
            others.push(other);
        }
        others
    });
    let spent = asked.block_on(async {
        let terms: Vec<PeerSite> = others.iter().map(|other| other.terms.clone()).collect();
        home.site.join(terms).await.expect("they meet");
        for other in &others {
            let (other, terms) = (Arc::clone(&other.site), vec![home.terms.clone()]);
            asking.spawn(async move {
                other.join(terms).await.expect("they meet");
                Arc::clone(other.federation()).run().await;
            });
        }
        // All have followed what there is.
        wait(IDLE / 2).await;
        let before = worked("asked");
        wait(IDLE).await;
        worked("asked") - before
    });
    let share = spent as f64 / IDLE.as_nanos() as f64;
    row(
        &format!(
            "a site with {FOLLOWERS} followers, nothing new, {} s",
            IDLE.as_secs()
        ),
        &format!("{:.2} % of a core", share * 100.0),
        "goal 10 %",
    );
    asking.shutdown_background();
    asked.shutdown_background();
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let published = number("WAAG_BENCH_PUBLISHED", 60);
    let main = runtime("bench");
    main.block_on(async {
        publish_to_verified(path, published, false).await;
        publish_to_verified(path, published, true).await;
        follow_from_scratch(path, number("WAAG_BENCH_STATEMENTS", 20_000)).await;
        looked_at_again(path, number("WAAG_BENCH_RELEASES", 2_000)).await;
        mirrored(path, number("WAAG_BENCH_MIB", 256)).await;
    });
    main.shutdown_background();
    compared::compared(path, number("WAAG_BENCH_COMPARED", 1_000_000));
    idle(path);
}
