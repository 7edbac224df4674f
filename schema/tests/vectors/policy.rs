//! Labels, places and verdicts.

use serde_json::{Value, json};
use waag_schema::policy::{Action, Facts, Label, Place, decide};

use super::key;

pub(super) fn vectors() -> Value {
    json!({"labels_refused": labels_refused(), "verdicts": verdicts()})
}

fn labels_refused() -> Vec<Value> {
    let rule = json!({"effect": "allow", "where": "DE", "actions": ["hold"]});
    let with = |key: &str, value: Value| {
        let mut changed = rule.clone();
        changed[key] = value;
        json!({"rules": [changed]})
    };
    let rows = vec![
        json!({"rules": []}),
        json!({"rules": vec![rule.clone(); 65]}),
        json!({"rules": [rule], "x": 1}),
        with("actions", json!([])),
        with("actions", json!(["read"])),
        with("effect", json!("permit")),
        with("where", json!("de")),
        with("where", json!("UK")),
        with("where", json!("XK")),
        with("where", json!("site:x")),
        with("where", json!("")),
        with("x", json!(1)),
    ];
    for label in &rows {
        assert!(
            waag_schema::base::json::from_value::<Label>(label.clone()).is_err(),
            "{label}"
        );
    }
    rows
}

fn verdicts() -> Vec<Value> {
    let site = |seed: u8| key(seed).public().site_id();
    let (home, other) = (site(1), site(2));
    let rule = |effect: &str, scope: &str, actions: &[&str]| json!({"effect": effect, "where": scope, "actions": actions});
    let all = ["hold", "serve", "evaluate"];
    let eu = json!({"rules": [rule("allow", "EU", &all)]});
    let eu_and_norway = json!({"rules": [rule("allow", "EU", &all), rule("allow", "NO", &["hold"])]});
    let eea_not_norway = json!({"rules": [rule("allow", "EEA", &all), rule("deny", "NO", &all)]});
    let no_evaluation = json!({"rules": [rule("deny", "*", &["evaluate"])]});
    let here = json!({"rules": [rule("allow", &format!("site:{other}"), &["hold", "hold"])]});
    let anywhere = json!({"rules": [rule("allow", "*", &all)]});
    let at = |id: &waag_schema::SiteId, country: Option<&str>| match country {
        Some(country) => json!({"kind": "site", "id": id, "jurisdiction": country}),
        None => json!({"kind": "site", "id": id}),
    };
    let consumer = |country: Option<&str>| match country {
        Some(country) => json!({"kind": "consumer", "jurisdiction": country}),
        None => json!({"kind": "consumer"}),
    };
    let (today, brexit, eve) = (
        "2026-11-21T12:00:00Z",
        "2020-02-01T00:00:00Z",
        "2020-01-31T23:59:59Z",
    );
    let labels = [
        json!([]),
        json!([eu]),
        json!([eu_and_norway]),
        json!([eea_not_norway]),
        json!([no_evaluation]),
        json!([here]),
        json!([anywhere, no_evaluation]),
        json!([eu, here]),
    ];
    let places = [
        (at(&home, None), today),
        (at(&home, Some("FR")), today),
        (at(&other, Some("FR")), today),
        (at(&other, Some("NO")), today),
        (at(&other, Some("GB")), today),
        (at(&other, Some("GB")), brexit),
        (at(&other, Some("GB")), eve),
        (at(&other, Some("RE")), today),
        (at(&other, None), today),
        (consumer(Some("DE")), today),
        (consumer(None), today),
    ];
    let mut rows = Vec::new();
    for labels in &labels {
        for (place, time) in &places {
            for action in Action::ALL {
                let given: Vec<Label> = serde_json::from_value(labels.clone()).unwrap();
                let asked: Place = serde_json::from_value(place.clone()).unwrap();
                let facts = Facts::new(home.clone(), time.parse().unwrap());
                let verdict = decide(&given, &facts, action, &asked);
                rows.push(
                    json!({"labels": labels, "home": home, "at": time, "action": action, "place": place,
                    "allowed": verdict.allowed, "reasons": verdict.reasons}),
                );
            }
        }
    }
    rows
}
