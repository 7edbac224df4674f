//! Pushing: what is sent, what is recorded, what is refused.

use waag_client::namespace::{self, NewNamespace};
use waag_client::push::Push;
use waag_client::{ClientError, Settings, Site, tag};
use waag_schema::base::key::KeyPair;
use waag_schema::base::name::Version;
use waag_schema::policy::label::Label;
use waag_schema::statement::Visibility;
use waag_schema::statement::namespace::KeySet;
use waag_schema::wire::token::{Scope, TokenRequest};

use crate::world::{World, noise, safetensors};

const LAYERS: [(&str, usize, u64); 4] = [("a", 3000, 1), ("b", 3000, 2), ("c", 3000, 3), ("d", 3000, 4)];

fn model(world: &World, directory: &str) {
    let weights = safetensors(&LAYERS);
    world.write(
        directory,
        &[
            (
                "config.json",
                br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama"}"#,
            ),
            ("tokenizer.json", &noise(9, 70_000)),
            ("model.safetensors", &weights),
            ("empty.txt", b""),
        ],
    );
}

#[tokio::test]
async fn a_second_push_sends_and_records_nothing() {
    let w = World::new().await;
    model(&w, "model");
    let first = w.push("model", "acme/tiny:1.0").await.unwrap();
    assert_eq!(first.files, 4);
    assert!(first.sent_bytes > first.bytes, "the files, and the configuration");
    assert_eq!(first.reused_bytes, 0);

    let push = Push::prepare(&w.site, w.push_request("model", "acme/tiny:1.0"))
        .await
        .unwrap();
    assert!(!push.needs_signature());
    let second = push.execute(&[]).await.unwrap();
    assert_eq!((second.sent_bytes, second.reused_bytes), (0, second.bytes));
    assert_eq!((second.digest, second.entry), (first.digest, first.entry));
    assert_eq!(w.site.artifact(&first.name).await.unwrap().chain.counter, 2);
}

#[tokio::test]
async fn a_push_of_what_is_recorded_brings_back_what_the_site_has_lost() {
    let w = World::new().await;
    model(&w, "model");
    let first = w.push("model", "acme/tiny:1.0").await.unwrap();
    let chunks = w.path("data/store/chunks");
    std::fs::remove_dir_all(&chunks).unwrap();
    let again = w.push("model", "acme/tiny:1.0").await.unwrap();
    assert_eq!((again.sent_bytes, again.entry), (first.sent_bytes, first.entry));
    let pulled = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!(pulled.digest, first.digest);
}

#[tokio::test]
async fn a_resharded_or_renamed_model_sends_almost_nothing() {
    let w = World::new().await;
    model(&w, "model");
    w.push("model", "acme/tiny:1.0").await.unwrap();

    let shards: Vec<Vec<u8>> = LAYERS.iter().map(|layer| safetensors(&[*layer])).collect();
    let names = ["1.safetensors", "2.safetensors", "3.safetensors", "4.safetensors"];
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(shards.iter().map(Vec::as_slice)).collect();
    w.write("sharded", &files);
    let push = Push::prepare(&w.site, w.push_request("sharded", "acme/tiny:2.0"))
        .await
        .unwrap();
    let plan = push.plan().clone();
    assert!(plan.send_bytes * 100 < plan.bytes, "{plan:?}");
    let pushed = push.execute(std::slice::from_ref(&w.key)).await.unwrap();
    assert_eq!(pushed.sent_bytes, plan.send_bytes);

    let mut renamed = LAYERS;
    renamed[1].0 = "renamed";
    w.write("renamed", &[("model.safetensors", &safetensors(&renamed))]);
    let pushed = w.push("renamed", "acme/tiny:3.0").await.unwrap();
    assert!(pushed.sent_bytes * 100 < pushed.bytes, "{pushed:?}");
}

#[tokio::test]
async fn a_tag_moves_only_when_it_may() {
    let w = World::new().await;
    w.write("one", &[("a.txt", b"one")]);
    w.write("two", &[("a.txt", b"two")]);
    let one = w.push("one", "acme/tiny:1.0").await.unwrap();
    let error = w.push("two", "acme/tiny:1.0").await.unwrap_err();
    assert!(matches!(error, ClientError::TagNeedsMove { names, .. } if names == one.digest));
    let mut request = w.push_request("two", "acme/tiny:1.0");
    request.move_tag = true;
    let two = w.push_as(request).await.unwrap();
    w.push("one", "acme/tiny").await.unwrap();
    w.push("two", "acme/tiny").await.unwrap();

    let keys = std::slice::from_ref(&w.key);
    let stable = "stable".parse().unwrap();
    let set = async |version: &str, move_tag| {
        let version: Version = version.parse().unwrap();
        tag::set(&w.site, &one.name, &stable, &version, move_tag, keys).await
    };
    let first = set("latest", false).await.unwrap();
    assert_eq!(first.digest, two.digest);
    assert_eq!(set("latest", false).await.unwrap(), first, "it names it already");
    let other = one.digest.to_string();
    assert!(matches!(
        set(&other, false).await,
        Err(ClientError::TagNeedsMove { .. })
    ));
    assert_eq!(set(&other, true).await.unwrap().digest, one.digest);
    assert!(matches!(
        set("nothing", false).await,
        Err(ClientError::NotFound(_))
    ));
}

#[tokio::test]
async fn publishers_who_write_at_once_all_succeed() {
    let w = World::new().await;
    for i in 0..3 {
        w.write(&format!("m{i}"), &[("a.txt", format!("model {i}").as_bytes())]);
    }
    let (a, b, c) = tokio::join!(
        w.push("m0", "acme/tiny:0"),
        w.push("m1", "acme/tiny:1"),
        w.push("m2", "acme/tiny:2")
    );
    for pushed in [a, b, c] {
        pushed.unwrap();
    }
    let view = w.site.artifact(&"acme/tiny".parse().unwrap()).await.unwrap();
    assert_eq!((view.releases.len(), view.chain.counter), (3, 6));
}

#[tokio::test]
async fn a_label_is_recorded_once_and_only_when_it_changes() {
    let w = World::new().await;
    w.write("m", &[("a.txt", b"a")]);
    let label = Label::from_cli(&["*".parse().unwrap()], &[], &[]).unwrap();
    let mut request = w.push_request("m", "acme/tiny:1");
    request.label = Some(label.clone());
    let push = Push::prepare(&w.site, request.clone()).await.unwrap();
    assert_eq!(push.plan().records, ["release", "residency", "tag"]);
    let pushed = push.execute(std::slice::from_ref(&w.key)).await.unwrap();
    assert!(
        Push::prepare(&w.site, request)
            .await
            .unwrap()
            .plan()
            .records
            .is_empty()
    );
    assert_eq!(w.site.artifact(&pushed.name).await.unwrap().label, Some(label));
}

#[tokio::test]
async fn a_key_without_token_and_a_token_without_key_publish_nothing() {
    let w = World::new().await;
    w.write("m", &[("a.txt", b"a")]);
    let stranger = KeyPair::from_seed(&[7; 32]);
    let mut request = w.push_request("m", "acme/tiny:1");
    request.signers = vec![stranger.public()];
    let error = w.push_as(request.clone()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::NotOwner {
                found: 0,
                needed: 1,
                ..
            }
        ),
        "{error}"
    );
    request.signers = Vec::new();
    let push = Push::prepare(&w.site, request).await.unwrap();
    assert!(matches!(
        push.execute(&[stranger]).await,
        Err(ClientError::NotOwner { .. })
    ));

    let read = TokenRequest {
        label: "reader".to_owned(),
        scopes: vec![Scope::Read],
        namespaces: vec!["acme".parse().unwrap()],
        jurisdiction: None,
        days: Some(1),
    };
    let created = w.site.create_token(&read).await.unwrap();
    assert_eq!(w.site.tokens().await.unwrap().len(), 2);
    let secret = waag_client::Secret::new(created.secret);
    let reader = Site::open(&w.home, &w.running.url, Some(&secret), &Settings::default()).unwrap();
    assert_eq!(reader.whoami().await.unwrap().token.unwrap().label, "reader");
    let refused = Push::prepare(&reader, w.push_request("m", "acme/tiny:1")).await;
    assert!(matches!(
        refused,
        Err(ClientError::NotFound(_) | ClientError::Forbidden(_))
    ));
    w.site.revoke_token(&created.token.id).await.unwrap();
    assert!(matches!(reader.whoami().await, Err(ClientError::Unauthorized(_))));
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let w = World::new().await;
    let other = KeyPair::from_seed(&[7; 32]);
    let new = NewNamespace {
        name: "acme".parse().unwrap(),
        visibility: Visibility::Public,
        owners: vec![other.public()],
        threshold: 1,
        recovery: Vec::new(),
    };
    let error = namespace::create(&w.site, new, &[other]).await.unwrap_err();
    assert!(matches!(error, ClientError::Taken(_)), "{error}");
}

#[tokio::test]
async fn a_file_that_changes_before_it_is_sent_stops_the_push() {
    let w = World::new().await;
    let root = w.write("m", &[("data.bin", &noise(1, 3 << 20))]);
    let push = Push::prepare(&w.site, w.push_request("m", "acme/tiny:1"))
        .await
        .unwrap();
    std::fs::write(root.join("data.bin"), noise(2, 3 << 20)).unwrap();
    let error = push.execute(std::slice::from_ref(&w.key)).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Changed(path) if path.ends_with("data.bin")),
        "{error}"
    );
}

#[tokio::test]
async fn many_small_files_and_copies_are_published() {
    let w = World::new().await;
    for i in 0..300 {
        w.write(
            "m",
            &[(&format!("d{}/f{i}.txt", i % 7), format!("file {i}").as_bytes())],
        );
    }
    w.write(
        "m",
        &[
            ("copy/one.bin", &noise(3, 500_000)),
            ("copy/two.bin", &noise(3, 500_000)),
        ],
    );
    let pushed = w.push("m", "acme/many:1").await.unwrap();
    assert_eq!(pushed.files, 302);
    assert!(pushed.sent_bytes < 600_000, "{pushed:?}");
    let pulled = w.pull("acme/many:1", "out").await.unwrap();
    assert_eq!(pulled.files, 302);
    assert_eq!(w.verify("out").await.unwrap().digest, pushed.digest);
}

#[tokio::test]
async fn keys_rotate_and_old_releases_stay_proven() {
    let w = World::new().await;
    w.write("one", &[("a.txt", b"one")]);
    w.push("one", "acme/tiny:1").await.unwrap();
    let name = "acme".parse().unwrap();
    let new = || KeyPair::from_seed(&[5; 32]);
    let to = || KeySet {
        owners: vec![new().public()],
        threshold: 1,
        recovery: Vec::new(),
    };
    let refused = namespace::rotate(&w.site, &name, to(), &[new()]).await;
    assert!(matches!(refused, Err(ClientError::Usage(_))));
    let old = KeyPair::from_seed(w.key.seed());
    let rotated = namespace::rotate(&w.site, &name, to(), &[old, new()])
        .await
        .unwrap();
    assert_eq!(rotated.owners, [new().public().fingerprint()]);

    w.pull("acme/tiny:1", "out").await.unwrap();
    w.verify("out").await.unwrap();
    w.write("two", &[("a.txt", b"two")]);
    let error = w.push("two", "acme/tiny:2").await.unwrap_err();
    assert!(matches!(error, ClientError::NotOwner { .. }), "{error}");
    let mut request = w.push_request("two", "acme/tiny:2");
    request.signers = vec![new().public()];
    let push = Push::prepare(&w.site, request).await.unwrap();
    push.execute(&[new()]).await.unwrap();
    let pulled = w.pull("acme/tiny:2", "out").await.unwrap();
    assert_eq!(pulled.signed_by, [new().public().fingerprint()]);
}
