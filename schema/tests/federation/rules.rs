//! What no charter may say: one row for each rule, and the document it was changed from.

use serde_json::{Value, json};
use waag_schema::base::json::from_value;
use waag_schema::federation::Terms;
use waag_schema::ledger::Origin;

use super::{document, key, site, site_id};

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut document = document();
    change(&mut document);
    match from_value::<Terms>(document) {
        Ok(terms) => terms.check().expect_err("a rule is broken"),
        Err(shape) => shape.to_string(),
    }
}

#[test]
fn the_document_before_any_change_is_accepted_and_reads_as_it_was_written() {
    let terms: Terms = from_value(document()).unwrap();
    terms.check().unwrap();
    let again: Terms = waag_schema::base::json::from_slice(&terms.to_bytes(), 1 << 20).unwrap();
    assert_eq!(again, terms);
}

#[test]
fn every_rule_refuses_what_breaks_it() {
    type Change = Box<dyn FnOnce(&mut Value)>;
    let set = |pointer: &'static str, value: Value| -> Change {
        Box::new(move |document| *document.pointer_mut(pointer).unwrap() = value)
    };
    let push = |pointer: &'static str, value: Value| -> Change {
        Box::new(move |document| {
            document
                .pointer_mut(pointer)
                .unwrap()
                .as_array_mut()
                .unwrap()
                .push(value);
        })
    };
    let public = |seed: u8| json!(key(seed).public());
    let ledger = |site: u8, series: u32, seed: u8, ends: Value| json!({"key": Origin::of(&site_id(site), series).verifier(key(seed).public()), "ends": ends});
    let end = json!({"size": 7, "root": "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="});
    let rows: Vec<(Change, &str)> = vec![
        (set("/version", json!(0)), "version 1 names no charter"),
        (set("/version", json!(2)), "version 1 names no charter"),
        (
            set("/previous", json!(waag_schema::Sha256::of(b""))),
            "version 1 names no charter",
        ),
        (set("/federation", json!("Example")), "lower-case"),
        (set("/root/keys", json!([])), "0 root keys"),
        (set("/root/threshold", json!(0)), "threshold of 0"),
        (set("/root/threshold", json!(4)), "threshold of 4"),
        (push("/root/keys", public(1)), "is a root key and a root key"),
        (
            push("/root/keys", public(20)),
            "is a root key and the log key of `bologna`",
        ),
        (
            push("/sites/0/recovery", public(33)),
            "a recovery key of `stuttgart` and a recovery key of `oslo`",
        ),
        (
            set("/sites/0/site_key", public(10)),
            "the log key of `stuttgart` and the site key",
        ),
        (
            set("/sites/1/site_key", public(11)),
            "the site key of `stuttgart` and the site key of `bologna`",
        ),
        (set("/sites", json!([])), "0 sites"),
        (
            set("/sites/1/id", json!(site_id(10))),
            "is no ledger of this site",
        ),
        (push("/sites", site(10, "athens", "GR")), "the site id"),
        (
            set("/sites/1/name", json!("stuttgart")),
            "the site name `stuttgart` stands twice",
        ),
        (set("/sites/1/name", json!(site_id(20))), "1 to 31"),
        (set("/sites/1/url", json!("https://oslo.example")), "the address"),
        (
            set("/sites/1/url", json!("https://bologna.example/")),
            "plain parts",
        ),
        (set("/sites/1/jurisdiction", json!("EU")), "ISO 3166-1"),
        (set("/sites/1/ledgers", json!([])), "0 ledgers"),
        (
            set("/sites/1/ledgers/0", ledger(20, 1, 99, Value::Null)),
            "not that of its first log key",
        ),
        (
            set("/sites/1/ledgers/0", ledger(10, 1, 10, Value::Null)),
            "no ledger of this site",
        ),
        (
            push("/sites/1/ledgers", ledger(20, 2, 20, Value::Null)),
            "has no end",
        ),
        (
            push("/sites/1/ledgers", ledger(20, 1, 20, end.clone())),
            "not in their order",
        ),
        (
            set(
                "/sites/1/witness_key",
                document().pointer("/sites/0/witness_key").unwrap().clone(),
            ),
            "of the name",
        ),
        (
            set(
                "/sites/1/witness_key",
                ledger(20, 1, 22, Value::Null)["key"].clone(),
            ),
            "of the name",
        ),
        (push("/sites/1/owns", json!("oslo")), "overlap"),
        (push("/sites/1/owns", json!("oslo-climate")), "overlap"),
        (push("/sites/1/owns", json!("oslo-climate-*")), "overlap"),
        (push("/sites/1/owns", json!("bologna")), "overlap"),
        (push("/sites/1/owns", json!("*")), "must be a namespace"),
        (set("/witnesses/jurisdictions", json!(3)), "a site finds 2"),
        (
            push("/groups", json!({"name": "EU", "members": []})),
            "lower-case",
        ),
        (push("/groups", json!({"name": "empty", "members": []})), "0 rows"),
        (push("/groups", document()["groups"][0].clone()), "stands twice"),
        (
            set("/groups/0/members/1/until", json!("2023-07-10T00:00:00Z")),
            "ends before it begins",
        ),
        (Box::new(|document| document["more"] = json!(1)), "unknown field"),
        (
            Box::new(|document| drop(document.as_object_mut().unwrap().remove("previous"))),
            "missing field",
        ),
    ];
    for (index, (change, expected)) in rows.into_iter().enumerate() {
        let found = refusal(change);
        assert!(found.contains(expected), "row {index}: {found}");
    }
    // A key may go on from one series to the next.
    let mut good = document();
    good["sites"][1]["ledgers"] = json!([ledger(20, 1, 20, end), ledger(20, 2, 20, Value::Null)]);
    from_value::<Terms>(good).unwrap().check().unwrap();
}

#[test]
fn overlaps_are_found_wherever_they_stand() {
    for (one, two, overlap) in [
        ("acme-*", "acme-labs-deep", true),
        ("acme-labs-deep", "acme-*", true),
        ("acme", "acme-*", false),
        ("acme-*", "acme0", false),
        ("acme-0", "acme-*", true),
        ("acme-labs-*", "acme-labsy", false),
    ] {
        let mut document = document();
        document["sites"][0]["owns"] = json!([one, "zebra", "acm"]);
        document["sites"][2]["owns"] = json!(["aardvark", "acmf", two]);
        let terms: Terms = from_value(document).unwrap();
        assert_eq!(terms.check().is_err(), overlap, "{one} and {two}");
    }
}

#[test]
fn sizes_are_bounded() {
    let found = refusal(|document| {
        document["sites"][0]["owns"] = (0..257).map(|n| format!("n{n}")).collect();
    });
    assert!(found.contains("257 owned namespaces"), "{found}");
    let found = refusal(|document| {
        let group = document["groups"][0].clone();
        document["groups"] = (0..17)
            .map(|n| {
                let mut group = group.clone();
                group["name"] = json!(format!("g{n}"));
                group
            })
            .collect();
    });
    assert!(found.contains("17 groups"), "{found}");
    let member = json!({"country": "CH", "from": "2000-07-26T00:00:00Z", "until": null});
    let found = refusal(|document| document["groups"][0]["members"] = json!(vec![member; 513]));
    assert!(found.contains("513 rows"), "{found}");
}
