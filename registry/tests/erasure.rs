//! Erasure: what is blanked is found nowhere any more, and the ledger still holds.

use std::path::Path;
use std::sync::Arc;

use waag_registry::fsck::{Mode, fsck};
use waag_registry::publish::PublishError;
use waag_registry::store::{FsStore, Key, Store};
use waag_schema::ledger::Pack;
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::{Predicate, Subject, Visibility};

use crate::world::{File, Publisher, World, noise};

const CANARY: &str = "a-canary-that-sings-only-here";

/// Says whether any file below here holds these bytes, as they are or in base64 at any of its three alignments.
fn holds(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut needles = vec![bytes.to_vec()];
    for skipped in 0..3 {
        // The middle of the base64 text does not depend on what stands before and behind.
        let text = data_encoding::BASE64_NOPAD.encode(&bytes[skipped..]);
        needles.push(text.as_bytes()[..text.len() - 4].to_vec());
    }
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let content = std::fs::read(&path).unwrap();
            if needles.iter().any(|n| content.windows(n.len()).any(|w| w == n)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn an_erased_opening_and_its_salt_are_found_nowhere_and_the_ledger_still_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let (data, store_path) = (directory.path().join("data"), directory.path().join("store"));
    let store = Arc::new(FsStore::open(&store_path).unwrap());
    let world = World::at(&data, store.clone()).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (draft, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("w.bin", noise(1, 1000))],
        )
        .await;
    let link = acme.chain(&world, &draft.artifact).await.next();
    let withdrawal = Withdrawal {
        namespace: acme.namespace,
        link,
        reason: CANARY.to_owned(),
        erase: false,
    };
    let subject = Subject::Manifest(draft.artifact.clone(), draft.digest);
    let envelope = acme
        .sign(subject, Predicate::Withdrawal(withdrawal))
        .bytes()
        .to_vec();
    world
        .site
        .intake()
        .statements(&world.admin, &draft.artifact, &[envelope])
        .await
        .unwrap();

    let key = store
        .list(&Key::pack_prefix(1), None, 10)
        .await
        .unwrap()
        .remove(0);
    let pack = Pack::decode(&store.read_cell(&key).await.unwrap().unwrap().bytes).unwrap();
    let salt = *pack.slot(3).unwrap().salt.as_bytes();
    assert!(
        !holds(directory.path(), CANARY.as_bytes()).is_empty() && !holds(directory.path(), &salt).is_empty()
    );

    let proof = world
        .site
        .intake()
        .erase(&world.admin, 3, "court-order")
        .await
        .unwrap();
    assert_eq!(proof.entries[0].index, 5);
    assert_eq!(holds(directory.path(), CANARY.as_bytes()), [""; 0]);
    assert_eq!(holds(directory.path(), &salt), [""; 0]);
    assert!(matches!(
        world.site.catalogue().entry(&world.admin, 3).await,
        Err(PublishError::NotFound(_))
    ));
    let again = world.site.intake().erase(&world.admin, 3, "court-order").await;
    assert!(again.is_err(), "there is nothing left to erase");

    // Everything else is still proven, and the next statement follows.
    world.site.catalogue().entry(&world.admin, 1).await.unwrap();
    acme.push(
        &world,
        "acme/other",
        "1.0",
        vec![File::new("o.bin", noise(2, 10))],
    )
    .await;
    let before = world.index().await;
    world.stop().await;
    waag_registry::index::Index::remove(&data.join("index.db"));
    let world = World::at(&data, store.clone()).await;
    assert_eq!(world.index().await, before);
    world.stop().await;
    let report = fsck(&data, store, Mode::Check).await.unwrap();
    assert_eq!((report.findings.as_slice(), report.erased), (&[][..], 1));
}

#[tokio::test]
async fn only_an_admin_erases_and_only_on_a_ground() {
    let world = World::new().await;
    Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let nobody = waag_registry::access::Caller::anonymous();
    assert!(matches!(
        world.site.intake().erase(&nobody, 0, "test").await,
        Err(PublishError::NotAdmin(_))
    ));
    assert!(
        world
            .site
            .intake()
            .erase(&world.admin, 0, "Somebody's name!")
            .await
            .is_err()
    );
    assert!(world.site.intake().erase(&world.admin, 99, "test").await.is_err());
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 1);
}

#[tokio::test]
async fn the_revocation_list_is_renewed_when_it_is_old() {
    let world = World::new().await;
    assert!(
        !world.site.renew_revocations(60).await.unwrap(),
        "an empty ledger says nothing"
    );
    Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    assert!(world.site.renew_revocations(60).await.unwrap());
    assert!(!world.site.renew_revocations(60).await.unwrap());
    world.clock.advance(60);
    assert!(world.site.renew_revocations(60).await.unwrap());
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 3);
}

#[tokio::test]
async fn what_others_rest_on_is_not_erased_and_what_never_was_is_not_called_erased() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    acme.push(
        &world,
        "acme/tiny",
        "1.0",
        vec![File::new("w.bin", noise(1, 1000))],
    )
    .await;
    let intake = world.site.intake();
    let refused = intake.erase(&world.admin, 0, "gdpr-17").await.unwrap_err();
    assert!(
        refused.to_string().contains("all its artifacts rest"),
        "{refused}"
    );
    let unknown = intake.erase(&world.admin, 9999, "gdpr-17").await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no entry 9999");
}
