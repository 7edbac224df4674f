//! One key never signs two histories: a store that was rolled back, exchanged or restored is noticed at the start.

use std::sync::Arc;

use waag_registry::SiteError;
use waag_registry::ledger::{AppendError, Restored};
use waag_registry::store::{FsStore, MemoryStore, Store};
use waag_registry::vault::VaultError;
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
