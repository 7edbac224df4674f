//! From a request's headers to who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use waag_schema::wire::Code;

use super::problem::Refusal;
use crate::access::{AccessError, Caller};
use crate::site::Site;

/// The caller, as an argument of handlers. No header is an anonymous caller; a bad token is refused even
/// where anonymous callers are let in, so that nobody works on without noticing.
pub(super) struct Asking(pub(super) Caller);

impl FromRequestParts<Arc<Site>> for Asking {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        let Some(header) = parts.headers.get(AUTHORIZATION) else {
            return Ok(Self(Caller::anonymous()));
        };
        let text = header.to_str().unwrap_or_default();
        let secret = match text.split_once(' ') {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => secret.trim(),
            _ => return Err(AccessError::BadToken.into()),
        };
        Ok(Self(site.tokens().caller(secret).await?))
    }
}

/// A caller with a token. Where this stands before a body, no body of a stranger is read.
pub(super) struct Known(pub(super) Caller);

impl FromRequestParts<Arc<Site>> for Known {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        let Asking(caller) = Asking::from_request_parts(parts, site).await?;
        match caller.token() {
            Some(_) => Ok(Self(caller)),
            None => Err(Refusal::new(Code::Unauthorized, "this needs a token")),
        }
    }
}
