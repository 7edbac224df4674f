//! Rotation: how the keys of a namespace change.
//!
//! The keys that a rotation begins from are proven from the ledger: a site that could name them could have its
//! own key signed in among the owners.

use waag_schema::Namespace;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::namespace::{KeySet, Rotation};
use waag_schema::statement::{NamespaceState, Predicate, Statement, Subject};

use crate::draft::Draft;
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
}

/// Begins a rotation of the namespace as it is now, signed with these keys.
///
/// # Errors
/// When the change makes no sense, or leaves keys that nobody could sign with.
pub fn begin(namespace: &NamespaceState, change: &Change, keys: &[KeyPair]) -> Result<Draft> {
    let statement = Statement {
        subject: Subject::Namespace(namespace.name.clone()),
        predicate: Predicate::Rotation(Rotation {
            namespace: namespace.id,
            link: namespace.chain.next(),
            keys: changed(&namespace.name, &namespace.keys, change)?,
        }),
    };
    Draft::begin(&statement, keys)
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
    let keys = KeySet {
        owners,
        threshold,
        recovery: now.recovery.clone(),
    };
    if keys == *now {
        return refused(format!("nothing about the keys of `{name}` would change"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use waag_schema::statement::namespace::Genesis;
    use waag_schema::statement::{Envelope, Visibility};

    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    fn pairs(seeds: &[u8]) -> Vec<KeyPair> {
        seeds.iter().map(|seed| key(*seed)).collect()
    }

    fn namespace(owners: &[u8], threshold: u32, recovery: &[u8]) -> NamespaceState {
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
        NamespaceState::begin(&envelope, &home).unwrap()
    }

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

    #[test]
    fn a_rotation_is_complete_when_the_old_and_the_new_owners_have_signed() {
        let state = namespace(&[1, 2], 2, &[]);
        let change = Change {
            threshold: Some(1),
            ..add(3)
        };
        let mut draft = begin(&state, &change, &pairs(&[1])).unwrap();
        let standing = draft.standing(&state).unwrap();
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
        draft.sign(&pairs(&[1, 2])).unwrap();
        assert!(draft.standing(&state).unwrap().complete);
        // What is complete here is what the ledger admits.
        let rotated = state.rotate(draft.envelope()).unwrap();
        assert_eq!((rotated.keys.owners.len(), rotated.keys.threshold), (3, 1));
        assert!(matches!(draft.standing(&rotated), Err(ClientError::Conflict(_))));
    }

    #[test]
    fn recovery_keys_stand_in_for_lost_owners() {
        let state = namespace(&[1], 1, &[5]);
        let change = Change {
            add: vec![key(2).public()],
            ..remove(1)
        };
        let mut draft = begin(&state, &change, &pairs(&[2])).unwrap();
        assert!(!draft.standing(&state).unwrap().complete);
        draft.sign(&pairs(&[5])).unwrap();
        let standing = draft.standing(&state).unwrap();
        assert!(standing.complete);
        assert_eq!(standing.quorums[0].of, "recovery keys");
        state.rotate(draft.envelope()).unwrap();
    }

    #[test]
    fn changes_that_make_no_sense_are_refused() {
        let state = namespace(&[1, 2], 2, &[5]);
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
        ] {
            let error = begin(&state, &change, &pairs(&[1, 2])).unwrap_err();
            assert!(matches!(error, ClientError::Usage(_)), "{change:?}: {error}");
        }
        assert!(begin(&state, &add(3), &[]).is_err());
    }

    #[test]
    fn a_draft_survives_its_file_and_damage_to_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rotation.json");
        let state = namespace(&[1], 1, &[]);
        let draft = begin(&state, &add(2), &pairs(&[1])).unwrap();
        draft.write(&path).unwrap();
        assert_eq!(Draft::read(&path).unwrap(), draft);
        assert!(matches!(
            Draft::read(&dir.path().join("none")),
            Err(ClientError::NotFound(_))
        ));
        assert!(matches!(
            Draft::parse(b"{}"),
            Err(ClientError::Verification { .. })
        ));
        // Signed by somebody else under an owner's name.
        let text = String::from_utf8(draft.envelope().bytes().to_vec()).unwrap();
        let forged = Envelope::sign(draft.envelope().payload(), &[&key(9)]);
        let forged = String::from_utf8(forged.bytes().to_vec()).unwrap();
        let forged = forged.replace(&key(9).public().fingerprint(), &key(1).public().fingerprint());
        assert_ne!(text, forged);
        let forged = Draft::parse(forged.as_bytes()).unwrap();
        assert!(matches!(
            forged.standing(&state),
            Err(ClientError::Verification { .. })
        ));
    }

    #[test]
    fn a_draft_of_another_namespace_does_not_stand() {
        let state = namespace(&[1], 1, &[]);
        let other = namespace(&[3], 1, &[]);
        let draft = begin(&other, &add(2), &pairs(&[1])).unwrap();
        assert!(matches!(
            draft.standing(&state),
            Err(ClientError::Verification { .. })
        ));
    }
}
