//! `/api/v1/site`, `/api/v1/namespaces`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use waag_schema::wire::Problem;
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::site::{NamespaceRequest, NamespaceView, SiteView};

use super::Body;
use crate::http::caller::Asking;
use crate::http::problem::Refusal;
use crate::site::Site;

/// Who is this site?
#[utoipa::path(get, path = "/api/v1/site", tag = "site", responses((status = 200, body = SiteView)))]
pub(in crate::http) async fn site(State(site): State<Arc<Site>>) -> Json<SiteView> {
    Json(site.view())
}

/// Admits a namespace by its signed genesis statement. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/namespaces", tag = "namespaces", request_body = NamespaceRequest,
    responses((status = 201, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn admit(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<NamespaceRequest>,
) -> Result<(StatusCode, Json<Proof>), Refusal> {
    let proof = site.intake().namespace(&caller, &request.envelope.0).await?;
    Ok((StatusCode::CREATED, Json(proof)))
}

/// What is this namespace?
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}", tag = "namespaces",
    params(("namespace" = String, Path, description = "Its name")),
    responses((status = 200, body = NamespaceView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn namespace(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(namespace): Path<String>,
) -> Result<Json<NamespaceView>, Refusal> {
    let name = namespace.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.catalogue().namespace(&caller, &name).await?))
}

/// How this namespace began and how its keys have changed since, proven under the newest checkpoint.
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}/proof", tag = "namespaces",
    params(("namespace" = String, Path, description = "Its name")),
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn namespace_proof(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(namespace): Path<String>,
) -> Result<Json<Proof>, Refusal> {
    let name = namespace.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.catalogue().namespace_proof(&caller, &name).await?))
}

/// Changes a namespace's keys by a rotation, signed by the thresholds of the old and the new keys.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace}/rotation", tag = "namespaces",
    params(("namespace" = String, Path, description = "Its name")), request_body = NamespaceRequest,
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn rotate(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(namespace): Path<String>,
    Body(request): Body<NamespaceRequest>,
) -> Result<Json<Proof>, Refusal> {
    let name = namespace.parse().map_err(Refusal::invalid)?;
    Ok(Json(
        site.intake()
            .rotation(&caller, &name, &request.envelope.0)
            .await?,
    ))
}

/// Puts a gate before a tag: what a release must have scored before the tag may name it. Signed by the owners.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace}/gate", tag = "namespaces",
    params(("namespace" = String, Path, description = "Its name")), request_body = NamespaceRequest,
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn gate(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(namespace): Path<String>,
    Body(request): Body<NamespaceRequest>,
) -> Result<Json<Proof>, Refusal> {
    let name = namespace.parse().map_err(Refusal::invalid)?;
    Ok(Json(
        site.intake().gate(&caller, &name, &request.envelope.0).await?,
    ))
}

/// Says which other sites of the charter may read a private namespace. Signed by the owners.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace}/access", tag = "namespaces",
    params(("namespace" = String, Path, description = "Its name")), request_body = NamespaceRequest,
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn access(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(namespace): Path<String>,
    Body(request): Body<NamespaceRequest>,
) -> Result<Json<Proof>, Refusal> {
    let name = namespace.parse().map_err(Refusal::invalid)?;
    Ok(Json(
        site.intake().access(&caller, &name, &request.envelope.0).await?,
    ))
}

/// The OpenAPI document.
pub(in crate::http) async fn document(json: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], json)
}
