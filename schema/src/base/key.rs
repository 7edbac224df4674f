//! Ed25519 keys of publishers and sites, in the text form that OpenSSH uses.
//!
//! A public key is written `ssh-ed25519 <base64>` (RFC 8709, section 4) and named by OpenSSH's fingerprint
//! `SHA256:<unpadded base64>` of its wire form, so that `ssh-keygen -l` prints the same name. Signatures are
//! checked with `verify_strict`: small-order keys and malleable signatures are refused.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::digest::Sha256;
use super::name::SiteId;

const ALGORITHM: &str = "ssh-ed25519";

/// A key or a signature is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not `ssh-ed25519 <base64>`.
    #[error("`{0}` is not an ed25519 public key of the form `ssh-ed25519 AAAA...`")]
    Malformed(String),
    /// The bytes are not a point of the curve in its one encoding, or one of small order.
    #[error("the 32 bytes are not a usable ed25519 public key")]
    BadPoint,
    /// The signature does not hold for this key and these bytes.
    #[error("the signature does not hold for {0}")]
    BadSignature(String),
}

/// An ed25519 public key; two are equal when their 32 bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes the 32 raw bytes.
    ///
    /// # Errors
    /// When they are not a point of the curve in its one encoding, or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::BadPoint)?;
        // RFC 8032, 5.1.3 refuses y >= p, the library does not: then one key would have two names.
        let one_encoding = key.to_edwards().compress().as_bytes() == bytes;
        if key.is_weak() || !one_encoding {
            Err(KeyError::BadPoint)
        } else {
            Ok(Self(key))
        }
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns OpenSSH's fingerprint, `SHA256:<43 characters of base64>`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            BASE64_NOPAD.encode(Sha256::of(&self.wire()).as_bytes())
        )
    }

    /// Returns the site whose first log key this is.
    #[must_use]
    pub fn site_id(&self) -> SiteId {
        let digest = Sha256::of(self.as_bytes());
        let text = BASE32_NOPAD.encode(&digest.as_bytes()[..20]).to_ascii_lowercase();
        text.parse().expect("160 bits are 32 characters of base32")
    }

    /// Checks a signature over exactly these bytes.
    ///
    /// # Errors
    /// When the signature does not hold.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
        self.0
            .verify_strict(message, &Signature::from_bytes(signature))
            .map_err(|_| KeyError::BadSignature(self.fingerprint()))
    }

    fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(51);
        for field in [ALGORITHM.as_bytes(), self.as_bytes()] {
            wire.extend_from_slice(&u32::try_from(field.len()).expect("short fields").to_be_bytes());
            wire.extend_from_slice(field);
        }
        wire
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM} {}", BASE64.encode(&self.wire()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// A comment behind the key, as in `authorized_keys`, is passed over.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let malformed =
            || KeyError::Malformed(text.chars().take(100).flat_map(char::escape_default).collect());
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(ALGORITHM) {
            return Err(malformed());
        }
        let wire = words
            .next()
            .and_then(|w| BASE64.decode(w.as_bytes()).ok())
            .ok_or_else(malformed)?;
        let raw: &[u8; 32] = wire
            .get(wire.len().saturating_sub(32)..)
            .and_then(|r| r.try_into().ok())
            .ok_or_else(malformed)?;
        let key = Self::from_bytes(raw)?;
        if key.wire() == wire {
            Ok(key)
        } else {
            Err(malformed())
        }
    }
}

crate::base::text::as_text!(
    PublicKey,
    "An ed25519 public key as OpenSSH writes it: `ssh-ed25519 AAAA...`"
);

/// An ed25519 key pair. Its secret half is wiped from memory when it is dropped and never printed.
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// Makes the pair from 32 secret bytes, which the caller took from the operating system's generator.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Returns the 32 secret bytes, to store them.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns the public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs exactly these bytes; the same bytes give the same signature (RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public().fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_and_fingerprint_are_those_of_openssh() {
        // Made with `ssh-keygen -t ed25519`, fingerprint by `ssh-keygen -l`.
        let text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAPE03gRsfuVAyKiTh72UHTg5VO/ryUGp6nKcKmCu5z6";
        let key: PublicKey = format!("{text} a comment").parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(
            key.fingerprint(),
            "SHA256:iApZ9eBurVjhuRJdGXkrxCamm/oJ3S7jd/YI07Tunrk"
        );
    }

    #[test]
    fn signatures_hold_for_their_bytes_only() {
        let pair = KeyPair::from_seed(&[1; 32]);
        let signature = pair.sign(b"bytes");
        assert!(pair.public().verify(b"bytes", &signature).is_ok());
        assert!(pair.public().verify(b"other", &signature).is_err());
        assert!(
            KeyPair::from_seed(&[2; 32])
                .public()
                .verify(b"bytes", &signature)
                .is_err()
        );
    }

    #[test]
    fn a_point_of_small_order_is_no_key() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity).unwrap_err(), KeyError::BadPoint);
    }

    #[test]
    fn a_point_has_one_encoding() {
        let (mut small, mut beyond) = ([0; 32], [0xff; 32]);
        let twice = (2..19).filter(|y| {
            // y and p + y
            (small[0], beyond[0], beyond[31]) = (*y, 0xed + *y, 0x7f);
            assert!(PublicKey::from_bytes(&beyond).is_err(), "{y}");
            PublicKey::from_bytes(&small).is_ok()
        });
        assert!(twice.count() > 0, "some of these are points");
    }

    #[test]
    fn other_algorithms_and_trailing_bytes_are_refused() {
        let good = KeyPair::from_seed(&[7; 32]).public().to_string();
        for bad in [
            good.replace("ed25519", "rsa"),
            format!("{good}AA=="),
            "ssh-ed25519".to_owned(),
            String::new(),
        ] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }
}
