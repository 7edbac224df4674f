//! The federation: who belongs to it, under which keys, and who may speak for which namespaces.
//!
//! A [`Charter`] is the only thing that makes one site believe another. What is here reads and checks it; keeping it,
//! stepping to a new version and telling others which one holds is the business of sites and of the command line.

pub mod bundle;
pub mod charter;
pub mod name;
pub mod terms;

pub use charter::{Charter, Proposal, STEPS_MAX, Signatures, Standing};
pub use name::{Address, FederationName, Owned, SiteHandle, SiteName, TermError};
pub use terms::{Ending, LedgerTerms, RootKeys, SiteTerms, Terms, Witnesses};

use crate::base::digest::Sha256;
use crate::statement::StatementError;

/// A charter cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// The bytes are no charter in its envelope.
    #[error("the charter is malformed: {0}")]
    Malformed(String),
    /// It is one, and says what no charter may say.
    #[error("the charter breaks a rule: {0}")]
    Rule(String),
    /// Too few of the keys that count have signed.
    #[error("{found} of the root keys of {whose} signed, {needed} must")]
    Threshold {
        /// Whose keys: those that the charter itself names, or those of the one before it.
        whose: Keys,
        /// Signatures that hold, by distinct keys.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
    /// A signature by a root key does not hold.
    #[error("a signature is damaged: {0}")]
    Signature(String),
    /// It is the charter of another federation.
    #[error("it is the charter of the federation `{found}`, not of `{expected}`")]
    OtherFederation {
        /// Which one was followed so far.
        expected: FederationName,
        /// Which one it names.
        found: FederationName,
    },
    /// It is not the version that comes next.
    #[error("it is version {found}, and after version {known} comes {}", .known + 1)]
    NotNext {
        /// The version that holds.
        known: u64,
        /// The version that was found.
        found: u64,
    },
    /// It follows a charter of the version that holds, but another one than that.
    #[error("it follows a version {known} with the digest {found}, the one that holds has {expected}")]
    OtherPast {
        /// The version that holds.
        known: u64,
        /// The digest of the charter that holds.
        expected: Sha256,
        /// The digest that it names.
        found: Sha256,
    },
    /// Two charters have one version: somebody who holds root keys tells two stories.
    #[error("there are two charters of version {version}: {known} is followed here, {found} is another one")]
    Fork {
        /// The version of both.
        version: u64,
        /// The digest of the one that is followed.
        known: Sha256,
        /// The digest of the other.
        found: Sha256,
    },
    /// More steps at once than anybody takes.
    #[error("{found} charters to step through, at most {STEPS_MAX} are accepted")]
    TooManySteps {
        /// How many there are.
        found: usize,
    },
}

/// Whose root keys were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Those that the charter itself names.
    Own,
    /// Those of the charter before it.
    Previous,
}

impl std::fmt::Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own => "the charter itself",
            Self::Previous => "the charter before it",
        })
    }
}

impl CharterError {
    fn envelope(error: StatementError) -> Self {
        match error {
            StatementError::Key(error) => Self::Signature(error.to_string()),
            StatementError::Envelope(text) | StatementError::Payload(text) => Self::Malformed(text),
            other @ StatementError::Threshold { .. } => Self::Malformed(other.to_string()),
        }
    }
}
