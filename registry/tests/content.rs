//! Content: what is sent is checked, what is stored is found again, what is not one's own stays hidden.

use std::sync::Arc;

use futures_util::TryStreamExt;
use proptest::prelude::*;
use waag_registry::content::{Content, ContentError};
use waag_registry::pool::Pool;
use waag_registry::store::{Key, MemoryStore, Store};
use waag_schema::content::PlannerId;
use waag_schema::content::chunk::{Encoding, StoredChunk};
use waag_schema::content::recipe::RecipeBuilder;
use waag_schema::policy::Label;
use waag_schema::statement::Visibility;
use waag_schema::wire::token::{Scope, TokenRequest};
use waag_schema::{ChunkDigest, Sha256};

use crate::world::{File, Publisher, World, name, noise, safetensors, send};

#[tokio::test]
async fn a_second_push_of_the_same_files_sends_nothing() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let files = || {
        vec![
            File::new("a.bin", noise(1, 9 << 20)),
            File::new("b.bin", noise(2, 10)),
        ]
    };
    let (_, sent) = acme.push(&world, "acme/tiny", "1.0", files()).await;
    assert!(sent > 9 << 20);
    let (_, again) = acme.push(&world, "acme/copy", "1.0", files()).await;
    assert_eq!(
        again, 0,
        "files and config are readable through the first artifact"
    );
}

#[tokio::test]
async fn a_renamed_tensor_sends_its_header_only() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let weights = |first| safetensors(&[(first, &[2000, 512]), ("x.mlp", &[3000, 512]), ("x.norm", &[512])]);
    let (_, all) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("m.safetensors", weights("x.attn"))],
        )
        .await;
    let renamed = vec![File::new("m.safetensors", weights("renamed.attn"))];
    let (_, sent) = acme.push(&world, "acme/tiny", "1.1", renamed).await;
    assert!(sent > 0 && sent * 100 < all, "{sent} of {all} bytes");
}

#[tokio::test]
async fn bytes_that_are_not_the_chunk_or_the_file_they_claim_are_refused() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft(
        "acme/tiny",
        acme.chain(&world, &name("acme/tiny")).await,
        vec![File::new("a", noise(1, 99))],
    );
    let uploads = world.site.uploads();
    let owner = world.admin.token().unwrap().id.clone();
    let id = uploads
        .open(&owner, draft.artifact.clone(), draft.digest)
        .await
        .unwrap();
    let stored = StoredChunk::raw(b"other bytes").unwrap().to_vec();
    let refused = uploads
        .receive(&id, ChunkDigest::of(b"claimed"), stored.into())
        .await
        .unwrap_err();
    assert!(matches!(refused, ContentError::Chunk { .. }), "{refused}");

    let file = &draft.files[0];
    for (chunk, stored) in file.chunks() {
        uploads.receive(&id, chunk, stored.into()).await.unwrap();
    }
    let claimed = Sha256::of(b"another file");
    let recipe = file.recipe.canonical();
    let refused = uploads
        .seal(&world.admin, &id, &claimed, &recipe)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ContentError::WrongDigest { expected, .. } if expected == claimed),
        "{refused}"
    );
    assert!(
        world.store.list("chunks/", None, 10).await.unwrap().is_empty(),
        "nothing was named"
    );
}

#[tokio::test]
async fn knowing_a_digest_gives_nothing() {
    let world = World::new().await;
    let secret = Publisher::begin(&world, "secret", 1, Visibility::Private).await;
    let (theirs, _) = secret
        .push(
            &world,
            "secret/model",
            "1.0",
            vec![File::new("w.bin", noise(7, 5 << 20))],
        )
        .await;

    Publisher::begin(&world, "mallory", 2, Visibility::Public).await;
    let request = TokenRequest {
        label: "mallory".to_owned(),
        scopes: vec![Scope::Read, Scope::Publish],
        namespaces: vec!["mallory".parse().unwrap()],
        jurisdiction: None,
        days: None,
    };
    let (token, _) = world.site.tokens().create(request).await.unwrap();
    let mallory = world.site.tokens().caller(&token).await.unwrap();
    let uploads = world.site.uploads();
    let owner = mallory.token().unwrap().id.clone();
    let id = uploads
        .open(&owner, name("mallory/mine"), Sha256::of(b"manifest"))
        .await
        .unwrap();
    let file = theirs.files[0].wire();
    let answer = uploads
        .plan(&mallory, &id, std::slice::from_ref(&file))
        .await
        .unwrap();
    assert!(answer.ready.is_empty());
    assert_eq!(
        answer.missing.len(),
        theirs.files[0].chunks().len(),
        "as if nobody had sent them"
    );
    let refused = uploads
        .seal(&mallory, &id, &file.sha256, &file.recipe.0)
        .await
        .unwrap_err();
    assert!(matches!(refused, ContentError::MissingChunk { .. }), "{refused}");
    assert!(
        uploads.session(&world.admin, &id).await.is_err(),
        "a session belongs to its token"
    );
}

#[tokio::test]
async fn publishing_is_no_way_around_a_label() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let files = || vec![File::new("w.bin", noise(7, 5 << 20))];
    let chain = acme.chain(&world, &name("acme/restricted")).await;
    let theirs = acme.draft("acme/restricted", chain, files());
    let here = format!("site:{}", world.site.id()).parse().unwrap();
    let label = Label::from_cli(&[here, "DE".parse().unwrap()], &[], &[]).unwrap();
    let (id, _) = send(&world, &world.admin, &theirs).await;
    let envelopes = acme.statements(&theirs, Some(label), "1.0", None);
    let published = world
        .site
        .intake()
        .publish(&world.admin, &id, &theirs.manifest, &envelopes)
        .await;
    published.unwrap();

    Publisher::begin(&world, "evil", 2, Visibility::Public).await;
    let caller = async |namespace: &str, jurisdiction: Option<&str>| {
        let request = TokenRequest {
            label: "test".to_owned(),
            scopes: vec![Scope::Publish],
            namespaces: vec![namespace.parse().unwrap()],
            jurisdiction: jurisdiction.map(|c| c.parse().unwrap()),
            days: None,
        };
        let (secret, _) = world.site.tokens().create(request).await.unwrap();
        world.site.tokens().caller(&secret).await.unwrap()
    };
    let file = theirs.files[0].wire();
    let uploads = world.site.uploads();
    for (namespace, jurisdiction, may) in [
        ("evil", None, false),
        ("evil", Some("FR"), false),
        ("evil", Some("DE"), true),
        ("acme", None, true),
    ] {
        let caller = caller(namespace, jurisdiction).await;
        let owner = caller.token().unwrap().id.clone();
        let id = uploads
            .open(&owner, name(&format!("{namespace}/mine")), theirs.digest)
            .await
            .unwrap();
        let answer = uploads
            .plan(&caller, &id, std::slice::from_ref(&file))
            .await
            .unwrap();
        assert_eq!(answer.missing.is_empty(), may, "{namespace} {jurisdiction:?}");
        let sealed = uploads.seal(&caller, &id, &file.sha256, &file.recipe.0).await;
        assert_eq!(sealed.is_ok(), may, "{namespace} {jurisdiction:?}");
    }
}

#[tokio::test]
async fn a_recipe_that_lies_about_a_stored_chunk_harms_nobody_but_itself() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (draft, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("a.bin", noise(1, 100_000))],
        )
        .await;
    let chunk = draft.files[0].recipe.pieces()[0].chunk;
    let mut lie = RecipeBuilder::new(PlannerId::FastCdc1);
    lie.push_chunk(chunk, 100_001).unwrap();
    let uploads = world.site.uploads();
    let owner = world.admin.token().unwrap().id.clone();
    let id = uploads
        .open(&owner, name("acme/other"), Sha256::of(b"a manifest"))
        .await
        .unwrap();
    let sealed = uploads
        .seal(&world.admin, &id, &Sha256::of(b"any"), &lie.finish().canonical())
        .await;
    assert!(matches!(sealed, Err(ContentError::Outside { .. })), "{sealed:?}");
    assert!(world.store.head(&Key::chunk(&chunk)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_push_of_good_bytes_heals_a_damaged_chunk() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(store.clone()).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Private).await;
    let (draft, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("a.bin", noise(1, 100_000))],
        )
        .await;
    let chunk = Key::chunk(&draft.files[0].recipe.pieces()[0].chunk);
    store.damage(&chunk, 5000);
    // Somebody who cannot read it sends the same content.
    let other = Publisher::begin(&world, "other", 2, Visibility::Private).await;
    let request = TokenRequest {
        label: "other".to_owned(),
        scopes: vec![Scope::Publish],
        namespaces: vec!["other".parse().unwrap()],
        jurisdiction: None,
        days: None,
    };
    let (secret, _) = world.site.tokens().create(request).await.unwrap();
    let caller = world.site.tokens().caller(&secret).await.unwrap();
    let chain = other.chain(&world, &name("other/copy")).await;
    let copy = other.draft("other/copy", chain, vec![File::new("a.bin", noise(1, 100_000))]);
    send(&world, &caller, &copy).await;
    let recipe = &draft.files[0].recipe;
    let read: Vec<_> = world
        .site
        .content()
        .range(recipe, 0..recipe.size())
        .try_collect()
        .await
        .unwrap();
    assert!(read.concat() == noise(1, 100_000));
}

#[tokio::test]
async fn an_upload_resumes_with_what_was_sent_and_survives_a_power_loss() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(store.clone()).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft(
        "acme/tiny",
        acme.chain(&world, &name("acme/tiny")).await,
        vec![File::new("a.bin", noise(1, 12 << 20))],
    );
    let uploads = world.site.uploads().clone();
    let owner = world.admin.token().unwrap().id.clone();
    let id = uploads
        .open(&owner, draft.artifact.clone(), draft.digest)
        .await
        .unwrap();
    let chunks = draft.files[0].chunks();
    for (chunk, stored) in chunks.iter().take(2) {
        uploads.receive(&id, *chunk, stored.clone().into()).await.unwrap();
    }
    let again = uploads
        .open(&owner, draft.artifact.clone(), draft.digest)
        .await
        .unwrap();
    assert_eq!(again, id);
    let missing = |answer: waag_schema::wire::upload::PlanAnswer| answer.missing.len();
    let files = [draft.files[0].wire()];
    assert_eq!(
        missing(uploads.plan(&world.admin, &id, &files).await.unwrap()),
        chunks.len() - 2
    );
    store.lose_power();
    assert_eq!(
        missing(uploads.plan(&world.admin, &id, &files).await.unwrap()),
        chunks.len()
    );
    drop(uploads);
    send(&world, &world.admin, &draft).await;
    assert_eq!(
        store.list("chunks/", None, 100).await.unwrap().len(),
        chunks.len() + 1
    );
}

#[tokio::test]
async fn a_file_of_encoded_chunks_is_smaller_at_the_site_and_every_range_of_it_is_what_it_was() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    // Noise with one silent byte of four goes by planes, text by words.
    let mut bytes = noise(1, 6 << 20);
    bytes.iter_mut().step_by(4).for_each(|byte| *byte &= 3);
    bytes.extend("a line that comes again and again\n".repeat(100_000).bytes());
    let (draft, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("a.bin", bytes.clone())],
        )
        .await;
    let file = &draft.files[0];
    let encodings: std::collections::HashSet<Encoding> = file
        .chunks()
        .iter()
        .map(|(_, stored)| StoredChunk::parse(stored).unwrap().encoding())
        .collect();
    assert!(
        encodings.is_superset(&[Encoding::Planes, Encoding::Zstd].into()),
        "{encodings:?}"
    );
    let size = bytes.len() as u64;
    for range in [0..size, 1..2, 12_345..5_000_000, size - 1..size] {
        let read: Vec<_> = world
            .site
            .content()
            .range(&file.recipe, range.clone())
            .try_collect()
            .await
            .unwrap();
        assert!(
            read.concat() == bytes[range.start as usize..range.end as usize],
            "{range:?}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_stored_chunk_is_found_when_it_is_read() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(store.clone()).await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (draft, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.0",
            vec![File::new("a.bin", noise(1, 100_000))],
        )
        .await;
    let recipe = &draft.files[0].recipe;
    store.damage(&Key::chunk(&recipe.pieces()[0].chunk), 5000);
    // By a reader that has not opened it before the bit flipped.
    let content = Content::new(store, Pool::new());
    let read: Result<Vec<_>, _> = content.range(recipe, 0..recipe.size()).try_collect().await;
    assert!(matches!(read, Err(ContentError::Damaged { what: "chunk", .. })));
}

#[tokio::test]
async fn uploads_that_nobody_continues_are_forgotten() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft(
        "acme/tiny",
        acme.chain(&world, &name("acme/tiny")).await,
        vec![File::new("a", noise(1, 99))],
    );
    send(&world, &world.admin, &draft).await;
    assert_eq!(world.site.uploads().sweep(7).await.unwrap(), 0);
    // Opened again, it waits as long as a new one.
    world.clock.advance(6 * 86_400);
    send(&world, &world.admin, &draft).await;
    world.clock.advance(6 * 86_400);
    assert_eq!(world.site.uploads().sweep(7).await.unwrap(), 0);
    world.clock.advance(86_400);
    assert_eq!(world.site.uploads().sweep(7).await.unwrap(), 1);
    assert!(world.store.list("incoming/", None, 10).await.unwrap().is_empty());
    assert!(world.store.list("uploads/", None, 10).await.unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_of_a_file_is_the_slice_of_its_bytes(length in 1_usize..6_000_000, a: u64, b: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
            let bytes = noise(a, length);
            let (draft, _) = acme.push(&world, "acme/tiny", "1.0", vec![File::new("a.bin", bytes.clone())]).await;
            let (x, y) = (a % (length as u64 + 1), b % (length as u64 + 1));
            let range = x.min(y)..x.max(y);
            let parts: Vec<_> = world.site.content().range(&draft.files[0].recipe, range.clone()).try_collect().await.unwrap();
            let bounds = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert!(parts.concat() == bytes[bounds]);
        });
    }
}
