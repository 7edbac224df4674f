use proptest::prelude::*;
use waag_schema::content::safetensors::{Dtype, Header, SafetensorsError, header_length};

use super::Layout;

const GAP_AT: &str =
    r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":"#;

/// A name for the variant, and the message.
fn refusal(json: &str, data: u64) -> (String, String) {
    let error = Header::parse(json.as_bytes(), 8 + json.len() as u64 + data).unwrap_err();
    let debug = format!("{error:?}");
    let variant = debug.split([' ', '(', '{']).next().unwrap().to_owned();
    (variant, error.to_string())
}

#[test]
fn every_malformed_header_is_refused_for_its_own_reason_and_names_the_tensor() {
    let one = |inner: &str| format!(r#"{{"w":{{{inner}}}}}"#);
    let ranks = vec!["1"; 65].join(",");
    let table: &[(String, u64, &str, &str)] = &[
        (String::new(), 0, "NotAnObject", "`{`"),
        (" {}".into(), 0, "NotAnObject", "`{`"),
        ("[]".into(), 0, "NotAnObject", "`{`"),
        ("{".into(), 0, "Json", "EOF"),
        ("{}x".into(), 0, "Json", "trailing"),
        ("{\"w\":1}".into(), 0, "Json", "`w`"),
        ("{\"w\":[\"U8\",[1],[0,1]]}".into(), 1, "Json", "`w`"),
        (one(r#""dtype":"U8","shape":[1.5],"data_offsets":[0,1]"#), 1, "Json", "`w`"),
        (one(r#""dtype":"U8","shape":[-1],"data_offsets":[0,1]"#), 1, "Json", "`w`"),
        (one(r#""dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]"#), 1, "Json", "`w`"),
        (one(r#""dtype":8,"shape":[1],"data_offsets":[0,1]"#), 1, "Json", "`w`"),
        (r#"{"__metadata__":{"a":1}}"#.into(), 0, "Json", "string"),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), 0, "DuplicateMetadata", "twice"),
        (r#"{"__metadata__":{"a":"1","a":"2"}}"#.into(), 0, "DuplicateKey", "`a`"),
        (format!("{GAP_AT}[2,4]}},\"a\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}}}}"), 5,
            "DuplicateTensor", "`a`"),
        // The same name, escaped.
        (r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#
            .into(), 0, "DuplicateTensor", "`a`"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]"#), 1, "DuplicateKey", "`w` has the key `shape`"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":[[[]]]"#), 1, "UnknownKey", "`w`"),
        (one(r#""shape":[1],"data_offsets":[0,1]"#), 1, "MissingKey", "`w` has no `dtype`"),
        (one(r#""dtype":"U8","data_offsets":[0,1]"#), 1, "MissingKey", "`w` has no `shape`"),
        (one(r#""dtype":"U8","shape":[1]"#), 1, "MissingKey", "`w` has no `data_offsets`"),
        (one(r#""dtype":"F128","shape":[1],"data_offsets":[0,16]"#), 16, "UnknownDtype", "`w` has the unknown dtype `F128`"),
        (one(&format!(r#""dtype":"U8","shape":[{ranks}],"data_offsets":[0,1]"#)), 1, "TooManyDimensions", "`w`"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[0]"#), 1, "OffsetCount", "`w` has 1 data offsets"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[0,1,2]"#), 1, "OffsetCount", "`w`"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[1,0]"#), 1, "OffsetsReversed", "`w`"),
        (one(r#""dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]"#), 0, "ShapeOverflow", "`w`"),
        (one(r#""dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0]"#), 0, "ShapeOverflow", "`w`"),
        (one(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#), 2, "PartialByte", "`w`"),
        (one(r#""dtype":"F16","shape":[3],"data_offsets":[0,5]"#), 5, "LengthMismatch", "`w` needs 6 bytes"),
        (one(r#""dtype":"U8","shape":[],"data_offsets":[0,0]"#), 0, "LengthMismatch", "`w` needs 1 bytes"),
        (one(r#""dtype":"U8","shape":[9],"data_offsets":[0,9]"#), 8, "BeyondFile", "`w` ends at 9"),
        (one(r#""dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615]"#), 1,
            "BeyondFile", "`w`"),
        (format!("{GAP_AT}[1,3]}}}}"), 3, "Overlap", "`b` begins at 1, before the tensor `a`"),
        (format!("{GAP_AT}[0,2]}}}}"), 2, "Overlap", "`b`"),
        (format!("{GAP_AT}[3,5]}}}}"), 5, "Gap", "`b` begins at 3, 1 bytes in front"),
        (format!("{GAP_AT}[2,4]}}}}"), 5, "Trailing", "end at 4"),
        ("{}".into(), 1, "Trailing", "end at 0"),
    ];
    for (json, data, variant, says) in table {
        let (found, message) = refusal(json, *data);
        assert_eq!(&found, variant, "{json}: {message}");
        assert!(message.contains(says), "{json}: {message}");
    }
}

#[test]
fn a_hostile_name_is_shown_short_and_escaped() {
    let name = "\\u001b[2J".to_owned() + &"x".repeat(10_000);
    let (_, message) = refusal(&format!(r#"{{"{name}":{{}}}}"#), 0);
    assert!(message.len() < 400 && message.contains("\\u{1b}"), "{message}");
}

#[test]
fn a_header_length_beyond_the_format_or_the_file_is_refused_before_it_is_read() {
    let length = |n: u64, size| header_length(&n.to_le_bytes(), size);
    assert_eq!(length(2, 10), Ok(2));
    assert_eq!(length(100_000_000, u64::MAX), Ok(100_000_000));
    for huge in [100_000_001, 1 << 63, u64::MAX] {
        assert_eq!(
            length(huge, u64::MAX),
            Err(SafetensorsError::HeaderTooLong { found: huge })
        );
    }
    let beyond = SafetensorsError::HeaderBeyondFile {
        found: 3,
        available: 2,
    };
    assert_eq!(length(3, 10), Err(beyond));
    assert_eq!(length(0, 7), Err(SafetensorsError::FileTooShort { size: 7 }));
    assert!(matches!(
        Header::parse(b"{}", 9),
        Err(SafetensorsError::HeaderBeyondFile { .. })
    ));
}

#[test]
fn tensors_come_in_the_order_of_their_bytes_with_places_in_the_file() {
    let json = br#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"__metadata__":{"format":"pt"},
        "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"none":{"dtype":"F32","shape":[0,4],"data_offsets":[8,8]}}   "#;
    let start = 8 + json.len() as u64;
    let header = Header::parse(json, start + 20).unwrap();
    let found: Vec<_> = header
        .tensors()
        .iter()
        .map(|t| {
            (
                t.name.as_str(),
                t.dtype,
                t.bytes.start - start,
                t.size(),
                t.row_bytes(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", Dtype::F32, 0, 8, 4),
            ("none", Dtype::F32, 8, 0, 16),
            ("b", Dtype::BF16, 8, 12, 6)
        ]
    );
    assert_eq!(header.metadata()["format"], "pt");
    assert_eq!(header.parameters(), 8);
    assert_eq!(
        header.precisions().into_iter().collect::<Vec<_>>(),
        ["bfloat16", "float32"]
    );
    assert_eq!(header.file_size(), start + 20);
    assert_eq!(Header::parse_unsized(json).unwrap(), header);
}

#[test]
fn rows_of_elements_below_a_byte_are_counted_until_they_fill_bytes() {
    let header = Layout::default()
        .tensor("f4", "F4", &[4, 3], 6)
        .tensor("f6", "F6_E2M3", &[4, 3], 9)
        .header();
    assert_eq!(header.tensors()[0].row_bytes(), 3);
    assert_eq!(header.tensors()[1].row_bytes(), 9);
}

#[derive(Debug, Clone)]
struct Entry {
    dtype: &'static str,
    shape: Vec<u64>,
    shift: i64,
    stretch: i64,
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let dtype = prop::sample::select(vec![
        "U8", "BOOL", "BF16", "F32", "F64", "F4", "F6_E3M2", "F8_E4M3", "X",
    ]);
    let mostly_zero = prop_oneof![20 => Just(0_i64), 1 => -2..3_i64];
    let entry = (
        dtype,
        prop::collection::vec(0..5_u64, 0..4),
        mostly_zero.clone(),
        mostly_zero,
    );
    prop::collection::vec(
        entry.prop_map(|(dtype, shape, shift, stretch)| Entry {
            dtype,
            shape,
            shift,
            stretch,
        }),
        0..6,
    )
}

proptest! {
    #[test]
    fn what_is_accepted_is_what_the_safetensors_crate_accepts(entries in entries(), more in 0..2_usize, order in any::<bool>()) {
        let mut at = 0_i64;
        let mut parts = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let bits = match entry.dtype { "F4" => 4, "F6_E3M2" => 6, "BF16" => 16, "F32" => 32, "F64" => 64, _ => 8 };
            let size = (entry.shape.iter().product::<u64>() * bits / 8) as i64;
            let begin = (at + entry.shift).max(0);
            let end = (begin + size + entry.stretch).max(0);
            let (dtype, shape) = (entry.dtype, &entry.shape);
            parts.push(format!(r#""t{i}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#));
            at += size;
        }
        if order {
            parts.reverse();
        }
        let json = format!("{{{}}}", parts.join(","));
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(json.as_bytes());
        file.resize(file.len() + at as usize + more, 0);

        let ours = Header::parse(json.as_bytes(), file.len() as u64);
        let theirs = ::safetensors::SafeTensors::read_metadata(&file);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{} -> {:?} / {:?}", json, ours, theirs);
        if let (Ok(ours), Ok((_, theirs))) = (ours, theirs) {
            for tensor in ours.tensors() {
                let info = theirs.info(&tensor.name).unwrap();
                prop_assert_eq!(tensor.bytes.start - ours.data_start(), info.data_offsets.0 as u64);
                prop_assert_eq!(tensor.dtype, info.dtype);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), size in any::<u64>()) {
        let _ = Header::parse(&bytes, size);
        let _ = Header::parse_unsized(&bytes);
        if let Some(first8) = bytes.first_chunk() {
            let _ = header_length(first8, size);
        }
    }

    #[test]
    fn a_damaged_header_never_panics(at in 0..170_usize, byte in any::<u8>()) {
        let mut json = Layout::default().tensor("a", "F32", &[4, 4], 64).bytes("b", &[7]).json();
        if let Some(old) = json.get_mut(at) {
            *old = byte;
        }
        let _ = Header::parse(&json, 8 + json.len() as u64 + 71);
    }
}

/// The file that a subset describes, made of the bytes of the original.
fn made(file: &[u8], subset: &waag_schema::content::safetensors::Subset) -> Vec<u8> {
    let mut made = subset.header.clone();
    for range in &subset.data {
        made.extend_from_slice(&file[range.start as usize..range.end as usize]);
    }
    made
}

proptest! {
    #[test]
    fn a_subset_is_a_safetensors_file_of_the_same_tensors(sizes in prop::collection::vec(0_u64..40, 1..12), keep in any::<u16>()) {
        let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_owned()];
        let mut end = 0;
        for (i, size) in sizes.iter().enumerate() {
            let begin = end;
            end += size;
            entries.push(format!(r#""t\"{i}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{begin},{end}]}}"#));
        }
        let json = format!("{{{}}}", entries.join(","));
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(json.as_bytes());
        file.extend((0..end).map(|i| i as u8));
        let header = Header::parse(json.as_bytes(), file.len() as u64).unwrap();
        let wanted = |name: &str| keep >> name[2..].parse::<u32>().unwrap() & 1 == 1;
        let kept: Vec<_> = header.tensors().iter().filter(|t| wanted(&t.name)).collect();
        let Some(subset) = header.subset(|t| wanted(&t.name)) else {
            prop_assert!(kept.is_empty());
            return Ok(());
        };
        let small = made(&file, &subset);
        let length = header_length(small.first_chunk().unwrap(), small.len() as u64).unwrap() as usize;
        prop_assert_eq!(length % 8, 0);
        let again = Header::parse(&small[8..8 + length], small.len() as u64).unwrap();
        prop_assert_eq!(again.metadata(), header.metadata());
        prop_assert_eq!(again.tensors().len(), kept.len());
        prop_assert_eq!(subset.tensors, kept.len());
        for (found, tensor) in again.tensors().iter().zip(kept) {
            prop_assert_eq!((&found.name, found.dtype, &found.shape), (&tensor.name, tensor.dtype, &tensor.shape));
            let bytes = |of: &[u8], t: &waag_schema::content::Tensor| of[t.bytes.start as usize..t.bytes.end as usize].to_vec();
            prop_assert_eq!(bytes(&small, found), bytes(&file, tensor));
        }
    }
}
