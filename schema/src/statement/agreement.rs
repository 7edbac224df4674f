//! Do two sites agree about a release? Their scorecards, section by section.
//!
//! Invariant: a section is confirmed bit for bit only where the same was to come out: the same numbers' engine (name,
//! version, digest), the same precision, the same suite, and the same class of device, which `exact` numbers do not
//! depend on. Where the suite and the precision are the same but engine or device are not, a difference within the
//! tolerance confirms: the one that the suite states for a number, or else the reader's. Everything else cannot be compared, and says why. What was measured of a machine and not of the
//! weights (`speed`) is never compared.
//!
//! That both scorecards stand in their sites' ledgers, and speak of the same manifest, is for the caller to have checked.

use serde::{Deserialize, Serialize};

use super::scorecard::{Amount, Measure, Scorecard, Section};

/// How precision is named where numbers are the same bits on every device.
const EXACT: &str = "exact";
/// What is measured of a machine.
const OF_A_MACHINE: &str = "speed";

/// How far apart two numbers of different engines or devices may be and still confirm each other, where the suite does not
/// say that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tolerance {
    /// Of the larger one's magnitude.
    pub relative: f64,
    /// Of the larger standard error, where a number has one: a few documents may fall to the other side.
    pub of_error: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            relative: 1e-4,
            of_error: 0.25,
        }
    }
}

/// A number that is not the same in both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The task it is of, if it is of one.
    pub task: Option<String>,
    /// What was measured.
    pub metric: String,
    /// The one; none where it was not measured.
    pub ours: Option<Amount>,
    /// The other.
    pub theirs: Option<Amount>,
    /// The difference over the larger magnitude; 1 where one of them is missing or not finite.
    pub relative: f64,
    /// What the suite allows it to be, where it says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Amount>,
}

/// What one scorecard says to a section of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It found the same.
    Confirmed {
        /// To the last bit.
        bit_for_bit: bool,
        /// What differs most, within the tolerance.
        greatest: Option<Difference>,
    },
    /// It found something else.
    Disputed {
        /// What differs most.
        greatest: Difference,
        /// How many numbers differ by more than they may.
        differing: usize,
    },
    /// The two cannot be compared.
    Incomparable {
        /// Why.
        reason: String,
    },
}

/// A section, and what the other scorecard says to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Agreement {
    /// Which section.
    pub section: String,
    /// What is said to it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What one scorecard says to another, all sections together: the worst that it says to any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No section can be compared.
    Incomparable,
    /// All that can be compared is the same to the last bit.
    Confirmed,
    /// All that can be compared is the same within the tolerance.
    WithinTolerance,
    /// Something differs by more than it may.
    Disputed,
}

/// Two numbers of one metric beside each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair<'a> {
    /// The one, if it was measured.
    pub ours: Option<&'a Measure>,
    /// The other.
    pub theirs: Option<&'a Measure>,
}

/// Says what `theirs` says to each section that `ours` has measured. Both are of one manifest.
#[must_use]
pub fn agree(ours: &Scorecard, theirs: &Scorecard, tolerance: &Tolerance) -> Vec<Agreement> {
    let measured = ours.sections.iter().filter(|s| s.not_measured.is_none());
    measured
        .map(|section| Agreement {
            section: section.name.clone(),
            verdict: judge(ours, theirs, section, tolerance),
        })
        .collect()
}

/// Says what is said to all sections together.
#[must_use]
pub fn outcome(agreements: &[Agreement]) -> Outcome {
    let of_one = |one: &Agreement| match one.verdict {
        Verdict::Incomparable { .. } => Outcome::Incomparable,
        Verdict::Confirmed {
            bit_for_bit: true, ..
        } => Outcome::Confirmed,
        Verdict::Confirmed { .. } => Outcome::WithinTolerance,
        Verdict::Disputed { .. } => Outcome::Disputed,
    };
    agreements
        .iter()
        .map(of_one)
        .max()
        .unwrap_or(Outcome::Incomparable)
}

/// Returns the largest difference in all sections: among those that are disputed if one is, else among all.
#[must_use]
pub fn greatest(agreements: &[Agreement]) -> Option<&Difference> {
    let disputed = is_disputed(agreements);
    let found = agreements.iter().filter_map(|one| match &one.verdict {
        Verdict::Disputed { greatest, .. } => Some(greatest),
        Verdict::Confirmed { greatest, .. } if !disputed => greatest.as_ref(),
        _ => None,
    });
    found.max_by(|a, b| a.relative.total_cmp(&b.relative))
}

/// Says whether any section is disputed.
#[must_use]
pub fn is_disputed(agreements: &[Agreement]) -> bool {
    agreements
        .iter()
        .any(|one| matches!(one.verdict, Verdict::Disputed { .. }))
}

/// Puts the numbers of two sections side by side: those of the first in its order, then what only the second has.
pub fn pairs<'a>(ours: &'a Section, theirs: &'a Section) -> impl Iterator<Item = Pair<'a>> {
    let same = |a: &Measure, b: &Measure| (&a.task, &a.metric) == (&b.task, &b.metric);
    let both = ours.results.iter().map(move |one| Pair {
        ours: Some(one),
        theirs: theirs.results.iter().find(|other| same(one, other)),
    });
    let only = theirs
        .results
        .iter()
        .filter(move |other| !ours.results.iter().any(|one| same(one, other)));
    both.chain(only.map(|other| Pair {
        ours: None,
        theirs: Some(other),
    }))
}

impl Pair<'_> {
    /// Returns the difference over the larger magnitude, 0 where they are the same bits, and 1 where one is missing or
    /// not finite.
    #[must_use]
    pub fn relative(&self) -> f64 {
        let (Some(ours), Some(theirs)) = (self.ours, self.theirs) else {
            return 1.0;
        };
        if ours.value.to_string() == theirs.value.to_string() {
            return 0.0;
        }
        let (a, b) = (ours.value.to_f64(), theirs.value.to_f64());
        let relative = (a - b).abs() / a.abs().max(b.abs());
        if relative.is_finite() {
            relative.min(1.0)
        } else {
            1.0
        }
    }

    /// What a tolerance says is what the suite says, and no number that was found.
    fn is_same(&self) -> bool {
        let found = |one: Option<&Measure>| one.map(|one| one.clone().apart(None));
        found(self.ours) == found(self.theirs)
    }

    /// Returns what the suite allows; where the two do not say the same of it, the less.
    fn stated(&self) -> Option<Amount> {
        let both = [self.ours, self.theirs].into_iter().flatten();
        let stated = both.filter_map(|one| one.tolerance);
        stated.min_by(|a, b| a.to_f64().total_cmp(&b.to_f64()))
    }

    fn is_within(&self, tolerance: &Tolerance) -> bool {
        let (Some(ours), Some(theirs)) = (self.ours, self.theirs) else {
            return false;
        };
        if let Some(stated) = self.stated() {
            return self.relative() <= stated.to_f64();
        }
        if self.relative() <= tolerance.relative {
            return true;
        }
        let error = |one: &Measure| one.standard_error.map_or(0.0, Amount::to_f64);
        let allowed = tolerance.of_error * error(ours).max(error(theirs));
        (ours.value.to_f64() - theirs.value.to_f64()).abs() <= allowed
    }

    fn difference(&self) -> Option<Difference> {
        let one = self.ours.or(self.theirs)?;
        Some(Difference {
            task: one.task.clone(),
            metric: one.metric.clone(),
            ours: self.ours.map(|measure| measure.value),
            theirs: self.theirs.map(|measure| measure.value),
            relative: self.relative(),
            tolerance: self.stated(),
        })
    }
}

fn judge(ours: &Scorecard, theirs: &Scorecard, section: &Section, tolerance: &Tolerance) -> Verdict {
    let incomparable = |reason: String| Verdict::Incomparable { reason };
    if section.name == OF_A_MACHINE {
        return incomparable("it is of the machine and not of the weights".to_owned());
    }
    if ours.suite != theirs.suite {
        return incomparable("another suite was asked".to_owned());
    }
    let other = match theirs.section(&section.name) {
        None => return incomparable("it was not measured there".to_owned()),
        Some(Section {
            not_measured: Some(reason),
            ..
        }) => return incomparable(format!("it was not measured there because {reason}")),
        Some(other) => other,
    };
    if ours.harness.name != theirs.harness.name {
        let (one, other) = (&ours.harness.name, &theirs.harness.name);
        return incomparable(format!("it was measured by {one} here and by {other} there"));
    }
    if ours.precision != theirs.precision {
        let (one, other) = (&ours.precision, &theirs.precision);
        return incomparable(format!("it was computed in {one} here and in {other} there"));
    }
    let same_bits = ours.harness == theirs.harness
        && (ours.precision == EXACT || ours.device.class == theirs.device.class);
    let differing: Vec<Pair<'_>> = pairs(section, other).filter(|pair| !pair.is_same()).collect();
    let greatest = |pairs: &[Pair<'_>]| {
        let worst = pairs.iter().max_by(|a, b| a.relative().total_cmp(&b.relative()));
        worst.and_then(Pair::difference)
    };
    let beyond: Vec<Pair<'_>> = differing
        .iter()
        .filter(|pair| same_bits || !pair.is_within(tolerance))
        .copied()
        .collect();
    match greatest(&beyond) {
        Some(greatest) => Verdict::Disputed {
            greatest,
            differing: beyond.len(),
        },
        None => Verdict::Confirmed {
            bit_for_bit: differing.is_empty(),
            greatest: greatest(&differing),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Sha256;
    use crate::base::time::Timestamp;
    use crate::statement::scorecard::{Device, Harness, SuiteRelease};

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
            precision: "f32".to_owned(),
            suite: None,
            sections: vec![Section::measured("language", results)],
            details: None,
        }
    }

    fn real(metric: &str, value: f64) -> Measure {
        Measure::new(metric, Amount::Real(value))
    }

    fn verdict(ours: &Scorecard, theirs: &Scorecard) -> Verdict {
        let mut found = agree(ours, theirs, &Tolerance::default());
        found.remove(0).verdict
    }

    #[test]
    fn all_sections_together_are_as_bad_as_the_worst_and_a_section_that_cannot_be_compared_is_passed_over() {
        let of = |verdict| Agreement {
            section: "weights".to_owned(),
            verdict,
        };
        let difference = |relative| Difference {
            task: None,
            metric: "nan".to_owned(),
            ours: None,
            theirs: None,
            relative,
            tolerance: None,
        };
        let confirmed = |bit_for_bit, greatest| {
            of(Verdict::Confirmed {
                bit_for_bit,
                greatest,
            })
        };
        let disputed = |relative| {
            of(Verdict::Disputed {
                greatest: difference(relative),
                differing: 1,
            })
        };
        let other = || {
            of(Verdict::Incomparable {
                reason: "another suite was asked".to_owned(),
            })
        };
        assert_eq!(outcome(&[]), Outcome::Incomparable);
        assert_eq!(outcome(&[other()]), Outcome::Incomparable);
        assert_eq!(outcome(&[other(), confirmed(true, None)]), Outcome::Confirmed);
        let within = [confirmed(true, None), confirmed(false, Some(difference(1e-5)))];
        assert_eq!(outcome(&within), Outcome::WithinTolerance);
        assert_eq!(greatest(&within), Some(&difference(1e-5)));
        let worst = [disputed(1e-6), within[1].clone(), disputed(1e-3)];
        assert_eq!(outcome(&worst), Outcome::Disputed);
        assert_eq!(greatest(&worst), Some(&difference(1e-3)));
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::Incomparable { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_engine_on_the_same_class_of_device_must_find_the_same_bits() {
        let ours = card(vec![real("a", 1.0), real("b", 2.0)]);
        let mut theirs = ours.clone();
        theirs.at = Timestamp::from_unix(9);
        theirs.device.name = Some("another".to_owned());
        let confirmed = Verdict::Confirmed {
            bit_for_bit: true,
            greatest: None,
        };
        assert_eq!(verdict(&ours, &theirs), confirmed);
        theirs.sections[0].results[1].value = Amount::Real(2.000_000_000_1);
        let Verdict::Disputed { greatest, differing } = verdict(&ours, &theirs) else {
            panic!("one bit is a dispute")
        };
        assert_eq!((greatest.metric.as_str(), differing), ("b", 1));
        theirs.sections[0].results.pop();
        let Verdict::Disputed { greatest, .. } = verdict(&ours, &theirs) else {
            panic!("a number that is missing is a dispute")
        };
        assert_eq!((greatest.theirs, greatest.relative), (None, 1.0));
    }

    #[test]
    fn elsewhere_a_difference_within_the_tolerance_confirms() {
        let ours = card(vec![
            real("bits_per_byte", 1.0),
            Measure {
                standard_error: Some(Amount::Real(0.04)),
                ..real("acc", 0.5)
            },
        ]);
        let mut theirs = ours.clone();
        theirs.device.class = "cuda-9.0".to_owned();
        theirs.sections[0].results[0].value = Amount::Real(1.000_01);
        theirs.sections[0].results[1].value = Amount::Real(0.505);
        let Verdict::Confirmed {
            bit_for_bit: false,
            greatest: Some(greatest),
        } = verdict(&ours, &theirs)
        else {
            panic!("within the tolerance")
        };
        assert_eq!(greatest.metric, "acc");
        theirs.sections[0].results[0].value = Amount::Real(1.01);
        let Verdict::Disputed { greatest, differing } = verdict(&ours, &theirs) else {
            panic!("beyond the tolerance")
        };
        assert_eq!((greatest.metric.as_str(), differing), ("bits_per_byte", 1));
    }

    #[test]
    fn the_suites_own_tolerance_goes_before_the_readers() {
        #[derive(Debug, PartialEq)]
        enum Said {
            Same,
            Within,
            Disputed,
        }
        // Stated in the one and in the other, how far apart they are, and what that is elsewhere and on the same class.
        let table = [
            (None, None, 0.0, Said::Same),
            (None, None, 5e-5, Said::Within),
            (None, None, 5e-4, Said::Disputed),
            (Some(1e-3), Some(1e-3), 5e-4, Said::Within),
            (Some(1e-3), Some(1e-3), 2e-3, Said::Disputed),
            (Some(0.0), Some(0.0), 1e-9, Said::Disputed),
            (Some(0.0), Some(0.0), 0.0, Said::Same),
            (Some(1e-6), None, 5e-5, Said::Disputed),
            (None, Some(1e-3), 5e-4, Said::Within),
            (Some(1e-1), Some(1e-6), 5e-5, Said::Disputed),
            (Some(1e-1), Some(1e-2), 0.0, Said::Same),
        ];
        for (one, other, apart, said) in table {
            // What the suite says goes before the standard error, too.
            let measure = |value, stated: Option<f64>| {
                real("bits_per_byte", value)
                    .within(stated.map(|_| Amount::Real(1.0)))
                    .apart(stated.map(Amount::Real))
            };
            let ours = card(vec![measure(1.0, one)]);
            let mut theirs = card(vec![measure(1.0 - apart, other)]);
            theirs.sections[0].results[0].standard_error = ours.sections[0].results[0].standard_error;
            let judged = |verdict: Verdict| match verdict {
                Verdict::Confirmed {
                    bit_for_bit: true, ..
                } => Said::Same,
                Verdict::Confirmed { greatest, .. } => {
                    let least = [one, other].into_iter().flatten().reduce(f64::min);
                    assert_eq!(greatest.unwrap().tolerance.map(Amount::to_f64), least);
                    Said::Within
                }
                Verdict::Disputed { greatest, .. } => {
                    assert_eq!(greatest.metric, "bits_per_byte");
                    Said::Disputed
                }
                Verdict::Incomparable { reason } => panic!("{reason}"),
            };
            let case = format!("{one:?}, {other:?}, {apart}");
            let on_the_same = judged(verdict(&ours, &theirs));
            theirs.device.class = "cuda".to_owned();
            assert_eq!(judged(verdict(&ours, &theirs)), said, "{case}");
            // No tolerance loosens what is to be the same bits.
            let strict = if apart == 0.0 { Said::Same } else { Said::Disputed };
            assert_eq!(on_the_same, strict, "{case}");
        }
    }

    #[test]
    fn exact_numbers_do_not_depend_on_the_device() {
        let mut ours = card(vec![real("l2_norm", 1.0)]);
        ours.precision = "exact".to_owned();
        let mut theirs = ours.clone();
        theirs.device.class = "cuda-9.0".to_owned();
        assert!(matches!(
            verdict(&ours, &theirs),
            Verdict::Confirmed {
                bit_for_bit: true,
                ..
            }
        ));
        theirs.sections[0].results[0].value = Amount::Real(1.000_000_1);
        assert!(matches!(verdict(&ours, &theirs), Verdict::Disputed { .. }));
    }

    #[test]
    fn what_was_asked_or_computed_otherwise_cannot_be_compared() {
        let ours = card(vec![real("a", 1.0)]);
        let changed = |change: &dyn Fn(&mut Scorecard)| {
            let mut theirs = ours.clone();
            change(&mut theirs);
            reason(verdict(&ours, &theirs))
        };
        assert!(changed(&|c| c.precision = "bf16".to_owned()).contains("bf16"));
        assert!(changed(&|c| c.harness.name = "other".to_owned()).contains("other"));
        assert!(changed(&|c| c.sections.clear()).contains("not measured there"));
        assert!(
            changed(&|c| c.sections[0] = Section::not_measured("language", "no time")).contains("no time")
        );
        let suite = SuiteRelease {
            artifact: "acme/suite".parse().unwrap(),
            manifest: Sha256::of(b"suite"),
        };
        assert!(changed(&|c| c.suite = Some(suite.clone())).contains("suite"));
        let mut speed = ours.clone();
        speed.sections[0].name = "speed".to_owned();
        assert!(reason(verdict(&speed, &speed)).contains("machine"));
    }

    #[test]
    fn numbers_that_are_not_finite_differ_wholly() {
        let ours = card(vec![real("minimum", f64::NEG_INFINITY), real("maximum", 0.0)]);
        let mut theirs = ours.clone();
        assert!(matches!(verdict(&ours, &theirs), Verdict::Confirmed { .. }));
        theirs.harness.digest = Sha256::of(b"other kernels");
        theirs.sections[0].results[0].value = Amount::Real(f64::INFINITY);
        let Verdict::Disputed { greatest, .. } = verdict(&ours, &theirs) else {
            panic!("infinitely far apart")
        };
        assert_eq!(greatest.relative, 1.0);
    }
}
