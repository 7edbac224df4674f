//! `/api/v1/uploads`: content and its release, in.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use waag_schema::Sha256;
use waag_schema::content::frame::FrameDecoder;
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::upload::{
    ChunksReceived, FileRecipe, PlanAnswer, PlanRequest, PublishRequest, UploadRequest, UploadView,
};
use waag_schema::wire::{Code, FRAMES_SIZE_MAX, FRAMES_TYPE, Problem};

use super::Body;
use crate::http::caller::{Claim, Known, Sending};
use crate::http::problem::Refusal;
use crate::site::Site;

/// How long a body may bring nothing before it is given up; and the time that each may take besides its pace.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The bytes a second that a body must bring on average, so that none goes on without an end.
const PACE_MIN: u64 = 64 << 10;
/// Chunks of one request that are checked and written side by side.
const CHUNKS_AT_ONCE: usize = 4;

fn session(id: &str) -> Result<Sha256, Refusal> {
    id.parse().map_err(Refusal::invalid)
}

/// Opens an upload, or finds the one that the same token opened for the same manifest.
#[utoipa::path(post, path = "/api/v1/uploads", tag = "uploads", request_body = UploadRequest,
    responses((status = 201, body = UploadView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn open(
    State(site): State<Arc<Site>>,
    Known(caller): Known,
    Body(request): Body<UploadRequest>,
) -> Result<(StatusCode, Json<UploadView>), Refusal> {
    let id = site.intake().open(&caller, request).await?;
    Ok((StatusCode::CREATED, Json(UploadView { id })))
}

/// Says what an upload still lacks.
#[utoipa::path(post, path = "/api/v1/uploads/{id}/plan", tag = "uploads", request_body = PlanRequest,
    params(("id" = String, Path, description = "The upload, sha256:<64 hex digits>")),
    responses((status = 200, body = PlanAnswer), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn plan(
    State(site): State<Arc<Site>>,
    Sending(caller, _turn): Sending,
    Path(id): Path<String>,
    Body(request): Body<PlanRequest>,
) -> Result<Json<PlanAnswer>, Refusal> {
    let id = session(&id)?;
    site.uploads().session(&caller, &id).await?;
    Ok(Json(site.uploads().plan(&caller, &id, &request.files).await?))
}

/// Takes chunks as frames. Those before a bad one are kept.
#[utoipa::path(post, path = "/api/v1/uploads/{id}/chunks", tag = "uploads",
    request_body(content = Vec<u8>, content_type = FRAMES_TYPE, description = "Chunk frames, at most 64 MiB"),
    params(("id" = String, Path, description = "The upload")),
    responses((status = 200, body = ChunksReceived), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn chunks(
    State(site): State<Arc<Site>>,
    Sending(caller, _turn): Sending,
    claim: Claim,
    Path(id): Path<String>,
    body: HttpBody,
) -> Result<Json<ChunksReceived>, Refusal> {
    let id = session(&id)?;
    site.uploads().session(&caller, &id).await?;
    let mut frames = std::pin::pin!(decode_frames(body));
    let mut received = ChunksReceived { chunks: 0, bytes: 0 };
    // Each has a task of its own, so that it goes on while the next frame is waited for.
    let mut working = JoinSet::new();
    loop {
        let next = frames.next().await.transpose()?;
        // Its token may have ended since the last one. That is one small read beside the chunk's write.
        claim.caller(&site).await?;
        // One after the other, unless there is room to spare: what is written meanwhile waits in memory.
        let share = next.is_some().then(|| site.uploads().spare()).flatten();
        let at_once = match (&next, &share) {
            (None, _) | (_, None) => 0,
            (Some(_), Some(_)) => CHUNKS_AT_ONCE - 1,
        };
        while working.len() > at_once
            && let Some(taken) = working.join_next().await
        {
            received.chunks += 1;
            received.bytes += taken.expect("taking in does not panic")?;
        }
        let Some((chunk, stored)) = next else { break };
        let site = Arc::clone(&site);
        working.spawn(async move {
            let _share = share;
            Ok::<u64, Refusal>(site.uploads().receive(&id, chunk, stored).await?)
        });
    }
    site.metrics().chunks_received.inc_by(received.chunks);
    site.metrics().chunk_bytes_received.inc_by(received.bytes);
    Ok(Json(received))
}

/// Cuts a body into frames as it arrives; at most one frame is held.
fn decode_frames(
    body: HttpBody,
) -> impl futures_util::Stream<Item = Result<(waag_schema::ChunkDigest, Bytes), Refusal>> {
    let start = (
        body.into_data_stream(),
        FrameDecoder::new(),
        Bytes::new(),
        Arrival::default(),
    );
    stream::try_unfold(
        start,
        |(mut body, mut decoder, mut rest, mut arrival)| async move {
            loop {
                let mut input: &[u8] = &rest;
                let before = input.len();
                let frame = decoder.next_frame(&mut input).map_err(Refusal::invalid)?;
                let used = before - input.len();
                rest = rest.slice(used..);
                if let Some(frame) = frame {
                    return Ok(Some((
                        (frame.chunk, Bytes::from(frame.stored)),
                        (body, decoder, rest, arrival),
                    )));
                }
                let asked = Instant::now();
                let next = tokio::time::timeout(arrival.patience(), body.next()).await;
                // The time that the site itself takes is nobody's fault.
                arrival.waited += asked.elapsed();
                match next.map_err(|_| Refusal::invalid("the body stopped coming, or comes too slowly"))? {
                    Some(Ok(more)) => {
                        arrival.bytes += more.len();
                        if arrival.bytes > FRAMES_SIZE_MAX {
                            return Err(Refusal::new(
                                Code::TooLarge,
                                "more than 64 MiB of frames in one request",
                            ));
                        }
                        rest = more;
                    }
                    Some(Err(error)) => {
                        return Err(Refusal::invalid(format_args!("the body broke off: {error}")));
                    }
                    None => {
                        decoder.finish().map_err(Refusal::invalid)?;
                        return Ok(None);
                    }
                }
            }
        },
    )
}

/// How much of a body has come, and how long it was waited for.
#[derive(Debug, Default)]
struct Arrival {
    bytes: usize,
    waited: Duration,
}

impl Arrival {
    /// How long the next bytes are waited for.
    fn patience(&self) -> Duration {
        let earned = Duration::from_secs(self.bytes as u64 / PACE_MIN);
        (IDLE_MAX + earned).saturating_sub(self.waited).min(IDLE_MAX)
    }
}

/// Completes a file: checks its SHA-256 and makes its chunks durable.
#[utoipa::path(post, path = "/api/v1/uploads/{id}/files", tag = "uploads", request_body = FileRecipe,
    params(("id" = String, Path, description = "The upload")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn seal(
    State(site): State<Arc<Site>>,
    Sending(caller, _turn): Sending,
    Path(id): Path<String>,
    Body(file): Body<FileRecipe>,
) -> Result<StatusCode, Refusal> {
    let id = session(&id)?;
    site.uploads().session(&caller, &id).await?;
    site.uploads()
        .seal(&caller, &id, &file.sha256, &file.recipe.0)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the manifest of an upload with the statements that say so; any token may that publishes in the namespace.
#[utoipa::path(post, path = "/api/v1/uploads/{id}/publish", tag = "uploads", request_body = PublishRequest,
    params(("id" = String, Path, description = "The upload")),
    responses((status = 201, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn publish(
    State(site): State<Arc<Site>>,
    Sending(caller, _turn): Sending,
    Path(id): Path<String>,
    Body(request): Body<PublishRequest>,
) -> Result<(StatusCode, Json<Proof>), Refusal> {
    let id = session(&id)?;
    let envelopes: Vec<Vec<u8>> = request.envelopes.into_iter().map(|e| e.0).collect();
    let proof = site
        .intake()
        .publish(&caller, &id, &request.manifest.0, &envelopes)
        .await?;
    Ok((StatusCode::CREATED, Json(proof)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(bytes: usize, waited: u64) -> u64 {
        let waited = Duration::from_secs(waited);
        Arrival { bytes, waited }.patience().as_secs()
    }

    #[test]
    fn a_body_is_waited_for_as_long_as_it_keeps_its_pace() {
        assert_eq!(patience(0, 0), 60);
        assert_eq!(patience(0, 59), 1);
        assert_eq!(patience(1 << 20, 0), 60, "nobody saves up for a long silence");
        assert_eq!(patience(1 << 20, 70), 6);
        assert_eq!(patience(1 << 20, 76), 0);
        assert_eq!(
            patience(FRAMES_SIZE_MAX, 1024 + 60),
            0,
            "then it ends, whatever it brings"
        );
    }
}
