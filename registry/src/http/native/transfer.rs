//! Content, out: recipes, chunks in frames, and plain byte ranges of files.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use waag_schema::base::bytes::Base64;
use waag_schema::content::Challenge;
use waag_schema::wire::artifact::{ChunksRequest, Recipes, RecipesRequest};
use waag_schema::wire::federation::Answered;
use waag_schema::wire::{CHUNKS_ASKED_MAX, FRAMES_TYPE, Problem};
use waag_schema::{ChunkDigest, Sha256};

use super::{Body, artifact_name, large};
use crate::http::caller::Transferring;
use crate::http::problem::Refusal;
use crate::http::range;
use crate::site::Site;

/// The most recipes asked for at once.
const RECIPES_MAX: usize = 1024;
/// The most bytes of recipes in one answer, where it is more than one.
const RECIPES_BYTES_MAX: usize = 8 << 20;

/// How files are made of chunks, as canonical recipes: those of the first files asked for, as many as fit 8 MiB, at
/// least one. Ask again for the rest.
#[utoipa::path(post, path = "/api/v1/artifacts/{namespace}/{name}/recipes", tag = "content",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = RecipesRequest,
    responses((status = 200, body = Recipes), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn recipes(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name)): Path<(String, String)>,
    Body(request): Body<RecipesRequest>,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    if request.files.len() > RECIPES_MAX {
        return Err(Refusal::invalid(format_args!(
            "at most {RECIPES_MAX} recipes are given at once"
        )));
    }
    let mut asked = HashSet::new();
    if let Some(twice) = request.files.iter().find(|file| !asked.insert(**file)) {
        return Err(Refusal::invalid(format_args!("{twice} is asked for twice")));
    }
    let mut recipes: Vec<Base64> = Vec::new();
    let mut bytes = 0;
    for file in &request.files {
        let row = site.catalogue().file(&caller, &name, file).await?;
        let recipe = site.content().recipe(&row.recipe).await?;
        let recipe = recipe.ok_or_else(|| Refusal::not_found(format_args!("recipe of {file}")))?;
        let recipe = site.content().on_pool(move || recipe.canonical()).await;
        if !fits(bytes, recipe.len()) {
            break;
        }
        bytes += recipe.len();
        recipes.push(recipe.into());
    }
    large(&site, turn, Recipes { recipes }).await
}

/// Does a recipe go into an answer that has so many bytes of them already? The first one always does.
const fn fits(before: usize, more: usize) -> bool {
    before == 0 || before + more <= RECIPES_BYTES_MAX
}

/// Chunks of a file as frames, in the order asked. Each is checked by who receives it.
#[utoipa::path(post, path = "/api/v1/artifacts/{namespace}/{name}/chunks", tag = "content",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = ChunksRequest,
    responses((status = 200, body = Vec<u8>, content_type = FRAMES_TYPE), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn chunks(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name)): Path<(String, String)>,
    Body(request): Body<ChunksRequest>,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    if request.chunks.len() > CHUNKS_ASKED_MAX {
        return Err(Refusal::invalid(format_args!(
            "at most {CHUNKS_ASKED_MAX} chunks are given at once"
        )));
    }
    let row = site.catalogue().file(&caller, &name, &request.file).await?;
    let recipe = site.content().recipe(&row.recipe).await?;
    let recipe = recipe.ok_or_else(|| Refusal::not_found(format_args!("recipe of {}", request.file)))?;
    let of_file: HashSet<ChunkDigest> = recipe.pieces().iter().map(|p| p.chunk).collect();
    if let Some(foreign) = request.chunks.iter().find(|c| !of_file.contains(c)) {
        return Err(Refusal::not_found(format_args!(
            "chunk {foreign} in {}",
            request.file
        )));
    }
    let stored = site.content().stored(&request.chunks).await?;
    let sent = site.metrics().content_bytes_sent.clone();
    let frames = site
        .content()
        .frames(stored)
        .map_ok(move |part| {
            // The turn lasts as long as the answer does.
            let _ = &turn;
            sent.inc_by(part.raw_bytes);
            part.bytes
        })
        .inspect_err(|error| tracing::error!(%error, "an answer broke off"));
    Ok(([(CONTENT_TYPE, FRAMES_TYPE)], HttpBody::from_stream(frames)).into_response())
}

/// Proves to another site, which has the release too, that its bytes are here: one hash over ranges that it draws. Only a
/// site of the charter that signs its request is answered.
#[utoipa::path(post, path = "/api/v1/artifacts/{namespace}/{name}/challenge", tag = "federation",
    params(("namespace" = String, Path), ("name" = String, Path)), request_body = Challenge,
    responses((status = 200, body = Answered), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn challenge(
    State(site): State<Arc<Site>>,
    Transferring(caller, _turn): Transferring,
    Path((namespace, name)): Path<(String, String)>,
    Body(challenge): Body<Challenge>,
) -> Result<Json<Answered>, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let answer = site.catalogue().answer(&caller, &name, &challenge).await?;
    Ok(Json(Answered { answer }))
}

/// A file's bytes, or one range of them.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/files/{sha256}", tag = "content",
    params(("namespace" = String, Path), ("name" = String, Path),
        ("sha256" = String, Path, description = "The file, sha256:<64 hex digits>")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn file(
    State(site): State<Arc<Site>>,
    Transferring(caller, turn): Transferring,
    Path((namespace, name, sha256)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    let file: Sha256 = sha256.parse().map_err(Refusal::invalid)?;
    let found = site.catalogue().bytes(&caller, &name, &file).await?;
    let recipe = site.content().recipe(&found.recipe).await?;
    let recipe = recipe.ok_or_else(|| Refusal::not_found(format_args!("recipe of {file}")))?;
    // A packed file is a part of its layer.
    let (start, size) = (found.within.start, found.within.end - found.within.start);
    let etag = format!("\"{}\"", file.hex());
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    // A range of another version than the one asked for is of no use: then the whole file is sent.
    let same = text(IF_RANGE).is_none_or(|found| found == etag);
    let asked = text(RANGE)
        .filter(|_| same)
        .map(|range| range::parse(range, size));
    let (status, range) = match asked {
        None | Some(range::Asked::Whole) => (StatusCode::OK, 0..size),
        Some(range::Asked::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(range::Asked::Outside) => {
            let headers = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let length = range.end - range.start;
    let sent = site.metrics().content_bytes_sent.clone();
    let bytes = site
        .content()
        .range(&recipe, start + range.start..start + range.end)
        .inspect_ok(move |part| {
            let _ = &turn;
            sent.inc_by(part.len() as u64);
        })
        .inspect_err(|error| tracing::error!(%error, "an answer broke off"));
    let mut response = (status, HttpBody::from_stream(bytes)).into_response();
    let headers = response.headers_mut();
    let mut set = |name, value: String| {
        headers.insert(
            name,
            value.parse().expect("digits and quotes are a header's value"),
        );
    };
    set(CONTENT_TYPE, "application/octet-stream".to_owned());
    set(CONTENT_LENGTH, length.to_string());
    set(ACCEPT_RANGES, "bytes".to_owned());
    set(ETAG, etag);
    if status == StatusCode::PARTIAL_CONTENT {
        set(
            CONTENT_RANGE,
            format!("bytes {}-{}/{size}", range.start, range.end - 1),
        );
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_recipes_is_bounded_but_never_empty() {
        assert!(fits(0, RECIPES_BYTES_MAX + 1));
        assert!(fits(1, RECIPES_BYTES_MAX - 1));
        assert!(!fits(1, RECIPES_BYTES_MAX));
        assert!(!fits(RECIPES_BYTES_MAX + 1, 1));
    }
}
