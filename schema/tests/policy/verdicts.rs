//! Site `a` is the home site of everything here.

use waag_schema::policy::{Action, Facts, Verdict, decide};

use super::{actions, labels, place, site};

fn facts(day: &str) -> Facts {
    Facts::new(site('a'), format!("{day}T12:00:00Z").parse().unwrap())
}

fn ask(labels_text: &str, place_text: &str, action: Action) -> Verdict {
    decide(
        &labels(labels_text),
        &facts("2026-11-21"),
        action,
        &place(place_text),
    )
}

/// The letters of the actions that are allowed.
fn allowed(labels_text: &str, place_text: &str) -> String {
    let all = Action::ALL.into_iter();
    all.filter(|action| ask(labels_text, place_text, *action).allowed)
        .map(|action| action.as_str()[..1].to_owned())
        .collect()
}

#[test]
fn the_table_of_labels_and_places_holds() {
    for (labels, place, expected) in [
        // No label: the home site only, wherever it is, and whom it serves.
        ("", "a DE", "hse"),
        ("", "a -", "hse"),
        ("", "b DE", ""),
        ("", "consumer US", "s"),
        ("", "consumer -", "s"),
        // A country.
        ("+DE:hse", "a DE", "hse"),
        ("+DE:hse", "b DE", "hse"),
        ("+DE:hse", "b FR", ""),
        ("+DE:hse", "b -", ""),
        ("+DE:hse", "consumer DE", "hse"),
        ("+DE:hse", "consumer -", ""),
        // A label binds the home site too.
        ("+DE:hse", "a FR", ""),
        // Groups.
        ("+EU:hse", "b SE", "hse"),
        ("+EU:hse", "b NO", ""),
        ("+EEA:hse", "b NO", "hse"),
        ("+EU:hse", "b GB", ""),
        ("+EU:hse +NO:h", "b NO", "h"),
        // One site, with or without a jurisdiction; no consumer is a site.
        ("+@b:h", "b -", "h"),
        ("+@b:h", "b US", "h"),
        ("+@b:h", "c US", ""),
        ("+@b:hse", "consumer US", ""),
        // Everywhere.
        ("+*:hse", "b -", "hse"),
        ("+*:hse", "consumer -", "hse"),
        // Deny wins, whatever is more specific.
        ("+*:hse -US:se", "b US", "h"),
        ("+*:hse -US:se", "b DE", "hse"),
        ("-*:e +DE:hse", "b DE", "hs"),
        ("-EU:h +@b:h", "b DE", ""),
        ("+EU:hse -@b:s", "b DE", "he"),
        // Who names no jurisdiction is not meant by a country, in rules that deny neither.
        ("+*:hse -US:hse", "consumer -", "hse"),
        // Several labels: every one must allow.
        ("+EU:hse | +DE:hs", "b DE", "hs"),
        ("+EU:hse | +DE:hs", "b FR", ""),
        ("+EU:hse | -*:e +*:hse", "b FR", "hs"),
        // Labels with no place in common allow nothing, at home neither.
        ("+DE:hse | +FR:hse", "a DE", ""),
        ("+DE:hse | +FR:hse", "b FR", ""),
        // A label that allows nothing leaves the home site, less what it denies.
        ("-US:e", "a DE", "hse"),
        ("-*:e", "a DE", "hs"),
        ("-US:e", "b DE", ""),
        ("-US:s", "consumer US", ""),
        ("-US:s", "consumer DE", "s"),
        // Denying all that was allowed does not bring the home site back.
        ("+DE:hse -DE:hse", "a FR", ""),
        // Allowing nothing and allowing somewhere: both must allow.
        ("-*:e | +EU:hse", "a DE", "hs"),
        ("-*:e | +EU:hse", "b DE", ""),
    ] {
        assert_eq!(allowed(labels, place), expected, "labels `{labels}`, {place}");
    }
}

#[test]
fn a_verdict_is_of_its_time() {
    let held = |day| decide(&labels("+EU:hse"), &facts(day), Action::Hold, &place("b GB")).allowed;
    assert!(held("2019-06-01"));
    assert!(!held("2026-11-21"));
}

#[test]
fn a_refusal_says_which_label_and_which_rule() {
    for (labels, place, action, sentence) in [
        (
            "+EU:hse | +EU:hs -*:e",
            "b DE",
            "e",
            "denied: label 2, rule 2, says \"deny evaluate at *\"",
        ),
        (
            "+EU:hse",
            "consumer -",
            "s",
            "denied: label 1 has no rule that allows serve at a consumer that names no jurisdiction",
        ),
        (
            "+EU:hse | +DE:hse",
            "b SE",
            "h",
            "denied: label 2 has no rule that allows hold at site bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb in SE",
        ),
        (
            "",
            "b DE",
            "h",
            "denied: there is no label, which leaves the home site aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, and hold \
             was asked for site bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb in DE",
        ),
    ] {
        assert_eq!(ask(labels, place, actions(action)[0]).to_string(), sentence);
    }
}

#[test]
fn a_permission_says_why_too() {
    for (labels, place, action, sentence) in [
        (
            "+EU:hse | +DE:hs",
            "b DE",
            "h",
            "allowed: label 1, rule 1, says \"allow hold, serve, evaluate at EU\"; label 2, rule 1, says \
             \"allow hold, serve at DE\"",
        ),
        (
            "",
            "a DE",
            "h",
            "allowed: there is no label, which leaves the home site, and this is it",
        ),
        (
            "-*:e",
            "consumer DE",
            "s",
            "allowed: label 1 allows nothing, which leaves the home site, which serves this",
        ),
    ] {
        assert_eq!(ask(labels, place, actions(action)[0]).to_string(), sentence);
    }
}

#[test]
fn every_label_gives_its_reason_though_one_already_denies() {
    let verdict = ask("+DE:h | +EU:h | +FR:h", "b FR", Action::Hold);
    let answers: Vec<bool> = verdict.reasons.iter().map(|r| r.allows()).collect();
    assert_eq!(answers, [false, true, true]);
}

#[test]
fn a_verdict_is_read_and_written_as_json() {
    let verdict = ask("+EU:hs -*:e", "b DE", Action::Evaluate);
    let written = serde_json::to_value(&verdict).unwrap();
    assert_eq!(
        written,
        serde_json::json!({
            "allowed": false,
            "reasons": [{
                "reason": "denied_by",
                "label": 0,
                "rule": 1,
                "cited": {"effect": "deny", "where": "*", "actions": ["evaluate"]},
            }],
        })
    );
    assert_eq!(serde_json::from_value::<Verdict>(written).unwrap(), verdict);

    let verdict = ask("", "b -", Action::Hold);
    let written = serde_json::to_value(&verdict).unwrap();
    assert_eq!(
        written["reasons"][0],
        serde_json::json!({
            "reason": "not_at_home",
            "label": null,
            "home": site('a'),
            "action": "hold",
            "place": {"kind": "site", "id": site('b')},
        })
    );
    assert_eq!(serde_json::from_value::<Verdict>(written).unwrap(), verdict);
}
