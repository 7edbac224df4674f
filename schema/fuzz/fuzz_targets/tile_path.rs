//! Paths of tiles and packs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::ledger::{PackPath, TilePath};

fuzz_target!(|text: &str| {
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(path) = text.parse::<PackPath>() {
        assert_eq!(path.to_string(), text);
    }
});
