use proptest::prelude::*;
use serde_json::{Value, json};
use waag_schema::Sha256;
use waag_schema::content::Header;
use waag_schema::release::manifest::{MANIFEST_MAX_BYTES, refuse_collisions};
use waag_schema::release::{
    About, BuildError, Built, Kind, Manifest, ManifestBuilder, ManifestError, ModelFacts, Packing, Role,
};

use super::Layout;

const CONFIG_JSON: &[u8] = br#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"float16","rms_norm_eps":1e-5}"#;

fn header() -> Header {
    Layout::default()
        .tensor("model.embed_tokens.weight", "BF16", &[32_000, 4096], 262_144_000)
        .tensor("model.norm.weight", "F32", &[4096], 16_384)
        .header()
}

fn tiny() -> ManifestBuilder {
    let about = About {
        title: Some("acme/tiny".into()),
        version: Some("1.0".into()),
        license: Some("Apache-2.0".into()),
        source: Some("https://example.org/tiny".into()),
        revision: None,
    };
    let facts = ModelFacts::none()
        .with_config_json(CONFIG_JSON)
        .with_header(&header());
    let pinned = |name: &str| format!("{name}@{}", Sha256::of(name.as_bytes())).parse().unwrap();
    ManifestBuilder::new(Kind::Model, about)
        .facts(facts)
        .base(pinned("acme/base"))
        .trained_on(&pinned("acme/text"))
        .trained_on(&pinned("acme/code"))
}

fn with_files(mut builder: ManifestBuilder, paths: &[&str]) -> ManifestBuilder {
    for path in paths {
        builder = builder.file(
            path.parse().unwrap(),
            Sha256::of(path.as_bytes()),
            path.len() as u64,
        );
    }
    builder
}

const PATHS: [&str; 6] = [
    "model.safetensors",
    "config.json",
    "README.md",
    "scripts/run.py",
    "eval/größe.parquet",
    "empty\"quoted\".dat",
];

fn built() -> Built {
    with_files(tiny(), &PATHS).build().unwrap()
}

#[test]
fn the_bytes_of_a_release_are_these() {
    let Built { manifest, config, .. } = built();
    insta::assert_snapshot!("manifest", std::str::from_utf8(manifest.bytes()).unwrap());
    insta::assert_snapshot!("config", std::str::from_utf8(&config).unwrap());
    assert_eq!(manifest.config().digest, Sha256::of(&config));
    assert_eq!(manifest.config().size, config.len() as u64);
}

#[test]
fn the_order_in_which_files_are_added_does_not_matter() {
    let mut backwards = PATHS;
    backwards.reverse();
    assert_eq!(with_files(tiny(), &backwards).build().unwrap(), built());
}

#[test]
fn keys_are_sorted_at_every_level_and_there_are_no_spaces() {
    let Built { manifest, config, .. } = built();
    for bytes in [manifest.bytes(), &config] {
        // A `Value` sorts its keys, so only sorted bytes come back the same.
        let value: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(serde_json::to_vec(&value).unwrap(), bytes);
    }
}

#[test]
fn a_manifest_reads_as_it_was_built() {
    let Built { manifest, .. } = built();
    let read = Manifest::parse(manifest.bytes().to_vec()).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.digest(), Sha256::of(manifest.bytes()));
    assert_eq!(read.kind(), Kind::Model);
    assert_eq!(read.about().title.as_deref(), Some("acme/tiny"));
    assert_eq!(read.about().revision, None);
    assert!(read.base().unwrap().to_string().starts_with("acme/base@sha256:"));
    assert_eq!(read.data().len(), 2);
    let files: Vec<_> = read
        .layers()
        .iter()
        .map(|layer| (layer.path.as_str(), layer.role))
        .collect();
    assert_eq!(
        files,
        [
            ("README.md", Role::Doc),
            ("config.json", Role::WeightConfig),
            ("empty\"quoted\".dat", Role::Doc),
            ("eval/größe.parquet", Role::Dataset),
            ("model.safetensors", Role::Weight),
            ("scripts/run.py", Role::Code),
        ]
    );
    assert_eq!(
        read.total_size(),
        PATHS.iter().map(|path| path.len() as u64).sum::<u64>()
    );
    let layer = read.layer(&"config.json".parse().unwrap()).unwrap();
    assert_eq!(layer.blob.digest, Sha256::of(b"config.json"));
    assert_eq!(layer.packing, Packing::Raw);
}

/// Changes the JSON of a good manifest.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Manifest, ManifestError> {
    let mut value: Value = serde_json::from_slice(built().manifest.bytes()).unwrap();
    change(&mut value);
    Manifest::parse(serde_json::to_vec(&value).unwrap())
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    changed(change).unwrap_err().to_string()
}

fn named(path: &str) -> Value {
    json!({"org.cncf.model.filepath": path, "org.opencontainers.image.title": path})
}

#[test]
fn what_is_not_a_modelpack_manifest_is_refused() {
    let image = "application/vnd.oci.image.config.v1+json";
    assert!(refused(|m| m["schemaVersion"] = json!(1)).contains("schemaVersion is `1`"));
    assert!(refused(|m| m["mediaType"] = json!("text/plain")).contains("mediaType"));
    assert!(refused(|m| m["artifactType"] = json!("text/plain")).contains("artifactType"));
    assert!(refused(|m| m["artifactType"] = Value::Null).contains("artifactType"));
    assert!(refused(|m| m["config"]["mediaType"] = json!(image)).contains(image));
    assert!(refused(|m| m["config"]["digest"] = json!("sha512:00")).contains("the configuration"));
    assert!(refused(|m| m["layers"][1]["mediaType"] = json!("text/plain")).contains("layer 1"));
    assert!(refused(|m| m["layers"][1]["digest"] = json!("sha256:AB")).contains("layer 1"));
    assert!(refused(|m| m["layers"][1]["size"] = json!(-1)).contains("-1"));
    assert!(refused(|m| m["layers"][1]["size"] = json!(1_u64 << 53)).contains("2^53"));
    assert!(refused(|m| m["layers"] = json!([])).contains("no files"));
    assert!(refused(|m| m["layers"][2]["annotations"] = Value::Null).contains("layer 2 names no file"));
    assert!(refused(|m| m["annotations"]["eu.waag.kind"] = json!("Model")).contains("eu.waag.kind"));
    assert!(refused(|m| m["annotations"]["eu.waag.base"] = json!("acme/tiny:1")).contains("eu.waag.base"));
    assert!(refused(|m| m["annotations"]["eu.waag.data"] = json!("")).contains("eu.waag.data"));
    let one = format!("a/b@{}", Sha256::of(b""));
    let many = vec![one; 65].join(",");
    assert!(refused(|m| m["annotations"]["eu.waag.data"] = json!(many)).contains("at most 64"));
    assert!(
        changed(|m| m["future"] = json!({"x": [true, null]})).is_ok(),
        "unknown fields are let through"
    );
    assert!(Manifest::parse(b"{}".to_vec()).is_err());
    let twice = String::from_utf8(built().manifest.into_bytes()).unwrap();
    let twice = twice.replacen('{', r#"{"layers":[],"#, 1);
    assert!(
        Manifest::parse(twice.into_bytes())
            .unwrap_err()
            .to_string()
            .contains("stands twice")
    );
    let large = vec![b' '; MANIFEST_MAX_BYTES + 1];
    assert!(
        Manifest::parse(large)
            .unwrap_err()
            .to_string()
            .contains("at most 4194304")
    );
}

#[test]
fn sizes_that_overflow_together_are_refused() {
    // A size is at most 2^53 - 1, so 2^11 + 1 layers are needed.
    let blob = Sha256::of(b"x").to_string();
    let error = refused(|m| {
        let layers = (0..2050).map(|i| {
            json!({"annotations": named(&format!("f{i}")), "digest": blob, "size": (1_u64 << 53) - 1,
                "mediaType": "application/vnd.cncf.model.weight.v1.raw"})
        });
        m["layers"] = layers.collect();
    });
    assert!(error.contains("overflow"), "{error}");
}

#[test]
fn paths_that_cannot_stand_side_by_side_are_refused() {
    let build = |paths: &[&str]| match with_files(tiny(), paths).build().unwrap_err() {
        BuildError::Manifest(error) => error,
        error => panic!("{error}"),
    };
    assert!(matches!(build(&["a", "b", "a"]), ManifestError::Duplicate(_)));
    assert!(matches!(
        build(&["Readme", "x", "README"]),
        ManifestError::CaseCollision(..)
    ));
    for paths in [
        &["a", "a/b"][..],
        &["A", "a.txt", "a-b", "a/b/c"],
        &["x/Y", "x/y.z", "x/y/z"],
        &["a!", "a", "a/z", "a b"],
    ] {
        assert!(
            matches!(build(paths), ManifestError::FileIsDirectory { .. }),
            "{paths:?}"
        );
    }
    assert!(
        with_files(tiny(), &["a", "ab", "a.b/c", "ab.c", "d/a"])
            .build()
            .is_ok()
    );
    assert!(matches!(build(&[]), ManifestError::Empty));
    assert!(refused(|m| m["layers"][0]["annotations"] = named("../x")).contains(".."));
    assert!(refused(|m| m["layers"][0]["annotations"] = named("/x")).contains("absolute"));
    let two = json!({"org.cncf.model.filepath": "a", "org.opencontainers.image.title": "b"});
    assert!(refused(|m| m["layers"][0]["annotations"] = two).contains("called `a` and `b`"));
}

#[test]
fn manifests_of_modelpacks_own_tools_are_read_under_both_names() {
    let old = String::from_utf8(built().manifest.into_bytes()).unwrap();
    let old = old
        .replace("vnd.cncf.", "vnd.cnai.")
        .replace("org.cncf.", "org.cnai.");
    let manifest = Manifest::parse(old.into_bytes()).unwrap();
    assert_eq!(manifest.layers(), built().manifest.layers());

    let foreign = changed(|m| {
        m["annotations"] = Value::Null;
        m["mediaType"] = Value::Null;
        m["layers"][0]["annotations"] = json!({"org.opencontainers.image.title": "only a title"});
        m["layers"][1]["annotations"] = json!({"org.cncf.model.filepath": "only/a/path"});
        m["layers"][1]["mediaType"] = json!("application/vnd.cncf.model.code.v1.tar+zstd");
    });
    let foreign = foreign.unwrap();
    assert_eq!(foreign.kind(), Kind::Model);
    assert_eq!(foreign.layers()[0].path.as_str(), "only a title");
    assert_eq!(
        (foreign.layers()[1].role, foreign.layers()[1].packing),
        (Role::Code, Packing::TarZstd)
    );
    assert_eq!(foreign.base(), None);

    let only_data = changed(|m| {
        m["annotations"] = Value::Null;
        for layer in m["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = json!("application/vnd.cncf.model.dataset.v1.raw");
        }
    });
    assert_eq!(only_data.unwrap().kind(), Kind::Dataset);
}

#[test]
fn roles_follow_from_names() {
    use Role::{Code, Dataset, Doc, Weight, WeightConfig};
    for (path, in_model, in_dataset) in [
        ("model-00001-of-00002.safetensors", Weight, Dataset),
        ("Model.GGUF", Weight, Dataset),
        ("pytorch_model.bin", Weight, Dataset),
        ("model.safetensors.index.json", WeightConfig, Dataset),
        ("tokenizer.model", WeightConfig, Dataset),
        ("merges.txt", WeightConfig, Dataset),
        ("chat_template.jinja", WeightConfig, Dataset),
        ("README", Doc, Doc),
        ("license.txt", Doc, Doc),
        ("docs/Card.MD", Doc, Doc),
        ("notes.txt", Doc, Dataset),
        ("plot.png", Doc, Dataset),
        (".gitattributes", Doc, Dataset),
        ("load.py", Code, Code),
        ("data/train.jsonl", Dataset, Dataset),
    ] {
        let path = path.parse().unwrap();
        assert_eq!(Role::of(Kind::Model, &path), in_model, "{path}");
        assert_eq!(Role::of(Kind::Dataset, &path), in_dataset, "{path}");
        assert_eq!(Role::of(Kind::Suite, &path), in_dataset, "{path}");
    }
    for role in [Weight, WeightConfig, Doc, Code, Dataset] {
        assert_eq!(
            Role::from_media_type(role.media_type()),
            Some((role, Packing::Raw))
        );
    }
    for bad in [
        "application/vnd.cncf.model.weight.v1",
        "application/vnd.cncf.model.weight.v2.raw",
        "application/vnd.cncf.model..v1.raw",
    ] {
        assert_eq!(Role::from_media_type(bad), None);
    }
}

#[test]
fn kinds_are_called_what_they_print() {
    for kind in [Kind::Model, Kind::Dataset, Kind::Suite] {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}

proptest! {
    #[test]
    fn collisions_are_found_wherever_they_stand(paths in prop::collection::vec("[aAb.]{1,2}(/[aAb-]{1,2}){0,2}", 1..6)) {
        let Ok(paths) = paths.iter().map(|path| path.parse()).collect::<Result<Vec<waag_schema::FilePath>, _>>() else {
            return Ok(());
        };
        let mut collide = false;
        for (i, a) in paths.iter().enumerate() {
            for b in paths.iter().skip(i + 1) {
                let (a, b) = (a.folded(), b.folded());
                collide |= a == b || a.starts_with(&format!("{b}/")) || b.starts_with(&format!("{a}/"));
            }
        }
        prop_assert_eq!(refuse_collisions(paths.iter()).is_err(), collide);
    }

    #[test]
    fn damaged_manifests_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(junk);
        let mut bytes = built().manifest.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Manifest::parse(bytes);
    }
}
