//! A real pull, checked by the reader that was written from `schema/FORMATS.md` alone.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::world::{Person, Site, files_below, flip_a_bit};

fn python() -> OsString {
    std::env::var_os("WAAG_PYTHON").unwrap_or_else(|| "python3".into())
}

fn reader(directory: &Path, log_key: &str) -> Output {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../schema/tests/independent/reader.py"
    );
    Command::new(python())
        .args([script, "pull"])
        .arg(directory)
        .arg(log_key)
        .output()
        .unwrap()
}

/// The key that a person's client has pinned for the only site it knows.
fn pinned_key(person: &Person) -> String {
    let pins = files_below(&person.desk().join("waag/sites"));
    let pin: PathBuf = pins.into_iter().find(|path| path.ends_with("site.json")).unwrap();
    let pin = person.desk().join("waag/sites").join(pin);
    let pin: Value = serde_json::from_slice(&fs::read(pin).unwrap()).unwrap();
    pin["log_key"].as_str().unwrap().to_owned()
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn somebody_elses_program_verifies_a_pull() {
    let ready = Command::new(python())
        .args(["-c", "import cryptography"])
        .output();
    if !ready.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no python3 with the package `cryptography`; WAAG_PYTHON may name one");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let site = Site::serve(&directory.path().join("site"));
    let operator = Person::operating(&site);
    operator.create_namespace("acme");
    let model = directory.path().join("model");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), "{}\n").unwrap();
    fs::write(model.join("notes.txt"), "a line\n".repeat(50_000)).unwrap();
    operator.push(&model, "acme/tiny:1.0");
    let out = directory.path().join("out");
    operator.pull("acme/tiny:1.0", &out).ok();

    let key = pinned_key(&operator);
    let answer = reader(&out, &key);
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    let said: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(
        (&said["verified"], &said["files"]),
        (&Value::Bool(true), &Value::from(2))
    );

    flip_a_bit(&out.join("notes.txt"));
    assert!(!reader(&out, &key).status.success());
}
