//! What is served as it stands: the ledger's checkpoint and tiles (C2SP tlog-tiles), health and metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use waag_schema::ledger::{PackPath, SignedCheckpoint, TilePath};
use waag_schema::wire::note_tag;

use super::caller::Signer;
use super::problem::Refusal;
use crate::access::Caller;
use crate::ledger::Followed;
use crate::site::Site;
use crate::store::{Key, StoreError};

/// Tiles never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// `GET /ledger/{series}/checkpoint`
pub(super) async fn checkpoint(
    State(site): State<Arc<Site>>,
    Path(series): Path<u32>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let signed = site.ledger().checkpoint_of(series);
    let signed = signed.ok_or_else(|| Refusal::not_found("ledger of this series"))?;
    Ok(note(&site.federation().published(signed), &headers))
}

/// `GET /ledger/checkpoint`: of the series that goes on
pub(super) async fn newest(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    note(&site.federation().published(site.ledger().checkpoint()), &headers)
}

/// `GET /ledger/site-key`: which key the site signs with, by the word of its ledger's key
pub(super) async fn site_key(State(site): State<Arc<Site>>) -> Result<Response, Refusal> {
    let note = site.ledger().site_key().map(str::to_owned);
    let note = note.ok_or_else(|| Refusal::not_found("note of the site's key"))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response())
}

/// Sends a checkpoint, unless the caller has this very one.
fn note(signed: &SignedCheckpoint, asked: &HeaderMap) -> Response {
    let text = signed.to_string();
    let tag = note_tag(&text);
    let known = asked.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (ETAG, tag.clone()),
    ];
    if known == Some(tag.as_str()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, text).into_response()
}

/// Another site's ledger, as far as it is followed here.
fn followed(site: &Site, of: &str) -> Result<Arc<Followed>, Refusal> {
    let found = of.parse().ok().and_then(|of| site.catalogue().ledgers.of(&of));
    found.ok_or_else(|| Refusal::not_found("ledger of this site"))
}

/// `GET /ledger/of/{site}/checkpoint`: the newest tree of another site's ledger that was followed to its end
pub(super) async fn newest_of(
    State(site): State<Arc<Site>>,
    Path(of): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let followed = followed(&site, &of)?;
    let signed = followed
        .newest()
        .ok_or_else(|| Refusal::not_found("ledger of this site"))?;
    Ok(note(signed, &headers))
}

/// `GET /ledger/of/{site}/{series}/checkpoint`
pub(super) async fn checkpoint_of(
    State(site): State<Arc<Site>>,
    Path((of, series)): Path<(String, u32)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let followed = followed(&site, &of)?;
    let signed = followed.tree_of(series);
    Ok(note(
        signed.ok_or_else(|| Refusal::not_found("ledger of this series"))?,
        &headers,
    ))
}

/// `GET /ledger/of/{site}/{series}/tile/{path}`
pub(super) async fn tile_of(
    State(site): State<Arc<Site>>,
    Path((of, series, path)): Path<(String, u32, String)>,
) -> Result<Response, Refusal> {
    let followed = followed(&site, &of)?;
    let path: Option<TilePath> = format!("tile/{path}").parse().ok();
    let path = path.ok_or_else(|| Refusal::not_found("tile of this name"))?;
    for_ever(followed.store.get(&Key::tile(series, &path)).await)
}

/// Who asks for openings: a site, where the request was signed by one; everybody else is the same.
fn asking(signer: Option<Extension<Signer>>) -> Caller {
    signer.map_or_else(Caller::anonymous, |Extension(Signer(here))| Caller::peer(here))
}

/// `GET /ledger/streams`: the streams that the site which asks may read, beside the one for everybody
pub(super) async fn streams(
    State(site): State<Arc<Site>>,
    signer: Option<Extension<Signer>>,
) -> Result<Response, Refusal> {
    let streams = site.catalogue().streams(&asking(signer)).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(streams)).into_response())
}

/// `GET /ledger/{series}/body/{path}`: openings that who asks may read. They change when one is erased.
pub(super) async fn pack(
    State(site): State<Arc<Site>>,
    signer: Option<Extension<Signer>>,
    Path((series, path)): Path<(u32, String)>,
) -> Result<Response, Refusal> {
    let path: Option<PackPath> = format!("body/{path}").parse().ok();
    let path = path.ok_or_else(|| Refusal::not_found("pack of this name"))?;
    let bytes = site.catalogue().pack(&asking(signer), series, &path).await?;
    let bytes = bytes.ok_or_else(|| Refusal::not_found("pack of this name"))?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, bytes).into_response())
}

fn for_ever(found: Result<Bytes, StoreError>) -> Result<Response, Refusal> {
    match found {
        Ok(bytes) => {
            let headers = [
                (CONTENT_TYPE, "application/octet-stream"),
                (CACHE_CONTROL, FOR_EVER),
            ];
            Ok((headers, bytes).into_response())
        }
        Err(StoreError::NotFound(_)) => Err(Refusal::not_found("tile of this name")),
        Err(error) => Err(error.into()),
    }
}

/// `GET /ledger/{series}/tile/{path}`
pub(super) async fn tile(
    State(site): State<Arc<Site>>,
    Path((series, path)): Path<(u32, String)>,
) -> Result<Response, Refusal> {
    let path: Option<TilePath> = format!("tile/{path}").parse().ok();
    let path = path.ok_or_else(|| Refusal::not_found("tile of this name"))?;
    for_ever(site.ledger().tile(series, &path).await)
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
