//! What is encoded decodes to the same bytes, gets as small as it can, and what is malformed is refused.

use proptest::prelude::*;
use waag_schema::ChunkDigest;
use waag_schema::content::chunk::{self, STORED_MAX};
use waag_schema::content::{CHUNK_MAX, ChunkError, Encoding, StoredChunk, encode};

use super::noise;

/// Numbers that lie as weights do (a sum of uniform ones, sigma 0.02), as float32.
fn weights(seed: u64, count: usize) -> Vec<f32> {
    let uniform = |bytes: &[u8]| f32::from(u16::from_le_bytes([bytes[0], bytes[1]])) / 65_536.0 - 0.5;
    let weight = |bytes: &[u8]| bytes.chunks(2).map(uniform).sum::<f32>() * 0.02;
    noise(seed, count * 24).chunks(24).map(weight).collect()
}

fn bf16(seed: u64, count: usize) -> Vec<u8> {
    let top = |weight: f32| [weight.to_le_bytes()[2], weight.to_le_bytes()[3]];
    weights(seed, count).into_iter().flat_map(top).collect()
}

fn f32s(seed: u64, count: usize) -> Vec<u8> {
    weights(seed, count)
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect()
}

fn json(lines: usize) -> Vec<u8> {
    let line = |i: usize| format!("    \"token {}\": {i},\n", i * 7919 % 10_007);
    (0..lines).flat_map(|i| line(i).into_bytes()).collect()
}

/// Encodes, reads back as a receiver does, and says what came out and which fraction is left.
fn round_trip(raw: &[u8]) -> (Encoding, f64) {
    let encoded = encode(raw).unwrap();
    assert_eq!(encode(raw).unwrap(), encoded, "the same bytes, the same answer");
    let bytes = encoded.stored().to_vec();
    assert!(bytes.len() <= raw.len() + 8 && bytes.len() <= STORED_MAX);
    let read = StoredChunk::parse(&bytes).unwrap();
    assert_eq!(read, encoded.stored());
    assert!(read.verify(&ChunkDigest::of(raw)).unwrap() == raw);
    (read.encoding(), bytes.len() as f64 / raw.len() as f64)
}

#[test]
fn weights_are_stored_by_planes_text_by_words_and_noise_as_it_is() {
    let rows = [
        ("bf16", bf16(1, 1 << 20), Encoding::Planes, 0.60, 0.68),
        ("f32", f32s(2, 1 << 18), Encoding::Planes, 0.70, 0.85),
        (
            "a bf16 tensor and a byte",
            [bf16(3, 50_000), vec![9]].concat(),
            Encoding::Planes,
            0.60,
            0.68,
        ),
        ("json", json(20_000), Encoding::Zstd, 0.0, 0.40),
        ("zeros", vec![0; CHUNK_MAX], Encoding::Zstd, 0.0, 0.001),
        ("noise", noise(4, CHUNK_MAX), Encoding::Raw, 1.0, 1.001),
        ("little", vec![0; 511], Encoding::Raw, 1.0, 1.02),
    ];
    for (what, raw, encoding, least, most) in rows {
        let (found, ratio) = round_trip(&raw);
        assert_eq!(found, encoding, "{what}");
        assert!((least..=most).contains(&ratio), "{what}: {ratio}");
    }
}

#[test]
fn chunks_without_bytes_or_with_too_many_are_not_encoded() {
    assert_eq!(encode(b""), Err(ChunkError::RawLength { found: 0 }));
    assert!(matches!(
        encode(&vec![0; CHUNK_MAX + 1]),
        Err(ChunkError::RawLength { .. })
    ));
}

fn stored(encoding: u8, raw_length: u32, body: &[u8]) -> Vec<u8> {
    [&[b'W', b'C', 1, encoding], &raw_length.to_be_bytes()[..], body].concat()
}

/// A zstd frame of one block: its length stated in one byte, then raw bytes.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u8;
    [
        &[
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0x20,
            length,
            length << 3 | 1,
            length >> 5,
            0,
        ],
        bytes,
    ]
    .concat()
}

/// A zstd frame that states its length in four bytes and is one byte repeated that often.
fn run(length: u32) -> Vec<u8> {
    let block = (length << 3 | 3).to_le_bytes();
    let stated = length.to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0], &stated[..], &block[..3], &[7]].concat()
}

fn plane(coding: u8, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[coding], &length.to_be_bytes()[..], bytes].concat()
}

#[test]
fn bodies_are_laid_out_as_written_down() {
    let decode = |encoding, raw_length, body: &[u8]| {
        chunk::decode(&stored(encoding, raw_length, body)).map(std::borrow::Cow::into_owned)
    };
    assert_eq!(decode(1, 3, &frame(b"abc")).unwrap(), b"abc");
    assert_eq!(decode(1, 100_000, &run(100_000)).unwrap(), [7; 100_000]);
    let halves = |form: u8| {
        [
            &[form][..],
            &plane(0, 2, b"ac"),
            &plane(1, 11, &frame(b"bd")),
            b"e",
        ]
        .concat()
    };
    assert_eq!(decode(2, 5, &halves(0x02)).unwrap(), b"abcde");
    // 1.0 and -2.0 as bfloat16: sign, exponents 127 and 128, no mantissa.
    let rotated = [&[0x12][..], &plane(0, 2, &[0, 1]), &plane(0, 2, &[127, 128])].concat();
    assert_eq!(decode(2, 4, &rotated).unwrap(), [0x80, 0x3f, 0x00, 0xc0]);
    let words = |form: u8, planes: [&[u8]; 4]| {
        let planes: Vec<u8> = planes.iter().flat_map(|bytes| plane(0, 1, bytes)).collect();
        [&[form][..], &planes].concat()
    };
    assert_eq!(
        decode(2, 4, &words(0x04, [b"a", b"b", b"c", b"d"])).unwrap(),
        b"abcd"
    );
    let minus_two = words(0x14, [&[1], &[0], &[0], &[128]]);
    assert_eq!(decode(2, 4, &minus_two).unwrap(), (-2.0_f32).to_le_bytes());
}

#[test]
fn every_malformed_body_is_refused_with_its_reason() {
    let halves = |low: Vec<u8>, high: Vec<u8>, tail: &[u8]| [&[0x02], &low[..], &high, tail].concat();
    let good = || plane(0, 2, b"ab");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame(b"abc")].concat();
    let mut unstated = frame(b"abc");
    // A window descriptor in place of the stated length.
    unstated[4..6].copy_from_slice(&[0x00, 0x00]);
    let mut dictionary = frame(b"abc");
    dictionary[4] = 0x21;
    dictionary.insert(5, 9);
    let rows: Vec<(u8, u32, Vec<u8>, &str)> = vec![
        (1, 3, b"zzzz".to_vec(), "no zstd frame"),
        (1, 4, frame(b"abc"), "states another length"),
        (1, 3, unstated, "does not state its length"),
        (1, 3, [frame(b"abc"), frame(b"")].concat(), "bytes follow"),
        (1, 3, [frame(b"abc"), vec![0]].concat(), "bytes follow"),
        (1, 3, skippable, "another length"),
        (1, 3, frame(b"abc")[..11].to_vec(), "incorrect"),
        (1, 3, dictionary, "ictionary"),
        (1, CHUNK_MAX as u32, run(u32::MAX >> 3), "states another length"),
        (2, 4, vec![0x03], "form is not known"),
        (
            2,
            1,
            halves(plane(0, 0, b""), plane(0, 0, b""), b"x"),
            "shorter than one element",
        ),
        (2, 4, halves(good(), Vec::new(), b""), "within a plane"),
        (
            2,
            4,
            halves(good(), plane(0, u32::MAX, b"ab"), b""),
            "within a plane",
        ),
        (
            2,
            4,
            halves(good(), plane(0, 1, b"a"), b""),
            "raw plane has another length",
        ),
        (
            2,
            4,
            halves(good(), plane(2, 2, b"ab"), b""),
            "coding is not known",
        ),
        (2, 4, halves(good(), good(), b"x"), "do not fill"),
        (2, 5, halves(good(), good(), b""), "do not fill"),
        (2, 4, halves(good(), plane(1, 2, b"ab"), b""), "no zstd frame"),
        (
            2,
            4,
            halves(good(), plane(1, 12, &frame(b"abc")), b""),
            "states another length",
        ),
    ];
    for (encoding, raw_length, body, reason) in rows {
        let error = chunk::decode(&stored(encoding, raw_length, &body)).unwrap_err();
        let ChunkError::Malformed { .. } = error else {
            panic!("{error}")
        };
        let text = error.to_string();
        assert!(text.to_lowercase().contains(reason), "{text}, expected: {reason}");
    }
}

/// Bytes of every kind that meets a site, of any length.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = 1..200_000_usize;
    prop_oneof![
        (any::<u64>(), length.clone()).prop_map(|(seed, length)| noise(seed, length)),
        (any::<u64>(), length.clone()).prop_map(|(seed, length)| bf16(seed, length / 2 + 1)),
        (any::<u64>(), length.clone(), 0..4_usize).prop_map(|(seed, length, more)| [
            f32s(seed, length / 4 + 1),
            vec![1; more]
        ]
        .concat()),
        (1..3000_usize, 0..4_usize).prop_map(|(lines, from)| json(lines).split_off(from)),
        proptest::collection::vec(any::<u8>(), 1..2000),
        // Noise in which only one byte of four, or of three, says little.
        (any::<u64>(), length, 3..5_usize).prop_map(|(seed, length, every)| {
            let mut bytes = noise(seed, length);
            bytes.iter_mut().step_by(every).for_each(|byte| *byte &= 3);
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_come_back(raw in any_bytes()) {
        round_trip(&raw);
    }

    #[test]
    fn a_changed_body_is_refused_or_another_chunk(
        seed in any::<u64>(),
        at in any::<proptest::sample::Index>(),
        bits in 1..=255_u8,
    ) {
        let raw = bf16(seed, 3000);
        let mut stored = encode(&raw).unwrap().stored().to_vec();
        let at = at.index(stored.len());
        stored[at] ^= bits;
        if let Ok(read) = StoredChunk::parse(&stored) {
            prop_assert!(read.decode().is_ok_and(|found| found.len() <= CHUNK_MAX) || read.decode().is_err());
            // A checksum-free frame may decode to other bytes, or a bit without meaning may have changed; never
            // do other bytes pass for the chunk.
            if let Ok(found) = read.verify(&ChunkDigest::of(&raw)) {
                prop_assert!(found == raw);
            }
        }
    }

    #[test]
    fn no_body_makes_a_decoder_panic(
        encoding in 0..3_u8,
        raw_length in 1..100_000_u32,
        body in proptest::collection::vec(any::<u8>(), 1..300),
        form in proptest::sample::select(vec![0x02_u8, 0x12, 0x04, 0x14]),
    ) {
        let _ = chunk::decode(&stored(encoding, raw_length, &body));
        let _ = chunk::decode(&stored(2, raw_length, &[&[form], &body[..]].concat()));
    }
}
