//! The native API: one file for each subject, one function for each route.

pub(super) mod artifact;
pub(super) mod charter;
pub(super) mod federation;
pub(super) mod job;
pub(super) mod leaderboard;
pub(super) mod ledger;
pub(super) mod site;
pub(super) mod token;
pub(super) mod transfer;
pub(super) mod upload;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::caller::Claim;
use super::problem::Refusal;
use crate::site::Site;
use crate::turns::Turn;

/// How long a JSON body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);

/// A JSON body; what cannot be read is refused as a problem. Whoever sent it is asked for again when all of it has
/// come, so that nothing is done for a token that was revoked in between.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequest<Arc<Site>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, Refusal> {
        let claim = Claim::of(request.headers(), request.extensions());
        let read = tokio::time::timeout(ARRIVES_WITHIN, Json::from_request(request, site)).await;
        let body: Result<Json<T>, JsonRejection> =
            read.map_err(|_| Refusal::invalid("the body did not arrive in time"))?;
        claim.caller(site).await?;
        Ok(Self(body?.0))
    }
}

/// An answer of some size: it is encoded on the pool, and the caller's turn lasts until it was taken.
async fn large<T: Serialize + Send + 'static>(
    site: &Site,
    turn: Turn,
    answer: T,
) -> Result<Response, Refusal> {
    let encoded = site.content().on_pool(move || serde_json::to_vec(&answer)).await;
    let bytes = Bytes::from(encoded.map_err(|error| Refusal::failed(&error))?);
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_LENGTH, bytes.len().to_string()),
    ];
    let body = stream::iter([Ok::<_, Infallible>(bytes)]).inspect(move |_| {
        let _ = &turn;
    });
    Ok((headers, HttpBody::from_stream(body)).into_response())
}

/// The two parts of an artifact's name in a path, parsed.
fn artifact_name(namespace: &str, name: &str) -> Result<waag_schema::ArtifactName, Refusal> {
    format!("{namespace}/{name}").parse().map_err(Refusal::invalid)
}
