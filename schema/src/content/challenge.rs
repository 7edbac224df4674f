//! Has another site the bytes that it says it holds? Whoever has them too draws ranges and asks for one hash over them.
//!
//! ```text
//! key    = BLAKE3-derive-key("waag 2026 custody challenge v1", nonce)
//! answer = BLAKE3-keyed(key, length of SITE u8 || SITE || manifest (32) || count u8 || PART...)
//! PART   = file's SHA-256 (32) || offset u64be || length u32be || the bytes
//! ```
//! SITE is the id of the site that answers. The nonce is new each time, so an answer cannot be prepared before; the site's
//! id is under the hash, so that of another site is of no use; and no content moves. A site that lacks a part f of the
//! bytes answers rightly with probability (1 - f)^n, n ranges; so does one that fetches them elsewhere while it is asked.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::name::SiteId;

/// The most ranges of one challenge.
pub const RANGES_MAX: usize = 16;
/// The most bytes of one range.
pub const RANGE_BYTES_MAX: u32 = 16 << 10;

const CONTEXT: &str = "waag 2026 custody challenge v1";

/// A challenge asks for what none may ask for, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Too many ranges, or none.
    #[error("a challenge has 1 to {RANGES_MAX} ranges, not {0}")]
    Count(usize),
    /// A range of a length that none may have.
    #[error("a range has 1 to {RANGE_BYTES_MAX} bytes, not {0}")]
    Length(u32),
    /// A text is no nonce or answer.
    #[error("`{0}` is not 64 lower-case hex digits")]
    Text(String),
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $description:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ChallengeError;

            fn from_str(text: &str) -> Result<Self, ChallengeError> {
                let refused = || ChallengeError::Text(text.chars().take(100).collect());
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| refused())?;
                bytes.try_into().map(Self).map_err(|_| refused())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        crate::base::text::as_text!($name, $description);
    };
}

words!(
    /// What makes a challenge another one than all before it.
    Nonce,
    "64 lower-case hex digits, never used twice"
);
words!(
    /// What only who has the bytes can say.
    Answer,
    "64 lower-case hex digits"
);

/// Some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The file, of the release that is meant.
    pub file: Sha256,
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub length: u32,
}

/// What is asked of a site that says that it holds a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// The release.
    pub manifest: Sha256,
    /// New each time.
    pub nonce: Nonce,
    /// 1 to 16 ranges of its files, each of 1 to 16,384 bytes.
    pub parts: Vec<Part>,
}

impl Challenge {
    /// Draws ranges of these files, each byte as likely as the other; none where the files hold nothing. Lots are random
    /// numbers.
    #[must_use]
    pub fn draw(
        manifest: Sha256,
        files: &[(Sha256, u64)],
        nonce: Nonce,
        lots: &[u64; RANGES_MAX],
    ) -> Option<Self> {
        let total: u128 = files.iter().map(|(_, size)| u128::from(*size)).sum();
        let parts: Vec<Part> = lots
            .iter()
            .filter_map(|lot| part_at(files, total, *lot))
            .collect();
        (!parts.is_empty()).then_some(Self {
            manifest,
            nonce,
            parts,
        })
    }

    /// Checks what its types cannot say.
    ///
    /// # Errors
    /// When it has too many ranges or none, or one of a length that none may have.
    pub fn check(&self) -> Result<(), ChallengeError> {
        if self.parts.is_empty() || self.parts.len() > RANGES_MAX {
            return Err(ChallengeError::Count(self.parts.len()));
        }
        let allowed = |length: u32| (1..=RANGE_BYTES_MAX).contains(&length);
        match self.parts.iter().find(|part| !allowed(part.length)) {
            Some(part) => Err(ChallengeError::Length(part.length)),
            None => Ok(()),
        }
    }

    /// Returns what this site answers that has these bytes, one slice for each range; none where they are not as many as
    /// the ranges say.
    #[must_use]
    pub fn answer(&self, by: &SiteId, bytes: &[impl AsRef<[u8]>]) -> Option<Answer> {
        self.check().ok()?;
        let fits = |(part, bytes): (&Part, &[u8])| usize::try_from(part.length) == Ok(bytes.len());
        let read = || bytes.iter().map(AsRef::as_ref);
        if bytes.len() != self.parts.len() || !self.parts.iter().zip(read()).all(fits) {
            return None;
        }
        let key = blake3::derive_key(CONTEXT, self.nonce.as_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        let site = by.as_str().as_bytes();
        hasher.update(&[u8::try_from(site.len()).ok()?]);
        hasher.update(site);
        hasher.update(self.manifest.as_bytes());
        hasher.update(&[u8::try_from(self.parts.len()).ok()?]);
        for (part, bytes) in self.parts.iter().zip(read()) {
            hasher.update(part.file.as_bytes());
            hasher.update(&part.offset.to_be_bytes());
            hasher.update(&part.length.to_be_bytes());
            hasher.update(bytes);
        }
        Some(Answer(hasher.finalize().into()))
    }
}

/// Returns the range that a lot falls on.
fn part_at(files: &[(Sha256, u64)], total: u128, lot: u64) -> Option<Part> {
    // Below the total, which is below 2^128 / 2^64 as long as files are counted in u64.
    let mut at = u128::from(lot).checked_mul(total)? >> 64;
    for (file, size) in files {
        let size = u128::from(*size);
        if at < size {
            let length = (size - at).min(u128::from(RANGE_BYTES_MAX));
            return Some(Part {
                file: *file,
                offset: u64::try_from(at).ok()?,
                length: u32::try_from(length).ok()?,
            });
        }
        at -= size;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nonce() -> Nonce {
        Nonce::from_bytes([7; 32])
    }

    fn site(text: &str) -> SiteId {
        text.parse().unwrap()
    }

    fn challenge(parts: Vec<Part>) -> Challenge {
        Challenge {
            manifest: Sha256::of(b"manifest"),
            nonce: nonce(),
            parts,
        }
    }

    const ONE: &str = "dh6xxvclp4rnybaxwrxuolsabmygermx";
    const OTHER: &str = "mvyvmzcxyy4qh2zbv3gn7gkyvplrpnyx";

    #[test]
    fn everything_that_is_asked_is_under_the_answer() {
        let part = Part {
            file: Sha256::of(b"file"),
            offset: 5,
            length: 3,
        };
        let asked = challenge(vec![part]);
        let right = asked.answer(&site(ONE), &[b"abc"]).unwrap();
        assert_eq!(right.to_string().parse(), Ok(right));
        assert_ne!(asked.answer(&site(OTHER), &[b"abc"]), Some(right));
        assert_ne!(asked.answer(&site(ONE), &[b"abd"]), Some(right));
        let again = Challenge {
            nonce: Nonce::from_bytes([8; 32]),
            ..asked.clone()
        };
        assert_ne!(again.answer(&site(ONE), &[b"abc"]), Some(right));
        let elsewhere = challenge(vec![Part { offset: 6, ..part }]);
        assert_ne!(elsewhere.answer(&site(ONE), &[b"abc"]), Some(right));
        // Too few bytes, and too few ranges of them.
        assert_eq!(asked.answer(&site(ONE), &[b"ab"]), None);
        assert_eq!(asked.answer(&site(ONE), &[] as &[&[u8]]), None);
    }

    #[test]
    fn a_challenge_is_bounded() {
        let part = |length| Part {
            file: Sha256::of(b"file"),
            offset: 0,
            length,
        };
        assert!(challenge(vec![part(RANGE_BYTES_MAX); RANGES_MAX]).check().is_ok());
        for bad in [
            challenge(Vec::new()),
            challenge(vec![part(1); RANGES_MAX + 1]),
            challenge(vec![part(0)]),
            challenge(vec![part(RANGE_BYTES_MAX + 1)]),
        ] {
            assert!(bad.check().is_err());
            assert_eq!(bad.answer(&site(ONE), &[b"a"]), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_drawn_lies_within_the_files(
            sizes in prop::collection::vec(0_u64..1 << 40, 0..6),
            lots in prop::array::uniform16(any::<u64>()),
        ) {
            let files: Vec<(Sha256, u64)> =
                sizes.iter().enumerate().map(|(at, size)| (Sha256::of(&[at as u8]), *size)).collect();
            let drawn = Challenge::draw(Sha256::of(b"m"), &files, nonce(), &lots);
            prop_assert_eq!(drawn.is_none(), sizes.iter().sum::<u64>() == 0);
            if let Some(drawn) = drawn {
                prop_assert!(drawn.check().is_ok());
                prop_assert_eq!(drawn.parts.len(), RANGES_MAX);
                for part in &drawn.parts {
                    let (_, size) = files.iter().find(|(file, _)| *file == part.file).unwrap();
                    prop_assert!(part.offset + u64::from(part.length) <= *size);
                }
            }
        }
    }
}
