//! A row for each tensor in the details of a scorecard.

use std::collections::BTreeMap;

use serde::Serialize;
use waag_kernels::pass::Measured;
use waag_kernels::{Element, Quantised};
use waag_schema::statement::scorecard::Amount;

use super::tensors::Read;

/// One tensor in the details.
#[derive(Serialize)]
pub(super) struct Row {
    file: String,
    pub(super) name: String,
    dtype: String,
    shape: Vec<u64>,
    elements: u64,
    /// What was measured on it; absent for types that are counted only.
    #[serde(flatten)]
    pub(super) numbers: Option<Numbers>,
}

#[derive(Serialize)]
pub(super) struct Numbers {
    nan: u64,
    infinite: u64,
    zero: u64,
    subnormal: u64,
    minimum: Option<Amount>,
    maximum: Option<Amount>,
    mean: Option<Amount>,
    standard_deviation: Option<Amount>,
    pub(super) l2_norm: Option<Amount>,
    exponent_entropy_bits: Option<Amount>,
    /// The norm of what rounding in groups changes, by format, over the norm of the tensor.
    relative_error: BTreeMap<&'static str, Amount>,
    exponents: Exponents,
}

/// How many elements have each binary exponent; zeros and subnormal ones stand at the first one of their format.
#[derive(Serialize)]
pub(super) struct Exponents {
    /// The exponent of the first count.
    first: i32,
    counts: Vec<u64>,
}

impl Row {
    pub(super) fn of(path: &str, read: Read) -> Self {
        let Read { tensor, measured } = read;
        Self {
            file: path.to_owned(),
            dtype: tensor.dtype.to_string(),
            elements: tensor.elements(),
            name: tensor.name,
            shape: tensor.shape,
            numbers: measured.as_ref().map(Numbers::of),
        }
    }
}

impl Numbers {
    fn of(measured: &Measured) -> Self {
        let summary = measured.summary();
        let relative = |format: Quantised| {
            let norm = summary.l2_norm.filter(|norm| *norm > 0.0)?;
            let error = measured.errors.squared(format).sqrt() / norm;
            Some((format.name(), Amount::Real(error)))
        };
        Self {
            nan: summary.nans,
            infinite: summary.infinities,
            zero: summary.zeros,
            subnormal: summary.subnormals,
            minimum: summary.minimum.map(Amount::Real),
            maximum: summary.maximum.map(Amount::Real),
            mean: summary.mean.map(Amount::Real),
            standard_deviation: summary.standard_deviation.map(Amount::Real),
            l2_norm: summary.l2_norm.map(Amount::Real),
            exponent_entropy_bits: summary.exponent_entropy_bits.map(Amount::Real),
            relative_error: Quantised::ALL.into_iter().filter_map(relative).collect(),
            exponents: Exponents::of(summary.element, measured),
        }
    }
}

impl Exponents {
    pub(super) fn of(element: Element, measured: &Measured) -> Self {
        let counts = measured.tally.exponent_histogram();
        let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let behind = counts
            .iter()
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1);
        Self {
            first: i32::try_from(first).unwrap_or(0) - element.bias(),
            counts: counts.get(first..behind).unwrap_or_default().to_vec(),
        }
    }
}
