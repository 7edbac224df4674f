//! GGUF: what a header says is checked before it is believed, and files are cut at their tensors.

use std::collections::HashSet;

use proptest::prelude::*;
use waag_schema::content::gguf::{GgufError, Header, Reading};
use waag_schema::content::planner::plan_gguf;
use waag_schema::content::{CHUNK_MAX, ChunkPlan, PlanError, PlannerId};
use waag_schema::{ChunkDigest, FilePath};

use super::noise;

const F32: u32 = 0;
const Q4_K: u32 = 12;

/// A GGUF file in the making.
#[derive(Debug, Clone, Default)]
struct File {
    /// Keys and values as bytes.
    pairs: Vec<(String, Vec<u8>)>,
    /// Name, dimensions, type, bytes without padding.
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
}

impl File {
    fn text(mut self, key: &str, value: &str) -> Self {
        self.pairs
            .push((key.to_owned(), [&8_u32.to_le_bytes()[..], &text(value)].concat()));
        self
    }

    /// A vocabulary: an array of texts.
    fn vocabulary(mut self, tokens: u64) -> Self {
        let mut value = [9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat();
        value.extend(tokens.to_le_bytes());
        value.extend((0..tokens).flat_map(|token| text(&format!("token {token}"))));
        self.pairs.push(("tokenizer.ggml.tokens".to_owned(), value));
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, size: u64) -> Self {
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, size));
        self
    }

    fn f32(self, name: &str, elements: u64) -> Self {
        self.tensor(name, &[elements], F32, elements * 4)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = b"GGUF\x03\0\0\0".to_vec();
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            header.extend(text(key));
            header.extend(value);
        }
        let mut offset = 0_u64;
        for (name, shape, kind, size) in &self.tensors {
            header.extend(text(name));
            header.extend((shape.len() as u32).to_le_bytes());
            header.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
            header.extend(kind.to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset = (offset + size).next_multiple_of(32);
        }
        header
    }

    /// The whole file, each tensor filled from a seed of its own.
    fn bytes(&self, seed_of: impl Fn(&str) -> u64) -> Vec<u8> {
        let mut file = self.header();
        let pad = |file: &mut Vec<u8>| file.resize(file.len().next_multiple_of(32), 0);
        pad(&mut file);
        for (name, _, _, size) in &self.tensors {
            file.extend(noise(seed_of(name), *size as usize));
            pad(&mut file);
        }
        file
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn read(file: &[u8]) -> Header {
    match Header::read(file, file.len() as u64).unwrap() {
        Reading::Whole(header) => header,
        Reading::NeedsMore => panic!("all of it is there"),
    }
}

/// Cuts a file through windows of this many bytes at least.
fn cut(file: &[u8], window: usize) -> Result<Vec<usize>, PlanError> {
    let path: FilePath = "m.GGUF".parse().unwrap();
    let mut plan = ChunkPlan::for_file(&path, Some(file.len() as u64));
    assert_eq!(plan.planner(), PlannerId::Gguf1);
    let (mut lengths, mut at, mut seen) = (Vec::new(), 0, 0);
    loop {
        seen = (seen + window).min(file.len());
        while let Some(length) = plan.next_len(&file[at..seen], seen == file.len())? {
            lengths.push(length);
            at += length;
        }
        if seen == file.len() {
            assert_eq!(at, file.len());
            assert!(plan.gguf().is_some());
            return Ok(lengths);
        }
    }
}

#[test]
fn a_file_is_read_and_cut_at_its_tensors() {
    let file = File::default()
        .text("general.architecture", "llama")
        .text("general.name", "Tiny")
        .vocabulary(500)
        .f32("norm", 100)
        .tensor("blk.0.w", &[256, 40_000], Q4_K, 40_000 * 144)
        .f32("scalar", 1);
    let bytes = file.bytes(|name| name.len() as u64);
    let header = read(&bytes);
    assert_eq!(header.facts().architecture.as_deref(), Some("llama"));
    assert_eq!(header.facts().name.as_deref(), Some("Tiny"));
    assert_eq!(header.parameters(), 100 + 256 * 40_000 + 1);
    let names: Vec<_> = header
        .tensors()
        .iter()
        .map(|t| (t.name.as_str(), t.element.name(), t.size()))
        .collect();
    let q4_k = 40_000 * 144;
    assert_eq!(
        names,
        [
            ("norm", Some("f32"), 416),
            ("blk.0.w", Some("q4_K"), q4_k),
            ("scalar", Some("f32"), 32)
        ]
    );
    let start = header.data_start() as usize;
    let expected = [start, 416, CHUNK_MAX, q4_k as usize - CHUNK_MAX, 32];
    for window in [1000, CHUNK_MAX, 2 * CHUNK_MAX] {
        assert_eq!(cut(&bytes, window).unwrap(), expected, "{window}");
    }
    assert!(plan_gguf(&header).map(|length| length as usize).eq(expected));
}

#[test]
fn a_header_of_many_chunks_is_cut_as_it_comes() {
    let file = File::default().vocabulary(500_000).f32("w", 20_000);
    let bytes = file.bytes(|_| 1);
    let header = read(&bytes);
    assert!(header.data_start() > 2 * CHUNK_MAX as u64);
    let expected: Vec<usize> = plan_gguf(&header).map(|length| length as usize).collect();
    for window in [100_000, CHUNK_MAX, 2 * CHUNK_MAX] {
        assert_eq!(cut(&bytes, window).unwrap(), expected, "{window}");
    }
}

#[test]
fn one_changed_tensor_and_another_name_make_few_chunks_new() {
    let file = |name: &str| {
        let mut file = File::default().text("general.name", name);
        for layer in 0..20 {
            file = file
                .f32(&format!("blk.{layer}.w"), 50_000)
                .f32(&format!("blk.{layer}.norm"), 10);
        }
        file
    };
    let seed = |name: &str| name.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte));
    let chunks = |bytes: &[u8]| {
        let mut at = 0;
        let mut digest = |length: &usize| {
            at += length;
            ChunkDigest::of(&bytes[at - length..at])
        };
        cut(bytes, 2 * CHUNK_MAX)
            .unwrap()
            .iter()
            .map(&mut digest)
            .collect::<HashSet<_>>()
    };
    let old = chunks(&file("one").bytes(seed));
    let new = chunks(&file("another name").bytes(|name| if name == "blk.7.w" { 7 } else { seed(name) }));
    assert_eq!(new.difference(&old).count(), 2, "the header and the tensor");
}

#[test]
fn every_malformed_header_is_refused_for_its_own_reason() {
    let good = File::default().text("general.name", "x").f32("w", 8).f32("v", 8);
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.bytes(|_| 1);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let with = |key: &str, value: &[u8]| {
        let mut file = good.clone();
        file.pairs.push((key.to_owned(), value.to_vec()));
        file.bytes(|_| 1)
    };
    let whole = good.bytes(|_| 1);
    let nested = [9_u32.to_le_bytes(); 6]
        .iter()
        .flat_map(|kind| [&kind[..], &1_u64.to_le_bytes()].concat())
        .collect::<Vec<u8>>();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (changed(0, b"g"), "does not start with GGUF"),
        (changed(4, &[1]), "version 1"),
        (changed(4, &[0, 0, 0, 3]), "big-endian"),
        (changed(8, &[255; 8]), "tensors, at most"),
        (changed(16, &[255; 8]), "pairs, at most"),
        (changed(24, &[255; 8]), "a key has"),
        (changed(32, &[255]), "a key is not UTF-8"),
        (whole[..60].to_vec(), "the header needs"),
        (whole[..whole.len() - 1].to_vec(), "is given 31"),
        ([&whole[..], &[0; 32]].concat(), "is given 64"),
        (with("general.name", &[0; 5]), "key `general.name` stands twice"),
        (with("k", &13_u32.to_le_bytes()), "unknown type 13"),
        (with("k", &[7, 0, 0, 0, 2]), "neither true nor false but 2"),
        (
            with("k", &[&9_u32.to_le_bytes()[..], &nested[4..]].concat()),
            "the header needs",
        ),
        (
            with("k", &[&[9, 0, 0, 0][..], &nested].concat()[..]),
            "nested too deep",
        ),
        (
            with("k", &[&[9, 0, 0, 0, 8, 0, 0, 0][..], &[255; 8]].concat()),
            "the header needs",
        ),
        (
            with("k", &[&[8, 0, 0, 0][..], &[255; 8]].concat()),
            "the header needs",
        ),
        (
            with("general.alignment", &[4, 0, 0, 0, 3, 0, 0, 0]),
            "power of two",
        ),
        (
            {
                let align = ("general.alignment".to_owned(), vec![4, 0, 0, 0, 64, 0, 0, 0]);
                let mut file = File::default().tensor("w", &[1], 1000, 32).f32("v", 8);
                file.pairs.push(align);
                file.bytes(|_| 1)
            },
            "multiple of the alignment",
        ),
        (
            File::default().f32("w", 8).f32("w", 8).bytes(|_| 1),
            "tensor `w` stands twice",
        ),
        (
            File::default().tensor("w", &[1; 9], F32, 4).bytes(|_| 1),
            "more than 8 dimensions",
        ),
        (
            File::default()
                .tensor("w", &[1 << 40, 1 << 40], F32, 4)
                .bytes(|_| 1),
            "overflows",
        ),
        (
            File::default().tensor("w", &[1 << 63], F32, 4).bytes(|_| 1),
            "overflows",
        ),
        (
            File::default().tensor("w", &[255], Q4_K, 144).bytes(|_| 1),
            "whole blocks",
        ),
        (
            File::default().tensor("w", &[9], F32, 32).bytes(|_| 1),
            "needs 36 bytes",
        ),
        (
            File::default()
                .f32("w", 8)
                .tensor("v", &[0], F32, 0)
                .tensor("u", &[9], F32, 4)
                .bytes(|_| 1),
            "needs 36",
        ),
        ([File::default().header(), vec![0; 33]].concat(), "has no tensors"),
    ];
    for (file, reason) in rows {
        let error = Header::read(&file, file.len() as u64).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}, expected: {reason}");
        assert_eq!(cut(&file, 2 * CHUNK_MAX), Err(PlanError::Gguf(error)));
    }
    let mut unsized_plan = ChunkPlan::new(PlannerId::Gguf1, None);
    assert_eq!(
        unsized_plan.next_len(&whole, true),
        Err(GgufError::SizeUnknown.into())
    );
}

#[test]
fn a_type_of_a_later_version_is_believed_its_offsets() {
    let file = File::default().tensor("w", &[7, 3], 1000, 100).f32("v", 2);
    let bytes = file.bytes(|_| 1);
    let header = read(&bytes);
    assert_eq!(
        (header.tensors()[0].element.name(), header.tensors()[0].size()),
        (None, 128)
    );
    assert_eq!(header.tensors()[0].element.code(), 1000);
}

#[test]
fn a_vocabulary_without_tensors_is_all_header() {
    let header = File::default().vocabulary(9).header();
    assert_eq!(cut(&header, 10).unwrap(), [header.len()]);
    let padded = [
        &header[..],
        &vec![0; header.len().next_multiple_of(32) - header.len()],
    ]
    .concat();
    assert_eq!(cut(&padded, 10).unwrap(), [padded.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_cover_any_file_and_do_not_depend_on_the_windows(
        sizes in proptest::collection::vec(0..60_000_u64, 0..20),
        tokens in 0..1000_u64,
        window in 1000..CHUNK_MAX,
    ) {
        let mut file = File::default().vocabulary(tokens);
        for (index, size) in sizes.iter().enumerate() {
            file = file.f32(&format!("t{index}"), *size);
        }
        let bytes = file.bytes(|_| 3);
        let lengths = cut(&bytes, window).unwrap();
        prop_assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
        prop_assert!(lengths.iter().all(|length| (1..=CHUNK_MAX).contains(length)));
        prop_assert_eq!(lengths, cut(&bytes, bytes.len()).unwrap());
    }

    #[test]
    fn a_damaged_header_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut_at in any::<proptest::sample::Index>()) {
        let mut bytes = File::default().text("general.name", "x").vocabulary(3).f32("w", 9).f32("v", 3).bytes(|_| 1);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = cut(&bytes, 64);
        let part = &bytes[..cut_at.index(bytes.len())];
        let _ = cut(part, 64);
        let _ = Header::read(part, u64::MAX);
    }
}
