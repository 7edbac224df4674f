use waag_schema::base::json;
use waag_schema::policy::{Label, PolicyError, Where};

use super::{actions, label, rule};

fn residency(text: &str) -> Vec<Where> {
    text.split(',').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn a_label_is_read_and_written_in_its_documented_shape() {
    let written = r#"{"rules":[{"effect":"allow","where":"EU","actions":["hold","serve"]},{"effect":"deny","where":"*","actions":["evaluate"]}]}"#;
    let read: Label = json::from_slice(written.as_bytes(), 4096).unwrap();
    assert_eq!(read, label("+EU:hs -*:e"));
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
}

#[test]
fn a_label_of_another_shape_is_refused() {
    for (bad, why) in [
        (r#"{"rules":[]}"#, "without rules"),
        (
            r#"{"rules":[{"effect":"allow","where":"EU","actions":[]}]}"#,
            "rule 1 names no action",
        ),
        (
            r#"{"rules":[{"effect":"allow","where":"EU"}]}"#,
            "missing field `actions`",
        ),
        (
            r#"{"rules":[{"effect":"allow","where":"eu","actions":["hold"]}]}"#,
            "did you mean EU?",
        ),
        (
            r#"{"rules":[{"effect":"permit","where":"EU","actions":["hold"]}]}"#,
            "unknown variant `permit`",
        ),
        (
            r#"{"rules":[{"effect":"allow","where":"EU","actions":["read"]}]}"#,
            "unknown variant `read`",
        ),
        (
            r#"{"rules":[{"effect":"allow","where":"EU","actions":["hold"],"until":"2027"}]}"#,
            "unknown field `until`",
        ),
        (r#"{"rules":[],"default":"allow"}"#, "unknown field `default`"),
        (r#"{}"#, "missing field `rules`"),
    ] {
        let message = serde_json::from_str::<Label>(bad).unwrap_err().to_string();
        assert!(message.contains(why), "{bad}: {message}");
    }
}

#[test]
fn a_label_has_at_most_64_rules() {
    assert!(Label::new(vec![rule("+EU:h"); 64]).is_ok());
    assert_eq!(
        Label::new(vec![rule("+EU:h"); 65]).unwrap_err(),
        PolicyError::TooManyRules { found: 65, limit: 64 }
    );
}

#[test]
fn what_a_publisher_types_becomes_rules() {
    for (places, allow, deny, expected) in [
        ("EU", "", "", "+EU:hse"),
        ("EU,NO", "hs", "e", "+EU:hs +NO:hs -*:e"),
        ("*", "h", "", "+*:h"),
        ("DE,DE", "", "s", "+DE:hse -*:s"),
    ] {
        let made = Label::from_cli(&residency(places), &actions(allow), &actions(deny)).unwrap();
        assert_eq!(made, label(expected));
    }
}

#[test]
fn actions_without_a_residency_are_refused() {
    assert_eq!(
        Label::from_cli(&[], &actions("h"), &[]).unwrap_err(),
        PolicyError::NoResidency
    );
}

#[test]
fn a_label_reads_as_one_line() {
    assert_eq!(
        label("+EU:hs +NO:hs -*:e").to_string(),
        "allow hold, serve at EU, NO; deny evaluate at *"
    );
    assert_eq!(label("+DE:hse").to_string(), "allow hold, serve, evaluate at DE");
}
