//! Gates: what a release must have scored before a tag of its namespace may name it.
//!
//! A `gate` statement is the owners' word about the namespace itself, in its chain beside rotations: from then on all
//! of these requirements stand before this tag, in place of those that did; none of them opens it. Whether a scorecard
//! meets them is a pure function, the same for whoever asks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::chain::Link;
use super::scorecard::{Amount, Measure, Scorecard, Section, TASK_MAX};
use crate::base::digest::Sha256;
use crate::base::name::{ArtifactName, Tag};

/// The most requirements before one tag.
pub const REQUIREMENTS_MAX: usize = 16;
/// What is counted by two numbers of the section `weights`.
const NONFINITE: &str = "nonfinite";

/// The predicate `gate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The namespace's id.
    pub namespace: Sha256,
    /// Its place among the statements on the namespace.
    pub link: Link,
    /// The tag that it stands before, on all artifacts of the namespace.
    pub tag: Tag,
    /// All of which must be met; none opens the tag.
    pub requirements: Vec<Requirement>,
}

/// One number that must be reached, or not be passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The suite that must have been asked; none: what is measured on the weights themselves.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "Option::deserialize")]
    pub suite: Option<ArtifactName>,
    /// The suite's task, if it is a task's number.
    #[serde(deserialize_with = "Option::deserialize")]
    pub task: Option<String>,
    /// The number; `nonfinite` is `nan` and `infinite` together.
    pub metric: String,
    /// It must be this or more.
    #[serde(rename = "atLeast", deserialize_with = "Option::deserialize")]
    pub at_least: Option<Amount>,
    /// It must be this or less.
    #[serde(rename = "atMost", deserialize_with = "Option::deserialize")]
    pub at_most: Option<Amount>,
}

impl Gate {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.requirements.len() > REQUIREMENTS_MAX {
            return Err(format!("more than {REQUIREMENTS_MAX} requirements before a tag"));
        }
        self.requirements.iter().try_for_each(Requirement::check)
    }
}

impl Requirement {
    fn check(&self) -> Result<(), String> {
        super::scorecard::code(&self.metric)?;
        if let Some(task) = &self.task
            && (task.is_empty() || task.len() > TASK_MAX || task.chars().any(char::is_control))
        {
            return Err(format!("`{}` is no name of a task", task.escape_debug()));
        }
        if self.at_least.is_none() && self.at_most.is_none() {
            return Err(format!("nothing is required of {}", self.metric));
        }
        Ok(())
    }

    /// Says what of these scorecards of one release, newest first, does not meet it; nothing if it is met.
    #[must_use]
    pub fn unmet(&self, scorecards: &[Scorecard]) -> Option<String> {
        self.met(scorecards).err()
    }

    /// Returns which of these scorecards of one release, newest first, meets it. Only the newest one counts that has the
    /// number.
    ///
    /// # Errors
    /// What does not meet it.
    pub fn met(&self, scorecards: &[Scorecard]) -> Result<usize, String> {
        let asked = |(_, card): &(usize, &Scorecard)| {
            card.suite.as_ref().map(|suite| &suite.artifact) == self.suite.as_ref()
        };
        let mut cards = scorecards.iter().enumerate().filter(asked).peekable();
        if cards.peek().is_none() {
            return Err(match &self.suite {
                Some(suite) => format!("{self}: it has no scorecard of {suite} yet"),
                None => format!("{self}: it has no scorecard yet"),
            });
        }
        let with_it = |(at, card)| Some((at, self.value(card)?));
        let Some((at, found)) = cards.clone().find_map(with_it) else {
            let sections = cards.flat_map(|(_, card)| &card.sections);
            let reason = sections
                .filter_map(|section| section.not_measured.as_ref())
                .next();
            return Err(match reason {
                Some(reason) => format!("{self}: it was not measured because {reason}"),
                None => format!("{self}: its scorecard does not have that number"),
            });
        };
        let value = found.to_f64();
        let low = self.at_least.is_some_and(|least| value < least.to_f64());
        let high = self.at_most.is_some_and(|most| value > most.to_f64());
        if low || high {
            Err(format!("{self}: it has {found}"))
        } else {
            Ok(at)
        }
    }

    fn value(&self, card: &Scorecard) -> Option<Amount> {
        let number = |metric: &str| {
            let has = |m: &&Measure| m.task == self.task && m.metric == metric;
            let mut all = card
                .sections
                .iter()
                .flat_map(|section: &Section| &section.results);
            all.find(has).map(|measure| measure.value)
        };
        number(&self.metric).or_else(
            || match (self.metric.as_str(), number("nan"), number("infinite")) {
                (NONFINITE, Some(Amount::Count(nan)), Some(Amount::Count(infinite))) => {
                    Some(Amount::Count(nan.saturating_add(infinite)))
                }
                _ => None,
            },
        )
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        if let Some(task) = &self.task {
            write!(f, " of {task}")?;
        }
        if let Some(suite) = &self.suite {
            write!(f, " on {suite}")?;
        }
        match (self.at_least, self.at_most) {
            (Some(least), None) => write!(f, " at least {least}"),
            (None, Some(most)) => write!(f, " at most {most}"),
            (Some(least), Some(most)) => write!(f, " from {least} to {most}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::statement::scorecard::{Device, Harness, SuiteRelease};

    fn requirement(metric: &str, at_least: Option<f64>, at_most: Option<u64>) -> Requirement {
        Requirement {
            suite: None,
            task: None,
            metric: metric.to_owned(),
            at_least: at_least.map(Amount::Real),
            at_most: at_most.map(Amount::Count),
        }
    }

    fn card(results: Vec<Measure>) -> Scorecard {
        Scorecard {
            at: Timestamp::from_unix(0),
            harness: Harness {
                name: "waag".to_owned(),
                version: "1".to_owned(),
                digest: Sha256::of(b"kernels"),
            },
            device: Device {
                class: "cpu".to_owned(),
                name: None,
                worker: None,
            },
            precision: "exact".to_owned(),
            suite: None,
            sections: vec![Section::measured("weights", results)],
            details: None,
        }
    }

    #[test]
    fn a_requirement_says_what_was_found_or_that_nothing_was() {
        let finite = requirement("nonfinite", None, Some(0));
        let counted = |nan, infinite| {
            let count = |metric, n| Measure::new(metric, Amount::Count(n));
            card(vec![count("nan", nan), count("infinite", infinite)])
        };
        assert_eq!(finite.unmet(&[counted(0, 0)]), None);
        // The newest counts.
        assert_eq!(finite.unmet(&[counted(0, 0), counted(9, 9)]), None);
        let without = card(vec![Measure::new("zero", Amount::Count(1))]);
        assert_eq!(finite.met(&[without, counted(0, 0), counted(0, 0)]), Ok(1));
        let unmet = finite.unmet(&[counted(2, 1)]).unwrap();
        assert_eq!(unmet, "nonfinite at most 0: it has 3");
        assert!(finite.unmet(&[]).unwrap().contains("no scorecard yet"));
        let other = requirement("l2_norm", Some(1.0), None);
        assert!(
            other
                .unmet(&[counted(0, 0)])
                .unwrap()
                .contains("not have that number")
        );
    }

    #[test]
    fn a_number_of_a_task_is_looked_for_on_its_suite() {
        let accuracy = Requirement {
            suite: Some("acme/suite".parse().unwrap()),
            task: Some("arc".to_owned()),
            ..requirement("acc", Some(0.7), None)
        };
        let mut scored = card(vec![Measure::new("acc", Amount::Real(0.75)).of_task("arc")]);
        let unmet = accuracy.unmet(std::slice::from_ref(&scored)).unwrap();
        assert_eq!(
            unmet,
            "acc of arc on acme/suite at least 7e-1: it has no scorecard of acme/suite yet"
        );
        scored.suite = Some(SuiteRelease {
            artifact: "acme/suite".parse().unwrap(),
            manifest: Sha256::of(b"suite"),
        });
        assert_eq!(accuracy.unmet(std::slice::from_ref(&scored)), None);
        scored.sections[0].results[0].value = Amount::Real(0.5);
        assert!(accuracy.unmet(&[scored]).unwrap().ends_with("it has 5e-1"));
    }
}
