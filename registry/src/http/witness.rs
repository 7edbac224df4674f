//! Witnessing over HTTP: C2SP tlog-witness `add-checkpoint`, and lines that witnesses hand over. Answers are as that
//! document says; whoever is refused otherwise gets a problem as everywhere.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use waag_schema::ledger::Submission;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::submission::SUBMISSION_BYTES_MAX;
use waag_schema::wire::Code;

use super::problem::Refusal;
use crate::federation::WitnessError;
use crate::site::Site;

/// Anybody may send these: what does not come at once is not waited for.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let read = tokio::time::timeout(ARRIVES_WITHIN, to_bytes(body, limit)).await;
    let body = read.map_err(|_| Refusal::invalid("the body did not arrive in time"))?;
    let body =
        body.map_err(|_| Refusal::new(Code::TooLarge, format!("a body of more than {limit} bytes")))?;
    Ok(body.into())
}

fn refused(error: WitnessError) -> Response {
    let (status, refusal) = match error {
        WitnessError::OtherSize(size) => {
            let headers = [(CONTENT_TYPE, "text/x.tlog.size")];
            return (StatusCode::CONFLICT, headers, format!("{size}\n")).into_response();
        }
        WitnessError::UnknownOrigin(_) => (None, Refusal::new(Code::NotFound, error.to_string())),
        WitnessError::Refused(_) => (None, Refusal::new(Code::Forbidden, error.to_string())),
        WitnessError::Bad(_) => (None, Refusal::invalid(error)),
        WitnessError::Proof(_) => (Some(StatusCode::UNPROCESSABLE_ENTITY), Refusal::invalid(error)),
        WitnessError::Busy => (None, Refusal::new(Code::Busy, error.to_string())),
        WitnessError::Peer(_) => (None, Refusal::failed(&error)),
        WitnessError::Sites(error) => (None, (*error).into()),
    };
    let mut response = refusal.into_response();
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    response
}

/// `POST /add-checkpoint`: cosigns a checkpoint of a ledger of the charter.
pub(super) async fn add_checkpoint(State(site): State<Arc<Site>>, body: Body) -> Result<Response, Refusal> {
    let bytes = read(body, SUBMISSION_BYTES_MAX).await?;
    let submission = Submission::parse(&bytes).map_err(Refusal::invalid)?;
    Ok(match site.federation().add_checkpoint(&submission).await {
        Ok(line) => {
            let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            (headers, format!("{line}\n")).into_response()
        }
        Err(error) => refused(error),
    })
}

/// `POST /ledger/cosign`: takes a witness's line on this site's own ledger.
pub(super) async fn cosign(State(site): State<Arc<Site>>, body: Body) -> Result<Response, Refusal> {
    let bytes = read(body, NOTE_BYTES_MAX).await?;
    let note = String::from_utf8(bytes).map_err(Refusal::invalid)?;
    Ok(match site.federation().cosign(&note).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refused(error),
    })
}
