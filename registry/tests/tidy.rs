//! The house rules that a reader would otherwise have to keep in mind.

use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["schema", "kernels", "client", "registry", "cli"];

fn sources(room: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(room).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn every_source() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for room in CRATES {
        sources(&root.join(room).join("src"), &mut found);
    }
    assert!(found.len() > 60, "the crates are where this test looks");
    found
        .into_iter()
        .map(|path| {
            (
                path.strip_prefix(root).unwrap().to_owned(),
                std::fs::read_to_string(root.join(&path)).unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in every_source() {
        assert!(
            text.starts_with("//!"),
            "{} does not begin with a `//!`",
            path.display()
        );
    }
}

#[test]
fn no_file_is_a_drawer() {
    for (path, _) in every_source() {
        for name in ["utils", "util", "common", "helpers", "helper", "manager", "misc"] {
            assert!(
                path.iter()
                    .all(|part| part != name && part != format!("{name}.rs").as_str()),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn schema_does_no_input_or_output() {
    for (path, text) in every_source() {
        if path.starts_with("schema") {
            for banned in [
                "std::fs",
                "std::net",
                "std::env",
                "std::process",
                "std::thread",
                "SystemTime",
                "Instant::",
                "tokio",
            ] {
                assert!(!text.contains(banned), "{} mentions {banned}", path.display());
            }
        }
    }
}

/// The rooms of a site, each above those that it may know of.
const ROOMS: [&str; 10] = [
    "store",
    "access",
    "index",
    "ledger",
    "content",
    "evaluation",
    "publish",
    "federation",
    "fsck",
    "http",
];

#[test]
fn arrows_within_the_registry_go_down_only() {
    // A site in this process is a peer as well, and bundles carry a whole site.
    let whole = [
        "registry/src/federation/local.rs",
        "registry/src/federation/bundle",
    ]
    .map(Path::new);
    for (path, text) in every_source() {
        let Some(room) = ROOMS
            .iter()
            .position(|room| path.starts_with(Path::new("registry/src").join(room)))
        else {
            continue;
        };
        let above = ROOMS[room + 1..].iter().copied();
        let is_below = room < ROOMS.len() - 2 && !whole.iter().any(|of| path.starts_with(of));
        let builds = ["site", "serve"].into_iter().filter(|_| is_below);
        for other in above.chain(builds) {
            let uses = [format!("crate::{other}::"), format!("use crate::{other};")];
            assert!(
                !uses.iter().any(|used| text.contains(used)),
                "{} uses `{other}` above it",
                path.display()
            );
        }
    }
}

#[test]
fn kernels_know_numbers_only() {
    for (path, text) in every_source() {
        // A device for tests is a program that is built; it is in no other build.
        if path.starts_with("kernels") && !path.ends_with("cuda/emulated.rs") {
            // Its tests may read its own sources.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for banned in ["waag_", "std::fs", "std::net", "tokio", "axum", "reqwest"] {
                assert!(!code.contains(banned), "{} mentions {banned}", path.display());
            }
        }
    }
}

#[test]
fn the_library_neither_prints_nor_reads_the_environment() {
    for (path, text) in every_source() {
        if path.starts_with("client") {
            for banned in ["println!", "eprintln!", "std::env"] {
                assert!(!text.contains(banned), "{} has {banned}", path.display());
            }
        }
    }
}
