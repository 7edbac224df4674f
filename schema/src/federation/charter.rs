//! A charter: the federation's root document, exact bytes under detached signatures, and how one follows another.
//!
//! ```text
//! version 1      signed by the threshold of its own root keys: what is believed at first contact
//! version n + 1  names the SHA-256 of version n, and is signed by the threshold of n's root keys and of its own
//! ```
//!
//! Invariant: a [`Charter`] keeps the rules of [`Terms`] and its own threshold signed it. Whether it may follow the one
//! that holds is what [`Charter::next`] says; that it has run out is a [`Standing`], not an error: whoever relies on it
//! warns, keeps serving what it has, and believes nothing new.
//!
//! The SHA-256 that names a charter is that of the document, not of the envelope: signatures that are gathered in
//! another order, or one more of them, make no other charter.

use super::name::SiteHandle;
use super::terms::{RootKeys, SiteTerms, Terms};
use super::{CharterError, Keys};
use crate::base::digest::Sha256;
use crate::base::json;
use crate::base::key::{KeyPair, PublicKey};
use crate::base::name::{Namespace, SiteId};
use crate::base::time::Timestamp;
use crate::ledger::VerifierKey;
use crate::policy::Place;
use crate::statement::Envelope;
use crate::statement::dsse::PayloadType;

/// The most charters that are stepped through at once.
pub const STEPS_MAX: usize = 1024;

/// A charter that keeps the rules and may lack signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    envelope: Envelope,
    terms: Terms,
}

/// Who of some root keys has signed a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// Those that have.
    pub signed: Vec<PublicKey>,
    /// Those that have not.
    pub unsigned: Vec<PublicKey>,
    /// How many must.
    pub needed: usize,
}

impl Signatures {
    /// Returns how many signatures are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.needed.saturating_sub(self.signed.len())
    }
}

impl Proposal {
    /// Signs a document with each of these keys.
    ///
    /// # Errors
    /// When it breaks a rule, or takes more bytes than a charter may.
    pub fn sign(terms: &Terms, keys: &[&KeyPair]) -> Result<Self, CharterError> {
        let envelope = Envelope::sign_as(PayloadType::Charter, &terms.to_bytes(), keys);
        Self::parse(envelope.bytes())
    }

    /// Reads a charter and keeps its exact bytes. No signature is checked yet.
    ///
    /// # Errors
    /// When the bytes are not a charter in its envelope, or it breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, CharterError> {
        let envelope = Envelope::parse_as(PayloadType::Charter, bytes).map_err(CharterError::envelope)?;
        let terms: Terms = json::from_slice(envelope.payload(), PayloadType::Charter.size_max())
            .map_err(|e| CharterError::Malformed(e.to_string()))?;
        terms.check().map_err(CharterError::Rule)?;
        Ok(Self { envelope, terms })
    }

    /// Returns the same charter with the signatures of both.
    ///
    /// # Errors
    /// When they are two different ones, or there would be too many signatures.
    pub fn merge(&self, other: &Self) -> Result<Self, CharterError> {
        let envelope = self
            .envelope
            .merge(&other.envelope)
            .map_err(CharterError::envelope)?;
        Self::parse(envelope.bytes())
    }

    /// Returns who of its own root keys has signed.
    ///
    /// # Errors
    /// When one of their signatures does not hold.
    pub fn signatures(&self) -> Result<Signatures, CharterError> {
        self.signatures_of(&self.terms.root)
    }

    /// Returns who of these root keys has signed.
    ///
    /// # Errors
    /// When one of their signatures does not hold.
    pub fn signatures_of(&self, root: &RootKeys) -> Result<Signatures, CharterError> {
        let signed = self
            .envelope
            .signers(&root.keys)
            .map_err(CharterError::envelope)?;
        let unsigned = root
            .keys
            .iter()
            .filter(|key| !signed.contains(key))
            .copied()
            .collect();
        Ok(Signatures {
            signed,
            unsigned,
            needed: root.threshold as usize,
        })
    }

    /// Returns what it says.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns the SHA-256 of the document: what names this charter.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.envelope.payload())
    }

    /// Returns the exact bytes of the envelope.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.envelope.bytes()
    }

    fn check_signed(&self, whose: Keys, root: &RootKeys) -> Result<(), CharterError> {
        let signatures = self.signatures_of(root)?;
        if signatures.missing() == 0 {
            return Ok(());
        }
        Err(CharterError::Threshold {
            whose,
            found: signatures.signed.len(),
            needed: signatures.needed,
        })
    }
}

/// A charter that its own threshold has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter(Proposal);

/// Whether a charter still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Holds,
    /// It has run out: what it made believed stays, nothing new is believed because of it.
    Expired {
        /// When.
        on: Timestamp,
    },
}

impl Charter {
    /// Reads a charter that stands for itself: at first contact, or back from where a verified one was kept.
    ///
    /// # Errors
    /// When it is malformed, breaks a rule, or too few of its own root keys signed.
    pub fn parse(bytes: &[u8]) -> Result<Self, CharterError> {
        Proposal::parse(bytes)?.try_into()
    }

    /// Reads the charter that comes next after this one.
    ///
    /// # Errors
    /// When it is malformed or breaks a rule, is not of this federation, is not the next version after exactly this
    /// one, or the threshold of this one's root keys or of its own did not sign. [`CharterError::Fork`] is the one that
    /// must be kept as evidence: two charters, each signed by enough root keys, have one version.
    pub fn next(&self, bytes: &[u8]) -> Result<Self, CharterError> {
        let next = Self::parse(bytes)?;
        let (known, found) = (self.terms(), next.terms());
        if found.federation != known.federation {
            return Err(CharterError::OtherFederation {
                expected: known.federation.clone(),
                found: found.federation.clone(),
            });
        }
        if self.is_forked_by(&next)? {
            return Err(CharterError::Fork {
                version: known.version,
                known: self.digest(),
                found: next.digest(),
            });
        }
        if known.version.checked_add(1) != Some(found.version) {
            return Err(CharterError::NotNext {
                known: known.version,
                found: found.version,
            });
        }
        next.0.check_signed(Keys::Previous, &known.root)?;
        if let Some(previous) = found.previous.filter(|previous| *previous != self.digest()) {
            return Err(CharterError::OtherPast {
                known: known.version,
                expected: self.digest(),
                found: previous,
            });
        }
        Ok(next)
    }

    /// Steps through charters, oldest first, and returns the last one. Those on the way may have run out; ask the last
    /// one for its [`Standing`].
    ///
    /// # Errors
    /// As [`Self::next`], for the first step that fails, and when there are more than 1,024.
    pub fn advance<B: AsRef<[u8]>>(&self, steps: &[B]) -> Result<Self, CharterError> {
        if steps.len() > STEPS_MAX {
            return Err(CharterError::TooManySteps { found: steps.len() });
        }
        steps
            .iter()
            .try_fold(self.clone(), |charter, step| charter.next(step.as_ref()))
    }

    /// Says whether another charter contradicts this one: the same federation and version, another document, and
    /// signed by enough of this one's root keys, so that nobody else can have made it up.
    ///
    /// # Errors
    /// When a signature by one of this one's root keys does not hold.
    pub fn is_forked_by(&self, other: &Self) -> Result<bool, CharterError> {
        let (known, found) = (self.terms(), other.terms());
        let contradicts = known.federation == found.federation
            && known.version == found.version
            && self.digest() != other.digest();
        Ok(contradicts && other.0.signatures_of(&known.root)?.missing() == 0)
    }

    /// Says whether it still holds.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let on = self.terms().expires;
        if now < on {
            Standing::Holds
        } else {
            Standing::Expired { on }
        }
    }

    /// Returns what it says.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.0.terms
    }

    /// Returns it with its signatures, as it may be signed further.
    #[must_use]
    pub const fn proposal(&self) -> &Proposal {
        &self.0
    }

    /// Returns its version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.0.terms.version
    }

    /// Returns the SHA-256 of the document: what names this charter.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.0.digest()
    }

    /// Returns the exact bytes of the envelope.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Returns the site of this id.
    #[must_use]
    pub fn site(&self, id: &SiteId) -> Option<&SiteTerms> {
        self.terms().sites.iter().find(|site| site.id == *id)
    }

    /// Returns the site that a person means.
    #[must_use]
    pub fn find(&self, handle: &SiteHandle) -> Option<&SiteTerms> {
        match handle {
            SiteHandle::Id(id) => self.site(id),
            SiteHandle::Name(name) => self.terms().sites.iter().find(|site| site.name == *name),
        }
    }

    /// Returns the site that owns a namespace; there is at most one.
    #[must_use]
    pub fn owner(&self, namespace: &Namespace) -> Option<&SiteTerms> {
        let mut sites = self.terms().sites.iter();
        sites.find(|site| site.owns.iter().any(|owned| owned.contains(namespace)))
    }

    /// Returns a site as a place to decide about.
    #[must_use]
    pub fn place(&self, id: &SiteId) -> Option<Place> {
        self.site(id).map(|site| Place::Site {
            id: site.id.clone(),
            jurisdiction: Some(site.jurisdiction),
        })
    }

    /// Returns the keys whose cosignatures count for the ledgers of a site: those of the sites in other jurisdictions.
    pub fn witnesses_of(&self, id: &SiteId) -> impl Iterator<Item = &VerifierKey> {
        let home = self.site(id).map(|site| site.jurisdiction);
        let others = move |site: &&SiteTerms| home.is_some_and(|home| site.jurisdiction != home);
        self.terms()
            .sites
            .iter()
            .filter(others)
            .map(|site| &site.witness_key)
    }

    /// Says whether cosignatures by these keys make a checkpoint of a site's ledger a witnessed one.
    #[must_use]
    pub fn is_witnessed(&self, id: &SiteId, cosigned: &[VerifierKey]) -> bool {
        let Some(home) = self.site(id) else {
            return false;
        };
        let countries: std::collections::BTreeSet<_> = self
            .terms()
            .sites
            .iter()
            .filter(|site| site.jurisdiction != home.jurisdiction && cosigned.contains(&site.witness_key))
            .map(|site| site.jurisdiction)
            .collect();
        countries.len() >= self.terms().witnesses.jurisdictions as usize
    }
}

impl TryFrom<Proposal> for Charter {
    type Error = CharterError;

    fn try_from(proposal: Proposal) -> Result<Self, CharterError> {
        proposal.check_signed(Keys::Own, &proposal.terms.root)?;
        Ok(Self(proposal))
    }
}
