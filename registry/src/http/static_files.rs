//! What is served as it stands: the ledger's checkpoint and tiles (C2SP tlog-tiles), health and metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use waag_schema::ledger::{SignedCheckpoint, TilePath};

use super::problem::Refusal;
use crate::site::Site;
use crate::store::StoreError;

/// Tiles never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// `GET /ledger/{series}/checkpoint`
pub(super) async fn checkpoint(
    State(site): State<Arc<Site>>,
    Path(series): Path<u32>,
) -> Result<Response, Refusal> {
    let signed = site.ledger().checkpoint_of(series);
    let signed = signed.ok_or_else(|| Refusal::not_found("ledger of this series"))?;
    Ok(note(&signed))
}

/// `GET /ledger/checkpoint`: of the series that goes on
pub(super) async fn newest(State(site): State<Arc<Site>>) -> Response {
    note(&site.ledger().checkpoint())
}

fn note(signed: &SignedCheckpoint) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, signed.to_string()).into_response()
}

/// `GET /ledger/{series}/tile/{path}`
pub(super) async fn tile(
    State(site): State<Arc<Site>>,
    Path((series, path)): Path<(u32, String)>,
) -> Result<Response, Refusal> {
    let path: Option<TilePath> = format!("tile/{path}").parse().ok();
    let path = path.ok_or_else(|| Refusal::not_found("tile of this name"))?;
    match site.ledger().tile(series, &path).await {
        Ok(bytes) => Ok((
            [
                (CONTENT_TYPE, "application/octet-stream"),
                (CACHE_CONTROL, FOR_EVER),
            ],
            bytes,
        )
            .into_response()),
        Err(StoreError::NotFound(_)) => Err(Refusal::not_found("tile of this name")),
        Err(error) => Err(error.into()),
    }
}

/// `GET /healthz`: the process answers.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the index answers and the store has room, so requests can be served.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Result<&'static str, Refusal> {
    site.reader().ask(|q| q.stream_count("open")).await?;
    if site.has_room().await? {
        Ok("ready\n")
    } else {
        Err(Refusal::not_ready(
            "the store is full: nothing more can be uploaded",
        ))
    }
}

/// `GET /metrics`
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], site.metrics().render()).into_response()
}

/// Whatever no route takes.
pub(super) async fn nothing() -> Refusal {
    Refusal::not_found("page of this address")
}
