//! Stored chunks, frames, recipes and where planners cut.

use serde_json::{Value, json};
use waag_schema::ChunkDigest;
use waag_schema::content::frame::encode_frame_header;
use waag_schema::content::planner::{next_cut, plan_tensors};
use waag_schema::content::{CHUNK_MAX, FrameDecoder, Header, PlannerId, Recipe, RecipeBuilder, StoredChunk};

use super::{hex, noise};

pub(super) fn vectors() -> Value {
    json!({
        "chunks": [
            chunk(b"abc"),
            json!({"stored": hex(b"WC\x01\x01\x00\x00\x00\x03zzzz"), "encoding": "zstd", "raw_length": 3}),
            json!({"stored": hex(b"WC\x01\x02\x00\x40\x00\x00p"), "encoding": "planes", "raw_length": CHUNK_MAX}),
            json!({"stored": hex(&[&b"WC\x01\x03\x00\x00\x00\x03"[..], &[7; 32], b"d"].concat()), "encoding": "delta",
                "raw_length": 3, "base": hex(&[7; 32])}),
        ],
        "chunks_refused": chunks_refused(),
        "frames": frames(),
        "frames_refused": frames_refused(),
        "recipes": recipes(),
        "recipes_refused": recipes_refused(),
        "fastcdc": fastcdc(),
        "tensors": tensors(),
        "tensors_refused": tensors_refused(),
    })
}

fn chunk(raw: &[u8]) -> Value {
    let stored = StoredChunk::raw(raw).unwrap().to_vec();
    let digest = ChunkDigest::of(raw);
    StoredChunk::parse(&stored).unwrap().verify(&digest).unwrap();
    json!({"stored": hex(&stored), "encoding": "raw", "raw_length": raw.len(), "chunk": digest, "raw": hex(raw)})
}

fn chunks_refused() -> Vec<Value> {
    let rows: [(&str, &[u8]); 10] = [
        ("no header", b"WC\x01\x00\x00\x00\x00"),
        ("no body", b"WC\x01\x00\x00\x00\x00\x01"),
        ("other magic", b"XC\x01\x00\x00\x00\x00\x01a"),
        ("version 2", b"WC\x02\x00\x00\x00\x00\x01a"),
        ("encoding 4", b"WC\x01\x04\x00\x00\x00\x01a"),
        ("raw length 0", b"WC\x01\x00\x00\x00\x00\x00"),
        ("raw length of 4 MiB and 1", b"WC\x01\x01\x00\x40\x00\x01a"),
        ("body shorter than said", b"WC\x01\x00\x00\x00\x00\x02a"),
        ("body longer than said", b"WC\x01\x00\x00\x00\x00\x01ab"),
        ("a delta without its base", b"WC\x01\x03\x00\x00\x00\x01abc"),
    ];
    for (why, stored) in rows {
        assert!(StoredChunk::parse(stored).is_err(), "{why}");
    }
    rows.map(|(why, stored)| json!({"why": why, "stored": hex(stored)}))
        .into()
}

fn frame(raw: &[u8]) -> Vec<u8> {
    let stored = StoredChunk::raw(raw).unwrap().to_vec();
    let header = encode_frame_header(&ChunkDigest::of(raw), stored.len()).unwrap();
    [&header[..], &stored].concat()
}

fn frames() -> Value {
    let bytes = [frame(b"abc"), frame(b"d")].concat();
    let (mut decoder, mut input) = (FrameDecoder::new(), &bytes[..]);
    let mut found = Vec::new();
    while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
        found.push(json!({"chunk": frame.chunk, "stored": hex(&frame.stored)}));
    }
    decoder.finish().unwrap();
    json!([{"bytes": hex(&bytes), "frames": found}, {"bytes": "", "frames": []}])
}

fn frames_refused() -> Vec<Value> {
    let good = frame(b"abc");
    let with_length = |length: u32| [&good[..32], &length.to_be_bytes(), &good[36..]].concat();
    let rows = [
        ("it ends within a header", good[..20].to_vec()),
        ("it ends within a body", good[..good.len() - 1].to_vec()),
        ("no body", with_length(8)[..36 + 8].to_vec()),
        ("longer than 4 MiB and 1 KiB", with_length((4 << 20) + 1025)),
    ];
    for (why, bytes) in &rows {
        let (mut decoder, mut input) = (FrameDecoder::new(), &bytes[..]);
        let refused = loop {
            match decoder.next_frame(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => break decoder.finish().is_err(),
                Err(_) => break true,
            }
        };
        assert!(refused, "{why}");
    }
    rows.map(|(why, bytes)| json!({"why": why, "bytes": hex(&bytes)}))
        .into()
}

fn recipe(planner: PlannerId, files: &[&[u8]]) -> Recipe {
    let mut builder = RecipeBuilder::new(planner);
    for raw in files {
        builder.push_chunk(ChunkDigest::of(raw), raw.len()).unwrap();
    }
    builder.finish()
}

fn recipes() -> Vec<Value> {
    let shared = {
        let mut builder = RecipeBuilder::new(PlannerId::FastCdc1);
        let chunk = ChunkDigest::of(b"abcdef");
        for (offset, length) in [(4, 2), (0, 4), (1, 1)] {
            let piece = waag_schema::content::Piece {
                chunk,
                offset,
                length,
            };
            builder.push(piece).unwrap();
        }
        builder.finish()
    };
    let rows = [
        (recipe(PlannerId::FastCdc1, &[]), "", json!({})),
        (
            recipe(PlannerId::Tensors1, &[b"abc", b"d", b"abc"]),
            "abcdabc",
            json!(["abc", "d"]),
        ),
        (shared, "efabcdb", json!(["abcdef"])),
    ];
    let row = |(recipe, file, chunks): (Recipe, &str, Value)| {
        assert_eq!(Recipe::decode(&recipe.canonical()).unwrap(), recipe);
        assert_eq!(recipe.size(), file.len() as u64);
        let pieces = recipe.pieces().iter();
        json!({
            "bytes": hex(&recipe.canonical()),
            "digest": recipe.digest(),
            "planner": recipe.planner(),
            "size": recipe.size(),
            "pieces": pieces.map(|p| json!([p.chunk, p.offset, p.length])).collect::<Vec<_>>(),
            "chunks": chunks,
            "file": file,
        })
    };
    rows.map(row).into()
}

fn recipes_refused() -> Vec<Value> {
    let good = recipe(PlannerId::FastCdc1, &[b"abc", b"d"]).canonical();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let rows = [
        ("other magic", with(0, b"X")),
        ("version 2", with(4, &[2])),
        ("planner 3", with(5, &[3])),
        ("another size than its pieces", with(13, &[5])),
        ("more pieces counted than there are", with(17, &[3])),
        ("fewer pieces counted than there are", with(17, &[1])),
        ("more than 4,194,304 pieces", with(14, &[0, 0x40, 0, 1])),
        ("an empty piece", with(18 + 36, &[0, 0, 0, 0])),
        ("a piece beyond 4 MiB", with(18 + 32, &[0, 0x3f, 0xff, 0xfe])),
        ("a byte behind its end", [&good[..], &[0]].concat()),
        ("a byte short", good[..good.len() - 1].to_vec()),
    ];
    for (why, bytes) in &rows {
        assert!(Recipe::decode(bytes).is_err(), "{why}");
    }
    rows.map(|(why, bytes)| json!({"why": why, "bytes": hex(&bytes)}))
        .into()
}

fn fastcdc() -> Vec<Value> {
    let row = |input: Value, file: &[u8]| {
        let mut rest = file;
        let mut lengths = Vec::new();
        while let Some(length) = next_cut(rest, true) {
            lengths.push(length);
            rest = &rest[length..];
        }
        json!({"input": input, "lengths": lengths})
    };
    let noisy =
        |seed: u64, length: usize| row(json!({"noise": seed, "length": length}), &noise(seed, length));
    let zeros = |length: usize| row(json!({"zeros": length}), &vec![0; length]);
    vec![
        zeros(0),
        zeros(1),
        zeros(262_144),
        zeros(5_000_001),
        noisy(1, 262_145),
        noisy(2, 5_000_000),
        noisy(3, 2_500_001),
    ]
}

/// Header JSON and where a file with this header is cut; its data plays no part.
fn tensors() -> Vec<Value> {
    let row = |json: &str, data: u64| {
        let size = 8 + json.len() as u64 + data;
        let header = Header::parse(json.as_bytes(), size).unwrap();
        json!({"header": json, "size": size, "lengths": plan_tensors(&header).collect::<Vec<_>>()})
    };
    vec![
        row("{}", 0),
        row(
            r#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   "#,
            4,
        ),
        // Two small ones, an empty one between, share; a large one is cut at its rows; then a small one again.
        row(
            r#"{"b":{"dtype":"BF16","shape":[5],"data_offsets":[10,20]},"a":{"dtype":"U8","shape":[10],"data_offsets":[0,10]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[10,10]},"w":{"dtype":"F32","shape":[3000,700],"data_offsets":[20,8400020]},"z":{"dtype":"U8","shape":[3],"data_offsets":[8400020,8400023]}}"#,
            8_400_023,
        ),
        // Exactly 64 KiB stands alone; a row of more than 4 MiB is cut where the chunk is full; F4 rows of half bytes.
        row(
            r#"{"k":{"dtype":"U8","shape":[65536],"data_offsets":[0,65536]},"l":{"dtype":"U8","shape":[2,5000000],"data_offsets":[65536,10065536]},"q":{"dtype":"F4","shape":[4000,4001],"data_offsets":[10065536,18067536]}}"#,
            18_067_536,
        ),
        // 40 tensors of 50 KiB: shared chunks stop at 1 MiB.
        row(&many(), 40 * 51_200),
    ]
}

fn many() -> String {
    let tensor = |i: u64| {
        let (begin, end) = (i * 51_200, (i + 1) * 51_200);
        format!(r#""t{i}":{{"dtype":"U8","shape":[51200],"data_offsets":[{begin},{end}]}}"#)
    };
    format!("{{{}}}", (0..40).map(tensor).collect::<Vec<_>>().join(","))
}

fn tensors_refused() -> Vec<Value> {
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let rows = [
        ("a gap in front", one("[4]", "[2,6]"), 6),
        ("bytes behind the last tensor", one("[4]", "[0,4]"), 5),
        ("beyond the end of the file", one("[4]", "[0,4]"), 3),
        ("offsets of another length than the shape", one("[5]", "[0,4]"), 4),
        ("one name twice", r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.to_owned(), 2),
        ("an overlap", r#"{"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#.to_owned(), 3),
        ("half a byte", r#"{"w":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#.to_owned(), 1),
        ("an unknown dtype", r#"{"w":{"dtype":"U9","shape":[1],"data_offsets":[0,1]}}"#.to_owned(), 1),
        ("an unknown key", r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#.to_owned(), 1),
        ("metadata that is not text", r#"{"__metadata__":{"a":1}}"#.to_owned(), 0),
        ("a space in front", " {}".to_owned(), 0),
    ];
    for (why, json, data) in &rows {
        assert!(
            Header::parse(json.as_bytes(), 8 + json.len() as u64 + data).is_err(),
            "{why}"
        );
    }
    let row = |(why, json, data): (&str, String, u64)| json!({"why": why, "size": 8 + json.len() as u64 + data, "header": json});
    rows.map(row).into()
}
