//! The native API's document is committed, so that a change to it is seen by whoever reviews the change.

/// Set this variable to write the file anew.
const BLESS: &str = "WAAG_BLESS";

#[test]
fn the_committed_document_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let said = waag_registry::http::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(path, &said).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        said == committed,
        "registry/openapi.json is out of date; write it anew with {BLESS}=1 and review it"
    );
}
