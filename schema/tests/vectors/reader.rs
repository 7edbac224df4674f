//! The reader in Python, which knows `FORMATS.md` and nothing of this crate, agrees about every vector.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use waag_schema::ledger::{KeyKind, VerifierKey};

/// The interpreter: what `WAAG_PYTHON` names, or `python3`.
fn python() -> Command {
    Command::new(std::env::var_os("WAAG_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// The reader with these arguments, or why it cannot run here.
fn reader(arguments: &[&OsStr]) -> Result<Output, String> {
    let found = python().args(["-c", "import cryptography"]).output();
    let reason = match found {
        Ok(output) if output.status.success() => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent/reader.py");
            return Ok(python().arg(script).args(arguments).output().unwrap());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(
        std::env::var_os("WAAG_PYTHON").is_none(),
        "WAAG_PYTHON names no python with the module `cryptography`: {reason}"
    );
    Err(reason)
}

#[allow(clippy::print_stderr, reason = "a test that is passed over says so")]
fn skipped(reason: &str) {
    eprintln!("SKIPPED: the independent reader needs python3 with the module `cryptography`: {reason}");
}

fn shown(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn an_independent_reader_agrees_about_every_vector() {
    match reader(&["vectors".as_ref(), super::directory().as_ref()]) {
        Ok(output) => assert!(output.status.success(), "{}", shown(&output)),
        Err(reason) => skipped(&reason),
    }
}

#[test]
fn an_independent_reader_verifies_a_pulled_directory() {
    let vectors = super::proof::vectors();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pulled");
    let place = |path: &str| directory.join(path);
    std::fs::create_dir_all(place("sub")).unwrap();
    std::fs::create_dir_all(place(".waag")).unwrap();
    for (path, bytes) in super::release::FILES {
        std::fs::write(place(path), bytes).unwrap();
    }
    std::fs::write(place(".waag/proof.json"), vectors["kept"][0]["proof"].to_string()).unwrap();
    let pull = |key: &str| reader(&["pull".as_ref(), directory.as_ref(), key.as_ref()]);
    let log_key = vectors["log_key"].as_str().unwrap();
    let output = match pull(log_key) {
        Ok(output) => output,
        Err(reason) => return skipped(&reason),
    };
    assert!(output.status.success(), "{}", shown(&output));

    let other = VerifierKey::new(
        log_key.split('+').next().unwrap(),
        KeyKind::Ledger,
        super::key(9).public(),
    );
    let output = pull(&other.unwrap().to_string()).unwrap();
    assert_eq!(output.status.code(), Some(1), "another key: {}", shown(&output));

    std::fs::write(place("config.json"), b"{\"model_type\":\"tony\"}").unwrap();
    let output = pull(log_key).unwrap();
    assert_eq!(output.status.code(), Some(1), "another file: {}", shown(&output));
}
