//! Two sites over loopback: the same following and mirroring, with requests that each signs.

use std::sync::Arc;

use tokio::net::TcpListener;
use waag_registry::http::router;
use waag_registry::listen::{Settings, listen};

use waag_registry::federation::SignedError;
use waag_schema::wire::request::{Claims, Covered};

use super::{Sites, at, publish, publisher, rule};
use crate::world::{File, noise};

/// Serves a site at any free port for as long as the test runs; returns the address.
async fn serve(sites: &Sites, site: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Arc::clone(&sites.world(site).site);
    let metrics = site.metrics().clone();
    tokio::spawn(listen(
        listener,
        router(site),
        None,
        Settings::default(),
        metrics,
        std::future::pending(),
    ));
    format!("http://{address}")
}

#[tokio::test]
async fn a_site_mirrors_over_http_what_its_signature_entitles_it_to() {
    let mut sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", vec![rule("home")])], 5).await;
    for site in 0..2 {
        sites.members[site].terms.url = serve(&sites, site).await;
    }
    let terms = || {
        sites
            .members
            .iter()
            .map(|member| member.terms.clone())
            .collect::<Vec<_>>()
    };
    sites.world(0).site.join(terms()).await.unwrap();
    sites.world(1).site.join(terms()).await.unwrap();
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let file = || vec![File::new("a.bin", noise(1, 3_000_000))];
    publish(
        home,
        &acme,
        "home-acme/tiny",
        "v1",
        file(),
        Some(at(&["IT", "DE"])),
    )
    .await;
    sites.turn(1, 0).await;
    let status = sites.world(1).site.federation().status().await.unwrap();
    let states: Vec<_> = status
        .releases
        .iter()
        .map(|view| (view.state.clone(), view.reason.clone()))
        .collect();
    assert_eq!(states, [(waag_schema::wire::federation::State::Held, None)]);
    // Nothing new: answered by the note's tag alone.
    let looked = sites
        .world(1)
        .site
        .federation()
        .look(home.site.id())
        .await
        .unwrap();
    assert_eq!(looked.new, 0);
    // Each asks the other for proof, and hears what the other has verified.
    let home_federation = home.site.federation();
    let mirror = sites.world(1).site.federation();
    home_federation.look(sites.world(1).site.id()).await.unwrap();
    let release = sites
        .world(1)
        .site
        .federation()
        .status()
        .await
        .unwrap()
        .releases
        .remove(0);
    for (asking, asked) in [(home_federation, sites.world(1)), (mirror, home)] {
        let checked = asking
            .challenge(asked.site.id(), &release.artifact, &release.manifest)
            .await
            .unwrap();
        assert_eq!(checked.failed, None);
        asking.hear(asked.site.id()).await.unwrap();
    }
    // Who is in no charter is nobody: what a stranger signs is refused, and does not become a stranger's question.
    home.site.join(Vec::new()).await.unwrap();
    let error = sites
        .world(1)
        .site
        .federation()
        .look(home.site.id())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("names no site"), "{error}");
}

#[tokio::test]
async fn a_signed_request_holds_once() {
    let sites = Sites::open(&[("home", "DE", vec![]), ("other", "IT", vec![])], 6).await;
    sites.meet(0).await;
    let claims = Claims {
        site: sites.world(1).site.id().clone(),
        created: crate::world::MIDNIGHT,
        nonce: [7; 16],
    };
    let covered = Covered {
        method: "GET",
        authority: "home.example",
        path: "/ledger/checkpoint",
        query: None,
        body: None,
    };
    let headers = claims.sign(&covered, &sites.key(1, "site"));
    let federation = sites.world(0).site.federation();
    let signer = federation.signer(&covered, &headers).unwrap();
    assert_eq!(signer.site, *sites.world(1).site.id());
    let again = federation.signer(&covered, &headers);
    assert!(matches!(again, Err(SignedError::Replayed)), "{again:?}");
}
