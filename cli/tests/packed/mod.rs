//! Three thousand small files: pushed, pulled, verified and served, and nobody sees the archives that they travel in.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{Person, Site, assert_same_files};

const FILES: u64 = 3000;

fn content(number: u64, version: u8) -> Vec<u8> {
    let mut state = number * 1_000_003 + u64::from(version);
    let mut bytes = Vec::new();
    for _ in 0..40 + number % 200 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

fn write(directory: &Path) {
    for number in 0..FILES {
        let path = directory.join(format!("part-{}/größe-{number:05}.json", number / 1000));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(number, 0)).unwrap();
    }
    fs::write(directory.join("empty"), b"").unwrap();
    for large in 0..3_u64 {
        let bytes: Vec<u8> = (0..9000)
            .flat_map(|block| content(large << 32 | block, 1))
            .collect();
        assert!(bytes.len() > 1 << 20);
        fs::write(directory.join(format!("large-{large}.bin")), bytes).unwrap();
    }
}

fn number(answer: &Value, field: &str) -> u64 {
    answer[field].as_u64().unwrap()
}

#[test]
fn thousands_of_small_files_travel_packed_and_nobody_sees_it() {
    let world = tempfile::tempdir().unwrap();
    let at = |name: &str| world.path().join(name);
    write(&at("data"));
    let site = Site::serve(&at("site"));
    let publisher = Person::operating(&site);
    publisher.create_namespace("acme");

    let pushed = publisher.push(&at("data"), "acme/many:1");
    assert_eq!(number(&pushed, "files"), FILES + 4);
    let again = publisher.push(&at("data"), "acme/many:1");
    assert_eq!(
        (number(&again, "sent_bytes"), &again["digest"]),
        (0, &pushed["digest"])
    );
    let shown = publisher.run(["show", "acme/many", "--json"]).json();
    assert_eq!(number(&shown["releases"][0], "files"), FILES + 4);
    assert_eq!(number(&shown["releases"][0], "bytes"), number(&pushed, "bytes"));

    // One small file changes: a chunk of its archive and of the list of files, at most.
    let changed = at("data").join("part-1/größe-01234.json");
    fs::write(&changed, content(1234, 7)).unwrap();
    let next = publisher.push(&at("data"), "acme/many:2");
    assert!(number(&next, "sent_bytes") < 6 << 20, "{next}");
    let diff = publisher
        .run(["diff", "acme/many:1", "acme/many:2", "--json"])
        .json();
    assert_eq!(diff["files"]["changed"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(number(&diff["files"], "same"), FILES + 3);

    publisher.pull("acme/many:2", &at("out")).json();
    assert_same_files(&at("data"), &at("out"));
    assert_eq!(number(&publisher.verify(&at("out")).json(), "files"), FILES + 4);
    let second = publisher.pull("acme/many:2", &at("out")).json();
    assert_eq!(number(&second, "received_bytes"), 0);

    // What is kept beside the files lists them, and an ordinary tool reads what it names.
    let list: Value = serde_json::from_slice(&fs::read(at("out/.waag/files.json")).unwrap()).unwrap();
    let layer = &list["layers"][0];
    let get = |digest: &str, to: &Path| {
        let url = format!("{}/api/v1/artifacts/acme/many/files/{digest}", site.url);
        let token = fs::read_to_string(site.admin_token()).unwrap();
        let header = format!("Authorization: Bearer {}", token.trim());
        let got = Command::new("curl")
            .args(["-sf", "-H", &header, "-o"])
            .arg(to)
            .arg(url)
            .status()
            .unwrap();
        assert!(got.success());
    };
    get(layer["digest"].as_str().unwrap(), &at("layer.tar"));
    let names = Command::new("tar")
        .args(["--quoting-style=literal", "-tf"])
        .arg(at("layer.tar"))
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let own: Vec<&str> = layer["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file[0].as_str().unwrap())
        .collect();
    assert_eq!(names.lines().collect::<Vec<_>>(), own);
    let one = layer["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file[0] == "part-1/größe-01234.json")
        .unwrap();
    get(one[1].as_str().unwrap(), &at("one"));
    assert_eq!(fs::read(at("one")).unwrap(), fs::read(&changed).unwrap());

    site.stop();
    let victim = at("out/part-2/größe-02999.json");
    let mut bytes = fs::read(&victim).unwrap();
    bytes[3] ^= 1;
    fs::write(&victim, bytes).unwrap();
    fs::remove_file(at("out/empty")).unwrap();
    let error = publisher.verify(&at("out")).error(4);
    let paths: Vec<&str> = error["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["empty", "part-2/größe-02999.json"]);
    // Nor can the list be changed to fit.
    let mut list = fs::read(at("out/.waag/files.json")).unwrap();
    list[60] ^= 1;
    fs::write(at("out/.waag/files.json"), list).unwrap();
    assert_eq!(publisher.verify(&at("out")).error(4)["code"], "verification");
}
