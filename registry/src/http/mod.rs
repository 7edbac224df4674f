//! The HTTP faces: translation, nothing else. Here is the table of all routes; what each does is said by the
//! room it calls.

mod caller;
mod native;
mod problem;
mod range;
mod signed;
mod static_files;
mod witness;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::submission::SUBMISSION_BYTES_MAX;
use waag_schema::wire::FRAMES_SIZE_MAX;
use waag_schema::wire::job::DETAILS_SIZE_MAX;

use self::problem::Refusal;
use crate::site::Site;
use crate::telemetry::RequestLabels;

/// The largest JSON body of an upload: recipes of a few terabytes, a manifest with its statements. Only who has a
/// token may send one.
const UPLOAD_BODY_MAX: usize = 32 << 20;
/// The largest result of a job: its details in base64, and a scorecard. Only a worker may send one.
const RESULT_BODY_MAX: usize = DETAILS_SIZE_MAX / 3 * 4 + (2 << 20);
/// The largest JSON body of any other request.
const JSON_BODY_MAX: usize = 1 << 20;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "waag native API",
        description = "Publish, resolve and transfer artifacts of a waag site."
    ),
    components(schemas(waag_schema::wire::Problem))
)]
struct Document;

/// Returns the routes of the native API and the document that describes them.
fn native_routes() -> (Router<Arc<Site>>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(native::site::site))
        .routes(routes!(native::charter::newest))
        .routes(routes!(native::charter::version))
        .routes(routes!(native::token::whoami))
        .routes(routes!(native::token::create, native::token::list))
        .routes(routes!(native::token::revoke))
        .routes(routes!(native::site::admit))
        .routes(routes!(native::site::namespace))
        .routes(routes!(native::site::namespace_proof))
        .routes(routes!(native::site::rotate))
        .routes(routes!(native::site::gate))
        .routes(routes!(native::site::access))
        .routes(routes!(native::artifact::list))
        .routes(routes!(native::artifact::show))
        .routes(routes!(native::artifact::resolve))
        .routes(routes!(native::artifact::statements))
        .routes(routes!(native::artifact::labels))
        .routes(routes!(native::artifact::scorecards))
        .routes(routes!(native::artifact::scorecard_details))
        .routes(routes!(native::artifact::svr))
        .routes(routes!(native::leaderboard::leaderboard))
        .routes(routes!(native::ledger::prove))
        .routes(routes!(native::ledger::prove_of))
        .routes(routes!(native::ledger::witnesses))
        .routes(routes!(native::ledger::witnesses_of))
        .routes(routes!(native::federation::status, native::federation::add))
        .routes(routes!(native::federation::remove))
        .routes(routes!(native::federation::run))
        .routes(routes!(native::federation::trust))
        .routes(routes!(native::federation::held))
        .routes(routes!(native::federation::holders))
        .routes(routes!(native::federation::give_up))
        .routes(routes!(native::federation::checkpoints))
        .routes(routes!(native::transfer::challenge))
        .routes(routes!(native::ledger::erase))
        .routes(routes!(native::transfer::recipes))
        .routes(routes!(native::transfer::chunks))
        .routes(routes!(native::transfer::file))
        .routes(routes!(native::job::take))
        .routes(routes!(native::job::renew))
        .routes(routes!(native::job::give_up))
        .routes(routes!(native::upload::open))
        .layer(DefaultBodyLimit::max(JSON_BODY_MAX))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(native::charter::adopt))
                .routes(routes!(native::upload::plan))
                .routes(routes!(native::upload::seal))
                .routes(routes!(native::upload::publish))
                .layer(DefaultBodyLimit::max(UPLOAD_BODY_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(native::job::finish))
                .layer(DefaultBodyLimit::max(RESULT_BODY_MAX)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(native::upload::chunks))
                .layer(DefaultBodyLimit::max(FRAMES_SIZE_MAX)),
        )
        .split_for_parts();
    // The version of the program is not part of the interface.
    document.info.version = "1".to_owned();
    (router, document)
}

/// Returns the document that describes the native API.
#[must_use]
pub fn openapi() -> OpenApi {
    native_routes().1
}

/// Returns everything a site answers.
pub fn router(site: Arc<Site>) -> Router {
    let (native, document) = native_routes();
    let document = document
        .to_json()
        .expect("the document holds only strings, lists and objects");
    Router::new()
        .merge(native)
        .route(
            "/api/v1/openapi.json",
            get(move || native::site::document(document.clone())),
        )
        .route("/ledger/checkpoint", get(static_files::newest))
        .route("/ledger/site-key", get(static_files::site_key))
        .route("/ledger/streams", get(static_files::streams))
        .route("/ledger/{series}/checkpoint", get(static_files::checkpoint))
        .route("/ledger/{series}/tile/{*path}", get(static_files::tile))
        .route("/ledger/{series}/body/{*path}", get(static_files::pack))
        .route(
            "/add-checkpoint",
            post(witness::add_checkpoint).layer(DefaultBodyLimit::max(SUBMISSION_BYTES_MAX)),
        )
        .route(
            "/ledger/cosign",
            post(witness::cosign).layer(DefaultBodyLimit::max(NOTE_BYTES_MAX)),
        )
        .route("/ledger/of/{site}/checkpoint", get(static_files::newest_of))
        .route(
            "/ledger/of/{site}/{series}/checkpoint",
            get(static_files::checkpoint_of),
        )
        .route(
            "/ledger/of/{site}/{series}/tile/{*path}",
            get(static_files::tile_of),
        )
        .route("/healthz", get(static_files::health))
        .route("/readyz", get(static_files::ready))
        .route("/metrics", get(static_files::metrics))
        .fallback(static_files::nothing)
        .layer(from_fn_with_state(Arc::clone(&site), signed::check))
        .layer(from_fn_with_state(Arc::clone(&site), observe))
        .with_state(site)
}

/// Tells one connection too many to come back.
pub(crate) async fn too_many_connections() -> Response {
    Refusal::too_many_connections().into_response()
}

/// Tells one connection too many of one address to come back.
pub(crate) async fn too_many_connections_of_one() -> Response {
    Refusal::too_many_connections_of_one().into_response()
}

/// Counts and logs each request by its route's pattern: a path holds names that not everybody may know.
async fn observe(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let method = method_label(request.method()).to_owned();
    let response = as_problem(next.run(request).await);
    let status = response.status().as_u16();
    tracing::debug!(%method, %route, status, "answered");
    site.metrics()
        .requests
        .get_or_create(&RequestLabels {
            route,
            method,
            status,
        })
        .inc();
    response
}

/// What the router itself refuses (a method, a path that cannot be read) is told as a problem as well.
fn as_problem(response: Response) -> Response {
    let plain = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => Refusal::method_not_allowed().into_response(),
        StatusCode::BAD_REQUEST if plain => Refusal::invalid("the address cannot be read").into_response(),
        _ => response,
    }
}

/// The methods that are counted by name: a caller's own words would make a series each.
fn method_label(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}
