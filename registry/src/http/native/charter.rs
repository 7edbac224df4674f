//! `/api/v1/charter`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use waag_schema::wire::Problem;
use waag_schema::wire::site::{CharterRequest, CharterView};

use super::Body;
use crate::http::caller::Asking;
use crate::http::problem::Refusal;
use crate::site::Site;

/// Which charter does this site go by?
#[utoipa::path(get, path = "/api/v1/charter", tag = "charter",
    responses((status = 200, body = CharterView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn newest(State(site): State<Arc<Site>>) -> Result<Json<CharterView>, Refusal> {
    Ok(Json(site.charters().view().await?))
}

/// A version of the charter that this site has gone by, to step through them.
#[utoipa::path(get, path = "/api/v1/charter/{version}", tag = "charter",
    params(("version" = u64, Path)),
    responses((status = 200, body = CharterView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn version(
    State(site): State<Arc<Site>>,
    Path(version): Path<String>,
) -> Result<Json<CharterView>, Refusal> {
    let number = version.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.charters().version(number).await?))
}

/// Adopts charters, each signed by enough root keys of the one before. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/charter", tag = "charter", request_body = CharterRequest,
    responses((status = 200, body = CharterView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn adopt(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<CharterRequest>,
) -> Result<Json<CharterView>, Refusal> {
    let steps: Vec<Vec<u8>> = request.charters.into_iter().map(|bytes| bytes.0).collect();
    Ok(Json(site.charters().adopt(&caller, &steps).await?))
}
