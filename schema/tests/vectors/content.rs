//! Stored chunks, frames, recipes and where planners cut.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waag_schema::content::frame::encode_frame_header;
use waag_schema::content::gguf::{self, Reading};
use waag_schema::content::planner::{next_cut, plan_gguf, plan_tensors};
use waag_schema::content::{
    Challenge, FrameDecoder, Header, Nonce, Part, PlannerId, Recipe, RecipeBuilder, StoredChunk,
};
use waag_schema::{ChunkDigest, Sha256, SiteId};

use super::{hex, noise};

pub(super) fn vectors() -> Value {
    json!({
        "chunks": [
            chunk("the bytes", &stored(0, 3, b"abc")),
            chunk("a frame of one raw block", &stored(1, 3, &frame_of(b"abc"))),
            chunk("a frame of one repeated byte", &stored(1, 200, &run_of(200, b'r'))),
            chunk("elements of 2 bytes and a tail", &planes(5, 0x02, &[&plain(b"ac"), &plain(b"bd")], b"e")),
            chunk("bfloat16 1.0 and -2.0", &planes(4, 0x12, &[&plain(&[0, 1]), &plain(&[127, 128])], b"")),
            chunk("elements of 4 bytes and a tail", &planes(11, 0x04, &[&plain(b"ae"), &plain(b"bf"), &plain(b"cg"),
                &plain(b"dh")], b"ijk")),
            chunk("float32 -2.0", &planes(4, 0x14, &[&plain(&[1]), &plain(&[0]), &plain(&[0]), &plain(&[128])], b"")),
            chunk("planes in frames", &planes(401, 0x12, &[&coded(&run_of(200, 1)), &coded(&frame_of(&noise(5, 200)))],
                b"t")),
            compressed(),
            json!({"why": "reserved", "stored": hex(&[&b"WC\x01\x03\x00\x00\x00\x03"[..], &[7; 32], b"d"].concat()), "encoding": "delta",
                "raw_length": 3, "base": hex(&[7; 32])}),
        ],
        "chunks_refused": chunks_refused(),
        "frames": frames(),
        "frames_refused": frames_refused(),
        "recipes": recipes(),
        "challenges": challenges(),
        "recipes_refused": recipes_refused(),
        "fastcdc": fastcdc(),
        "tensors": tensors(),
        "tensors_refused": tensors_refused(),
        "gguf": gguf(),
        "gguf_refused": gguf_refused(),
    })
}

fn chunk(why: &str, stored: &[u8]) -> Value {
    let read = StoredChunk::parse(stored).unwrap();
    let raw = read.decode().unwrap();
    json!({"why": why, "stored": hex(stored), "encoding": read.encoding().to_string(), "raw_length": raw.len(),
        "chunk": ChunkDigest::of(&raw), "raw": hex(&raw)})
}

/// What needs a real zstd decoder: its exponents are Huffman-coded. Fixed bytes, because another version of zstd
/// may write others.
fn compressed() -> Value {
    let mut row = chunk("needs a zstd decoder", &HEXLOWER.decode(COMPRESSED).unwrap());
    row["compressed"] = true.into();
    row
}

const COMPRESSED: &[u8] = b"\
    5743010200000258140000000096bd578b3828ae43aa73f131eae2b781aa2c04b71158e1309b45aba15e4ab02a49b490f31ae2eb\
    ed648bc89c13e72e27bf3f0899797d2aec27ab73bd210eff63ed45f86ff5158f015f1f380f4438723f2376654ebbd95419b6075f\
    285c1b4a7bac576f95f076955a6309c116d6709a15d913eb1e8f3b4e3452e284956d69c0abb9eb42ad425330187d156c00381741\
    30fc1bbf2a2f6d66010000004928b52ffd209605020062090f0bd0a5032949b91f00804603ef8a505434c35c9d9f4b5f1cda7050\
    9796dff2b696862fe57abffca88bc1f9bfb74b826896de60ce7e76f7c6071ffe2b000000000096da1e3b92ba122389796ead8a29\
    78ad4d73b3152b915c1d5237108ca3c94d0e3ecb1dfad4d99a1b15d73b25a742bd911115559e00fcc13668d3b436af66462c9bdb\
    8a0ed339bbe3567074e0ac3b38c51b44420205a72465159209161a4bcf5d757bfca607923022f619b2e6d6270efec63cb41911eb\
    b7895b69f8a8540d00580205d79476a2254e6849680736608b40cb370e559ad152010000004728b52ffd2096f5010062890e0bd0\
    a531292599280000ac055f6290733a56688c70fbf85bbbebce397cfd8427760f3ed3bc2f0b84fca7469e06af69183ae49597f9b8\
    43fafc4500";

fn stored(encoding: u8, raw_length: u32, body: &[u8]) -> Vec<u8> {
    [&[b'W', b'C', 1, encoding], &raw_length.to_be_bytes()[..], body].concat()
}

fn planes(raw_length: u32, form: u8, planes: &[&[u8]], tail: &[u8]) -> Vec<u8> {
    stored(
        2,
        raw_length,
        &[&[form], planes.concat().as_slice(), tail].concat(),
    )
}

fn plane(coding: u8, bytes: &[u8]) -> Vec<u8> {
    [&[coding], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    plane(0, bytes)
}

fn coded(frame: &[u8]) -> Vec<u8> {
    plane(1, frame)
}

/// A zstd frame of one raw block that states its length, at most 255 bytes.
fn frame_of(bytes: &[u8]) -> Vec<u8> {
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

/// A zstd frame of one byte, repeated.
fn run_of(length: u8, byte: u8) -> Vec<u8> {
    vec![
        0x28,
        0xb5,
        0x2f,
        0xfd,
        0x20,
        length,
        length << 3 | 3,
        length >> 5,
        0,
        byte,
    ]
}

fn chunks_refused() -> Vec<Value> {
    let with_planes = |planes_: &[&[u8]], tail: &[u8]| planes(4, 0x02, planes_, tail);
    let unstated = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0x19, 0, 0], &b"abc"[..]].concat();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame_of(b"abc")].concat();
    let rows: [(&str, &[u8]); 23] = [
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
        ("no frame", &stored(1, 3, b"zzzz")),
        ("a frame of another length", &stored(1, 4, &frame_of(b"abc"))),
        ("a frame that does not state its length", &stored(1, 3, &unstated)),
        (
            "two frames",
            &stored(1, 3, &[frame_of(b"abc"), frame_of(b"")].concat()),
        ),
        ("a skippable frame in front", &stored(1, 3, &skippable)),
        ("a frame cut short", &stored(1, 3, &frame_of(b"abc")[..11])),
        (
            "a form of elements of 3 bytes",
            &planes(3, 0x03, &[&plain(b"a"), &plain(b"b"), &plain(b"c")], b""),
        ),
        (
            "less than one element",
            &planes(1, 0x02, &[&plain(b""), &plain(b"")], b"a"),
        ),
        ("a plane is missing", &with_planes(&[&plain(b"ab")], b"")),
        (
            "a raw plane of another length",
            &with_planes(&[&plain(b"ab"), &plain(b"c")], b""),
        ),
        (
            "a plane with coding 2",
            &with_planes(&[&plain(b"ab"), &plane(2, b"cd")], b""),
        ),
        (
            "a tail where there is none",
            &with_planes(&[&plain(b"ab"), &plain(b"cd")], b"e"),
        ),
        (
            "a coded plane of another length",
            &with_planes(&[&plain(b"ab"), &coded(&frame_of(b"abc"))], b""),
        ),
    ];
    for (why, stored) in rows {
        assert!(waag_schema::content::chunk::decode(stored).is_err(), "{why}");
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

/// Offsets, and the bytes there.
type Ranges = [(u64, Vec<u8>)];

/// What a site answers that has these bytes.
fn challenges() -> Vec<Value> {
    let site: SiteId = "dh6xxvclp4rnybaxwrxuolsabmygermx".parse().unwrap();
    let rows: [(&str, u64, &Ranges); 2] = [
        ("one byte", 0, &[(0, vec![b'w'])]),
        (
            "two ranges, of which one is as long as any",
            1,
            &[(1 << 33, noise(4, 16 << 10)), (7, noise(5, 40))],
        ),
    ];
    let row = |(why, seed, ranges): (&str, u64, &Ranges)| {
        let parts = ranges.iter().map(|(offset, bytes)| Part {
            file: Sha256::of(bytes),
            offset: *offset,
            length: bytes.len() as u32,
        });
        let challenge = Challenge {
            manifest: Sha256::of(b"manifest"),
            nonce: Nonce::from_bytes(noise(seed, 32).try_into().unwrap()),
            parts: parts.collect(),
        };
        let bytes: Vec<&[u8]> = ranges.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        let answer = challenge.answer(&site, &bytes).unwrap();
        let parts: Vec<Value> = challenge
            .parts
            .iter()
            .zip(&bytes)
            .map(|(part, bytes)| json!({"file": part.file, "offset": part.offset, "bytes": hex(bytes)}))
            .collect();
        json!({"why": why, "site": site, "manifest": challenge.manifest, "nonce": challenge.nonce, "parts": parts,
            "answer": answer})
    };
    rows.into_iter().map(row).collect()
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
        ("planner 4", with(5, &[4])),
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

/// A GGUF header of version 3: pairs of key and value as bytes, tensors of name, dimensions, type and offset.
fn gguf_header(pairs: &[(&str, &[u8])], tensors: &[(&str, &[u64], u32, u64)]) -> Vec<u8> {
    let mut header = [&b"GGUF\x03\0\0\0"[..], &(tensors.len() as u64).to_le_bytes()].concat();
    let text = |header: &mut Vec<u8>, text: &str| {
        header.extend((text.len() as u64).to_le_bytes());
        header.extend(text.bytes());
    };
    header.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        text(&mut header, key);
        header.extend_from_slice(value);
    }
    for (name, shape, kind, offset) in tensors {
        text(&mut header, name);
        header.extend((shape.len() as u32).to_le_bytes());
        header.extend(shape.iter().flat_map(|dim| dim.to_le_bytes()));
        header.extend(kind.to_le_bytes());
        header.extend(offset.to_le_bytes());
    }
    header
}

/// Header bytes (without padding, that is any) and where a file with this header is cut.
fn gguf() -> Vec<Value> {
    let row = |header: Vec<u8>, data: u64, alignment: u64| {
        let size = (header.len() as u64).next_multiple_of(alignment) + data;
        let mut first = header.clone();
        first.resize(header.len().next_multiple_of(alignment as usize), 0);
        let Reading::Whole(read) = gguf::Header::read(&first, size).unwrap() else {
            panic!("not whole")
        };
        json!({"header": hex(&header), "size": size, "lengths": plan_gguf(&read).collect::<Vec<_>>()})
    };
    // Text "ab"; an array of two texts; an array of an empty and a full array of bytes; true.
    let pairs: [(&str, &[u8]); 5] = [
        ("general.name", b"\x08\0\0\0\x02\0\0\0\0\0\0\0ab"),
        (
            "t",
            b"\x09\0\0\0\x08\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\0",
        ),
        (
            "n",
            b"\x09\0\0\0\x09\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0abc",
        ),
        ("b", b"\x07\0\0\0\x01"),
        ("general.alignment", b"\x04\0\0\0\x40\0\0\0"),
    ];
    vec![
        row(gguf_header(&[], &[]), 0, 1),
        row(gguf_header(&pairs[..4], &[("w", &[4], 0, 0)]), 16, 32),
        // Two small ones share, one of three slices, a type that nobody knows, and one without its padding.
        row(
            gguf_header(
                &pairs,
                &[
                    ("a", &[32, 3], 8, 0),
                    ("b", &[5], 0, 128),
                    ("w", &[256, 65_536], 12, 192),
                    ("u", &[7], 1000, 192 + 9_437_184),
                    ("z", &[3], 1, 192 + 9_437_184 + 70_016),
                ],
            ),
            192 + 9_437_184 + 70_016 + 6,
            64,
        ),
    ]
}

fn gguf_refused() -> Vec<Value> {
    let one = |shape: &[u64], offset: u64| gguf_header(&[], &[("w", shape, 0, offset)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = one(&[4], 0);
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let twice: &[u8] = b"\x07\0\0\0\x01";
    let rows = [
        ("other magic", with(0, b"X")),
        ("version 1", with(4, &[1])),
        ("big-endian", with(4, &[0, 0, 0, 3])),
        ("more tensors than there are", with(8, &[9])),
        ("more tensors than accepted", with(8, &[255; 8])),
        ("more pairs than accepted", with(16, &[255; 8])),
        ("a name that is no text", with(32, &[255])),
        ("data in front of the first tensor", one(&[4], 32)),
        (
            "a tensor beyond the file",
            gguf_header(&[], &[("w", &[4], 0, 0), ("x", &[4], 0, 1 << 40)]),
        ),
        (
            "an offset off the alignment",
            gguf_header(&[], &[("w", &[4], 0, 0), ("x", &[0], 0, 16)]),
        ),
        ("a shape beyond 2^64", one(&[1 << 40, 1 << 40], 0)),
        ("nine dimensions", one(&[1; 9], 0)),
        (
            "one name twice",
            gguf_header(&[], &[("w", &[4], 0, 0), ("w", &[0], 0, 0)]),
        ),
        (
            "one key twice",
            gguf_header(&[("k", twice), ("k", twice)], &[("w", &[4], 0, 0)]),
        ),
        (
            "neither true nor false",
            gguf_header(&[("k", b"\x07\0\0\0\x02")], &[("w", &[4], 0, 0)]),
        ),
        (
            "an unknown type of value",
            gguf_header(&[("k", b"\x0d\0\0\0\x02")], &[("w", &[4], 0, 0)]),
        ),
        (
            "an alignment of 3",
            gguf_header(
                &[("general.alignment", b"\x04\0\0\0\x03\0\0\0")],
                &[("w", &[4], 0, 0)],
            ),
        ),
        ("bytes behind no tensors", gguf_header(&[], &[])),
    ];
    let size = |header: &[u8]| (header.len() as u64).next_multiple_of(32) + 16;
    for (why, header) in &rows {
        let mut first = header.clone();
        first.resize(size(header) as usize, 0);
        assert!(gguf::Header::read(&first, size(header)).is_err(), "{why}");
    }
    rows.map(|(why, header)| json!({"why": why, "size": size(&header), "header": hex(&header)}))
        .into()
}
