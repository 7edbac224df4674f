//! What the program is built from: licences, number and versions of the crates that end in it or run when
//! it is built. Dependencies of tests are left out: nobody ships them.
//!
//! The graph is what `cargo metadata` resolves for Linux on x86-64 with the default features, from the
//! lock file and without the network.

mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// One target for all machines, so that the count below is the same on each.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// At most this many crates of others. Measured: 291; the rest is headroom for what their updates
/// bring along. Who raises this names the dependency and what it would cost to write instead.
///
/// `tokenizers` brings 42: models come with its files, and what reads them otherwise is another tokenizer.
/// `nvml-wrapper` brings 4: what a GPU uses is told by its maker's library only. `rayon` brings 5,
/// `saphyr-parser` (task descriptions are YAML) 5, `libm` 1.
const CRATES_MAX: usize = 294;

/// Crates of which two versions would be two implementations to audit, and keys or digests of one that the
/// other does not take.
const ONE_VERSION: [&str; 4] = ["ed25519-dalek", "ring", "rustls", "sha2"];

/// A crate of others that the workspace is built from.
struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
}

#[test]
fn every_licence_is_one_that_we_may_ship_under() {
    let refused: Vec<String> = crates()
        .into_iter()
        .filter(|c| !c.licence.as_deref().is_some_and(licence::is_allowed))
        .map(|c| {
            format!(
                "{} {}: {}",
                c.name,
                c.version,
                c.licence.as_deref().unwrap_or("no licence named")
            )
        })
        .collect();
    assert!(
        refused.is_empty(),
        "licences outside the list in supply/licence.rs:\n{}",
        refused.join("\n")
    );
}

#[test]
fn the_number_of_crates_stays_within_its_budget() {
    let crates = crates();
    assert!(
        crates.len() <= CRATES_MAX,
        "{} crates, the budget is {CRATES_MAX}; `cargo tree -e normal,build` shows who brings them",
        crates.len()
    );
}

#[test]
fn crates_that_security_rests_on_are_there_in_one_version() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Crate { name, version, .. } in crates() {
        versions.entry(name).or_default().insert(version);
    }
    for name in ONE_VERSION {
        let found = versions.get(name).cloned().unwrap_or_default();
        assert!(
            found.len() <= 1,
            "{name} is there as {found:?}; `cargo tree -d -e normal,build` shows who asks for which"
        );
    }
}

/// Returns all crates but our own that are reached by normal and build dependencies.
fn crates() -> Vec<Crate> {
    let metadata = metadata();
    let members: Vec<&str> = array(&metadata["workspace_members"]).iter().map(text).collect();
    let edges: BTreeMap<&str, &Value> = by_id(&metadata["resolve"]["nodes"]);
    let packages: BTreeMap<&str, &Value> = by_id(&metadata["packages"]);

    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut waiting = members.clone();
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            let shipped = |dep: &&Value| array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            let deps = array(&edges[id]["deps"]).iter().filter(shipped);
            waiting.extend(deps.map(|dep| text(&dep["pkg"])));
        }
    }
    let of_others = reached.into_iter().filter(|id| !members.contains(id));
    let found: Vec<Crate> = of_others
        .map(|id| Crate {
            name: text(&packages[id]["name"]).to_owned(),
            version: text(&packages[id]["version"]).to_owned(),
            licence: packages[id]["license"].as_str().map(str::to_owned),
        })
        .collect();
    assert!(
        found.iter().any(|c| c.name == "serde"),
        "a graph without serde is not ours"
    );
    found
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            TARGET,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    array(list).iter().map(|item| (text(&item["id"]), item)).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
