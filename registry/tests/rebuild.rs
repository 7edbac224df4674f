//! The index is a fold: delete the file, start again, get the same rows.

use waag_schema::statement::Visibility;

use crate::world::{File, Publisher, World, name, noise};

async fn busy_world() -> World {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let quiet = Publisher::begin(&world, "quiet", 2, Visibility::Private).await;
    for n in 0..4 {
        acme.push(
            &world,
            "acme/tiny",
            &format!("1.{n}"),
            vec![File::new("w.bin", noise(n, 200_000))],
        )
        .await;
        quiet
            .push(
                &world,
                "quiet/model",
                &format!("2.{n}"),
                vec![File::new("q.bin", noise(n, 70_000))],
            )
            .await;
    }
    world
}

#[tokio::test]
async fn a_deleted_index_comes_back_with_the_same_rows() {
    let world = busy_world().await;
    let before = world.index().await;
    assert!(before.contains("acme/tiny") && before.contains("quiet/model"));
    let world = world
        .restart(|data| {
            for file in ["index.db", "index.db-wal", "index.db-shm"] {
                let _ = std::fs::remove_file(data.join(file));
            }
        })
        .await
        .unwrap();
    assert_eq!(world.index().await, before);
}

#[tokio::test]
async fn a_damaged_index_is_replaced() {
    let world = busy_world().await;
    let before = world.index().await;
    let world = world
        .restart(|data| {
            let _ = std::fs::remove_file(data.join("index.db-wal"));
            std::fs::write(data.join("index.db"), b"not a database").unwrap();
        })
        .await
        .unwrap();
    assert_eq!(world.index().await, before);
}

#[tokio::test]
async fn an_ordinary_restart_keeps_everything_and_goes_on() {
    let world = busy_world().await;
    let (before, size) = (
        world.index().await,
        world.site.ledger().checkpoint().checkpoint().size,
    );
    let world = world.restart(|_| {}).await.unwrap();
    assert_eq!(world.index().await, before);
    let other = Publisher::begin(&world, "other", 3, Visibility::Public).await;
    other
        .push(&world, "other/m", "1.0", vec![File::new("m.bin", noise(1, 10))])
        .await;
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, size + 3);
    assert!(
        world
            .site
            .catalogue()
            .artifact(&world.admin, &name("other/m"))
            .await
            .unwrap()
            .chain
            .counter
            == 2
    );
}

#[tokio::test]
async fn an_index_is_not_folded_around_a_damaged_or_missing_pack() {
    use std::sync::Arc;

    use waag_registry::SiteError;
    use waag_registry::index::Index;
    use waag_registry::ledger::AppendError;
    use waag_registry::store::FsStore;

    for damage in ["flip", "remove"] {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let world = World::over(Arc::new(FsStore::open(&store).unwrap())).await;
        let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
        acme.push(&world, "acme/tiny", "1.0", vec![File::new("w.bin", noise(1, 10))])
            .await;
        let pack = store.join("ledger/1/body/open/000");
        let opened = world
            .restart(|data| {
                Index::remove(&data.join("index.db"));
                if damage == "remove" {
                    std::fs::remove_file(&pack).unwrap();
                } else {
                    // Within an envelope's base64, so that the pack can still be read.
                    let mut bytes = std::fs::read(&pack).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
                    std::fs::write(&pack, bytes).unwrap();
                }
            })
            .await;
        match opened {
            Err(SiteError::Ledger(AppendError::Stopped(reason))) => {
                assert!(reason.contains("fsck"), "{damage}: {reason}");
            }
            Err(other) => panic!("{damage}: {other}"),
            Ok(_) => panic!("{damage}: the site started without what its ledger says"),
        }
    }
}
