//! Publishing: what is complete, signed and allowed is recorded and proven; everything else changes nothing.

use bytes::Bytes;
use waag_registry::access::{AccessError, Caller};
use waag_registry::content::ContentError;
use waag_registry::index::{Rejection, Wanted};
use waag_registry::ledger::AppendError;
use waag_registry::publish::PublishError;
use waag_registry::store::Key;
use waag_schema::Sha256;
use waag_schema::base::key::KeyPair;
use waag_schema::base::name::Version;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::namespace::{KeySet, Rotation};
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::{Envelope, Predicate, Statement, Subject, TagMove, Visibility};
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::token::{Scope, TokenRequest};
use waag_schema::wire::upload::UploadRequest;

use crate::world::{Draft, File, Publisher, World, genesis, name, noise, safetensors, send};

fn model() -> Vec<File> {
    vec![
        File::new(
            "config.json",
            br#"{"architectures":["LlamaForCausalLM"]}"#.to_vec(),
        ),
        File::new(
            "model.safetensors",
            safetensors(&[("a.embed", &[300, 256]), ("b.norm", &[256])]),
        ),
    ]
}

/// Checks a proof as a consumer does, and returns the statements it proves.
fn check(world: &World, proof: &Proof) -> Vec<(u64, Statement)> {
    let signed: SignedCheckpoint = proof.checkpoint.parse().unwrap();
    let key: waag_schema::ledger::VerifierKey = world.site.view().log_key.parse().unwrap();
    signed.verify(&[*key.key()], &[]).unwrap();
    let entries = proof.entries.iter().map(|entry| {
        let opening = entry.verify(signed.checkpoint()).unwrap();
        let envelope = Envelope::parse(opening.envelope()).unwrap();
        (entry.index, Statement::parse(envelope.payload()).unwrap())
    });
    entries.collect()
}

async fn token(world: &World, scopes: &[Scope], namespaces: &[&str], jurisdiction: Option<&str>) -> Caller {
    let request = TokenRequest {
        label: "test".to_owned(),
        scopes: scopes.to_vec(),
        namespaces: namespaces.iter().map(|n| n.parse().unwrap()).collect(),
        jurisdiction: jurisdiction.map(|c| c.parse().unwrap()),
        days: Some(1),
    };
    let (secret, _) = world.site.tokens().create(request).await.unwrap();
    world.site.tokens().caller(&secret).await.unwrap()
}

async fn publish(
    world: &World,
    caller: &Caller,
    draft: &Draft,
    envelopes: &[Vec<u8>],
) -> Result<Proof, PublishError> {
    let (id, _) = send(world, caller, draft).await;
    world
        .site
        .intake()
        .publish(caller, &id, &draft.manifest, envelopes)
        .await
}

#[tokio::test]
async fn a_release_is_recorded_with_its_tag_and_proven() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (draft, sent) = acme.push(&world, "acme/tiny", "1.0", model()).await;
    assert!(sent > 150_000);

    let version: Version = "1.0".parse().unwrap();
    let resolved = world
        .site
        .catalogue()
        .resolve(&Caller::anonymous(), &draft.artifact, &version)
        .await
        .unwrap();
    assert_eq!(
        (resolved.digest, &resolved.manifest.0),
        (draft.digest, &draft.manifest)
    );
    let said: Vec<(u64, &str)> = check(&world, &resolved.proof)
        .iter()
        .map(|(at, s)| (*at, s.predicate.name()))
        .collect();
    assert_eq!(said, [(0, "namespace"), (1, "release"), (2, "tag")]);
}

#[tokio::test]
async fn the_same_statements_sent_twice_are_recorded_once() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let chain = acme.chain(&world, &name("acme/tiny")).await;
    let draft = acme.draft("acme/tiny", chain, model());
    let envelopes = acme.statements(&draft, None, "1.0", None);
    let first = publish(&world, &world.admin, &draft, &envelopes).await.unwrap();
    let second = publish(&world, &world.admin, &draft, &envelopes).await.unwrap();
    assert_eq!(check(&world, &first).len(), 2);
    assert_eq!(check(&world, &first), check(&world, &second));
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 3);
}

#[tokio::test]
async fn of_two_publishers_who_write_at_once_one_is_told_to_look_again() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let chain = acme.chain(&world, &name("acme/tiny")).await;
    let one = acme.draft("acme/tiny", chain, model());
    let other = acme.draft(
        "acme/tiny",
        chain,
        vec![File::new("readme.md", b"hello".to_vec())],
    );
    let statements = [
        acme.statements(&one, None, "1.0", None),
        acme.statements(&other, None, "1.0", None),
    ];
    let (first, second) = tokio::join!(
        publish(&world, &world.admin, &one, &statements[0]),
        publish(&world, &world.admin, &other, &statements[1])
    );
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    let lost = first.err().or(second.err()).unwrap();
    assert!(
        matches!(
            lost,
            PublishError::Append(AppendError::Rejected(Rejection::Admit(_)))
        ),
        "{lost}"
    );
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 3);
}

#[tokio::test]
async fn a_token_without_the_key_and_a_key_without_the_token_publish_nothing() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let thief = Publisher {
        key: KeyPair::from_seed(&[66; 32]),
        namespace: acme.namespace,
    };
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    let forged = thief.statements(&draft, None, "1.0", None);
    let refused = publish(&world, &world.admin, &draft, &forged).await.unwrap_err();
    assert!(
        refused.to_string().contains("0 of the namespace's keys signed"),
        "{refused}"
    );

    let signed = acme.statements(&draft, None, "1.0", None);
    let reader = token(&world, &[Scope::Read], &["acme"], None).await;
    let refused = publish(&world, &reader, &draft, &signed).await.unwrap_err();
    assert!(matches!(refused, PublishError::Forbidden { .. }), "{refused}");
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 1);
}

#[tokio::test]
async fn a_name_that_is_taken_stays_with_its_owner() {
    let world = World::new().await;
    Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let other = genesis(&KeyPair::from_seed(&[2; 32]), "acme", &world, Visibility::Public);
    let refused = world
        .site
        .intake()
        .namespace(&world.admin, other.bytes())
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            PublishError::Append(AppendError::Rejected(Rejection::Taken { .. }))
        ),
        "{refused}"
    );
    let reader = token(&world, &[Scope::Publish], &["acme"], None).await;
    let fresh = genesis(&KeyPair::from_seed(&[3; 32]), "other", &world, Visibility::Public);
    assert!(matches!(
        world.site.intake().namespace(&reader, fresh.bytes()).await,
        Err(PublishError::NotAdmin(_))
    ));
}

#[tokio::test]
async fn a_manifest_that_names_missing_content_is_refused() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    let uploads = world.site.uploads();
    let owner = world.admin.token().unwrap().id.clone();
    let id = uploads
        .open(&owner, draft.artifact.clone(), draft.digest)
        .await
        .unwrap();
    let envelopes = acme.statements(&draft, None, "1.0", None);
    let refused = world
        .site
        .intake()
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, PublishError::MissingContent { .. }),
        "{refused}"
    );
    let file = draft.files[1].wire();
    let refused = uploads
        .seal(&world.admin, &id, &file.sha256, &file.recipe.0)
        .await
        .unwrap_err();
    assert!(matches!(refused, ContentError::MissingChunk { .. }), "{refused}");
}

#[tokio::test]
async fn a_release_that_does_not_speak_of_the_manifest_is_refused() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let chain = acme.chain(&world, &name("acme/tiny")).await;
    let mut draft = acme.draft("acme/tiny", chain, model());
    draft.release.content.pop();
    let envelopes = acme.statements(&draft, None, "1.0", None);
    let refused = publish(&world, &world.admin, &draft, &envelopes)
        .await
        .unwrap_err();
    assert!(matches!(refused, PublishError::Mismatch(_)), "{refused}");

    let mut draft = acme.draft("acme/tiny", chain, model());
    draft.release.content[0].size += 1;
    let envelopes = acme.statements(&draft, None, "1.0", None);
    assert!(matches!(
        publish(&world, &world.admin, &draft, &envelopes).await,
        Err(PublishError::Mismatch(_))
    ));
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 1);
}

#[tokio::test]
async fn a_bad_safetensors_header_is_refused_by_the_site_as_well() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let mut bytes = safetensors(&[("a.w", &[8, 8])]);
    bytes.truncate(bytes.len() - 1);
    let mut file = File::new("weights.bin", bytes);
    file.path = "weights.safetensors".parse().unwrap();
    let draft = acme.draft(
        "acme/tiny",
        acme.chain(&world, &name("acme/tiny")).await,
        vec![file],
    );
    let envelopes = acme.statements(&draft, None, "1.0", None);
    let refused = publish(&world, &world.admin, &draft, &envelopes)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, PublishError::Content(ContentError::Safetensors { .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn a_label_that_denies_this_site_is_refused_before_anything_is_recorded() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    let label = Label::from_cli(&["EU".parse().unwrap()], &[], &[]).unwrap();
    let request = UploadRequest {
        ancestors: Vec::new(),
        artifact: draft.artifact.clone(),
        manifest: draft.digest,
        label: Some(label.clone()),
    };
    let refused = world.site.intake().open(&world.admin, request).await.unwrap_err();
    assert!(
        matches!(&refused, PublishError::Denied { .. }),
        "before any byte moves: {refused}"
    );
    let envelopes = acme.statements(&draft, Some(label), "1.0", None);
    let refused = publish(&world, &world.admin, &draft, &envelopes)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, PublishError::Denied { reasons, .. } if !reasons.is_empty()),
        "{refused}"
    );
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, 1);
}

#[tokio::test]
async fn a_labelled_artifact_is_served_only_where_its_label_allows() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    let here = format!("site:{}", world.site.id()).parse().unwrap();
    let label = Label::from_cli(
        &[here, "DE".parse().unwrap()],
        &[Action::Hold, Action::Serve],
        &[],
    )
    .unwrap();
    let envelopes = acme.statements(&draft, Some(label), "1.0", None);
    publish(&world, &world.admin, &draft, &envelopes).await.unwrap();

    let catalogue = world.site.catalogue();
    let version: Version = "1.0".parse().unwrap();
    let german = token(&world, &[Scope::Read], &["acme"], Some("DE")).await;
    catalogue
        .resolve(&german, &draft.artifact, &version)
        .await
        .unwrap();
    let french = token(&world, &[Scope::Read], &["acme"], Some("FR")).await;
    for denied in [&french, &Caller::anonymous(), &world.admin] {
        let refused = catalogue
            .resolve(denied, &draft.artifact, &version)
            .await
            .unwrap_err();
        assert!(matches!(refused, PublishError::Denied { .. }), "{refused}");
        let file = draft.files[0].sha256();
        assert!(matches!(
            catalogue.file(denied, &draft.artifact, &file).await,
            Err(PublishError::Denied { .. })
        ));
    }
}

#[tokio::test]
async fn what_one_token_sent_another_of_the_namespace_publishes() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let hidden = Publisher::begin(&world, "hidden", 2, Visibility::Private).await;
    hidden.push(&world, "hidden/tiny", "1.0", model()).await;

    // The first token can read what the second cannot, and sends none of it again.
    let scopes = [Scope::Read, Scope::Publish];
    let first = token(&world, &scopes, &["acme", "hidden"], None).await;
    let second = token(&world, &scopes, &["acme"], None).await;
    let stranger = token(&world, &scopes, &["hidden"], None).await;
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    let (id, sent) = send(&world, &first, &draft).await;
    assert_eq!(sent, 0);

    let signed = acme.statements(&draft, None, "1.0", None);
    let intake = world.site.intake();
    for other in [&stranger, &Caller::anonymous()] {
        let refused = intake.publish(other, &id, &draft.manifest, &signed).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, PublishError::Content(ContentError::NoUpload(_))),
            "{refused}"
        );
    }
    // To publish it is all that it may: what is sent into the session is the first one's business.
    assert!(world.site.uploads().session(&second, &id).await.is_err());
    let proof = intake
        .publish(&second, &id, &draft.manifest, &signed)
        .await
        .unwrap();
    assert_eq!(check(&world, &proof).len(), 2);
}

#[tokio::test]
async fn a_private_namespace_does_not_exist_for_others() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Private).await;
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", model()).await;
    let catalogue = world.site.catalogue();
    let version: Version = "1.0".parse().unwrap();
    let stranger = token(&world, &[Scope::Read], &["other"], None).await;
    for outsider in [Caller::anonymous(), stranger] {
        let hidden = catalogue
            .resolve(&outsider, &draft.artifact, &version)
            .await
            .unwrap_err()
            .to_string();
        let absent = catalogue
            .resolve(&outsider, &name("nobody/tiny"), &version)
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(hidden.replace("acme", "nobody"), absent);
        assert!(
            catalogue
                .list(&outsider, Wanted::default())
                .await
                .unwrap()
                .artifacts
                .is_empty()
        );
        assert!(
            catalogue
                .namespace(&outsider, &"acme".parse().unwrap())
                .await
                .is_err()
        );
    }
    let member = token(&world, &[Scope::Read], &["acme"], None).await;
    catalogue
        .resolve(&member, &draft.artifact, &version)
        .await
        .unwrap();
    assert_eq!(
        catalogue
            .list(&member, Wanted::default())
            .await
            .unwrap()
            .artifacts
            .len(),
        1
    );
}

#[tokio::test]
async fn a_tag_moves_only_from_what_its_publisher_saw() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (first, _) = acme.push(&world, "acme/tiny", "1.0", model()).await;
    let (second, _) = acme
        .push(
            &world,
            "acme/tiny",
            "1.1",
            vec![File::new("a.txt", noise(5, 1000))],
        )
        .await;
    let tag = |from, link| {
        let tag = TagMove {
            namespace: acme.namespace,
            link,
            tag: "1.0".parse().unwrap(),
            from,
        };
        let subject = Subject::Manifest(second.artifact.clone(), second.digest);
        acme.sign(subject, Predicate::Tag(tag)).bytes().to_vec()
    };
    let link = acme.chain(&world, &first.artifact).await.next();
    let blind = vec![tag(None, link)];
    let refused = world
        .site
        .intake()
        .statements(&world.admin, &first.artifact, &blind)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("the tag `1.0` names"), "{refused}");
    let seen = vec![tag(Some(first.digest), link)];
    world
        .site
        .intake()
        .statements(&world.admin, &first.artifact, &seen)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_expired_or_revoked_token_lets_nobody_in() {
    let world = World::new().await;
    let request = TokenRequest {
        label: "short".to_owned(),
        scopes: vec![Scope::Read],
        namespaces: vec!["acme".parse().unwrap()],
        jurisdiction: None,
        days: Some(1),
    };
    let tokens = world.site.tokens();
    let (first, _) = tokens.create(request.clone()).await.unwrap();
    let (second, view) = tokens.create(request).await.unwrap();
    tokens.revoke(&view.id).await.unwrap();
    assert!(tokens.caller(&second).await.is_err());
    assert!(tokens.caller(&first).await.is_ok());
    world.clock.advance(86_400);
    assert!(tokens.caller(&first).await.is_err());
    assert!(tokens.caller("waag_guess").await.is_err());
}

#[tokio::test]
async fn a_damaged_token_counts_as_revoked_and_holds_up_no_other() {
    let world = World::new().await;
    let request = TokenRequest {
        label: "short".to_owned(),
        scopes: vec![Scope::Read],
        namespaces: vec!["acme".parse().unwrap()],
        jurisdiction: None,
        days: None,
    };
    let tokens = world.site.tokens();
    let (secret, _) = tokens.create(request.clone()).await.unwrap();
    let (_, sound) = tokens.create(request).await.unwrap();
    let key = Key::token(&Sha256::of(secret.as_bytes()));
    let cell = world.store.read_cell(&key).await.unwrap().unwrap();
    let damage = Bytes::new();
    world
        .store
        .swap_cell(&key, Some(&cell.version), damage)
        .await
        .unwrap();
    let refused = tokens.caller(&secret).await.unwrap_err();
    assert!(matches!(refused, AccessError::BadToken), "{refused}");
    assert_eq!(
        tokens.list().await.unwrap().len(),
        2,
        "the admin's and the sound one"
    );
    tokens.revoke(&sound.id).await.unwrap();
    let world = world.restart(|_| ()).await.unwrap();
    let tokens = world.site.tokens();
    tokens.revoke(key.last()).await.unwrap();
    assert_eq!(world.store.list("tokens/", None, 9).await.unwrap().len(), 1);
    assert!(tokens.revoke(key.last()).await.is_err());
}

#[tokio::test]
async fn an_entry_beyond_all_numbers_is_not_there() {
    let world = World::new().await;
    for entry in [1, u64::MAX] {
        let refused = world.site.catalogue().entry(&world.admin, entry).await;
        assert!(matches!(refused, Err(PublishError::NotFound(_))), "{refused:?}");
        let refused = world.site.intake().erase(&world.admin, entry, "legal").await;
        assert!(
            matches!(refused, Err(PublishError::Append(AppendError::NoEntry(_)))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_search_finds_by_every_word_in_any_case() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    acme.push(&world, "acme/tiny-llama", "1.0", model()).await;
    acme.push(
        &world,
        "acme/other",
        "1.0",
        vec![File::new("a.txt", noise(1, 10))],
    )
    .await;
    let found = async |words: &str| {
        let wanted = Wanted {
            words: words.to_owned(),
            ..Wanted::default()
        };
        let page = world
            .site
            .catalogue()
            .list(&Caller::anonymous(), wanted)
            .await
            .unwrap();
        page.artifacts
            .iter()
            .map(|a| a.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ["acme/other", "acme/tiny-llama"]);
    assert_eq!(found("LLAMA acme").await, ["acme/tiny-llama"]);
    assert_eq!(found("other llama").await, [""; 0]);
    assert_eq!(found("100% _").await, [""; 0], "nothing is a wildcard");
}

#[tokio::test]
async fn after_a_rotation_the_new_keys_publish_and_the_old_do_not() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let heir = Publisher {
        key: KeyPair::from_seed(&[7; 32]),
        namespace: acme.namespace,
    };
    let space: waag_schema::Namespace = "acme".parse().unwrap();
    let rotate = async |signers: &[&KeyPair]| {
        let view = world
            .site
            .catalogue()
            .namespace(&world.admin, &space)
            .await
            .unwrap();
        let keys = KeySet {
            owners: vec![heir.key.public()],
            threshold: 1,
            recovery: Vec::new(),
        };
        let rotation = Rotation {
            namespace: acme.namespace,
            link: view.chain.next(),
            keys,
        };
        let statement = Statement {
            subject: Subject::Namespace(space.clone()),
            predicate: Predicate::Rotation(rotation),
        };
        let envelope = Envelope::sign(&statement.to_bytes(), signers);
        world
            .site
            .intake()
            .rotation(&world.admin, &space, envelope.bytes())
            .await
    };
    assert!(
        rotate(&[&heir.key]).await.is_err(),
        "the old owner must sign as well"
    );
    rotate(&[&acme.key, &heir.key]).await.unwrap();
    let draft = acme.draft("acme/tiny", acme.chain(&world, &name("acme/tiny")).await, model());
    assert!(
        publish(
            &world,
            &world.admin,
            &draft,
            &acme.statements(&draft, None, "1.0", None)
        )
        .await
        .is_err()
    );
    publish(
        &world,
        &world.admin,
        &draft,
        &heir.statements(&draft, None, "1.0", None),
    )
    .await
    .unwrap();
    let version: Version = "1.0".parse().unwrap();
    let resolved = world
        .site
        .catalogue()
        .resolve(&world.admin, &draft.artifact, &version)
        .await
        .unwrap();
    let said: Vec<&str> = check(&world, &resolved.proof)
        .iter()
        .map(|(_, s)| s.predicate.name())
        .collect();
    assert_eq!(said, ["namespace", "rotation", "release", "tag"]);
}

#[tokio::test]
async fn a_withdrawn_release_says_so_and_proves_it() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", model()).await;
    let link = acme.chain(&world, &draft.artifact).await.next();
    let withdrawal = Withdrawal {
        namespace: acme.namespace,
        link,
        reason: "wrong tokenizer".to_owned(),
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
    let view = world
        .site
        .catalogue()
        .artifact(&world.admin, &draft.artifact)
        .await
        .unwrap();
    assert_eq!(view.releases[0].withdrawn.as_deref(), Some("wrong tokenizer"));
    let version: Version = "1.0".parse().unwrap();
    let resolved = world
        .site
        .catalogue()
        .resolve(&world.admin, &draft.artifact, &version)
        .await
        .unwrap();
    let mut said = check(&world, &resolved.proof);
    let names: Vec<&str> = said.iter().map(|(_, s)| s.predicate.name()).collect();
    assert_eq!(
        names,
        ["namespace", "release", "tag", "withdrawal", "revocation-list"]
    );
    let Predicate::RevocationList(list) = said.pop().unwrap().1.predicate else {
        panic!()
    };
    assert_eq!((list.entries, list.size), (vec![1], 4));
}
