use waag_schema::Timestamp;
use waag_schema::policy::{Country, Group, Where};

use super::{place, site};

fn at(day: &str) -> Timestamp {
    format!("{day}T00:00:00Z").parse().unwrap()
}

fn members(group: Group, day: &str) -> Vec<String> {
    let all = Country::all().filter(|c| group.contains(*c, at(day)));
    all.map(|c| c.to_string()).collect()
}

#[test]
fn the_standard_assigns_249_codes_and_no_others_are_taken() {
    let all: Vec<Country> = Country::all().collect();
    assert_eq!(all.len(), 249);
    assert!(all.is_sorted());
    for country in all {
        assert_eq!(country.to_string().parse::<Country>().unwrap(), country);
    }
    for bad in ["XK", "EU", "AN", "de", "DEU", "D", "", "D ", " D", "ÄÖ", "É"] {
        assert!(bad.parse::<Country>().is_err(), "{bad}");
    }
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    for (slip, answer) in [
        ("UK", "did you mean GB?"),
        ("de", "did you mean DE?"),
        ("eea", "did you mean EEA?"),
    ] {
        let message = slip.parse::<Where>().unwrap_err().to_string();
        assert!(message.ends_with(answer), "{message}");
    }
    let message = "Germany\u{1b}[0m".parse::<Where>().unwrap_err().to_string();
    assert!(
        message.starts_with("`Germany\\u{1b}[0m` is not a place: write"),
        "{message}"
    );
}

#[test]
fn every_text_form_survives_the_round_trip() {
    let of_site = format!("site:{}", site('b'));
    for text in ["DE", "EU", "EEA", of_site.as_str(), "*"] {
        let parsed: Where = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<Where>(&json).unwrap(), parsed);
    }
    for bad in ["site:", "site:abc", "SITE:*", "**", "EU-ADEQUATE", "", "DE "] {
        assert!(bad.parse::<Where>().is_err(), "{bad}");
    }
}

#[test]
fn membership_begins_and_ends_on_its_day() {
    for (group, code, day, expected) in [
        (Group::Eu, "GB", "2020-01-31", true),
        (Group::Eu, "GB", "2020-02-01", false),
        (Group::Eu, "HR", "2013-06-30", false),
        (Group::Eu, "HR", "2013-07-01", true),
        (Group::Eu, "DE", "1970-01-01", true),
        (Group::Eu, "NO", "2026-11-21", false),
        (Group::Eea, "NO", "2026-11-21", true),
        (Group::Eea, "GB", "2020-02-01", false),
        (Group::Eea, "FR", "1993-12-31", false),
        (Group::Eea, "CH", "2026-11-21", false),
    ] {
        let country: Country = code.parse().unwrap();
        assert_eq!(group.contains(country, at(day)), expected, "{code} {group} {day}");
    }
}

#[test]
fn a_group_has_as_many_members_as_history_says() {
    for (day, eu, eea) in [
        ("1970-01-01", 6, 0),
        ("1994-01-01", 12, 17),
        ("1995-05-01", 15, 18),
        ("2004-05-01", 25, 28),
        ("2007-08-01", 27, 30),
        ("2014-04-12", 28, 31),
        ("2020-02-01", 27, 30),
    ] {
        assert_eq!(members(Group::Eu, day).len(), eu, "EU on {day}");
        assert_eq!(members(Group::Eea, day).len(), eea, "EEA on {day}");
    }
}

#[test]
fn today_the_area_is_the_union_with_three_more() {
    let mut expected = members(Group::Eu, "2026-11-21");
    expected.extend(["IS", "LI", "NO"].map(str::to_owned));
    expected.sort();
    assert_eq!(members(Group::Eea, "2026-11-21"), expected);
}

#[test]
fn a_place_is_read_and_written_as_tagged_json() {
    for (text, json) in [
        (
            "consumer DE",
            r#"{"kind":"consumer","jurisdiction":"DE"}"#.to_owned(),
        ),
        ("consumer -", r#"{"kind":"consumer"}"#.to_owned()),
        (
            "b NO",
            format!(r#"{{"kind":"site","id":"{}","jurisdiction":"NO"}}"#, site('b')),
        ),
    ] {
        assert_eq!(serde_json::to_string(&place(text)).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<waag_schema::policy::Place>(&json).unwrap(),
            place(text)
        );
    }
}
