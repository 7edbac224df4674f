//! Manifests, what a file is for, and which release statements fit which manifest.

use serde_json::{Value, json};
use waag_schema::Sha256;
use waag_schema::release::manifest::Manifest;
use waag_schema::release::{About, Built, Kind, ManifestBuilder, Role};

use super::text;

/// The files of the release that the vectors speak of.
pub(super) const FILES: [(&str, &[u8]); 3] = [
    ("README.md", b"# Tiny\n"),
    ("config.json", b"{\"model_type\":\"tiny\"}"),
    ("sub/notes.txt", b"# Tiny\n"),
];

pub(super) fn built() -> Built {
    let about = About {
        title: Some("Tiny".to_owned()),
        license: Some("Apache-2.0".to_owned()),
        ..About::default()
    };
    let base = format!("acme/base@{}", Sha256::of(b"base")).parse().unwrap();
    let data = format!("acme/data@{}", Sha256::of(b"data")).parse().unwrap();
    let files = FILES.into_iter().rev();
    files
        .fold(
            ManifestBuilder::new(Kind::Model, about),
            |builder, (path, bytes)| {
                builder.file(path.parse().unwrap(), Sha256::of(bytes), bytes.len() as u64)
            },
        )
        .base(base)
        .trained_on(&data)
        .build()
        .unwrap()
}

pub(super) fn vectors() -> Value {
    let Built { manifest, config, .. } = built();
    let foreign = foreign();
    json!({
        "manifests": [
            view(&manifest, Some(&config)),
            view(&Manifest::parse(foreign.into_bytes()).unwrap(), None),
        ],
        "manifests_refused": refused(text(manifest.bytes())),
        "roles": roles(),
    })
}

/// As older tools of ModelPack write it: other names, an archive, no mediaType.
fn foreign() -> String {
    let digest = Sha256::of(b"x");
    format!(
        r#"{{
  "schemaVersion": 2,
  "artifactType": "application/vnd.cnai.model.manifest.v1+json",
  "config": {{"mediaType": "application/vnd.cnai.model.config.v1+json", "digest": "{digest}", "size": 1}},
  "layers": [
    {{"mediaType": "application/vnd.cnai.model.dataset.v1.tar", "digest": "{digest}", "size": 1,
      "annotations": {{"org.cnai.model.filepath": "data"}}}}
  ]
}}"#
    )
}

fn view(manifest: &Manifest, config: Option<&[u8]>) -> Value {
    let file = |layer: &waag_schema::release::Layer| {
        json!({
            "path": layer.path,
            "digest": layer.blob.digest,
            "size": layer.blob.size,
            "role": format!("{:?}", layer.role),
            "packing": format!("{:?}", layer.packing),
        })
    };
    json!({
        "manifest": text(manifest.bytes()),
        "config": config.map(text),
        "digest": manifest.digest(),
        "kind": manifest.kind(),
        "config_digest": manifest.config().digest,
        "files": manifest.layers().iter().map(file).collect::<Vec<_>>(),
        "base": manifest.base().map(ToString::to_string),
        "data": manifest.data().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn refused(good: &str) -> Vec<Value> {
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let layers = good.find(r#""layers":["#).unwrap() + r#""layers":["#.len();
    let layers_end = good.rfind("],\"mediaType\"").unwrap();
    let rows = [
        (
            "schemaVersion 1",
            replaced(r#""schemaVersion":2"#, r#""schemaVersion":1"#),
        ),
        (
            "another mediaType",
            replaced("vnd.oci.image.manifest.v1+json", "vnd.oci.image.index.v1+json"),
        ),
        (
            "another artifactType",
            replaced("model.manifest.v1+json", "other.manifest.v1+json"),
        ),
        (
            "another type of config",
            replaced("model.config.v1+json", "other.config.v1+json"),
        ),
        (
            "a layer of a type that ModelPack has not",
            replaced("model.doc.v1.raw", "model.doc.v2.raw"),
        ),
        (
            "a digest in upper case",
            replaced("\"digest\":\"sha256:", "\"digest\":\"SHA256:"),
        ),
        ("a file twice", replaced("sub/notes.txt", "README.md")),
        (
            "two files that differ in case only",
            replaced("sub/notes.txt", "readme.MD"),
        ),
        (
            "a file that is a directory",
            replaced("sub/notes.txt", "config.json/x"),
        ),
        (
            "a path that leaves the directory",
            replaced("sub/notes.txt", "../notes.txt"),
        ),
        (
            "two names for one file",
            replaced(
                r#""org.opencontainers.image.title":"sub/"#,
                r#""org.opencontainers.image.title":"bus/"#,
            ),
        ),
        (
            "a layer without a name",
            replaced("org.cncf.model.filepath", "a").replace("org.opencontainers.image.title", "b"),
        ),
        ("no files", format!("{}{}", &good[..layers], &good[layers_end..])),
        (
            "an unknown kind",
            replaced(r#""eu.waag.kind":"model""#, r#""eu.waag.kind":"Model""#),
        ),
        (
            "a base that is a tag",
            replaced(&format!("acme/base@{}", Sha256::of(b"base")), "acme/base:latest"),
        ),
        ("a key twice", good.replacen('{', r#"{"schemaVersion":2,"#, 1)),
    ];
    for (why, manifest) in &rows {
        assert!(Manifest::parse(manifest.clone().into_bytes()).is_err(), "{why}");
    }
    rows.map(|(why, manifest)| json!({"why": why, "manifest": manifest}))
        .into()
}

fn roles() -> Vec<Value> {
    let paths = [
        "model.safetensors",
        "a/MODEL.GGUF",
        "config.json",
        "merges.txt",
        "README",
        "docs/x.md",
        "LICENSE.txt",
        "run.py",
        "train.parquet",
        "notes.txt",
        "tokenizer.model",
        ".gitattributes",
    ];
    let kinds = [Kind::Model, Kind::Dataset];
    let row = |kind: Kind, path: &str| {
        let role = Role::of(kind, &path.parse().unwrap());
        json!([kind, path, role.media_type()])
    };
    kinds
        .into_iter()
        .flat_map(|kind| paths.into_iter().map(move |path| row(kind, path)))
        .collect()
}
