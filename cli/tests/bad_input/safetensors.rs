//! Safetensors files that readers could read differently, or that would make one run out of its buffers.

use std::fs;

use super::{Scene, message};
use crate::world::safetensors::framed;

/// A file of one F32 tensor with these facts and this many bytes of data.
fn one(shape: &str, offsets: &str, data: usize) -> Vec<u8> {
    file(
        &format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#),
        data,
    )
}

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = framed(header);
    bytes.resize(bytes.len() + data, 7);
    bytes
}

fn two(first: [u64; 2], second: [u64; 2], data: usize) -> Vec<u8> {
    let entry = |name: &str, at: [u64; 2]| {
        let elements = (at[1] - at[0]) / 4;
        format!(
            r#""{name}":{{"dtype":"F32","shape":[{elements}],"data_offsets":[{},{}]}}"#,
            at[0], at[1]
        )
    };
    file(&format!("{{{},{}}}", entry("a", first), entry("b", second)), data)
}

#[test]
fn a_header_that_cannot_be_right_is_refused_by_name_and_nothing_is_sent() {
    let scene = Scene::new();
    let good = one("[4]", "[0,16]", 16);
    let double = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let cases: [(&str, Vec<u8>); 13] = [
        ("empty", Vec::new()),
        ("shorter_than_its_length", good[..5].to_vec()),
        ("truncated_header", good[..30].to_vec()),
        ("truncated_data", good[..good.len() - 1].to_vec()),
        ("data_beyond_the_tensors", [&good[..], b"x"].concat()),
        ("length_2_63", [&(1_u64 << 63).to_le_bytes()[..], b"{}"].concat()),
        (
            "length_of_all_bits",
            [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        ),
        ("overlap", two([0, 8], [4, 12], 12)),
        ("gap", two([0, 4], [8, 12], 12)),
        (
            "shape_overflows",
            one("[4294967296,4294967296,4294967296]", "[0,16]", 16),
        ),
        ("shape_and_offsets_differ", one("[3]", "[0,16]", 16)),
        ("offsets_run_backwards", one("[4]", "[16,0]", 16)),
        ("a_name_twice", file(&format!("{{{double},{double}}}"), 4)),
    ];
    for (name, bytes) in cases {
        let model = scene.model(name);
        fs::write(model.join("model.safetensors"), bytes).unwrap();
        let error = scene.refused(&scene.operator, &model, "acme/tiny", &[], 1);
        assert!(message(&error).contains("model.safetensors"), "{name}: {error}");
    }
    assert_eq!(scene.site.received_bytes(), 0);
    assert!(scene.operator.list().is_empty());

    let model = scene.model("good");
    fs::write(model.join("model.safetensors"), good).unwrap();
    scene.operator.push(&model, "acme/tiny");
}
