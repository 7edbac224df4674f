//! Names and kinds of files that cannot be published.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::{Scene, hint, message};
use crate::world::assert_same_files;

#[test]
fn names_that_do_not_work_everywhere_are_refused() {
    let scene = Scene::new();
    for (name, files) in [
        ("case", &["Weights.bin", "weights.bin"][..]),
        ("folded", &["größe", "GRÖSSE", "GRÖßE"]),
        ("backslash", &["a\\b"]),
        ("newline", &["a\nb"]),
        ("escape", &["a\x1b[31m"]),
        ("drive", &["c:x"]),
    ] {
        let model = scene.model(name);
        for file in files {
            fs::write(model.join(file), file).unwrap();
        }
        let error = scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
        assert!(hint(&error).contains(".waagignore"), "{name}: {error}");
        assert!(!message(&error).contains(['\n', '\x1b']), "{error}");
    }
    let model = scene.model("bytes");
    fs::write(model.join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
    assert_eq!(scene.site.received_bytes(), 0);
}

#[test]
fn links_are_refused_with_the_hint_and_followed_when_told_to() {
    let scene = Scene::new();
    let model = scene.model("snapshot");
    fs::create_dir(scene.at("blobs")).unwrap();
    fs::write(scene.at("blobs/0a"), "weights").unwrap();
    symlink("../blobs/0a", model.join("weights.bin")).unwrap();
    let error = scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
    assert!(message(&error).contains("weights.bin"), "{error}");
    assert!(hint(&error).contains("--follow"), "{error}");

    symlink("../blobs", model.join("directory")).unwrap();
    scene.refused(&scene.operator, &model, "acme/tiny", &["--follow"], 1);
    fs::remove_file(model.join("directory")).unwrap();

    scene.operator.try_push(&model, "acme/tiny", &["--follow"]).json();
    let out = scene.at("out");
    scene.operator.pull("acme/tiny", &out).json();
    assert!(fs::symlink_metadata(out.join("weights.bin")).unwrap().is_file());
    assert_same_files(&model, &out);
}

#[test]
fn what_is_no_file_and_what_is_nothing_is_refused() {
    let scene = Scene::new();
    let model = scene.model("socket");
    let _socket = UnixListener::bind(model.join("socket")).unwrap();
    let error = scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
    assert!(message(&error).contains("socket"), "{error}");

    let model = scene.model("empty");
    fs::write(model.join(".waagignore"), "*\n").unwrap();
    let error = scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
    assert!(message(&error).contains(".waagignore"), "{error}");
}
