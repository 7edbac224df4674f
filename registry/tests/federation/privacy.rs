//! What a stranger can read over HTTP is the same in two worlds that differ only in what a private namespace holds, at
//! its home and at a site that it is shared with; so is what a third site has that follows both.
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

use super::{Sites, at, publish, rule, share, withdraw};
use crate::world::{Draft, File, MIDNIGHT, Publisher, World, noise};

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
    let clock = Arc::new(ManualClock::at(MIDNIGHT));
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
        "/api/v1/federation/checkpoints",
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

/// Three sites: the home of a public and a private namespace, a mirror that both are for, and one that follows both
/// sites.
async fn sites(hidden: &Hidden) -> (Sites, Draft) {
    let named = [
        ("home", "DE", vec![]),
        ("mirror", "IT", vec![rule("home")]),
        ("third", "FR", vec![rule("home"), rule("mirror")]),
    ];
    let sites = Sites::open(&named, 78).await;
    for site in 0..3 {
        sites.meet(site).await;
    }
    let (home, mirror) = (sites.world(0), sites.world(1).site.id().clone());
    let open = Publisher::begin(home, "home-open", 5, Visibility::Public).await;
    let secret = Publisher::begin(home, "home-secret", 6, Visibility::Private).await;
    let file = |name: &str, seed: u64| vec![File::new(name, noise(seed, 4000))];
    let everywhere = Some(at(&["*"]));
    publish(home, &open, "home-open/tiny", "v1", file("a.bin", 9), everywhere).await;
    share(home, &secret, "home-secret", &[&mirror]).await;
    let files = file(hidden.file, hidden.content);
    let label = Some(at(&["DE", "IT", hidden.label]));
    let artifact = format!("home-{}", hidden.name);
    let first = publish(home, &secret, &artifact, "v1", files, label).await;
    sites.turn(1, 0).await;
    let held = sites
        .world(1)
        .site
        .federation()
        .holders(&artifact.parse().unwrap())
        .await
        .unwrap();
    assert!(held.iter().any(|view| view.site == mirror), "{held:?}");
    // One more, and the first goes: what is withdrawn, erased and received for stands in streams as well.
    let more = file("more.bin", hidden.content + 70);
    publish(home, &secret, &artifact, "v2", more, None).await;
    sites.turn(1, 0).await;
    withdraw(home, &secret, &first, true).await;
    home.site.federation().erase_own().await.unwrap();
    for (site, other) in [(1, 0), (0, 1), (2, 0), (2, 1)] {
        sites.turn(site, other).await;
    }
    (sites, first)
}

#[tokio::test]
async fn strangers_at_home_and_at_the_mirror_and_a_third_site_have_the_same_whatever_a_shared_namespace_holds()
 {
    let ((one, first), (other, second)) = (sites(&ONE).await, sites(&OTHER).await);
    let canaries = |text: &str| {
        let words = ["tumour", "orchid", "scans.bin", "seeds.bin"];
        let digests = [&first, &second].map(|draft| [draft.digest.hex(), draft.files[0].sha256().hex()]);
        words.iter().all(|word| !text.contains(word))
            && digests.as_flattened().iter().all(|digest| !text.contains(digest))
    };
    for site in [0, 1] {
        let (a, b) = (one.world(site), other.world(site));
        let mut compared: Vec<String> = [
            "/api/v1/artifacts",
            "/api/v1/artifacts?search=secret",
            "/api/v1/artifacts/home-open/tiny/holders",
            "/api/v1/namespaces/home-secret",
            "/api/v1/namespaces/home-secret/proof",
            "/api/v1/namespaces/home-nobodys",
            "/api/v1/federation/mirrors",
            "/api/v1/federation/sites/home/held",
            "/api/v1/federation/sites/mirror/held",
            "/metrics",
            "/ledger/streams",
            "/ledger/1/body/open/000",
            "/ledger/1/body/ns-home-secret/000",
            "/ledger/1/body/ns-home-nobodys/000",
            "/ledger/1/body/copies-home-secret/000",
            "/ledger/1/body/copies-home-nobodys/000",
        ]
        .map(str::to_owned)
        .into();
        for hidden in [&ONE, &OTHER] {
            for end in [
                "",
                "/statements",
                "/labels",
                "/scorecards",
                "/holders",
                "/resolve/v2",
            ] {
                compared.push(format!("/api/v1/artifacts/home-{}{end}", hidden.name));
            }
        }
        let size = a.site.ledger().checkpoint().checkpoint().size;
        let mut masked: Vec<String> = vec![
            "/ledger/checkpoint".to_owned(),
            format!("/ledger/1/tile/0/000.p/{size}"),
            format!("/ledger/1/tile/entries/000.p/{size}"),
        ];
        masked.extend((0..size).map(|entry| format!("/api/v1/ledger/entries/{entry}")));
        let of = one.world(1 - site).site.id();
        let there = one.world(1 - site).site.ledger().checkpoint().checkpoint().size;
        masked.push(format!("/ledger/of/{of}/checkpoint"));
        masked.push("/api/v1/federation/checkpoints".to_owned());
        masked.push(format!("/ledger/of/{of}/1/tile/entries/000.p/{there}"));
        masked.extend((0..there).map(|entry| format!("/api/v1/ledger/of/{of}/entries/{entry}")));
        for path in compared {
            let (a, b) = (read(a, &path).await, read(b, &path).await);
            let texts = (String::from_utf8_lossy(&a.1), String::from_utf8_lossy(&b.1));
            assert_eq!(texts.0, texts.1, "site {site}: {path}");
            assert_eq!(a.0, b.0, "site {site}: {path}");
        }
        for path in masked {
            let (a, b) = (read(a, &path).await, read(b, &path).await);
            assert_eq!((a.0, a.1.len()), (b.0, b.1.len()), "site {site}: {path}");
            for body in [&a.1, &b.1] {
                assert!(canaries(&String::from_utf8_lossy(body)), "site {site}: {path}");
            }
        }
        // A pack that is there and one that is not are told apart by nothing.
        for (hidden, absent) in [
            ("ns-home-secret", "ns-home-nobodys"),
            ("copies-home-secret", "copies-x"),
        ] {
            let path = |stream: &str| format!("/ledger/1/body/{stream}/000");
            assert_eq!(read(a, &path(hidden)).await, read(a, &path(absent)).await);
        }
    }
    // What the third site has on disk, of both ledgers, and in its own.
    let (a, b) = (one.members[2].store.dump(), other.members[2].store.dump());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (key, bytes) in &a {
        let same = &b[key];
        assert_eq!(bytes.len(), same.len(), "{key}");
        if key.contains("/body/") {
            assert_eq!(bytes, same, "{key}");
        }
        assert!(canaries(&String::from_utf8_lossy(bytes)), "{key}");
    }
    for of in [0, 1] {
        let rows = async |sites: &Sites| {
            let ledgers = &sites.world(2).site.catalogue().ledgers;
            let dump = ledgers
                .of(sites.world(of).site.id())
                .unwrap()
                .index
                .dump()
                .await
                .unwrap();
            let mut rows: Vec<String> = dump.lines().map(str::to_owned).collect();
            // The root is of all leaves.
            rows.retain(|row| !row.starts_with("ledger |"));
            rows
        };
        assert_eq!(rows(&one).await, rows(&other).await);
    }
}
