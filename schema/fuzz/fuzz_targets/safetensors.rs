//! Safetensors headers and the plans that they give.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::content::planner::{CHUNK_MAX, plan_tensors};
use waag_schema::content::safetensors::{Header, header_length};

/// A header may describe 2^60 bytes in a few; the plan is lazy, and so is this.
const CHUNKS_LOOKED_AT: usize = 10_000;

fuzz_target!(|input: (u64, &[u8])| {
    let (file_size, bytes) = input;
    if let Some(first) = bytes.first_chunk::<8>() {
        let _ = header_length(first, file_size);
    }
    let _ = Header::parse(bytes, file_size);
    if let Ok(header) = Header::parse_unsized(bytes) {
        let lengths: Vec<u32> = plan_tensors(&header).take(CHUNKS_LOOKED_AT).collect();
        assert!(lengths.iter().all(|length| *length > 0 && *length as usize <= CHUNK_MAX));
        if lengths.len() < CHUNKS_LOOKED_AT {
            assert_eq!(lengths.iter().map(|length| u64::from(*length)).sum::<u64>(), header.file_size());
        }
    }
});
