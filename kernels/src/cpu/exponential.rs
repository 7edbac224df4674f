//! The exponential function, written so that a compiler makes vectors of it and every machine the same bits:
//! additions and multiplications only, none of them fused.

/// 1 / ln 2.
const PER_OCTAVE: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the upper has few enough bits that its product with any exponent is exact.
const OCTAVE_HIGH: f32 = 0.693_359_4;
const OCTAVE_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting this rounds to an integer, which then stands in the low bits.
const ROUNDING: f32 = 12_582_912.0;
/// Below, the result is no normal number any more: it is 0.
const LEAST: f32 = -87.3;
/// Above, the result is that of this argument, some 1.6e38.
const GREATEST: f32 = 88.0;

/// Returns e to the power of `x`, to within 2 units in the last place; not a number for what is none.
#[inline(always)]
#[must_use]
pub(crate) fn exp(x: f32) -> f32 {
    let held = x.clamp(LEAST, GREATEST);
    let shifted = held * PER_OCTAVE + ROUNDING;
    let whole = shifted - ROUNDING;
    let rest = held - whole * OCTAVE_HIGH - whole * OCTAVE_LOW;
    // The series of exp around 0; |rest| is at most ln 2 / 2, where its next term is below 6e-9.
    let mut sum = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + factor;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits());
    let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < LEAST { 0.0 } else { sum * scale }
}

/// Returns 1 / (1 + e^-x).
#[inline(always)]
#[must_use]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[test]
fn it_is_within_two_units_of_the_truth() {
    let mut x = -87.29_f32;
    while x < 88.0 {
        let truth = libm::exp(f64::from(x));
        let error = (f64::from(exp(x)) - truth).abs() / truth;
        assert!(error < 2.4e-7, "exp({x}) is off by {error}");
        x += 0.003_7;
    }
}

#[test]
fn its_ends_are_held() {
    assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
    assert_eq!(exp(-100.0).to_bits(), 0);
    assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
    assert!(exp(f32::INFINITY).is_finite());
    assert!(exp(f32::NAN).is_nan());
    assert!(sigmoid(f32::NAN).is_nan());
}
