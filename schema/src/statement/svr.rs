//! A Simple Verification Result: a site's word, for whoever knows nothing of waag, that a release passes gates.
//!
//! The predicate is in-toto's `https://in-toto.io/attestation/svr/v0.1`, and the envelope is DSSE under the site's key, so
//! that anybody's tools read it. It is no statement of a ledger: it says again what a reader of the ledger finds there,
//! and names the entries (gates and scorecards) that it rests on by the digests of their payloads.
//!
//! Invariant: it has one property for each gate that is passed, `WAAG_GATE_` and the tag, with the gate's statement as its
//! policy at the same place; without a gate there is none.

use serde::{Deserialize, Serialize};

use super::StatementError;
use super::dsse::ENVELOPE_SIZE_MAX;
use crate::base::digest::Sha256;
use crate::base::json;
use crate::base::name::{ArtifactName, SiteId, Tag};
use crate::base::time::Timestamp;

/// The predicate's type.
pub const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/svr/v0.1";
/// What every property begins with.
pub const PROPERTY_PREFIX: &str = "WAAG_GATE_";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Before and behind the site in the verifier's id; the number is raised when what is checked changes.
const VERIFIER: (&str, &str) = ("urn:waag:site:", ":gates:1");
const ENTRY: &str = "urn:waag:entry:";

/// What is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svr {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release's manifest.
    pub manifest: Sha256,
    /// The site that has looked.
    pub site: SiteId,
    /// When.
    pub at: Timestamp,
    /// The gates that are passed, at least one.
    pub passed: Vec<Passed>,
    /// The scorecards that have the numbers.
    pub scorecards: Vec<Entry>,
}

/// A gate that a release passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The tag that it stands before.
    pub tag: Tag,
    /// The statement that says what is required.
    pub gate: Entry,
}

/// A statement in the site's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// The SHA-256 of its envelope's payload.
    pub payload: Sha256,
}

// Unknown fields are passed over, as in-toto asks of whoever reads its predicates.
#[derive(Serialize, Deserialize)]
struct SvrJson {
    #[serde(rename = "_type")]
    kind: String,
    predicate: PredicateJson,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<SubjectJson>,
}

#[derive(Serialize, Deserialize)]
struct PredicateJson {
    properties: Vec<String>,
    #[serde(rename = "timeCreated")]
    time_created: Timestamp,
    verifier: VerifierJson,
    #[serde(rename = "waagScorecards")]
    scorecards: Vec<ResourceJson>,
}

#[derive(Serialize, Deserialize)]
struct VerifierJson {
    id: String,
    policies: Vec<ResourceJson>,
}

#[derive(Serialize, Deserialize)]
struct ResourceJson {
    digest: DigestJson,
    uri: String,
}

#[derive(Serialize, Deserialize)]
struct SubjectJson {
    digest: DigestJson,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct DigestJson {
    sha256: String,
}

impl Svr {
    /// Returns the payload to be signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let digest = |digest: &Sha256| DigestJson { sha256: digest.hex() };
        let resource = |entry: &Entry| ResourceJson {
            digest: digest(&entry.payload),
            uri: format!("{ENTRY}{}:{}", self.site, entry.number),
        };
        let property = |passed: &Passed| format!("{PROPERTY_PREFIX}{}", passed.tag);
        let json = SvrJson {
            kind: STATEMENT_TYPE.to_owned(),
            predicate: PredicateJson {
                properties: self.passed.iter().map(property).collect(),
                time_created: self.at,
                verifier: VerifierJson {
                    id: format!("{}{}{}", VERIFIER.0, self.site, VERIFIER.1),
                    policies: self.passed.iter().map(|passed| resource(&passed.gate)).collect(),
                },
                scorecards: self.scorecards.iter().map(resource).collect(),
            },
            predicate_type: PREDICATE_TYPE.to_owned(),
            subject: vec![SubjectJson {
                digest: digest(&self.manifest),
                name: self.artifact.to_string(),
            }],
        };
        serde_json::to_vec(&json).expect("strings and lists always serialise")
    }

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// When it is none that a site of waag has written.
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let malformed = |text: &dyn std::fmt::Display| StatementError::Payload(text.to_string());
        let json: SvrJson = json::from_slice(payload, ENVELOPE_SIZE_MAX)?;
        if (json.kind.as_str(), json.predicate_type.as_str()) != (STATEMENT_TYPE, PREDICATE_TYPE) {
            return Err(malformed(&"it is no Simple Verification Result"));
        }
        let [subject] = json.subject.as_slice() else {
            return Err(malformed(&"it has not one subject"));
        };
        let VerifierJson { id, policies } = json.predicate.verifier;
        let site = id.strip_prefix(VERIFIER.0);
        let site = site.and_then(|rest| rest.strip_suffix(VERIFIER.1));
        let site: SiteId = site
            .ok_or_else(|| malformed(&"no site of waag is its verifier"))?
            .parse()
            .map_err(|e| malformed(&e))?;
        let digest = |of: &DigestJson| Sha256::from_hex(&of.sha256).map_err(|e| malformed(&e));
        let entry = |of: &ResourceJson| -> Result<Entry, StatementError> {
            let number = of.uri.strip_prefix(ENTRY).and_then(|rest| rest.rsplit_once(':'));
            let number = number.filter(|(at, _)| *at == site.as_str());
            let number = number.and_then(|(_, number)| number.parse::<u64>().ok());
            Ok(Entry {
                number: number
                    .ok_or_else(|| malformed(&"it rests on what is no entry of its site's ledger"))?,
                payload: digest(&of.digest)?,
            })
        };
        let properties = json.predicate.properties;
        if properties.is_empty() || properties.len() != policies.len() {
            return Err(malformed(&"it has not one policy for each of its properties"));
        }
        let passed = properties.iter().zip(&policies).map(|(property, policy)| {
            let tag = property.strip_prefix(PROPERTY_PREFIX).unwrap_or_default();
            Ok(Passed {
                tag: tag.parse().map_err(|e| malformed(&e))?,
                gate: entry(policy)?,
            })
        });
        Ok(Self {
            artifact: subject.name.parse().map_err(|e| malformed(&e))?,
            manifest: digest(&subject.digest)?,
            at: json.predicate.time_created,
            passed: passed.collect::<Result<_, StatementError>>()?,
            scorecards: json
                .predicate
                .scorecards
                .iter()
                .map(entry)
                .collect::<Result<_, _>>()?,
            site,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::KeyPair;

    fn svr() -> Svr {
        let entry = |number| Entry {
            number,
            payload: Sha256::of(&[7]),
        };
        Svr {
            artifact: "acme/tiny".parse().unwrap(),
            manifest: Sha256::of(b"manifest"),
            site: KeyPair::from_seed(&[1; 32]).public().site_id(),
            at: Timestamp::from_unix(1_795_219_200),
            passed: ["prod", "v1.0-Final"]
                .map(|tag| Passed {
                    tag: tag.parse().unwrap(),
                    gate: entry(5),
                })
                .into(),
            scorecards: vec![entry(3), entry(4)],
        }
    }

    #[test]
    fn what_is_written_reads_back_and_fields_of_others_are_passed_over() {
        let svr = svr();
        let text = String::from_utf8(svr.to_bytes()).unwrap();
        assert_eq!(Svr::parse(text.as_bytes()).unwrap(), svr);
        let more = text.replace(r#""verifier":{"#, r#""verifier":{"acmeNote":[],"#);
        assert_ne!(more, text);
        assert_eq!(Svr::parse(more.as_bytes()).unwrap(), svr);
        // Keys stand in their order, so that there is one spelling.
        let sorted: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(sorted.to_string(), text);
        // It is no statement of a ledger.
        assert!(super::super::Statement::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn what_no_site_of_waag_writes_is_refused() {
        let svr = svr();
        let text = String::from_utf8(svr.to_bytes()).unwrap();
        let site = svr.site.as_str();
        for (from, to) in [
            ("svr/v0.1", "svr/v0.9"),
            ("Statement/v1", "Statement/v0.1"),
            (r#"["WAAG_GATE_prod","#, "["),
            ("WAAG_GATE_prod", "SLSA_BUILD_LEVEL_3"),
            ("WAAG_GATE_prod", "WAAG_GATE_"),
            (":gates:1", ":gates:2"),
            ("urn:waag:site:", "https://example.org/"),
            (&format!("entry:{site}:5"), "entry:another:5"),
            (&format!("entry:{site}:5"), &format!("entry:{site}:-5")),
            (r#""name":"acme/tiny""#, r#""name":"acme""#),
            (&svr.manifest.hex(), "00"),
            ("timeCreated", "timeVerified"),
        ] {
            let bad = text.replace(from, to);
            assert_ne!(bad, text, "{from}");
            assert!(Svr::parse(bad.as_bytes()).is_err(), "{from} {to}");
        }
        let mut none = svr;
        none.passed.clear();
        assert!(Svr::parse(&none.to_bytes()).is_err());
    }
}
