//! Files that travel packed: what a list says is checked against the tars before anything is recorded, and each
//! file is given out by itself.

use futures_util::TryStreamExt as _;
use waag_registry::content::ContentError;
use waag_registry::index::Wanted;
use waag_registry::publish::PublishError;
use waag_schema::release::builder::{About, ManifestBuilder};
use waag_schema::release::kind::Kind;
use waag_schema::release::tar::{self, Expected};
use waag_schema::statement::{Content, Release, Visibility};
use waag_schema::{FilePath, Sha256};

use crate::world::{Draft, File, Publisher, World, name, noise, send};

/// A tar that our rule would write.
fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let path: FilePath = name.parse().unwrap();
        bytes.extend(tar::header(&path, content.len() as u64));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn listed(files: &[(&str, Vec<u8>)]) -> Vec<Expected> {
    let files = files.iter().map(|(name, content)| Expected {
        path: name.parse().unwrap(),
        sha256: Sha256::of(content),
        size: content.len() as u64,
    });
    files.collect()
}

/// A release of one file of its own and one tar, of which these files are listed.
async fn draft(world: &World, acme: &Publisher, tar: Vec<u8>, listed: Vec<Expected>) -> Draft {
    let own = File::new("own.bin", noise(9, 5000));
    let builder = ManifestBuilder::new(Kind::Model, About::default())
        .file(own.path.clone(), own.sha256(), own.bytes.len() as u64)
        .tar(Sha256::of(&tar), tar.len() as u64, listed);
    let built = builder.build().unwrap();
    let layers = vec![
        own,
        File::new("tar", tar),
        File::new("list", built.list.clone().unwrap()),
    ];
    let mut content: Vec<Content> = layers.iter().map(File::content).collect();
    content.sort_by_key(|c| c.sha256);
    let config = File::new("config", built.config);
    let chain = acme.chain(world, &name("acme/many")).await;
    let release = Release {
        namespace: acme.namespace,
        link: chain.next(),
        kind: Kind::Model,
        config: config.content(),
        content,
    };
    let digest = built.manifest.digest();
    let mut files = layers;
    files.push(config);
    Draft {
        artifact: name("acme/many"),
        digest,
        manifest: built.manifest.into_bytes(),
        files,
        release,
    }
}

async fn publish(world: &World, acme: &Publisher, draft: &Draft) -> Result<(), PublishError> {
    let (id, _) = send(world, &world.admin, draft).await;
    let envelopes = acme.statements(draft, None, "1.0", None);
    let intake = world.site.intake();
    let published = intake
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await;
    published.map(drop)
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a/1", noise(1, 700)),
        ("a/2", Vec::new()),
        ("b", noise(2, 3 << 20)),
    ]
}

#[tokio::test]
async fn a_packed_file_is_given_out_by_itself_also_after_a_refold() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let files = files();
    let draft = draft(&world, &acme, tar(&files), listed(&files)).await;
    publish(&world, &acme, &draft).await.unwrap();

    let view = world
        .site
        .catalogue()
        .artifact(&world.admin, &draft.artifact)
        .await
        .unwrap();
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(
        (view.releases[0].files, view.releases[0].bytes),
        (4, bytes as u64 + 5000),
        "nobody is told of tars"
    );
    let rows = world.index().await;
    let world = world
        .restart(|data| {
            for file in ["index.db", "index.db-wal", "index.db-shm"] {
                let _ = std::fs::remove_file(data.join(file));
            }
        })
        .await
        .unwrap();
    assert_eq!(world.index().await, rows);
    let all = world.site.catalogue().list(&world.admin, Wanted::default()).await;
    assert_eq!(all.unwrap().artifacts.len(), 1);
    for (path, content) in &files {
        let found = world
            .site
            .catalogue()
            .bytes(&world.admin, &draft.artifact, &Sha256::of(content))
            .await
            .unwrap();
        let recipe = world.site.content().recipe(&found.recipe).await.unwrap().unwrap();
        let parts: Vec<_> = world
            .site
            .content()
            .range(&recipe, found.within)
            .try_collect()
            .await
            .unwrap();
        assert!(parts.concat() == *content, "{path}");
    }
    let missing = world
        .site
        .catalogue()
        .bytes(&world.admin, &draft.artifact, &Sha256::of(b"none"))
        .await;
    assert!(matches!(missing, Err(PublishError::NotFound(_))));
}

#[tokio::test]
async fn a_list_that_lies_about_a_tar_is_refused_and_nothing_is_recorded() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let size = world.site.ledger().checkpoint().checkpoint().size;
    let files = files();
    let good = tar(&files);
    let mut lies: Vec<(&str, Vec<u8>, Vec<Expected>)> = Vec::new();

    let mut other_digest = listed(&files);
    other_digest[2].sha256 = Sha256::of(b"other");
    lies.push(("has the digest", good.clone(), other_digest));
    let mut other_path = listed(&files);
    other_path[0].path = "a/0".parse().unwrap();
    lies.push(("byte 2 ", good.clone(), other_path));
    // A size that takes as many blocks.
    let mut other_size = listed(&files);
    other_size[0].size = 701;
    lies.push(("byte 134 ", good.clone(), other_size));
    // A file that only who unpacks the tar would see, in the place of one that is listed.
    let hidden = tar(&[files[0].clone(), ("a/x", Vec::new()), files[2].clone()]);
    lies.push(("byte 1538 ", hidden, listed(&files)));
    // Bytes between two files, and another mode.
    let mut between = good.clone();
    between[512 + 700] = 1;
    lies.push(("byte 1212 ", between, listed(&files)));
    let mut mode = good.clone();
    mode[104] = b'7';
    lies.push(("byte 104 ", mode, listed(&files)));

    for (why, tar, listed) in lies {
        let draft = draft(&world, &acme, tar, listed).await;
        let error = publish(&world, &acme, &draft).await.unwrap_err();
        assert!(matches!(error, PublishError::Mismatch(_)), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with(".waag/files-0.tar: ") && text.contains(why),
            "{why}: {text}"
        );
    }
    assert_eq!(world.site.ledger().checkpoint().checkpoint().size, size);
}

#[tokio::test]
async fn a_packed_file_that_is_no_safetensors_is_refused_by_its_name() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let files = vec![("x.safetensors", noise(1, 600)), ("y", noise(2, 10))];
    let draft = draft(&world, &acme, tar(&files), listed(&files)).await;
    let error = publish(&world, &acme, &draft).await.unwrap_err();
    assert!(
        matches!(
            &error,
            PublishError::Content(ContentError::Safetensors { path, .. }) if path == "x.safetensors"
        ),
        "{error}"
    );
}
