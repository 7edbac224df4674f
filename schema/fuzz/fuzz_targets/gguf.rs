//! GGUF headers and the plans that they give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::content::gguf::{Header, Reading};
use waag_schema::content::planner::{CHUNK_MAX, plan_gguf};

/// A header may describe 2^60 bytes in a few; the plan is lazy, and so is this.
const CHUNKS_LOOKED_AT: usize = 10_000;

fuzz_target!(|input: (u64, &[u8])| {
    let (file_size, bytes) = input;
    let _ = Header::read(bytes, bytes.len() as u64);
    if let Ok(Reading::Whole(header)) = Header::read(bytes, file_size) {
        let lengths: Vec<u32> = plan_gguf(&header).take(CHUNKS_LOOKED_AT).collect();
        assert!(lengths.iter().all(|length| *length > 0 && *length as usize <= CHUNK_MAX));
        if lengths.len() < CHUNKS_LOOKED_AT {
            assert_eq!(lengths.iter().map(|length| u64::from(*length)).sum::<u64>(), file_size);
        }
    }
});
