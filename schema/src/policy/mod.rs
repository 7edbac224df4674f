//! Labels and verdicts: who says where an artifact may be, and what follows from it.
//!
//! A [`Label`] is what a publisher says; [`decide()`] is the only thing that reads it. The same pure function
//! answers in the command line, in the server, in a mirror and in an auditor's hands, and every [`Verdict`]
//! carries the rules that led to it.
//!
//! What a verdict does not say: that no copy exists elsewhere. It is the ground for *accountable* residency,
//! which signed custody, refusals and erasure receipts make checkable; an administrator with a disk in hand
//! is outside of it.

pub mod decide;
pub mod group;
pub mod label;
pub mod place;
pub mod verdict;

pub use decide::{Facts, decide};
pub use group::{GroupName, GroupTerms, Member};
pub use label::{Action, Effect, Label, Rule};
pub use place::{Country, Group, Place, Where};
pub use verdict::{Reason, Verdict};

/// A label or a part of it breaks its rules; the text says which, and what is written instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is not an assigned country code.
    #[error("`{text}` is not an ISO 3166-1 alpha-2 country code{}", hint(.meant.as_deref()))]
    Country {
        /// What was found.
        text: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The text names no group of countries.
    #[error("`{text}` is not a group of countries (EU, EEA)")]
    Group {
        /// What was found.
        text: String,
    },
    /// The text is no name for a group of a charter.
    #[error(
        "`{text}` is no name for a group of countries: it has 1 to 31 lower-case letters and digits, joined by single `-`"
    )]
    GroupName {
        /// What was found.
        text: String,
    },
    /// The text names no place.
    #[error(
        "`{text}` is not a place: write a country (DE), a group (EU, EEA, or group:<name> of the charter), site:<id> or *{}",
        hint(.meant.as_deref())
    )]
    Where {
        /// What was found.
        text: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// The text names no action.
    #[error("`{text}` is not an action: write hold, serve or evaluate")]
    Action {
        /// What was found.
        text: String,
    },
    /// A label has no rules.
    #[error("a label without rules says nothing; leave it away to keep an artifact at its home site")]
    NoRules,
    /// A label has more rules than a person could review.
    #[error("a label of {found} rules, at most {limit} are accepted")]
    TooManyRules {
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A rule names no action, so it could never match.
    #[error("rule {} names no action", .rule + 1)]
    NoActions {
        /// The rule's index, from 0.
        rule: usize,
    },
    /// Actions are allowed or denied without a place to allow them at.
    #[error("actions are allowed or denied, but no residency is given that says where")]
    NoResidency,
}

fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// What a message shows of a text from outside: little of it, with control characters escaped.
fn shorten(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}
