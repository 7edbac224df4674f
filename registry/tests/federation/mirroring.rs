//! Mirroring: the closure of a release arrives or nothing is shown, labels and withdrawals take effect, and what is
//! held, refused and erased stands in the mirror's own ledger.

use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use waag_registry::publish::PublishError;
use waag_schema::ArtifactName;
use waag_schema::base::name::Version;
use waag_schema::wire::federation::{MirrorRule, State, When};
use waag_schema::wire::upload::UploadRequest;

use super::bent::Bend;
use super::{Sites, anybody, at, publish, publisher, relabel, rule, withdraw};
use crate::world::{File, World, noise};

async fn two() -> Sites {
    Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", vec![rule("home")])], 2).await
}

fn tiny() -> ArtifactName {
    "home-acme/tiny".parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn files(seed: u64) -> Vec<File> {
    vec![
        File::new("a.bin", noise(seed, 3_000_000)),
        File::new("b.txt", noise(seed + 100, 500)),
    ]
}

/// The state and reason of each release, as the mirror tells it.
async fn states(world: &World) -> Vec<(State, Option<String>)> {
    let status = world.site.federation().status().await.unwrap();
    status
        .releases
        .into_iter()
        .map(|view| (view.state, view.reason))
        .collect()
}

/// What the mirror and its peers say of custody: country and state.
async fn holders(world: &World) -> Vec<(String, String)> {
    let holders = world.site.federation().holders(&tiny()).await.unwrap();
    let brief = holders
        .into_iter()
        .map(|view| (view.jurisdiction.unwrap_or_default(), view.state));
    brief.collect()
}

#[tokio::test]
async fn a_copy_is_shown_served_and_proven_by_its_homes_ledger() {
    let sites = two().await;
    sites.meet(1).await;
    sites.meet(0).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    let draft = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    let catalogue = mirror.site.catalogue();
    assert!(catalogue.artifact(&anybody(), &tiny()).await.is_err());
    sites.turn(1, 0).await;

    let listed = catalogue.list(&anybody(), Default::default()).await.unwrap();
    assert_eq!(listed.artifacts[0].name, tiny());
    let shown = catalogue.artifact(&anybody(), &tiny()).await.unwrap();
    assert_eq!(shown.tags[0].manifest, draft.digest);
    // A caller without a jurisdiction is in no place of the EU: the label is asked here as at home.
    let refused = catalogue.resolve(&anybody(), &tiny(), &version("v1")).await;
    assert!(matches!(refused, Err(PublishError::Denied { .. })));
    let from_italy = waag_registry::access::Caller::peer(sites.members[1].terms.here());
    let resolved = catalogue
        .resolve(&from_italy, &tiny(), &version("v1"))
        .await
        .unwrap();
    let at_home = home.site.catalogue();
    let at_home = at_home
        .resolve(&from_italy, &tiny(), &version("v1"))
        .await
        .unwrap();
    assert_eq!(resolved, at_home);
    for file in &draft.files {
        let found = catalogue
            .bytes(&from_italy, &tiny(), &file.sha256())
            .await
            .unwrap();
        let recipe = mirror
            .site
            .content()
            .recipe(&found.recipe)
            .await
            .unwrap()
            .unwrap();
        let bytes: Vec<_> = mirror
            .site
            .content()
            .range(&recipe, found.within)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(bytes.concat(), file.bytes);
    }
    assert_eq!(states(mirror).await, [(State::Held, None)]);
    let both = |first: &str, second: &str| {
        vec![
            (first.to_owned(), "holds".to_owned()),
            (second.to_owned(), "home".to_owned()),
        ]
    };
    assert_eq!(holders(mirror).await, both("IT", "DE"));
    // Home learns it from the mirror's ledger.
    sites.turn(0, 1).await;
    let mut seen = holders(home).await;
    seen.sort_by(|a, b| b.cmp(a));
    assert_eq!(seen, both("IT", "DE"));
}

#[tokio::test]
async fn what_a_label_denies_is_refused_on_record_and_not_a_byte_moves() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["DE"]))).await;
    publish(home, &acme, "home-acme/unlabelled", "v1", files(2), None).await;
    sites.turn(1, 0).await;
    sites.turn(1, 0).await;
    let mirror = sites.world(1);
    for (state, reason) in states(mirror).await {
        assert_eq!(state, State::Refused);
        assert!(reason.unwrap().starts_with("denied"));
    }
    assert_eq!(bent.given.load(Ordering::Relaxed), 0);
    assert_eq!(sites.chunks(1), Vec::<String>::new());
    assert_eq!(holders(mirror).await[0], ("IT".to_owned(), "refused".to_owned()));
    // Once for each, however often it is looked.
    assert_eq!(mirror.site.ledger().checkpoint().checkpoint().size, 2);
    // A label that is widened is taken for what it says now.
    relabel(home, &acme, "home-acme/tiny", at(&["EU"])).await;
    sites.turn(1, 0).await;
    assert!(states(mirror).await.contains(&(State::Held, None)));
}

#[tokio::test]
async fn a_chunk_that_is_another_leaves_nothing_shown() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    bent.bend(Bend::Chunks);
    sites.turn(1, 0).await;
    let mirror = sites.world(1);
    let (state, reason) = states(mirror).await.remove(0);
    assert_eq!(state, State::Failed);
    assert!(reason.unwrap().contains("another digest"));
    assert!(
        mirror
            .site
            .catalogue()
            .artifact(&anybody(), &tiny())
            .await
            .is_err()
    );
    bent.bend(Bend::Nothing);
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [(State::Held, None)]);
}

#[tokio::test]
async fn what_broke_off_goes_on_where_it_was() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let draft = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    let all: usize = draft.files.iter().map(|file| file.recipe.pieces().len()).sum();
    bent.bend(Bend::BreaksOff(2));
    sites.turn(1, 0).await;
    assert_eq!(states(sites.world(1)).await[0].0, State::Failed);
    // The process dies; what was named stays.
    let Sites { clock, mut members } = sites;
    let mut mirror = members.pop().unwrap();
    mirror.world = mirror.world.restart(|_| {}).await.unwrap();
    members.push(mirror);
    let sites = Sites { clock, members };
    let bent_again = sites.meet_bent(1, 0).await;
    sites.turn(1, 0).await;
    assert_eq!(states(sites.world(1)).await, [(State::Held, None)]);
    let given = [&bent, &bent_again].map(|bent| bent.given.load(Ordering::Relaxed));
    // A third request was made once the first was answered; the second may have been given up then.
    assert!((1..=2).contains(&given[0]));
    assert_eq!(given[0] + given[1], all as u64);
}

#[tokio::test]
async fn a_withdrawal_with_erasure_deletes_what_nothing_else_needs() {
    let sites = two().await;
    sites.meet(1).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    let gone = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    // Another release shares a file with it.
    let shared = vec![
        File::new("b.txt", noise(101, 500)),
        File::new("c.txt", noise(5, 700)),
    ];
    publish(home, &acme, "home-acme/tiny", "v2", shared, None).await;
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await.len(), 2);
    withdraw(home, &acme, &gone, false).await;
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await[0].0, State::Withdrawn);
    withdraw(home, &acme, &gone, true).await;
    sites.turn(1, 0).await;
    let (state, reason) = states(mirror).await.remove(0);
    assert_eq!(state, State::Erased);
    assert!(reason.unwrap().contains("withdrawn with erasure"));
    let left: Vec<String> = sites.chunks(1);
    let of = |file: &File| {
        file.recipe
            .pieces()
            .iter()
            .map(|p| p.chunk.hex())
            .collect::<Vec<_>>()
    };
    let is_left = |chunk: &String| left.iter().any(|key| key.ends_with(chunk.as_str()));
    assert!(!of(&gone.files[0]).iter().any(is_left));
    assert!(of(&gone.files[1]).iter().all(is_left));
    let caller = waag_registry::access::Caller::peer(sites.members[1].terms.here());
    let catalogue = mirror.site.catalogue();
    assert!(catalogue.resolve(&caller, &tiny(), &version("v1")).await.is_err());
    catalogue.resolve(&caller, &tiny(), &version("v2")).await.unwrap();
    // Nothing comes back.
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await[0].0, State::Erased);
}

#[tokio::test]
async fn the_home_deletes_what_was_withdrawn_with_erasure_and_says_so_and_it_does_not_come_back() {
    let mut sites = two().await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let gone = publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    let shared = vec![
        File::new("b.txt", noise(101, 500)),
        File::new("c.txt", noise(5, 700)),
    ];
    publish(home, &acme, "home-acme/tiny", "v2", shared, None).await;
    withdraw(home, &acme, &gone, true).await;
    assert_eq!(home.site.federation().erase_own().await.unwrap(), 1);
    assert_eq!(home.site.federation().erase_own().await.unwrap(), 0, "once");

    let left = sites.chunks(0);
    let is_left = |file: &File| {
        let chunks = file.recipe.pieces().iter().map(|piece| piece.chunk.hex());
        chunks
            .into_iter()
            .all(|chunk| left.iter().any(|key| key.ends_with(&chunk)))
    };
    assert!(!is_left(&gone.files[0]));
    assert!(is_left(&gone.files[1]), "another release has it");
    let said = home.site.federation().holders(&tiny()).await.unwrap();
    let states: Vec<&str> = said.iter().map(|view| view.state.as_str()).collect();
    assert!(states.contains(&"erased"), "{states:?}");

    let request = UploadRequest {
        artifact: tiny(),
        manifest: gone.digest,
        label: None,
        ancestors: Vec::new(),
    };
    let refused = home.site.intake().open(&home.admin, request).await.unwrap_err();
    assert!(refused.to_string().contains("does not come back"), "{refused}");

    // The rows are those of a fold that begins anew, without the content.
    let before = home.site.reader().dump().await.unwrap();
    let mut first = sites.members.remove(0);
    first.world = first
        .world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(first.world.site.reader().dump().await.unwrap(), before);
}

#[tokio::test]
async fn a_tightened_label_takes_the_copy_away() {
    let sites = two().await;
    sites.meet(1).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    assert!(!sites.chunks(1).is_empty());
    relabel(home, &acme, "home-acme/tiny", at(&["DE"])).await;
    // Followed, and not yet acted on: it is served no more.
    mirror.site.federation().look(home.site.id()).await.unwrap();
    let caller = waag_registry::access::Caller::peer(sites.members[0].terms.here());
    let refused = mirror
        .site
        .catalogue()
        .resolve(&caller, &tiny(), &version("v1"))
        .await;
    assert!(matches!(refused, Err(PublishError::Denied { .. })));
    sites.turn(1, 0).await;
    assert_eq!(sites.chunks(1), Vec::<String>::new());
    assert_eq!(states(mirror).await[0].0, State::Erased);
    assert_eq!(holders(mirror).await[0].1, "erased");
}

#[tokio::test]
async fn a_copy_is_not_given_out_after_a_day_without_a_word_from_home() {
    let sites = two().await;
    let bent = sites.meet_bent(1, 0).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["*"]))).await;
    sites.turn(1, 0).await;
    let catalogue = sites.world(1).site.catalogue();
    let resolve = async || catalogue.resolve(&anybody(), &tiny(), &version("v1")).await;
    bent.bend(Bend::Away);
    sites.clock.advance(24 * 3600);
    let federation = sites.world(1).site.federation();
    assert!(federation.look(home.site.id()).await.is_err());
    resolve().await.unwrap();
    sites.clock.advance(1);
    let refused = resolve().await.unwrap_err();
    assert!(refused.to_string().contains("24 hours of silence"), "{refused}");
    bent.bend(Bend::Nothing);
    federation.look(home.site.id()).await.unwrap();
    resolve().await.unwrap();
}

#[tokio::test]
async fn what_is_fetched_on_demand_comes_once_somebody_asks() {
    let mut on_demand = rule("home");
    on_demand.when = When::OnDemand;
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", vec![on_demand])], 3).await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["*"]))).await;
    sites.turn(1, 0).await;
    let mirror = sites.world(1);
    assert_eq!(states(mirror).await, [(State::OnDemand, None)]);
    let asked = mirror
        .site
        .catalogue()
        .resolve(&anybody(), &tiny(), &version("v1"))
        .await;
    assert!(matches!(asked, Err(PublishError::Coming { .. })));
    sites.turn(1, 0).await;
    mirror
        .site
        .catalogue()
        .resolve(&anybody(), &tiny(), &version("v1"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rule_that_matches_nothing_is_an_error_and_says_so() {
    let mut nothing = rule("home");
    nothing.artifacts = vec!["nobody/*".to_owned()];
    let rules = vec![nothing, rule("nowhere"), rule("home")];
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", rules)], 4).await;
    sites.meet(1).await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    let status = sites.world(1).site.federation().status().await.unwrap();
    let errors: Vec<Option<String>> = status.rules.into_iter().map(|view| view.error).collect();
    assert_eq!(
        errors,
        [
            Some("it matches no release".to_owned()),
            Some("the charter names no other site `nowhere`".to_owned()),
            None
        ]
    );
}

#[tokio::test]
async fn what_has_hours_is_fetched_within_them_and_says_until_then_what_it_waits_for() {
    let nightly = MirrorRule {
        hours: Some("10:00-16:00".parse().unwrap()),
        ..rule("home")
    };
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", vec![nightly])], 2).await;
    sites.meet(1).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(1), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    let waits = (State::Waiting, Some("fetched at 10:00-16:00 UTC".to_owned()));
    assert_eq!(states(mirror).await, [waits]);
    sites.clock.advance(10 * 3600);
    sites.turn(1, 0).await;
    assert_eq!(states(mirror).await, [(State::Held, None)]);
}
