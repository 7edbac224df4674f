//! The native API: one file for each subject, one function for each route.

pub(super) mod artifact;
pub(super) mod ledger;
pub(super) mod site;
pub(super) mod token;
pub(super) mod transfer;
pub(super) mod upload;

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::problem::Refusal;

/// How long a JSON body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);

/// A JSON body; what cannot be read is refused as a problem.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = tokio::time::timeout(ARRIVES_WITHIN, Json::from_request(request, state)).await;
        let body: Result<Json<T>, JsonRejection> =
            read.map_err(|_| Refusal::invalid("the body did not arrive in time"))?;
        Ok(Self(body?.0))
    }
}

/// The two parts of an artifact's name in a path, parsed.
fn artifact_name(namespace: &str, name: &str) -> Result<waag_schema::ArtifactName, Refusal> {
    format!("{namespace}/{name}").parse().map_err(Refusal::invalid)
}
