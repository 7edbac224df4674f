//! A verdict: allow or deny, with the rules that led to it.
//!
//! There is one reason for each label (one in all where there is no label), in the labels' order, and none is
//! left out because another already denied: who wants to change a verdict sees everything that stands in
//! the way. In data labels and rules count from 0, in sentences from 1.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::label::{Action, Rule};
use super::place::Place;
use crate::base::name::SiteId;

/// The answer to "may this be done there?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Whether it may.
    pub allowed: bool,
    /// Why, label by label.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Makes the verdict that follows from what was found for each label: all must allow.
    pub(super) fn of(reasons: Vec<Reason>) -> Self {
        Self {
            allowed: !reasons.is_empty() && reasons.iter().all(Reason::allows),
            reasons,
        }
    }

    /// Returns the reasons that speak for the answer: all of them if it is yes, those that deny if it is no.
    pub fn decisive(&self) -> impl Iterator<Item = &Reason> {
        self.reasons
            .iter()
            .filter(|reason| reason.allows() == self.allowed)
    }
}

/// `allowed: <why>; <why>` or `denied: <why>`, with the reasons that speak for the answer.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed { "allowed" } else { "denied" })?;
        for (i, reason) in self.decisive().enumerate() {
            write!(f, "{} {reason}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

/// What one label says, or what holds where there is none.
///
/// As JSON an object whose `reason` names the variant: `{"reason": "denied_by", "label": 0, "rule": 1,
/// "cited": {"effect": "deny", "where": "*", "actions": ["evaluate"]}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A rule allows it, and none of the same label denies it.
    AllowedBy {
        /// The label's index.
        label: usize,
        /// The index of the first rule that allows it.
        rule: usize,
        /// That rule.
        cited: Rule,
    },
    /// A rule denies it.
    DeniedBy {
        /// The label's index.
        label: usize,
        /// The index of the first rule that denies it.
        rule: usize,
        /// That rule.
        cited: Rule,
    },
    /// No rule of the label speaks of this action at this place.
    NoRuleMatches {
        /// The label's index.
        label: usize,
        /// What was asked.
        action: Action,
        /// Where.
        place: Place,
    },
    /// Nothing is allowed beyond the home site, and this is the home site.
    AtHome {
        /// The label without a rule that allows; `None` where there is no label at all.
        label: Option<usize>,
    },
    /// Nothing is allowed beyond the home site, and the home site is the one that serves.
    ServedFromHome {
        /// The label without a rule that allows; `None` where there is no label at all.
        label: Option<usize>,
    },
    /// Nothing is allowed beyond the home site, and this is another place.
    NotAtHome {
        /// The label without a rule that allows; `None` where there is no label at all.
        label: Option<usize>,
        /// The home site.
        home: SiteId,
        /// What was asked.
        action: Action,
        /// Where.
        place: Place,
    },
}

impl Reason {
    /// Says whether this speaks for yes.
    #[must_use]
    pub const fn allows(&self) -> bool {
        match self {
            Self::AllowedBy { .. } | Self::AtHome { .. } | Self::ServedFromHome { .. } => true,
            Self::DeniedBy { .. } | Self::NoRuleMatches { .. } | Self::NotAtHome { .. } => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowedBy { label, rule, cited } | Self::DeniedBy { label, rule, cited } => {
                write!(f, "label {}, rule {}, says \"{cited}\"", label + 1, rule + 1)
            }
            Self::NoRuleMatches { label, action, place } => write!(
                f,
                "label {} has no rule that allows {action} at {place}",
                label + 1
            ),
            Self::AtHome { label } => write!(f, "{}, and this is it", Bound(*label)),
            Self::ServedFromHome { label } => write!(f, "{}, which serves this", Bound(*label)),
            Self::NotAtHome {
                label,
                home,
                action,
                place,
            } => write!(f, "{} {home}, and {action} was asked for {place}", Bound(*label)),
        }
    }
}

/// The half sentence that says why only the home site is left.
struct Bound(Option<usize>);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(label) => write!(
                f,
                "label {} allows nothing, which leaves the home site",
                label + 1
            ),
            None => f.write_str("there is no label, which leaves the home site"),
        }
    }
}
