//! Recipes, stored chunks and frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waag_schema::content::chunk::{HEADER_BYTES, StoredChunk};
use waag_schema::content::encoding::encode;
use waag_schema::content::frame::FrameDecoder;
use waag_schema::content::recipe::Recipe;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(recipe) = Recipe::decode(bytes) {
        assert_eq!(recipe.canonical(), bytes);
        let covered: u64 = recipe.pieces_for(0..recipe.size()).map(|part| u64::from(part.within.end - part.within.start)).sum();
        assert_eq!(covered, recipe.size());
    }
    if let Ok(chunk) = StoredChunk::parse(bytes) {
        if let Ok(raw) = chunk.decode() {
            assert_eq!(raw.len(), chunk.raw_length() as usize);
        }
    }
    if let Ok(encoded) = encode(bytes) {
        assert!(encoded.stored().stored_length() <= bytes.len() + HEADER_BYTES);
        assert_eq!(encoded.stored().decode().as_deref(), Ok(bytes));
    }
    // Cut in two anywhere, the same frames come out.
    let all = |pieces: &[&[u8]]| {
        let (mut decoder, mut frames) = (FrameDecoder::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            loop {
                match decoder.next_frame(&mut rest) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return None,
                }
            }
        }
        Some((frames, decoder.finish().is_ok()))
    };
    let (left, right) = bytes.split_at(bytes.len() / 3);
    assert!(all(&[bytes]) == all(&[left, right]));
});
