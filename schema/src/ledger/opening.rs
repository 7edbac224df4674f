//! What a leaf commits to: who said what, when, and in which order.
//!
//! ```text
//! opening    = u32be length || header || u32be length || envelope
//! header     = {"v":1,"id":"<32 hex digits>","prev":null,"stream":"open","seq":0,"at":"2026-11-21T00:03:11Z"}
//! commitment = HMAC-SHA-256(salt, "waag/commit/v1" || 0 || origin || 0 || opening)
//! ```
//!
//! Header and envelope are exact bytes: read strictly, hashed as they are, never written again. The random salt
//! makes the commitment say nothing, and deleting it makes the opening unprovable for ever; the origin keeps an
//! entry from being carried over to another ledger. The envelope (DSSE) is opaque here.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checkpoint::Origin;
use super::error::LedgerError;
use super::hash::{Commitment, base64_text};
use super::ident::EntryId;
use super::reading::{Reader, put_length, shown};
use crate::base::json::{self, INTEGER_MAX};
use crate::base::name::Namespace;
use crate::base::time::Timestamp;

/// A header may have this many bytes.
pub const HEADER_BYTES_MAX: usize = 4 * 1024;
/// An envelope may have this many bytes.
pub const ENVELOPE_BYTES_MAX: usize = 512 * 1024;
/// An opening has at most this many bytes.
pub const OPENING_BYTES_MAX: usize = 4 + HEADER_BYTES_MAX + 4 + ENVELOPE_BYTES_MAX;
const STREAM_BYTES_MAX: usize = 64;
const NAMESPACE_PREFIX: &str = "ns-";
const COPIES_PREFIX: &str = "copies-";

/// The key of one commitment: 32 random bytes, never derived from anything, never used twice.
///
/// Whoever has it and a guess of the opening can check the guess, so it is kept out of logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

base64_text!(Salt, "salt");

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// A sequence of entries that one audience may read: `[a-z0-9][a-z0-9-]{0,63}`. Its counter has no gaps, so
/// that nothing can be withheld from the audience unnoticed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(String);

impl Stream {
    /// Returns the stream that anyone may read.
    #[must_use]
    pub fn open() -> Self {
        Self("open".to_owned())
    }

    /// Returns the stream of a private namespace of this site, for whoever may read that.
    #[must_use]
    pub fn of_namespace(name: &Namespace) -> Self {
        Self(format!("{NAMESPACE_PREFIX}{name}"))
    }

    /// Returns the stream of what this site does with copies of another site's private namespace, for that site and
    /// whoever else may read the namespace.
    #[must_use]
    pub fn of_copies(name: &Namespace) -> Self {
        Self(format!("{COPIES_PREFIX}{name}"))
    }

    /// Returns the namespace whose readers may read the stream; none where everybody may.
    #[must_use]
    pub fn namespace(&self) -> Option<Namespace> {
        let name = self.0.strip_prefix(NAMESPACE_PREFIX);
        name.or_else(|| self.0.strip_prefix(COPIES_PREFIX))?.parse().ok()
    }

    /// Says whether it is about copies of another site's namespace.
    #[must_use]
    pub fn is_of_copies(&self) -> bool {
        self.0.starts_with(COPIES_PREFIX)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Stream {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty()
            || text.len() > STREAM_BYTES_MAX
            || text.starts_with('-')
            || !text.bytes().all(plain)
        {
            return Err(LedgerError::malformed(
                "stream",
                format!("`{}` is not [a-z0-9][a-z0-9-]{{0,63}}", shown(text)),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Stream {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::base::text::string_schema("A stream of entries: `[a-z0-9][a-z0-9-]{0,63}`")
    }
}

impl utoipa::ToSchema for Stream {}

/// Where an entry stands among others: what the site says about it, beside the signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Chosen by whoever asked for the entry.
    pub id: EntryId,
    /// The position of the previous entry on the same subject.
    pub prev: Option<u64>,
    /// The stream that the entry is in.
    pub stream: Stream,
    /// Its number in the stream, from 0 without gaps.
    pub seq: u64,
    /// When the site took it up.
    pub at: Timestamp,
}

/// The header's JSON; all keys are required, none may be added.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson {
    v: u64,
    id: EntryId,
    // Naming the function makes serde ask for the key, which it would let be absent otherwise.
    #[serde(deserialize_with = "Option::deserialize")]
    prev: Option<u64>,
    stream: Stream,
    seq: u64,
    at: Timestamp,
}

impl Header {
    fn to_bytes(&self) -> Result<Vec<u8>, LedgerError> {
        for number in [self.seq, self.prev.unwrap_or_default()] {
            if number > INTEGER_MAX {
                return Err(LedgerError::TooLarge {
                    what: "position in an entry's header",
                    found: number,
                    limit: INTEGER_MAX,
                });
            }
        }
        let json = HeaderJson {
            v: 1,
            id: self.id,
            prev: self.prev,
            stream: self.stream.clone(),
            seq: self.seq,
            at: self.at,
        };
        Ok(serde_json::to_vec(&json).expect("strings and numbers are JSON"))
    }

    fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let malformed = |reason: String| LedgerError::malformed("header of an entry", reason);
        let json: HeaderJson =
            json::from_slice(bytes, HEADER_BYTES_MAX).map_err(|e| malformed(e.to_string()))?;
        if json.v != 1 {
            return Err(malformed(format!("unknown version {}", json.v)));
        }
        Ok(Self {
            id: json.id,
            prev: json.prev,
            stream: json.stream,
            seq: json.seq,
            at: json.at,
        })
    }
}

/// A header and an envelope, as the exact bytes that a leaf commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    bytes: Vec<u8>,
    header: Header,
    envelope_at: usize,
}

impl Opening {
    /// Joins a header and an envelope.
    ///
    /// # Errors
    /// When the envelope is empty or too large, or a number of the header is beyond 2^53 - 1.
    pub fn new(header: Header, envelope: &[u8]) -> Result<Self, LedgerError> {
        let head = header.to_bytes()?;
        check_envelope(envelope)?;
        let mut bytes = Vec::with_capacity(8 + head.len() + envelope.len());
        put_length(&mut bytes, head.len());
        bytes.extend_from_slice(&head);
        put_length(&mut bytes, envelope.len());
        let envelope_at = bytes.len();
        bytes.extend_from_slice(envelope);
        Ok(Self {
            bytes,
            header,
            envelope_at,
        })
    }

    /// Reads an opening.
    ///
    /// # Errors
    /// When a length is wrong or too large, or the header is not one that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut reader = Reader::new("opening", bytes);
        let length = reader.length(HEADER_BYTES_MAX)?;
        let header = Header::parse(reader.take(length)?)?;
        let length = reader.length(ENVELOPE_BYTES_MAX)?;
        check_envelope(reader.take(length)?)?;
        reader.end()?;
        Ok(Self {
            bytes: bytes.to_vec(),
            header,
            envelope_at: bytes.len() - length,
        })
    }

    /// Returns the exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the envelope's exact bytes.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.bytes[self.envelope_at..]
    }
}

fn check_envelope(envelope: &[u8]) -> Result<(), LedgerError> {
    if envelope.is_empty() {
        return Err(LedgerError::malformed("opening", "its envelope is empty"));
    }
    LedgerError::limit("envelope, in bytes", envelope.len(), ENVELOPE_BYTES_MAX)
}

impl Serialize for Opening {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.bytes))
    }
}

impl<'de> Deserialize<'de> for Opening {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Opening {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::base::text::string_schema("An entry's opening: header and envelope, in base64")
    }
}

impl utoipa::ToSchema for Opening {}

/// An opening with the salt that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltedOpening {
    /// The commitment's key.
    pub salt: Salt,
    /// What is committed to.
    pub opening: Opening,
}

impl Commitment {
    /// Commits to an opening, for one ledger only.
    #[must_use]
    pub fn to(origin: &Origin, salt: &Salt, opening: &Opening) -> Self {
        let mut mac =
            Hmac::<sha2::Sha256>::new_from_slice(salt.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(b"waag/commit/v1\0");
        mac.update(origin.to_string().as_bytes());
        mac.update(&[0]);
        mac.update(opening.as_bytes());
        Self::from_bytes(mac.finalize().into_bytes().into())
    }
}
