//! `/api/v1/artifacts`: names, versions, proofs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use waag_schema::base::name::Version;
use waag_schema::wire::Problem;
use waag_schema::wire::artifact::{ArtifactPage, ArtifactView, Labels, Proof, Resolved, Scorecards, SvrView};
use waag_schema::wire::upload::StatementsRequest;
use waag_schema::{ArtifactName, Namespace, Sha256};

use super::{Body, artifact_name, large};
use crate::http::caller::{Asking, Known, Transferring};
use crate::http::problem::Refusal;
use crate::index::Wanted;
use crate::site::Site;

/// The most bytes of words to search for.
const WORDS_BYTES_MAX: usize = 256;

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Listing {
    /// Only artifacts of this namespace.
    #[param(value_type = Option<String>)]
    namespace: Option<Namespace>,
    /// Only artifacts behind this one: the `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<ArtifactName>,
    /// Only artifacts in whose name, kind, licence, architecture or size every one of these words stands.
    words: Option<String>,
}

/// Lists the artifacts that the caller may know of.
#[utoipa::path(get, path = "/api/v1/artifacts", tag = "artifacts", params(Listing),
    responses((status = 200, body = ArtifactPage), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn list(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    query: Result<Query<Listing>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ArtifactPage>, Refusal> {
    let Query(listing) = query?;
    let Listing {
        namespace,
        after,
        words,
    } = listing;
    let words = words.unwrap_or_default();
    if words.len() > WORDS_BYTES_MAX {
        return Err(Refusal::invalid(format_args!(
            "more than {WORDS_BYTES_MAX} bytes of words"
        )));
    }
    Ok(Json(
        site.catalogue()
            .list(
                &caller,
                Wanted {
                    namespace,
                    after,
                    words,
                },
            )
            .await?,
    ))
}

/// What is this artifact?
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ArtifactView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn show(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<ArtifactView>, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    Ok(Json(site.catalogue().artifact(&caller, &name).await?))
}

/// A version's manifest and the proof that its publisher signed it.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/resolve/{version}", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path),
        ("version" = String, Path, description = "A tag, or sha256:<64 hex digits>")),
    responses((status = 200, body = Resolved), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn resolve(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name, version)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let version: Version = version.parse().map_err(Refusal::invalid)?;
    let resolved = site.catalogue().resolve(&caller, &name, &version).await?;
    large(&site, turn, resolved).await
}

/// Which labels is the artifact under, its own and those of what it was made from?
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/labels", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Labels), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn labels(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let found = site.catalogue().labels(&caller, &name).await?;
    large(&site, turn, found).await
}

/// What was measured on the artifact's releases, proven, and what is still to be.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/scorecards", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Scorecards), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn scorecards(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let found = site.catalogue().scorecards(&caller, &name).await?;
    large(&site, turn, found).await
}

/// The details of a scorecard, as JSON.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/scorecards/{details}", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path),
        ("details" = String, Path, description = "sha256:<64 hex digits>, as the scorecard names it")),
    responses((status = 200, body = Object), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn scorecard_details(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path((namespace, name, details)): Path<(String, String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let details: Sha256 = details.parse().map_err(Refusal::invalid)?;
    let bytes = site
        .catalogue()
        .scorecard_details(&caller, &name, &details)
        .await?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes))
}

/// That a release passes all gates of its namespace, signed: an in-toto Simple Verification Result.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/svr/{manifest}", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path),
        ("manifest" = String, Path, description = "sha256:<64 hex digits>")),
    responses((status = 200, body = SvrView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn svr(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path((namespace, name, manifest)): Path<(String, String, String)>,
) -> Result<Json<SvrView>, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let manifest: Sha256 = manifest.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.catalogue().svr(&caller, &name, &manifest).await?))
}

/// Records statements that need no content: tags and labels.
#[utoipa::path(post, path = "/api/v1/artifacts/{namespace}/{name}/statements", tag = "artifacts",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = StatementsRequest,
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn statements(
    State(site): State<Arc<Site>>,
    Known(caller): Known,
    Path((namespace, name)): Path<(String, String)>,
    Body(request): Body<StatementsRequest>,
) -> Result<Json<Proof>, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let envelopes: Vec<Vec<u8>> = request.envelopes.into_iter().map(|e| e.0).collect();
    Ok(Json(site.intake().statements(&caller, &name, &envelopes).await?))
}
