//! The truth table of labels, places and actions, which is data: `table.json` beside this says how to read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use waag_schema::policy::{
    Action, Country, Effect, Facts, GroupTerms, Label, Place, Reason, Rule, Verdict, decide,
};
use waag_schema::{SiteId, Timestamp};

use super::actions;

#[derive(Deserialize)]
struct Table {
    at: Timestamp,
    home: String,
    sites: BTreeMap<String, Option<Country>>,
    consumers: BTreeMap<String, Option<Country>>,
    groups: Vec<GroupTerms>,
    cases: Vec<Case>,
    falsified: Vec<Falsified>,
}

#[derive(Deserialize)]
struct Case {
    why: String,
    labels: Vec<String>,
    expect: Vec<(String, String, String)>,
}

#[derive(Deserialize)]
struct Falsified {
    why: String,
    labels: Vec<String>,
    instead: Vec<String>,
    place: String,
    action: Action,
}

impl Table {
    fn read() -> Self {
        serde_json::from_str(include_str!("table.json")).unwrap()
    }

    /// The id of a site of the table: its name's letters, and enough of `a`.
    fn id(name: &str) -> SiteId {
        format!("{name:a<32}").parse().unwrap()
    }

    fn place(&self, name: &str) -> Place {
        match (self.sites.get(name), self.consumers.get(name)) {
            (Some(jurisdiction), None) => Place::Site {
                id: Self::id(name),
                jurisdiction: *jurisdiction,
            },
            (None, Some(jurisdiction)) => Place::Consumer {
                jurisdiction: *jurisdiction,
            },
            _ => panic!("{name} is no place of the table"),
        }
    }

    fn decide(&self, labels: &[String], action: Action, place: &str) -> Verdict {
        let labels: Vec<Label> = labels.iter().map(|text| label(text)).collect();
        let facts = Facts {
            home: Self::id(&self.home),
            at: self.at,
            groups: Arc::from(self.groups.as_slice()),
        };
        decide(&labels, &facts, action, &self.place(place))
    }
}

fn label(text: &str) -> Label {
    let rule = |text: &str| {
        let (scope, letters) = text[1..].rsplit_once(':').unwrap();
        let scope = match scope.strip_prefix('@') {
            Some(name) => format!("site:{}", Table::id(name)),
            None => scope.to_owned(),
        };
        Rule {
            effect: if text.starts_with('+') {
                Effect::Allow
            } else {
                Effect::Deny
            },
            scope: scope.parse().unwrap(),
            actions: actions(letters).into_iter().collect(),
        }
    };
    Label::new(text.split(' ').map(rule).collect()).unwrap()
}

/// A verdict in the table's words.
fn said(verdict: &Verdict) -> String {
    let number =
        |label: &Option<usize>| label.map_or_else(|| "-".to_owned(), |label| (label + 1).to_string());
    let reason = |reason: &Reason| match reason {
        Reason::AllowedBy { label, rule, .. } => format!("allow {}.{}", label + 1, rule + 1),
        Reason::DeniedBy { label, rule, .. } => format!("deny {}.{}", label + 1, rule + 1),
        Reason::NoRuleMatches { label, .. } => format!("silent {}", label + 1),
        Reason::AtHome { label } => format!("home {}", number(label)),
        Reason::ServedFromHome { label } => format!("served {}", number(label)),
        Reason::NotAtHome { label, .. } => format!("away {}", number(label)),
    };
    let reasons: Vec<String> = verdict.reasons.iter().map(reason).collect();
    format!(
        "{}: {}",
        if verdict.allowed { "yes" } else { "no" },
        reasons.join("; ")
    )
}

#[test]
fn every_label_gives_the_table_s_verdict_at_every_place_for_every_action() {
    let table = Table::read();
    for case in &table.cases {
        let mut expected: BTreeMap<(&str, Action), &str> = BTreeMap::new();
        for (places, actions, verdict) in &case.expect {
            for place in places.split(' ') {
                for action in actions.split(' ') {
                    let twice = expected.insert((place, action.parse().unwrap()), verdict);
                    assert!(twice.is_none(), "{}: {place}, {action} stands twice", case.why);
                }
            }
        }
        let places = table.sites.keys().chain(table.consumers.keys());
        for place in places {
            for action in Action::ALL {
                let found = said(&table.decide(&case.labels, action, place));
                let expected = expected.get(&(place.as_str(), action)).copied();
                assert_eq!(Some(found.as_str()), expected, "{}: {place}, {action}", case.why);
            }
        }
    }
}

#[test]
fn a_rule_that_is_left_out_changes_the_verdict_that_is_claimed_to_rest_on_it() {
    let table = Table::read();
    for row in &table.falsified {
        let verdict = |labels: &[String]| table.decide(labels, row.action, &row.place).allowed;
        assert!(!verdict(&row.labels), "{}", row.why);
        assert!(verdict(&row.instead), "{}: instead", row.why);
    }
}
