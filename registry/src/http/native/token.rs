//! `/api/v1/whoami`, `/api/v1/tokens`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use waag_schema::wire::Problem;
use waag_schema::wire::token::{TokenCreated, TokenRequest, TokenView, WhoAmI};

use super::Body;
use crate::access::Caller;
use crate::http::caller::Asking;
use crate::http::problem::Refusal;
use crate::publish::PublishError;
use crate::site::Site;

fn admin(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_admin() {
        Ok(())
    } else {
        Err(PublishError::NotAdmin("see or change tokens").into())
    }
}

/// What does my token allow?
#[utoipa::path(get, path = "/api/v1/whoami", tag = "tokens",
    responses((status = 200, body = WhoAmI), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn whoami(Asking(caller): Asking) -> Json<WhoAmI> {
    Json(WhoAmI {
        token: caller.token().cloned(),
    })
}

/// Makes a token. Needs an admin token; the secret is told only here.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = TokenRequest,
    responses((status = 201, body = TokenCreated), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn create(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Refusal> {
    admin(&caller)?;
    let (secret, token) = site.tokens().create(request).await?;
    Ok((StatusCode::CREATED, Json(TokenCreated { secret, token })))
}

/// Lists tokens without their secrets. Needs an admin token.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, body = Vec<TokenView>), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn list(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
) -> Result<Json<Vec<TokenView>>, Refusal> {
    admin(&caller)?;
    Ok(Json(site.tokens().list().await?))
}

/// Ends a token at once. Needs an admin token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "Its public name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn revoke(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    admin(&caller)?;
    site.tokens().revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
