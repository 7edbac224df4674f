use std::borrow::Cow;

use proptest::prelude::*;
use waag_schema::ChunkDigest;
use waag_schema::content::chunk::{self, STORED_MAX};
use waag_schema::content::frame::{FRAME_HEADER_BYTES, encode_frame_header};
use waag_schema::content::{CHUNK_MAX, ChunkError, Encoding, Frame, FrameDecoder, FrameError, StoredChunk};

fn stored(encoding: u8, raw_length: u32, body: &[u8]) -> Vec<u8> {
    let mut stored = vec![b'W', b'C', 1, encoding];
    stored.extend_from_slice(&raw_length.to_be_bytes());
    stored.extend_from_slice(body);
    stored
}

#[test]
fn a_raw_chunk_is_its_header_and_its_bytes() {
    let chunk = StoredChunk::raw(b"abc").unwrap();
    assert_eq!(chunk.to_vec(), b"WC\x01\x00\0\0\0\x03abc");
    assert_eq!(chunk.stored_length(), 11);
    let bytes = chunk.to_vec();
    let read = StoredChunk::parse(&bytes).unwrap();
    assert_eq!(read, chunk);
    assert!(
        matches!(read.decode(), Ok(Cow::Borrowed(b"abc"))),
        "nothing is copied"
    );
    assert_eq!(read.verify(&ChunkDigest::of(b"abc")).unwrap(), &b"abc"[..]);
    let found = ChunkDigest::of(b"abc");
    let expected = ChunkDigest::of(b"abd");
    assert_eq!(
        read.verify(&expected),
        Err(ChunkError::Digest { expected, found })
    );
}

#[test]
fn every_bad_header_has_its_own_refusal() {
    let parse = |bytes: &[u8]| StoredChunk::parse(bytes).unwrap_err();
    let short = |found, needed| ChunkError::TooShort { found, needed };
    assert_eq!(parse(b""), short(0, 9));
    assert_eq!(parse(b"WC\x01\0\0\0\0"), short(7, 9));
    assert_eq!(parse(b"CW\x01\0\0\0\0\x01a"), ChunkError::NotAChunk);
    assert_eq!(parse(b"WC\x02\0\0\0\0\x01a"), ChunkError::Version(2));
    assert_eq!(parse(&stored(4, 1, b"a")), ChunkError::UnknownEncoding(4));
    assert_eq!(parse(&stored(0, 0, b"")), ChunkError::RawLength { found: 0 });
    let found = CHUNK_MAX as u32 + 1;
    assert_eq!(parse(&stored(1, found, b"a")), ChunkError::RawLength { found });
    assert_eq!(
        parse(&stored(0, 2, b"a")),
        ChunkError::BodyLength { claimed: 2, found: 1 }
    );
    assert_eq!(
        parse(&stored(0, 2, b"abc")),
        ChunkError::BodyLength { claimed: 2, found: 3 }
    );
    assert_eq!(parse(&stored(1, 2, b"")), short(8, 9));
    assert_eq!(parse(&stored(3, 2, &[0; 31])), short(39, 41));
    assert_eq!(parse(&stored(3, 2, &[0; 32])), short(40, 41));
    assert!(matches!(
        parse(&vec![0; STORED_MAX + 1]),
        ChunkError::TooLong { .. }
    ));
    assert_eq!(StoredChunk::raw(b""), Err(ChunkError::RawLength { found: 0 }));
    assert!(StoredChunk::raw(&vec![0; CHUNK_MAX + 1]).is_err());
    assert!(StoredChunk::raw(&vec![0; CHUNK_MAX]).is_ok());
}

#[test]
fn the_encoding_of_a_newer_version_is_known_and_not_decoded() {
    let base = ChunkDigest::of(b"base");
    let bytes = stored(3, 9, &[&base.as_bytes()[..], b"body"].concat());
    let read = StoredChunk::parse(&bytes).unwrap();
    assert_eq!((read.base(), read.body()), (Some(base), &b"body"[..]));
    assert_eq!(read.to_vec(), bytes);
    assert_eq!(
        chunk::decode(&bytes),
        Err(ChunkError::Unsupported(Encoding::Delta))
    );
    assert!(read.decode().unwrap_err().to_string().contains("delta"));
}

/// Decodes a stream in slices of these lengths, over and over.
fn decode(mut stream: &[u8], slices: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for length in slices.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (mut slice, rest) = stream.split_at((*length).min(stream.len()));
        stream = rest;
        while let Some(frame) = decoder.next_frame(&mut slice)? {
            frames.push(frame);
        }
        assert!(slice.is_empty(), "without a frame all input is taken");
    }
    decoder.finish().map(|()| frames)
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        stream.extend_from_slice(&encode_frame_header(&frame.chunk, frame.stored.len()).unwrap());
        stream.extend_from_slice(&frame.stored);
    }
    stream
}

#[test]
fn a_length_that_no_chunk_has_is_refused_before_its_bytes_come() {
    let chunk = ChunkDigest::of(b"x");
    for found in [0, 8, STORED_MAX as u32 + 1, u32::MAX] {
        let stream = [chunk.as_bytes(), &found.to_be_bytes()[..]].concat();
        assert_eq!(decode(&stream, &[7]), Err(FrameError::Length { chunk, found }));
        assert_eq!(
            encode_frame_header(&chunk, found as usize),
            Err(FrameError::Length { chunk, found })
        );
    }
    assert!(encode_frame_header(&chunk, STORED_MAX).is_ok());
}

#[test]
fn a_stream_that_ends_within_a_frame_says_what_is_missing() {
    let chunk = ChunkDigest::of(b"x");
    let stream = encode(&[Frame {
        chunk,
        stored: vec![1; 20],
    }]);
    assert_eq!(stream.len(), FRAME_HEADER_BYTES + 20);
    let cut = |at: usize| decode(&stream[..at], &[5]).unwrap_err();
    let missing = |chunk, missing| FrameError::Truncated { chunk, missing };
    assert_eq!(cut(1), missing(None, 35));
    assert_eq!(cut(34), missing(Some(chunk), 2));
    assert_eq!(cut(36), missing(Some(chunk), 20));
    assert_eq!(cut(55), missing(Some(chunk), 1));
    assert!(cut(55).to_string().contains(&chunk.to_string()));
}

proptest! {
    #[test]
    fn frames_survive_however_the_stream_is_cut(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 9..300), 0..6),
        slices in prop::collection::vec(1..200_usize, 1..10),
    ) {
        let frames: Vec<_> = bodies.into_iter().map(|stored| Frame { chunk: ChunkDigest::of(&stored), stored }).collect();
        prop_assert_eq!(decode(&encode(&frames), &slices), Ok(frames));
    }

    #[test]
    fn raw_chunks_survive_storage(bytes in prop::collection::vec(any::<u8>(), 1..500)) {
        let stored = StoredChunk::raw(&bytes).unwrap().to_vec();
        prop_assert_eq!(chunk::decode(&stored).unwrap(), bytes.as_slice());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), code in 0..5_u8, length in any::<u32>()) {
        for bytes in [bytes.clone(), stored(code, length, &bytes)] {
            if let Ok(read) = StoredChunk::parse(&bytes) {
                prop_assert_eq!(&read.to_vec(), &bytes);
                let _ = read.verify(&ChunkDigest::of(b""));
            }
        }
        let _ = decode(&bytes, &[1, 50]);
    }
}
