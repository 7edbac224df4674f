//! Charters: documents that break a rule, first ones, next ones, and labels that name a charter's groups.

use serde_json::{Value, json};
use waag_schema::base::json::from_value;
use waag_schema::federation::{Charter, Proposal, Terms};
use waag_schema::ledger::Origin;
use waag_schema::policy::{Action, Facts, GroupTerms, Label, Place, decide};
use waag_schema::statement::Envelope;
use waag_schema::statement::dsse::PayloadType;

use super::text;
use crate::federation::{after, document, first, key, signed, site, site_id};

pub(super) fn vectors() -> Value {
    json!({
        "first": {"envelope": text(first().bytes()), "sha256": first().digest(), "version": 1},
        "first_refused": first_refused(),
        "next": next(),
        "next_refused": next_refused(),
        "documents_refused": documents_refused(),
        "verdicts": verdicts(),
    })
}

fn envelope(terms: &Terms, seeds: &[u8]) -> String {
    text(signed(terms, seeds).bytes()).to_owned()
}

fn first_refused() -> Vec<Value> {
    let terms: Terms = from_value(document()).unwrap();
    let as_statement = Envelope::sign(&terms.to_bytes(), &[&key(1), &key(2)]);
    let renamed =
        text(as_statement.bytes()).replace(PayloadType::Statement.as_str(), PayloadType::Charter.as_str());
    let rows = [
        ("one of two root keys signed", envelope(&terms, &[1])),
        ("one root key signed twice", envelope(&terms, &[3, 3])),
        ("keys of a site signed", envelope(&terms, &[1, 10, 11])),
        (
            "it is signed as a statement",
            text(as_statement.bytes()).to_owned(),
        ),
        ("signatures of a statement", renamed),
    ];
    rows.into_iter()
        .map(|(why, envelope)| {
            assert!(Charter::parse(envelope.as_bytes()).is_err(), "{why}");
            json!({"why": why, "envelope": envelope})
        })
        .collect()
}

fn next() -> Value {
    let mut terms = after(&first());
    terms.root.keys = vec![key(3).public(), key(4).public(), key(5).public()];
    let bytes = envelope(&terms, &[2, 3, 4]);
    let charter = first().next(bytes.as_bytes()).unwrap();
    json!({"envelope": bytes, "sha256": charter.digest(), "version": 2})
}

fn next_refused() -> Vec<Value> {
    let changed = |change: &dyn Fn(&mut Terms)| {
        let mut terms = after(&first());
        change(&mut terms);
        terms
    };
    let rotated = changed(&|terms| terms.root.keys = vec![key(4).public(), key(5).public()]);
    let rows = [
        ("the old root keys did not sign", envelope(&rotated, &[4, 5])),
        ("the new root keys did not sign", envelope(&rotated, &[1, 2])),
        (
            "a version is left out",
            envelope(&changed(&|terms| terms.version = 3), &[1, 2]),
        ),
        (
            "it follows another charter",
            envelope(&changed(&|terms| terms.previous = Some(site_digest())), &[1, 2]),
        ),
        (
            "another federation",
            envelope(
                &changed(&|terms| terms.federation = "other".parse().unwrap()),
                &[1, 2],
            ),
        ),
        ("the same version", text(first().bytes()).to_owned()),
    ];
    rows.into_iter()
        .map(|(why, envelope)| {
            assert!(first().next(envelope.as_bytes()).is_err(), "{why}");
            json!({"why": why, "envelope": envelope})
        })
        .collect()
}

fn site_digest() -> waag_schema::Sha256 {
    waag_schema::Sha256::of(b"another")
}

fn documents_refused() -> Vec<Value> {
    let set = |pointer: &str, value: Value| {
        let mut changed = document();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let push = |pointer: &str, value: Value| {
        let mut changed = document();
        changed
            .pointer_mut(pointer)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(value);
        changed
    };
    let public = |seed: u8| json!(key(seed).public());
    let ledger = |seed: u8, series: u32| json!({"key": Origin::of(&site_id(seed), series).verifier(key(seed).public()), "ends": null});
    let rows = [
        ("version 0", set("/version", json!(0))),
        ("version 2 without the one before", set("/version", json!(2))),
        ("threshold 0", set("/root/threshold", json!(0))),
        ("threshold 4 of 3", set("/root/threshold", json!(4))),
        ("a root key twice", push("/root/keys", public(1))),
        ("a root key is a log key", push("/root/keys", public(20))),
        (
            "a site key is another's witness key",
            set("/sites/0/site_key", public(22)),
        ),
        ("no site", set("/sites", json!([]))),
        (
            "a site's id twice",
            push("/sites", {
                let mut twice = site(10, "athens", "GR");
                twice["url"] = json!("https://athens.example");
                twice
            }),
        ),
        ("a name twice", set("/sites/1/name", json!("stuttgart"))),
        (
            "an address twice",
            set("/sites/1/url", json!("https://oslo.example")),
        ),
        (
            "an address of another spelling",
            set("/sites/1/url", json!("https://oslo.example:443")),
        ),
        ("no country", set("/sites/1/jurisdiction", json!("EU"))),
        (
            "a ledger of another site",
            set("/sites/1/ledgers/0", ledger(10, 1)),
        ),
        (
            "a ledger without an end before another",
            push("/sites/1/ledgers", ledger(20, 2)),
        ),
        (
            "a witness key of another name",
            set(
                "/sites/1/witness_key",
                document()["sites"][0]["witness_key"].clone(),
            ),
        ),
        (
            "a namespace with two owners",
            push("/sites/1/owns", json!("oslo")),
        ),
        (
            "a namespace within a family",
            push("/sites/1/owns", json!("oslo-climate")),
        ),
        ("a family of all", push("/sites/1/owns", json!("*"))),
        (
            "more witnesses than there are countries",
            set("/witnesses/jurisdictions", json!(3)),
        ),
        ("a group without members", set("/groups/0/members", json!([]))),
        ("a group twice", push("/groups", document()["groups"][0].clone())),
        (
            "a membership that ends before it begins",
            set("/groups/0/members/1/until", json!("2023-07-10T00:00:00Z")),
        ),
        ("a key that is not known", {
            let mut more = document();
            more["more"] = json!(1);
            more
        }),
    ];
    rows.into_iter()
        .map(|(why, document)| {
            let refused = match from_value::<Terms>(document.clone()) {
                Ok(terms) => Proposal::sign(&terms, &[&key(1), &key(2)]).is_err(),
                Err(_) => true,
            };
            assert!(refused, "{why}");
            json!({"why": why, "document": document})
        })
        .collect()
}

fn verdicts() -> Vec<Value> {
    let groups: Vec<GroupTerms> = from_value(document()["groups"].clone()).unwrap();
    let rule = |effect: &str, scope: &str| json!({"effect": effect, "where": scope, "actions": ["hold"]});
    let labels = [
        json!([{"rules": [rule("allow", "group:adequate")]}]),
        json!([{"rules": [rule("allow", "*"), rule("deny", "group:adequate")]}]),
        json!([{"rules": [rule("allow", "*"), rule("deny", "group:unheard")]}]),
        json!([{"rules": [rule("allow", "group:unheard")]}]),
    ];
    let mut rows = Vec::new();
    for labels in &labels {
        for (country, at) in [
            ("CH", "2000-07-25T23:59:59Z"),
            ("CH", "2026-11-21T00:00:00Z"),
            ("US", "2025-12-31T23:59:59Z"),
            ("US", "2026-01-01T00:00:00Z"),
        ] {
            let place = json!({"kind": "site", "id": site_id(20), "jurisdiction": country});
            let given: Vec<Label> = serde_json::from_value(labels.clone()).unwrap();
            let asked: Place = serde_json::from_value(place.clone()).unwrap();
            let facts = Facts {
                home: site_id(10),
                at: at.parse().unwrap(),
                groups: groups.clone().into(),
            };
            let verdict = decide(&given, &facts, Action::Hold, &asked);
            rows.push(
                json!({"labels": labels, "home": site_id(10), "at": at, "groups": document()["groups"],
                "action": "hold", "place": place, "allowed": verdict.allowed, "reasons": verdict.reasons}),
            );
        }
    }
    rows
}
