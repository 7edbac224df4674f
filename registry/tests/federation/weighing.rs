//! A site weighs what it holds copies of, says so in its own ledger, and every site that follows that lists it beside what
//! the home has found: confirmed, or disputed with the difference.

use waag_registry::publish::PublishError;
use waag_schema::ArtifactName;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::agreement::{Outcome, Verdict};
use waag_schema::statement::scorecard::Amount;
use waag_schema::wire::artifact::{OtherScorecard, Scorecards};
use waag_schema::wire::federation::State;
use waag_schema::wire::token::Scope;

use super::{Sites, anybody, at, publish, publisher, relabel, rule, withdraw};
use crate::jobs::{Node, measured, model};
use crate::world::{Draft, File, World};

async fn two() -> Sites {
    let sites = Sites::open(
        &[("home", "DE", vec![]), ("mirror", "IT", vec![rule("home")])],
        12,
    )
    .await;
    sites.meet(0).await;
    sites.meet(1).await;
    sites
}

fn tiny() -> ArtifactName {
    "home-acme/tiny".parse().unwrap()
}

fn files() -> Vec<File> {
    vec![File::new("model.safetensors", model(0x3f80))]
}

async fn scorecards(world: &World) -> Result<Scorecards, PublishError> {
    world.site.catalogue().scorecards(&anybody(), &tiny()).await
}

/// The only scorecard of another site than the home.
async fn other(world: &World) -> OtherScorecard {
    let mut found = scorecards(world).await.unwrap();
    assert_eq!((found.others.len(), found.others_proofs.len()), (1, 1));
    found.others.remove(0)
}

/// A release at home, weighed there and copied.
async fn copied(sites: &Sites, label: Label) -> Draft {
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let draft = publish(home, &acme, "home-acme/tiny", "v1", files(), Some(label)).await;
    home.site.weigh_all().await.unwrap();
    sites.turn(1, 0).await;
    draft
}

fn size(world: &World) -> u64 {
    world.site.ledger().checkpoint().checkpoint().size
}

#[tokio::test]
async fn a_copy_is_weighed_and_both_sites_list_that_as_confirming_the_home_bit_for_bit() {
    let sites = two().await;
    let draft = copied(&sites, at(&["EU"])).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    assert_eq!(scorecards(mirror).await.unwrap().others, []);
    mirror.site.weigh_all().await.unwrap();
    let after = size(mirror);
    mirror.site.weigh_all().await.unwrap();
    assert_eq!(size(mirror), after, "it is weighed once");
    sites.turn(0, 1).await;

    let by_home = scorecards(home).await.unwrap().scorecards.remove(0);
    assert_eq!(scorecards(mirror).await.unwrap().scorecards[0], by_home);
    for world in [home, mirror] {
        let other = other(world).await;
        assert_eq!(other.site, *mirror.site.id());
        assert_eq!(other.view.manifest, draft.digest);
        assert_eq!(other.view.scorecard.harness, by_home.scorecard.harness);
        let compared = other.compared.unwrap();
        assert_eq!((&compared.site, compared.entry), (home.site.id(), by_home.entry));
        assert_eq!((compared.verdict, compared.greatest), (Outcome::Confirmed, None));
        let weights = &compared.agreements[0];
        assert_eq!(weights.section, "weights");
        assert!(matches!(
            weights.verdict,
            Verdict::Confirmed {
                bit_for_bit: true,
                ..
            }
        ));
    }
    // Its details are served by who has found them, and it is a function of the ledger like everything else.
    let details = other(mirror).await.view.scorecard.details.unwrap().sha256;
    let catalogue = mirror.site.catalogue();
    catalogue
        .scorecard_details(&anybody(), &tiny(), &details)
        .await
        .unwrap();
    let before = mirror.index().await;
    let Sites { clock, mut members } = sites;
    let mut last = members.pop().unwrap();
    last.world = last
        .world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(last.world.index().await, before);
    members.push(last);
    drop((clock, members));
}

#[tokio::test]
async fn a_number_that_a_worker_of_the_mirror_bent_is_disputed_with_the_difference() {
    let sites = two().await;
    let draft = copied(&sites, at(&["*"])).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let node = Node::named(mirror, "node-1", &[Scope::Weigh], &[]).await;
    let job = node.take(mirror).await.unwrap();
    assert_eq!((&job.artifact, job.manifest), (&tiny(), draft.digest));
    let mut found = measured(&job, &draft).await;
    let zero = found.sections[0].results.iter_mut().find(|m| m.metric == "zero");
    zero.unwrap().value = Amount::Count(5);
    assert_eq!(node.finish(mirror, &found).await, 204);
    sites.turn(0, 1).await;

    for world in [home, mirror] {
        let compared = other(world).await.compared.unwrap();
        assert_eq!(compared.verdict, Outcome::Disputed);
        let greatest = compared.greatest.unwrap();
        assert_eq!(greatest.metric, "zero");
        assert_eq!(
            (greatest.ours, greatest.theirs),
            (Some(Amount::Count(0)), Some(Amount::Count(5)))
        );
    }
}

#[tokio::test]
async fn what_the_home_does_not_measure_is_known_from_who_does() {
    let sites = two().await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    mirror.site.weigh_all().await.unwrap();
    sites.turn(0, 1).await;
    for world in [home, mirror] {
        assert_eq!(scorecards(world).await.unwrap().scorecards, []);
        assert_eq!(other(world).await.compared, None);
    }
}

#[tokio::test]
async fn a_copy_that_may_be_held_and_not_evaluated_is_not_measured_until_its_label_says_so() {
    let sites = two().await;
    let held = Label::from_cli(&["EU".parse().unwrap()], &[Action::Hold, Action::Serve], &[]).unwrap();
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(), Some(held)).await;
    sites.turn(1, 0).await;
    let mirror = sites.world(1);
    let status = mirror.site.federation().status().await.unwrap();
    assert_eq!(status.releases[0].state, State::Held);
    let before = size(mirror);
    mirror.site.weigh_all().await.unwrap();
    assert_eq!(size(mirror), before);
    // Nobody is told to wait for what will not come.
    assert_eq!(scorecards(mirror).await.unwrap().weighing, []);

    relabel(home, &acme, "home-acme/tiny", at(&["EU"])).await;
    sites.turn(1, 0).await;
    mirror.site.weigh_all().await.unwrap();
    assert_eq!(other(mirror).await.site, *mirror.site.id());
}

#[tokio::test]
async fn a_copy_of_what_is_withdrawn_is_not_measured() {
    let sites = two().await;
    let home = sites.world(0);
    let acme = publisher(home, "home-acme").await;
    let draft = publish(home, &acme, "home-acme/tiny", "v1", files(), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    withdraw(home, &acme, &draft, false).await;
    sites.turn(1, 0).await;
    let mirror = sites.world(1);
    let before = size(mirror);
    mirror.site.weigh_all().await.unwrap();
    assert_eq!(size(mirror), before);
    let node = Node::named(mirror, "node-1", &[Scope::Weigh], &[]).await;
    assert!(node.take(mirror).await.is_none());
}

#[tokio::test]
async fn details_that_the_home_has_found_since_the_copy_are_not_at_the_mirror_and_it_says_so() {
    let sites = two().await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    publish(home, &acme, "home-acme/tiny", "v1", files(), Some(at(&["EU"]))).await;
    sites.turn(1, 0).await;
    home.site.weigh_all().await.unwrap();
    sites.turn(1, 0).await;
    let found = scorecards(mirror).await.unwrap().scorecards.remove(0);
    let details = found.scorecard.details.unwrap().sha256;
    let (anybody, tiny) = (anybody(), tiny());
    let at_mirror = mirror.site.catalogue();
    let asked = at_mirror.scorecard_details(&anybody, &tiny, &details).await;
    assert!(matches!(asked, Err(PublishError::NotFound(_))));
    let at_home = home.site.catalogue();
    at_home
        .scorecard_details(&anybody, &tiny, &details)
        .await
        .unwrap();
}
