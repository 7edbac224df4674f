//! `/api/v1/ledger`: proofs of entries, and their erasure.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use waag_schema::wire::Problem;
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::ledger::{EraseRequest, WitnessingView};

use super::Body;
use crate::http::caller::Asking;
use crate::http::problem::Refusal;
use crate::site::Site;

/// An entry with its opening, proven under the newest checkpoint.
#[utoipa::path(get, path = "/api/v1/ledger/entries/{entry}", tag = "ledger",
    params(("entry" = u64, Path, description = "Its position")),
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn prove(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path(entry): Path<u64>,
) -> Result<Json<Proof>, Refusal> {
    Ok(Json(site.catalogue().entry(&caller, entry).await?))
}

/// An entry of another site's ledger, proven from the copy that is followed here.
#[utoipa::path(get, path = "/api/v1/ledger/of/{site}/entries/{entry}", tag = "ledger",
    params(("site" = String, Path, description = "The other site's id"),
        ("entry" = u64, Path, description = "Its position")),
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn prove_of(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Path((of, entry)): Path<(String, u64)>,
) -> Result<Json<Proof>, Refusal> {
    let of = of.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.catalogue().entry_of(&caller, &of, entry).await?))
}

/// How far this site's ledger is committed, published and witnessed, and by whom.
#[utoipa::path(get, path = "/api/v1/ledger/witnesses", tag = "ledger",
    responses((status = 200, body = WitnessingView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn witnesses(
    State(site): State<Arc<Site>>,
) -> Result<Json<WitnessingView>, Refusal> {
    Ok(Json(site.federation().witnessing().await?))
}

/// How far another site's ledger was followed here, and who has cosigned its newest tree as far as that is known here, this
/// site among them.
#[utoipa::path(get, path = "/api/v1/ledger/of/{site}/witnesses", tag = "ledger",
    params(("site" = String, Path, description = "The other site's id")),
    responses((status = 200, body = WitnessingView), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn witnesses_of(
    State(site): State<Arc<Site>>,
    Path(of): Path<String>,
) -> Result<Json<WitnessingView>, Refusal> {
    let of = of.parse().map_err(Refusal::invalid)?;
    Ok(Json(site.federation().witnessing_of(&of).await?))
}

/// Erases the opening of an entry at this site. The leaf stays, so every other proof still holds. Needs an admin
/// token; cannot be undone.
#[utoipa::path(post, path = "/api/v1/ledger/erasures", tag = "ledger", request_body = EraseRequest,
    responses((status = 200, body = Proof), (status = "4XX", body = Problem)))]
pub(in crate::http) async fn erase(
    State(site): State<Arc<Site>>,
    Asking(caller): Asking,
    Body(request): Body<EraseRequest>,
) -> Result<Json<Proof>, Refusal> {
    Ok(Json(
        site.intake()
            .erase(&caller, request.entry, &request.ground)
            .await?,
    ))
}
