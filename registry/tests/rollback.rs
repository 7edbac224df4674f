//! One key never signs two histories: a store that was rolled back, exchanged or restored is noticed at the start.

use std::sync::Arc;

use waag_registry::SiteError;
use waag_registry::ledger::{AppendError, Restored};
use waag_registry::store::{FsStore, Key, MemoryStore, Store};
use waag_registry::vault::VaultError;
use waag_schema::ledger::{TileKind, TilePath};
use waag_schema::statement::Visibility;

use crate::world::{File, Publisher, World, noise};

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn stopped(result: Result<World, SiteError>) -> String {
    match result {
        Err(SiteError::Ledger(AppendError::Stopped(reason))) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("the site started"),
    }
}

#[tokio::test]
async fn a_store_that_was_rolled_back_is_not_signed_over() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let world = World::over(Arc::new(FsStore::open(&live).unwrap())).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    acme.push(&world, "acme/tiny", "1.0", vec![File::new("w.bin", noise(1, 10))])
        .await;
    copy(&live, &directory.path().join("backup"));
    acme.push(&world, "acme/tiny", "1.1", vec![File::new("w.bin", noise(2, 10))])
        .await;
    let backup: Arc<dyn Store> = Arc::new(FsStore::open(&directory.path().join("backup")).unwrap());
    let reason = stopped(world.restart_over(Some(backup), Restored::No, |_| {}).await);
    assert!(
        reason.contains("5 entries were signed, the store holds only 3"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_store_without_its_guard_asks_for_the_operators_word() {
    let world = World::new().await;
    Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let store = Arc::clone(&world.store);
    let reason = stopped(
        world
            .restart(|data| std::fs::remove_file(data.join("guard")).unwrap())
            .await,
    );
    assert!(reason.contains("waag serve --recovered"), "{reason}");
    assert!(
        store
            .read_cell(&waag_registry::store::Key::checkpoint(1))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_restored_store_goes_on_when_the_operator_says_so() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let gone = |data: &std::path::Path| std::fs::remove_file(data.join("guard")).unwrap();
    let world = world.restart_over(None, Restored::Yes, gone).await.unwrap();
    acme.push(&world, "acme/tiny", "1.0", vec![File::new("w.bin", noise(1, 10))])
        .await;
    let world = world.restart(|_| {}).await.unwrap();
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 3);
}

#[tokio::test]
async fn the_store_of_another_site_is_refused() {
    let world = World::new().await;
    Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let foreign = Arc::clone(&world.store);
    let other = World::over(Arc::new(MemoryStore::new())).await;
    // Both worlds make their key from the same seed; another key makes another site.
    let reason = stopped(
        other
            .restart_over(Some(foreign), Restored::No, |data| {
                let key = data.join("keys/log");
                std::fs::write(key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
            })
            .await,
    );
    assert!(reason.contains("put back the key"), "{reason}");
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() {
    let world = World::new().await;
    let parts = waag_registry::site::Collaborators {
        store: Arc::new(MemoryStore::new()),
        clock: world.clock.clone(),
        random: waag_registry::random::Random::from_seed(9),
    };
    let config = waag_registry::config::Config::default();
    let second = waag_registry::Site::open(world.data(), &config, parts, Restored::No).await;
    assert!(matches!(second, Err(SiteError::Vault(VaultError::InUse(_)))));
}

/// Opens a site, copies its store, uses it, and returns it with the copy, which lacks the last entries.
async fn set_back(directory: &std::path::Path) -> (World, Publisher, Arc<dyn Store>) {
    let live = directory.join("live");
    let world = World::over(Arc::new(FsStore::open(&live).unwrap())).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    acme.push(&world, "acme/tiny", "1.0", vec![File::new("w.bin", noise(1, 10))])
        .await;
    copy(&live, &directory.join("backup"));
    acme.push(&world, "acme/tiny", "1.1", vec![File::new("w.bin", noise(2, 10))])
        .await;
    let backup = Arc::new(FsStore::open(&directory.join("backup")).unwrap());
    (world, acme, backup)
}

#[tokio::test]
async fn a_restored_store_that_lacks_what_was_signed_ends_and_a_successor_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (world, acme, backup) = set_back(directory.path()).await;
    let world = world
        .restart_over(Some(Arc::clone(&backup)), Restored::Yes, |_| {})
        .await
        .unwrap();
    let ledger = world.site.ledger();
    assert_eq!(ledger.origin().series(), 2);
    let frozen = ledger.checkpoint_of(1).unwrap();
    assert_eq!(frozen.checkpoint().size, 3);
    assert_eq!(ledger.checkpoint().checkpoint().size, 1);
    let proof = ledger.prove(&[0, 2, 1_000_000_000_000]).await.unwrap();
    assert_eq!((proof.earlier.len(), proof.earlier[0].entries.len()), (1, 2));

    // Chains go on where the restored entries left them, and nothing more is signed in the first series.
    acme.push(&world, "acme/tiny", "1.2", vec![File::new("w.bin", noise(3, 10))])
        .await;
    let rows = world.index().await;
    assert_eq!(world.site.ledger().checkpoint_of(1).unwrap(), frozen);
    let world = world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(world.index().await, rows);
    // An entry of the series that ended is erased by one of the other, in both.
    world.site.ledger().erase(1, "court-order").await.unwrap();
    assert!(matches!(
        world.site.ledger().prove(&[1]).await,
        Err(AppendError::Erased(1))
    ));
    assert!(
        world
            .site
            .ledger()
            .erase(1_000_000_000_000, "court-order")
            .await
            .is_err()
    );
    let rows = world.index().await;
    let world = world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(world.index().await, rows);
}

#[tokio::test]
async fn what_an_operator_says_was_seen_is_not_signed_over() {
    let directory = tempfile::tempdir().unwrap();
    let (world, _, backup) = set_back(directory.path()).await;
    let gone = |data: &std::path::Path| std::fs::remove_file(data.join("guard")).unwrap();
    let world = world
        .restart_over(Some(backup), Restored::Seen(5), gone)
        .await
        .unwrap();
    assert_eq!(world.site.ledger().origin().series(), 2);
    // Said at every start, it is still about the first series; said of the second, a third goes on.
    let world = world.restart_over(None, Restored::Seen(5), |_| {}).await.unwrap();
    assert_eq!(world.site.ledger().origin().series(), 2);
    let seen = Restored::Seen(2_000_000_000_009);
    let world = world.restart_over(None, seen, |_| {}).await.unwrap();
    assert_eq!(world.site.ledger().origin().series(), 4);
    let world = world.restart(|_| {}).await.unwrap();
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 1);
    assert_eq!(world.site.ledger().prove(&[0]).await.unwrap().earlier.len(), 2);
}

#[tokio::test]
async fn a_damaged_entry_bundle_is_noticed_before_it_is_copied_forward() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(store.clone()).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    acme.push(&world, "acme/tiny", "1.0", vec![File::new("w.bin", noise(1, 10))])
        .await;
    let size = world.site.ledger().checkpoint().checkpoint().size;
    let path = TilePath::in_tree(TileKind::Entries, 0, size).unwrap();
    store.damage(&Key::tile(1, &path), 40);
    let reason = stopped(world.restart(|_| {}).await);
    assert!(reason.contains("is not what was hashed"), "{reason}");
}
