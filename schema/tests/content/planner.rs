use std::collections::HashSet;

use proptest::prelude::*;
use waag_schema::content::planner::{next_cut, plan_tensors};
use waag_schema::content::{CHUNK_MAX, ChunkPlan, Header, PlanError, PlannerId, SafetensorsError};
use waag_schema::{ChunkDigest, FilePath};

use super::{Layout, noise};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn lengths(header: &Header) -> Vec<u64> {
    plan_tensors(header).map(u64::from).collect()
}

/// The chunk lengths behind the header.
fn data_lengths(layout: &Layout) -> Vec<u64> {
    lengths(&layout.header()).split_off(1)
}

/// Where cuts fall in each large tensor, counted from its start.
fn cuts_of_large(header: &Header) -> Vec<(u64, Vec<u64>)> {
    let mut at = 0;
    let ends: Vec<u64> = lengths(header)
        .into_iter()
        .map(|length| {
            at += length;
            at
        })
        .collect();
    let large = header.tensors().iter().filter(|tensor| tensor.size() >= 64 * KIB);
    let mut found: Vec<_> = large
        .map(|tensor| {
            assert!(
                ends.contains(&tensor.bytes.start),
                "{} starts a chunk",
                tensor.name
            );
            let inside = ends
                .iter()
                .filter(|end| (tensor.bytes.start + 1..=tensor.bytes.end).contains(end));
            (
                tensor.size(),
                inside.map(|end| end - tensor.bytes.start).collect(),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn large_tensors_are_cut_into_whole_rows_and_small_neighbours_share() {
    let row = 3 * KIB + 1;
    let layout = Layout::default()
        .bytes("small.1", &[10])
        .bytes("empty", &[0, 7])
        .bytes("small.2", &[64 * KIB - 1])
        .bytes("large", &[3000, row])
        .bytes("exactly", &[64 * KIB])
        .bytes("small.3", &[5])
        .bytes("long row", &[1, 5 * MIB])
        .tensor("vector", "F32", &[3 * MIB], 12 * MIB);
    let slice = 4 * MIB / row * row;
    assert_eq!(
        data_lengths(&layout),
        [
            64 * KIB + 9,
            slice,
            slice,
            3000 * row - 2 * slice,
            64 * KIB,
            5,
            4 * MIB,
            MIB,
            4 * MIB,
            4 * MIB,
            4 * MIB
        ]
    );
}

#[test]
fn a_shared_chunk_stops_at_a_mebibyte() {
    let mut layout = Layout::default();
    for i in 0..40 {
        layout = layout.bytes(format!("t{i}"), &[50 * KIB]);
    }
    assert_eq!(data_lengths(&layout), [1000 * KIB, 1000 * KIB]);
}

#[test]
fn a_header_that_describes_more_than_exists_costs_nothing_to_plan() {
    let json =
        br#"{"w":{"dtype":"U8","shape":[1152921504606846976],"data_offsets":[0,1152921504606846976]}}"#;
    let header = Header::parse_unsized(json).unwrap();
    assert_eq!(plan_tensors(&header).take(3).count(), 3);
}

/// Runs a plan over a file, with a window that grows by `step` bytes at a time.
fn run(mut plan: ChunkPlan, file: &[u8], step: usize) -> Result<Vec<usize>, PlanError> {
    let (mut start, mut end) = (0, 0);
    let mut lengths = Vec::new();
    loop {
        let at_end = end == file.len();
        match plan.next_len(&file[start..end], at_end)? {
            Some(length) => {
                lengths.push(length);
                start += length;
            }
            None if at_end => break,
            None => {
                assert!(end - start < CHUNK_MAX, "a full window is always long enough");
                end = (end + step).min(file.len()).min(start + CHUNK_MAX);
            }
        }
    }
    assert_eq!(start, file.len());
    Ok(lengths)
}

fn path(text: &str) -> FilePath {
    text.parse().unwrap()
}

#[test]
fn a_reader_with_one_buffer_cuts_any_file() {
    let mut layout = Layout::default()
        .bytes("a", &[100, 1000])
        .bytes("b", &[9])
        .bytes("c", &[5 * KIB, 1000]);
    for note in [10, 9 << 20] {
        layout.metadata = Some("n".repeat(note));
        let file = layout.file(|_| 7);
        let expected: Vec<usize> = plan_tensors(&layout.header()).map(|n| n as usize).collect();
        assert_eq!(expected.len() > 6, note > CHUNK_MAX, "a long header is cut");
        for size in [Some(file.len() as u64), None] {
            for step in [1 << 16, CHUNK_MAX] {
                let plan = ChunkPlan::for_file(&path("x/model.SAFETENSORS"), size);
                assert_eq!(run(plan, &file, step).unwrap(), expected);
                let plan = ChunkPlan::for_blob(&file[..9], size);
                assert_eq!(run(plan, &file, step).unwrap(), expected);
            }
        }
    }
    let other = noise(1, 9 << 20);
    let plan = ChunkPlan::for_blob(&other, None);
    assert_eq!(plan.planner(), PlannerId::FastCdc1);
    assert_eq!(run(plan, &other, CHUNK_MAX).unwrap(), all_cuts(&other));
    assert!(
        run(ChunkPlan::for_file(&path("empty"), Some(0)), b"", 1)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_file_called_safetensors_that_is_none_is_an_error_and_can_be_cut_by_content() {
    let garbage = noise(3, 300_000);
    let plan = ChunkPlan::for_file(&path("model.safetensors"), Some(garbage.len() as u64));
    assert!(matches!(
        run(plan, &garbage, CHUNK_MAX),
        Err(PlanError::Header(SafetensorsError::HeaderTooLong { .. }))
    ));
    assert!(matches!(
        run(ChunkPlan::for_file(&path("e.safetensors"), Some(0)), b"", 1),
        Err(PlanError::Header(SafetensorsError::FileTooShort { size: 0 }))
    ));
    let plan = ChunkPlan::new(PlannerId::FastCdc1, Some(garbage.len() as u64));
    assert_eq!(run(plan, &garbage, CHUNK_MAX).unwrap(), all_cuts(&garbage));
}

#[test]
fn a_file_that_is_shorter_or_longer_than_was_said_is_an_error() {
    let layout = Layout::default().bytes("a", &[100, 1000]);
    let file = layout.file(|_| 7);
    let size = file.len() as u64;
    let name = path("model.safetensors");
    let expect = |plan, bytes: &[u8]| {
        let error = run(plan, bytes, CHUNK_MAX).unwrap_err();
        let wrong = matches!(error, PlanError::Size { expected, found, .. } if expected == size && found == bytes.len() as u64);
        assert!(wrong, "{error}");
    };
    let longer = [file.as_slice(), b"x"].concat();
    for known in [Some(size), None] {
        expect(ChunkPlan::for_file(&name, known), &file[..file.len() - 1]);
        expect(ChunkPlan::for_file(&name, known), &longer);
    }
    expect(ChunkPlan::for_file(&name, Some(size)), &file[..20]);
    let in_header = run(ChunkPlan::for_file(&name, None), &file[..20], 1).unwrap_err();
    let (found, available) = (layout.json().len() as u64, 12);
    assert_eq!(
        in_header,
        SafetensorsError::HeaderBeyondFile { found, available }.into()
    );
    expect(ChunkPlan::new(PlannerId::FastCdc1, Some(size)), &longer);
    expect(ChunkPlan::new(PlannerId::FastCdc1, Some(size)), &file[..7]);
}

#[test]
fn renaming_and_resharding_make_only_headers_new() {
    let digests = |layout: &Layout, seed_of: fn(&str) -> u64| -> Vec<ChunkDigest> {
        let file = layout.file(seed_of);
        let mut at = 0;
        let header = layout.header();
        let cut = plan_tensors(&header).map(|length| {
            at += length as usize;
            ChunkDigest::of(&file[at - length as usize..at])
        });
        cut.collect()
    };
    let seed = |name: &str| u64::from(name.as_bytes()[0]);
    let whole = Layout::default()
        .bytes("a", &[700, 1000])
        .bytes("b", &[6000, 1000])
        .bytes("c", &[100, 1000]);
    let first = digests(&whole, seed);
    let mut renamed = whole;
    renamed.tensors[0].0 = "a.with.a.longer.name".into();
    assert_eq!(digests(&renamed, seed)[1..], first[1..]);

    let shards = [
        Layout::default().bytes("c", &[100, 1000]),
        Layout::default()
            .bytes("b", &[6000, 1000])
            .bytes("a", &[700, 1000]),
    ];
    let resharded: HashSet<_> = shards
        .iter()
        .flat_map(|shard| digests(shard, seed).split_off(1))
        .collect();
    assert_eq!(resharded, first[1..].iter().copied().collect());
}

#[test]
fn content_cuts_are_those_of_the_fastcdc_crate_and_stay_what_they_are() {
    let data = noise(42, 24 << 20);
    let theirs: Vec<_> = fastcdc::v2020::FastCDC::new(&data, 256 << 10, 1 << 20, 4 << 20)
        .map(|chunk| chunk.length)
        .collect();
    let ours = all_cuts(&data);
    assert_eq!(ours, theirs);
    // A published recipe depends on these.
    insta::assert_compact_json_snapshot!("fastcdc-1", ours);
}

fn all_cuts(mut data: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(length) = next_cut(data, true) {
        lengths.push(length);
        data = &data[length..];
    }
    lengths
}

/// Noise, zeros and repeats: content that is cut early, never, and in step.
fn content(parts: &[(u8, u64, usize)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (sort, seed, length) in parts {
        match sort {
            0 => data.extend(noise(*seed, *length)),
            1 => data.resize(data.len() + length, *seed as u8),
            _ => data.extend(noise(*seed, 997).iter().cycle().take(*length)),
        }
    }
    data
}

fn layouts() -> impl Strategy<Value = Layout> {
    let shape = prop_oneof![
        prop::collection::vec(0..40_u64, 0..3),
        prop::collection::vec(100..2000_u64, 1..3),
        (1..4_u64, 1..20_000_000_u64).prop_map(|(rows, row)| vec![rows, row]),
    ];
    let dtype = prop::sample::select(vec![("U8", 1_u64), ("BF16", 2), ("F32", 4)]);
    prop::collection::vec((shape, dtype), 0..30).prop_map(|tensors| {
        let mut layout = Layout::default();
        for (i, (shape, (dtype, element))) in tensors.into_iter().enumerate() {
            let size = shape.iter().product::<u64>() * element;
            layout = layout.tensor(format!("t{i}"), dtype, &shape, size);
        }
        layout
    })
}

proptest! {
    #[test]
    fn tensor_chunks_cover_the_file_and_none_is_empty_or_too_large(layout in layouts()) {
        let header = layout.header();
        let lengths = lengths(&header);
        prop_assert_eq!(lengths.iter().sum::<u64>(), header.file_size());
        prop_assert!(lengths.iter().all(|length| (1..=CHUNK_MAX as u64).contains(length)));
        prop_assert_eq!(lengths[0], header.data_start());
        for (size, cuts) in cuts_of_large(&header) {
            prop_assert_eq!(cuts.last(), Some(&size));
        }
    }

    #[test]
    fn cuts_in_a_large_tensor_depend_on_it_alone(layout in layouts(), rename in any::<bool>(), by in 0..30_usize) {
        let before = cuts_of_large(&layout.header());
        let mut other = layout;
        other.metadata = Some("moves everything".into());
        if !other.tensors.is_empty() {
            let by = by % other.tensors.len();
            other.tensors.rotate_left(by);
        }
        if rename {
            for tensor in &mut other.tensors {
                tensor.0.push_str(".renamed");
            }
        }
        prop_assert_eq!(&before, &cuts_of_large(&other.header()));

        let half = other.tensors.split_off(other.tensors.len() / 2);
        let rest = Layout { tensors: half, metadata: None };
        let mut sharded = cuts_of_large(&other.header());
        sharded.extend(cuts_of_large(&rest.header()));
        sharded.sort();
        prop_assert_eq!(&before, &sharded);
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_plan(bytes in prop::collection::vec(any::<u8>(), 0..100), n in 0..100_u64, sized in any::<bool>()) {
        let mut file = n.to_le_bytes().to_vec();
        file.push(b'{');
        file.extend(bytes);
        let size = sized.then_some(file.len() as u64);
        let _ = run(ChunkPlan::new(PlannerId::Tensors1, size), &file, 3);
        let _ = run(ChunkPlan::for_blob(&file, size), &file, 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn content_cuts_do_not_depend_on_the_windows(
        parts in prop::collection::vec((0..3_u8, 1..1000_u64, 1..4_000_000_usize), 0..4),
        windows in prop::collection::vec(1..5_000_000_usize, 1..8),
    ) {
        let data = content(&parts);
        let expected = all_cuts(&data);
        let (last, others) = expected.split_last().map_or((&0, [].as_slice()), |split| split);
        prop_assert!(*last <= CHUNK_MAX && others.iter().all(|n| (256 << 10..=CHUNK_MAX).contains(n)));

        let (mut start, mut end, mut turn) = (0, 0, 0);
        let mut found = Vec::new();
        while start < data.len() {
            match next_cut(&data[start..end], end == data.len()) {
                Some(length) => {
                    found.push(length);
                    start += length;
                }
                None => {
                    prop_assert!(end < data.len());
                    end = (end + windows[turn % windows.len()]).min(data.len());
                    turn += 1;
                }
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn planners_are_called_what_they_print() {
    for planner in [PlannerId::Tensors1, PlannerId::FastCdc1, PlannerId::Gguf1] {
        assert_eq!(planner.to_string().parse(), Ok(planner));
        assert_eq!(serde_json::to_value(planner).unwrap(), planner.as_str());
        assert_eq!(PlannerId::from_code(planner.code()), Some(planner));
    }
    assert!("tensors-2".parse::<PlannerId>().is_err());
    assert_eq!(PlannerId::from_code(0), None);
}
