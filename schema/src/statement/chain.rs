//! The chain of a publisher's statements about one subject.
//!
//! Each statement carries a counter, one more than the last, and the digest of the envelope before it. So a
//! site can neither drop a statement from the middle, nor reorder, nor replay one, without every reader
//! seeing it; and of two publishers who write at once, one is told to look again.

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;

/// A statement's place in the chain of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// 1 for the first statement on the subject, then one more each.
    pub counter: u64,
    /// The SHA-256 of the envelope before this one; none for the first.
    // Naming the function makes serde ask for the key, which it would let be absent otherwise.
    #[serde(deserialize_with = "Option::deserialize")]
    pub previous: Option<Sha256>,
}

/// Where the chain of a subject has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Chain {
    /// The counter of the last statement; 0 while there is none.
    pub counter: u64,
    /// The SHA-256 of the last envelope.
    pub head: Option<Sha256>,
}

/// A statement does not follow the last one on its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The counter was used before.
    #[error("statement {found} was recorded before; the next is {expected}")]
    Replay {
        /// The counter that would follow.
        expected: u64,
        /// The counter that came.
        found: u64,
    },
    /// A statement between is missing.
    #[error("statement {found} came, the next is {expected}: one between is missing")]
    Gap {
        /// The counter that would follow.
        expected: u64,
        /// The counter that came.
        found: u64,
    },
    /// The counter fits but the statement was made after another one than the last recorded.
    #[error("statement {counter} names another predecessor than the one recorded")]
    Fork {
        /// The counter of both.
        counter: u64,
    },
}

impl Chain {
    /// Returns the link that the next statement must carry.
    #[must_use]
    pub const fn next(&self) -> Link {
        Link {
            counter: self.counter.saturating_add(1),
            previous: self.head,
        }
    }

    /// Checks that a link follows this chain.
    ///
    /// # Errors
    /// When it is a replay, leaves a gap, or follows another statement.
    pub fn admits(&self, link: &Link) -> Result<(), ChainError> {
        let expected = self.counter.saturating_add(1);
        match link.counter {
            found if found < expected => Err(ChainError::Replay { expected, found }),
            found if found > expected => Err(ChainError::Gap { expected, found }),
            counter if link.previous != self.head => Err(ChainError::Fork { counter }),
            _ => Ok(()),
        }
    }

    /// Returns the chain with one more statement, whose envelope has this digest.
    #[must_use]
    pub const fn then(&self, envelope: Sha256) -> Self {
        Self {
            counter: self.counter.saturating_add(1),
            head: Some(envelope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_next_statement_is_admitted() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let chain = Chain::default().then(a);
        assert!(
            chain
                .admits(&Link {
                    counter: 2,
                    previous: Some(a)
                })
                .is_ok()
        );
        for (link, error) in [
            (
                Link {
                    counter: 1,
                    previous: None,
                },
                ChainError::Replay {
                    expected: 2,
                    found: 1,
                },
            ),
            (
                Link {
                    counter: 3,
                    previous: Some(a),
                },
                ChainError::Gap {
                    expected: 2,
                    found: 3,
                },
            ),
            (
                Link {
                    counter: 2,
                    previous: Some(b),
                },
                ChainError::Fork { counter: 2 },
            ),
            (
                Link {
                    counter: 2,
                    previous: None,
                },
                ChainError::Fork { counter: 2 },
            ),
        ] {
            assert_eq!(chain.admits(&link).unwrap_err(), error);
        }
    }

    #[test]
    fn a_counter_that_no_chain_reaches_is_no_panic() {
        let told = Chain {
            counter: u64::MAX,
            head: None,
        };
        assert_eq!(told.next().counter, u64::MAX);
        assert_eq!(told.then(Sha256::of(b"a")).counter, u64::MAX);
    }

    #[test]
    fn a_chain_admits_the_link_it_asks_for() {
        let mut chain = Chain::default();
        for i in 0..5u8 {
            assert!(chain.admits(&chain.next()).is_ok());
            chain = chain.then(Sha256::of(&[i]));
        }
        assert_eq!(chain.counter, 5);
    }
}
