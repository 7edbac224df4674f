//! The one function that says what labels mean.
//!
//! ```text
//! each label by itself:
//!     a rule that denies matches        -> denied
//!     a rule that allows matches        -> allowed
//!     the label has rules that allow    -> denied   (none of them matches)
//!     it has none                       -> the home site only
//! no label at all                       -> the home site only
//! several labels                        -> every one must allow
//! ```
//!
//! "The home site only" means: the home site may hold, serve and evaluate, and may serve consumers, wherever
//! they are; nobody else may do anything. A consumer asks whoever serves it, and a site that is not allowed
//! to hold has nothing to serve, so a server asks for itself (`hold`) before it asks for its caller
//! (`serve`). Between two sites the receiver needs `hold` and the sender asks `serve` for the receiver.
//!
//! A group that the charter does not name (any more) is nowhere for a rule that allows, and everywhere for one that
//! denies: nothing is allowed because a table is missing.
//!
//! What follows, and is tested as such: one more rule that denies, or one label more beside others, never
//! allows more than before; the order of rules and labels plays no part. It also follows that labels which
//! have no place in common allow nothing anywhere, at home neither: if home were spared, naming a second,
//! contradicting ancestor would lift what the first one forbids.

use std::sync::Arc;

use super::group::GroupTerms;
use super::label::{Action, Effect, Label, Rule};
use super::place::Place;
use super::verdict::{Reason, Verdict};
use crate::base::name::SiteId;
use crate::base::time::Timestamp;

/// What a verdict depends on beside the labels and the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The site at which the artifact was published.
    pub home: SiteId,
    /// The time for which membership of groups is looked up.
    pub at: Timestamp,
    /// The groups of the charter.
    pub groups: Arc<[GroupTerms]>,
}

impl Facts {
    /// What is known of an artifact of this home, at this time, where no charter names groups.
    #[must_use]
    pub fn new(home: SiteId, at: Timestamp) -> Self {
        Self {
            home,
            at,
            groups: Arc::default(),
        }
    }
}

/// Says whether labels allow an action at a place, and why.
#[must_use]
pub fn decide(labels: &[Label], facts: &Facts, action: Action, place: &Place) -> Verdict {
    let question = Question { facts, action, place };
    if labels.is_empty() {
        return Verdict::of(vec![question.home_only(None)]);
    }
    let judge = |(index, label)| question.judge(index, label);
    Verdict::of(labels.iter().enumerate().map(judge).collect())
}

struct Question<'a> {
    facts: &'a Facts,
    action: Action,
    place: &'a Place,
}

impl Question<'_> {
    fn judge(&self, label: usize, content: &Label) -> Reason {
        let rules = content.rules();
        if let Some((rule, cited)) = self.first(rules, Effect::Deny) {
            return Reason::DeniedBy { label, rule, cited };
        }
        if let Some((rule, cited)) = self.first(rules, Effect::Allow) {
            return Reason::AllowedBy { label, rule, cited };
        }
        // Whether a label allows anything is read off its rules' effects. Were it asked whether its denials
        // leave anything of what it allows, one denial more could open the home site again.
        if rules.iter().all(|rule| rule.effect == Effect::Deny) {
            return self.home_only(Some(label));
        }
        Reason::NoRuleMatches {
            label,
            action: self.action,
            place: self.place.clone(),
        }
    }

    fn first(&self, rules: &[Rule], effect: Effect) -> Option<(usize, Rule)> {
        let (index, rule) = rules.iter().enumerate().find(|(_, rule)| {
            rule.effect == effect
                && rule.actions.contains(&self.action)
                && rule
                    .scope
                    .matches(self.place, self.facts.at, &self.facts.groups)
                    .unwrap_or(effect == Effect::Deny)
        })?;
        Some((index, rule.clone()))
    }

    fn home_only(&self, label: Option<usize>) -> Reason {
        match (self.place, self.action) {
            (Place::Site { id, .. }, _) if *id == self.facts.home => Reason::AtHome { label },
            (Place::Consumer { .. }, Action::Serve) => Reason::ServedFromHome { label },
            _ => Reason::NotAtHome {
                label,
                home: self.facts.home.clone(),
                action: self.action,
                place: self.place.clone(),
            },
        }
    }
}
