use proptest::prelude::*;
use waag_kernels::tally::ELEMENTS_MAX;
use waag_kernels::{Element, Summary, Tally};

use super::tally::{any_elements, bytes_of};

fn summary(element: Element, elements: &[u32]) -> Summary {
    Summary::of(&Tally::of(element, &bytes_of(element, elements)).unwrap())
}

fn of_floats(values: &[f32]) -> Summary {
    let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    summary(Element::F32, &bits)
}

fn assert_close(found: Option<f64>, expected: f64, allowed: f64) {
    let found = found.unwrap();
    let error = (found - expected).abs();
    assert!(error <= allowed, "{found} instead of {expected}, off by {error}");
}

#[test]
fn small_tensors_have_the_moments_that_a_person_computes() {
    let found = of_floats(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
    assert_eq!(found.mean, Some(5.0));
    assert_eq!(found.standard_deviation, Some(2.0));
    assert_eq!((found.minimum, found.maximum), (Some(2.0), Some(9.0)));
    assert_eq!(of_floats(&[-3.0, 0.0, 4.0]).l2_norm, Some(5.0));
}

#[test]
fn what_is_not_finite_stays_out_of_the_moments() {
    let found = of_floats(&[1.0, f32::NAN, 3.0, f32::NEG_INFINITY]);
    assert_eq!(
        (found.elements, found.finite, found.nans, found.infinities),
        (4, 2, 1, 1)
    );
    assert_eq!((found.mean, found.standard_deviation), (Some(2.0), Some(1.0)));
    assert_eq!(
        (found.minimum, found.maximum),
        (Some(f64::NEG_INFINITY), Some(3.0))
    );
}

#[test]
fn where_nothing_is_measured_nothing_is_claimed() {
    let empty = of_floats(&[]);
    assert_eq!(
        (empty.mean, empty.minimum, empty.exponent_entropy_bits),
        (None, None, None)
    );
    let undefined = of_floats(&[f32::NAN]);
    assert_eq!(
        (undefined.mean, undefined.l2_norm, undefined.maximum),
        (None, None, None)
    );
    assert_eq!(undefined.exponent_entropy_bits, Some(0.0));
}

#[test]
fn nothing_cancels() {
    // The greatest and the smallest magnitudes that F32 has; in `f64` the small one would be lost.
    assert_eq!(
        of_floats(&[f32::MAX, f32::from_bits(3), -f32::MAX]).mean,
        Some(f64::from(f32::from_bits(1)))
    );
    // The variance of values that differ in their last bit, by the formula that usually fails.
    let (one, next) = (1.0, 1.0 + f32::EPSILON);
    assert_eq!(
        of_floats(&[one, next]).standard_deviation,
        Some(f64::from(f32::EPSILON) / 2.0)
    );
    assert_eq!(of_floats(&[f32::MAX; 3]).standard_deviation, Some(0.0));
}

#[test]
fn the_fullest_tally_of_the_greatest_elements_is_within_bounds() {
    let mut tally = Tally::of(Element::F32, &bytes_of(Element::F32, &[0x7f7f_ffff, 0xff7f_ffff])).unwrap();
    while tally.elements() < ELEMENTS_MAX {
        let twin = tally.clone();
        tally.merge(&twin).unwrap();
    }
    let found = Summary::of(&tally);
    assert_eq!(found.mean, Some(0.0));
    assert_eq!(found.standard_deviation, Some(f64::from(f32::MAX)));
    assert_eq!(found.l2_norm, Some(f64::from(f32::MAX) * f64::from(1 << 24)));
}

#[test]
fn as_many_exponents_of_a_kind_as_a_power_of_two_need_its_bits() {
    for bits in 0..=7_u32 {
        let exponents: Vec<u32> = (0..1 << bits).map(|exponent| exponent << 7).collect();
        let found = summary(Element::Bf16, &exponents).exponent_entropy_bits;
        assert_eq!(found, Some(f64::from(bits)));
    }
}

proptest! {
    #[test]
    fn moments_of_f16_are_those_of_exact_integers(elements in any_elements(Element::F16, 300)) {
        // In units of 2^-24 every finite F16 is a whole number.
        let values: Vec<i128> = elements
            .iter()
            .map(|bits| Element::F16.value(*bits))
            .filter(|value| value.is_finite())
            .map(|value| (value * 16_777_216.0) as i128)
            .collect();
        prop_assume!(!values.is_empty());
        let count = values.len() as i128;
        let unit = 2.0_f64.powi(-24);
        let sum: i128 = values.iter().sum();
        let squares: i128 = values.iter().map(|v| v * v).sum();
        let found = summary(Element::F16, &elements);
        prop_assert_eq!(found.mean, Some(sum as f64 * unit / count as f64));
        prop_assert_eq!(found.l2_norm, Some((squares as f64 * unit * unit).sqrt()));
        let spread = (count * squares - sum * sum) as f64 * unit * unit;
        prop_assert_eq!(found.standard_deviation, Some(spread.sqrt() / count as f64));
    }

    #[test]
    fn moments_of_f32_are_close_to_those_of_floating_point(
        values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL, 1..300),
    ) {
        let wide = || values.iter().map(|v| f64::from(*v));
        let count = values.len() as f64;
        let magnitude: f64 = wide().map(f64::abs).sum();
        let squares: f64 = wide().map(|v| v * v).sum();
        let found = of_floats(&values);
        assert_close(found.mean, wide().sum::<f64>() / count, magnitude / count * 1e-13);
        assert_close(found.l2_norm, squares.sqrt(), squares.sqrt() * 1e-13);
        let mean = found.mean.unwrap();
        let variance = wide().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        assert_close(found.standard_deviation, variance.sqrt(), variance.sqrt() * 1e-12);
    }

    #[test]
    fn entropy_is_that_of_the_formula(elements in any_elements(Element::Bf16, 300)) {
        prop_assume!(!elements.is_empty());
        let tally = Tally::of(Element::Bf16, &bytes_of(Element::Bf16, &elements)).unwrap();
        let shares = tally.exponent_histogram().into_iter().filter(|count| *count > 0);
        let shares = shares.map(|count| count as f64 / elements.len() as f64);
        let expected: f64 = shares.map(|share| -share * share.log2()).sum();
        assert_close(Summary::of(&tally).exponent_entropy_bits, expected, 1e-12);
    }
}
