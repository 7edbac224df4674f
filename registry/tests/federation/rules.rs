//! Rules that take only what is labelled for some places.

use waag_schema::wire::federation::{MirrorRule, State};

use super::{Sites, at, publish, publisher, relabel, rule};
use crate::world::{File, noise};

fn labelled(places: &[&str]) -> MirrorRule {
    MirrorRule {
        residency: places.iter().map(|place| place.parse().unwrap()).collect(),
        ..rule("home")
    }
}

fn file(seed: u64) -> Vec<File> {
    vec![File::new("a.bin", noise(seed, 500))]
}

#[tokio::test]
async fn only_what_is_labelled_for_a_place_of_the_rule_is_taken_as_the_label_says_now() {
    let rules = vec![labelled(&["EU", "NO"])];
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", rules)], 40).await;
    sites.meet(1).await;
    let (home, mirror) = (sites.world(0), sites.world(1));
    let acme = publisher(home, "home-acme").await;
    for (seed, (name, label)) in (0..).zip([
        ("eu", Some(at(&["EU"]))),
        ("both", Some(at(&["NO", "IT", "DE"]))),
        ("italy", Some(at(&["IT", "DE"]))),
        ("anywhere", Some(at(&["*"]))),
        ("none", None),
    ]) {
        publish(home, &acme, &format!("home-acme/{name}"), "v1", file(seed), label).await;
    }
    let held = async || {
        sites.turn(1, 0).await;
        let releases = mirror.site.federation().status().await.unwrap().releases;
        let held = releases.into_iter().filter(|view| view.state == State::Held);
        let mut names: Vec<String> = held.map(|view| view.artifact.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(held().await, ["home-acme/both", "home-acme/eu"]);
    // Neither taken nor refused: the rule does not mean it.
    assert_eq!(mirror.site.ledger().checkpoint().checkpoint().size, 2);
    relabel(home, &acme, "home-acme/italy", at(&["EU"])).await;
    // What is held stays, whatever rules mean later.
    relabel(home, &acme, "home-acme/eu", at(&["IT", "DE"])).await;
    assert_eq!(
        held().await,
        ["home-acme/both", "home-acme/eu", "home-acme/italy"]
    );
    let status = mirror.site.federation().status().await.unwrap();
    assert_eq!(
        (status.rules[0].matches, status.rules[0].error.clone()),
        (2, None)
    );
}

#[tokio::test]
async fn a_group_that_the_charter_does_not_name_is_refused_and_said() {
    let rules = vec![labelled(&["group:nordic"])];
    let sites = Sites::open(&[("home", "DE", vec![]), ("mirror", "IT", rules)], 41).await;
    sites.meet(1).await;
    let federation = sites.world(1).site.federation();
    let refused = federation
        .add_rule(labelled(&["group:nordic"]))
        .await
        .unwrap_err();
    let said = "the charter names no group `nordic`";
    assert!(refused.to_string().contains(said), "{refused}");
    federation.add_rule(labelled(&["EEA"])).await.unwrap();
    let errors: Vec<_> = federation
        .status()
        .await
        .unwrap()
        .rules
        .into_iter()
        .map(|view| view.error)
        .collect();
    assert_eq!(
        errors,
        [Some(said.to_owned()), Some("it matches no release".to_owned())]
    );
}
