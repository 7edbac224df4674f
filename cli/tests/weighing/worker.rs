//! Compute nodes measure in a site's stead, and one that is killed leaves its job to the next.

use std::fs;

use serde_json::Value;

use super::small_model;
use crate::world::{Person, Site};

/// How often a worker is started until the lease of one that was killed has ended.
const TRIES: usize = 1000;

#[test]
fn a_worker_that_is_killed_leaves_its_job_to_the_next_and_the_site_signs_the_same_bits() {
    let world = tempfile::tempdir().unwrap();
    let data = world.path().join("first");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("waag.toml"), "[weigh]\non = false\nlease_seconds = 5\n").unwrap();
    let site = Site::serve_with(&data, &[]);
    let person = Person::operating(&site);
    person.create_namespace("acme");
    let model = small_model(world.path(), 1);
    person.push(&model, "acme/tiny:1.0");

    // Who has no token for it is told which one it takes.
    let refused = person.run(["worker", "--once", "--json"]).error(3);
    assert!(
        refused["message"].as_str().unwrap().contains("scope weigh"),
        "{refused}"
    );
    assert!(
        refused["hint"].as_str().unwrap().contains("--scope weigh"),
        "{refused}"
    );

    let token = person.make_token("node-7", &["--scope", "weigh", "--namespace", "acme"]);
    let node = Person::at(&site, &token);
    node.kill_after(["worker", "--limit-rate", "20K"], "measuring acme/tiny");
    assert_eq!(site.metric("waag_weighed_releases_total"), 0);
    let handed_in = |answer: &Value| answer["outcome"] == "handed in";
    let done = (0..TRIES).any(|_| handed_in(&node.run(["worker", "--once", "--json"]).json()));
    assert!(done, "the job was never open again");
    let idle = node.run(["worker", "--once", "--json"]).json();
    assert_eq!(idle, serde_json::json!({"job": null}));
    assert!(node.run(["worker", "--once"]).ok().contains("nothing to measure"));
    assert_eq!(site.metric("waag_weighed_releases_total"), 1);
    let left = fs::read_dir(node.desk().join("waag/cache/work")).unwrap();
    assert_eq!(left.count(), 0, "what was fetched to be measured is removed");

    // A site that weighs by itself finds the same.
    let second = Site::serve_as_it_comes(&world.path().join("second"));
    let scorecard = || {
        let shown = person
            .run(["scorecard", "acme/tiny:1.0", "--wait", "--json"])
            .json();
        shown["scorecard"].clone()
    };
    let mut by_worker = scorecard();
    let token = second.admin_token();
    person
        .run(["login", &second.url, "--token-file", token.to_str().unwrap()])
        .ok();
    person.create_namespace("acme");
    person.push(&model, "acme/tiny:1.0");
    let mut by_site = scorecard();
    assert_eq!(by_worker["device"]["worker"], "node-7");
    by_worker["device"].as_object_mut().unwrap().remove("worker");
    for card in [&mut by_worker, &mut by_site] {
        card.as_object_mut().unwrap().remove("at");
    }
    assert_eq!(by_worker, by_site);
}
