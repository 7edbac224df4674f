//! Custody: holders prove to each other that they have the bytes, and a copy goes only when others have.

use std::sync::Arc;

use waag_registry::access::Caller;
use waag_registry::federation::{Peer, PeerError, PeerSite, SitesError};
use waag_registry::publish::PublishError;
use waag_registry::store::{Fault, Key, Store};
use waag_schema::ArtifactName;
use waag_schema::base::name::Version;
use waag_schema::content::challenge::{Challenge, Nonce, Part};
use waag_schema::statement::Visibility;
use waag_schema::wire::federation::{Checked, HolderView, State, When};

use super::bent::{Bend, Bent};
use super::{Sites, anybody, at, publish, publisher, relabel, rule, share};
use crate::world::{Draft, File, Publisher, World, noise};

fn tiny() -> ArtifactName {
    "home-acme/tiny".parse().unwrap()
}

fn version() -> Version {
    "v1".parse().unwrap()
}

/// Home (0) and a mirror (1) that holds a release.
async fn two(seed: u64) -> (Sites, Draft) {
    let named = [("home", "DE", vec![]), ("one", "IT", vec![rule("home")])];
    let sites = Sites::open(&named, seed).await;
    let draft = released(&sites, seed).await;
    (sites, draft)
}

/// Home (0), two mirrors of it (1, 2) that hold a release of one chunk and its config, and who does not mirror (3).
async fn four(seed: u64) -> (Sites, Draft) {
    let named = [
        ("home", "DE", vec![]),
        ("one", "IT", vec![rule("home")]),
        ("two", "NO", vec![rule("home")]),
        ("third", "FR", vec![]),
    ];
    let sites = Sites::open(&named, seed).await;
    let draft = released(&sites, seed).await;
    (sites, draft)
}

/// Everybody meets, home publishes, and whoever mirrors it holds it.
async fn released(sites: &Sites, seed: u64) -> Draft {
    for site in 0..sites.members.len() {
        sites.meet(site).await;
    }
    let acme = publisher(sites.world(0), "home-acme").await;
    let files = vec![File::new("a.bin", noise(seed, 40_000))];
    let label = Some(at(&["*"]));
    let draft = publish(sites.world(0), &acme, "home-acme/tiny", "v1", files, label).await;
    hear_of_all(sites).await;
    draft
}

/// Everybody looks at everybody, and mirrors.
async fn hear_of_all(sites: &Sites) {
    for _ in 0..2 {
        for asking in 0..sites.members.len() {
            for asked in (0..sites.members.len()).filter(|asked| *asked != asking) {
                sites.turn(asking, asked).await;
            }
        }
    }
}

async fn challenge(sites: &Sites, asking: usize, asked: usize, draft: &Draft) -> Checked {
    let federation = sites.world(asking).site.federation();
    let asked = sites.world(asked).site.id();
    federation
        .challenge(asked, &draft.artifact, &draft.digest)
        .await
        .unwrap()
}

/// What a site says of who holds the release: country, state, and what came of asking.
async fn holders(world: &World) -> Vec<HolderView> {
    world.site.federation().holders(&tiny()).await.unwrap()
}

async fn state(world: &World) -> State {
    let status = world.site.federation().status().await.unwrap();
    status.releases[0].state.clone()
}

/// Lets a site know all others, one of them by what can be bent.
async fn meet_bent(sites: &Sites, asking: usize, bent: usize) -> Bent {
    let way = Bent::new(sites.peer(bent, asking));
    let mut peers: Vec<(PeerSite, Arc<dyn Peer>)> = Vec::new();
    for (other, member) in sites.members.iter().enumerate() {
        let peer: Arc<dyn Peer> = if other == bent {
            Arc::new(way.clone())
        } else {
            Arc::new(sites.peer(other, asking))
        };
        peers.push((member.terms.clone(), peer));
    }
    let federation = sites.world(asking).site.federation();
    federation.meet(peers).await.unwrap();
    way
}

#[tokio::test]
async fn holders_prove_to_each_other_that_they_have_the_bytes_and_it_is_shown_when() {
    let (sites, draft) = four(60).await;
    for (asking, asked) in [(0, 1), (1, 0), (1, 2)] {
        let checked = challenge(&sites, asking, asked, &draft).await;
        assert_eq!((checked.failed, checked.ok), (None, Some(checked.at)));
    }
    sites.clock.advance(3600);
    let mirror = sites.world(1);
    let views = holders(mirror).await;
    let of = |site: usize| {
        let view = views
            .iter()
            .find(|view| view.site == *sites.world(site).site.id());
        view.unwrap().checked.clone()
    };
    let midnight = Some(crate::world::MIDNIGHT);
    assert_eq!(of(0).unwrap().ok, midnight);
    assert_eq!(of(2).unwrap().ok, midnight);
    assert_eq!(of(1), None, "nobody asks himself");
    // It is there after a start as well.
    let sites = {
        let mut sites = sites;
        sites.reopen(1).await;
        sites.meet(1).await;
        sites
    };
    assert_eq!(holders(sites.world(1)).await.len(), views.len());
    assert!(
        holders(sites.world(1))
            .await
            .iter()
            .any(|view| view.checked.is_some())
    );
    // Who has nothing to compare with asks nobody.
    let federation = sites.world(3).site.federation();
    let asked = federation
        .challenge(sites.world(0).site.id(), &draft.artifact, &draft.digest)
        .await;
    assert!(matches!(asked, Err(SitesError::NotHeld(_))), "{asked:?}");
}

#[tokio::test]
async fn a_holder_that_has_lost_a_chunk_or_makes_its_answers_up_is_found_out_and_nothing_goes_for_it() {
    let (sites, draft) = four(61).await;
    let bent = meet_bent(&sites, 0, 1).await;
    challenge(&sites, 0, 1, &draft).await;
    sites.clock.advance(60);
    bent.bend(Bend::Pretends);
    let lied = challenge(&sites, 0, 1, &draft).await;
    assert!(lied.failed.unwrap().contains("other bytes"));
    assert_eq!(lied.ok, Some(crate::world::MIDNIGHT), "when it did have them");
    // Who passes the question on to another holder gives that one's answer.
    bent.bend(Bend::Nothing);
    bent.lead_to(sites.peer(2, 0));
    let passed_on = challenge(&sites, 0, 1, &draft).await;
    assert!(passed_on.failed.unwrap().contains("other bytes"));
    bent.lead_to(sites.peer(1, 0));
    assert_eq!(challenge(&sites, 0, 1, &draft).await.failed, None);

    // Its chunks go, of which it knows nothing: it still says that it holds the release, and cannot prove it.
    let chunks = draft.files.iter().flat_map(|file| file.recipe.pieces());
    for piece in chunks {
        sites.members[1]
            .store
            .delete(&Key::chunk(&piece.chunk))
            .await
            .unwrap();
    }
    let lost = challenge(&sites, 0, 1, &draft).await;
    assert!(
        lost.failed.as_ref().unwrap().contains("no whole copy"),
        "{lost:?}"
    );
    bent.bend(Bend::Away);
    let away = challenge(&sites, 0, 1, &draft).await;
    assert!(away.failed.unwrap().contains("does not answer"));
    assert_eq!(state(sites.world(1)).await, State::Held);
    let text = sites.world(0).site.metrics().render();
    let failed = format!(
        "waag_custody_challenges_total{{peer=\"{}\",outcome=\"failed\"}} 3",
        sites.world(1).site.id()
    );
    assert!(text.contains(&failed), "{text}");
}

#[tokio::test]
async fn who_may_not_know_of_a_release_gets_the_answer_of_who_has_none() {
    let (sites, draft) = four(62).await;
    let home = sites.world(0);
    let secret = Publisher::begin(home, "home-secret", 6, Visibility::Private).await;
    share(home, &secret, "home-secret", &[sites.world(1).site.id()]).await;
    let files = vec![File::new("s.bin", noise(3, 4000))];
    let hidden = publish(home, &secret, "home-secret/tumour", "v1", files, Some(at(&["*"]))).await;
    let acme = Publisher::known(home, "home-acme", 7).await;
    relabel(home, &acme, "home-acme/tiny", at(&["DE", "IT"])).await;
    hear_of_all(&sites).await;
    assert_eq!(challenge(&sites, 0, 1, &hidden).await.failed, None);

    for release in [&hidden, &draft] {
        let part = Part {
            file: release.files[0].sha256(),
            offset: 0,
            length: 8,
        };
        let asked = Challenge {
            manifest: release.digest,
            nonce: Nonce::from_bytes([1; 32]),
            parts: vec![part],
        };
        // The third one has nothing; home and mirror have it, and nothing for Norway.
        let answers = [0, 1, 3].map(|site| sites.peer(site, 2));
        let mut told = Vec::new();
        for peer in answers {
            told.push(peer.challenge(&release.artifact, &asked).await.unwrap_err());
        }
        let absent = PeerError::Absent(format!(
            "whole copy of {} of {}",
            release.digest, release.artifact
        ));
        assert_eq!(told, [absent.clone(), absent.clone(), absent]);
        // Whoever is no site is told nothing about anything.
        for caller in [anybody(), home.admin.clone()] {
            let answer = home
                .site
                .catalogue()
                .answer(&caller, &release.artifact, &asked)
                .await;
            assert!(matches!(answer, Err(PublishError::NotSite)));
        }
        // And nobody asks a site that may not hold it.
        let federation = home.site.federation();
        let two = sites.world(2).site.id();
        let asked = federation
            .challenge(two, &release.artifact, &release.digest)
            .await;
        assert!(matches!(asked, Err(SitesError::Drop(_))), "{asked:?}");
    }
    // What lies outside of a file, or is too much, is answered by nothing.
    let caller = Caller::peer(sites.members[1].terms.here());
    let part = Part {
        file: hidden.files[0].sha256(),
        offset: 3_999,
        length: 2,
    };
    let outside = Challenge {
        manifest: hidden.digest,
        nonce: Nonce::from_bytes([1; 32]),
        parts: vec![part],
    };
    let catalogue = home.site.catalogue();
    let answer = catalogue.answer(&caller, &hidden.artifact, &outside).await;
    assert!(matches!(answer, Err(PublishError::NotFound(_))));
    let many = Challenge {
        parts: vec![Part { offset: 0, ..part }; 17],
        ..outside
    };
    let answer = catalogue.answer(&caller, &hidden.artifact, &many).await;
    assert!(matches!(answer, Err(PublishError::Mismatch(_))));
}

#[tokio::test]
async fn each_site_asks_others_by_lot_for_what_it_has_too() {
    let (sites, _) = four(63).await;
    for (asking, possible) in [(0, vec![1, 2]), (1, vec![0, 2]), (2, vec![0, 1])] {
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let federation = sites.world(asking).site.federation();
            let (site, checked) = federation.challenge_one().await.unwrap().unwrap();
            assert_eq!(checked.failed, None);
            asked.insert(site);
            sites.clock.advance(60);
        }
        let possible = possible
            .into_iter()
            .map(|site| sites.world(site).site.id().clone());
        assert_eq!(asked, possible.collect());
    }
    let federation = sites.world(3).site.federation();
    assert!(
        federation.challenge_one().await.unwrap().is_none(),
        "it has nothing"
    );
}

#[tokio::test]
async fn a_copy_is_given_up_once_others_prove_that_they_have_it_and_comes_back_only_when_it_is_asked_for() {
    let (sites, draft) = four(64).await;
    let bent = meet_bent(&sites, 1, 2).await;
    let mirror = sites.world(1);
    let federation = mirror.site.federation();
    let drop = async |copies| federation.give_up(&tiny(), &version(), copies).await;
    assert!(matches!(drop(0).await, Err(SitesError::Drop(_))));
    // Two others have it, so three cannot prove it; one that lies does not count either.
    let refused = drop(3).await.unwrap_err();
    assert!(refused.to_string().contains("2 of 3"), "{refused}");
    bent.bend(Bend::Pretends);
    let Err(SitesError::TooFew { reasons, proved, .. }) = drop(2).await else {
        panic!("it was given up");
    };
    assert_eq!(proved, 1);
    assert!(reasons[0].contains("other bytes"), "{reasons:?}");
    assert_eq!(state(mirror).await, State::Held);
    bent.bend(Bend::Nothing);
    let dropped = drop(2).await.unwrap();
    assert_eq!((dropped.manifest, dropped.others.len()), (draft.digest, 2));
    assert_eq!(sites.content(1), Vec::<String>::new());
    assert!(matches!(drop(1).await, Err(SitesError::NotHeld(_))));

    // A rule still matches it, and it stays away; so its ledger says, and others read it there.
    hear_of_all(&sites).await;
    assert_eq!(state(mirror).await, State::Dropped);
    assert_eq!(sites.content(1), Vec::<String>::new());
    let told = holders(sites.world(2)).await;
    let own = told.iter().find(|view| view.site == *mirror.site.id()).unwrap();
    assert_eq!(own.state, "dropped");
    let reason = "dropped by its operator; 2 others hold it";
    assert_eq!(own.reason.as_deref(), Some(reason));
    // What was noted of asking about it is gone as well.
    assert!(holders(mirror).await.iter().all(|view| view.checked.is_none()));
    // Who has given it up does not count for the next one.
    let two = sites.world(2).site.federation();
    let refused = two.give_up(&tiny(), &version(), 2).await.unwrap_err();
    assert!(refused.to_string().contains("1 of 2"), "{refused}");

    // A rule that is added again asks for it again.
    federation.add_rule(rule("home")).await.unwrap();
    sites.turn(1, 0).await;
    assert_eq!(state(mirror).await, State::Held);
    sites.turn(1, 0).await;
    assert_eq!(state(mirror).await, State::Held);
    // Its home gives nothing up.
    let home = sites.world(0).site.federation();
    let refused = home.give_up(&tiny(), &version(), 1).await;
    assert!(matches!(refused, Err(SitesError::Drop(_))), "{refused:?}");
}

#[tokio::test]
async fn a_copy_that_is_not_whole_goes_by_the_word_of_others_and_comes_back_whole() {
    let (sites, draft) = two(66).await;
    let (store, mirror) = (&sites.members[1].store, sites.world(1));
    let federation = mirror.site.federation();
    for piece in draft.files.iter().flat_map(|file| file.recipe.pieces()) {
        store.delete(&Key::chunk(&piece.chunk)).await.unwrap();
    }
    // Nobody else says that it has it, beside its home.
    let refused = federation.give_up(&tiny(), &version(), 2).await.unwrap_err();
    assert!(!matches!(refused, SitesError::Drop(_)), "{refused}");
    assert_eq!(state(mirror).await, State::Held);
    let dropped = federation.give_up(&tiny(), &version(), 1).await.unwrap();
    assert_eq!(dropped.others, [sites.world(0).site.id().clone()]);
    assert_eq!(sites.content(1), Vec::<String>::new());
    let own = holders(mirror).await;
    let own = own.iter().find(|view| view.site == *mirror.site.id()).unwrap();
    let reason = "dropped by its operator; it was not whole; 1 other says that it holds it";
    assert_eq!(own.reason.as_deref(), Some(reason));
    federation.add_rule(rule("home")).await.unwrap();
    sites.turn(1, 0).await;
    assert_eq!(state(mirror).await, State::Held);
    assert_eq!(challenge(&sites, 0, 1, &draft).await.failed, None);
}

#[tokio::test]
async fn what_is_fetched_on_demand_and_was_given_up_comes_once_somebody_asks() {
    let mut on_demand = rule("home");
    on_demand.when = When::OnDemand;
    let named = [("home", "DE", vec![]), ("mirror", "IT", vec![on_demand])];
    let sites = Sites::open(&named, 65).await;
    sites.meet(1).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    let files = vec![File::new("a.bin", noise(1, 40_000))];
    publish(home, &acme, "home-acme/tiny", "v1", files, Some(at(&["*"]))).await;
    let resolve = async || {
        let catalogue = mirror.site.catalogue();
        catalogue.resolve(&anybody(), &tiny(), &version()).await
    };
    for _ in 0..2 {
        sites.turn(1, 0).await;
        assert!(matches!(resolve().await, Err(PublishError::Coming { .. })));
        sites.turn(1, 0).await;
        resolve().await.unwrap();
        let federation = mirror.site.federation();
        federation.give_up(&tiny(), &version(), 1).await.unwrap();
        sites.turn(1, 0).await;
        assert_eq!(state(mirror).await, State::OnDemand);
    }
}

#[tokio::test]
async fn two_that_give_up_the_same_copy_at_once_do_not_count_on_each_other() {
    for held in [0, 2, 4, 7] {
        let (sites, draft) = four(66).await;
        let ways = [meet_bent(&sites, 1, 2).await, meet_bent(&sites, 2, 1).await];
        // Its home has lost it.
        for piece in draft.files.iter().flat_map(|file| file.recipe.pieces()) {
            sites.members[0]
                .store
                .delete(&Key::chunk(&piece.chunk))
                .await
                .unwrap();
        }
        // The first one is held up somewhere on its way, and the second one goes on beside it.
        ways[0].hold_after(held);
        let give_up = |site: usize| {
            let federation = Arc::clone(sites.world(site).site.federation());
            tokio::spawn(async move { federation.give_up(&tiny(), &version(), 1).await })
        };
        let mut first = give_up(1);
        let early = tokio::select! {
            biased;
            done = &mut first => Some(done.unwrap()),
            () = ways[0].one_is_held() => None,
        };
        let second = give_up(2).await.unwrap();
        ways[0].let_go();
        let first = match early {
            Some(done) => done,
            None => first.await.unwrap(),
        };
        assert!(first.is_err() || second.is_err(), "both are gone");
        let left = [1, 2].into_iter().filter(|site| !sites.chunks(*site).is_empty());
        assert!(left.count() >= 1);
    }
}

#[tokio::test]
async fn what_was_being_given_up_when_its_site_died_is_whole_or_goes() {
    let (mut kept, mut gone) = (0, 0);
    for within in (1..50).step_by(3) {
        let (mut sites, draft) = two(67).await;
        let home = sites.meet_bent(1, 0).await;
        // From the last of the four answers on, the site may die at any access to its store.
        home.hold_after(3);
        let federation = Arc::clone(sites.world(1).site.federation());
        let done = tokio::spawn(async move { federation.give_up(&tiny(), &version(), 1).await });
        home.one_is_held().await;
        sites.members[1].faulty.crash_after(within, Fault::Torn);
        home.let_go();
        let done = done.await.unwrap();
        if !sites.members[1].faulty.has_crashed() {
            done.unwrap();
            sites.members[1].faulty.revive();
        }
        sites.reopen(1).await;
        for site in 0..2 {
            sites.meet(site).await;
        }
        sites.turn(1, 0).await;
        match state(sites.world(1)).await {
            State::Held => {
                kept += 1;
                assert_eq!(challenge(&sites, 1, 0, &draft).await.failed, None);
                sites.turn(0, 1).await;
                assert_eq!(challenge(&sites, 0, 1, &draft).await.failed, None);
            }
            State::Dropped => {
                gone += 1;
                assert_eq!(sites.content(1), Vec::<String>::new());
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(kept > 0 && gone > 0, "{kept} were kept, {gone} went");
}
