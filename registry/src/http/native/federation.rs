//! `/api/v1/federation`: mirrors, whom this site follows, and who holds what.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use waag_schema::wire::Problem;
use waag_schema::wire::federation::{
    Checkpoints, ComparisonView, DropAnswer, DropRequest, HolderView, MirrorRule, MirrorStatus, RunAnswer,
    RunRequest,
};

use super::{Body, artifact_name};
use crate::access::Caller;
use crate::http::caller::Asking;
use crate::http::problem::Refusal;
use crate::publish::PublishError;
use crate::site::Site;

fn admin(caller: &Caller) -> Result<(), Refusal> {
    if caller.is_admin() {
        Ok(())
    } else {
        Err(PublishError::NotAdmin("see or change mirrors").into())
    }
}

/// How following and mirroring stand: sites, rules, releases. Needs an admin token.
#[utoipa::path(get, path = "/api/v1/federation/mirrors", tag = "federation",
    responses((status = 200, body = MirrorStatus), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn status(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
) -> Result<Json<MirrorStatus>, Refusal> {
    admin(&caller)?;
    Ok(Json(site.federation().status().await?))
}

/// Adds a mirror rule. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/federation/mirrors", tag = "federation", request_body = MirrorRule,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn add(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(rule): Body<MirrorRule>,
) -> Result<StatusCode, Refusal> {
    admin(&caller)?;
    site.federation().add_rule(rule).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes away a rule that was added by command, named by the same words. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/federation/mirrors/remove", tag = "federation", request_body = MirrorRule,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn remove(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(rule): Body<MirrorRule>,
) -> Result<StatusCode, Refusal> {
    admin(&caller)?;
    site.federation().remove_rule(&rule).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at other sites and mirrors from them now, and answers when that is done. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/federation/run", tag = "federation", request_body = RunRequest,
    responses((status = 200, body = RunAnswer), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn run(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<RunRequest>,
) -> Result<Json<RunAnswer>, Refusal> {
    admin(&caller)?;
    Ok(Json(site.federation().run_now(request.site.as_deref()).await?))
}

/// Believes a site again after what was found against it, and goes on following it. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/federation/sites/{site}/trust", tag = "federation",
    params(("site" = String, Path, description = "Its id, or its name in the charter")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn trust(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(of): Path<String>,
) -> Result<StatusCode, Refusal> {
    admin(&caller)?;
    let of = site.federation().find(&of)?;
    site.federation().absolve(&of).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who holds what is compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Held {
    /// A site's id, or its name in the charter; without one, this site.
    by: Option<String>,
}

/// What a site holds of another one's releases, beside these: both sets' digests, and exactly what differs. Needs an
/// admin token.
#[utoipa::path(get, path = "/api/v1/federation/sites/{site}/held", tag = "federation",
    params(("site" = String, Path, description = "The home: its id, or its name in the charter"), Held),
    responses((status = 200, body = ComparisonView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn held(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(of): Path<String>,
    query: Result<Query<Held>, QueryRejection>,
) -> Result<Json<ComparisonView>, Refusal> {
    admin(&caller)?;
    let Query(Held { by }) = query?;
    Ok(Json(site.federation().compare(&of, by.as_deref()).await?))
}

/// Which sites hold, have refused or have erased the artifact's releases, by their own ledgers as followed here.
#[utoipa::path(get, path = "/api/v1/artifacts/{namespace}/{name}/holders", tag = "federation",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Vec<HolderView>), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn holders(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Vec<HolderView>>, Refusal> {
    let name = artifact_name(&namespace, &name)?;
    // Who may not know of the namespace may not know who holds what of it.
    site.catalogue().namespace(&caller, &name.namespace()).await?;
    let holders = site.federation().holders(&name).await?;
    if holders.is_empty() {
        return Err(Refusal::not_found(format_args!("artifact {name}")));
    }
    Ok(Json(holders))
}

/// Gives up a copy of another site's release, after as many other sites have proved that they have it; answers when it is
/// deleted. Needs an admin token.
#[utoipa::path(post, path = "/api/v1/federation/drop", tag = "federation", request_body = DropRequest,
    responses((status = 200, body = DropAnswer), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn give_up(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<DropRequest>,
) -> Result<Json<DropAnswer>, Refusal> {
    admin(&caller)?;
    let DropRequest {
        artifact,
        version,
        copies,
    } = request;
    Ok(Json(
        site.federation().give_up(&artifact, &version, copies).await?,
    ))
}

/// What this site has verified of other sites' ledgers, and what convicts some: checkpoints, as they were signed.
#[utoipa::path(get, path = "/api/v1/federation/checkpoints", tag = "federation",
    responses((status = 200, body = Checkpoints), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn checkpoints(
    State(site): State<Arc<Site>>,
) -> Result<Json<Checkpoints>, Refusal> {
    let checkpoints = site.federation().told().await?;
    Ok(Json(Checkpoints { checkpoints }))
}
