//! Signed requests: the body is read, the signature checked, and who signed is noted for the handlers. A request that
//! claims to be signed and is not so is refused, also where anybody may ask.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use waag_schema::wire::Code;
use waag_schema::wire::request::{CONTENT_DIGEST, Covered, SIGNATURE, SIGNATURE_INPUT, SignedHeaders};

use super::caller::Signer;
use super::problem::Refusal;
use crate::site::Site;

/// The largest body that a site signs, and how long it may take.
const BODY_MAX: usize = 1 << 20;
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn check(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(SIGNATURE_INPUT) {
        return next.run(request).await;
    }
    match signed(&site, request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn signed(site: &Site, request: Request) -> Result<Request, Refusal> {
    let (mut parts, body) = request.into_parts();
    let read = tokio::time::timeout(ARRIVES_WITHIN, to_bytes(body, BODY_MAX)).await;
    let body = read.map_err(|_| Refusal::invalid("the body did not arrive in time"))?;
    let body = body.map_err(|_| Refusal::new(Code::TooLarge, "a signed body of more than 1 MiB"))?;
    let text = |headers: &HeaderMap, name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let authority = authority.or_else(|| text(&parts.headers, HOST.as_str()));
    let authority = authority.unwrap_or_default().to_ascii_lowercase();
    let headers = SignedHeaders {
        content_digest: text(&parts.headers, CONTENT_DIGEST),
        input: text(&parts.headers, SIGNATURE_INPUT).unwrap_or_default(),
        signature: text(&parts.headers, SIGNATURE).unwrap_or_default(),
    };
    let has_body = !body.is_empty() || headers.content_digest.is_some();
    let covered = Covered {
        method: parts.method.as_str(),
        authority: &authority,
        path: parts.uri.path(),
        query: parts.uri.query(),
        body: has_body.then_some(body.as_ref()),
    };
    let here = site
        .federation()
        .signer(&covered, &headers)
        .map_err(|error| Refusal::new(Code::Unauthorized, error.to_string()))?;
    parts.extensions.insert(Signer(here));
    Ok(Request::from_parts(parts, Body::from(body)))
}
