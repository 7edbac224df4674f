//! What compute nodes measure in a site's stead: lent under a lease, checked, and signed by the site alone.

use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use waag_registry::config::{Config, Weigh};
use waag_registry::evaluation::Computer;
use waag_registry::evaluation::worker::{Release, engines, weigh};
use waag_registry::http::router;
use waag_schema::policy::{Action, Label};
use waag_schema::release::Manifest;
use waag_schema::statement::Visibility;
use waag_schema::statement::scorecard::Section;
use waag_schema::wire::artifact::ScorecardView;
use waag_schema::wire::job::{Base, FinishRequest, Job, LeaseRequest, TakeRequest, Taken};
use waag_schema::wire::token::{Scope, TokenRequest};

use crate::world::{Draft, File, Publisher, World};

/// How long a lease lasts unless the configuration says otherwise.
const LEASE_SECONDS: u64 = 600;

/// A safetensors file of one tensor with 64 x 128 of this word.
pub(crate) fn model(word: u16) -> Vec<u8> {
    let header = r#"{"a":{"dtype":"BF16","shape":[64,128],"data_offsets":[0,16384]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    for at in 0..8192_u16 {
        bytes.extend_from_slice(&(word ^ (at & 0x7f)).to_le_bytes());
    }
    bytes
}

/// A node: the secret of its token.
pub(crate) struct Node(String);

impl Node {
    pub(crate) async fn named(world: &World, label: &str, scopes: &[Scope], namespaces: &[&str]) -> Self {
        let request = TokenRequest {
            label: label.to_owned(),
            scopes: scopes.to_vec(),
            namespaces: namespaces.iter().map(|n| n.parse().unwrap()).collect(),
            jurisdiction: None,
            days: None,
        };
        Self(world.site.tokens().create(request).await.unwrap().0)
    }

    async fn ask(&self, world: &World, path: &str, body: &impl Serialize) -> (StatusCode, String) {
        let request = Request::post(format!("/api/v1/jobs/{path}"))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.0))
            .body(Body::from(serde_json::to_vec(body).unwrap()))
            .unwrap();
        let service = TowerToHyperService::new(router(Arc::clone(&world.site)));
        let answer = service.call(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) async fn take(&self, world: &World) -> Option<Job> {
        let request = TakeRequest { engines: engines() };
        let (status, body) = self.ask(world, "take", &request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str::<Taken>(&body).unwrap().job
    }

    pub(crate) async fn finish(&self, world: &World, found: &FinishRequest) -> StatusCode {
        self.ask(world, "finish", found).await.0
    }
}

fn lease(job: &Job, reason: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        lease: job.lease.clone(),
        reason: reason.map(str::to_owned),
    }
}

/// Lays the files of a release out as a pull does.
fn laid_out(draft: &Draft) -> (tempfile::TempDir, Release) {
    let dir = tempfile::tempdir().unwrap();
    for file in &draft.files {
        std::fs::write(dir.path().join(file.path.as_str()), &file.bytes).unwrap();
    }
    let release = Release {
        manifest: Manifest::parse(draft.manifest.clone()).unwrap(),
        path: dir.path().to_owned(),
    };
    (dir, release)
}

pub(crate) async fn measured(job: &Job, draft: &Draft) -> FinishRequest {
    let (_dir, release) = laid_out(draft);
    let Base::None(why) = job.base.clone() else {
        panic!("{job:?}")
    };
    weigh(job, release, Err(why), &Computer::processor(None))
        .await
        .unwrap()
}

/// A model that can be run.
fn llama() -> Vec<File> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/tests/fixtures/llama");
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    files
        .map(|file| File::new(file, std::fs::read(fixtures.join(file)).unwrap()))
        .into()
}

async fn scorecards(world: &World, draft: &Draft) -> Vec<ScorecardView> {
    let catalogue = world.site.catalogue();
    let found = catalogue.scorecards(&world.admin, &draft.artifact).await;
    found.unwrap().scorecards
}

fn size(world: &World) -> u64 {
    world.site.ledger().checkpoint().checkpoint().size
}

async fn pushed(world: &World) -> Draft {
    let acme = Publisher::begin(world, "acme", 7, Visibility::Private).await;
    let files = vec![File::new("model.safetensors", model(0x3f80))];
    acme.push(world, "acme/tiny", "1.0", files).await.0
}

#[tokio::test]
async fn a_job_is_one_nodes_until_its_lease_ends_and_nothing_late_or_foreign_is_signed() {
    let world = World::new().await;
    let draft = pushed(&world).await;
    let first = Node::named(&world, "node-1", &[Scope::Weigh], &["acme"]).await;
    let second = Node::named(&world, "node-2", &[Scope::Weigh], &["acme"]).await;

    // While it is lent, nobody else has it: no other node, and not the site.
    let lost = first.take(&world).await.unwrap();
    assert_eq!((&lost.artifact, lost.manifest), (&draft.artifact, draft.digest));
    assert!(second.take(&world).await.is_none());
    world.site.weigh_all().await.unwrap();
    assert_eq!(scorecards(&world, &draft).await, []);
    world.clock.advance(LEASE_SECONDS - 1);
    assert_eq!(
        first.ask(&world, "renew", &lease(&lost, None)).await.0,
        StatusCode::OK
    );
    world.clock.advance(LEASE_SECONDS - 1);
    assert!(second.take(&world).await.is_none());

    // The first is not heard of any more: the job is open, and what it hands in comes too late.
    world.clock.advance(1);
    let job = second.take(&world).await.unwrap();
    assert_ne!(job.lease, lost.lease);
    let before = size(&world);
    let late = measured(&lost, &draft).await;
    assert_eq!(first.finish(&world, &late).await, StatusCode::CONFLICT);
    assert_eq!(
        first.ask(&world, "renew", &lease(&lost, None)).await.0,
        StatusCode::CONFLICT
    );

    // What is no answer to the job is refused, and the job stays lent.
    let found = measured(&job, &draft).await;
    assert_eq!(first.finish(&world, &found).await, StatusCode::CONFLICT);
    let mut of_another = found.clone();
    of_another.manifest = waag_schema::Sha256::of(b"another");
    let mut by_another = found.clone();
    by_another.harness.version.push('1');
    let mut in_part = found.clone();
    in_part.sections.pop();
    let mut hollow = found.clone();
    hollow.details.0.clear();
    let mut broken = found.clone();
    broken.details.0.push(b'{');
    let mut twice = found.clone();
    let again = twice.sections[0].results[0].clone();
    twice.sections[0].results.push(again);
    let mut unknown = found.clone();
    unknown.device.class = "abacus".to_owned();
    for bad in [of_another, by_another, in_part, hollow, broken, twice, unknown] {
        let (status, said) = second.ask(&world, "finish", &bad).await;
        assert!(said.contains("does not answer the job"), "{status} {said}");
    }
    assert_eq!(size(&world), before);
    assert_eq!(scorecards(&world, &draft).await, []);

    // The answer is signed once, and says who measured.
    assert_eq!(second.finish(&world, &found).await, StatusCode::NO_CONTENT);
    assert_eq!(second.finish(&world, &found).await, StatusCode::CONFLICT);
    assert_eq!(size(&world), before + 1);
    assert!(first.take(&world).await.is_none());
    world.site.weigh_all().await.unwrap();
    let cards = scorecards(&world, &draft).await;
    let [card] = cards.as_slice() else {
        panic!("{cards:?}")
    };
    assert_eq!(card.scorecard.device.worker.as_deref(), Some("node-2"));

    // Beside that and the time it is what a site finds that weighs by itself.
    let other = World::new().await;
    let same = pushed(&other).await;
    assert_eq!(same.digest, draft.digest);
    other.site.weigh_all().await.unwrap();
    let mut own = scorecards(&other, &same).await.remove(0).scorecard;
    assert_eq!(own.device.worker, None);
    own.at = card.scorecard.at;
    own.device.worker = Some("node-2".to_owned());
    assert_eq!(own, card.scorecard);
}

#[tokio::test]
async fn a_job_that_is_given_back_is_open_at_once_and_one_that_fails_thrice_is_given_up() {
    let world = World::new().await;
    pushed(&world).await;
    let node = Node::named(&world, "node-1", &[Scope::Weigh], &["acme"]).await;
    let job = node.take(&world).await.unwrap();
    let (status, _) = node.ask(&world, "give-up", &lease(&job, None)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for _ in 0..3 {
        let job = node.take(&world).await.unwrap();
        let (status, _) = node.ask(&world, "give-up", &lease(&job, Some("no room"))).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert!(node.take(&world).await.is_none());
}

#[tokio::test]
async fn a_base_is_compared_to_the_same_bits_from_files_as_from_chunks() {
    let world = World::new().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Private).await;
    let base = vec![File::new("model.safetensors", model(0x3f80))];
    let (base, _) = acme.push(&world, "acme/base", "1.0", base).await;
    let tuned = vec![File::new("model.safetensors", model(0x3f81))];
    let (tuned, _) = acme.push(&world, "acme/tuned", "1.0", tuned).await;
    let node = Node::named(&world, "node-1", &[Scope::Weigh], &["acme"]).await;
    let job = node.take(&world).await.unwrap();
    assert_eq!(job.artifact, base.artifact);
    let (_dir, ours) = laid_out(&tuned);
    let (_same, same) = laid_out(&tuned);
    let (_base, theirs) = laid_out(&base);
    let here = Computer::processor(None);
    let identical = weigh(&job, ours.clone(), Ok(same), &here).await.unwrap();
    let changed = weigh(&job, ours, Ok(theirs), &here).await.unwrap();
    let lineage = |found: &FinishRequest| -> Section { found.sections[1].clone() };
    let shown = |section: &Section, metric: &str| section.result(metric).unwrap().to_string();
    assert_eq!(shown(&lineage(&identical), "identical_share"), "1e0");
    assert_eq!(shown(&lineage(&identical), "relative_delta_norm"), "0e0");
    assert_eq!(shown(&lineage(&changed), "tensors_identical"), "0");
}

#[tokio::test]
async fn a_node_gets_only_what_it_may_read_and_evaluate() {
    let world = World::new().await;
    pushed(&world).await;
    let reader = Node::named(&world, "reader", &[Scope::Read, Scope::Publish], &["acme"]).await;
    let admin = Node::named(&world, "admin", &[Scope::Admin], &[]).await;
    for other in [reader, admin] {
        let request = TakeRequest { engines: engines() };
        let (status, said) = other.ask(&world, "take", &request).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(said.contains("scope weigh"), "{said}");
    }
    let stranger = Node::named(&world, "stranger", &[Scope::Weigh], &[]).await;
    assert!(stranger.take(&world).await.is_none());

    let open = Publisher::begin(&world, "open", 8, Visibility::Public).await;
    let chain = open.chain(&world, &"open/tiny".parse().unwrap()).await;
    let draft = open.draft("open/tiny", chain, vec![File::new("model.safetensors", model(7))]);
    let (id, _) = crate::world::send(&world, &world.admin, &draft).await;
    let label = Label::from_cli(&["*".parse().unwrap()], &[], &[Action::Evaluate]).unwrap();
    let envelopes = open.statements(&draft, Some(label), "1.0", None);
    let intake = world.site.intake();
    let published = intake
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await;
    published.unwrap();
    assert!(stranger.take(&world).await.is_none());
    let engines = TakeRequest { engines: Vec::new() };
    let node = Node::named(&world, "node-1", &[Scope::Weigh], &["acme"]).await;
    let (_, body) = node.ask(&world, "take", &engines).await;
    assert!(serde_json::from_str::<Taken>(&body).unwrap().job.is_none());
    assert!(node.take(&world).await.is_some());
}

#[tokio::test]
async fn a_worker_measures_speed_where_the_site_wants_it_and_one_that_cannot_is_said_to_have_left_it_out() {
    let weigh = Weigh {
        speed: true,
        speed_seconds: 1,
        ..Weigh::default()
    };
    let world = World::configured(Config {
        weigh,
        ..Config::default()
    })
    .await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Private).await;
    let node = Node::named(&world, "node-1", &[Scope::Weigh, Scope::Read], &["acme"]).await;
    let speed_of = async |draft: &Draft| {
        let card = scorecards(&world, draft).await.remove(0).scorecard;
        card.section("speed").unwrap().clone()
    };

    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", llama()).await;
    let job = node.take(&world).await.unwrap();
    let asked = job.speed.clone().unwrap();
    assert_eq!((asked.precision.as_str(), asked.seconds), ("f32", 1));
    let found = measured(&job, &draft).await;
    assert_eq!(node.finish(&world, &found).await, StatusCode::NO_CONTENT);
    let speed = speed_of(&draft).await;
    assert_eq!(speed.not_measured, None);
    assert!(speed.result("decode_tokens_per_second.f32").is_some());

    // A worker of an earlier version does not know the question.
    let (draft, _) = acme.push(&world, "acme/other", "1.0", llama()).await;
    let job = node.take(&world).await.unwrap();
    let mut read = serde_json::to_value(&job).unwrap();
    assert!(read.as_object_mut().unwrap().remove("speed").is_some());
    let old: Job = serde_json::from_value(read).unwrap();
    assert_eq!(old.speed, None);
    let found = measured(&old, &draft).await;
    assert_eq!(node.finish(&world, &found).await, StatusCode::NO_CONTENT);
    let speed = speed_of(&draft).await;
    assert_eq!(
        speed.not_measured.as_deref(),
        Some("the worker did not measure it")
    );

    // One that asks for what only a later version knows gets the weights all the same.
    let (draft, _) = acme.push(&world, "acme/later", "1.0", llama()).await;
    let mut job = node.take(&world).await.unwrap();
    job.speed.as_mut().unwrap().precision = "f4".to_owned();
    let found = measured(&job, &draft).await;
    assert_eq!(node.finish(&world, &found).await, StatusCode::NO_CONTENT);
    let reason = speed_of(&draft).await.not_measured.unwrap();
    assert!(reason.contains("`f4`"), "{reason}");

    // What is no model says so.
    let files = vec![File::new("model.safetensors", model(0x3f80))];
    let (draft, _) = acme.push(&world, "acme/bare", "1.0", files).await;
    let job = node.take(&world).await.unwrap();
    let found = measured(&job, &draft).await;
    assert_eq!(node.finish(&world, &found).await, StatusCode::NO_CONTENT);
    let reason = speed_of(&draft).await.not_measured.unwrap();
    assert!(reason.contains("config.json"), "{reason}");
}
