//! What a site lacks of another one's releases is found from their ledgers, and only what may be different is looked at
//! again.

use std::sync::atomic::Ordering;

use waag_schema::statement::Visibility;
use waag_schema::wire::federation::When;

use super::bent::Bend;
use super::{Sites, at, publish, publisher, relabel, rule, share, withdraw};
use crate::world::{File, Publisher, noise};

fn file(seed: u64) -> Vec<File> {
    vec![File::new("a.bin", noise(seed, 500))]
}

async fn three() -> Sites {
    let named = [
        ("home", "DE", vec![]),
        ("mirror", "IT", vec![rule("home")]),
        ("third", "FR", vec![]),
    ];
    let sites = Sites::open(&named, 60).await;
    for site in 0..3 {
        sites.meet(site).await;
    }
    sites
}

#[tokio::test]
async fn what_is_missing_is_named_with_its_reason_and_whoever_follows_both_finds_the_same() {
    let sites = three().await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let gone = publish(home, &acme, "home-acme/gone", "v1", file(1), Some(at(&["EU"]))).await;
    publish(home, &acme, "home-acme/kept", "v1", file(2), Some(at(&["EU"]))).await;
    let denied = publish(home, &acme, "home-acme/denied", "v1", file(3), Some(at(&["DE"]))).await;
    sites.turn(1, 0).await;
    let compare = async |site: usize| {
        let federation = sites.world(site).site.federation();
        federation
            .compare("home", Some(sites.world(1).site.id().as_str()))
            .await
            .unwrap()
    };
    let found = compare(1).await;
    assert_eq!((found.released.releases, found.held.releases), (3, 2));
    assert!(!found.complete);
    assert_eq!((found.missing, found.surplus), (1, 0));
    assert_eq!(found.differing[0].manifest, denied.digest);
    let reason = found.differing[0].reason.clone().unwrap();
    assert!(reason.starts_with("refused: denied"), "{reason}");

    relabel(home, &acme, "home-acme/denied", at(&["EU"])).await;
    sites.turn(1, 0).await;
    let found = compare(1).await;
    assert!(found.complete);
    assert_eq!(found.released.digest, found.held.digest);
    assert_eq!(found.differing, []);
    // Withdrawn without erasure: it stays here, and is no release any more.
    withdraw(home, &acme, &gone, false).await;
    sites.turn(1, 0).await;
    let found = compare(1).await;
    assert!(found.complete);
    assert_eq!((found.missing, found.surplus), (0, 1));
    assert_eq!(
        found.differing[0].reason.as_deref(),
        Some("withdrawn: it should not be")
    );
    // Somebody else who follows both, and the home itself.
    sites.turn(2, 0).await;
    sites.turn(2, 1).await;
    assert_eq!(compare(2).await, found);
    sites.turn(0, 1).await;
    let federation = home.site.federation();
    let at_home = federation.compare(home.site.id().as_str(), Some("mirror")).await;
    assert_eq!(at_home.unwrap(), found);
    let itself = federation.compare("mirror", Some("mirror")).await;
    assert!(itself.unwrap_err().to_string().contains("itself"));
}

#[tokio::test]
async fn what_is_private_is_in_no_set_of_a_site_that_may_not_read_it() {
    let sites = three().await;
    let (home, mirror) = (sites.world(0), sites.world(1).site.id().clone());
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/open", "v1", file(1), Some(at(&["EU"]))).await;
    let secret = Publisher::begin(home, "home-secret", 6, Visibility::Private).await;
    share(home, &secret, "home-secret", &[&mirror]).await;
    publish(
        home,
        &secret,
        "home-secret/tiny",
        "v1",
        file(2),
        Some(at(&["EU"])),
    )
    .await;
    sites.turn(1, 0).await;
    sites.turn(2, 0).await;
    sites.turn(2, 1).await;
    for (site, number) in [(1, 2), (2, 1)] {
        let federation = sites.world(site).site.federation();
        let found = federation.compare("home", Some(mirror.as_str())).await.unwrap();
        assert_eq!((found.released.releases, found.held.releases), (number, number));
        assert!(found.complete);
    }
}

#[tokio::test]
async fn what_failed_is_tried_again_though_nothing_is_new() {
    let sites = Sites::open(
        &[("home", "DE", vec![]), ("mirror", "IT", vec![rule("home")])],
        61,
    )
    .await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", file(1), Some(at(&["EU"]))).await;
    bent.bend(Bend::BreaksOff(0));
    sites.turn(1, 0).await;
    let federation = sites.world(1).site.federation();
    let mirror = async || federation.mirror(home.site.id()).await.unwrap();
    assert_eq!(mirror().await.failed, 1);
    bent.bend(Bend::Nothing);
    assert_eq!(mirror().await.fetched, 1);
    // Once it is here nobody is asked for anything.
    let asked = bent.asked.load(Ordering::Relaxed);
    assert_eq!(mirror().await, Default::default());
    assert_eq!(bent.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn a_rule_that_is_added_is_followed_though_nothing_is_new() {
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", vec![])], 62).await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", file(1), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    let federation = sites.world(1).site.federation();
    assert_eq!(federation.mirror(home.site.id()).await.unwrap().fetched, 0);
    let mut on_demand = rule("home");
    on_demand.when = When::OnDemand;
    federation.add_rule(on_demand).await.unwrap();
    assert_eq!(federation.mirror(home.site.id()).await.unwrap().fetched, 0);
    let artifact = "home-acme/tiny".parse().unwrap();
    let version = "v1".parse().unwrap();
    let caller = waag_registry::access::Caller::peer(sites.members[1].terms.here());
    let catalogue = sites.world(1).site.catalogue();
    // Offered still, though it was not looked at again.
    assert_eq!(federation.mirror(home.site.id()).await.unwrap().fetched, 0);
    assert!(catalogue.resolve(&caller, &artifact, &version).await.is_err());
    assert_eq!(federation.mirror(home.site.id()).await.unwrap().fetched, 1);
    catalogue.resolve(&caller, &artifact, &version).await.unwrap();
}
