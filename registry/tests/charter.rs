//! Adoption of charters: what a crash leaves, what time does, and that each is recorded once.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use waag_registry::access::{Caller, Here};
use waag_registry::federation::{Charters, FederationError, Own};
use waag_registry::store::Key;
use waag_schema::base::json::from_value;
use waag_schema::base::key::KeyPair;
use waag_schema::federation::{Charter, Proposal, SiteTerms, Terms};
use waag_schema::ledger::{KeyKind, Origin, VerifierKey};

use crate::world::World;

const WITNESS: u8 = 9;

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// The keys of the world's site as its charter shall name them.
fn own(world: &World) -> Own {
    let text = std::fs::read_to_string(world.data().join("keys/site")).unwrap();
    let seed = data_encoding::BASE64.decode(text.trim().as_bytes()).unwrap();
    let view = world.site.view();
    let log_key: VerifierKey = view.log_key.parse().unwrap();
    Own {
        log_key: *log_key.key(),
        site_key: Arc::new(KeyPair::from_seed(&seed.try_into().unwrap())),
        witness_key: key(WITNESS).public(),
    }
}

fn charters(world: &World) -> (Charters, Here) {
    let here = Here::new(world.site.id().clone(), Some("DE".parse().unwrap()));
    let charters = Charters::new(
        here.clone(),
        own(world),
        Arc::clone(&world.store),
        world.site.reader().clone(),
        world.site.ledger().clone(),
        world.clock.clone(),
    );
    (charters, here)
}

fn charter(world: &World, before: Option<&Charter>, expires: &str) -> Charter {
    let (own, id) = (own(world), world.site.id().clone());
    let witness = VerifierKey::new(&SiteTerms::witness_name(&id), KeyKind::Witness, own.witness_key).unwrap();
    let terms: Terms = from_value(json!({
        "federation": "example", "version": before.map_or(1, |before| before.version() + 1),
        "previous": before.map(Charter::digest), "expires": expires,
        "root": {"keys": [key(1).public()], "threshold": 1},
        "sites": [{
            "id": id, "name": "here", "jurisdiction": "DE", "url": "https://here.example",
            "ledgers": [{"key": Origin::of(&id, 1).verifier(own.log_key), "ends": null}],
            "site_key": own.site_key.public(), "witness_key": witness, "owns": [], "recovery": [],
        }],
        "witnesses": {"jurisdictions": 0}, "groups": [],
    }))
    .unwrap();
    Charter::try_from(Proposal::sign(&terms, &[&key(1)]).unwrap()).unwrap()
}

fn size(world: &World) -> u64 {
    world.site.ledger().checkpoint().checkpoint().size
}

#[tokio::test]
async fn what_a_crash_left_between_store_and_ledger_is_recorded_at_the_next_start() {
    let world = World::new().await;
    let one = charter(&world, None, "2030-01-01T00:00:00Z");
    let bytes = Bytes::copy_from_slice(one.bytes());
    world.store.put_if_absent(&Key::charter(1), bytes).await.unwrap();
    let (charters, here) = charters(&world);
    assert!(here.adopted.charter().is_none());
    charters.resume().await.unwrap();
    assert_eq!(here.adopted.charter().unwrap().digest(), one.digest());
    let view = charters.view().await.unwrap();
    assert!(view.entry.is_some());
    let after = size(&world);
    charters.resume().await.unwrap();
    charters
        .adopt(&world.admin, &[one.bytes().to_vec()])
        .await
        .unwrap();
    assert_eq!(size(&world), after, "it is recorded once");
    drop(charters);
    world.stop().await;
}

#[tokio::test]
async fn charters_on_the_way_may_have_run_out_and_the_last_may_not() {
    let world = World::new().await;
    let (charters, here) = charters(&world);
    let one = charter(&world, None, "2020-01-01T00:00:00Z");
    let two = charter(&world, Some(&one), "2030-01-01T00:00:00Z");
    let bytes = |charter: &Charter| charter.bytes().to_vec();
    let refused = charters.adopt(&world.admin, &[bytes(&one)]).await.unwrap_err();
    assert!(
        matches!(refused, FederationError::Expired { version: 1, .. }),
        "{refused}"
    );
    assert!(here.adopted.charter().is_none());
    let view = charters
        .adopt(&world.admin, &[bytes(&one), bytes(&two)])
        .await
        .unwrap();
    assert_eq!((view.version, view.expired), (2, None));
    // Both can be read, to step through them.
    assert_eq!(charters.version(1).await.unwrap().sha256, one.digest());
    assert!(matches!(
        charters.version(3).await,
        Err(FederationError::NotFound(_))
    ));
    drop(charters);
    world.stop().await;
}

#[tokio::test]
async fn only_the_operator_adopts_and_something_must_come() {
    let world = World::new().await;
    let (charters, _) = charters(&world);
    let one = charter(&world, None, "2030-01-01T00:00:00Z");
    let refused = charters
        .adopt(&Caller::anonymous(), &[one.bytes().to_vec()])
        .await;
    assert!(matches!(refused, Err(FederationError::NotAdmin)));
    assert!(matches!(
        charters.adopt(&world.admin, &[]).await,
        Err(FederationError::Nothing)
    ));
    assert!(matches!(charters.view().await, Err(FederationError::NotFound(_))));
    assert_eq!(
        world.store.list(Key::charter_prefix(), None, 10).await.unwrap(),
        []
    );
    drop(charters);
    world.stop().await;
}
