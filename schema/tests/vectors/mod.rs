//! The test vectors of `FORMATS.md`: values that never change, for whoever implements a format again.
//!
//! Each file of `schema/vectors/` is built here from fixed keys and salts, and compared with what is committed:
//! a difference is a format that changed. `WAAG_BLESS=1 cargo test -p waag-schema vectors` writes them anew.
//! What a vector calls refused was refused by this crate when it was built (in `proof.json`: see there).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "files are compared and another program is run here; the crate itself does neither"
)]

mod base;
mod content;
mod federation;
mod ledger;
mod policy;
mod proof;
mod reader;
mod release;
mod statements;

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde_json::Value;
use waag_schema::base::key::KeyPair;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The site whose ledger the vectors speak of has the key of seed 1, publishers have other seeds.
const LOG: u8 = 1;

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Bytes that look random: SHA-256(seed u64be || 0 u64be) || SHA-256(seed || 1) || ..., cut to the length.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    for counter in 0_u64.. {
        if bytes.len() >= length {
            break;
        }
        let block = [seed.to_be_bytes(), counter.to_be_bytes()].concat();
        bytes.extend_from_slice(waag_schema::Sha256::of(&block).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn the_committed_vectors_are_what_this_version_writes() {
    let bless = std::env::var_os("WAAG_BLESS").is_some();
    for (name, built) in [
        ("base", base::vectors()),
        ("content", content::vectors()),
        ("release", release::vectors()),
        ("statements", statements::vectors()),
        ("ledger", ledger::vectors()),
        ("policy", policy::vectors()),
        ("federation", federation::vectors()),
        ("proof", proof::vectors()),
    ] {
        let path = directory().join(format!("{name}.json"));
        if bless {
            std::fs::write(&path, one_per_line(&built)).unwrap();
        }
        let committed = std::fs::read(&path).unwrap();
        let committed: Value = serde_json::from_slice(&committed).unwrap();
        let places = differences(&committed, &built);
        assert!(places.is_empty(), "{} differs at {places:?}", path.display());
    }
}

/// Writes a document so that a change of one vector is a change of one line.
fn one_per_line(document: &Value) -> String {
    let lines = |key: &String, value: &Value| match value {
        Value::Array(rows) if !rows.is_empty() => {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            format!("{}: [\n{}\n]", Value::from(key.as_str()), rows.join(",\n"))
        }
        value => format!("{}: {value}", Value::from(key.as_str())),
    };
    let parts = document.as_object().unwrap().iter();
    let parts: Vec<String> = parts.map(|(key, value)| lines(key, value)).collect();
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

/// Where two documents differ; the whole of them would be no message.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    let below = |key: String, a: &Value, b: &Value| {
        let places = differences(a, b);
        places.into_iter().map(move |place| format!("/{key}{place}"))
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if x.keys().eq(y.keys()) => x
            .iter()
            .flat_map(|(key, a)| below(key.clone(), a, &y[key]))
            .collect(),
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let pairs = x.iter().zip(y).enumerate();
            pairs
                .flat_map(|(index, (a, b))| below(index.to_string(), a, b))
                .collect()
        }
        _ if a == b => Vec::new(),
        _ => vec![String::new()],
    }
}
