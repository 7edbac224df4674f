//! A release that was published is weighed, and the site says what it found.

use std::sync::Arc;

use waag_registry::evaluation::{Computer, PRECISION, Weighing, engine};
use waag_registry::store::{Key, MemoryStore, Store as _};
use waag_schema::Sha256;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::scorecard::{Amount, Scorecard};
use waag_schema::statement::{Predicate, Statement, Subject, Visibility};
use waag_schema::wire::artifact::Scorecards;

use crate::world::{Draft, File, Publisher, World, noise};

/// A safetensors file of one BF16 tensor of 2 x 512 of these words, and one of 3 integers.
fn model() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"BF16","shape":[2,512],"data_offsets":[0,2048]},"b":{"dtype":"I64","shape":[3],"data_offsets":[2048,2072]},"c":{"dtype":"F32","shape":[0],"data_offsets":[2072,2072]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    for at in 0..1024_u16 {
        // 1.0 and -0.5 by turns, with one that is not a number.
        let word: u16 = match at {
            7 => 0x7fc0,
            even if even % 2 == 0 => 0x3f80,
            _ => 0xbf00,
        };
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[1; 24]);
    bytes
}

async fn scorecards(world: &World, draft: &Draft) -> Scorecards {
    let catalogue = world.site.catalogue();
    catalogue.scorecards(&world.admin, &draft.artifact).await.unwrap()
}

async fn pushed(world: &World) -> (Publisher, Draft) {
    let acme = Publisher::begin(world, "acme", 7, Visibility::Private).await;
    let files = vec![
        File::new("model.safetensors", model()),
        File::new("notes.txt", b"x".to_vec()),
    ];
    let (draft, _) = acme.push(world, "acme/tiny", "1.0", files).await;
    (acme, draft)
}

#[tokio::test]
async fn a_release_is_weighed_once_and_the_statement_is_proven() {
    let world = World::new().await;
    let (_, draft) = pushed(&world).await;
    assert_eq!(scorecards(&world, &draft).await.scorecards, []);

    world.site.weigh_all().await.unwrap();
    world.site.weigh_all().await.unwrap();
    let found = scorecards(&world, &draft).await;
    let [view] = found.scorecards.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(view.manifest, draft.digest);
    assert_eq!(found.weighing, []);
    let weights = view.scorecard.section("weights").unwrap();
    for (metric, value) in [
        ("parameters", Amount::Count(1027)),
        ("parameters.bf16", Amount::Count(1024)),
        ("tensors", Amount::Count(3)),
        ("nan", Amount::Count(1)),
        ("minimum", Amount::Real(-0.5)),
        ("maximum", Amount::Real(1.0)),
        // 512 ones, 511 halves.
        ("l2_norm", Amount::Real(639.75_f64.sqrt())),
        ("skipped_groups", Amount::Count(1)),
    ] {
        assert_eq!(weights.result(metric), Some(value), "{metric}");
    }
    assert!(view.scorecard.section("language").unwrap().not_measured.is_some());

    // What is proven is that statement, signed by the site, to nobody but who may read the namespace.
    let entry = &found.proof.unwrap().entries[0];
    let envelope = waag_schema::statement::Envelope::parse(entry.opening.envelope()).unwrap();
    let statement = Statement::parse(envelope.payload()).unwrap();
    assert_eq!(statement.predicate, Predicate::Scorecard(view.scorecard.clone()));
    let stranger = waag_registry::access::Caller::anonymous();
    let hidden = world
        .site
        .catalogue()
        .scorecards(&stranger, &draft.artifact)
        .await;
    assert!(hidden.is_err());

    // The details are stored under the digest that the statement names, and are what anybody finds in the file.
    let named = view.scorecard.details.clone().unwrap();
    let details = world.store.get(&Key::scorecard(&named.sha256)).await.unwrap();
    let mut weighing = Weighing::new();
    weighing.begin("model.safetensors", model().len() as u64);
    for piece in model().chunks(7) {
        weighing.take(piece).unwrap();
    }
    weighing.end().unwrap();
    assert_eq!(weighing.finish("nothing").details, details);
    assert_eq!(Sha256::of(&details), named.sha256);
}

#[tokio::test]
async fn a_scorecard_survives_a_refold_of_the_index() {
    let world = World::new().await;
    let (_, draft) = pushed(&world).await;
    world.site.weigh_all().await.unwrap();
    let before = world.index().await;
    let world = world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(world.index().await, before);
    world.site.weigh_all().await.unwrap();
    assert_eq!(scorecards(&world, &draft).await.scorecards.len(), 1);
}

#[tokio::test]
async fn what_its_label_keeps_from_being_evaluated_is_not_read() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let files = vec![File::new("model.safetensors", model())];
    let chain = acme.chain(&world, &"acme/tiny".parse().unwrap()).await;
    let draft = acme.draft("acme/tiny", chain, files);
    let (id, _) = crate::world::send(&world, &world.admin, &draft).await;
    let label = Label::from_cli(&["*".parse().unwrap()], &[], &[Action::Evaluate]).unwrap();
    let envelopes = acme.statements(&draft, Some(label), "1.0", None);
    let intake = world.site.intake();
    intake
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await
        .unwrap();
    world.site.weigh_all().await.unwrap();
    assert_eq!(scorecards(&world, &draft).await.scorecards, []);
}

#[tokio::test]
async fn a_release_without_weights_says_so() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let files = vec![File::new("notes.txt", noise(1, 100))];
    let (draft, _) = acme.push(&world, "acme/notes", "1.0", files).await;
    world.site.weigh_all().await.unwrap();
    let found = scorecards(&world, &draft).await.scorecards.remove(0);
    let reason = found.scorecard.section("weights").unwrap().not_measured.clone();
    assert_eq!(reason.as_deref(), Some("the release has no safetensors file"));
    assert_eq!(found.scorecard.details, None);
}

#[tokio::test]
async fn a_chunk_that_is_damaged_fails_the_weighing_and_signs_nothing() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(store.clone()).await;
    let (_, draft) = pushed(&world).await;
    let size = world.site.ledger().checkpoint().checkpoint().size;
    let (chunk, _) = draft.files[0].chunks().pop().unwrap();
    store.delete(&Key::chunk(&chunk)).await.unwrap();
    world.site.weigh_all().await.unwrap();
    assert_eq!(scorecards(&world, &draft).await.scorecards, []);
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, size);
    let text = world.site.metrics().render();
    assert!(text.contains("waag_weigh_failures_total 3"), "{text}");
}

#[tokio::test]
async fn a_publisher_cannot_say_what_only_a_site_may() {
    let world = World::new().await;
    let (acme, draft) = pushed(&world).await;
    let scorecard = Scorecard {
        at: crate::world::MIDNIGHT,
        harness: engine(),
        device: Computer::processor(None).device(),
        precision: PRECISION.to_owned(),
        suite: None,
        sections: Weighing::new().finish("nothing was read").sections,
        details: None,
    };
    let subject = Subject::Manifest(draft.artifact.clone(), draft.digest);
    let envelope = acme
        .sign(subject, Predicate::Scorecard(scorecard))
        .bytes()
        .to_vec();
    let intake = world.site.intake();
    let refused = intake
        .statements(&world.admin, &draft.artifact, &[envelope])
        .await;
    assert!(refused.is_err());
    assert_eq!(scorecards(&world, &draft).await.scorecards, []);
}
