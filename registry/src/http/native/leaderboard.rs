//! `/api/v1/leaderboard`: what releases scored on a suite.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;
use waag_schema::ArtifactName;
use waag_schema::wire::Problem;
use waag_schema::wire::leaderboard::LeaderboardPage;

use super::large;
use crate::http::caller::Transferring;
use crate::http::problem::Refusal;
use crate::site::Site;

/// Which part of which list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Scored {
    /// The suite's name.
    #[param(value_type = String)]
    suite: ArtifactName,
    /// Only scorecards before this entry: the `next` of the page before.
    below: Option<u64>,
}

/// Lists what the releases that the caller may know of scored on a suite, each by its newest scorecard.
#[utoipa::path(get, path = "/api/v1/leaderboard", tag = "artifacts", params(Scored),
    responses((status = 200, body = LeaderboardPage), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn leaderboard(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    query: Result<Query<Scored>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Scored { suite, below }) = query?;
    let page = site.catalogue().leaderboard(&caller, &suite, below).await?;
    large(&site, turn, page).await
}
