//! What a site asks its models: suites are checked when they are published, and their labels and readers are minded.

use std::path::Path;

use waag_registry::config::{Config, Weigh};
use waag_schema::policy::{Action, Label};
use waag_schema::release::kind::Kind;
use waag_schema::statement::Visibility;

use crate::world::{Draft, File, Publisher, World};

fn fixture(path: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/tests/fixtures");
    std::fs::read(fixtures.join(path)).unwrap()
}

fn tasks() -> Vec<File> {
    let files = ["choice.yaml", "choice.jsonl", "rolling.yaml", "rolling.jsonl"];
    files
        .map(|file| format!("tasks/{file}"))
        .map(|path| File::new(&path, fixture(&path)))
        .into()
}

fn llama() -> Vec<File> {
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    files
        .map(|file| File::new(file, fixture(&format!("llama/{file}"))))
        .into()
}

async fn world() -> World {
    let weigh = Weigh {
        suites: vec!["tests/short:1".to_owned()],
        ..Weigh::default()
    };
    World::configured(Config {
        weigh,
        ..Config::default()
    })
    .await
}

/// Publishes a suite, or says why it was refused.
async fn publish(
    world: &World,
    publisher: &Publisher,
    files: Vec<File>,
    label: Option<Label>,
) -> Result<Draft, String> {
    let chain = publisher.chain(world, &"tests/short".parse().unwrap()).await;
    let draft = publisher.draft_of(Kind::Suite, "tests/short", chain, files);
    let (id, _) = crate::world::send(world, &world.admin, &draft).await;
    let envelopes = publisher.statements(&draft, label, "1", None);
    let intake = world.site.intake();
    let published = intake
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await;
    published.map(|_| draft).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_suite_that_cannot_be_asked_is_refused_by_the_name_of_its_file() {
    let world = world().await;
    let tests = Publisher::begin(&world, "tests", 8, Visibility::Public).await;
    for (bad, words) in [
        (
            File::new("tasks/choice.yaml", b"task: [".to_vec()),
            "tasks/choice.yaml",
        ),
        (
            File::new("tasks/choice.jsonl", b"{}\n".to_vec()),
            "tasks/choice.yaml",
        ),
        (File::new("tasks/choice.jsonl", b"\n".to_vec()), "no documents"),
        (
            File::new(
                "tasks/choice.yaml",
                b"task: x\noutput_type: generate_until\n".to_vec(),
            ),
            "generate_until",
        ),
        (
            File::new("tasks/rolling.yaml", {
                let mut stated = fixture("tasks/rolling.yaml");
                stated.extend_from_slice(b"\nmetadata: {tolerance: .nan}\n");
                stated
            }),
            "tasks/rolling.yaml",
        ),
    ] {
        let mut files = tasks();
        let place = files.iter_mut().find(|file| file.path == bad.path).unwrap();
        *place = bad;
        let refused = publish(&world, &tests, files, None).await.err().unwrap();
        assert!(refused.contains(words), "{refused}");
    }
    let mut files = tasks();
    files.retain(|file| file.path.as_str() != "tasks/choice.jsonl");
    let refused = publish(&world, &tests, files, None).await.err().unwrap();
    assert!(refused.contains("tasks/choice.jsonl"), "{refused}");
    let refused = publish(&world, &tests, vec![File::new("notes.txt", b"x".to_vec())], None).await;
    assert!(refused.err().unwrap().contains("no task description"));
    publish(&world, &tests, tasks(), None).await.unwrap();
}

#[tokio::test]
async fn what_a_closed_suite_found_on_each_request_is_closed_too() {
    let world = world().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let tests = Publisher::begin(&world, "tests", 8, Visibility::Private).await;
    let suite = publish(&world, &tests, tasks(), None).await.unwrap();
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", llama()).await;
    world.site.weigh_all().await.unwrap();
    world.site.weigh_all().await.unwrap();
    let catalogue = world.site.catalogue();
    let stranger = waag_registry::access::Caller::anonymous();
    let found = catalogue.scorecards(&stranger, &draft.artifact).await.unwrap();
    assert_eq!(found.weighing, []);
    let mut on_suites = found
        .scorecards
        .iter()
        .filter(|view| view.scorecard.suite.is_some());
    let card = &on_suites.next().unwrap().scorecard;
    assert_eq!(on_suites.count(), 0);
    assert_eq!(card.suite.as_ref().unwrap().manifest, suite.digest);
    let language = card.section("language").unwrap();
    assert_eq!(language.not_measured, None);
    assert!(language.result_of("waag_choice", "acc_norm").is_some());
    let named = card.details.as_ref().unwrap().sha256;
    let hidden = catalogue
        .scorecard_details(&stranger, &draft.artifact, &named)
        .await;
    assert!(hidden.is_err());
    let details = catalogue
        .scorecard_details(&world.admin, &draft.artifact, &named)
        .await
        .unwrap();
    let text = String::from_utf8(details.to_vec()).unwrap();
    assert!(text.contains("loglikelihood") && !text.contains("Stuttgart"));

    let before = world.index().await;
    let world = world
        .restart(|data| std::fs::remove_file(data.join("index.db")).unwrap())
        .await
        .unwrap();
    assert_eq!(world.index().await, before);
}

#[tokio::test]
async fn a_suite_whose_label_denies_it_is_not_asked() {
    let world = world().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let tests = Publisher::begin(&world, "tests", 8, Visibility::Public).await;
    let label = Label::from_cli(&["*".parse().unwrap()], &[], &[Action::Evaluate]).unwrap();
    publish(&world, &tests, tasks(), Some(label)).await.unwrap();
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", llama()).await;
    world.site.weigh_all().await.unwrap();
    let found = world
        .site
        .catalogue()
        .scorecards(&world.admin, &draft.artifact)
        .await
        .unwrap();
    assert!(found.scorecards.iter().all(|view| view.scorecard.suite.is_none()));
}

#[tokio::test]
async fn a_model_that_is_broken_is_said_to_be_and_is_asked_once() {
    let world = world().await;
    let acme = Publisher::begin(&world, "acme", 7, Visibility::Public).await;
    let tests = Publisher::begin(&world, "tests", 8, Visibility::Public).await;
    publish(&world, &tests, tasks(), None).await.unwrap();
    let mut files = llama();
    let config = String::from_utf8(fixture("llama/config.json")).unwrap();
    let config = config.replace("\"num_hidden_layers\": ", "\"num_hidden_layers\": 9");
    files[0] = File::new("config.json", config.into_bytes());
    let (draft, _) = acme.push(&world, "acme/tiny", "1.0", files).await;
    world.site.weigh_all().await.unwrap();
    world.site.weigh_all().await.unwrap();
    let catalogue = world.site.catalogue();
    let found = catalogue.scorecards(&world.admin, &draft.artifact).await.unwrap();
    let on_suites: Vec<_> = found
        .scorecards
        .iter()
        .filter(|view| view.scorecard.suite.is_some())
        .collect();
    let [view] = on_suites.as_slice() else {
        panic!("{on_suites:?}")
    };
    let reason = view.scorecard.section("language").unwrap().not_measured.clone();
    assert!(reason.unwrap().contains("model.layers."), "{view:?}");
}
