use serde_json::Value;
use waag_kernels::language::{Model, Options, Pooling, Precision, Residency, Sequence, Stop, embed};

use super::fixtures::{Directory, json, numbers, tokens};

/// Asks for every next token of a sequence, as the reference did.
fn every_next(ids: &[u32]) -> Sequence {
    let asked = (0..ids.len()).map(|i| (i, ids.get(i + 1).copied().into_iter().collect()));
    Sequence {
        tokens: ids.to_vec(),
        asked: asked.collect(),
    }
}

fn families() -> Vec<(String, Value)> {
    let expected = json("expected.json");
    let families = expected["families"].as_object().unwrap();
    let predicting = families
        .iter()
        .filter(|(_, family)| family["logprobs"].is_array());
    predicting
        .map(|(name, family)| (name.clone(), family.clone()))
        .collect()
}

#[test]
fn every_token_of_every_family_is_as_likely_as_the_reference_says() {
    for (name, expected) in families() {
        let source = Directory::of(&name);
        let model = Model::open(&source, Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let ids = tokens(&expected["input_ids"]);
        let answers = model.ask(&[every_next(&ids)]).unwrap().remove(0);
        let ours: Vec<f64> = answers.iter().flat_map(|a| a.log_probabilities.clone()).collect();
        let truth = numbers(&expected["logprobs"]);
        assert_eq!(ours.len(), truth.len());
        let worst = ours
            .iter()
            .zip(&truth)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-4, "{name}: a token is {worst} nats off");
        // Where two tokens are as likely as each other, either may be named.
        let best = tokens(&expected["argmax"]);
        let other = answers
            .iter()
            .zip(&best)
            .filter(|(a, best)| a.best != **best)
            .count();
        assert!(
            other * 100 <= best.len(),
            "{name}: {other} of {} likeliest tokens are others",
            best.len()
        );
    }
}

#[test]
fn an_encoders_vectors_are_those_of_the_reference() {
    let sentences = json("expected.json")["families"]["bert"]["sentences"].clone();
    let sentences = sentences.as_array().unwrap();
    let texts: Vec<&str> = sentences.iter().map(|s| s["text"].as_str().unwrap()).collect();
    for (pooling, normalised, key) in [
        (Pooling::Mean, true, "mean_pooled_l2"),
        (Pooling::First, false, "cls"),
    ] {
        let vectors = embed(
            &Directory::of("bert"),
            &texts,
            pooling,
            normalised,
            Options::default(),
        )
        .unwrap();
        for (ours, sentence) in vectors.iter().zip(sentences) {
            let truth = numbers(&sentence[key]);
            assert_eq!(ours.len(), truth.len());
            let worst = ours
                .iter()
                .zip(&truth)
                .map(|(a, b)| (f64::from(*a) - b).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-5, "{key}: a number is {worst} off");
        }
    }
}

#[test]
fn what_stands_behind_or_beside_a_row_does_not_show_in_it() {
    for (name, expected) in families() {
        let source = Directory::of(&name);
        let ids = tokens(&expected["input_ids"]);
        // Longer than blocks of rows and of keys, where positions allow it.
        let model = Model::open(&source, Options::default()).unwrap();
        let length = if name == "gpt2" { ids.len() } else { 700 };
        let long: Vec<u32> = ids.iter().copied().cycle().take(length).collect();
        let reversed: Vec<u32> = long.iter().rev().copied().collect();
        let together = model
            .ask(&[every_next(&reversed), every_next(&long), every_next(&ids[..7])])
            .unwrap();
        for cut in [1, 7, 40, 97, 300, 699] {
            let cut = cut.min(length - 1);
            let mut alone = every_next(&long[..=cut]);
            alone.tokens.pop();
            alone.asked.pop();
            let alone = model.ask(&[alone]).unwrap().remove(0);
            assert_eq!(alone, together[1][..cut], "{name}: the first {cut} rows");
        }
    }
}

#[test]
fn a_token_after_the_other_is_answered_as_in_the_whole_sequence() {
    for (name, expected) in families() {
        let source = Directory::of(&name);
        let ids = tokens(&expected["input_ids"]);
        for (precision, residency) in [
            (Precision::F32, Residency::Resident),
            (Precision::Bf16, Residency::Streaming),
        ] {
            let options = Options {
                precision,
                residency,
                ..Options::default()
            };
            let model = Model::open(&source, options).unwrap();
            let whole = every_next(&ids);
            let together = model.ask(std::slice::from_ref(&whole)).unwrap().remove(0);
            let mut decoder = model.decoder().unwrap();
            for (token, ((_, asked), expected)) in ids.iter().zip(whole.asked.iter().zip(together)) {
                assert_eq!(decoder.take(*token, asked).unwrap(), expected, "{name}");
            }
        }
    }
}

#[test]
fn an_encoder_writes_nothing_and_positions_end() {
    let model = Directory::of("bert");
    let model = Model::open(&model, Options::default()).unwrap();
    assert!(matches!(model.decoder().map(|_| ()), Err(Stop::NotMeasured(_))));
    let source = Directory::of("gpt2");
    let model = Model::open(&source, Options::default()).unwrap();
    let mut decoder = model.decoder().unwrap();
    for _ in 0..model.length_max() {
        decoder.take(1, &[]).unwrap();
    }
    assert!(matches!(decoder.take(1, &[]), Err(Stop::Failed(_))));
}

#[test]
fn what_a_pass_costs_is_counted_by_the_shapes() {
    let source = Directory::of("llama");
    let model = Model::open(&source, Options::default()).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(source.0.join("config.json")).unwrap()).unwrap();
    let number = |key: &str| config[key].as_f64().unwrap();
    let (hidden, heads) = (number("hidden_size"), number("num_attention_heads"));
    let kv = number("num_key_value_heads") * hidden / heads;
    let layer = hidden * (2.0 * hidden + 2.0 * kv + 3.0 * number("intermediate_size"));
    let (layers, vocabulary) = (number("num_hidden_layers"), number("vocab_size"));
    let matrices = layers * layer + hidden * vocabulary;
    // Of the 2 bytes of each weight, norms are few.
    let bytes = model.pass_bytes() as f64 / 2.0;
    assert!(
        bytes >= matrices && bytes < matrices * 1.01,
        "{bytes} of {matrices}"
    );
    assert_eq!(model.operations(1), 2.0 * (matrices + layers * hidden));
}
