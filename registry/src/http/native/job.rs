//! `/api/v1/jobs`: what compute nodes measure in the site's stead.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use waag_schema::wire::Problem;
use waag_schema::wire::job::{FinishRequest, LeaseRequest, Renewed, TakeRequest, Taken};

use super::Body;
use crate::access::Caller;
use crate::evaluation::JobsError;
use crate::http::caller::Known;
use crate::http::problem::Refusal;
use crate::site::Site;

/// A caller who may measure. Where this stands before a body, no other's is read.
pub(in crate::http) struct Worker(Caller);

impl FromRequestParts<Arc<Site>> for Worker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Refusal> {
        let Known(caller) = Known::from_request_parts(parts, site).await?;
        if caller.may_weigh() {
            Ok(Self(caller))
        } else {
            Err(JobsError::Forbidden.into())
        }
    }
}

/// Takes a job under a lease. Needs a token with the scope `weigh`.
#[utoipa::path(post, path = "/api/v1/jobs/take", tag = "jobs", request_body = TakeRequest,
    responses((status = 200, body = Taken), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn take(
    State(site): State<Arc<Site>>,
    Worker(caller): Worker,
    Body(request): Body<TakeRequest>,
) -> Result<Json<Taken>, Refusal> {
    let job = site.weigher().lend(&caller, &request.engines).await?;
    Ok(Json(Taken { job }))
}

/// Lets a lease last from now on.
#[utoipa::path(post, path = "/api/v1/jobs/renew", tag = "jobs", request_body = LeaseRequest,
    responses((status = 200, body = Renewed), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn renew(
    State(site): State<Arc<Site>>,
    Worker(caller): Worker,
    Body(request): Body<LeaseRequest>,
) -> Result<Json<Renewed>, Refusal> {
    let until = site.weigher().renew(&caller, &request.lease).await?;
    Ok(Json(Renewed { until }))
}

/// Hands in what was found: the site checks it, signs it, and enters it in its ledger.
#[utoipa::path(post, path = "/api/v1/jobs/finish", tag = "jobs", request_body = FinishRequest,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn finish(
    State(site): State<Arc<Site>>,
    Worker(caller): Worker,
    Body(request): Body<FinishRequest>,
) -> Result<StatusCode, Refusal> {
    site.weigher().hand_in(&caller, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a job back, so that another may take it.
#[utoipa::path(post, path = "/api/v1/jobs/give-up", tag = "jobs", request_body = LeaseRequest,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn give_up(
    State(site): State<Arc<Site>>,
    Worker(caller): Worker,
    Body(request): Body<LeaseRequest>,
) -> Result<StatusCode, Refusal> {
    let reason = request.reason.as_deref();
    site.weigher().give_up(&caller, &request.lease, reason).await?;
    Ok(StatusCode::NO_CONTENT)
}
