//! Statements on a namespace itself: how its keys change, what must be met before a tag moves, and which sites may read it.
//!
//! The keys that a rotation begins from are proven from the ledger: a site that could name them could have its
//! own key signed in among the owners.

use std::collections::BTreeSet;

use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::gate::{Gate, Requirement};
use waag_schema::statement::namespace::{KEYS_MAX, KeySet, Rotation};
use waag_schema::statement::{Access, Predicate, Statement, Subject, Visibility};
use waag_schema::{Namespace, SiteId, Tag};

use crate::draft::{Draft, Ground};
use crate::error::{ClientError, Result};

/// What shall change.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Keys that become owners.
    pub add: Vec<PublicKey>,
    /// The fingerprints of owners that are none any more.
    pub remove: Vec<String>,
    /// How many owners must sign from then on; none leaves it as it is.
    pub threshold: Option<u32>,
    /// The recovery keys from then on; none leaves them as they are, an empty list takes them away.
    pub recovery: Option<Vec<PublicKey>>,
}

/// Begins a rotation of the namespace as it is now, signed with these keys.
///
/// # Errors
/// When the change makes no sense, or leaves keys that nobody could sign with.
pub fn begin(ground: Ground, change: &Change, keys: &[KeyPair]) -> Result<Draft> {
    let namespace = &ground.state;
    let statement = Statement {
        subject: Subject::Namespace(namespace.name.clone()),
        predicate: Predicate::Rotation(Rotation {
            namespace: namespace.id,
            link: namespace.chain.next(),
            keys: changed(&namespace.name, &namespace.keys, change)?,
        }),
    };
    Draft::begin(ground, vec![statement], None, keys)
}

/// Begins a gate before a tag of the namespace, signed with these keys: all of these requirements from then on, or none.
///
/// # Errors
/// When a requirement makes no sense, or none of the keys counts.
pub fn gate(ground: Ground, tag: Tag, requirements: Vec<Requirement>, keys: &[KeyPair]) -> Result<Draft> {
    let namespace = &ground.state;
    let statement = Statement {
        subject: Subject::Namespace(namespace.name.clone()),
        predicate: Predicate::Gate(Gate {
            namespace: namespace.id,
            link: namespace.chain.next(),
            tag,
            requirements,
        }),
    };
    Draft::begin(ground, vec![statement], None, keys)
}

/// Begins a statement of which other sites may read the namespace from then on, signed with these keys.
///
/// # Errors
/// When everybody may read it, or none of the keys counts.
pub fn access(ground: Ground, sites: BTreeSet<SiteId>, keys: &[KeyPair]) -> Result<Draft> {
    let namespace = &ground.state;
    if namespace.visibility == Visibility::Public {
        return Err(ClientError::Usage(format!(
            "`{}` is public: every site may read it as far as labels allow",
            namespace.name
        )));
    }
    let statement = Statement {
        subject: Subject::Namespace(namespace.name.clone()),
        predicate: Predicate::Access(Access {
            namespace: namespace.id,
            link: namespace.chain.next(),
            sites: sites.into_iter().collect(),
        }),
    };
    Draft::begin(ground, vec![statement], None, keys)
}

/// Returns the keys after the change.
fn changed(name: &Namespace, now: &KeySet, change: &Change) -> Result<KeySet> {
    let refused = |reason: String| Err(ClientError::Usage(reason));
    let mut owners = now.owners.clone();
    for fingerprint in &change.remove {
        let before = owners.len();
        owners.retain(|key| key.fingerprint() != *fingerprint);
        if owners.len() == before {
            return refused(format!("{fingerprint} is no owner of `{name}`"));
        }
    }
    for key in &change.add {
        if owners.contains(key) {
            return refused(format!("{} is an owner of `{name}` already", key.fingerprint()));
        }
        owners.push(*key);
    }
    let threshold = change.threshold.unwrap_or(now.threshold);
    if owners.is_empty() {
        return refused(format!("`{name}` would have no owner left"));
    }
    if threshold == 0 || threshold as usize > owners.len() {
        return refused(format!(
            "{threshold} owners of `{name}` would have to sign, there would be {}",
            owners.len()
        ));
    }
    let recovery = change.recovery.clone().unwrap_or_else(|| now.recovery.clone());
    for (at, key) in recovery.iter().enumerate() {
        if recovery[..at].contains(key) {
            return refused(format!("the recovery key {} is named twice", key.fingerprint()));
        }
        if owners.contains(key) {
            return refused(format!(
                "{} cannot be an owner of `{name}` and a recovery key",
                key.fingerprint()
            ));
        }
    }
    if owners.len() > KEYS_MAX || recovery.len() > KEYS_MAX {
        return refused(format!(
            "`{name}` would have {} owners and {} recovery keys, at most {KEYS_MAX} each are accepted",
            owners.len(),
            recovery.len()
        ));
    }
    let keys = KeySet {
        owners,
        threshold,
        recovery,
    };
    if keys == *now {
        return refused(format!("nothing about the keys of `{name}` would change"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Draft;
    use crate::draft::scene::{ground, key, pairs};

    fn add(seed: u8) -> Change {
        Change {
            add: vec![key(seed).public()],
            ..Change::default()
        }
    }

    fn remove(seed: u8) -> Change {
        Change {
            remove: vec![key(seed).public().fingerprint()],
            ..Change::default()
        }
    }

    fn recovery(seeds: &[u8]) -> Change {
        Change {
            recovery: Some(seeds.iter().map(|seed| key(*seed).public()).collect()),
            ..Change::default()
        }
    }

    #[test]
    fn a_rotation_is_complete_when_the_old_and_the_new_owners_have_signed() {
        let ground = ground(&[1, 2], 2, &[]);
        let state = ground.state.clone();
        let change = Change {
            threshold: Some(1),
            ..add(3)
        };
        let mut draft = begin(ground, &change, &pairs(&[1])).unwrap();
        let standing = draft.standing().unwrap();
        assert!(!standing.complete);
        let error = standing.require_complete().unwrap_err().to_string();
        assert!(error.contains("1 of 2 owners signed, 2 must"), "{error}");
        assert_eq!(
            standing.says,
            [
                format!("new owner {}", key(3).public().fingerprint()),
                "1 of 3 owners must sign, not 2 of 2".to_owned()
            ]
        );
        assert_eq!(draft.sign(&pairs(&[1])).unwrap(), 0);
        assert_eq!(draft.sign(&pairs(&[1, 2])).unwrap(), 1);
        assert!(draft.standing().unwrap().complete);
        // What is complete here is what the ledger admits.
        let rotated = state.rotate(&draft.envelopes()[0]).unwrap();
        assert_eq!((rotated.keys.owners.len(), rotated.keys.threshold), (3, 1));
    }

    #[test]
    fn recovery_keys_stand_in_for_lost_owners() {
        let ground = ground(&[1], 1, &[5]);
        let state = ground.state.clone();
        let change = Change {
            add: vec![key(2).public()],
            ..remove(1)
        };
        let mut draft = begin(ground, &change, &pairs(&[2])).unwrap();
        assert!(!draft.standing().unwrap().complete);
        draft.sign(&pairs(&[5])).unwrap();
        let standing = draft.standing().unwrap();
        assert!(standing.complete);
        assert_eq!(standing.parts[0].quorums[0].of, "recovery keys");
        state.rotate(&draft.envelopes()[0]).unwrap();
    }

    #[test]
    fn recovery_keys_are_set_as_a_whole() {
        let draft = begin(ground(&[1], 1, &[5]), &recovery(&[6, 7]), &pairs(&[1])).unwrap();
        let fingerprint = |seed| key(seed).public().fingerprint();
        assert_eq!(
            draft.standing().unwrap().says,
            [
                format!("new recovery key {}", fingerprint(6)),
                format!("new recovery key {}", fingerprint(7)),
                format!("no longer recovery key {}", fingerprint(5)),
            ]
        );
        let draft: Draft = begin(ground(&[1], 1, &[5]), &recovery(&[]), &pairs(&[1])).unwrap();
        assert!(draft.standing().unwrap().complete);
    }

    #[test]
    fn changes_that_make_no_sense_are_refused() {
        let threshold = |threshold| Change {
            threshold: Some(threshold),
            ..Change::default()
        };
        for change in [
            Change::default(),
            add(1),
            add(5),
            remove(3),
            remove(1),
            threshold(0),
            threshold(3),
            recovery(&[5]),
            recovery(&[2]),
            recovery(&[6, 6]),
        ] {
            let error = begin(ground(&[1, 2], 2, &[5]), &change, &pairs(&[1, 2])).unwrap_err();
            assert!(matches!(error, ClientError::Usage(_)), "{change:?}: {error}");
        }
        for nobodies in [&[][..], &[9]] {
            let error = begin(ground(&[1, 2], 2, &[5]), &add(3), &pairs(nobodies)).unwrap_err();
            assert!(matches!(error, ClientError::NotOwner { found: 0, .. }), "{error}");
        }
    }
}
