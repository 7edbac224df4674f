//! Bundles: a trailer, a record and a cover are read or refused; what is read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::federation::bundle::{ContentsCheck, Cover, RECORD_BYTES, Record, TRAILER_BYTES, Trailer};

fuzz_target!(|bytes: &[u8]| {
    if let Some((rest, last)) = bytes.split_last_chunk::<TRAILER_BYTES>()
        && let Ok(trailer) = Trailer::decode(last, bytes.len() as u64)
    {
        assert_eq!(trailer.encode(), *last);
        let contents = usize::try_from(trailer.contents_at()).expect("within the file");
        let mut check = ContentsCheck::new(&trailer);
        for record in rest[contents..].chunks_exact(RECORD_BYTES) {
            let record: &[u8; RECORD_BYTES] = record.try_into().expect("cut to its length");
            if let Ok(found) = check.next(record) {
                assert_eq!(found.encode(), *record);
            }
        }
        let _ = check.finish();
    }
    if let Some(first) = bytes.first_chunk::<RECORD_BYTES>()
        && let Ok(record) = Record::decode(first)
    {
        assert_eq!(record.encode(), *first);
    }
    if let Ok(cover) = Cover::parse(bytes) {
        assert_eq!(Cover::parse(&cover.to_bytes()), Ok(cover));
    }
});
