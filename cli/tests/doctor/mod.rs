//! `waag doctor` says what is wrong, and what to type.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::world::{Person, Site};

fn standing<'a>(answer: &'a Value, subject: &str) -> &'a str {
    let findings = answer["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["subject"] == subject);
    finding.unwrap()["standing"].as_str().unwrap()
}

#[test]
fn a_doctor_finds_nothing_where_nothing_is_wrong_and_names_what_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut site = Site::serve(&directory.path().join("site"));
    let person = Person::operating(&site);
    let well = person.run(["doctor", "--json"]).json();
    for subject in [
        "home",
        "keys",
        "site",
        "connection",
        "clock",
        "pin",
        "token",
        "ledger",
    ] {
        assert_eq!(standing(&well, subject), "ok", "{subject}: {well}");
    }

    let key = person.desk().join("waag/keys/default");
    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let ill = person.run(["doctor"]);
    assert_eq!(ill.code(), 1, "{}", ill.stdout());
    let line = ill
        .stdout()
        .lines()
        .find(|line| line.starts_with("failed"))
        .unwrap()
        .to_owned();
    assert!(line.contains("0644") && line.contains("chmod 600"), "{line}");
    let refused = person.run(["namespace", "create", "acme", "--json"]).error(1);
    assert!(refused["message"].as_str().unwrap().contains("0644"), "{refused}");

    set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    site.kill();
    let away = person.run(["doctor", "-q"]);
    assert_eq!((away.code(), away.stdout().trim()), (1, "failed"));
}
