//! Pulling a part of a release, from wherever its bytes are, over whatever is there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use waag_client::ClientError;
use waag_client::cache::ChunkCache;
use waag_client::pull::{PullRequest, Pulled, Selection, plan, pull};
use waag_schema::content::safetensors::{Header, header_length};

use crate::world::{World, files_below, flip, noise, safetensors};

const INDEX: &str = r#"{"metadata":{"total_size":22528000},"weight_map":{
    "a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","d":"2.safetensors"}}"#;

async fn published() -> World {
    let w = World::new().await;
    w.write(
        "model",
        &[
            ("config.json", br#"{"model_type":"llama"}"#),
            ("sub/notes.txt", b"notes"),
            ("1.safetensors", &safetensors(&[("a", 5000, 1), ("b", 9000, 2)])),
            ("2.safetensors", &safetensors(&[("c", 4000, 3), ("d", 10, 4)])),
            ("model.safetensors.index.json", INDEX.as_bytes()),
        ],
    );
    w.push("model", "acme/tiny:1.0").await.unwrap();
    w
}

fn choosing(w: &World, directory: &str, include: &[&str], tensors: Option<&str>) -> PullRequest {
    PullRequest {
        selection: Selection {
            include: include.iter().map(|glob| (*glob).to_owned()).collect(),
            exclude: Vec::new(),
            tensors: tensors.map(|regex| regex.parse().unwrap()),
        },
        ..w.pull_request("acme/tiny:1.0", directory)
    }
}

fn names(root: &Path) -> Vec<String> {
    let found = files_below(root);
    let relative = found
        .iter()
        .map(|file| file.strip_prefix(root).unwrap().display().to_string());
    relative.filter(|name| !name.starts_with(".waag/")).collect()
}

/// What changes when a file is written again.
fn stamp(path: &Path) -> (u64, i64, i64) {
    let meta = fs::metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

/// The tensors of a file, each with its bytes.
fn tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let file = fs::read(path).unwrap();
    let length = header_length(file.first_chunk().unwrap(), file.len() as u64).unwrap() as usize;
    let header = Header::parse(&file[8..8 + length], file.len() as u64).unwrap();
    let bytes = |range: &std::ops::Range<u64>| file[range.start as usize..range.end as usize].to_vec();
    let all = header
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), bytes(&tensor.bytes)));
    all.collect()
}

#[tokio::test]
async fn chosen_files_are_pulled_and_verified_and_others_may_follow() {
    let w = published().await;
    let pulled = pull(&w.site, &choosing(&w, "out", &["config.json"], None))
        .await
        .unwrap();
    assert_eq!((pulled.files, pulled.release_files), (1, 5));
    assert_eq!(names(&w.path("out")), ["config.json"]);
    let partial = w.verify("out").await.unwrap();
    assert_eq!(partial.files, 1);
    assert_eq!(partial.partial.unwrap().release_files, 5);

    pull(&w.site, &choosing(&w, "out", &["sub"], None)).await.unwrap();
    assert_eq!(w.verify("out").await.unwrap().files, 2);
    fs::remove_file(w.path("out/config.json")).unwrap();
    let error = w.verify("out").await.unwrap_err();
    assert!(matches!(error, ClientError::Damaged(_)), "{error}");

    w.pull("acme/tiny:1.0", "out").await.unwrap();
    let verified = w.verify("out").await.unwrap();
    assert_eq!((verified.files, verified.partial), (5, None));
}

#[tokio::test]
async fn choosing_nothing_is_refused_and_says_what_there_is() {
    let w = published().await;
    let error = pull(&w.site, &choosing(&w, "out", &["*.gguf"], None))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("--include *.gguf") && text.contains("1.safetensors"),
        "{text}"
    );
    let error = pull(&w.site, &choosing(&w, "out", &[], Some("^nothing$")))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("^nothing$") && text.contains("a, b, c"), "{text}");
    assert!(!w.path("out").exists());
}

#[tokio::test]
async fn chosen_tensors_become_files_of_their_own_and_only_their_chunks_come() {
    let w = published().await;
    let request = choosing(&w, "out", &[], Some("^[ad]$"));
    let pulled = pull(&w.site, &request).await.unwrap();
    assert_eq!(
        names(&w.path("out")),
        [
            "1.safetensors",
            "2.safetensors",
            "config.json",
            "model.safetensors.index.json",
            "sub/notes.txt"
        ]
    );
    assert!(pulled.received_bytes < 5_300_000, "{pulled:?}");
    for (file, name) in [("1.safetensors", "a"), ("2.safetensors", "d")] {
        let original = tensors(&w.path("model").join(file));
        let expected: Vec<_> = original.into_iter().filter(|(found, _)| found == name).collect();
        assert_eq!(tensors(&w.path("out").join(file)), expected);
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(w.path("out/model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(
        index["weight_map"],
        serde_json::json!({"a": "1.safetensors", "d": "2.safetensors"})
    );
    assert_eq!(index["metadata"]["total_size"], 5010 * 1024);

    let verified = w.verify("out").await.unwrap();
    assert_eq!(verified.partial.unwrap().made_files, 3);
    assert!(verified.extra.is_empty());

    // The same again: nothing is written, and nothing but headers comes.
    let before = stamp(&w.path("out/1.safetensors"));
    let again = pull(&w.site, &request).await.unwrap();
    assert!(again.received_bytes < 1000, "{again:?}");
    assert_eq!(again.reused_bytes, again.bytes);
    assert_eq!(stamp(&w.path("out/1.safetensors")), before);

    flip(&w.path("out/2.safetensors"));
    let error = w.verify("out").await.unwrap_err();
    assert!(error.to_string().contains("2.safetensors"), "{error}");
    let forced = PullRequest {
        force: true,
        ..request
    };
    pull(&w.site, &forced).await.unwrap();
    w.verify("out").await.unwrap();

    // One file has none of them: it is left out, and so the index does not name it.
    pull(&w.site, &choosing(&w, "few", &["*.safetensors*"], Some("^c$")))
        .await
        .unwrap();
    assert_eq!(
        names(&w.path("few")),
        ["2.safetensors", "model.safetensors.index.json"]
    );
}

#[tokio::test]
async fn bytes_are_taken_from_a_named_directory_wherever_they_lie_in_it() {
    let w = published().await;
    // The tensors under other names, in another order, in a file of another name, that nobody pulled.
    w.write(
        "old/deep",
        &[(
            "other",
            &safetensors(&[("y", 9000, 2), ("longer name", 5000, 1), ("z", 100, 9)]),
        )],
    );
    let request = PullRequest {
        reuse: vec![w.path("old")],
        ..w.pull_request("acme/tiny:1.0", "out")
    };
    let planned = plan(&w.site, &request).await.unwrap();
    assert_eq!(planned.reused.named_bytes, 14000 * 1024);
    assert!(!w.path("out").exists(), "a plan writes nothing");
    let pulled = pull(&w.site, &request).await.unwrap();
    assert_eq!(pulled.reused_bytes, 14000 * 1024);
    assert_eq!(pulled.received_bytes, planned.fetch_bytes);
    assert_eq!(pulled.received_bytes, pulled.bytes - pulled.reused_bytes);
    w.verify("out").await.unwrap();

    let missing = PullRequest {
        reuse: vec![w.path("nowhere")],
        ..w.pull_request("acme/tiny:1.0", "more")
    };
    let error = pull(&w.site, &missing).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn what_moved_within_a_file_is_not_fetched_and_what_did_not_change_is_not_written() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    let kept = ["2.safetensors", "config.json", "sub/notes.txt"];
    let before: Vec<_> = kept.iter().map(|name| stamp(&w.path("out").join(name))).collect();
    // A longer name moves everything behind the header.
    let renamed = safetensors(&[("a renamed tensor", 5000, 1), ("b", 9000, 2)]);
    w.write("model", &[("1.safetensors", &renamed)]);
    w.push("model", "acme/tiny:2.0").await.unwrap();

    let request = w.pull_request("acme/tiny:2.0", "out");
    let planned = plan(&w.site, &request).await.unwrap();
    assert_eq!((planned.write_files, planned.fetch_chunks), (1, 1));
    assert_eq!(planned.reused.target_bytes, 14000 * 1024);
    let pulled = pull(&w.site, &request).await.unwrap();
    assert!(pulled.received_bytes < 1000, "{pulled:?}");
    assert_eq!(
        pulled.received_bytes + pulled.reused_bytes,
        pulled.bytes,
        "{pulled:?}"
    );
    let after: Vec<_> = kept.iter().map(|name| stamp(&w.path("out").join(name))).collect();
    assert_eq!(before, after);
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn what_no_pull_has_put_there_is_not_replaced() {
    let w = published().await;
    w.write("mine", &[("thesis.txt", b"mine"), ("config.json", b"mine too")]);
    let error = w.pull("acme/tiny:1.0", "mine").await.unwrap_err();
    assert!(matches!(error, ClientError::Occupied { .. }), "{error}");
    assert_eq!(names(&w.path("mine")), ["config.json", "thesis.txt"]);
    assert!(!w.path("mine/.waag").exists());

    // Another artifact's directory.
    w.push("model", "acme/other:1.0").await.unwrap();
    w.pull("acme/other:1.0", "out").await.unwrap();
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(error.to_string().contains("acme/other"), "{error}");

    // A file that was changed, and one that lies where the next version puts one.
    w.write("model", &[("config.json", b"{}"), ("new.txt", b"new")]);
    w.push("model", "acme/other:2.0").await.unwrap();
    w.write("out", &[("config.json", b"tuned"), ("new.txt", b"mine")]);
    let error = w.pull("acme/other:2.0", "out").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Modified(paths) if paths == &["config.json", "new.txt"]),
        "{error}"
    );
    assert_eq!(fs::read(w.path("out/config.json")).unwrap(), b"tuned");
    w.force("acme/other:2.0", "out").await.unwrap();
    w.verify("out").await.unwrap();
    w.force("acme/tiny:1.0", "mine").await.unwrap();
    assert_eq!(fs::read(w.path("mine/thesis.txt")).unwrap(), b"mine");
    w.verify("mine").await.unwrap();
}

#[tokio::test]
async fn a_pull_that_was_broken_off_knows_its_own_files_again() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    // As if a pull of another version had ended after it named its first file.
    let digest = waag_schema::Sha256::of(b"of a later version").hex();
    fs::write(
        w.path("out/.waag/pulling"),
        format!("{digest} config.json\ncut off"),
    )
    .unwrap();
    fs::write(w.path("out/config.json"), "of a later version").unwrap();
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    w.verify("out").await.unwrap();
    assert!(!w.path("out/.waag/pulling").exists());
}

#[tokio::test]
async fn pulls_share_a_cache_in_which_damage_is_no_harm() {
    let w = published().await;
    let cache = w.path("cache");
    let into = async |directory: &str, limit: u64| -> Pulled {
        let request = PullRequest {
            cache: Some(ChunkCache::new(&cache, limit)),
            ..w.pull_request("acme/tiny:1.0", directory)
        };
        pull(&w.site, &request).await.unwrap()
    };
    // Too much of the cache for one pull: nothing is kept.
    let first = into("first", 64 << 20).await;
    assert_eq!((first.received_bytes, cache.exists()), (first.bytes, false));
    let second = into("second", 1 << 30).await;
    assert_eq!(second.received_bytes, second.bytes);
    let third = into("third", 1 << 30).await;
    assert_eq!((third.received_bytes, third.reused_bytes), (0, third.bytes));
    w.verify("third").await.unwrap();

    let largest = files_below(&cache)
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let length = fs::metadata(&largest).unwrap().len();
    flip(&largest);
    let fourth = into("fourth", 1 << 30).await;
    assert_eq!(fourth.received_bytes, length);
    w.verify("fourth").await.unwrap();
}

#[tokio::test]
async fn a_sparse_file_comes_once_and_stays_sparse() {
    let w = World::new().await;
    w.write("model", &[("end.bin", b"end")]);
    let length = 64 << 20;
    let zeros = fs::File::create(w.path("model/zeros.bin")).unwrap();
    zeros.set_len(length).unwrap();
    w.push("model", "acme/tiny:1.0").await.unwrap();
    let pulled = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert!(pulled.received_bytes <= 5 << 20, "{pulled:?}");
    let meta = fs::metadata(w.path("out/zeros.bin")).unwrap();
    assert_eq!(meta.len(), length);
    assert!(meta.blocks() * 512 < length / 2, "{} blocks", meta.blocks());
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn many_small_files_and_names_of_one_content_all_come() {
    let w = World::new().await;
    for i in 0..200_u64 {
        let bytes = noise(i / 2, 300);
        w.write(
            "model",
            &[(format!("{}/{i}.bin", i % 20).as_str(), bytes.as_slice())],
        );
    }
    w.push("model", "acme/tiny:1.0").await.unwrap();
    let pulled = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!((pulled.files, pulled.received_bytes), (200, 100 * 300));
    assert_eq!(names(&w.path("model")), names(&w.path("out")));
    w.verify("out").await.unwrap();
    // One of two names has gone: it is copied from the other.
    fs::remove_file(w.path("out/0/0.bin")).unwrap();
    let again = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!(again.received_bytes, 0);
    w.verify("out").await.unwrap();
}

#[expect(
    clippy::print_stderr,
    reason = "whoever reads the log must see that nothing was tested"
)]
#[tokio::test]
async fn a_target_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt as _;

    let w = published().await;
    fs::create_dir(w.path("out")).unwrap();
    fs::set_permissions(w.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(w.path("out/probe"), "").is_ok() {
        eprintln!("skipped: this user may write to read-only directories");
        return;
    }
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(matches!(&error, ClientError::Io { .. }), "{error}");
    assert!(error.to_string().contains(".waag"), "{error}");
}
