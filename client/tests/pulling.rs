//! Pulling and verifying: what comes is what was signed, or the file is named.

use std::fs;
use std::os::unix::fs::symlink;

use waag_client::error::Fault;
use waag_client::pull::plan;
use waag_client::push::PushRequest;
use waag_client::{ClientError, Home, event, verify};
use waag_schema::FilePath;

use crate::world::{World, files_below, flip, names_file, noise, safetensors};

async fn published() -> World {
    let w = World::new().await;
    w.write(
        "model",
        &[
            ("config.json", br#"{"model_type":"llama"}"#),
            ("sub/notes.txt", b"notes"),
            ("sub/empty", b""),
            (
                "model.safetensors",
                &safetensors(&[("a", 5000, 1), ("b", 9000, 2)]),
            ),
        ],
    );
    w.push("model", "acme/tiny:1.0").await.unwrap();
    w
}

#[tokio::test]
async fn what_is_pulled_is_what_was_pushed_and_verifies_without_the_site() {
    let w = published().await;
    let pulled = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!((pulled.received_bytes, pulled.reused_bytes), (pulled.bytes, 0));
    for file in files_below(&w.path("model")) {
        let name = file.strip_prefix(w.path("model")).unwrap();
        assert_eq!(
            fs::read(&file).unwrap(),
            fs::read(w.path("out").join(name)).unwrap()
        );
    }
    let beside: Vec<_> = files_below(&w.path("out/.waag"));
    assert_eq!(beside, [w.path("out/.waag/proof.json")]);

    let World {
        dir,
        running,
        home,
        key,
        site,
    } = w;
    running.stop().await;
    let out = dir.path().join("out");
    let verified = verify::verify(&home, &out, &event::silent()).await.unwrap();
    assert_eq!((verified.digest, verified.entry), (pulled.digest, pulled.entry));
    assert_eq!(verified.signed_by, [key.public().fingerprint()]);
    assert_eq!(&verified.site, &site.pin().site);
    assert!(verified.extra.is_empty());

    fs::write(out.join("more.txt"), "x").unwrap();
    assert_eq!(
        verify::verify(&home, &out, &event::silent()).await.unwrap().extra,
        ["more.txt"]
    );
    flip(&out.join("model.safetensors"));
    fs::remove_file(out.join("config.json")).unwrap();
    fs::write(out.join("sub/notes.txt"), "longer than before").unwrap();
    let error = verify::verify(&home, &out, &event::silent()).await.unwrap_err();
    let ClientError::Damaged(bad) = error else {
        panic!("{error}")
    };
    assert_eq!(bad.len(), 3);
    assert!(matches!(
        (&*bad[0].path, &bad[0].fault),
        ("config.json", Fault::Missing)
    ));
    assert!(matches!(
        (&*bad[1].path, &bad[1].fault),
        ("model.safetensors", Fault::Digest { .. })
    ));
    assert!(matches!(
        (&*bad[2].path, &bad[2].fault),
        ("sub/notes.txt", Fault::Size { .. })
    ));
}

#[tokio::test]
async fn verify_believes_pins_only_and_notices_another_proof() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    let stranger = Home::new(w.path("stranger"));
    let error = verify::verify(&stranger, &w.path("out"), &event::silent())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not pinned"), "{error}");
    let error = w.verify("model").await.unwrap_err();
    assert!(matches!(error, ClientError::Absent(_)), "{error}");

    let path = w.path("out/.waag/proof.json");
    let good = fs::read_to_string(&path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&good).unwrap();
    for (pointer, value) in [
        ("/artifact", "acme/other"),
        ("/asked", "2.0"),
        ("/manifest", "e30="),
        ("/proof/checkpoint", "nonsense"),
    ] {
        let mut forged = json.clone();
        *forged.pointer_mut(pointer).unwrap() = value.into();
        fs::write(&path, forged.to_string()).unwrap();
        let error = w.verify("out").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Verification { .. }),
            "{pointer}: {error}"
        );
    }
    for entry in 0..3 {
        let mut forged = json.clone();
        forged["proof"]["entries"].as_array_mut().unwrap().remove(entry);
        fs::write(&path, forged.to_string()).unwrap();
        let error = w.verify("out").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Verification { .. }),
            "{entry}: {error}"
        );
    }
    fs::write(&path, good).unwrap();
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn a_second_pull_fetches_only_what_is_not_right() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    let again = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!((again.received_bytes, again.reused_bytes), (0, again.bytes));
    let mut request = w.pull_request("acme/tiny:1.0", "out");
    request.reuse = vec![w.path("nowhere")];
    let error = plan(&w.site, &request).await.unwrap_err();
    assert!(matches!(error, ClientError::Io { .. }), "{error}");

    flip(&w.path("out/model.safetensors"));
    // Nobody can know whether the change was made on purpose.
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Modified(paths) if paths == &["model.safetensors"]),
        "{error}"
    );
    let repaired = w.force("acme/tiny:1.0", "out").await.unwrap();
    assert!(
        repaired.received_bytes > 0 && repaired.received_bytes <= 4 << 20,
        "{repaired:?}"
    );
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn a_broken_pull_goes_on_where_it_stopped() {
    let w = published().await;
    let full = w.pull("acme/tiny:1.0", "out").await.unwrap();
    // As a pull leaves it that ended in the middle of the largest file.
    let model = w.path("out/model.safetensors");
    let digest = waag_schema::Sha256::of(&fs::read(&model).unwrap());
    let mut bytes = fs::read(&model).unwrap();
    let length = bytes.len();
    bytes[length / 2..].fill(0);
    fs::create_dir_all(w.path("out/.waag/partial")).unwrap();
    fs::write(w.path("out/.waag/partial").join(digest.hex()), bytes).unwrap();
    fs::remove_file(model).unwrap();
    let resumed = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert!(
        resumed.received_bytes < full.received_bytes * 3 / 4,
        "{resumed:?}"
    );
    assert!(resumed.reused_bytes > full.bytes / 4);
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn a_damaged_chunk_of_the_site_names_the_file_and_writes_nothing_wrong() {
    let w = published().await;
    let chunks = files_below(&w.path("data/store"));
    let largest = chunks
        .iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    flip(largest);
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    names_file(&error, "model.safetensors");
    assert!(!w.path("out/model.safetensors").exists());
    flip(largest);
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn a_pull_does_not_follow_links_out_of_its_directory() {
    let w = published().await;
    let elsewhere = w.write("elsewhere", &[("keep", b"keep")]);
    fs::create_dir_all(w.path("out")).unwrap();
    symlink(&elsewhere, w.path("out/sub")).unwrap();
    let error = w.force("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(matches!(error, ClientError::Usage(_)), "{error}");
    assert_eq!(files_below(&elsewhere).len(), 1);

    fs::remove_file(w.path("out/sub")).unwrap();
    symlink(elsewhere.join("keep"), w.path("out/config.json")).unwrap();
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(matches!(error, ClientError::Modified(_)), "{error}");
    w.force("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!(fs::read(elsewhere.join("keep")).unwrap(), b"keep");
    w.verify("out").await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_a_link_is_not_what_was_pulled() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    fs::rename(w.path("out/sub"), w.path("elsewhere")).unwrap();
    symlink("../elsewhere", w.path("out/sub")).unwrap();
    let error = w.verify("out").await.unwrap_err();
    let ClientError::Damaged(bad) = error else {
        panic!("{error}")
    };
    assert_eq!(bad.len(), 2);
    assert_eq!(bad[0].to_string(), "sub/empty: its directory sub is a link");
}

#[tokio::test]
async fn what_the_next_release_has_not_goes_unless_it_was_changed() {
    let w = World::new().await;
    let shards: Vec<(&str, &[u8])> = vec![("1.bin", b"one"), ("2.bin", b"two"), ("old/deep/3.bin", b"three")];
    w.write("model", &shards);
    w.write("model", &[("old/4.bin", b"four"), ("2.BIN.txt", b"notes")]);
    w.push("model", "acme/sh:latest").await.unwrap();
    w.pull("acme/sh", "out").await.unwrap();
    w.write("out", &[("mine.txt", b"mine"), ("old/4.bin", b"mine now")]);
    fs::remove_dir_all(w.path("model")).unwrap();
    w.write("model", &[("1.bin", b"one"), ("new.bin", b"new")]);
    w.push("model", "acme/sh:latest").await.unwrap();

    // A part of a release takes nothing's place.
    let mut part = w.pull_request("acme/sh", "out");
    part.selection.include = vec!["1.bin".to_owned()];
    let planned = plan(&w.site, &part).await.unwrap();
    assert!(planned.remove_files.is_empty() && planned.changed_files.is_empty());

    let planned = plan(&w.site, &w.pull_request("acme/sh", "out")).await.unwrap();
    let named = |paths: &[FilePath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        named(&planned.remove_files),
        ["2.BIN.txt", "2.bin", "old/deep/3.bin"]
    );
    assert_eq!(named(&planned.changed_files), ["old/4.bin"]);
    assert!(w.path("out/2.bin").exists());
    let pulled = w.pull("acme/sh", "out").await.unwrap();
    assert_eq!(pulled.removed_files, 3);
    assert_eq!(named(&pulled.changed_files), ["old/4.bin"]);
    assert!(!w.path("out/old/deep").exists());
    assert_eq!(w.verify("out").await.unwrap().extra, ["mine.txt", "old/4.bin"]);
    // What is nobody's any more is not warned of again.
    let again = w.pull("acme/sh", "out").await.unwrap();
    assert_eq!((again.removed_files, again.changed_files.len()), (0, 0));
}

#[tokio::test]
async fn what_an_interrupted_pull_has_left_is_known_by_its_journal() {
    let w = published().await;
    w.write("out", &[("stale.bin", b"stale"), ("config.json", b"{}")]);
    let digest = waag_schema::Sha256::of(b"stale").hex();
    let journal = format!("pull acme/tiny:0.9\n{digest} stale.bin\n{digest} config.json\n");
    w.write("out", &[(".waag/pulling", journal.as_bytes())]);
    let error = w.verify("out").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Interrupted { reference, .. } if reference.to_string() == "acme/tiny:0.9"),
        "{error}"
    );
    let error = w.pull("acme/tiny:1.0", "out").await.unwrap_err();
    assert!(matches!(error, ClientError::Modified(_)), "{error}");
    fs::remove_file(w.path("out/config.json")).unwrap();
    assert_eq!(w.pull("acme/tiny:1.0", "out").await.unwrap().removed_files, 1);
    assert!(w.verify("out").await.unwrap().extra.is_empty());
}

#[tokio::test]
async fn another_version_reuses_what_is_there_and_foreign_files_stay() {
    let w = published().await;
    w.pull("acme/tiny:1.0", "out").await.unwrap();
    w.write("out", &[("mine.txt", b"mine")]);
    let mut layers = safetensors(&[("a", 5000, 1), ("b", 9000, 2)]);
    let end = layers.len();
    layers[end - 100..].copy_from_slice(&noise(5, 100));
    w.write("model", &[("model.safetensors", &layers)]);
    w.push("model", "acme/tiny:2.0").await.unwrap();
    let pulled = w.pull("acme/tiny:2.0", "out").await.unwrap();
    assert!(pulled.received_bytes <= 4 << 20, "{pulled:?}");
    let verified = w.verify("out").await.unwrap();
    assert_eq!(verified.extra, ["mine.txt"]);
    assert_eq!(verified.tag.unwrap().as_str(), "2.0");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let w = published().await;
    for reference in ["acme/tiny:9", "acme/other:1.0", "nobody/tiny:1.0"] {
        let error = w.pull(reference, "none").await.unwrap_err();
        assert!(matches!(error, ClientError::NotFound(_)), "{reference}: {error}");
        assert!(!w.path("none").exists());
    }
    let digest = w
        .site
        .artifact(&"acme/tiny".parse().unwrap())
        .await
        .unwrap()
        .releases[0]
        .manifest;
    let pulled = w.pull(&format!("acme/tiny@{digest}"), "by-digest").await.unwrap();
    assert_eq!((pulled.tag, pulled.digest), (None, digest));
    w.verify("by-digest").await.unwrap();
}

#[tokio::test]
async fn weights_cross_the_network_and_lie_at_the_site_encoded_and_arrive_as_they_were() {
    let w = World::new().await;
    let weights = bf16_safetensors(2 << 20);
    let text = "a line of a readme, and another one\n".repeat(2000);
    w.write(
        "model",
        &[("w.safetensors", &weights), ("README.md", text.as_bytes())],
    );
    let pushed = w.push("model", "acme/tiny:1.0").await.unwrap();
    assert!(pushed.sent_bytes > pushed.bytes, "{pushed:?}");
    assert!(pushed.wire_bytes * 10 < pushed.sent_bytes * 7, "{pushed:?}");
    let stored: u64 = files_below(&w.path("data"))
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(stored * 10 < pushed.bytes * 8, "{stored} bytes at the site");

    let pulled = w.pull("acme/tiny:1.0", "out").await.unwrap();
    assert_eq!(pulled.received_bytes, pulled.bytes);
    assert!(pulled.wire_bytes * 10 < pulled.received_bytes * 7, "{pulled:?}");
    assert!(fs::read(w.path("out/w.safetensors")).unwrap() == weights);
    assert_eq!(fs::read_to_string(w.path("out/README.md")).unwrap(), text);

    // As they are, when that is asked for.
    w.write("other", &[("w.bin", &weights[1000..])]);
    let request = PushRequest {
        encode: false,
        ..w.push_request("other", "acme/other:1.0")
    };
    let pushed = w.push_as(request).await.unwrap();
    assert!(pushed.wire_bytes > pushed.sent_bytes, "{pushed:?}");
    w.pull("acme/other:1.0", "plain").await.unwrap();
    assert!(fs::read(w.path("plain/w.bin")).unwrap() == weights[1000..]);
}

/// One tensor of bfloat16 numbers that lie as weights do.
fn bf16_safetensors(elements: usize) -> Vec<u8> {
    let uniform = |bytes: &[u8]| f32::from(u16::from_le_bytes([bytes[0], bytes[1]])) / 65_536.0 - 0.5;
    let top = |weight: f32| [weight.to_le_bytes()[2], weight.to_le_bytes()[3]];
    let json = format!(
        r#"{{"w":{{"dtype":"BF16","shape":[{elements}],"data_offsets":[0,{}]}}}}"#,
        elements * 2
    );
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json.as_bytes());
    for bytes in noise(7, elements * 12).chunks(12) {
        file.extend(top(bytes.chunks(2).map(uniform).sum::<f32>() * 0.02));
    }
    file
}
