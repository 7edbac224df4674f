//! Models and tasks that lie, or that this engine does not know.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use serde_json::{Value, json};
use waag_kernels::language::{
    Description, Language, LanguageError, MemorySource, Model, ModelSource, NotMeasured, Options, Residency,
    Sequence, Stop, Suite, evaluate,
};

use super::fixtures::{self, Directory, bundled};

fn suite() -> Suite {
    fixtures::suite(&bundled())
}

/// The files of a fixture, in memory, to be bent.
fn model(family: &str) -> MemorySource {
    let (directory, mut source) = (Directory(bundled().join(family)), MemorySource::default());
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let mut bytes = vec![0; usize::try_from(directory.length(file).unwrap().unwrap()).unwrap()];
        directory.read(file, 0, &mut bytes).unwrap();
        source.files.insert(file.to_owned(), bytes);
    }
    source
}

/// Changes one of a model's JSON files.
fn with(mut source: MemorySource, file: &str, change: impl FnOnce(&mut Value)) -> MemorySource {
    let mut value: Value = serde_json::from_slice(&source.files[file]).unwrap();
    change(&mut value);
    source
        .files
        .insert(file.to_owned(), serde_json::to_vec(&value).unwrap());
    source
}

/// Changes a model's tensors: the header, and the bytes behind it.
fn with_tensors(mut source: MemorySource, change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> MemorySource {
    let bytes = &source.files["model.safetensors"];
    let size = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let mut data = bytes[8 + size..].to_vec();
    change(&mut header, &mut data);
    let header = serde_json::to_vec(&header).unwrap();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header);
    changed.extend(data);
    source.files.insert("model.safetensors".to_owned(), changed);
    source
}

fn outcome(source: &MemorySource) -> Result<Language, LanguageError> {
    evaluate(
        source,
        &suite(),
        Options {
            residency: Residency::Streaming,
            ..Options::default()
        },
    )
}

#[test]
fn an_unknown_architecture_is_a_value() {
    for (kind, architecture, expected) in [
        (
            "mamba",
            "MambaForCausalLM",
            "not measured because this engine does not know the architecture MambaForCausalLM",
        ),
        (
            "llama",
            "LlamaForSequenceClassification",
            "not measured because this engine does not know the architecture LlamaForSequenceClassification",
        ),
    ] {
        let source = with(model("llama"), "config.json", |config| {
            config["model_type"] = json!(kind);
            config["architectures"] = json!([architecture]);
        });
        match outcome(&source).unwrap() {
            Language::NotMeasured(reason) => assert_eq!(reason.to_string(), expected),
            Language::Measured(_) => panic!("{architecture} was measured"),
        }
    }
    match outcome(&model("bert")).unwrap() {
        Language::NotMeasured(reason @ NotMeasured::Encoder(_)) => {
            let said = "not measured because a bert is an encoder: ";
            assert!(reason.to_string().starts_with(said), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_this_engine_does_not_compute_is_a_value() {
    let variants: [fn(&mut Value); 4] = [
        |config| config["quantization_config"] = json!({"quant_method": "gptq"}),
        |config| config["rope_parameters"] = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
        |config| config["hidden_act"] = json!("relu6"),
        |config| config["partial_rotary_factor"] = json!(0.5),
    ];
    for change in variants {
        let source = with(model("llama"), "config.json", change);
        assert!(matches!(
            outcome(&source),
            Ok(Language::NotMeasured(NotMeasured::Variant { .. }))
        ));
    }
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let mut source = model("llama");
        source.files.remove(file);
        assert!(
            matches!(outcome(&source), Ok(Language::NotMeasured(NotMeasured::NoFile(name))) if name == file)
        );
    }
    let source = with_tensors(model("llama"), |header, _| {
        let tensor = &mut header["model.layers.1.mlp.up_proj.weight"];
        tensor["dtype"] = json!("F8_E4M3");
    });
    assert!(matches!(
        outcome(&source),
        Ok(Language::NotMeasured(NotMeasured::Format { .. }))
    ));
    let options = Options {
        memory_bytes: 1 << 16,
        ..Options::default()
    };
    assert!(matches!(
        evaluate(&model("llama"), &suite(), options),
        Ok(Language::NotMeasured(NotMeasured::Memory { .. }))
    ));
}

#[test]
fn a_configuration_that_lies_is_refused() {
    for (field, value) in [
        ("hidden_size", json!(81)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-1)),
        ("hidden_size", json!("80")),
        ("hidden_size", json!(1_u64 << 62)),
        ("num_attention_heads", json!(3)),
        ("num_attention_heads", json!(1 << 20)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(19)),
        ("head_dim", json!(1 << 20)),
        ("num_hidden_layers", json!(1)),
        ("num_hidden_layers", json!(3)),
        ("num_hidden_layers", json!(4_000_000_000_u64)),
        ("intermediate_size", json!(173)),
        ("vocab_size", json!(511)),
        ("vocab_size", json!(513)),
        ("vocab_size", Value::Null),
        ("rms_norm_eps", json!(0)),
        ("tie_word_embeddings", json!("no")),
        ("attention_bias", json!(true)),
        ("layer_types", json!(["full_attention"])),
        ("max_position_embeddings", json!(0)),
    ] {
        let source = with(model("llama"), "config.json", |config| {
            config[field] = value.clone();
        });
        match outcome(&source) {
            Err(LanguageError::Config { .. } | LanguageError::Tensor { .. }) => {}
            other => panic!("{field} {value}: {other:?}"),
        }
    }
    let mut source = model("llama");
    source.files.insert("config.json".to_owned(), b"{".to_vec());
    assert!(matches!(outcome(&source), Err(LanguageError::File { .. })));
}

#[test]
fn tensors_that_are_missing_or_misshapen_are_refused() {
    type Change = fn(&mut Value, &mut Vec<u8>);
    let changes: [(&str, Change); 6] = [
        ("missing", |header, _| {
            header.as_object_mut().unwrap().remove("model.norm.weight");
        }),
        ("misshapen", |header, _| {
            header["lm_head.weight"]["shape"] = json!([80, 512]);
        }),
        ("overflowing", |header, _| {
            header["lm_head.weight"]["shape"] = json!([1_u64 << 62, 16]);
        }),
        ("outside", |header, _| {
            header["lm_head.weight"]["data_offsets"] = json!([1_u64 << 40, (1_u64 << 40) + 81_920]);
        }),
        ("backwards", |header, _| {
            header["lm_head.weight"]["data_offsets"] = json!([81_920, 0]);
        }),
        ("cut", |_, data| data.truncate(data.len() / 2)),
    ];
    for (what, change) in changes {
        let source = with_tensors(model("llama"), change);
        assert!(
            matches!(outcome(&source), Err(LanguageError::Tensor { .. })),
            "{what}"
        );
    }
    for bytes in [
        vec![],
        vec![0xff; 8],
        vec![0xff; 4096],
        b"\x02\0\0\0\0\0\0\0[]".to_vec(),
    ] {
        let mut source = model("llama");
        source.files.insert("model.safetensors".to_owned(), bytes);
        assert!(matches!(outcome(&source), Err(LanguageError::File { .. })));
    }
    let mut source = model("llama");
    source.files.remove("model.safetensors");
    let index = json!({"weight_map": {"a": "../../secret"}});
    source.files.insert(
        "model.safetensors.index.json".to_owned(),
        serde_json::to_vec(&index).unwrap(),
    );
    assert!(matches!(outcome(&source), Err(LanguageError::File { .. })));
}

#[test]
fn weights_that_are_not_numbers_make_no_score() {
    for name in [
        "model.layers.0.mlp.up_proj.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.embed_tokens.weight",
    ] {
        for bits in [0x7fc0_u16, 0x7f80] {
            let source = with_tensors(model("llama"), |header, data| {
                let tensor = &header[name]["data_offsets"];
                let (begin, end) = (tensor[0].as_u64().unwrap(), tensor[1].as_u64().unwrap());
                let range = usize::try_from(begin).unwrap()..usize::try_from(end).unwrap();
                for element in data[range].chunks_exact_mut(2) {
                    element.copy_from_slice(&bits.to_le_bytes());
                }
            });
            assert!(
                matches!(outcome(&source), Err(LanguageError::NotFinite { .. })),
                "{name} {bits:#x}"
            );
        }
    }
}

#[test]
fn a_tokenizer_that_cannot_be_used_is_refused() {
    for bytes in [&b"{}"[..], b"", b"[1]"] {
        let mut source = model("llama");
        source.files.insert("tokenizer.json".to_owned(), bytes.to_vec());
        assert!(matches!(outcome(&source), Err(LanguageError::File { .. })));
    }
    // More tokens than the model has.
    let source = with(model("llama"), "tokenizer.json", |tokenizer| {
        for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
            *id = json!(id.as_u64().unwrap() + 400);
        }
    });
    assert!(matches!(outcome(&source), Err(LanguageError::File { .. })));
    let source = with(model("llama"), "tokenizer.json", |tokenizer| {
        tokenizer["model"]["dropout"] = json!(0.5);
    });
    assert!(matches!(
        outcome(&source),
        Ok(Language::NotMeasured(NotMeasured::Variant { .. }))
    ));
}

/// A file that claims to be larger than anything that is read.
struct Hostile(MemorySource, &'static str);

impl ModelSource for Hostile {
    fn length(&self, file: &str) -> std::io::Result<Option<u64>> {
        if file == self.1 {
            Ok(Some(u64::MAX))
        } else {
            self.0.length(file)
        }
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.0.read(file, offset, into)
    }
}

#[test]
fn a_file_of_hostile_size_is_refused_before_memory_is_taken() {
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let source = Hostile(model("llama"), file);
        let outcome = evaluate(&source, &suite(), Options::default());
        assert!(
            matches!(outcome, Err(LanguageError::File { .. })),
            "{file}: {outcome:?}"
        );
    }
}

#[test]
fn a_run_that_was_cancelled_says_so() {
    let cancel = AtomicBool::new(true);
    let options = Options {
        cancel: Some(&cancel),
        ..Options::default()
    };
    assert!(matches!(
        evaluate(&model("llama"), &suite(), options),
        Err(LanguageError::Cancelled)
    ));
}

#[test]
fn what_is_asked_outside_the_model_is_refused() {
    let source = model("gpt2");
    let model = Model::open(&source, Options::default()).unwrap();
    for sequence in [
        Sequence {
            tokens: vec![512],
            asked: vec![],
        },
        Sequence {
            tokens: vec![0],
            asked: vec![(1, vec![0])],
        },
        Sequence {
            tokens: vec![0],
            asked: vec![(0, vec![600])],
        },
        Sequence {
            tokens: vec![0; 129],
            asked: vec![],
        },
    ] {
        assert!(matches!(model.ask(&[sequence]), Err(Stop::Failed(_))));
    }
    assert!(model.ask(&[]).unwrap().is_empty());
    let nothing = Sequence::default();
    assert_eq!(
        model.ask(&[nothing.clone(), nothing]).unwrap(),
        vec![vec![], vec![]]
    );
}

const CHOICE: &str = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: t.jsonl}}\noutput_type: multiple_choice\n\
                      doc_to_text: \"{{q}}\"\ndoc_to_choice: c\ndoc_to_target: g\n";

#[test]
fn tasks_that_cannot_be_asked_are_refused() {
    let task = |yaml: &str, jsonl: &str| Description::parse(yaml).map(|d| d.with_documents(jsonl.as_bytes()));
    for jsonl in ["", "\n \n", "[1]", "{", "{\"q\": 1}\nx"] {
        assert!(
            matches!(task(CHOICE, jsonl), Ok(Err(LanguageError::Task { .. }))),
            "{jsonl}"
        );
    }
    for (jsonl, problem) in [
        (r#"{"q": "a", "c": [], "g": 0}"#, "choices"),
        (r#"{"q": "a", "c": ["x"], "g": 1}"#, "target"),
        (r#"{"q": "a", "c": ["x"], "g": -1}"#, "target"),
        (r#"{"q": "a", "c": "x", "g": 0}"#, "no list"),
        (r#"{"c": ["x"], "g": 0}"#, "no field q"),
        (r#"{"q": [], "c": ["x"], "g": 0}"#, "text is needed"),
    ] {
        let task = task(CHOICE, jsonl).unwrap().unwrap();
        match evaluate(&model("llama"), &Suite { tasks: vec![task] }, Options::default()) {
            Err(LanguageError::Task { problem: found, .. }) => assert!(found.contains(problem), "{found}"),
            other => panic!("{jsonl}: {other:?}"),
        }
    }
    let long = format!("{{\"q\": \"a\", \"c\": [\"{}\"], \"g\": 0}}", "Köln ".repeat(500));
    let task = task(CHOICE, &long).unwrap().unwrap();
    let outcome = evaluate(&model("llama"), &Suite { tasks: vec![task] }, Options::default());
    assert!(matches!(outcome, Err(LanguageError::Task { .. })));
    for yaml in [
        "",
        "[1]",
        "task: t",
        "output_type: multiple_choice",
        &CHOICE.replace("c\n", "~\n"),
        &CHOICE.replace("test:", "train:"),
    ] {
        assert!(
            matches!(
                Description::parse(yaml),
                Err(Stop::Failed(LanguageError::Task { .. }))
            ),
            "{yaml}"
        );
    }
    for addition in ["num_fewshot: 5", "process_docs: x", "gen_prefix: a"] {
        let yaml = format!("{CHOICE}{addition}\n");
        assert!(
            matches!(
                Description::parse(&yaml),
                Err(Stop::NotMeasured(NotMeasured::Variant { .. }))
            ),
            "{yaml}"
        );
    }
    for (metadata, tolerance) in [
        ("{version: 1.0}", None),
        ("[{version: 1.0}]", None),
        ("{tolerance: null}", None),
        ("{version: 1.0, tolerance: 1e-4}", Some(1e-4)),
        ("{tolerance: \"1.0e-4\"}", Some(1e-4)),
        ("{tolerance: 0}", Some(0.0)),
        ("{tolerance: 0.1}", Some(0.1)),
    ] {
        let yaml = format!("{CHOICE}metadata: {metadata}\n");
        assert_eq!(Description::parse(&yaml).unwrap().tolerance, tolerance, "{yaml}");
    }
    for bad in [
        "-1e-4", "0.2", "1", ".nan", "nan", ".inf", "inf", "1e999", "little", "true", "[]", "{}", "\"\"",
    ] {
        let yaml = format!("{CHOICE}metadata: {{tolerance: {bad}}}\n");
        match Description::parse(&yaml) {
            Err(Stop::Failed(error @ LanguageError::Task { .. })) => {
                assert!(error.to_string().contains("metadata.tolerance"), "{error}");
            }
            other => panic!("{bad}: {other:?}"),
        }
    }
    let generated = CHOICE.replace("multiple_choice", "generate_until");
    assert!(matches!(
        Description::parse(&generated),
        Err(Stop::NotMeasured(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_never_panic(file in 0..3_usize, at: prop::sample::Index, byte: u8) {
        let mut source = model("qwen3");
        let name = ["config.json", "model.safetensors", "tokenizer_config.json"][file];
        let bytes = source.files.get_mut(name).unwrap();
        // Of the weights only the header is bent: what lies behind it cannot be wrong.
        let reach = bytes.len().min(4096);
        bytes[at.index(reach)] = byte;
        let _ = Model::open(&source, Options::default());
    }
}
