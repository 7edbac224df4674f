//! From a request's headers to who is asking.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue};

use waag_schema::wire::Code;

use super::problem::Refusal;
use crate::access::{AccessError, Caller, Here};
use crate::listen::Peer;
use crate::site::Site;
use crate::turns::{NoTurn, Turn, Who};

/// What a request says of who sends it. It is kept while a body comes, and asked for again: a token may end meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    token: Option<HeaderValue>,
    /// Who signed the request, which was checked when all of it had come.
    site: Option<Here>,
}

/// The site that signed a request, where one did and it was checked.
#[derive(Debug, Clone)]
pub(super) struct Signer(pub(super) Here);

impl Claim {
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        Self {
            token: headers.get(AUTHORIZATION).cloned(),
            site: extensions.get::<Signer>().map(|signer| signer.0.clone()),
        }
    }

    /// Who is that, as of now?
    pub(super) async fn caller(&self, site: &Site) -> Result<Caller, Refusal> {
        if let Some(here) = &self.site {
            return Ok(Caller::peer(here.clone()));
        }
        let Some(header) = &self.token else {
            return Ok(Caller::anonymous());
        };
        let text = header.to_str().unwrap_or_default();
        let secret = match text.split_once(' ') {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => secret.trim(),
            _ => return Err(AccessError::BadToken.into()),
        };
        Ok(site.tokens().caller(secret).await?)
    }
}

impl FromRequestParts<Arc<Site>> for Claim {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Site>) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, &parts.extensions))
    }
}

/// The caller, as an argument of handlers. No header is an anonymous caller; a bad token is refused even
/// where anonymous callers are let in, so that nobody works on without noticing.
pub(super) struct Asking(pub(super) Caller);

impl FromRequestParts<Arc<Site>> for Asking {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        Ok(Self(
            Claim::of(&parts.headers, &parts.extensions).caller(site).await?,
        ))
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

/// A caller and the turn that a transfer of content takes. Where this stands before a body, nothing of the body is
/// read before it is the caller's turn.
pub(super) struct Transferring(pub(super) Caller, pub(super) Turn);

impl FromRequestParts<Arc<Site>> for Transferring {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        let Asking(caller) = Asking::from_request_parts(parts, site).await?;
        let who = match (caller.token(), parts.extensions.get::<Peer>()) {
            (Some(token), _) => Who::Token(token.id.clone()),
            (None, _) if caller.site().is_some() => Who::Token(
                caller
                    .site()
                    .map(|here| format!("site:{}", here.site))
                    .unwrap_or_default(),
            ),
            (None, Some(peer)) => Who::Address(peer.address()),
            (None, None) => Who::Nobody,
        };
        let turn = site.turns().take(who).await.inspect_err(|limit| {
            site.metrics().turned_away(match limit {
                NoTurn::Caller => "caller",
                NoTurn::Strangers => "strangers",
                NoTurn::Site => "site",
            });
        })?;
        Ok(Self(caller, turn))
    }
}

/// The same for somebody with a token.
pub(super) struct Sending(pub(super) Caller, pub(super) Turn);

impl FromRequestParts<Arc<Site>> for Sending {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        // Strangers are sent away before they wait.
        if !parts.headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::new(Code::Unauthorized, "this needs a token"));
        }
        let Transferring(caller, turn) = Transferring::from_request_parts(parts, site).await?;
        Ok(Self(caller, turn))
    }
}
