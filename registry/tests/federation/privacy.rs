//! What a stranger can read over HTTP is the same in two worlds that differ only in what a private namespace holds.
//!
//! Names, digests, contents and labels differ, and so do the commitments of their leaves and whatever is computed from
//! those: MACs under random keys, which tell nobody anything. Those bytes are put out of the comparison, their number is
//! not. How much and when is visible, so files have the same lengths and the clock stands.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use waag_registry::clock::ManualClock;
use waag_registry::config::Config;
use waag_registry::http::router;
use waag_registry::store::MemoryStore;
use waag_schema::ledger::bundle;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::Visibility;

use super::publish;
use crate::world::{Draft, File, NOON, Publisher, World, noise};

struct Hidden {
    name: &'static str,
    file: &'static str,
    content: u64,
    label: &'static str,
}

const ONE: Hidden = Hidden {
    name: "secret/tumour",
    file: "scans.bin",
    content: 1,
    label: "FR",
};
const OTHER: Hidden = Hidden {
    name: "secret/orchid",
    file: "seeds.bin",
    content: 2,
    label: "IT",
};

/// A site with a public release and a private one.
async fn world(hidden: &Hidden) -> (World, Draft) {
    let clock = Arc::new(ManualClock::at(NOON));
    let config = Config {
        jurisdiction: Some("DE".parse().unwrap()),
        ..Config::default()
    };
    let world = World::one_of(77, config, &clock, Arc::new(MemoryStore::new())).await;
    let open = Publisher::begin(&world, "open", 5, Visibility::Public).await;
    let secret = Publisher::begin(&world, "secret", 6, Visibility::Private).await;
    let file = |name: &str, seed: u64| vec![File::new(name, noise(seed, 4000))];
    publish(&world, &open, "open/tiny", "v1", file("a.bin", 9), None).await;
    let places: Vec<_> = ["DE", hidden.label]
        .iter()
        .map(|place| place.parse().unwrap())
        .collect();
    let label = Label::from_cli(&places, &Action::ALL, &[]).unwrap();
    let files = file(hidden.file, hidden.content);
    let draft = publish(&world, &secret, hidden.name, "v1", files, Some(label)).await;
    (world, draft)
}

/// What a stranger gets there: status, headers, body.
async fn read(world: &World, path: &str) -> (String, Vec<u8>) {
    let service = TowerToHyperService::new(router(Arc::clone(&world.site)));
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = service.call(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let mut headers: Vec<String> = parts
        .headers
        .iter()
        .filter(|(name, _)| name.as_str() != "etag")
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let mut body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    if path == "/metrics" {
        // The lines of a metric come in no order.
        let mut lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
        lines.sort_unstable();
        body = lines.concat();
    }
    (format!("{} {headers:?}", parts.status), body)
}

#[tokio::test]
async fn a_stranger_reads_the_same_whatever_a_private_namespace_holds() {
    let ((one, first), (other, second)) = (world(&ONE).await, world(&OTHER).await);
    let size = one.site.ledger().checkpoint().checkpoint().size;
    let mut compared: Vec<String> = [
        "/api/v1/site",
        "/api/v1/artifacts",
        "/api/v1/artifacts?search=secret",
        "/api/v1/leaderboard",
        "/api/v1/artifacts/open/tiny",
        "/api/v1/artifacts/open/tiny/statements",
        "/api/v1/namespaces/secret",
        "/api/v1/namespaces/nobodys",
        "/api/v1/ledger/witnesses",
        "/api/v1/charter",
        "/api/v1/whoami",
        "/metrics",
        "/readyz",
        "/ledger/1/body/open/0",
        "/ledger/1/body/restricted/0",
        "/ledger/1/body/secret/0",
    ]
    .map(str::to_owned)
    .into();
    // Who guesses a name or a digest learns nothing either.
    for hidden in [&ONE, &OTHER] {
        for end in [
            "",
            "/statements",
            "/labels",
            "/scorecards",
            "/holders",
            "/resolve/v1",
        ] {
            compared.push(format!("/api/v1/artifacts/{}{end}", hidden.name));
        }
    }
    for draft in [&first, &second] {
        compared.push(format!("/api/v1/artifacts/open/tiny/resolve/{}", draft.digest));
        compared.push(format!(
            "/api/v1/artifacts/open/tiny/files/{}",
            draft.files[0].sha256()
        ));
    }
    let mut masked: Vec<String> = vec![
        "/ledger/checkpoint".to_owned(),
        format!("/ledger/1/tile/0/000.p/{size}"),
    ];
    masked.extend((0..size).map(|entry| format!("/api/v1/ledger/entries/{entry}")));
    for path in &compared {
        let (a, b) = (read(&one, path).await, read(&other, path).await);
        assert_eq!(a.0, b.0, "{path}");
        assert_eq!(
            String::from_utf8_lossy(&a.1),
            String::from_utf8_lossy(&b.1),
            "{path}"
        );
    }
    let canaries = |text: &str| {
        ["tumour", "orchid", "scans.bin", "seeds.bin"]
            .iter()
            .all(|canary| !text.contains(canary))
            && !text.contains(&first.digest.hex())
            && !text.contains(&second.digest.hex())
    };
    for path in &masked {
        let (a, b) = (read(&one, path).await, read(&other, path).await);
        assert_eq!((a.0, a.1.len()), (b.0, b.1.len()), "{path}");
        assert!(
            canaries(&String::from_utf8_lossy(&a.1)) && canaries(&String::from_utf8_lossy(&b.1)),
            "{path}"
        );
    }
    let tile = format!("/ledger/1/tile/entries/000.p/{size}");
    let found = format!("tile/entries/000.p/{size}").parse().unwrap();
    let leaves = async |world: &World| bundle::decode(&found, &read(world, &tile).await.1).unwrap();
    let (mine, theirs) = (leaves(&one).await, leaves(&other).await);
    let seen = |leaves: &[waag_schema::ledger::Leaf]| {
        leaves
            .iter()
            .map(|leaf| (leaf.class, leaf.reference))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&mine), seen(&theirs));
    // Of what is for everybody to read the commitments are the same as well.
    let differing = mine
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| a.commitment != b.commitment);
    assert!(
        differing
            .into_iter()
            .all(|(leaf, _)| leaf.class == waag_schema::ledger::Class::Restricted)
    );
    assert_ne!(mine, theirs);
}
