//! What a site has measured on a release: the predicate `scorecard`, signed with the site's key.
//!
//! Totals stand in the statement; what was found on each tensor or request stands in a JSON file of its own, named
//! here by its digest. A scorecard without a suite is about the weights; each suite that a release was measured on has
//! a scorecard of its own, which names it. Field names are those of in-toto's proposed `eval-result` where it has them (`metric`,
//! `sampleSize`, `harness` with `name` and `digest`).
//!
//! A value travels as text in its one shortest form, because signed JSON has whole numbers up to 2^53 only; so two
//! engines that found the same wrote the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::base::digest::Sha256;
use crate::base::name::ArtifactName;
use crate::base::text::as_text;
use crate::base::time::Timestamp;

/// The most sections of a scorecard.
pub const SECTIONS_MAX: usize = 16;
/// The most results of a section.
pub const RESULTS_MAX: usize = 1024;
/// The most bytes of the name of a task.
pub const TASK_MAX: usize = 128;
/// The largest tolerance of a number, as a share of it.
pub const TOLERANCE_MAX: f64 = 0.1;
/// The most bytes of a name, of a reason and of other text.
const TEXT_MAX: usize = 500;

/// The predicate `scorecard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scorecard {
    /// When the weighing ended.
    pub at: Timestamp,
    /// What measured.
    pub harness: Harness,
    /// On what it ran.
    pub device: Device,
    /// How it computed: `exact`, `f32`, `bf16`.
    pub precision: String,
    /// What was asked, if a suite was; such a scorecard has the section `language`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub suite: Option<SuiteRelease>,
    /// What was measured, and what was not and why.
    pub sections: Vec<Section>,
    /// What was found in detail, if anything was.
    #[serde(deserialize_with = "Option::deserialize")]
    pub details: Option<Details>,
}

/// An engine: two of one name, version and digest give the same numbers on devices of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Harness {
    /// What it is called.
    pub name: String,
    /// The version of its numbers.
    pub version: String,
    /// The SHA-256 of the kernels it is made of.
    pub digest: Sha256,
}

/// What numbers were computed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The class within which numbers are the same bits, as `cpu`.
    pub class: String,
    /// What it is, as far as that is known.
    #[serde(deserialize_with = "Option::deserialize")]
    pub name: Option<String>,
    /// The compute node that measured in the site's stead, by the name that the site gave it; none where the site
    /// itself did.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub worker: Option<String>,
}

/// A release of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuiteRelease {
    /// Its name.
    #[schema(value_type = String)]
    pub artifact: ArtifactName,
    /// Its manifest: what was asked, to the last byte.
    pub manifest: Sha256,
}

/// One kind of measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Which: `weights`, `lineage`, `language`, `speed`.
    pub name: String,
    /// What was found; nothing where it was not measured.
    pub results: Vec<Measure>,
    /// Why it was not measured, if it was not.
    #[serde(rename = "notMeasured", deserialize_with = "Option::deserialize")]
    pub not_measured: Option<String>,
    /// The numbers of a section that was measured which could not be found out, as energy without a meter.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    pub missing: Vec<Missing>,
}

/// A number that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Of what, in the words of results.
    pub metric: String,
    /// Why it is not there.
    pub reason: String,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Of what: 1 to 64 lower-case letters, digits, `_`, `-` and `.`.
    pub metric: String,
    /// The suite's task that it was measured on, if it was on one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub task: Option<String>,
    /// How much.
    pub value: Amount,
    /// The standard error of the value, where it is a mean.
    #[serde(
        rename = "standardError",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "there"
    )]
    pub standard_error: Option<Amount>,
    /// How far another engine or device may be from the value and still confirm it, as a share of it, where the suite
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub tolerance: Option<Amount>,
    /// Over how many elements, tokens or documents.
    #[serde(rename = "sampleSize", deserialize_with = "Option::deserialize")]
    pub sample_size: Option<Amount>,
}

/// The file that holds the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// A number with one spelling: a whole one in digits, any other in the shortest scientific form that reads back as the
/// same `f64`, as `1.5e-3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A whole number that was counted.
    Count(u64),
    /// A measured one, never NaN.
    Real(f64),
}

impl Amount {
    /// Returns the number, rounded if it is a count beyond 2^53.
    #[must_use]
    pub const fn to_f64(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Real(real) => real,
        }
    }
}

impl From<u64> for Amount {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Real(real) => write!(f, "{real:e}"),
        }
    }
}

/// A number is not written as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number in its shortest form")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let bad = || AmountError(text.chars().take(40).collect());
        let found = if text.bytes().all(|b| b.is_ascii_digit()) {
            Self::Count(text.parse().map_err(|_| bad())?)
        } else {
            Self::Real(text.parse().map_err(|_| bad())?)
        };
        let is_nan = matches!(found, Self::Real(real) if real.is_nan());
        if is_nan || found.to_string() != text {
            return Err(bad());
        }
        Ok(found)
    }
}

as_text!(Amount, "a number in its one shortest form, as `12` or `1.5e-3`");

impl Section {
    /// Makes a section that was measured.
    #[must_use]
    pub fn measured(name: &str, results: Vec<Measure>) -> Self {
        Self {
            name: name.to_owned(),
            results,
            not_measured: None,
            missing: Vec::new(),
        }
    }

    /// Makes a section that was not measured; a reason beyond 500 bytes is cut.
    #[must_use]
    pub fn not_measured(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            results: Vec::new(),
            not_measured: Some(cut(reason)),
            missing: Vec::new(),
        }
    }

    /// Says that a number could not be found out; a reason beyond 500 bytes is cut.
    #[must_use]
    pub fn without(mut self, metric: &str, reason: &str) -> Self {
        self.missing.push(Missing {
            metric: metric.to_owned(),
            reason: cut(reason),
        });
        self
    }

    /// Returns a result that is of no task.
    #[must_use]
    pub fn result(&self, metric: &str) -> Option<Amount> {
        let found = self
            .results
            .iter()
            .find(|measure| measure.task.is_none() && measure.metric == metric);
        found.map(|measure| measure.value)
    }

    /// Returns a result of a task.
    #[must_use]
    pub fn result_of(&self, task: &str, metric: &str) -> Option<&Measure> {
        let mut results = self.results.iter();
        results.find(|measure| measure.task.as_deref() == Some(task) && measure.metric == metric)
    }
}

impl Measure {
    /// Makes a result.
    #[must_use]
    pub fn new(metric: &str, value: Amount) -> Self {
        Self {
            metric: metric.to_owned(),
            task: None,
            value,
            standard_error: None,
            tolerance: None,
            sample_size: None,
        }
    }

    /// Says on which task.
    #[must_use]
    pub fn of_task(self, task: &str) -> Self {
        Self {
            task: Some(task.to_owned()),
            ..self
        }
    }

    /// Says what its standard error is, if it has one.
    #[must_use]
    pub fn within(self, standard_error: Option<Amount>) -> Self {
        Self {
            standard_error,
            ..self
        }
    }

    /// Says how far another engine or device may be from it, if the suite says so.
    #[must_use]
    pub fn apart(self, tolerance: Option<Amount>) -> Self {
        Self { tolerance, ..self }
    }

    /// Says over how much.
    #[must_use]
    pub fn over(self, sample_size: u64) -> Self {
        Self {
            sample_size: Some(Amount::Count(sample_size)),
            ..self
        }
    }
}

impl Scorecard {
    /// Returns a section.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Checks that it is within the bounds that every reader keeps to.
    ///
    /// # Errors
    /// Saying what is not.
    pub fn check(&self) -> Result<(), String> {
        let Harness { name, version, .. } = &self.harness;
        let Device {
            class,
            name: device,
            worker,
        } = &self.device;
        let texts = [name, version, class, &self.precision];
        for text in texts.into_iter().chain(device).chain(worker) {
            if text.is_empty() || text.len() > TEXT_MAX {
                return Err(format!(
                    "a text of {} bytes, 1 to {TEXT_MAX} are read",
                    text.len()
                ));
            }
        }
        if self.sections.len() > SECTIONS_MAX {
            return Err(format!("more than {SECTIONS_MAX} sections"));
        }
        for section in &self.sections {
            section.check()?;
        }
        let names: std::collections::BTreeSet<&str> = self.sections.iter().map(|s| s.name.as_str()).collect();
        if names.len() < self.sections.len() {
            return Err("a section stands there twice".to_owned());
        }
        Ok(())
    }
}

impl Section {
    fn check(&self) -> Result<(), String> {
        code(&self.name)?;
        match &self.not_measured {
            Some(reason) if reason.is_empty() || reason.len() > TEXT_MAX => {
                return Err(format!(
                    "the section {} has a reason of {} bytes, 1 to {TEXT_MAX} are read",
                    self.name,
                    reason.len()
                ));
            }
            Some(_) if !self.results.is_empty() || !self.missing.is_empty() => {
                return Err(format!("the section {} is measured and is not", self.name));
            }
            _ => {}
        }
        if self.results.len() + self.missing.len() > RESULTS_MAX {
            return Err(format!("more than {RESULTS_MAX} results in {}", self.name));
        }
        let mut metrics = std::collections::BTreeSet::new();
        for measure in &self.results {
            code(&measure.metric)?;
            if let Some(task) = &measure.task
                && (task.is_empty() || task.len() > TASK_MAX || task.chars().any(char::is_control))
            {
                return Err(format!("`{}` is no name of a task", task.escape_debug()));
            }
            if let Some(tolerance) = measure.tolerance {
                let share = tolerance.to_f64();
                if !(0.0..=TOLERANCE_MAX).contains(&share) || share.is_sign_negative() {
                    return Err(format!(
                        "the tolerance of {} is {tolerance}, which is not from 0 to {TOLERANCE_MAX}",
                        measure.metric
                    ));
                }
            }
            if !metrics.insert((&measure.task, &measure.metric)) {
                return Err(format!("{} stands twice in {}", measure.metric, self.name));
            }
        }
        for Missing { metric, reason } in &self.missing {
            code(metric)?;
            if reason.is_empty() || reason.len() > TEXT_MAX {
                let length = reason.len();
                return Err(format!(
                    "{metric} is missing for a reason of {length} bytes, 1 to {TEXT_MAX} are read"
                ));
            }
            if !metrics.insert((&None, metric)) {
                return Err(format!("{metric} stands twice in {}", self.name));
            }
        }
        Ok(())
    }
}

/// Reads a key that is there: what has nothing to say is left out, and `null` would be a second way to say it.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads a list that is there, in the same way.
fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let read = Vec::deserialize(from)?;
    if read.is_empty() {
        return Err(serde::de::Error::custom("a list of nothing is left out"));
    }
    Ok(read)
}

fn cut(reason: &str) -> String {
    reason[..reason.floor_char_boundary(TEXT_MAX)].to_owned()
}

pub(super) fn code(text: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err(format!("`{}` is no name of a metric", text.escape_debug()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_reads_back_as_itself(bits: u64, count: u64) {
            let real = f64::from_bits(bits);
            prop_assume!(!real.is_nan());
            for amount in [Amount::Real(real), Amount::Count(count)] {
                prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
            }
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for bad in [
            "",
            "01",
            "+1",
            "1.50e0",
            "1.5",
            "0.1e1",
            "NaN",
            "1E3",
            "1e+3",
            " 1",
            "18446744073709551616",
        ] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
        for good in ["0", "12", "1.5e-3", "-1e0", "0e0", "inf", "-inf"] {
            assert_eq!(good.parse::<Amount>().unwrap().to_string(), good);
        }
    }
}
