//! The conformance suite: one set of promises, run over every store.

use std::sync::Arc;

use bytes::Bytes;
use waag_registry::store::{FsStore, Key, MemoryStore, Put, Store, StoreError, Swap};
use waag_schema::{ChunkDigest, Sha256};

fn chunk(n: u8) -> Key {
    Key::chunk(&ChunkDigest::of(&[n]))
}

fn incoming(n: u8) -> Key {
    Key::incoming(&Sha256::of(b"upload"), &ChunkDigest::of(&[n]))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs one promise over each store.
macro_rules! every_store {
    ($($name:ident: |$store:ident| $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn promise($store: Arc<dyn Store>) $body

            #[tokio::test]
            async fn in_memory() {
                promise(Arc::new(MemoryStore::new())).await;
            }

            #[tokio::test]
            async fn on_disk() {
                let directory = tempfile::tempdir().unwrap();
                promise(Arc::new(FsStore::open(directory.path()).unwrap())).await;
            }
        }
    )*};
}

every_store! {
    an_object_is_created_once: |store| {
        assert_eq!(store.put_if_absent(&chunk(1), bytes("one")).await.unwrap(), Put::Created);
        assert_eq!(store.put_if_absent(&chunk(1), bytes("two")).await.unwrap(), Put::Existed);
        assert_eq!(store.get(&chunk(1)).await.unwrap(), bytes("one"));
        assert_eq!(store.head(&chunk(1)).await.unwrap(), Some(3));
    }

    of_many_creators_one_wins: |store| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.put_if_absent(&chunk(9), Bytes::from(vec![n; 100])).await.unwrap() })
            })
            .collect();
        let mut created = 0;
        for one in tries {
            created += usize::from(one.await.unwrap() == Put::Created);
        }
        assert_eq!(created, 1);
    }

    what_is_not_there_is_not_found: |store| {
        assert!(matches!(store.get(&chunk(1)).await, Err(StoreError::NotFound(_))));
        assert_eq!(store.head(&chunk(1)).await.unwrap(), None);
        store.delete(&chunk(1)).await.unwrap();
    }

    a_range_lies_within_its_object: |store| {
        store.put_if_absent(&chunk(1), bytes("0123456789")).await.unwrap();
        assert_eq!(store.get_range(&chunk(1), 2..5).await.unwrap(), bytes("234"));
        assert_eq!(store.get_range(&chunk(1), 10..10).await.unwrap(), bytes(""));
        assert!(store.get_range(&chunk(1), 8..11).await.is_err());
    }

    many_objects_are_created_together_or_must_agree: |store| {
        let all: Vec<(Key, Bytes)> = (0..40).map(|n| (chunk(n), Bytes::from(vec![n; 10]))).collect();
        store.put_all(all.clone()).await.unwrap();
        store.put_all(all).await.unwrap();
        assert_eq!(store.get(&chunk(39)).await.unwrap(), Bytes::from(vec![39; 10]));
        let other = vec![(chunk(3), bytes("other"))];
        assert!(matches!(store.put_all(other).await, Err(StoreError::Conflict(_))));
    }

    a_listing_is_sorted_and_continues: |store| {
        for n in 0..5 {
            store.put_if_absent(&chunk(n), bytes("x")).await.unwrap();
        }
        let all = store.list("chunks/", None, 100).await.unwrap();
        assert!(all.len() == 5 && all.is_sorted());
        let rest = store.list("chunks/", Some(&all[1]), 2).await.unwrap();
        assert_eq!(rest, all[2..4]);
        assert!(store.list("recipes/", None, 100).await.unwrap().is_empty());
    }

    a_cell_changes_by_compare_and_swap_only: |store| {
        let key = Key::checkpoint(1);
        assert_eq!(store.read_cell(&key).await.unwrap(), None);
        let Swap::Swapped(first) = store.swap_cell(&key, None, bytes("a")).await.unwrap() else { panic!() };
        assert_eq!(store.swap_cell(&key, None, bytes("b")).await.unwrap(), Swap::Lost);
        let Swap::Swapped(second) = store.swap_cell(&key, Some(&first), bytes("b")).await.unwrap() else { panic!() };
        assert_eq!(store.swap_cell(&key, Some(&first), bytes("c")).await.unwrap(), Swap::Lost);
        let cell = store.read_cell(&key).await.unwrap().unwrap();
        assert_eq!((cell.bytes, cell.version), (bytes("b"), second));
    }

    of_many_swaps_from_one_version_one_wins: |store| {
        let key = Key::checkpoint(1);
        let Swap::Swapped(first) = store.swap_cell(&key, None, bytes("0")).await.unwrap() else { panic!() };
        let tries: Vec<_> = (1..9)
            .map(|n| {
                let (store, key, first) = (Arc::clone(&store), key.clone(), first.clone());
                tokio::spawn(async move { store.swap_cell(&key, Some(&first), Bytes::from(vec![n])).await.unwrap() })
            })
            .collect();
        let mut won = 0;
        for one in tries {
            won += usize::from(matches!(one.await.unwrap(), Swap::Swapped(_)));
        }
        assert_eq!(won, 1);
    }

    staged_values_become_objects_when_promoted: |store| {
        for n in 0..30 {
            store.stage(&incoming(n), Bytes::from(vec![n; 8])).await.unwrap();
        }
        store.stage(&incoming(0), bytes("again")).await.unwrap();
        store.put_if_absent(&chunk(1), bytes("was here")).await.unwrap();
        store.promote((0..30).map(|n| (incoming(n), chunk(n))).collect()).await.unwrap();
        assert_eq!(store.get(&chunk(0)).await.unwrap(), bytes("again"));
        assert_eq!(store.get(&chunk(1)).await.unwrap(), bytes("was here"));
        assert_eq!(store.get(&incoming(7)).await.unwrap(), Bytes::from(vec![7; 8]));
        assert!(matches!(store.promote(vec![(incoming(99), chunk(99))]).await, Err(StoreError::NotFound(_))));
    }

    what_is_deleted_is_gone: |store| {
        store.put_if_absent(&chunk(1), bytes("x")).await.unwrap();
        store.stage(&incoming(1), bytes("x")).await.unwrap();
        store.delete(&chunk(1)).await.unwrap();
        store.delete(&incoming(1)).await.unwrap();
        assert_eq!(store.head(&chunk(1)).await.unwrap(), None);
        assert!(store.list("incoming/", None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_power_loss_takes_only_what_was_staged() {
    let store = MemoryStore::new();
    store.put_if_absent(&chunk(1), bytes("object")).await.unwrap();
    store.stage(&incoming(2), bytes("staged")).await.unwrap();
    store.lose_power();
    assert!(store.get(&chunk(1)).await.is_ok());
    assert!(matches!(
        store.get(&incoming(2)).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn a_store_without_room_takes_in_no_content_but_goes_on() {
    let store = MemoryStore::new();
    assert!(store.has_room().await.unwrap());
    store.fill_up();
    assert!(!store.has_room().await.unwrap());
    let refused = store.stage(&incoming(1), bytes("x")).await;
    assert!(matches!(refused, Err(StoreError::Full(_))));
    store.put_if_absent(&chunk(1), bytes("x")).await.unwrap();
}

#[tokio::test]
async fn the_directory_of_an_upload_goes_with_its_last_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = FsStore::open(directory.path()).unwrap();
    let sealed = Key::sealed(&Sha256::of(b"upload"), &Sha256::of(b"file"));
    store.stage(&incoming(1), bytes("x")).await.unwrap();
    store.stage(&incoming(2), bytes("x")).await.unwrap();
    store.put_if_absent(&sealed, bytes("x")).await.unwrap();
    store.put_if_absent(&chunk(1), bytes("x")).await.unwrap();
    let below = |name: &str| std::fs::read_dir(directory.path().join(name)).unwrap().count();
    store.delete(&incoming(1)).await.unwrap();
    assert_eq!((below("incoming"), below("uploads")), (1, 1));
    store.delete(&incoming(2)).await.unwrap();
    store.delete(&sealed).await.unwrap();
    store.delete(&chunk(1)).await.unwrap();
    assert_eq!((below("incoming"), below("uploads")), (0, 0));
    assert_eq!(below("chunks"), 1, "others keep theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_a_directory_goes_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = FsStore::open(directory.path()).unwrap();
    let sealed = Key::sealed(&Sha256::of(b"upload"), &Sha256::of(b"file"));
    let comings = (0..2).map(|n| {
        let (store, sealed) = (store.clone(), sealed.clone());
        tokio::spawn(async move {
            for _ in 0..100 {
                store.stage(&incoming(n), bytes("x")).await.unwrap();
                assert_eq!(store.get(&incoming(n)).await.unwrap(), bytes("x"));
                store.put_if_absent(&sealed, bytes("x")).await.unwrap();
                store.delete(&incoming(n)).await.unwrap();
                store.delete(&sealed).await.unwrap();
            }
        })
    });
    for coming in comings.collect::<Vec<_>>() {
        coming.await.unwrap();
    }
}

#[tokio::test]
async fn a_reopened_store_forgets_temporary_files_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = FsStore::open(directory.path()).unwrap();
    store.put_if_absent(&chunk(1), bytes("x")).await.unwrap();
    std::fs::write(directory.path().join(".tmp/1-1"), "half").unwrap();
    let store = FsStore::open(directory.path()).unwrap();
    assert_eq!(
        std::fs::read_dir(directory.path().join(".tmp")).unwrap().count(),
        0
    );
    assert_eq!(store.get(&chunk(1)).await.unwrap(), bytes("x"));
}
