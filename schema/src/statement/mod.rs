//! Who says what about which digest: in-toto Statements in DSSE envelopes, over exact bytes.
//!
//! A publisher signs; a site records. What is recorded here is only what a signature covers, and whether one
//! statement may follow another is decided by [`chain`], the same code in client, site, mirror and auditor.

pub mod access;
pub mod agreement;
pub mod chain;
pub mod custody;
pub mod dsse;
pub mod gate;
pub mod namespace;
pub mod predicate;
pub mod scorecard;
pub mod site;
pub mod svr;

pub use access::Access;
pub use chain::{Chain, ChainError, Link};
pub use custody::{Custody, Keeping};
pub use dsse::Envelope;
pub use namespace::{NamespaceState, Visibility};
pub use predicate::{Content, Predicate, Release, Statement, Subject, TagMove};
pub use scorecard::Scorecard;
pub use site::{CharterAdopted, Erasure, RevocationList, Seen, Successor};
pub use svr::Svr;

use crate::base::json::JsonError;
use crate::base::key::KeyError;

/// An envelope or its statement cannot be accepted, whatever the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The envelope is not JSON of the DSSE form, or not what this version signs.
    #[error("the envelope is malformed: {0}")]
    Envelope(String),
    /// The payload is not an in-toto Statement of a kind that waag knows.
    #[error("the statement is malformed: {0}")]
    Payload(String),
    /// Too few valid signatures by the keys that count.
    #[error("{found} of the namespace's keys signed, {needed} must")]
    Threshold {
        /// Valid signatures by distinct keys that count.
        found: usize,
        /// How many the namespace asks for.
        needed: usize,
    },
    /// A signature by a known key does not hold.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<JsonError> for StatementError {
    fn from(error: JsonError) -> Self {
        Self::Payload(error.to_string())
    }
}
