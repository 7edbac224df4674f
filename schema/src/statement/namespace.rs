//! Namespaces: how one begins, how its keys change, and whose signature counts.
//!
//! A namespace's id is the SHA-256 of the payload of its genesis statement: a name alone can be claimed
//! twice, an id cannot. Publisher statements are accepted by the keys that hold at that point of the ledger.

use serde::{Deserialize, Serialize};

use super::StatementError;
use super::chain::{Chain, ChainError, Link};
use super::dsse::Envelope;
use super::predicate::{Predicate, Statement, Subject};
use crate::base::digest::Sha256;
use crate::base::key::PublicKey;
use crate::base::name::{Namespace, SiteId};

/// The most keys of one role.
pub const KEYS_MAX: usize = 32;

/// Who may read a namespace's artifacts unless an artifact narrows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Anybody, as far as labels allow.
    Public,
    /// Only tokens that carry the namespace.
    Private,
}

/// The keys that sign for a namespace, and how many must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// The owners' keys, 1 to 32.
    pub owners: Vec<PublicKey>,
    /// How many owners must sign: 1 to the number of owners.
    pub threshold: u32,
    /// Keys that may rotate the owners when those are lost; they sign nothing else.
    pub recovery: Vec<PublicKey>,
}

impl KeySet {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.owners.is_empty() || self.owners.len() > KEYS_MAX || self.recovery.len() > KEYS_MAX {
            return Err(format!(
                "1 to {KEYS_MAX} owner keys and at most {KEYS_MAX} recovery keys are accepted"
            ));
        }
        if self.threshold == 0 || self.threshold as usize > self.owners.len() {
            return Err(format!(
                "a threshold of {} does not fit {} owner keys",
                self.threshold,
                self.owners.len()
            ));
        }
        let mut all: Vec<&PublicKey> = self.owners.iter().chain(&self.recovery).collect();
        all.sort_by_key(|k| *k.as_bytes());
        if all.windows(2).any(|w| w[0] == w[1]) {
            return Err("a key stands twice".to_owned());
        }
        Ok(())
    }
}

/// The predicate `namespace`: a namespace begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Its keys.
    pub keys: KeySet,
    /// The site whose ledger its statements are recorded in.
    pub home: SiteId,
    /// Who may read by default.
    pub visibility: Visibility,
}

/// The predicate `rotation`: from now on these keys hold. Signed by the thresholds of the old and the new set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The namespace's id.
    pub namespace: Sha256,
    /// Its place among the statements on the namespace.
    pub link: Link,
    /// The new keys.
    pub keys: KeySet,
}

/// A namespace as the statements so far have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceState {
    /// Its name.
    pub name: Namespace,
    /// The SHA-256 of its genesis statement.
    pub id: Sha256,
    /// The keys that hold now.
    pub keys: KeySet,
    /// Its home site.
    pub home: SiteId,
    /// Who may read by default.
    pub visibility: Visibility,
    /// The other sites that may read it, where it is private.
    pub sites: Vec<SiteId>,
    /// The chain of statements on the namespace itself.
    pub chain: Chain,
}

/// A well-formed statement may not be recorded now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The envelope or its signatures cannot be accepted.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It does not follow the last statement on its subject.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It is signed for another namespace than the one of this name.
    #[error("it names the namespace id {found}, `{name}` is {expected}")]
    OtherNamespace {
        /// The name.
        name: Namespace,
        /// The id recorded here.
        expected: Sha256,
        /// The id in the statement.
        found: Sha256,
    },
    /// It is about something of another name than the namespace that signs.
    #[error("it is about `{found}`, which is not for `{expected}` to speak of")]
    OtherName {
        /// The namespace that signs.
        expected: Namespace,
        /// What it is about.
        found: String,
    },
    /// A statement that begins a namespace or changes its keys, where one about an artifact was expected.
    #[error("it is about the namespace `{0}` itself, not about an artifact")]
    NotOfArtifact(Namespace),
    /// It says which sites may read what everybody may read.
    #[error("the namespace `{0}` is public: every site may read it")]
    Public(Namespace),
    /// A genesis for another site.
    #[error("its home is the site {found}, this ledger is of {expected}")]
    OtherHome {
        /// The site of this ledger.
        expected: SiteId,
        /// The site it names.
        found: SiteId,
    },
}

impl NamespaceState {
    /// Begins a namespace from its genesis envelope, for the ledger of `site`.
    ///
    /// # Errors
    /// When it is no genesis, names another home, or its own threshold did not sign.
    pub fn begin(envelope: &Envelope, site: &SiteId) -> Result<Self, AdmitError> {
        let statement = Statement::parse(envelope.payload())?;
        let (Subject::Namespace(name), Predicate::Genesis(genesis)) =
            (statement.subject, statement.predicate)
        else {
            return Err(StatementError::Payload("it does not begin a namespace".to_owned()).into());
        };
        if genesis.home != *site {
            return Err(AdmitError::OtherHome {
                expected: site.clone(),
                found: genesis.home,
            });
        }
        envelope.verify(&genesis.keys.owners, genesis.keys.threshold as usize)?;
        Ok(Self {
            name,
            id: Sha256::of(envelope.payload()),
            keys: genesis.keys,
            home: genesis.home,
            visibility: genesis.visibility,
            sites: Vec::new(),
            chain: Chain::default().then(envelope.digest()),
        })
    }

    /// Checks that a statement by this namespace may follow `chain`, the chain of the statement's subject.
    ///
    /// # Errors
    /// When it is not about an artifact of this namespace, names another namespace, does not follow, or too
    /// few owners signed.
    pub fn admit(&self, envelope: &Envelope, statement: &Statement, chain: &Chain) -> Result<(), AdmitError> {
        self.check_name(&statement.subject)?;
        if let Subject::Namespace(name) = &statement.subject {
            return Err(AdmitError::NotOfArtifact(name.clone()));
        }
        if let Some(found) = statement.predicate.namespace_id().filter(|id| *id != self.id) {
            return Err(AdmitError::OtherNamespace {
                name: self.name.clone(),
                expected: self.id,
                found,
            });
        }
        let link = statement
            .predicate
            .link()
            .ok_or_else(|| StatementError::Payload("a site's statement, not a publisher's".to_owned()))?;
        chain.admits(&link)?;
        envelope.verify(&self.keys.owners, self.keys.threshold as usize)?;
        Ok(())
    }

    /// Returns the namespace after a statement on itself: a rotation, a gate, or who may read it.
    ///
    /// # Errors
    /// When it is none of them, does not follow, too few have signed, or it says who may read what everybody may.
    pub fn follow(&self, envelope: &Envelope) -> Result<Self, AdmitError> {
        let statement = Statement::parse(envelope.payload())?;
        let (id, link, sites) = match &statement.predicate {
            Predicate::Gate(gate) => (gate.namespace, gate.link, &self.sites),
            Predicate::Access(access) => (access.namespace, access.link, &access.sites),
            _ => return self.rotate(envelope),
        };
        self.check_name(&statement.subject)?;
        if id != self.id {
            return Err(AdmitError::OtherNamespace {
                name: self.name.clone(),
                expected: self.id,
                found: id,
            });
        }
        if self.visibility == Visibility::Public && matches!(statement.predicate, Predicate::Access(_)) {
            return Err(AdmitError::Public(self.name.clone()));
        }
        self.chain.admits(&link)?;
        envelope.verify(&self.keys.owners, self.keys.threshold as usize)?;
        Ok(Self {
            sites: sites.clone(),
            chain: self.chain.then(envelope.digest()),
            ..self.clone()
        })
    }

    /// Says whether a site may know of what the namespace holds. Labels are asked separately.
    #[must_use]
    pub fn is_for(&self, site: &SiteId) -> bool {
        self.visibility == Visibility::Public || *site == self.home || self.sites.contains(site)
    }

    /// Returns the namespace after a rotation.
    ///
    /// # Errors
    /// When it does not follow, or the thresholds of the old and of the new keys did not both sign. The old
    /// owners' place may be taken by as many recovery keys.
    pub fn rotate(&self, envelope: &Envelope) -> Result<Self, AdmitError> {
        let statement = Statement::parse(envelope.payload())?;
        let Predicate::Rotation(rotation) = &statement.predicate else {
            return Err(StatementError::Payload("it does not rotate keys".to_owned()).into());
        };
        self.check_name(&statement.subject)?;
        if rotation.namespace != self.id {
            return Err(AdmitError::OtherNamespace {
                name: self.name.clone(),
                expected: self.id,
                found: rotation.namespace,
            });
        }
        self.chain.admits(&rotation.link)?;
        let threshold = self.keys.threshold as usize;
        let by_owners = envelope.verify(&self.keys.owners, threshold);
        if by_owners.is_err() {
            let needed = threshold.min(self.keys.recovery.len());
            if needed == 0 || envelope.verify(&self.keys.recovery, needed).is_err() {
                by_owners?;
            }
        }
        envelope.verify(&rotation.keys.owners, rotation.keys.threshold as usize)?;
        Ok(Self {
            keys: rotation.keys.clone(),
            chain: self.chain.then(envelope.digest()),
            ..self.clone()
        })
    }

    /// The id says whose key signs, the subject what it is about: both must be this namespace's.
    fn check_name(&self, subject: &Subject) -> Result<(), AdmitError> {
        if subject.namespace().as_ref() == Some(&self.name) {
            return Ok(());
        }
        Err(AdmitError::OtherName {
            expected: self.name.clone(),
            found: subject.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::KeyPair;
    use crate::statement::predicate::Withdrawal;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    fn keys(owners: &[u8], threshold: u32, recovery: &[u8]) -> KeySet {
        let public = |seeds: &[u8]| seeds.iter().map(|s| key(*s).public()).collect();
        KeySet {
            owners: public(owners),
            threshold,
            recovery: public(recovery),
        }
    }

    fn genesis(keys: KeySet, signers: &[u8]) -> Envelope {
        let statement = Statement {
            subject: Subject::Namespace("acme".parse().unwrap()),
            predicate: Predicate::Genesis(Genesis {
                keys,
                home: key(99).public().site_id(),
                visibility: Visibility::Public,
            }),
        };
        sign(&statement, signers)
    }

    fn sign(statement: &Statement, signers: &[u8]) -> Envelope {
        let pairs: Vec<KeyPair> = signers.iter().map(|s| key(*s)).collect();
        Envelope::sign(&statement.to_bytes(), &pairs.iter().collect::<Vec<_>>())
    }

    fn rotation(state: &NamespaceState, keys: KeySet, signers: &[u8]) -> Envelope {
        let statement = Statement {
            subject: Subject::Namespace(state.name.clone()),
            predicate: Predicate::Rotation(Rotation {
                namespace: state.id,
                link: state.chain.next(),
                keys,
            }),
        };
        sign(&statement, signers)
    }

    #[test]
    fn a_namespace_begins_when_its_own_threshold_signs_for_this_site() {
        let site = key(99).public().site_id();
        let state = NamespaceState::begin(&genesis(keys(&[1, 2], 2, &[]), &[1, 2]), &site).unwrap();
        assert_eq!(state.name.as_str(), "acme");
        assert!(NamespaceState::begin(&genesis(keys(&[1, 2], 2, &[]), &[1]), &site).is_err());
        assert!(matches!(
            NamespaceState::begin(&genesis(keys(&[1], 1, &[]), &[1]), &key(98).public().site_id()),
            Err(AdmitError::OtherHome { .. })
        ));
    }

    #[test]
    fn key_sets_that_nobody_could_meet_are_refused() {
        let site = key(99).public().site_id();
        for bad in [
            keys(&[], 1, &[]),
            keys(&[1], 0, &[]),
            keys(&[1], 2, &[]),
            keys(&[1, 1], 1, &[]),
            keys(&[1], 1, &[1]),
        ] {
            assert!(NamespaceState::begin(&genesis(bad, &[1]), &site).is_err());
        }
    }

    #[test]
    fn a_rotation_needs_the_old_and_the_new_threshold() {
        let site = key(99).public().site_id();
        let state = NamespaceState::begin(&genesis(keys(&[1, 2], 2, &[5]), &[1, 2]), &site).unwrap();
        let new = keys(&[3], 1, &[]);
        assert!(
            state.rotate(&rotation(&state, new.clone(), &[1, 3])).is_err(),
            "one of two old owners"
        );
        assert!(
            state.rotate(&rotation(&state, new.clone(), &[1, 2])).is_err(),
            "no new owner"
        );
        let rotated = state.rotate(&rotation(&state, new.clone(), &[1, 2, 3])).unwrap();
        assert_eq!((rotated.id, rotated.chain.counter), (state.id, 2));
        let recovered = state.rotate(&rotation(&state, new, &[5, 3])).unwrap();
        assert_eq!(recovered.keys, rotated.keys);
        assert!(
            rotated
                .rotate(&rotation(&state, keys(&[4], 1, &[]), &[1, 2, 4]))
                .is_err(),
            "a replayed link"
        );
    }

    #[test]
    fn a_gate_is_signed_by_the_owners_and_takes_its_place_among_rotations() {
        let site = key(99).public().site_id();
        let state = NamespaceState::begin(&genesis(keys(&[1, 2], 2, &[5]), &[1, 2]), &site).unwrap();
        let statement = Statement {
            subject: Subject::Namespace(state.name.clone()),
            predicate: Predicate::Gate(crate::statement::gate::Gate {
                namespace: state.id,
                link: state.chain.next(),
                tag: "prod".parse().unwrap(),
                requirements: Vec::new(),
            }),
        };
        for few in [&[1][..], &[5], &[1, 5]] {
            assert!(state.follow(&sign(&statement, few)).is_err(), "{few:?}");
        }
        let gated = state.follow(&sign(&statement, &[1, 2])).unwrap();
        assert_eq!((gated.keys.clone(), gated.chain.counter), (state.keys, 2));
        assert!(
            gated.follow(&sign(&statement, &[1, 2])).is_err(),
            "a replayed link"
        );
        let turn = rotation(&gated, keys(&[3], 1, &[]), &[1, 2, 3]);
        assert_eq!(gated.follow(&turn).unwrap().chain.counter, 3);
    }

    #[test]
    fn the_owners_of_a_private_namespace_say_which_sites_may_read_it() {
        let home = key(99).public().site_id();
        let other = key(98).public().site_id();
        let begin = |visibility: Visibility| {
            let statement = Statement {
                subject: Subject::Namespace("acme".parse().unwrap()),
                predicate: Predicate::Genesis(Genesis {
                    keys: keys(&[1, 2], 2, &[]),
                    home: home.clone(),
                    visibility,
                }),
            };
            NamespaceState::begin(&sign(&statement, &[1, 2]), &home).unwrap()
        };
        let share = |state: &NamespaceState, sites: &[&SiteId]| Statement {
            subject: Subject::Namespace(state.name.clone()),
            predicate: Predicate::Access(crate::statement::Access {
                namespace: state.id,
                link: state.chain.next(),
                sites: sites.iter().copied().cloned().collect(),
            }),
        };
        let state = begin(Visibility::Private);
        assert!(state.is_for(&home) && !state.is_for(&other));
        let shared = share(&state, &[&other]);
        assert!(state.follow(&sign(&shared, &[1])).is_err(), "one of two owners");
        let open = state.follow(&sign(&shared, &[1, 2])).unwrap();
        assert!(open.is_for(&other));
        assert!(open.follow(&sign(&shared, &[1, 2])).is_err(), "a replayed link");
        let closed = open.follow(&sign(&share(&open, &[]), &[1, 2])).unwrap();
        assert!(!closed.is_for(&other) && closed.is_for(&home));
        assert_eq!((closed.id, closed.chain.counter), (state.id, 3));
        assert!(
            Statement::parse(&share(&state, &[&other, &other]).to_bytes()).is_err(),
            "a site twice"
        );
        let public = begin(Visibility::Public);
        assert!(public.is_for(&other));
        assert!(matches!(
            public.follow(&sign(&share(&public, &[&other]), &[1, 2])),
            Err(AdmitError::Public(_))
        ));
    }

    #[test]
    fn a_namespace_speaks_only_of_what_bears_its_name() {
        let site = key(99).public().site_id();
        let state = NamespaceState::begin(&genesis(keys(&[1], 1, &[]), &[1]), &site).unwrap();
        let withdrawal = |subject: Subject| Statement {
            subject,
            predicate: Predicate::Withdrawal(Withdrawal {
                namespace: state.id,
                link: Chain::default().next(),
                reason: "damaged".to_owned(),
                erase: false,
            }),
        };
        let admit = |statement: &Statement| {
            let read = Statement::parse(&statement.to_bytes()).unwrap();
            state.admit(&sign(statement, &[1]), &read, &Chain::default())
        };
        let digest = Sha256::of(b"manifest");
        let own = withdrawal(Subject::Manifest("acme/tiny".parse().unwrap(), digest));
        admit(&own).unwrap();
        let foreign = withdrawal(Subject::Manifest("other/tiny".parse().unwrap(), digest));
        assert!(matches!(admit(&foreign), Err(AdmitError::OtherName { .. })));

        let mut renamed = Statement {
            subject: Subject::Namespace("other".parse().unwrap()),
            predicate: Predicate::Rotation(Rotation {
                namespace: state.id,
                link: state.chain.next(),
                keys: keys(&[1, 2], 1, &[]),
            }),
        };
        assert!(matches!(
            state.rotate(&sign(&renamed, &[1])),
            Err(AdmitError::OtherName { .. })
        ));
        renamed.subject = Subject::Namespace("acme".parse().unwrap());
        assert!(matches!(admit(&renamed), Err(AdmitError::NotOfArtifact(_))));
        state.rotate(&sign(&renamed, &[1])).unwrap();
    }
}
