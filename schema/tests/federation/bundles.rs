//! Bundles: what is written is read, and noise is refused without a panic.

use proptest::prelude::*;
use waag_schema::federation::bundle::{
    BundleError, ContentsCheck, MAGIC_BYTES, OBJECT_MAX, ObjectName, RECORD_BYTES, Record, TRAILER_BYTES,
    Trailer, check_magic, magic,
};
use waag_schema::ledger::{TileKind, TilePath};
use waag_schema::{ChunkDigest, Sha256};

fn names() -> impl Strategy<Value = ObjectName> {
    let digest = any::<[u8; 32]>();
    let tile =
        (any::<u32>(), 0_u8..=2, 0_u64..1 << 16, 1_u16..=256).prop_map(|(series, level, index, width)| {
            let kind = if level == 2 {
                TileKind::Entries
            } else {
                TileKind::Hashes(level)
            };
            ObjectName::Tile(series, TilePath::new(kind, index, width).unwrap())
        });
    prop_oneof![
        tile,
        (any::<u32>(), any::<u64>()).prop_map(|(series, number)| ObjectName::Pack(series, number)),
        digest.prop_map(|d| ObjectName::Manifest(Sha256::from_bytes(d))),
        digest.prop_map(|d| ObjectName::Recipe(Sha256::from_bytes(d))),
        digest.prop_map(|d| ObjectName::Scorecard(Sha256::from_bytes(d))),
        digest.prop_map(|d| ObjectName::Chunk(ChunkDigest::from_bytes(d))),
    ]
}

fn record(name: ObjectName, offset: u64, length: u32) -> Record {
    Record {
        name,
        offset,
        length,
        hash: [7; 32],
    }
}

proptest! {
    #[test]
    fn a_record_that_is_written_is_read(name in names(), offset: u64, length in 0..=OBJECT_MAX, hash: [u8; 32]) {
        let record = Record { name, offset, length, hash };
        prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_record_that_is_read_is_the_only_way_to_write_it(bytes in any::<[u8; RECORD_BYTES]>(), kind in 0_u8..8) {
        let mut bytes = bytes;
        bytes[0] = kind;
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    #[test]
    fn noise_is_no_trailer(bytes in any::<[u8; TRAILER_BYTES]>(), length: u64, right in any::<bool>()) {
        let mut bytes = bytes;
        if right {
            bytes[52..].copy_from_slice(&magic());
        }
        if let Ok(trailer) = Trailer::decode(&bytes, length) {
            prop_assert_eq!(trailer.encode(), bytes);
        }
    }

    #[test]
    fn contents_in_another_order_are_refused(all in proptest::collection::vec(names(), 2..8)) {
        let mut all = all;
        all.sort_by_key(ObjectName::encode);
        all.dedup();
        let end = (MAGIC_BYTES + all.len()) as u64;
        let trailer = Trailer { objects_end: end, cover_length: 0, records: all.len() as u64, hash: [0; 32] };
        let records: Vec<Record> = all
            .iter()
            .zip(MAGIC_BYTES as u64..)
            .map(|(name, at)| record(*name, at, 1))
            .collect();
        let read = |records: &[Record]| {
            let mut check = ContentsCheck::new(&trailer);
            for record in records {
                check.next(&record.encode())?;
            }
            check.finish()
        };
        prop_assert_eq!(read(&records), Ok(()));
        if records.len() > 1 {
            let mut turned = records.clone();
            turned.swap(0, 1);
            let refused = matches!(read(&turned), Err(BundleError::Record { .. }));
            prop_assert!(refused);
            let short = matches!(read(&records[1..]), Err(BundleError::Shape(_)));
            prop_assert!(short);
        }
    }
}

#[test]
fn another_version_is_told_from_no_bundle() {
    assert_eq!(check_magic(&magic()), Ok(()));
    let mut later = magic();
    later[MAGIC_BYTES - 1] = 2;
    assert_eq!(check_magic(&later), Err(BundleError::Version(2)));
    assert!(matches!(
        check_magic(b"PK 34567890abcdef"[..16].try_into().unwrap()),
        Err(BundleError::NotOne(_))
    ));
}

#[test]
fn an_object_outside_of_the_file_is_refused() {
    let trailer = Trailer {
        objects_end: 20,
        cover_length: 0,
        records: 1,
        hash: [0; 32],
    };
    let name = ObjectName::Pack(1, 0);
    for (offset, length) in [(0, 4), (16, 5), (u64::MAX, 4)] {
        let refused = ContentsCheck::new(&trailer).next(&record(name, offset, length).encode());
        assert!(matches!(refused, Err(BundleError::Record { at: 0, .. })));
    }
}
