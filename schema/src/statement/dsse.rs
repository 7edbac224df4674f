//! DSSE envelopes (secure-systems-lab/dsse, protocol and envelope v1.0.2) with ed25519 signatures.
//!
//! The bytes that arrived are the bytes that are kept, hashed and served: an [`Envelope`] holds them beside
//! what it parsed, and nothing here writes an envelope a second time.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::StatementError;
use crate::base::digest::Sha256;
use crate::base::json;
use crate::base::key::{KeyPair, PublicKey};

/// The payload type of every statement's envelope.
pub const PAYLOAD_TYPE: &str = PayloadType::Statement.as_str();
/// The largest statement's envelope accepted. A release of 1,000 files takes about 250 KiB.
pub const ENVELOPE_SIZE_MAX: usize = PayloadType::Statement.size_max();
/// The most signatures on one envelope.
pub const SIGNATURES_MAX: usize = 32;

/// What an envelope holds. A signature covers it, so what is signed as one is never taken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    /// An in-toto Statement.
    Statement,
    /// A federation's charter.
    Charter,
}

impl PayloadType {
    /// Returns the text that stands in the envelope.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "application/vnd.in-toto+json",
            Self::Charter => "application/vnd.waag.charter+json",
        }
    }

    /// Returns how many bytes an envelope with it may have.
    #[must_use]
    pub const fn size_max(self) -> usize {
        match self {
            Self::Statement => 512 << 10,
            Self::Charter => 1 << 20,
        }
    }
}

/// A signed payload: the exact bytes, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: PayloadType,
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    key_id: String,
    bytes: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeJson {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding: the bytes that a signature covers.
fn pre_authentication(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let name = payload_type.as_str();
    let mut bytes = format!("DSSEv1 {} {name} {} ", name.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Signs a statement with each of these keys.
    #[must_use]
    pub fn sign(payload: &[u8], keys: &[&KeyPair]) -> Self {
        Self::sign_as(PayloadType::Statement, payload, keys)
    }

    /// Signs a payload of this type with each of these keys.
    #[must_use]
    pub fn sign_as(payload_type: PayloadType, payload: &[u8], keys: &[&KeyPair]) -> Self {
        let covered = pre_authentication(payload_type, payload);
        let signatures: Vec<Signature> = keys
            .iter()
            .map(|k| Signature {
                key_id: k.public().fingerprint(),
                bytes: k.sign(&covered),
            })
            .collect();
        Self::assemble(payload_type, payload, signatures)
    }

    /// Returns the same payload with the signatures of both envelopes, each key once.
    ///
    /// # Errors
    /// When the payloads differ, or there would be more signatures than are accepted.
    pub fn merge(&self, other: &Self) -> Result<Self, StatementError> {
        if self.payload_type != other.payload_type || self.payload != other.payload {
            return Err(StatementError::Envelope(
                "the two envelopes sign different payloads".to_owned(),
            ));
        }
        let mut signatures = self.signatures.clone();
        for signature in &other.signatures {
            if !signatures.iter().any(|s| s.key_id == signature.key_id) {
                signatures.push(signature.clone());
            }
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(StatementError::Envelope(format!(
                "{} signatures together, at most {SIGNATURES_MAX} are accepted",
                signatures.len()
            )));
        }
        Ok(Self::assemble(self.payload_type, &self.payload, signatures))
    }

    fn assemble(payload_type: PayloadType, payload: &[u8], signatures: Vec<Signature>) -> Self {
        let json = EnvelopeJson {
            payload: BASE64.encode(payload),
            payload_type: payload_type.as_str().to_owned(),
            signatures: signatures
                .iter()
                .map(|s| SignatureJson {
                    keyid: s.key_id.clone(),
                    sig: BASE64.encode(&s.bytes),
                })
                .collect(),
        };
        let bytes = serde_json::to_vec(&json).expect("strings always serialise");
        Self {
            payload_type,
            bytes,
            payload: payload.to_vec(),
            signatures,
        }
    }

    /// Reads a statement's envelope and keeps its exact bytes. No signature is checked yet.
    ///
    /// # Errors
    /// When the bytes are not an envelope of a statement with 1 to 32 ed25519 signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        Self::parse_as(PayloadType::Statement, bytes)
    }

    /// Reads an envelope of this type and keeps its exact bytes. No signature is checked yet.
    ///
    /// # Errors
    /// When the bytes are not an envelope of this payload type with 1 to 32 ed25519 signatures.
    pub fn parse_as(payload_type: PayloadType, bytes: &[u8]) -> Result<Self, StatementError> {
        let malformed = |text: String| StatementError::Envelope(text);
        let json: EnvelopeJson =
            json::from_slice(bytes, payload_type.size_max()).map_err(|e| malformed(e.to_string()))?;
        if json.payload_type != payload_type.as_str() {
            return Err(malformed(format!(
                "its payload type is not {}",
                payload_type.as_str()
            )));
        }
        if json.signatures.is_empty() || json.signatures.len() > SIGNATURES_MAX {
            return Err(malformed(format!(
                "{} signatures, 1 to {SIGNATURES_MAX} are accepted",
                json.signatures.len()
            )));
        }
        let decode = |text: &str, what: &str| {
            BASE64
                .decode(text.as_bytes())
                .map_err(|e| malformed(format!("its {what} is not base64: {e}")))
        };
        let payload = decode(&json.payload, "payload")?;
        let signatures = json
            .signatures
            .into_iter()
            .map(|s| {
                let bytes = decode(&s.sig, "signature")?;
                let bytes = bytes
                    .try_into()
                    .map_err(|_| malformed("a signature is not 64 bytes long".to_owned()))?;
                Ok(Signature {
                    key_id: s.keyid,
                    bytes,
                })
            })
            .collect::<Result<_, StatementError>>()?;
        Ok(Self {
            payload_type,
            bytes: bytes.to_vec(),
            payload,
            signatures,
        })
    }

    /// Checks that at least `threshold` distinct ones of these keys signed.
    ///
    /// Signatures by other keys are passed over; one that claims a known key and does not hold is an error, so
    /// that damage is never mistaken for a missing signature.
    ///
    /// # Errors
    /// When a known key's signature does not hold, or too few signed.
    pub fn verify(&self, keys: &[PublicKey], threshold: usize) -> Result<(), StatementError> {
        let signed = self.signers(keys)?;
        let needed = threshold.max(1);
        if signed.len() < needed {
            return Err(StatementError::Threshold {
                found: signed.len(),
                needed,
            });
        }
        Ok(())
    }

    /// Returns those of these keys that signed, each once.
    ///
    /// # Errors
    /// When a signature that claims one of them does not hold.
    pub fn signers(&self, keys: &[PublicKey]) -> Result<Vec<PublicKey>, StatementError> {
        let covered = pre_authentication(self.payload_type, &self.payload);
        let mut signed: Vec<PublicKey> = Vec::new();
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|k| k.fingerprint() == signature.key_id) else {
                continue;
            };
            key.verify(&covered, &signature.bytes)?;
            if !signed.contains(key) {
                signed.push(*key);
            }
        }
        Ok(signed)
    }

    /// Returns the exact bytes of the envelope.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the exact bytes that were signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the SHA-256 of the envelope's bytes: how the next statement on its subject names it.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }

    /// Returns the fingerprints of the keys that claim to have signed.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|s| s.key_id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    #[test]
    fn the_signature_covers_the_encoding_of_the_dsse_specification() {
        // The specification's example, with its own payload type in place of ours.
        assert_eq!(
            pre_authentication(PayloadType::Statement, b"hello"),
            b"DSSEv1 28 application/vnd.in-toto+json 5 hello"
        );
    }

    #[test]
    fn what_is_signed_as_one_thing_is_never_another() {
        let charter = Envelope::sign_as(PayloadType::Charter, b"{}", &[&key(1)]);
        assert!(Envelope::parse(charter.bytes()).is_err());
        let text = String::from_utf8(charter.bytes().to_vec()).unwrap();
        let renamed = text.replace(PayloadType::Charter.as_str(), PAYLOAD_TYPE);
        let renamed = Envelope::parse(renamed.as_bytes()).unwrap();
        assert!(renamed.verify(&[key(1).public()], 1).is_err());
        assert!(renamed.merge(&charter).is_err());
    }

    #[test]
    fn an_envelope_survives_the_wire_byte_for_byte() {
        let envelope = Envelope::sign(br#"{"a":1}"#, &[&key(1)]);
        let read = Envelope::parse(envelope.bytes()).unwrap();
        assert_eq!(read, envelope);
        assert_eq!(read.digest(), Sha256::of(envelope.bytes()));
        read.verify(&[key(1).public()], 1).unwrap();
    }

    #[test]
    fn a_threshold_counts_distinct_known_keys() {
        let both = Envelope::sign(b"x", &[&key(1), &key(2)]);
        both.verify(&[key(1).public(), key(2).public()], 2).unwrap();
        let one = Envelope::sign(b"x", &[&key(1), &key(1)]);
        assert_eq!(
            one.verify(&[key(1).public(), key(2).public()], 2).unwrap_err(),
            StatementError::Threshold { found: 1, needed: 2 }
        );
        assert!(both.verify(&[key(3).public()], 1).is_err());
        assert!(
            both.verify(&[], 0).is_err(),
            "a threshold of zero accepts nothing unsigned"
        );
    }

    #[test]
    fn signatures_gathered_apart_merge_into_one_envelope() {
        let merged = Envelope::sign(b"x", &[&key(1)])
            .merge(&Envelope::sign(b"x", &[&key(2)]))
            .unwrap();
        merged.verify(&[key(1).public(), key(2).public()], 2).unwrap();
        assert!(merged.merge(&Envelope::sign(b"y", &[&key(2)])).is_err());
        let many: Vec<KeyPair> = (3..34).map(key).collect();
        let many = Envelope::sign(b"x", &many.iter().collect::<Vec<_>>());
        assert!(many.merge(&merged).is_err(), "33 signatures");
    }

    #[test]
    fn a_changed_payload_or_signature_is_refused() {
        let envelope = Envelope::sign(b"hello", &[&key(1)]);
        let text = String::from_utf8(envelope.bytes().to_vec()).unwrap();
        let forged = text.replace(&BASE64.encode(b"hello"), &BASE64.encode(b"jello"));
        assert!(
            Envelope::parse(forged.as_bytes())
                .unwrap()
                .verify(&[key(1).public()], 1)
                .is_err()
        );
        let extra = text.replacen('{', r#"{"extra":1,"#, 1);
        assert!(Envelope::parse(extra.as_bytes()).is_err());
    }
}
