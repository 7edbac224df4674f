//! Charters: their rules, their signatures, and how one follows another. Bundles: how they are read. Requests between
//! sites, as another implementation of RFC 9421 reads and signs them.

mod bundles;
mod charters;
mod requests;
mod rules;

use serde_json::{Value, json};
use waag_schema::SiteId;
use waag_schema::base::key::KeyPair;
use waag_schema::federation::{Charter, Proposal, SiteTerms, Terms};
use waag_schema::ledger::{KeyKind, Origin, VerifierKey};

pub(crate) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

pub(crate) fn site_id(seed: u8) -> SiteId {
    key(seed).public().site_id()
}

/// A site whose keys have the seeds `seed` (log), `seed + 1` (site), `seed + 2` (witness) and `seed + 3` (recovery).
pub(crate) fn site(seed: u8, name: &str, jurisdiction: &str) -> Value {
    let id = site_id(seed);
    let witness = VerifierKey::new(
        &SiteTerms::witness_name(&id),
        KeyKind::Witness,
        key(seed + 2).public(),
    )
    .unwrap();
    json!({
        "id": id, "name": name, "jurisdiction": jurisdiction, "url": format!("https://{name}.example"),
        "ledgers": [{"key": Origin::of(&id, 1).verifier(key(seed).public()), "ends": null}],
        "site_key": key(seed + 1).public(), "witness_key": witness,
        "owns": [name, format!("{name}-*")], "recovery": [key(seed + 3).public()],
    })
}

/// A charter's document under the root keys of seeds 1, 2 and 3, of which two must sign.
pub(crate) fn document() -> Value {
    json!({
        "federation": "example", "version": 1, "previous": null, "expires": "2027-11-21T00:00:00Z",
        "root": {"keys": [key(1).public(), key(2).public(), key(3).public()], "threshold": 2},
        "sites": [site(10, "stuttgart", "DE"), site(20, "bologna", "IT"), site(30, "oslo", "NO")],
        "witnesses": {"jurisdictions": 1},
        "groups": [{"name": "adequate", "members": [
            {"country": "CH", "from": "2000-07-26T00:00:00Z", "until": null},
            {"country": "US", "from": "2023-07-10T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        ]}],
    })
}

pub(crate) fn terms(document: &Value) -> Terms {
    waag_schema::base::json::from_value(document.clone()).unwrap()
}

/// The document that comes next, before anything in it is changed.
pub(crate) fn after(charter: &Charter) -> Terms {
    Terms {
        version: charter.version() + 1,
        previous: Some(charter.digest()),
        ..charter.terms().clone()
    }
}

pub(crate) fn signed(terms: &Terms, seeds: &[u8]) -> Proposal {
    let keys: Vec<KeyPair> = seeds.iter().copied().map(key).collect();
    Proposal::sign(terms, &keys.iter().collect::<Vec<_>>()).unwrap()
}

/// Version 1, signed by two of its three root keys.
pub(crate) fn first() -> Charter {
    Charter::parse(signed(&terms(&document()), &[1, 2]).bytes()).unwrap()
}
