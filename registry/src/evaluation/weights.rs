//! The section `weights`: every tensor of every safetensors file, and all of them together.
//!
//! Invariant: the section and its rows depend on the files' paths and bytes only, so whoever has the files can check
//! every number of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use waag_kernels::cuda::Gpu;
use waag_kernels::pass::Measured;
use waag_kernels::{Element, Quantised};
use waag_schema::statement::scorecard::{Amount, Measure, Section};

use super::device::Computer;
use super::rows::{Exponents, Row};
use super::tensors::{Read, Tensors};
use super::{WeighError, lineage, unmeasured};

/// Tensors beyond this number are in the totals only.
const LISTED_MAX: usize = 50_000;
/// A release of more tensors is not measured: what a header and a base take of memory for each, some 500 bytes, stays well
/// within what a weigher has.
pub(super) const TENSORS_MAX: u64 = 1 << 20;

/// Measures files, one after the other.
pub struct Weighing {
    gpu: Option<Arc<Gpu>>,
    /// How many tensors are measured at most.
    tensors_max: u64,
    /// Why nothing is measured, though there are files.
    refused: Option<String>,
    file: Option<(String, Tensors)>,
    rows: Vec<Row>,
    totals: Totals,
}

/// What was weighed.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// The sections.
    pub sections: Vec<Section>,
    /// The details, as JSON; empty where nothing was measured.
    pub details: Vec<u8>,
}

#[derive(Default)]
struct Totals {
    files: u64,
    tensors: u64,
    bytes: u64,
    /// Elements by the name of their type.
    elements: BTreeMap<String, u64>,
    measured: BTreeMap<&'static str, (Element, Measured)>,
}

#[derive(Serialize)]
struct DetailsJson<'a> {
    version: u32,
    /// The distribution of all elements of a type.
    exponents: BTreeMap<&'static str, Exponents>,
    tensors: &'a [Row],
    /// What differs from the base, tensor by tensor; empty where there is none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lineage: &'a [lineage::Row],
}

impl Default for Weighing {
    fn default() -> Self {
        Self {
            gpu: None,
            tensors_max: TENSORS_MAX,
            refused: None,
            file: None,
            rows: Vec::new(),
            totals: Totals::default(),
        }
    }
}

impl Weighing {
    /// Begins with the first file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, computed on this. The bits do not show it.
    #[must_use]
    pub fn on(computer: &Computer) -> Self {
        Self {
            gpu: computer.gpu().cloned(),
            ..Self::default()
        }
    }

    /// Begins a safetensors file of this size.
    pub fn begin(&mut self, path: &str, size: u64) {
        self.totals.files += 1;
        if self.refused.is_none() {
            let left = self.tensors_max.saturating_sub(self.totals.tensors);
            let file = Tensors::begin(path, size, left, self.gpu.clone());
            self.file = Some((path.to_owned(), file));
        }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// When they cannot be those of such a file.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), WeighError> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let mut taker = |read| self.totals.take(&mut self.rows, path, read);
        match file.take(bytes, &mut taker) {
            Err(WeighError::TooMany { tensors }) => {
                self.refuse(tensors);
                Ok(())
            }
            taken => taken,
        }
    }

    /// Gives up: what the tensors would take of memory is more than there is, now and the next time.
    fn refuse(&mut self, more: u64) {
        let found = self.totals.tensors.saturating_add(more);
        let most = self.tensors_max;
        self.refused = Some(format!("it has {found} tensors, at most {most} are measured"));
        self.file = None;
        self.rows = Vec::new();
    }

    /// Says whether it was given up, so that nothing more need be read.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When more bytes should have come.
    pub fn end(&mut self) -> Result<(), WeighError> {
        let Some((path, file)) = self.file.take() else {
            return Ok(());
        };
        file.end(&mut |read| self.totals.take(&mut self.rows, &path, read))
    }

    /// Returns the L2 norm of each tensor that is listed, by name.
    pub(super) fn norms(&self) -> BTreeMap<&str, f64> {
        let norm = |row: &'_ Row| row.numbers.as_ref().and_then(|n| Some(n.l2_norm?.to_f64()));
        self.rows
            .iter()
            .filter_map(|row| Some((row.name.as_str(), norm(row)?)))
            .collect()
    }

    /// Returns what all files together gave. `why` says why there was none, if there was none.
    #[must_use]
    pub fn finish(self, why: &str) -> Weighed {
        self.finish_with(why, Section::not_measured("lineage", "no base is named"), &[])
    }

    /// The same, with what was found about a base.
    pub(super) fn finish_with(self, why: &str, lineage: Section, changed: &[lineage::Row]) -> Weighed {
        let Self {
            rows,
            totals,
            refused,
            ..
        } = self;
        let mut details = Vec::new();
        let weights = if let Some(reason) = refused {
            Section::not_measured("weights", &reason)
        } else if totals.files == 0 {
            Section::not_measured("weights", why)
        } else {
            let of = |(name, (element, measured)): (&&'static str, &(Element, Measured))| {
                (*name, Exponents::of(*element, measured))
            };
            let json = DetailsJson {
                version: 1,
                exponents: totals.measured.iter().map(of).collect(),
                tensors: &rows,
                lineage: changed,
            };
            details = serde_json::to_vec(&json).expect("numbers, strings and lists always serialise");
            Section::measured("weights", totals.results())
        };
        Weighed {
            sections: [weights, lineage].into_iter().chain(unmeasured()).collect(),
            details,
        }
    }
}

impl Weighed {
    /// Puts a section into the place of the one of its name.
    #[must_use]
    pub fn with(mut self, section: Section) -> Self {
        put(&mut self.sections, section);
        self
    }
}

/// Puts a section into the place of the one of its name.
pub(super) fn put(sections: &mut [Section], section: Section) {
    if let Some(place) = sections.iter_mut().find(|s| s.name == section.name) {
        *place = section;
    }
}

impl Totals {
    /// Takes what one tensor gave, and lists it unless too many are listed.
    fn take(&mut self, rows: &mut Vec<Row>, path: &str, read: Read) -> Result<(), waag_kernels::TallyError> {
        self.add(&read)?;
        if rows.len() < LISTED_MAX {
            rows.push(Row::of(path, read));
        }
        Ok(())
    }

    fn add(&mut self, read: &Read) -> Result<(), waag_kernels::TallyError> {
        let Read { tensor, measured } = read;
        self.tensors += 1;
        self.bytes += tensor.size();
        let elements = self.elements.entry(tensor.dtype.to_string()).or_default();
        *elements = elements.saturating_add(tensor.elements());
        if let Some(measured) = measured {
            let element = measured.tally.element();
            let fresh = || (element, Measured::none(element));
            let (_, total) = self.measured.entry(element.name()).or_insert_with(fresh);
            total.merge(measured)?;
        }
        Ok(())
    }

    fn results(&self) -> Vec<Measure> {
        let parameters = self
            .elements
            .values()
            .fold(0_u64, |sum, n| sum.saturating_add(*n));
        let mut results = vec![
            Measure::new("parameters", Amount::Count(parameters)),
            Measure::new("tensors", Amount::Count(self.tensors)),
            Measure::new("files", Amount::Count(self.files)),
            Measure::new("bytes", Amount::Count(self.bytes)),
        ];
        for (dtype, elements) in &self.elements {
            let metric = format!("parameters.{}", dtype.to_lowercase());
            results.push(Measure::new(&metric, Amount::Count(*elements)));
        }
        let all: Vec<_> = self
            .measured
            .values()
            .map(|(element, measured)| (*element, measured, measured.summary()))
            .collect();
        let sample: u64 = all.iter().map(|(.., summary)| summary.elements).sum();
        if sample == 0 {
            return results;
        }
        let sum = |of: &dyn Fn(&waag_kernels::Summary) -> u64| all.iter().map(|(.., s)| of(s)).sum::<u64>();
        for (metric, count) in [
            ("nan", sum(&|s| s.nans)),
            ("infinite", sum(&|s| s.infinities)),
            ("zero", sum(&|s| s.zeros)),
            ("subnormal", sum(&|s| s.subnormals)),
        ] {
            results.push(Measure::new(metric, Amount::Count(count)).over(sample));
        }
        let least = all.iter().filter_map(|(.., s)| s.minimum).min_by(f64::total_cmp);
        let greatest = all.iter().filter_map(|(.., s)| s.maximum).max_by(f64::total_cmp);
        let squares: f64 = all.iter().filter_map(|(.., s)| s.l2_norm.map(|n| n * n)).sum();
        let norm = match all.as_slice() {
            // The root of a square is not always the number itself.
            [(.., one)] => one.l2_norm,
            _ => (sum(&|s| s.finite) > 0).then(|| squares.sqrt()),
        };
        let mut real = |metric: &str, value: Option<f64>| {
            if let Some(value) = value {
                results.push(Measure::new(metric, Amount::Real(value)).over(sample));
            }
        };
        real("minimum", least);
        real("maximum", greatest);
        real("l2_norm", norm);
        // Bits that no coder of exponents, one by one, gets below: the rest of an element is its sign and mantissa.
        let entropy = all.iter().map(|(element, _, s)| {
            let exponent = s.exponent_entropy_bits.unwrap_or(0.0);
            let rest = 1.0 + f64::from(element.mantissa_bits());
            (exponent + rest) * s.elements as f64
        });
        real("lossless_bits", Some(entropy.sum::<f64>() / sample as f64));
        for format in Quantised::ALL {
            let error: f64 = all.iter().map(|(_, m, _)| m.errors.squared(format)).sum();
            let relative = norm.filter(|norm| *norm > 0.0).map(|norm| error.sqrt() / norm);
            real(&format!("relative_error.{}", format.name()), relative);
        }
        let skipped: u64 = all.iter().map(|(_, m, _)| m.errors.skipped()).sum();
        results.push(Measure::new("skipped_groups", Amount::Count(skipped)));
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of so many tensors of one element each.
    fn file(tensors: usize) -> Vec<u8> {
        let of = |at: usize| {
            format!(
                r#""t{at}":{{"dtype":"F8_E4M3","shape":[1],"data_offsets":[{at},{}]}}"#,
                at + 1
            )
        };
        let header = format!("{{{}}}", (0..tensors).map(of).collect::<Vec<_>>().join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + tensors, 0x38);
        bytes
    }

    fn weighed(files: &[usize], tensors_max: u64) -> Weighed {
        let mut weighing = Weighing {
            tensors_max,
            ..Weighing::default()
        };
        for (at, tensors) in files.iter().enumerate() {
            let bytes = file(*tensors);
            weighing.begin(&format!("{at}.safetensors"), bytes.len() as u64);
            for part in bytes.chunks(7) {
                weighing.take(part).unwrap();
            }
            weighing.end().unwrap();
        }
        weighing.finish("there is none")
    }

    #[test]
    fn a_release_of_too_many_tensors_is_not_measured_and_says_how_many_it_has() {
        let measured = weighed(&[3, 2], 5);
        assert_eq!(measured.sections[0].result("tensors"), Some(Amount::Count(5)));
        assert!(!measured.details.is_empty());
        for (files, found) in [(&[3, 3][..], 6), (&[6], 6), (&[3, 3, 9], 6)] {
            let refused = weighed(files, 5);
            let reason = refused.sections[0].not_measured.as_deref().unwrap();
            assert_eq!(reason, format!("it has {found} tensors, at most 5 are measured"));
            assert!(refused.details.is_empty());
        }
    }
}
