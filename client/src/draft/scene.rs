//! Namespaces for tests: keys by seeds, no ledger behind them.

use waag_schema::base::key::KeyPair;
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::{Envelope, NamespaceState, Predicate, Statement, Subject, Visibility};
use waag_schema::wire::artifact::Proof;

use super::Ground;

pub(crate) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

pub(crate) fn pairs(seeds: &[u8]) -> Vec<KeyPair> {
    seeds.iter().map(|seed| key(*seed)).collect()
}

/// The namespace `acme`; its proof proves nothing.
pub(crate) fn ground(owners: &[u8], threshold: u32, recovery: &[u8]) -> Ground {
    let public = |seeds: &[u8]| seeds.iter().map(|seed| key(*seed).public()).collect();
    let home = key(99).public().site_id();
    let statement = Statement {
        subject: Subject::Namespace("acme".parse().unwrap()),
        predicate: Predicate::Genesis(Genesis {
            keys: KeySet {
                owners: public(owners),
                threshold,
                recovery: public(recovery),
            },
            home: home.clone(),
            visibility: Visibility::Public,
        }),
    };
    let signers = pairs(owners);
    let envelope = Envelope::sign(&statement.to_bytes(), &signers.iter().collect::<Vec<_>>());
    Ground {
        state: NamespaceState::begin(&envelope, &home).unwrap(),
        site: home,
        proof: Proof {
            earlier: Vec::new(),
            site_key: None,
            checkpoint: String::new(),
            entries: Vec::new(),
        },
    }
}
