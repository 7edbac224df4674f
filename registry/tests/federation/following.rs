//! Following: what another site's ledger says is believed as far as it is signed, and never back.

use waag_registry::federation::{FollowError, WitnessError};
use waag_registry::ledger::Standing;
use waag_schema::federation::Ending;
use waag_schema::ledger::{Checkpoint, Root, SignedCheckpoint, Submission};

use super::bent::Bend;
use super::{Sites, at, publish, publisher, rule, withdraw};
use crate::world::{File, noise};

async fn two() -> Sites {
    Sites::open(&[("home", "DE", vec![]), ("other", "IT", vec![rule("home")])], 1).await
}

fn files(seed: u64) -> Vec<File> {
    vec![File::new("data.bin", noise(seed, 5000))]
}

fn copied(sites: &Sites) -> Vec<String> {
    let dump = sites.members[1].store.dump();
    let tiles = |key: &String| key.contains("/tile/") && key.starts_with("federation/");
    dump.into_keys().filter(tiles).collect()
}

#[tokio::test]
async fn a_ledger_that_the_charter_ends_is_followed_up_to_there_and_neither_followed_nor_cosigned_beyond() {
    let mut sites = two().await;
    sites.meet(0).await;
    sites.meet(1).await;
    let home = sites.members[0].terms.id.clone();
    let acme = publisher(sites.world(0), "home-acme").await;
    publish(sites.world(0), &acme, "home-acme/tiny", "v1", files(1), None).await;
    let last = sites.world(0).site.ledger().checkpoint().checkpoint().clone();
    let end = Ending {
        size: last.size,
        root: last.root,
    };
    sites.members[0].terms.ends.insert(last.origin.series(), end);
    sites.meet(1).await;
    sites.turn(1, 0).await;
    let other = &sites.world(1).site;
    let followed = || {
        other
            .catalogue()
            .ledgers
            .of(&home)
            .unwrap()
            .newest()
            .unwrap()
            .checkpoint()
            .clone()
    };
    assert_eq!(followed(), last);

    // Whoever has the key goes on.
    publish(sites.world(0), &acme, "home-acme/tiny", "v2", files(2), None).await;
    let error = other.federation().look(&home).await.unwrap_err();
    assert!(error.to_string().contains("the charter ends"), "{error}");
    assert_eq!(followed(), last);
    assert_eq!(other.federation().witness(&home).await.unwrap(), Some(last.size));
    let submission = Submission {
        old: last.size,
        proof: Vec::new(),
        note: sites.world(0).site.ledger().checkpoint().note().clone(),
    };
    let error = other.federation().add_checkpoint(&submission).await.unwrap_err();
    assert!(matches!(error, WitnessError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_ledger_is_followed_entry_by_entry_and_the_fold_of_the_copy_is_the_fold_of_the_ledger() {
    let sites = two().await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let mut drafts = Vec::new();
    for seed in 0..3 {
        let tag = format!("v{seed}");
        drafts.push(publish(home, &acme, "home-acme/tiny", &tag, files(seed), None).await);
        sites.turn(1, 0).await;
    }
    withdraw(home, &acme, &drafts[0], false).await;
    sites.turn(1, 0).await;
    let followed = sites
        .world(1)
        .site
        .catalogue()
        .ledgers
        .of(home.site.id())
        .unwrap();
    assert_eq!(followed.newest().unwrap(), &home.site.ledger().checkpoint());
    // Recipes are at home only, and with them what says of which chunks files are made.
    let rows = |dump: String| -> Vec<String> {
        let of_statements = |line: &&str| {
            ["entry", "stream", "namespace", "release", "tag", "content |"]
                .iter()
                .any(|t| line.starts_with(t))
        };
        dump.lines().filter(of_statements).map(str::to_owned).collect()
    };
    assert_eq!(
        rows(followed.index.dump().await.unwrap()),
        rows(home.index().await)
    );
    let size = home.site.ledger().checkpoint().checkpoint().size;
    for entry in 0..size {
        followed.prove(&[entry]).await.unwrap();
    }
}

#[tokio::test]
async fn more_than_a_bundle_is_followed_at_once_and_the_index_can_be_deleted() {
    let sites = two().await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), None).await;
    sites.turn(1, 0).await;
    for _ in 0..300 {
        home.site.ledger().renew().await.unwrap();
    }
    sites.turn(1, 0).await;
    let ledgers = &sites.world(1).site.catalogue().ledgers;
    let before = ledgers.of(home.site.id()).unwrap().index.dump().await.unwrap();
    let index = sites
        .world(1)
        .data()
        .join("peers")
        .join(format!("{}.db", home.site.id()));
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", index.display()));
    }
    sites.meet(1).await;
    let after = ledgers.of(home.site.id()).unwrap().index.dump().await.unwrap();
    assert_eq!(before, after);
    sites.turn(1, 0).await;
}

#[tokio::test]
async fn leaves_that_are_not_in_the_signed_tree_leave_nothing_behind() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    publisher(home, "home-acme").await;
    bent.bend(Bend::Leaves);
    let federation = sites.world(1).site.federation();
    assert!(federation.look(home.site.id()).await.is_err());
    assert_eq!(copied(&sites), Vec::<String>::new());
    bent.bend(Bend::Nothing);
    assert_eq!(federation.look(home.site.id()).await.unwrap().new, 1);
}

#[tokio::test]
async fn openings_that_are_withheld_are_noticed() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    publisher(home, "home-acme").await;
    bent.bend(Bend::Withholds);
    let federation = sites.world(1).site.federation();
    let error = federation.look(home.site.id()).await.unwrap_err().to_string();
    assert!(error.contains("is not served"), "{error}");
    assert!(
        sites
            .world(1)
            .site
            .catalogue()
            .ledgers
            .of(home.site.id())
            .unwrap()
            .newest()
            .is_none()
    );
}

#[tokio::test]
async fn what_is_erased_at_home_is_erased_in_the_copy() {
    let sites = two().await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/secret", "v1", files(1), None).await;
    sites.turn(1, 0).await;
    let entry = 1;
    home.site.ledger().erase(entry, "gdpr-17").await.unwrap();
    sites.turn(1, 0).await;
    let followed = sites
        .world(1)
        .site
        .catalogue()
        .ledgers
        .of(home.site.id())
        .unwrap();
    assert!(followed.prove(&[entry]).await.is_err());
    let dump = followed.index.dump().await.unwrap();
    assert!(!dump.contains("entry | 1 |"), "{dump}");
    let packs = |store: &waag_registry::store::MemoryStore, prefix: &str| {
        let dump = store.dump();
        let own = dump
            .into_iter()
            .filter(|(key, _)| key.starts_with(prefix) && key.contains("/body/"));
        own.map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    let copied = packs(&sites.members[1].store, "federation/");
    assert_eq!(copied, packs(&sites.members[0].store, "ledger/"));
    // Whoever begins to follow only now follows it all the same.
    let late = Sites::open(&[("late", "IT", vec![])], 9).await;
    let peer = waag_registry::federation::LocalPeer::new(&home.site, late.members[0].terms.here());
    let federation = late.world(0).site.federation();
    federation
        .meet(vec![(sites.members[0].terms.clone(), std::sync::Arc::new(peer))])
        .await
        .unwrap();
    federation.look(home.site.id()).await.unwrap();
}

#[tokio::test]
async fn an_older_tree_moves_nothing_and_convicts_nobody() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    publisher(home, "home-acme").await;
    let old = home.site.ledger().checkpoint().to_string();
    publisher(home, "home-other").await;
    let federation = sites.world(1).site.federation();
    federation.look(home.site.id()).await.unwrap();
    bent.bend(Bend::Shows(old));
    let error = federation.look(home.site.id()).await.unwrap_err().to_string();
    assert!(
        error.contains("1 entries") && error.contains("2 were seen"),
        "{error}"
    );
    let followed = sites
        .world(1)
        .site
        .catalogue()
        .ledgers
        .of(home.site.id())
        .unwrap();
    assert_eq!(followed.newest().unwrap().checkpoint().size, 2);
    assert_eq!(followed.standing, Standing::Sound);
}

#[tokio::test]
async fn a_second_history_is_kept_as_evidence_and_ends_the_trust_until_an_admin_decides() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["*"]))).await;
    sites.turn(1, 0).await;
    let honest = home.site.ledger().checkpoint();
    let other = Checkpoint {
        root: Root::from_bytes([9; 32]),
        ..honest.checkpoint().clone()
    };
    let forged = SignedCheckpoint::sign(other, &sites.log_key(0)).to_string();
    bent.bend(Bend::Shows(forged.clone()));
    let federation = sites.world(1).site.federation();
    let error = federation.look(home.site.id()).await.unwrap_err();
    assert!(error.to_string().contains("two trees"), "{error}");
    let view = federation.peers().await.unwrap().remove(0);
    let evidence = view.evidence.unwrap();
    assert_eq!(evidence.checkpoints, [honest.to_string(), forged]);
    // Nothing more is believed, and no copy is given out, whatever it says now, also after a restart.
    bent.bend(Bend::Nothing);
    sites.meet(1).await;
    let error = federation.look(home.site.id()).await.unwrap_err();
    assert!(matches!(
        error,
        waag_registry::federation::SitesError::Follow(FollowError::Stopped(_))
    ));
    let catalogue = sites.world(1).site.catalogue();
    let tag = "v1".parse().unwrap();
    let refused = catalogue
        .resolve(&super::anybody(), &"home-acme/tiny".parse().unwrap(), &tag)
        .await;
    assert!(refused.unwrap_err().to_string().contains("not believed"));
    federation.absolve(home.site.id()).await.unwrap();
    federation.look(home.site.id()).await.unwrap();
    catalogue
        .resolve(&super::anybody(), &"home-acme/tiny".parse().unwrap(), &tag)
        .await
        .unwrap();
}
