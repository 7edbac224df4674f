//! Whether who answers at an address has shown to be the pinned site; before that no token goes there.
//!
//! What is shown is the newest checkpoint, which everybody may read and which only the site's key can have signed. It
//! can be passed on by whoever has read it: this keeps tokens from a mistaken address and from another site at the
//! same port, and only TLS keeps them from somebody on the way.

use tokio::sync::OnceCell;
use waag_schema::ledger::SignedCheckpoint;

use super::Pin;
use crate::error::{ClientError, Result};
use crate::url::SiteUrl;

/// The site that must answer, and whether it has shown to be it.
#[derive(Debug)]
pub(crate) struct Shown {
    pin: Pin,
    done: OnceCell<()>,
}

impl Shown {
    /// Expects this site, which has shown nothing yet.
    pub(crate) fn not_yet(pin: Pin) -> Self {
        Self {
            pin,
            done: OnceCell::new(),
        }
    }

    /// Asks for what shows it, unless it was shown before; others wait meanwhile.
    pub(crate) async fn once(&self, ask: impl AsyncFn(&Pin) -> Result<SignedCheckpoint>) -> Result<()> {
        let done = self
            .done
            .get_or_try_init(|| async { ask(&self.pin).await.map(drop) });
        done.await.copied()
    }

    /// Notes that it was shown. Where that was asked by [`Self::once`], it is noted there.
    pub(crate) fn done(&self) {
        let _ = self.done.set(());
    }
}

/// Takes what came when an address was asked for its newest checkpoint: this site must have signed it.
///
/// # Errors
/// [`ClientError::WrongSite`] when it is another site's, [`ClientError::Verification`] when it is none, or nobody signed
/// it. Who cannot be reached has shown nothing, which is no lie.
pub(crate) fn signed_by(pin: &Pin, url: &SiteUrl, answer: Result<Vec<u8>>) -> Result<SignedCheckpoint> {
    let refused = |reason: &dyn std::fmt::Display| {
        let found = format!("it does not show that it is {}: {reason}", pin.site);
        ClientError::verification(format_args!("the site at {url}"), found)
    };
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(error @ ClientError::Unreachable { .. }) => return Err(error),
        Err(error) => return Err(refused(&error)),
    };
    let signed = SignedCheckpoint::parse(&bytes).map_err(|e| refused(&e))?;
    let found = signed.checkpoint().origin.site();
    if *found != pin.site {
        return Err(ClientError::WrongSite {
            url: url.to_string(),
            expected: pin.site.clone(),
            found: found.clone(),
        });
    }
    pin.check_signed(&signed)?;
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use waag_schema::base::key::KeyPair;
    use waag_schema::ledger::Origin;

    use super::*;

    #[test]
    fn who_shows_no_checkpoint_of_the_pinned_site_is_not_that_site() {
        let url: SiteUrl = "http://127.0.0.1:1".parse().unwrap();
        let key = KeyPair::from_seed(&[1; 32]).public();
        let pin = Pin {
            site: key.site_id(),
            log_key: Origin::of(&key.site_id(), 1).verifier(key),
            urls: vec![url.clone()],
            ends: Vec::new(),
        };
        let nothing_there = ClientError::NotFound("no such address".to_owned());
        for answer in [Ok(Vec::new()), Ok(b"<html>".to_vec()), Err(nothing_there)] {
            let error = signed_by(&pin, &url, answer).unwrap_err();
            assert!(matches!(error, ClientError::Verification { .. }), "{error}");
            assert!(error.to_string().contains("does not show"), "{error}");
        }
        let away = ClientError::Unreachable {
            url: url.to_string(),
            reason: "refused".to_owned(),
        };
        let error = signed_by(&pin, &url, Err(away)).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
}
