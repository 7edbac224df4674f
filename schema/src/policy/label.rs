//! A label: what a publisher says about where an artifact may be and what may be done with it there.
//!
//! As JSON, with no other fields:
//!
//! ```text
//! {"rules": [
//!   {"effect": "allow", "where": "EU", "actions": ["hold", "serve"]},
//!   {"effect": "deny",  "where": "*",  "actions": ["evaluate"]}
//! ]}
//! ```
//!
//! Invariant: 1 to 64 rules, each of which names at least one action. What the rules mean is
//! [`decide`](super::decide())'s business; neither their order nor that of the actions matters.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::place::Where;
use super::{PolicyError, shorten};

/// A label has at most this many rules: it must stay something that a person reviews before signing it.
pub const RULES_MAX: usize = 64;

/// What may be done with an artifact's bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Keep the bytes.
    Hold,
    /// Give the bytes to somebody: the place of the verdict is the one who receives them.
    Serve,
    /// Run an evaluation on them.
    Evaluate,
}

impl Action {
    /// Every action, in order.
    pub const ALL: [Self; 3] = [Self::Hold, Self::Serve, Self::Evaluate];

    /// Returns the text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Serve => "serve",
            Self::Evaluate => "evaluate",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| PolicyError::Action { text: shorten(text) })
    }
}

/// Which way a rule decides.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The actions are allowed at the place, unless another rule denies them.
    Allow,
    /// The actions are denied at the place, whatever another rule says.
    Deny,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// One rule of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which way it decides.
    pub effect: Effect,
    /// Where it holds.
    #[serde(rename = "where")]
    pub scope: Where,
    /// For which actions; never empty within a label.
    pub actions: BTreeSet<Action>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.effect, listed(&self.actions), self.scope)
    }
}

/// A residency statement's content: a list of rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "Unchecked")]
pub struct Label {
    rules: Vec<Rule>,
}

impl Label {
    /// Makes a label of rules.
    ///
    /// # Errors
    /// When there are none or more than [`RULES_MAX`], or one names no action.
    pub fn new(rules: Vec<Rule>) -> Result<Self, PolicyError> {
        if rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        if rules.len() > RULES_MAX {
            return Err(PolicyError::TooManyRules {
                found: rules.len(),
                limit: RULES_MAX,
            });
        }
        match rules.iter().position(|rule| rule.actions.is_empty()) {
            Some(rule) => Err(PolicyError::NoActions { rule }),
            None => Ok(Self { rules }),
        }
    }

    /// Makes a label of what a publisher types: `--residency EU,NO --allow hold,serve --deny evaluate`.
    ///
    /// At each place of `residency` the actions of `allow` are allowed, all of them where it is empty. What
    /// `deny` lists is denied everywhere, so it stays denied whatever label is laid beside this one.
    ///
    /// # Errors
    /// When `residency` is empty, or has more places than a label has rules.
    pub fn from_cli(residency: &[Where], allow: &[Action], deny: &[Action]) -> Result<Self, PolicyError> {
        if residency.is_empty() {
            return Err(PolicyError::NoResidency);
        }
        let allowed = if allow.is_empty() { &Action::ALL } else { allow };
        let mut rules: Vec<Rule> = Vec::new();
        for scope in residency {
            if rules.iter().all(|rule| rule.scope != *scope) {
                rules.push(Rule {
                    effect: Effect::Allow,
                    scope: scope.clone(),
                    actions: allowed.iter().copied().collect(),
                });
            }
        }
        if !deny.is_empty() {
            rules.push(Rule {
                effect: Effect::Deny,
                scope: Where::Anywhere,
                actions: deny.iter().copied().collect(),
            });
        }
        Self::new(rules)
    }

    /// Returns the rules, in the order in which they were written.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// One line for a person, in which neighbours that differ in their place only are drawn together:
/// `allow hold, serve at EU, NO; deny evaluate at *`.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alike = |a: &Rule, b: &Rule| a.effect == b.effect && a.actions == b.actions;
        for (i, group) in self.rules.chunk_by(alike).enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            let mut rules = group.iter();
            if let Some(first) = rules.next() {
                write!(f, "{first}")?;
            }
            for rule in rules {
                write!(f, ", {}", rule.scope)?;
            }
        }
        Ok(())
    }
}

/// A label as it is read, before its rules are counted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    rules: Vec<Rule>,
}

impl TryFrom<Unchecked> for Label {
    type Error = PolicyError;

    fn try_from(unchecked: Unchecked) -> Result<Self, PolicyError> {
        Self::new(unchecked.rules)
    }
}

fn listed(actions: &BTreeSet<Action>) -> String {
    let words: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
    words.join(", ")
}
