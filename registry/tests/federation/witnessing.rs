//! Witnessing: what one site cosigns of another's ledger, and what that one makes of it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use waag_registry::federation::{Peer, PeerSite};
use waag_registry::http::router;
use waag_registry::ledger::Standing;
use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency};
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{Checkpoint, Hash, Note, Root, SignedCheckpoint, Submission, TileSource};

use super::bent::{Bend, Bent};
use super::{Sites, publisher};
use crate::world::MIDNIGHT;

/// Home (0) and two witnesses, who know each other.
async fn three() -> Sites {
    let sites = Sites::open(
        &[
            ("home", "DE", vec![]),
            ("two", "IT", vec![]),
            ("six", "NO", vec![]),
        ],
        40,
    )
    .await;
    for site in 0..3 {
        sites.meet(site).await;
    }
    publisher(sites.world(0), "home-acme").await;
    sites
}

async fn look_and_witness(sites: &Sites, witness: usize) -> Option<u64> {
    let federation = sites.world(witness).site.federation();
    federation.look(sites.world(0).site.id()).await.unwrap();
    federation.witness(sites.world(0).site.id()).await.unwrap()
}

fn published(sites: &Sites) -> SignedCheckpoint {
    let site = &sites.world(0).site;
    site.federation().published(site.ledger().checkpoint())
}

fn times(sites: &Sites) -> Vec<u64> {
    let keys: Vec<_> = sites
        .members
        .iter()
        .map(|member| member.terms.witness_key.clone())
        .collect();
    let cosigned = published(sites)
        .verify(&[sites.members[0].terms.log_key], &keys)
        .unwrap();
    cosigned.into_iter().map(|one| one.time.unix()).collect()
}

async fn ask(sites: &Sites, site: usize, path: &str, body: String) -> (StatusCode, String, String) {
    let request = Request::post(path).body(Body::from(body)).unwrap();
    let service = TowerToHyperService::new(router(Arc::clone(&sites.world(site).site)));
    let response = service.call(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, kind, String::from_utf8(bytes.to_vec()).unwrap())
}

/// What home would send to a witness that has cosigned `old` entries.
async fn submission(sites: &Sites, old: u64) -> Submission {
    let ledger = sites.world(0).site.ledger();
    let signed = ledger.checkpoint();
    let size = signed.checkpoint().size;
    let mut source = TileSource::new(size);
    let nodes = consistency_nodes(old.max(1), size).unwrap();
    for path in tiles_for(&nodes, size) {
        let bytes = ledger.tile(1, &path).await.unwrap();
        source.insert(&path, &bytes).unwrap();
    }
    let proof: Vec<Hash> = if old == 0 {
        Vec::new()
    } else {
        prove_consistency(&source, old, size).unwrap()
    };
    Submission {
        old,
        proof,
        note: signed.note().clone(),
    }
}

#[tokio::test]
async fn who_follows_a_ledger_cosigns_it_and_the_ledger_publishes_the_lines() {
    let sites = three().await;
    assert_eq!(times(&sites), Vec::<u64>::new());
    assert_eq!(look_and_witness(&sites, 1).await, Some(1));
    assert_eq!(look_and_witness(&sites, 2).await, Some(1));
    assert_eq!(times(&sites).len(), 2);
    let view = sites.world(0).site.federation().witnessing().await.unwrap();
    assert_eq!((view.committed, view.published, view.witnesses.len()), (1, 1, 2));
    let countries: Vec<_> = view
        .witnesses
        .iter()
        .filter_map(|one| one.jurisdiction.clone())
        .collect();
    assert!(countries.contains(&"IT".to_owned()) && countries.contains(&"NO".to_owned()));
    // Whoever looks sees the lines, and asks with the tag of the very note from then on.
    let peer = sites.peer(0, 1);
    let shown = peer.checkpoint(None, None).await.unwrap().unwrap();
    assert_eq!(shown, published(&sites).to_string());
    look_and_witness(&sites, 1).await;
    let followed = sites
        .world(1)
        .site
        .catalogue()
        .ledgers
        .of(sites.world(0).site.id())
        .unwrap();
    assert_eq!(followed.newest(), Some(&published(&sites)));
    // A larger tree has no line until it was followed.
    publisher(sites.world(0), "home-more").await;
    assert_eq!(times(&sites), Vec::<u64>::new());
    let view = sites.world(0).site.federation().witnessing().await.unwrap();
    assert_eq!((view.published, view.witnesses[0].size), (2, 1));
    // What was handed over is there after a restart.
    look_and_witness(&sites, 2).await;
    let before = published(&sites);
    sites.meet(0).await;
    assert_eq!(published(&sites), before);
}

#[tokio::test]
async fn an_unchanged_tree_is_cosigned_again_when_its_line_is_old() {
    let sites = three().await;
    look_and_witness(&sites, 1).await;
    let first = times(&sites);
    sites.clock.advance(599);
    look_and_witness(&sites, 1).await;
    assert_eq!(times(&sites), first);
    sites.clock.advance(1);
    look_and_witness(&sites, 1).await;
    assert_eq!(times(&sites), [first[0] + 600]);
}

#[tokio::test]
async fn a_checkpoint_that_is_sent_is_answered_as_the_specification_says() {
    let sites = three().await;
    let first = submission(&sites, 0).await;
    let (status, _, line) = ask(&sites, 1, "/add-checkpoint", first.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let mut signed = sites.world(0).site.ledger().checkpoint();
    signed.add(line.trim_end().parse().unwrap()).unwrap();
    let keys = [sites.members[1].terms.witness_key.clone()];
    let cosigned = signed.verify(&[sites.members[0].terms.log_key], &keys).unwrap();
    assert_eq!(cosigned[0].time, MIDNIGHT);

    for name in ["home-b", "home-c", "home-d"] {
        publisher(sites.world(0), name).await;
    }
    // Another size than the one that was cosigned last.
    let again = submission(&sites, 0).await.to_string();
    let (status, kind, body) = ask(&sites, 1, "/add-checkpoint", again).await;
    assert_eq!(
        (status, kind.as_str(), body.as_str()),
        (StatusCode::CONFLICT, "text/x.tlog.size", "1\n")
    );
    // A proof that shows nothing.
    let mut wrong = submission(&sites, 1).await;
    wrong.proof[0] = Hash::from_bytes([3; 32]);
    let (status, ..) = ask(&sites, 1, "/add-checkpoint", wrong.to_string()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    // An old size beyond the new one, and what is no submission.
    let mut beyond = submission(&sites, 1).await;
    beyond.old = 9;
    assert_eq!(
        ask(&sites, 1, "/add-checkpoint", beyond.to_string()).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        ask(&sites, 1, "/add-checkpoint", "old 1\n".to_owned()).await.0,
        StatusCode::BAD_REQUEST
    );
    // An unknown ledger, and a known one that somebody else signed.
    let text = submission(&sites, 1).await.to_string();
    let unknown = text.replace(&format!("waag/{}/1", sites.world(0).site.id()), "example.com/log");
    assert_eq!(
        ask(&sites, 1, "/add-checkpoint", unknown).await.0,
        StatusCode::NOT_FOUND
    );
    let checkpoint = sites.world(0).site.ledger().checkpoint().checkpoint().clone();
    let forged = SignedCheckpoint::sign(checkpoint, &sites.log_key(2));
    let forged = Submission {
        note: forged.note().clone(),
        ..submission(&sites, 1).await
    };
    assert_eq!(
        ask(&sites, 1, "/add-checkpoint", forged.to_string()).await.0,
        StatusCode::FORBIDDEN
    );
    // None of it has moved anything.
    assert_eq!(ask(&sites, 1, "/add-checkpoint", text).await.0, StatusCode::OK);
}

#[tokio::test]
async fn two_trees_of_one_size_are_kept_as_evidence_by_the_witness() {
    let sites = three().await;
    let first = submission(&sites, 0).await;
    let witness = &sites.world(1).site;
    witness.federation().add_checkpoint(&first).await.unwrap();
    let honest = sites.world(0).site.ledger().checkpoint();
    let other = Checkpoint {
        root: Root::from_bytes([9; 32]),
        ..honest.checkpoint().clone()
    };
    let forged = SignedCheckpoint::sign(other, &sites.log_key(0));
    let second = Submission {
        old: 1,
        proof: Vec::new(),
        note: forged.note().clone(),
    };
    let (status, _, body) = ask(&sites, 1, "/add-checkpoint", second.to_string()).await;
    assert_eq!((status, body.as_str()), (StatusCode::CONFLICT, "1\n"));
    let peers = witness.federation().peers().await.unwrap();
    let view = peers
        .iter()
        .find(|view| view.site == *sites.world(0).site.id())
        .unwrap();
    assert_eq!(
        view.evidence.as_ref().unwrap().checkpoints,
        [honest.to_string(), forged.to_string()]
    );
    let followed = witness.catalogue().ledgers.of(sites.world(0).site.id()).unwrap();
    assert!(matches!(followed.standing, Standing::Stopped(_)));
    // Nothing more of it is cosigned.
    assert_eq!(
        ask(&sites, 1, "/add-checkpoint", first.to_string()).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_history_that_was_cosigned_elsewhere_convicts_whoever_shows_another_one() {
    let sites = three().await;
    // The witness is sent a tree that nobody who follows is shown.
    let honest = sites.world(0).site.ledger().checkpoint();
    let other = Checkpoint {
        root: Root::from_bytes([9; 32]),
        ..honest.checkpoint().clone()
    };
    let forged = SignedCheckpoint::sign(other, &sites.log_key(0));
    let sent = Submission {
        old: 0,
        proof: Vec::new(),
        note: forged.note().clone(),
    };
    let federation = sites.world(1).site.federation();
    let home = sites.world(0).site.id();
    federation.add_checkpoint(&sent).await.unwrap();
    federation.look(home).await.unwrap();
    assert!(federation.witness(home).await.is_err());
    let followed = sites.world(1).site.catalogue().ledgers.of(home).unwrap();
    assert!(matches!(followed.standing, Standing::Stopped(_)));
    // Whoever decides to believe it gets its copies back, and no further line on that ledger.
    federation.absolve(home).await.unwrap();
    federation.look(home).await.unwrap();
    let refused = federation.witness(home).await.unwrap_err();
    assert!(refused.to_string().contains("another history"), "{refused}");
    let followed = sites.world(1).site.catalogue().ledgers.of(home).unwrap();
    assert_eq!(followed.standing, Standing::Sound);
}

#[tokio::test]
async fn lines_of_strangers_on_other_trees_or_from_the_future_are_not_taken() {
    let sites = three().await;
    look_and_witness(&sites, 1).await;
    let view = sites.world(0).site.federation().witnessing().await.unwrap();
    let note = view.witnesses[0].note.clone();
    let take = |note: String| ask(&sites, 0, "/ledger/cosign", note);
    // What was sent before is taken again, and changes nothing.
    assert_eq!(take(note.clone()).await.0, StatusCode::OK);
    // Another text under the line.
    assert_eq!(
        take(note.replacen("\n1\n", "\n2\n", 1)).await.0,
        StatusCode::FORBIDDEN
    );
    // The ledger's own signature is no witness's.
    let own = sites.world(0).site.ledger().checkpoint().to_string();
    assert_eq!(take(own).await.0, StatusCode::FORBIDDEN);
    // A witness whose clock is ahead.
    let checkpoint = sites.world(0).site.ledger().checkpoint();
    let mut early = Note::new(checkpoint.note().text()).unwrap();
    let name = sites.members[2].terms.witness_key.name();
    let (pair, noon) = (sites.key(2, "witness"), MIDNIGHT);
    early
        .add(early.cosign(name, &pair, noon.plus(301)).unwrap())
        .unwrap();
    assert_eq!(take(early.to_string()).await.0, StatusCode::BAD_REQUEST);
    early
        .add(early.cosign(name, &pair, noon.plus(300)).unwrap())
        .unwrap();
    assert_eq!(take(early.to_string()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn two_who_ask_at_once_never_get_lines_on_trees_that_contradict_each_other() {
    let sites = three().await;
    let honest = submission(&sites, 0).await;
    let checkpoint = sites.world(0).site.ledger().checkpoint().checkpoint().clone();
    let other = Checkpoint {
        root: Root::from_bytes([9; 32]),
        ..checkpoint
    };
    let forged = SignedCheckpoint::sign(other, &sites.log_key(0));
    let forged = Submission {
        old: 0,
        proof: Vec::new(),
        note: forged.note().clone(),
    };
    let federation = sites.world(1).site.federation();
    let (one, two) = tokio::join!(
        federation.add_checkpoint(&honest),
        federation.add_checkpoint(&forged)
    );
    assert!(one.is_ok() != two.is_ok());
}

#[tokio::test]
async fn a_line_that_could_not_be_handed_over_is_handed_over_later() {
    let sites = three().await;
    let bent = Bent::new(sites.peer(0, 1));
    let peers: Vec<(PeerSite, Arc<dyn Peer>)> =
        vec![(sites.members[0].terms.clone(), Arc::new(bent.clone()))];
    let federation = sites.world(1).site.federation();
    federation.meet(peers).await.unwrap();
    let home = sites.world(0).site.id();
    federation.look(home).await.unwrap();
    bent.bend(Bend::Away);
    assert!(federation.witness(home).await.is_err());
    assert_eq!(times(&sites), Vec::<u64>::new());
    bent.bend(Bend::Nothing);
    federation.witness(home).await.unwrap();
    assert_eq!(times(&sites).len(), 1);
}
