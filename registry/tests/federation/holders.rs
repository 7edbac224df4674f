//! A release comes from all sites that hold it: they share the work, stand in for each other, and nobody is asked who may
//! not know of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use waag_registry::federation::{Mirrored, Peer, PeerSite};
use waag_schema::statement::Visibility;
use waag_schema::wire::federation::State;

use super::bent::{Bend, Bent};
use super::{Sites, at, publish, publisher, rule, share};
use crate::world::{Draft, File, Publisher, name, noise};

const HOME: usize = 0;
const MIRROR: usize = 1;
const THIRD: usize = 2;

/// A home, a mirror that holds its release, and a third site that has seen both ledgers and fetched nothing.
struct Three {
    sites: Sites,
    draft: Draft,
    /// How the third one asks the home and the mirror.
    home: Bent,
    mirror: Bent,
}

fn files() -> Vec<File> {
    let file = |seed: u64| File::new(&format!("{seed}.bin"), noise(seed, 4000));
    (0..9).map(file).collect()
}

async fn sites(seed: u64) -> Sites {
    let named = [
        ("home", "DE", vec![]),
        ("mirror", "IT", vec![rule("home")]),
        ("third", "FR", vec![rule("home")]),
    ];
    let sites = Sites::open(&named, seed).await;
    sites.meet(HOME).await;
    sites.meet(MIRROR).await;
    sites
}

/// Lets the third site know the two others.
async fn third_meets(sites: &Sites) -> (Bent, Bent) {
    let bent = [HOME, MIRROR].map(|other| Bent::new(sites.peer(other, THIRD)));
    let peers = [HOME, MIRROR].map(|other| {
        let peer: Arc<dyn Peer> = Arc::new(bent[other].clone());
        (sites.members[other].terms.clone(), peer)
    });
    let peers: Vec<(PeerSite, Arc<dyn Peer>)> = peers.into();
    let federation = sites.world(THIRD).site.federation();
    federation.meet(peers).await.unwrap();
    bent.into()
}

async fn third_looks(sites: &Sites) {
    for other in [HOME, MIRROR] {
        let federation = sites.world(THIRD).site.federation();
        federation.look(sites.world(other).site.id()).await.unwrap();
    }
}

impl Three {
    async fn new(seed: u64) -> Self {
        let sites = sites(seed).await;
        let (home, mirror) = third_meets(&sites).await;
        let world = sites.world(HOME);
        let acme = publisher(world, "home-acme").await;
        let draft = publish(world, &acme, "home-acme/tiny", "v1", files(), Some(at(&["EU"]))).await;
        sites.turn(MIRROR, HOME).await;
        third_looks(&sites).await;
        Self {
            sites,
            draft,
            home,
            mirror,
        }
    }

    /// The third site fetches.
    async fn fetch(&self) -> Mirrored {
        let federation = self.sites.world(THIRD).site.federation();
        federation.mirror(self.sites.world(HOME).site.id()).await.unwrap()
    }

    async fn state(&self) -> (State, Option<String>) {
        let federation = self.sites.world(THIRD).site.federation();
        let mut releases = federation.status().await.unwrap().releases;
        let view = releases.remove(0);
        (view.state, view.reason)
    }

    /// How many chunks the release has, and how many came from the home and from the mirror.
    fn given(&self) -> (u64, u64, u64) {
        let pieces = self
            .draft
            .files
            .iter()
            .map(|file| file.recipe.pieces().len() as u64);
        let given = |bent: &Bent| bent.given.load(Ordering::Relaxed);
        (pieces.sum(), given(&self.home), given(&self.mirror))
    }

    fn lies(&self) -> String {
        let metrics = self.sites.world(THIRD).site.metrics().render();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("waag_mirror_lies_total"));
        line.unwrap().to_owned()
    }
}

#[tokio::test]
async fn two_holders_share_the_work_and_each_chunk_comes_once() {
    let three = Three::new(20).await;
    assert_eq!(three.fetch().await.fetched, 1);
    assert_eq!(three.state().await, (State::Held, None));
    let (all, home, mirror) = three.given();
    assert!(home > 0 && mirror > 0, "{home} and {mirror}");
    assert_eq!(home + mirror, all);
    assert_eq!(three.lies(), "waag_mirror_lies_total 0");
}

#[tokio::test]
async fn what_a_holder_that_falls_silent_leaves_comes_from_the_other() {
    for (seed, dies) in [(21, HOME), (22, MIRROR)] {
        let three = Three::new(seed).await;
        let bent = [&three.home, &three.mirror][dies];
        bent.bend(Bend::BreaksOff(2));
        assert_eq!(three.fetch().await.fetched, 1);
        assert_eq!(three.state().await, (State::Held, None));
        let (all, home, mirror) = three.given();
        // A third request is made after the first was answered; the second may be given up then.
        assert!((1..=2).contains(&[home, mirror][dies]));
        assert_eq!(home + mirror, all);
    }
}

#[tokio::test]
async fn a_holder_that_lies_is_found_out_and_the_release_comes_from_the_other() {
    let three = Three::new(23).await;
    three.mirror.bend(Bend::Chunks);
    assert_eq!(three.fetch().await.fetched, 1);
    assert_eq!(three.state().await, (State::Held, None));
    let (all, home, _) = three.given();
    assert_eq!(home, all);
    assert_eq!(three.lies(), "waag_mirror_lies_total 1");
}

#[tokio::test]
async fn a_fetch_fails_only_when_nobody_is_left_and_says_why_of_each() {
    let three = Three::new(24).await;
    three.mirror.bend(Bend::Chunks);
    three.home.bend(Bend::BreaksOff(0));
    let done = three.fetch().await;
    assert_eq!((done.fetched, done.failed), (0, 1));
    let (state, reason) = three.state().await;
    let reason = reason.unwrap();
    assert_eq!(state, State::Failed);
    assert!(reason.contains("home: it does not answer"), "{reason}");
    assert!(reason.contains("mirror: the bytes of the chunk"), "{reason}");
    // Nothing of it is here under its name, and it comes once somebody gives it.
    assert_eq!(three.sites.chunks(THIRD), Vec::<String>::new());
    three.mirror.bend(Bend::Nothing);
    assert_eq!(three.fetch().await.fetched, 1);
}

#[tokio::test]
async fn a_mirror_serves_alone_when_the_home_is_gone() {
    let three = Three::new(25).await;
    three.home.bend(Bend::Away);
    let federation = three.sites.world(THIRD).site.federation();
    let home = three.sites.world(HOME).site.id();
    assert!(federation.look(home).await.is_err());
    let asked = three.home.asked.load(Ordering::Relaxed);
    assert_eq!(three.fetch().await.fetched, 1);
    assert_eq!(three.state().await, (State::Held, None));
    let (all, home, mirror) = three.given();
    assert_eq!((home, mirror), (0, all));
    // Who did not answer when it was looked at is asked last.
    assert_eq!(three.home.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn what_broke_off_goes_on_with_another_holder_where_it_was() {
    let three = Three::new(26).await;
    let (home, mirror) = (&three.home, &three.mirror);
    home.bend(Bend::BreaksOff(2));
    mirror.bend(Bend::BreaksOff(1));
    assert_eq!(three.fetch().await.failed, 1);
    mirror.bend(Bend::Nothing);
    home.bend(Bend::Away);
    assert_eq!(three.fetch().await.fetched, 1);
    let (all, home, mirror) = three.given();
    assert!((1..=2).contains(&home));
    assert_eq!(home + mirror, all);
}

#[tokio::test]
async fn a_site_that_a_private_namespace_is_not_for_is_never_asked_for_it() {
    let sites = sites(27).await;
    let (home, mirror) = third_meets(&sites).await;
    let world = sites.world(HOME);
    let ids = [MIRROR, THIRD].map(|site| sites.world(site).site.id().clone());
    let secret = Publisher::begin(world, "home-secret", 6, Visibility::Private).await;
    publish(
        world,
        &secret,
        "home-secret/tiny",
        "v1",
        files(),
        Some(at(&["EU"])),
    )
    .await;
    share(world, &secret, "home-secret", &[&ids[0], &ids[1]]).await;
    sites.turn(MIRROR, HOME).await;
    third_looks(&sites).await;
    let federation = sites.world(THIRD).site.federation();
    let holds = async || {
        let holders = federation.holders(&name("home-secret/tiny")).await.unwrap();
        holders
            .iter()
            .any(|view| view.site == ids[0] && view.state == "holds")
    };
    assert!(holds().await);
    // It is for the mirror no more; its ledger says that it holds it until it has seen that.
    share(world, &secret, "home-secret", &[&ids[1]]).await;
    federation.look(world.site.id()).await.unwrap();
    assert!(holds().await);
    assert_eq!(federation.mirror(world.site.id()).await.unwrap().fetched, 1);
    assert_eq!(mirror.asked.load(Ordering::Relaxed), 0);
    assert!(home.asked.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_holder_that_its_label_denies_is_not_asked() {
    let three = Three::new(28).await;
    let world = three.sites.world(HOME);
    let acme = Publisher::known(world, "home-acme", 7).await;
    super::relabel(world, &acme, "home-acme/tiny", at(&["DE", "FR"])).await;
    let federation = three.sites.world(THIRD).site.federation();
    federation.look(world.site.id()).await.unwrap();
    assert_eq!(three.fetch().await.fetched, 1);
    assert_eq!(three.mirror.asked.load(Ordering::Relaxed), 0);
}
