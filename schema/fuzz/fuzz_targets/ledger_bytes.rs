//! The ledger's binary forms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::ledger::{CommitRecord, Leaf, Opening, Origin, Pack, TileKind, TilePath, TlogProof, bundle};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(leaf) = Leaf::decode(bytes) {
        assert_eq!(leaf.encode().as_slice(), bytes);
    }
    if let Ok(opening) = Opening::decode(bytes) {
        assert_eq!(opening.as_bytes(), bytes);
    }
    if let Ok(pack) = Pack::decode(bytes) {
        assert_eq!(pack.encode(), bytes);
    }
    let origin: Origin = "waag/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1".parse().expect("an origin");
    if let Ok(record) = CommitRecord::decode(&origin, bytes) {
        assert_eq!(record.encode(), bytes);
    }
    let entries = bytes.len() / 45;
    if let Ok(width) = u16::try_from(entries)
        && let Ok(path) = TilePath::new(TileKind::Entries, 0, width)
        && let Ok(leaves) = bundle::decode(&path, bytes)
    {
        assert_eq!(bundle::encode(&leaves), bytes);
    }
    let _ = TlogProof::parse(bytes);
});
