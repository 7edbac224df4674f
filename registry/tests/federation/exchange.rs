//! What followers tell each other of third sites: whoever leads a double life is found out by those who hear each other, and
//! nobody by what was never signed.

use std::sync::Arc;

use waag_registry::federation::LocalPeer;
use waag_registry::ledger::Standing;
use waag_schema::ledger::{Checkpoint, Root, SignedCheckpoint};
use waag_schema::wire::federation::PeerView;

use super::bent::{Bend, Bent};
use super::simulation::Twin;
use super::{Sites, publisher};
use crate::world::World;

/// Home (0), of which others tell, and three that follow everybody; each with its way to home.
async fn four(seed: u64) -> (Sites, Vec<Bent>) {
    let named = [
        ("home", "DE", vec![]),
        ("one", "IT", vec![]),
        ("two", "NO", vec![]),
        ("six", "FI", vec![]),
    ];
    let sites = Sites::open(&named, seed).await;
    let ways: Vec<Bent> = (1..4).map(|asking| Bent::new(sites.peer(0, asking))).collect();
    for asking in 1..4 {
        meet(&sites, asking, &[(0, ways[asking - 1].clone())]).await;
    }
    publisher(sites.world(0), "home-acme").await;
    for asking in 1..4 {
        look(&sites, asking, 0).await;
    }
    (sites, ways)
}

/// Lets a site know all others, some of them by what can be bent.
async fn meet(sites: &Sites, asking: usize, bent: &[(usize, Bent)]) {
    let peers = sites.members.iter().enumerate().map(|(other, member)| {
        let way = bent.iter().find(|(site, _)| *site == other);
        let peer: Arc<dyn waag_registry::federation::Peer> = match way {
            Some((_, way)) => Arc::new(way.clone()),
            None => Arc::new(sites.peer(other, asking)),
        };
        (member.terms.clone(), peer)
    });
    let federation = sites.world(asking).site.federation();
    federation.meet(peers.collect()).await.unwrap();
}

async fn look(sites: &Sites, asking: usize, asked: usize) {
    let federation = sites.world(asking).site.federation();
    federation.look(sites.world(asked).site.id()).await.unwrap();
}

async fn hear(sites: &Sites, asking: usize, asked: usize) {
    let federation = sites.world(asking).site.federation();
    federation.hear(sites.world(asked).site.id()).await.unwrap();
}

/// How home stands at another site.
async fn home_at(sites: &Sites, site: usize) -> PeerView {
    let views = sites.world(site).site.federation().peers().await.unwrap();
    let home = sites.world(0).site.id();
    views.into_iter().find(|view| view.site == *home).unwrap()
}

async fn is_convicted(sites: &Sites, site: usize) -> bool {
    let followed = sites
        .world(site)
        .site
        .catalogue()
        .ledgers
        .of(sites.world(0).site.id());
    let stopped = matches!(followed.unwrap().standing, Standing::Stopped(_));
    let view = home_at(sites, site).await;
    assert_eq!(view.stopped.is_some(), stopped);
    assert_eq!(
        view.evidence
            .is_some_and(|evidence| evidence.checkpoints.len() == 2),
        stopped
    );
    stopped
}

/// Lets a ledger grow.
async fn grow(world: &World, entries: u64) {
    for _ in 0..entries {
        world.site.ledger().renew().await.unwrap();
    }
}

#[tokio::test]
async fn two_that_were_shown_different_histories_find_it_when_they_hear_each_other_whichever_is_longer() {
    for (seed, own, other) in [(80, 3, 3), (81, 2, 5), (82, 5, 2), (83, 300, 3), (84, 3, 300)] {
        let (sites, ways) = four(seed).await;
        let twin = Twin::of(&sites, 0).await;
        sites.clock.advance(1);
        grow(sites.world(0), own).await;
        sites.clock.advance(1);
        grow(&twin.world, other).await;
        ways[1].lead_to(LocalPeer::new(&twin.world.site, sites.members[2].terms.here()));
        look(&sites, 1, 0).await;
        look(&sites, 2, 0).await;
        assert!(!is_convicted(&sites, 1).await && !is_convicted(&sites, 2).await);
        // Each of them, when it hears the other one, whoever does first.
        hear(&sites, 1, 2).await;
        assert!(is_convicted(&sites, 1).await, "{own} and {other}");
        hear(&sites, 2, 1).await;
        assert!(is_convicted(&sites, 2).await, "{own} and {other}");
        // And who has seen one history only, and hears them, is told what convicts.
        look(&sites, 3, 0).await;
        assert!(!is_convicted(&sites, 3).await);
        hear(&sites, 3, 1).await;
        assert!(own < other || is_convicted(&sites, 3).await, "{own} and {other}");
        hear(&sites, 3, 2).await;
        assert!(is_convicted(&sites, 3).await, "{own} and {other}");
        twin.world.stop().await;
    }
}

#[tokio::test]
async fn what_was_never_signed_hurts_nobody() {
    let (sites, _) = four(85).await;
    let way = Bent::new(sites.peer(2, 1));
    meet(&sites, 1, &[(2, way.clone())]).await;
    let honest = sites.world(0).site.ledger().checkpoint();
    let of = |size: u64, root: u8| Checkpoint {
        size,
        root: Root::from_bytes([root; 32]),
        ..honest.checkpoint().clone()
    };
    // Signed by the one who tells, by nobody, of nobody, and what is no note at all.
    let stranger = SignedCheckpoint::sign(of(1, 9), &sites.log_key(2)).to_string();
    let moved = honest.to_string().replacen("\n1\n", "\n7\n", 1);
    let nobody = honest
        .to_string()
        .replace(sites.world(0).site.id().as_str(), &"a".repeat(32));
    let notes = vec![
        stranger,
        moved,
        nobody,
        "?".to_owned(),
        "x".repeat(100_000),
        honest.to_string(),
    ];
    way.bend(Bend::Tells(notes));
    hear(&sites, 1, 2).await;
    for _ in 0..20 {
        look(&sites, 1, 0).await;
    }
    let view = home_at(&sites, 1).await;
    assert_eq!((view.stopped, view.trouble), (None, None));
}

#[tokio::test]
async fn a_tree_that_is_shown_to_others_only_is_trouble_and_what_is_shown_later_is_none() {
    let (sites, _) = four(86).await;
    let home = sites.world(0);
    // Another site looks first, and tells.
    grow(home, 2).await;
    look(&sites, 2, 0).await;
    hear(&sites, 1, 2).await;
    assert_eq!(home_at(&sites, 1).await.trouble, None);
    look(&sites, 1, 0).await;
    assert_eq!(home_at(&sites, 1).await.trouble, None);
    // Home has signed a tree that it shows to nobody here, and who tells of it has no copy.
    let way = Bent::new(sites.peer(2, 1));
    meet(&sites, 1, &[(2, way.clone())]).await;
    let more = Checkpoint {
        size: 100,
        root: Root::from_bytes([9; 32]),
        ..home.site.ledger().checkpoint().checkpoint().clone()
    };
    let more = SignedCheckpoint::sign(more, &sites.log_key(0));
    way.bend(Bend::Tells(vec![more.to_string()]));
    hear(&sites, 1, 2).await;
    for _ in 0..10 {
        look(&sites, 1, 0).await;
        assert_eq!(home_at(&sites, 1).await.trouble, None);
    }
    look(&sites, 1, 0).await;
    let view = home_at(&sites, 1).await;
    let trouble = view.trouble.unwrap();
    assert!(trouble.contains("has shown 100 to two"), "{trouble}");
    assert_eq!(view.stopped, None);
    // Two trees of one size that are both not shown here: by its own signatures.
    let other = Checkpoint {
        root: Root::from_bytes([8; 32]),
        ..more.checkpoint().clone()
    };
    let other = SignedCheckpoint::sign(other, &sites.log_key(0));
    way.bend(Bend::Tells(vec![other.to_string()]));
    hear(&sites, 1, 2).await;
    assert!(is_convicted(&sites, 1).await);
}

#[tokio::test]
async fn a_tree_that_was_told_is_held_against_what_its_site_shows_later() {
    let (sites, _) = four(87).await;
    let way = Bent::new(sites.peer(2, 1));
    meet(&sites, 1, &[(2, way.clone())]).await;
    let home = sites.world(0);
    let hidden = Checkpoint {
        size: 3,
        root: Root::from_bytes([9; 32]),
        ..home.site.ledger().checkpoint().checkpoint().clone()
    };
    let hidden = SignedCheckpoint::sign(hidden, &sites.log_key(0));
    way.bend(Bend::Tells(vec![hidden.to_string()]));
    hear(&sites, 1, 2).await;
    assert!(!is_convicted(&sites, 1).await);
    grow(home, 4).await;
    look(&sites, 1, 0).await;
    assert!(is_convicted(&sites, 1).await);
}

#[tokio::test]
async fn who_is_believed_again_is_not_convicted_of_the_same_once_more() {
    let (sites, _) = four(88).await;
    let way = Bent::new(sites.peer(2, 1));
    meet(&sites, 1, &[(2, way.clone())]).await;
    let honest = sites.world(0).site.ledger().checkpoint();
    let forged = |size: u64| {
        let tree = Checkpoint {
            size,
            root: Root::from_bytes([9; 32]),
            ..honest.checkpoint().clone()
        };
        SignedCheckpoint::sign(tree, &sites.log_key(0)).to_string()
    };
    way.bend(Bend::Tells(vec![forged(1)]));
    hear(&sites, 1, 2).await;
    assert!(is_convicted(&sites, 1).await);
    let federation = sites.world(1).site.federation();
    let home = sites.world(0).site.id();
    federation.absolve(home).await.unwrap();
    // Also after a start, and when others tell more beside it.
    meet(&sites, 1, &[(2, way.clone())]).await;
    way.bend(Bend::Tells(vec![forged(1), honest.to_string()]));
    hear(&sites, 1, 2).await;
    look(&sites, 1, 0).await;
    assert!(!is_convicted(&sites, 1).await);
    // What it does from then on is another thing.
    grow(sites.world(0), 3).await;
    look(&sites, 1, 0).await;
    way.bend(Bend::Tells(vec![forged(2)]));
    hear(&sites, 1, 2).await;
    assert!(is_convicted(&sites, 1).await);
}
