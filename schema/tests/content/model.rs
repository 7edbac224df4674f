use proptest::prelude::*;
use waag_schema::Sha256;
use waag_schema::release::model::param_size;
use waag_schema::release::{About, ModelConfig, ModelFacts};

use super::Layout;

fn config(facts: &ModelFacts, weights: &[&str]) -> String {
    let weights: Vec<_> = weights.iter().map(|path| path.parse().unwrap()).collect();
    let config = ModelConfig::new(&About::default(), facts, weights.iter(), vec![Sha256::of(b"")]);
    let bytes = config.to_bytes();
    assert_eq!(ModelConfig::parse(&bytes), Ok(config));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn parameters_are_written_as_modelpack_wants_them() {
    for (parameters, text) in [
        (0, None),
        (49, None),
        (50, Some("0.1K")),
        (999_949, Some("999.9K")),
        (999_950, Some("1.0M")),
        (124_439_808, Some("124.4M")),
        (8_030_261_248, Some("8.0B")),
        (405_853_388_800, Some("405.9B")),
        (1_000_000_000_000, Some("1.0T")),
        (u64::MAX, Some("18446.7Q")),
    ] {
        assert_eq!(param_size(parameters).as_deref(), text, "{parameters}");
    }
}

#[test]
fn nothing_known_is_the_smallest_valid_configuration() {
    let empty = format!(
        r#"{{"config":{{}},"descriptor":{{}},"modelfs":{{"diffIds":["{}"],"type":"layers"}}}}"#,
        Sha256::of(b"")
    );
    assert_eq!(config(&ModelFacts::none(), &[]), empty);
    for malformed in [
        &b""[..],
        b"[]",
        b"{",
        b"\xff",
        br#"{"architectures":"x","model_type":7,"torch_dtype":["a"]}"#,
        br#"{"architectures":[],"model_type":"","torch_dtype":null}"#,
        br#"{"model_type":"<script>","architectures":["a b"],"dtype":"\u0000"}"#,
        br#"{"rope_theta": Infinity, "model_type":"llama"}"#,
    ] {
        assert_eq!(
            config(&ModelFacts::none().with_config_json(malformed), &[]),
            empty
        );
    }
    let long = format!(r#"{{"model_type":"{}"}}"#, "x".repeat(129));
    assert_eq!(
        config(&ModelFacts::none().with_config_json(long.as_bytes()), &[]),
        empty
    );
}

#[test]
fn headers_outrank_what_config_json_declares() {
    let json = br#"{"model_type":"gpt2","dtype":"float16","quantization_config":{"quant_method":"awq"}}"#;
    let declared = ModelFacts::none().with_config_json(json);
    let text = config(&declared, &["m.gguf", "m.safetensors"]);
    assert!(text.starts_with(
        r#"{"config":{"architecture":"gpt2","format":"safetensors","precision":"float16","quantization":"awq"},"descriptor":{"family":"gpt2"}"#
    ));
    let header = Layout::default()
        .tensor("w", "BF16", &[600, 1000], 1_200_000)
        .header();
    let counted = declared.with_header(&header).with_header(&header);
    assert_eq!(counted.parameters(), 1_200_000);
    let text = config(&counted, &["m.gguf"]);
    assert!(
        text.contains(r#""format":"gguf","paramSize":"1.2M","precision":"bfloat16""#),
        "{text}"
    );
}

#[test]
fn a_foreign_configuration_is_read_for_what_we_know() {
    let foreign = br#"{"descriptor":{"createdAt":"2026-01-01T00:00:00Z","name":"x","authors":["a"]},
        "config":{"paramSize":"8B","capabilities":{"reasoning":true}},
        "modelfs":{"type":"layers","diffIds":[]}}"#;
    let read = ModelConfig::parse(foreign).unwrap();
    assert_eq!(read.config.param_size.as_deref(), Some("8B"));
    assert_eq!(read.descriptor.name.as_deref(), Some("x"));
    assert!(ModelConfig::parse(b"{}").is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ModelFacts::none().with_config_json(&bytes);
        let _ = ModelConfig::parse(&bytes);
    }
}
