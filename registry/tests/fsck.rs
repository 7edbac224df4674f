//! Every kind of damage is found and named; what can be derived is put right, and only that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waag_registry::fsck::{Mode, Report, fsck};
use waag_registry::store::FsStore;
use waag_schema::statement::Visibility;

use crate::world::{File, Publisher, World, noise};

/// A stopped site on disk with some releases, and its two directories.
struct Stopped {
    _directory: tempfile::TempDir,
    data: PathBuf,
    store: PathBuf,
}

async fn stopped() -> Stopped {
    let directory = tempfile::tempdir().unwrap();
    let (data, store) = (directory.path().join("data"), directory.path().join("store"));
    let world = World::at(&data, Arc::new(FsStore::open(&store).unwrap())).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    for n in 0..3 {
        acme.push(
            &world,
            "acme/tiny",
            &format!("1.{n}"),
            vec![File::new("w.bin", noise(n, 300_000))],
        )
        .await;
    }
    world.stop().await;
    Stopped {
        _directory: directory,
        data,
        store,
    }
}

impl Stopped {
    async fn check(&self, mode: Mode) -> Report {
        fsck(&self.data, Arc::new(FsStore::open(&self.store).unwrap()), mode)
            .await
            .unwrap()
    }

    /// The first file under a part of the store, in order of name.
    fn first(&self, part: &str) -> PathBuf {
        fn walk(path: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.store.join(part), &mut found);
        found.sort();
        found.swap_remove(0)
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_whole_site_has_no_findings() {
    let report = stopped().await.check(Mode::Check).await;
    assert_eq!(report.findings, []);
    assert_eq!((report.entries, report.statements, report.manifests), (7, 7, 3));
    assert!(report.chunks >= 6 && report.chunk_bytes > 900_000);
}

#[tokio::test]
async fn a_scorecard_whose_details_are_damaged_or_gone_is_named() {
    for damage in [flip as fn(&Path), |path| std::fs::remove_file(path).unwrap()] {
        let site = stopped().await;
        let world = World::at(&site.data, Arc::new(FsStore::open(&site.store).unwrap())).await;
        let acme = Publisher::begin(&world, "umbra", 2, Visibility::Private).await;
        let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        let mut model = (header.len() as u64).to_le_bytes().to_vec();
        model.extend_from_slice(header.as_bytes());
        model.extend_from_slice(&[1, 2, 3, 4]);
        let files = vec![File::new("model.safetensors", model)];
        acme.push(&world, "umbra/tiny", "1.0", files).await;
        world.site.weigh_all().await.unwrap();
        world.stop().await;
        let whole = site.check(Mode::Check).await;
        assert_eq!((whole.findings, whole.details), (Vec::new(), 1));
        let details = site.first("scorecards");
        damage(&details);
        let report = site.check(Mode::Repair).await;
        let [finding] = report.findings.as_slice() else {
            panic!("{:?}", report.findings)
        };
        assert!(
            finding.object.starts_with("scorecards/") && !report.is_whole(),
            "{finding}"
        );
    }
}

#[tokio::test]
async fn every_damaged_object_is_named() {
    for (part, says) in [
        ("chunks", "chunks/"),
        ("recipes", "recipes/"),
        ("manifests", "manifests/"),
        ("ledger/1/tile/0", "ledger/1/tile/0"),
        ("ledger/1/tile/entries", "ledger/1/tile/entries"),
        ("ledger/1/body", "ledger/1/body"),
        ("ledger/1/checkpoint", "ledger/1/checkpoint"),
    ] {
        let site = stopped().await;
        let path = if part.ends_with("checkpoint") {
            site.store.join(part)
        } else {
            site.first(part)
        };
        // Only the newest partial tile is part of the tree that is checked.
        let path = newest_partial(path);
        flip(&path);
        let report = site.check(Mode::Check).await;
        let named = report
            .findings
            .iter()
            .any(|f| f.object.contains(says) || f.object.starts_with("entry"));
        assert!(named && !report.is_whole(), "{part}: {:?}", report.findings);
    }
}

/// Of the partial tiles of one place, the widest.
fn newest_partial(path: PathBuf) -> PathBuf {
    let parent = path.parent().unwrap();
    if !parent.to_string_lossy().ends_with(".p") {
        return path;
    }
    let width = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().parse::<u32>().unwrap();
    std::fs::read_dir(parent)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max_by_key(width)
        .unwrap()
}

#[tokio::test]
async fn missing_objects_are_named() {
    for part in ["chunks", "recipes", "manifests"] {
        let site = stopped().await;
        std::fs::remove_file(site.first(part)).unwrap();
        let report = site.check(Mode::Check).await;
        assert!(
            report
                .findings
                .iter()
                .any(|f| f.object.starts_with(part) && f.problem.contains("missing")),
            "{part}"
        );
    }
}

#[tokio::test]
async fn what_can_be_derived_is_repaired() {
    let site = stopped().await;
    flip(&newest_partial(site.first("ledger/1/tile/0")));
    let report = site.check(Mode::Repair).await;
    assert!(
        report.is_whole() && report.findings.len() == 1,
        "{:?}",
        report.findings
    );
    assert_eq!(site.check(Mode::Check).await.findings, []);
}

#[tokio::test]
async fn an_index_edited_by_hand_is_noticed_and_folded_anew() {
    let site = stopped().await;
    let index = rusqlite::Connection::open(site.data.join("index.db")).unwrap();
    index
        .execute("UPDATE tag SET tag = 'forged' WHERE tag = '1.0'", [])
        .unwrap();
    drop(index);
    let report = site.check(Mode::Repair).await;
    assert!(
        report.findings.iter().any(|f| f.object == "index" && f.repaired),
        "{:?}",
        report.findings
    );
    let world = World::at(&site.data, Arc::new(FsStore::open(&site.store).unwrap())).await;
    assert!(!world.index().await.contains("forged"));
}

#[tokio::test]
async fn a_damaged_chunk_is_healed_by_the_next_push() {
    let site = stopped().await;
    flip(&site.first("chunks"));
    assert!(!site.check(Mode::Repair).await.is_whole());
    let world = World::at(&site.data, Arc::new(FsStore::open(&site.store).unwrap())).await;
    let acme = Publisher::known(&world, "acme", 1).await;
    for n in 0..3 {
        acme.push(
            &world,
            &format!("acme/again{n}"),
            "1.0",
            vec![File::new("w.bin", noise(n, 300_000))],
        )
        .await;
    }
    world.stop().await;
    assert_eq!(site.check(Mode::Check).await.findings, []);
}
