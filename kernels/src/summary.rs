//! What follows from a tally: moments, extremes and exponent entropy.
//!
//! Sums are exact whole numbers of the smallest subnormal until the very end; then each result is rounded a
//! few times, by operations that IEEE 754 defines to the last bit (`+ - * /` and the square root). So a
//! summary is a function of the tally alone, the same on every machine.

use crate::element::Element;
use crate::log2::{FRACTION_BITS, log2};
use crate::tally::{Bin, Tally};
use crate::wide::Wide;

/// The numbers of a tensor that people read.
///
/// Moments are those of the finite elements, and `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The format of the elements.
    pub element: Element,
    /// How many elements there are.
    pub elements: u64,
    /// How many are finite.
    pub finite: u64,
    /// How many are not a number.
    pub nans: u64,
    /// How many are infinite.
    pub infinities: u64,
    /// How many are zero.
    pub zeros: u64,
    /// How many are subnormal.
    pub subnormals: u64,
    /// The least element that is a number.
    pub minimum: Option<f64>,
    /// The greatest element that is a number.
    pub maximum: Option<f64>,
    /// The mean, within 1 unit in the last place.
    pub mean: Option<f64>,
    /// The standard deviation (divided by the count, not by one less), within 2 units in the last place.
    pub standard_deviation: Option<f64>,
    /// The square root of the sum of squares, within 1 unit in the last place.
    pub l2_norm: Option<f64>,
    /// The entropy of the exponent field over all elements, in bits, within 2^-50; `None` for no elements.
    /// No coder that takes exponents one by one, knowing their frequencies, writes less for each.
    pub exponent_entropy_bits: Option<f64>,
}

impl Summary {
    /// Derives the numbers of a tally.
    #[must_use]
    pub fn of(tally: &Tally) -> Self {
        let element = tally.element();
        let moments = (tally.finite() > 0).then(|| Moments::of(tally));
        let value = |bits| element.value(bits);
        Self {
            element,
            elements: tally.elements(),
            finite: tally.finite(),
            nans: tally.nans(),
            infinities: tally.infinities(),
            zeros: tally.zeros(),
            subnormals: tally.subnormals(),
            minimum: tally.minimum_bits().map(value),
            maximum: tally.maximum_bits().map(value),
            mean: moments.as_ref().map(Moments::mean),
            standard_deviation: moments.as_ref().map(Moments::standard_deviation),
            l2_norm: moments.as_ref().map(Moments::l2_norm),
            exponent_entropy_bits: entropy_bits(&tally.exponent_histogram()),
        }
    }
}

/// Sums over the finite elements, in units of the smallest subnormal and of its square.
struct Moments {
    /// At least 1.
    count: u64,
    unit_exponent: i32,
    positive: Wide,
    negative: Wide,
    squares: Wide,
}

impl Moments {
    fn of(tally: &Tally) -> Self {
        let element = tally.element();
        let top = element.top_exponent();
        let mut squares = Wide::ZERO;
        let mut sum = |bins: &[Bin], finite_at_top: u64| {
            let mut sum = Wide::ZERO;
            for (exponent, bin) in (0..=top).zip(bins) {
                let count = if exponent == top { finite_at_top } else { bin.count };
                // An element is `implicit + mantissa` units, times 2 for each exponent above 1.
                let (implicit_bits, shift) = match exponent {
                    0 => (None, 0),
                    normal => (Some(element.mantissa_bits()), normal - 1),
                };
                sum.add_shifted(bin.mantissas, shift);
                squares.add_shifted(bin.squares, 2 * shift);
                if let Some(bits) = implicit_bits {
                    // (i + m)^2 = i^2 + 2 i m + m^2
                    sum.add_shifted(u128::from(count), bits + shift);
                    squares.add_shifted(bin.mantissas, bits + 1 + 2 * shift);
                    squares.add_shifted(u128::from(count), 2 * bits + 2 * shift);
                }
            }
            sum
        };
        let positive = sum(tally.bins(false), tally.finite_at_top(false));
        let negative = sum(tally.bins(true), tally.finite_at_top(true));
        Self {
            count: tally.finite(),
            unit_exponent: element.unit_exponent(),
            positive,
            negative,
            squares,
        }
    }

    /// The absolute value of the sum, and whether the sum is negative.
    fn sum(&self) -> (Wide, bool) {
        if self.positive >= self.negative {
            (self.positive.minus(&self.negative), false)
        } else {
            (self.negative.minus(&self.positive), true)
        }
    }

    fn mean(&self) -> f64 {
        let (sum, is_negative) = self.sum();
        let magnitude = sum.to_f64(self.unit_exponent) / self.count as f64;
        if is_negative { -magnitude } else { magnitude }
    }

    fn l2_norm(&self) -> f64 {
        self.squares.to_f64(2 * self.unit_exponent).sqrt()
    }

    /// `sqrt(n * sum(x^2) - sum(x)^2) / n`, where the difference is exact: nothing cancels.
    fn standard_deviation(&self) -> f64 {
        let mut count = Wide::ZERO;
        count.add_shifted(u128::from(self.count), 0);
        let (sum, _) = self.sum();
        let difference = self.squares.times(&count).minus(&sum.times(&sum));
        difference.to_f64(2 * self.unit_exponent).sqrt() / self.count as f64
    }
}

/// `log2(n) - sum(c * log2(c)) / n` for counts `c` that add up to `n`, in integers up to the last division.
fn entropy_bits(counts: &[u64]) -> Option<f64> {
    let elements: u64 = counts.iter().sum();
    if elements == 0 {
        return None;
    }
    // Counts stay below 2^48 and logarithms below 48 * 2^60: the products have at most 114 bits.
    let weighted = |count: u64| u128::from(count) * log2(count);
    let inner: u128 = counts.iter().copied().map(weighted).sum();
    let difference = weighted(elements).saturating_sub(inner);
    let fixed = difference / u128::from(elements);
    Some(fixed as f64 / (1_u64 << FRACTION_BITS) as f64)
}
