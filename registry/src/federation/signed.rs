//! Who signed a request: a site of the charter, once, not long ago.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use waag_schema::wire::request::{Claims, Covered, NONCE_SECONDS, RequestError, SignedHeaders};
use waag_schema::{SiteId, Timestamp};

use super::sites::Federation;
use crate::access::Here;

/// The most nonces that are remembered: at a thousand requests a second, those of two minutes.
const NONCES_MAX: usize = 200_000;

/// A request is not taken for a site's.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The charter names no such site.
    #[error("the charter names no site {0}")]
    Unknown(SiteId),
    /// The signature is none.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It is meant for another site.
    #[error("the request was signed for {0}, which is not this site's address in the charter")]
    Elsewhere(String),
    /// It was sent before.
    #[error("the same signed request came before")]
    Replayed,
    /// Too many came in the last minutes.
    #[error("too many signed requests came in the last minutes")]
    Busy,
}

/// The nonces of the last minutes, with when each may be forgotten.
#[derive(Debug, Default)]
pub struct Signed(Mutex<Nonces>);

#[derive(Debug, Default)]
struct Nonces {
    used: BTreeMap<(SiteId, [u8; 16]), u64>,
    swept: u64,
}

impl Signed {
    fn take(&self, claims: &Claims, now: Timestamp) -> Result<(), SignedError> {
        let mut nonces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.unix();
        if nonces.used.len() >= NONCES_MAX || nonces.swept + NONCE_SECONDS < now {
            nonces.used.retain(|_, until| *until >= now);
            nonces.swept = now;
        }
        if nonces.used.len() >= NONCES_MAX {
            return Err(SignedError::Busy);
        }
        let key = (claims.site.clone(), claims.nonce);
        match nonces.used.insert(key, now + NONCE_SECONDS) {
            None => Ok(()),
            Some(_) => Err(SignedError::Replayed),
        }
    }
}

impl Federation {
    /// Says which site signed a request.
    ///
    /// # Errors
    /// When it is none of the charter's, or the signature does not hold, now and for the first time.
    pub fn signer(&self, covered: &Covered<'_>, headers: &SignedHeaders) -> Result<Here, SignedError> {
        let claims = Claims::parse(&headers.input)?;
        let site = self
            .peer_site(&claims.site)
            .ok_or_else(|| SignedError::Unknown(claims.site.clone()))?;
        // Else whoever was asked could ask another one in the asker's name.
        if self.authority().is_some_and(|own| own != covered.authority) {
            return Err(SignedError::Elsewhere(covered.authority.to_owned()));
        }
        let now = self.clock.now();
        claims.verify(covered, headers, &site.site_key, now)?;
        // Only what holds is remembered, so that strangers cannot fill the list.
        self.signed.take(&claims, now)?;
        Ok(site.here())
    }
}
