//! Private namespaces that are shared with some sites of the charter: those follow, mirror and serve them, all others learn
//! nothing, and nothing can be kept back from those unnoticed.

use waag_registry::access::Caller;
use waag_registry::federation::Peer as _;
use waag_registry::publish::PublishError;
use waag_schema::ledger::{PackPath, Stream};
use waag_schema::policy::Label;
use waag_schema::statement::{Keeping, Visibility};
use waag_schema::wire::federation::State;
use waag_schema::wire::token::{Scope, TokenRequest};
use waag_schema::{ArtifactName, SiteId};

use super::bent::{Bend, Bent};
use super::{Sites, anybody, at, publish, relabel, rule, share, withdraw};
use crate::world::{Draft, File, Publisher, World, name, noise};

const SPACE: &str = "home-secret";
const MODEL: &str = "home-secret/tumour";

/// A home, a site that mirrors from it, and one that would.
async fn three(seed: u64) -> Sites {
    let named = [
        ("home", "DE", vec![]),
        ("mirror", "IT", vec![rule("home")]),
        ("third", "FR", vec![rule("home"), rule("mirror")]),
    ];
    let sites = Sites::open(&named, seed).await;
    for site in 0..3 {
        sites.meet(site).await;
    }
    sites
}

fn files(seed: u64) -> Vec<File> {
    vec![File::new("scans.bin", noise(seed, 40_000))]
}

fn id(sites: &Sites, site: usize) -> SiteId {
    sites.world(site).site.id().clone()
}

fn everywhere() -> Label {
    at(&["DE", "IT", "FR"])
}

/// A private namespace at home with one release.
async fn secret(sites: &Sites) -> (Publisher, Draft) {
    let home = sites.world(0);
    let publisher = Publisher::begin(home, SPACE, 6, Visibility::Private).await;
    let draft = publish(home, &publisher, MODEL, "v1", files(1), Some(everywhere())).await;
    (publisher, draft)
}

/// Somebody whose token at this site carries these namespaces.
async fn reader(world: &World, namespaces: &[&str]) -> Caller {
    let request = TokenRequest {
        label: "reader".to_owned(),
        scopes: vec![Scope::Read],
        namespaces: namespaces.iter().map(|name| name.parse().unwrap()).collect(),
        jurisdiction: Some("IT".parse().unwrap()),
        days: None,
    };
    let (secret, _) = world.site.tokens().create(request).await.unwrap();
    world.site.tokens().caller(&secret).await.unwrap()
}

/// What a site's fold of another one's ledger holds, and everything in its copy.
async fn known(sites: &Sites, site: usize, of: usize) -> String {
    let ledgers = &sites.world(site).site.catalogue().ledgers;
    ledgers.of(&id(sites, of)).unwrap().index.dump().await.unwrap()
}

async fn states(world: &World) -> Vec<State> {
    let status = world.site.federation().status().await.unwrap();
    status.releases.into_iter().map(|view| view.state).collect()
}

async fn resolves(world: &World, caller: &Caller, tag: &str) -> Result<(), PublishError> {
    let (artifact, version) = (name(MODEL), tag.parse().unwrap());
    let resolved = world.site.catalogue().resolve(caller, &artifact, &version);
    resolved.await.map(drop)
}

/// Says whether any object of a site has these bytes somewhere.
fn holds_text(sites: &Sites, site: usize, text: &str) -> bool {
    sites.members[site].store.dump().into_iter().any(|(key, bytes)| {
        key.contains(text) || bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn a_site_that_a_private_namespace_is_shared_with_follows_mirrors_and_serves_it_to_its_readers() {
    let sites = three(40).await;
    let (home, mirror, third) = (sites.world(0), sites.world(1), sites.world(2));
    let (publisher, draft) = secret(&sites).await;
    sites.turn(1, 0).await;
    assert!(!known(&sites, 1, 0).await.contains("secret"));
    assert!(states(mirror).await.is_empty());

    // What was recorded before it was shared comes as well, and then what comes after.
    share(home, &publisher, SPACE, &[&id(&sites, 1)]).await;
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [State::Held]);
    publish(home, &publisher, MODEL, "v2", files(2), None).await;
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [State::Held, State::Held]);

    // Its readers get it, proven by the ledger of its home; nobody else there learns that it is.
    let ours = reader(mirror, &[SPACE]).await;
    let others = reader(mirror, &["mirror-other"]).await;
    let peer = Caller::peer(sites.members[2].terms.here());
    for tag in ["v1", "v2"] {
        resolves(mirror, &ours, tag).await.unwrap();
        for stranger in [&anybody(), &others, &peer] {
            let refused = resolves(mirror, stranger, tag).await;
            assert!(matches!(refused, Err(PublishError::NotFound(_))), "{refused:?}");
        }
    }
    let (artifact, file) = (name(MODEL), draft.files[0].sha256());
    mirror
        .site
        .catalogue()
        .file(&ours, &artifact, &file)
        .await
        .unwrap();

    // Home reads what the mirror does with it; a third site that follows both reads nothing.
    sites.turn(0, 1).await;
    sites.turn(2, 0).await;
    sites.turn(2, 1).await;
    let holders = home.site.federation().holders(&name(MODEL)).await.unwrap();
    let holds = holders
        .iter()
        .filter(|view| view.state == Keeping::Holds.as_str());
    assert!(holds.clone().all(|view| view.site == id(&sites, 1)));
    assert_eq!(holds.count(), 2);
    for of in [0, 1] {
        let seen = known(&sites, 2, of).await;
        assert!(
            !seen.contains("secret") && !seen.contains(&draft.digest.hex()),
            "{seen}"
        );
        let followed = third.site.catalogue().ledgers.of(&id(&sites, of)).unwrap();
        let there = sites.world(of).site.ledger().checkpoint();
        assert_eq!(followed.newest().unwrap().checkpoint(), there.checkpoint());
    }
    for text in ["secret", "tumour", "scans.bin"] {
        assert!(!holds_text(&sites, 2, text), "{text}");
    }
    assert!(states(third).await.is_empty());
}

#[tokio::test]
async fn the_fold_of_a_copy_with_a_stream_can_be_deleted_and_comes_again() {
    let sites = three(41).await;
    let home = sites.world(0);
    let (publisher, _) = secret(&sites).await;
    share(home, &publisher, SPACE, &[&id(&sites, 1)]).await;
    sites.turn(1, 0).await;
    // More than a pack, more than a bundle, and other entries between.
    for at in 0..150 {
        relabel(home, &publisher, MODEL, everywhere()).await;
        home.site.ledger().renew().await.unwrap();
        if at == 70 {
            sites.turn(1, 0).await;
        }
    }
    for _ in 0..150 {
        relabel(home, &publisher, MODEL, everywhere()).await;
    }
    sites.turn(1, 0).await;
    let before = known(&sites, 1, 0).await;
    let data = sites
        .world(1)
        .data()
        .join("peers")
        .join(format!("{}.db", id(&sites, 0)));
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", data.display()));
    }
    sites.meet(1).await;
    assert_eq!(known(&sites, 1, 0).await, before);
    sites.turn(1, 0).await;
    let followed = sites
        .world(1)
        .site
        .catalogue()
        .ledgers
        .of(&id(&sites, 0))
        .unwrap();
    let size = home.site.ledger().checkpoint().checkpoint().size;
    let entries: Vec<u64> = (0..size).collect();
    followed.prove(&entries).await.unwrap();
}

/// A mirror that a private namespace is shared with, and a home whose answers to it can be bent.
async fn shared_and_bent(seed: u64) -> (Sites, Bent, Publisher, Draft) {
    let sites = three(seed).await;
    let bent = sites.meet_bent(1, 0).await;
    let (publisher, draft) = secret(&sites).await;
    share(sites.world(0), &publisher, SPACE, &[&id(&sites, 1)]).await;
    (sites, bent, publisher, draft)
}

/// What comes of one look at home.
async fn look(sites: &Sites) -> Result<(), String> {
    let looked = sites.world(1).site.federation().look(&id(sites, 0)).await;
    looked.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_opening_that_is_withheld_from_a_stream_is_noticed_and_its_home_is_not_taken_for_heard() {
    let (sites, bent, ..) = shared_and_bent(42).await;
    bent.bend(Bend::Blanks(2));
    for _ in 0..2 {
        let error = look(&sites).await.unwrap_err();
        assert!(
            error.contains("entry 2") && error.contains("is not served"),
            "{error}"
        );
    }
    let status = sites.world(1).site.federation().status().await.unwrap();
    assert!(
        status.peers[0]
            .trouble
            .as_ref()
            .unwrap()
            .contains("is not served")
    );
    assert_eq!(status.peers[0].heard, None);
    // Also for who begins again from what it has copied.
    let bent = sites.meet_bent(1, 0).await;
    bent.bend(Bend::Nothing);
    assert!(look(&sites).await.unwrap_err().contains("is not served"));
}

#[tokio::test]
async fn a_stream_in_another_order_leaves_nothing_behind() {
    let (sites, bent, ..) = shared_and_bent(43).await;
    bent.bend(Bend::Swaps(1, 2));
    assert!(look(&sites).await.is_err());
    assert!(!known(&sites, 1, 0).await.contains(SPACE));
}

#[tokio::test]
async fn a_stream_that_gets_shorter_is_noticed() {
    let (sites, bent, ..) = shared_and_bent(44).await;
    look(&sites).await.unwrap();
    for short in [1, 1000] {
        bent.bend(Bend::Shortens(short));
        let error = look(&sites).await.unwrap_err();
        assert!(error.contains("it has shown 5 entries of a stream"), "{error}");
    }
    bent.bend(Bend::Nothing);
    look(&sites).await.unwrap();
}

#[tokio::test]
async fn a_withdrawal_in_a_stream_cannot_be_kept_back() {
    let (sites, bent, publisher, draft) = shared_and_bent(45).await;
    look(&sites).await.unwrap();
    withdraw(sites.world(0), &publisher, &draft, true).await;
    bent.bend(Bend::Shortens(1));
    // The list that names it is for everybody: what it names has to be there once the list was seen.
    look(&sites).await.unwrap();
    let error = look(&sites).await.unwrap_err();
    assert!(error.contains("the withdrawal is not served"), "{error}");
    bent.bend(Bend::Nothing);
    look(&sites).await.unwrap();
}

#[tokio::test]
async fn what_is_erased_in_a_stream_is_erased_in_the_copy_and_who_comes_late_follows_all_the_same() {
    let sites = three(46).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let (publisher, draft) = secret(&sites).await;
    let both = [&id(&sites, 1), &id(&sites, 2)];
    share(home, &publisher, SPACE, &both[..1]).await;
    sites.turn(1, 0).await;
    // Content withdrawn with erasure: the receipts of both stand where those can read them who might read it.
    withdraw(home, &publisher, &draft, true).await;
    home.site.federation().erase_own().await.unwrap();
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [State::Erased]);
    assert!(sites.chunks(0).is_empty() && sites.chunks(1).is_empty());
    // An opening: the release's.
    home.site.ledger().erase(1, "gdpr-17").await.unwrap();
    sites.turn(1, 0).await;
    let followed = mirror.site.catalogue().ledgers.of(&id(&sites, 0)).unwrap();
    assert!(followed.prove(&[1]).await.is_err());
    assert!(!known(&sites, 1, 0).await.contains("entry | 1 |"));
    share(home, &publisher, SPACE, &both).await;
    for site in [1, 2] {
        sites.turn(site, 0).await;
        sites.turn(site, 0).await;
    }
    assert!(known(&sites, 2, 0).await.contains(SPACE));
    // After a restart as well.
    for site in [1, 2] {
        sites.meet(site).await;
        sites.turn(site, 0).await;
    }
    sites.turn(0, 1).await;
    let holders = home.site.federation().holders(&name(MODEL)).await.unwrap();
    let erased = holders
        .iter()
        .filter(|view| view.state == Keeping::Erased.as_str());
    assert_eq!(erased.count(), 2);
    // Nobody who follows without being named reads where something was erased, or what was withdrawn.
    let late = Sites::open(&[("late", "ES", vec![rule("home"), rule("mirror")])], 47).await;
    for of in [0, 1] {
        let peer =
            waag_registry::federation::LocalPeer::new(&sites.world(of).site, late.members[0].terms.here());
        let met = vec![(sites.members[of].terms.clone(), std::sync::Arc::new(peer) as _)];
        late.world(0).site.federation().meet(met).await.unwrap();
        late.world(0)
            .site
            .federation()
            .look(&id(&sites, of))
            .await
            .unwrap();
    }
    for text in ["secret", "tumour", "scans.bin"] {
        assert!(!holds_text(&late, 0, text), "{text}");
    }
}

#[tokio::test]
async fn a_site_that_it_is_shared_with_no_longer_gets_nothing_new_and_deletes_its_copies() {
    let sites = three(48).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let (publisher, draft) = secret(&sites).await;
    share(home, &publisher, SPACE, &[&id(&sites, 1)]).await;
    sites.turn(1, 0).await;
    let ours = reader(mirror, &[SPACE]).await;
    resolves(mirror, &ours, "v1").await.unwrap();

    share(home, &publisher, SPACE, &[]).await;
    publish(
        home,
        &publisher,
        "home-secret/later",
        "v1",
        files(2),
        Some(everywhere()),
    )
    .await;
    let peer = sites.peer(0, 1);
    let refused = peer.manifest(&name(MODEL), &draft.digest).await;
    assert!(refused.is_err(), "{refused:?}");
    let federation = mirror.site.federation();
    federation.look(home.site.id()).await.unwrap();
    // From the entry on that says so, no reader gets a copy; and then none is left.
    let refused = resolves(mirror, &ours, "v1").await;
    assert!(matches!(refused, Err(PublishError::NotFound(_))), "{refused:?}");
    sites.turn(1, 0).await;
    assert!(sites.chunks(1).is_empty());
    assert_eq!(states(mirror).await, [State::Erased]);
    assert!(!known(&sites, 1, 0).await.contains("later"));
    let streams = peer.streams().await.unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(
        streams[0].count, 6,
        "genesis, release, label, tag, shared, not shared"
    );

    // Home reads that they are gone.
    sites.turn(0, 1).await;
    let holders = home.site.federation().holders(&name(MODEL)).await.unwrap();
    let erased = holders.iter().find(|view| view.site == id(&sites, 1)).unwrap();
    assert_eq!(erased.state, Keeping::Erased.as_str());
    assert!(erased.reason.as_ref().unwrap().contains("not shared"));

    // Shared again, it comes again, with what was said in between.
    share(home, &publisher, SPACE, &[&id(&sites, 1)]).await;
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [State::Held, State::Held]);
    resolves(mirror, &ours, "v1").await.unwrap();
}

/// Who may hold and read a release, by what its namespace and its label say.
#[tokio::test]
async fn labels_and_sharing_decide_together() {
    let rows = [
        // visibility, label, shared with: what mirror and third make of it; does a reader at the mirror get it, with a
        // token for it, with another, with none?
        (
            Visibility::Private,
            &["DE", "IT", "FR"][..],
            &[][..],
            [None, None],
            [false; 3],
        ),
        (
            Visibility::Private,
            &["DE", "IT", "FR"],
            &[1],
            [Some(State::Held), None],
            [true, false, false],
        ),
        (
            Visibility::Private,
            &["DE", "IT", "FR"],
            &[1, 2],
            [Some(State::Held), Some(State::Held)],
            [true, false, false],
        ),
        (
            Visibility::Private,
            &["DE"],
            &[1],
            [Some(State::Refused), None],
            [false; 3],
        ),
        (
            Visibility::Private,
            &["DE", "FR"],
            &[1, 2],
            [Some(State::Refused), Some(State::Held)],
            [false; 3],
        ),
        (
            Visibility::Public,
            &["DE", "IT"],
            &[],
            [Some(State::Held), Some(State::Refused)],
            [true, true, false],
        ),
    ];
    for (row, (visibility, label, shared, stands, reads)) in (0_u64..).zip(rows) {
        let sites = three(50 + row).await;
        let (home, mirror) = (sites.world(0), sites.world(1));
        let publisher = Publisher::begin(home, SPACE, 6, visibility).await;
        publish(home, &publisher, MODEL, "v1", files(1), Some(at(label))).await;
        if !shared.is_empty() {
            let ids: Vec<SiteId> = shared.iter().map(|site| id(&sites, *site)).collect();
            share(home, &publisher, SPACE, &ids.iter().collect::<Vec<_>>()).await;
        }
        for (site, stands) in [(1, &stands[0]), (2, &stands[1])] {
            sites.turn(site, 0).await;
            let found = states(sites.world(site)).await;
            assert_eq!(found.first(), stands.as_ref(), "row {row}, site {site}");
        }
        let callers = [
            reader(mirror, &[SPACE]).await,
            reader(mirror, &["mirror-other"]).await,
            anybody(),
        ];
        for (number, (caller, expected)) in callers.iter().zip(reads).enumerate() {
            let got = resolves(mirror, caller, "v1").await.is_ok();
            assert_eq!(got, expected, "row {row}, caller {number}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_may_not_be_read_is_one_that_does_not_exist() {
    let sites = three(60).await;
    let home = sites.world(0);
    let (publisher, _) = secret(&sites).await;
    share(home, &publisher, SPACE, &[&id(&sites, 1)]).await;
    let pack = |stream: Stream| PackPath::of(&stream, 0).0;
    let artifact: ArtifactName = name(MODEL);
    let hidden = pack(Stream::of_namespace(&artifact.namespace()));
    let absent = pack(Stream::of_namespace(&"nobodys".parse().unwrap()));
    let catalogue = home.site.catalogue();
    let ask = async |caller: &Caller, path: &PackPath| catalogue.pack(caller, 1, path).await.unwrap();
    let third = Caller::peer(sites.members[2].terms.here());
    let mirror = Caller::peer(sites.members[1].terms.here());
    let admin = home.admin.clone();
    for caller in [&anybody(), &third, &admin] {
        assert_eq!(ask(caller, &hidden).await, None);
        assert_eq!(catalogue.streams(caller).await.unwrap(), []);
    }
    for caller in [&mirror, &third] {
        assert_eq!(ask(caller, &absent).await, None);
    }
    assert!(ask(&mirror, &hidden).await.is_some());
}
