//! The main job, from an empty directory to a proof without a network, on a model of more than 1 GB.
//!
//! One test and not twelve, because each step stands on the one before:
//!  1. a site starts on an empty directory       7. files are compared byte by byte
//!  2. login, key, namespace                     8. the site stops
//!  3. the model is pushed                       9. the pulled files verify offline
//!  4. pushed again: nothing is sent            10. one flipped bit is found and named
//!  5. resharded: next to nothing is sent       11. the site starts again: the same answers
//!  6. the model is pulled                      12. a tensor is renamed: next to nothing is sent

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::world::{Person, Site, assert_same_files, flip_a_bit, model};

const LAYERS: u64 = 10;

fn number(answer: &Value, field: &str) -> u64 {
    answer[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {field} in {answer}"))
}

#[test]
fn a_model_is_pushed_pulled_and_proven_offline() {
    let world = tempfile::tempdir().unwrap();
    let at = |name: &str| world.path().join(name);
    let tensors = model::llama(LAYERS);
    model::write(&at("model"), LAYERS, &tensors, 6);

    let site = Site::serve(&at("site"));
    let mode = fs::metadata(site.admin_token()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let publisher = Person::operating(&site);
    publisher.create_namespace("acme");

    let pushed = publisher.push(&at("model"), "acme/tiny:1.0");
    let bytes = number(&pushed, "bytes");
    assert!(bytes >= 1 << 30, "{bytes}");
    assert_eq!(
        (&pushed["name"], &pushed["tag"]),
        (&"acme/tiny".into(), &"1.0".into())
    );
    assert_eq!(number(&pushed, "files"), 10);
    // The configuration of the manifest is sent as well.
    assert!(number(&pushed, "sent_bytes") >= bytes);
    assert_eq!(number(&pushed, "reused_bytes"), 0);
    assert_eq!(site.received_bytes(), number(&pushed, "sent_bytes"));

    a_second_push_sends_nothing(&site, &publisher, &at("model"), &pushed);
    model::link_copy(&at("model"), &at("resharded"));
    for shard in 0..6 {
        fs::remove_file(at("resharded").join(model::shard_name(shard, 6))).unwrap();
    }
    model::write_shards(&at("resharded"), &tensors, 4);
    next_to_nothing_is_sent(&site, &publisher, &at("resharded"), "acme/tiny:resharded");
    fs::remove_dir_all(at("resharded")).unwrap();

    let consumer = Person::new();
    consumer.run(["login", &site.url, "--anonymous"]).ok();
    let pulled = consumer.pull("acme/tiny:1.0", &at("out")).json();
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_same_files(&at("model"), &at("out"));

    site.stop();
    let verified = consumer.verify(&at("out")).json();
    assert_eq!(verified["digest"], pushed["digest"]);
    let victim = model::shard_name(3, 6);
    flip_a_bit(&at("out").join(&victim));
    let error = consumer.verify(&at("out")).error(4);
    assert_eq!(error["code"], "verification");
    assert_eq!(error["files"][0]["path"], Value::from(victim.as_str()));
    assert_eq!(error["files"].as_array().unwrap().len(), 1);

    let site = Site::serve(&at("site"));
    publisher
        .run([
            "login",
            &site.url,
            "--token-file",
            site.admin_token().to_str().unwrap(),
        ])
        .ok();
    consumer.run(["login", &site.url, "--anonymous"]).ok();
    // The damaged file is fetched again, only where it is damaged.
    let mended = consumer.mend("acme/tiny:1.0", &at("out")).json();
    assert_eq!(mended["digest"], pushed["digest"]);
    consumer.verify(&at("out")).ok();
    fs::remove_dir_all(at("out")).unwrap();

    model::link_copy(&at("model"), &at("renamed"));
    let renamed: Vec<_> = tensors
        .iter()
        .cloned()
        .map(|mut tensor| {
            if tensor.name == "model.layers.4.mlp.up_proj.weight" {
                tensor.name = "model.layers.4.mlp.raised.weight".to_owned();
            }
            tensor
        })
        .collect();
    for shard in 0..6 {
        fs::remove_file(at("renamed").join(model::shard_name(shard, 6))).unwrap();
    }
    model::write_shards(&at("renamed"), &renamed, 6);
    next_to_nothing_is_sent(&site, &publisher, &at("renamed"), "acme/tiny:renamed");
}

fn a_second_push_sends_nothing(site: &Site, publisher: &Person, path: &Path, first: &Value) {
    let (received, recorded) = (site.received_bytes(), publisher.recorded());
    let again = publisher.push(path, "acme/tiny:1.0");
    assert_eq!(
        (&again["digest"], &again["entry"]),
        (&first["digest"], &first["entry"])
    );
    assert_eq!(number(&again, "sent_bytes"), 0);
    assert_eq!(number(&again, "reused_bytes"), number(first, "bytes"));
    assert_eq!(
        (site.received_bytes(), publisher.recorded()),
        (received, recorded)
    );
}

/// Less than one byte in a hundred; by the plan, by the answer and by the site's own count.
fn next_to_nothing_is_sent(site: &Site, publisher: &Person, path: &Path, target: &str) {
    let received = site.received_bytes();
    let plan = publisher.try_push(path, target, &["--dry-run"]).json();
    assert_eq!(site.received_bytes(), received, "a dry run sends nothing");
    let pushed = publisher.push(path, target);
    let sent = number(&pushed, "sent_bytes");
    assert!(sent > 0 && sent * 100 < number(&pushed, "bytes"), "{pushed}");
    assert_eq!(number(&plan, "send_bytes"), sent);
    assert_eq!(site.received_bytes() - received, sent);
}
