//! What only HTTP has: bodies that come in pieces, and what happens in between.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode};
use futures_util::{StreamExt as _, stream};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use waag_registry::Site;
use waag_registry::http::router;
use waag_registry::store::MemoryStore;
use waag_schema::Sha256;
use waag_schema::content::frame::encode_frame_header;
use waag_schema::statement::Visibility;
use waag_schema::wire::token::{Scope, TokenRequest};

use crate::world::{File, Publisher, World, name, noise};

async fn ask(world: &World, request: Request<Body>) -> (StatusCode, String) {
    let service = TowerToHyperService::new(router(Arc::clone(&world.site)));
    let answer = service.call(request).await.unwrap();
    let status = answer.status();
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

async fn admin(world: &World) -> (String, String) {
    let request = TokenRequest {
        label: "soon revoked".to_owned(),
        scopes: vec![Scope::Admin],
        namespaces: Vec::new(),
        jurisdiction: None,
        days: None,
    };
    let (secret, token) = world.site.tokens().create(request).await.unwrap();
    (secret, token.id)
}

fn post(path: &str, kind: &str, secret: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header("content-type", kind)
        .header("authorization", format!("Bearer {secret}"))
        .body(body)
        .unwrap()
}

/// A body in two pieces; between them a token is revoked.
fn revoking(site: &Arc<Site>, id: String, first: &[u8], second: &[u8]) -> Body {
    let site = Arc::clone(site);
    let (first, second) = (Bytes::copy_from_slice(first), Bytes::copy_from_slice(second));
    let first = stream::iter([Ok::<_, Infallible>(first)]);
    let second = stream::once(async move {
        site.tokens().revoke(&id).await.unwrap();
        Ok(second)
    });
    Body::from_stream(first.chain(second))
}

#[tokio::test]
async fn a_token_that_is_revoked_while_a_body_comes_does_nothing() {
    let world = World::new().await;
    let upload = Sha256::of(b"upload");
    let upload = |what| format!("/api/v1/uploads/{upload}/{what}");
    let paths = [
        "/api/v1/tokens".to_owned(),
        "/api/v1/namespaces".to_owned(),
        "/api/v1/namespaces/acme/rotation".to_owned(),
        "/api/v1/artifacts/acme/tiny/statements".to_owned(),
        "/api/v1/artifacts/acme/tiny/recipes".to_owned(),
        "/api/v1/artifacts/acme/tiny/chunks".to_owned(),
        "/api/v1/ledger/erasures".to_owned(),
        "/api/v1/uploads".to_owned(),
        upload("plan"),
        upload("files"),
        upload("publish"),
    ];
    for path in paths {
        let (secret, id) = admin(&world).await;
        let (first, second) = (b"{\"label\":\"x\"," as &[u8], b"\"scopes\":[\"admin\"]}" as &[u8]);
        let body = revoking(&world.site, id, first, second);
        let (status, said) = ask(&world, post(&path, "application/json", &secret, body)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}: {said}");
    }
    assert_eq!(world.site.tokens().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_that_is_revoked_while_chunks_come_sends_no_more() {
    let world = World::new().await;
    let (secret, id) = admin(&world).await;
    let upload = world
        .site
        .uploads()
        .open(&id, name("acme/tiny"), Sha256::of(b"manifest"))
        .await
        .unwrap();
    let frames: Vec<(String, Vec<u8>)> = [1, 2]
        .into_iter()
        .flat_map(|seed| File::new("w.bin", noise(seed, 1000)).chunks())
        .map(|(chunk, stored)| {
            let header = encode_frame_header(&chunk, stored.len()).unwrap();
            (chunk.hex(), [&header[..], &stored].concat())
        })
        .collect();
    let path = format!("/api/v1/uploads/{upload}/chunks");
    let body = revoking(&world.site, id, &frames[0].1, &frames[1].1);
    let (status, said) = ask(&world, post(&path, "application/octet-stream", &secret, body)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
    let kept = world.store.list("incoming/", None, 9).await.unwrap();
    assert!(kept.iter().all(|key| key.last() != frames[1].0), "{kept:?}");
}

#[tokio::test]
async fn each_recipe_is_asked_for_once() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 1, Visibility::Public).await;
    let file = File::new("w.bin", noise(1, 1000));
    let digest = file.sha256();
    acme.push(&world, "acme/tiny", "1.0", vec![file]).await;
    let body = |files: &[Sha256]| {
        let request =
            Request::post("/api/v1/artifacts/acme/tiny/recipes").header("content-type", "application/json");
        let files = serde_json::to_vec(&serde_json::json!({ "files": files })).unwrap();
        request.body(Body::from(files)).unwrap()
    };
    let (status, said) = ask(&world, body(&[digest])).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let (status, said) = ask(&world, body(&[digest, digest])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    assert!(said.contains("twice"), "{said}");
}

#[tokio::test]
async fn a_site_without_room_is_not_ready() {
    let store = Arc::new(MemoryStore::new());
    let world = World::over(Arc::clone(&store) as _).await;
    let ready = || Request::get("/readyz").body(Body::empty()).unwrap();
    assert_eq!(ask(&world, ready()).await, (StatusCode::OK, "ready\n".to_owned()));
    store.fill_up();
    let (status, said) = ask(&world, ready()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("full"), "{said}");
}
