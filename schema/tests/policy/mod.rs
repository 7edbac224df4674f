//! Labels, places and verdicts.

mod labels;
mod places;
mod properties;
mod table;
mod verdicts;

use waag_schema::SiteId;
use waag_schema::policy::{Action, Country, Effect, Label, Place, Rule};

/// Site `a`, `b`, ... of these tests.
fn site(letter: char) -> SiteId {
    letter.to_string().repeat(32).parse().unwrap()
}

fn country(code: &str) -> Option<Country> {
    (code != "-").then(|| code.parse().unwrap())
}

/// `consumer DE`, `a DE` (site a in DE); `-` for no jurisdiction.
fn place(text: &str) -> Place {
    let (who, code) = text.split_once(' ').unwrap();
    let jurisdiction = country(code);
    match who {
        "consumer" => Place::Consumer { jurisdiction },
        letter => Place::Site {
            id: site(letter.chars().next().unwrap()),
            jurisdiction,
        },
    }
}

/// `hse` for hold, serve and evaluate.
fn actions(letters: &str) -> Vec<Action> {
    let all = Action::ALL.into_iter();
    all.filter(|action| letters.contains(&action.as_str()[..1]))
        .collect()
}

/// `+EU:hs` allows hold and serve at EU, `-*:e` denies evaluate everywhere, `+@b:h` is for site b.
fn rule(text: &str) -> Rule {
    let (scope, letters) = text[1..].rsplit_once(':').unwrap();
    let scope = match scope.strip_prefix('@') {
        Some(letter) => format!("site:{}", site(letter.chars().next().unwrap())),
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
}

fn label(text: &str) -> Label {
    Label::new(text.split(' ').map(rule).collect()).unwrap()
}

/// Labels are parted by `|`; an empty text is no label at all.
fn labels(text: &str) -> Vec<Label> {
    let parts = text.split('|').map(str::trim).filter(|part| !part.is_empty());
    parts.map(label).collect()
}
