//! Requests that one site signs for another: RFC 9421, HTTP Message Signatures, in one fixed profile.
//!
//! ```text
//! content-digest:  sha-256=:<base64>:                                       only where there is a body
//! signature-input: waag=("@method" "@authority" "@path" "@query" "content-digest");created=1795219200;
//!                  expires=1795219260;nonce="<32 hex digits>";alg="ed25519";keyid="<site id>";tag="waag-v1"
//! signature:       waag=:<base64 of 64 bytes>:
//! ```
//!
//! In one line each. Without a body `content-digest` is not among the components. A reader builds the one text that
//! these parameters can have and compares it: another order, other components or another algorithm is no signature.
//! That a nonce is used once, and whose key a site has, is for the caller to know.

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::base::key::{KeyPair, PublicKey};
use crate::base::name::SiteId;
use crate::base::time::Timestamp;

/// The header that names the body.
pub const CONTENT_DIGEST: &str = "content-digest";
/// The header that says what is signed.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// The header of the signature.
pub const SIGNATURE: &str = "signature";

/// How long a signature holds.
pub const HOLDS_SECONDS: u64 = 60;
/// How far the clock of another site may be ahead.
pub const AHEAD_SECONDS: u64 = 30;
/// How long a nonce has to be remembered.
pub const NONCE_SECONDS: u64 = HOLDS_SECONDS + AHEAD_SECONDS + 30;

const LABEL: &str = "waag=";
const INPUT_MAX: usize = 600;

/// What is signed of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Host and port, in lower case, without the port that the scheme implies.
    pub authority: &'a str,
    /// The path, as it is sent.
    pub path: &'a str,
    /// What stands behind `?`, if anything.
    pub query: Option<&'a str>,
    /// The body, if there is one.
    pub body: Option<&'a [u8]>,
}

/// What a signature says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The site that signs.
    pub site: SiteId,
    /// When it did.
    pub created: Timestamp,
    /// Never used twice.
    pub nonce: [u8; 16],
}

/// The headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `content-digest`, where there is a body.
    pub content_digest: Option<String>,
    /// `signature-input`.
    pub input: String,
    /// `signature`.
    pub signature: String,
}

/// A request is not signed as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The headers are not those of the profile.
    #[error("the request's signature is not of the profile waag-v1: {0}")]
    Malformed(&'static str),
    /// It is too old, or of the future.
    #[error("the request was signed at {created}, and it is {now} here: a signature holds for 60 seconds")]
    Time {
        /// When it was signed.
        created: Timestamp,
        /// When it was looked at.
        now: Timestamp,
    },
    /// The body is another one.
    #[error("the request's body is not the one that was signed")]
    Body,
    /// The signature does not hold.
    #[error("the request's signature does not hold")]
    Signature,
}

impl Claims {
    fn parameters(&self, body: bool) -> String {
        let digest = if body { " \"content-digest\"" } else { "" };
        format!(
            "(\"@method\" \"@authority\" \"@path\" \"@query\"{digest});created={};expires={};nonce=\"{}\";alg=\"ed25519\";keyid=\"{}\";tag=\"waag-v1\"",
            self.created.unix(),
            self.created.unix().saturating_add(HOLDS_SECONDS),
            HEXLOWER.encode(&self.nonce),
            self.site
        )
    }

    /// Reads what a signature says of itself; nothing is believed yet.
    ///
    /// # Errors
    /// When it is not of the profile.
    pub fn parse(input: &str) -> Result<Self, RequestError> {
        let malformed = RequestError::Malformed;
        if input.len() > INPUT_MAX {
            return Err(malformed("its input is too long"));
        }
        let field = |name: &str, end: char| {
            let from = input.find(name)? + name.len();
            let rest = &input[from..];
            rest.find(end).map(|to| &rest[..to])
        };
        let created = field(";created=", ';').and_then(|text| text.parse().ok());
        let nonce = field(";nonce=\"", '"').and_then(|text| HEXLOWER.decode(text.as_bytes()).ok());
        let nonce: Option<[u8; 16]> = nonce.and_then(|bytes| bytes.try_into().ok());
        let site = field(";keyid=\"", '"').and_then(|text| text.parse().ok());
        let claims = Self {
            site: site.ok_or(malformed("it names no site"))?,
            created: Timestamp::from_unix(created.ok_or(malformed("it is not dated"))?),
            nonce: nonce.ok_or(malformed("it has no nonce of 32 hex digits"))?,
        };
        // The one text that says this, and no other.
        let same = |body| input.strip_prefix(LABEL) == Some(claims.parameters(body).as_str());
        if same(true) || same(false) {
            Ok(claims)
        } else {
            Err(malformed("it covers other components, or in another order"))
        }
    }

    /// Signs a request.
    #[must_use]
    pub fn sign(&self, covered: &Covered<'_>, key: &KeyPair) -> SignedHeaders {
        let (base, digest) = self.base(covered);
        SignedHeaders {
            content_digest: digest,
            input: format!("{LABEL}{}", self.parameters(covered.body.is_some())),
            signature: format!("{LABEL}:{}:", BASE64.encode(&key.sign(base.as_bytes()))),
        }
    }

    /// Checks that a request was signed so, by the holder of this key, not long ago.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(
        &self,
        covered: &Covered<'_>,
        headers: &SignedHeaders,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<(), RequestError> {
        let (created, seconds) = (self.created.unix(), now.unix());
        if created > seconds.saturating_add(AHEAD_SECONDS) || seconds > created.saturating_add(HOLDS_SECONDS)
        {
            return Err(RequestError::Time {
                created: self.created,
                now,
            });
        }
        let (base, digest) = self.base(covered);
        if digest != headers.content_digest {
            return Err(RequestError::Body);
        }
        if headers.input != format!("{LABEL}{}", self.parameters(covered.body.is_some())) {
            return Err(RequestError::Malformed("it does not cover what came"));
        }
        let signature = headers.signature.strip_prefix(LABEL).and_then(|text| {
            let text = text.strip_prefix(':')?.strip_suffix(':')?;
            let bytes = BASE64.decode(text.as_bytes()).ok()?;
            <[u8; 64]>::try_from(bytes).ok()
        });
        let signature = signature.ok_or(RequestError::Malformed("no 64 bytes in base64"))?;
        key.verify(base.as_bytes(), &signature)
            .map_err(|_| RequestError::Signature)
    }

    /// The text that is signed, and the body's digest.
    fn base(&self, covered: &Covered<'_>) -> (String, Option<String>) {
        let Covered {
            method,
            authority,
            path,
            query,
            body,
        } = covered;
        let digest = body.map(|body| format!("sha-256=:{}:", BASE64.encode(&Hasher::digest(body))));
        let mut base = format!(
            "\"@method\": {method}\n\"@authority\": {authority}\n\"@path\": {path}\n\"@query\": ?{}\n",
            query.unwrap_or_default()
        );
        if let Some(digest) = &digest {
            base.push_str(&format!("\"content-digest\": {digest}\n"));
        }
        base.push_str(&format!(
            "\"@signature-params\": {}",
            self.parameters(body.is_some())
        ));
        (base, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_219_200);

    fn world() -> (KeyPair, Claims, Covered<'static>) {
        let key = KeyPair::from_seed(&[1; 32]);
        let claims = Claims {
            site: key.public().site_id(),
            created: NOW,
            nonce: [7; 16],
        };
        let covered = Covered {
            method: "POST",
            authority: "waag.example:7070",
            path: "/api/v1/artifacts/acme/tiny/chunks",
            query: None,
            body: Some(b"{}"),
        };
        (key, claims, covered)
    }

    #[test]
    fn what_is_signed_is_read_and_holds() {
        let (key, claims, covered) = world();
        for covered in [
            covered,
            Covered {
                body: None,
                query: Some("a=b"),
                ..covered
            },
        ] {
            let headers = claims.sign(&covered, &key);
            assert_eq!(Claims::parse(&headers.input).unwrap(), claims);
            claims.verify(&covered, &headers, &key.public(), NOW).unwrap();
        }
    }

    #[test]
    fn whatever_is_changed_the_signature_does_not_hold() {
        let (key, claims, covered) = world();
        let headers = claims.sign(&covered, &key);
        let other = KeyPair::from_seed(&[2; 32]).public();
        assert!(claims.verify(&covered, &headers, &other, NOW).is_err());
        for changed in [
            Covered {
                method: "GET",
                ..covered
            },
            Covered {
                authority: "other.example",
                ..covered
            },
            Covered { path: "/", ..covered },
            Covered {
                query: Some("x"),
                ..covered
            },
            Covered {
                body: Some(b"{ }"),
                ..covered
            },
            Covered {
                body: None,
                ..covered
            },
        ] {
            assert!(claims.verify(&changed, &headers, &key.public(), NOW).is_err());
        }
        let without = SignedHeaders {
            content_digest: None,
            ..headers
        };
        assert_eq!(
            claims.verify(&covered, &without, &key.public(), NOW),
            Err(RequestError::Body)
        );
    }

    #[test]
    fn a_signature_holds_for_a_minute() {
        let (key, claims, covered) = world();
        let headers = claims.sign(&covered, &key);
        let at =
            |seconds: u64| claims.verify(&covered, &headers, &key.public(), Timestamp::from_unix(seconds));
        let now = NOW.unix();
        assert!(at(now + 60).is_ok());
        assert!(at(now + 61).is_err());
        assert!(at(now - 30).is_ok());
        assert!(at(now - 31).is_err());
    }

    #[test]
    fn only_the_one_form_is_read() {
        let (key, claims, covered) = world();
        let good = claims.sign(&covered, &key).input;
        for bad in [
            good.replace("\"@method\" \"@authority\"", "\"@authority\" \"@method\""),
            good.replace(" \"@query\"", ""),
            good.replace("ed25519", "hmac-sha256"),
            good.replace("waag-v1", "waag-v2"),
            good.replace("waag=", "sig1="),
            format!("{good};x=1"),
            good.replace("07", "7"),
            String::new(),
            "x".repeat(10_000),
        ] {
            assert!(Claims::parse(&bad).is_err(), "{bad}");
        }
    }
}
