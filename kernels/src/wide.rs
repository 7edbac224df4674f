//! A whole number of up to 704 bits, wide enough for exact moments.
//!
//! The widest that is needed is the number of elements times the sum of their squares, counted in squares
//! of the smallest subnormal. For F32 that is 2 * (149 + 128) bits for a square and twice 48 bits for the
//! counts: 650. Sums of F32 need 325 bits, their squares 650.
//!
//! Invariant: no operation rounds but [`Wide::to_f64`], which rounds once, to the nearest, ties to even.

use std::cmp::Ordering;

use crate::element::power_of_two;

const LIMBS: usize = 11;

/// Little-endian limbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide([u64; LIMBS]);

impl Wide {
    pub(crate) const ZERO: Self = Self([0; LIMBS]);
    pub(crate) const BITS: u32 = 64 * LIMBS as u32;

    /// Adds `value * 2^shift`. What would lie beyond the width is lost; the callers' bounds exclude it.
    pub(crate) fn add_shifted(&mut self, value: u128, shift: u32) {
        let first = (shift / 64) as usize;
        let (low, high) = (value as u64, (value >> 64) as u64);
        let bits = shift % 64;
        let spill = |limb: u64| if bits == 0 { 0 } else { limb >> (64 - bits) };
        let parts = [low << bits, (high << bits) | spill(low), spill(high)];
        let mut limbs = self.0.iter_mut().skip(first);
        let mut carry = false;
        // The parts come first: with the last of them no limb more is taken.
        for (part, limb) in parts.into_iter().zip(limbs.by_ref()) {
            (*limb, carry) = limb.carrying_add(part, carry);
        }
        // Few sums carry on from there.
        for limb in limbs {
            if !carry {
                break;
            }
            (*limb, carry) = limb.overflowing_add(1);
        }
    }

    /// Adds another number.
    pub(crate) fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (limb, part) in self.0.iter_mut().zip(other.0) {
            (*limb, carry) = limb.carrying_add(part, carry);
        }
    }

    /// Adds the whole part of `value * 2^exponent`, for a positive value.
    pub(crate) fn add_scaled(&mut self, value: f64, exponent: i32) {
        let bits = value.to_bits();
        let field = (bits >> 52).cast_signed() as i32;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, least) = match field {
            0 => (fraction, -1074),
            _ => (fraction | (1 << 52), field - 1075),
        };
        let shift = least + exponent;
        if shift >= 0 {
            self.add_shifted(u128::from(mantissa), shift.unsigned_abs());
        } else {
            let whole = mantissa.checked_shr(shift.unsigned_abs()).unwrap_or(0);
            self.add_shifted(u128::from(whole), 0);
        }
    }

    /// Returns the difference from a number that is not greater.
    pub(crate) fn minus(&self, smaller: &Self) -> Self {
        let mut difference = *self;
        let mut borrow = false;
        for (limb, other) in difference.0.iter_mut().zip(smaller.0) {
            (*limb, borrow) = limb.borrowing_sub(other, borrow);
        }
        difference
    }

    /// Returns the product, which the callers' bounds keep within the width.
    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut product = Self::ZERO;
        for (i, a) in self.0.iter().enumerate().filter(|(_, a)| **a != 0) {
            for (j, b) in other.0.iter().enumerate().take(LIMBS - i) {
                let shift = u32::try_from(64 * (i + j)).expect("fewer than 704 bits");
                product.add_shifted(u128::from(*a) * u128::from(*b), shift);
            }
        }
        product
    }

    /// Returns the nearest `f64` to `self * 2^exponent`, if that is neither subnormal nor beyond `f64`.
    pub(crate) fn to_f64(self, exponent: i32) -> f64 {
        let Some(top) = self.0.iter().rposition(|limb| *limb != 0) else {
            return 0.0;
        };
        let limb = |i: Option<usize>| i.map_or(0, |i| self.0[i]);
        let pair = (u128::from(self.0[top]) << 64) | u128::from(limb(top.checked_sub(1)));
        let leading = pair.leading_zeros();
        // The 64 highest bits; the last one is set if anything was cut off, so that the rounding to 53 bits
        // that the conversion does sees on which side of a tie the number lies.
        let head = (pair << leading >> 64) as u64;
        let rest_of_pair = pair << leading << 64 != 0;
        let cut = rest_of_pair || self.0[..top.saturating_sub(1)].iter().any(|limb| *limb != 0);
        let below = i32::try_from(64 * top).expect("fewer than 704 bits") - leading.cast_signed();
        (head | u64::from(cut)) as f64 * power_of_two(below + exponent)
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wide(value: u128, shift: u32) -> Wide {
        let mut wide = Wide::ZERO;
        wide.add_shifted(value, shift);
        wide
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_smaller_integers(a: u64, b: u64, c: u128, shift in 0_u32..500) {
            let (x, y) = (u128::from(a), u128::from(b));
            prop_assert_eq!(wide(x, shift).times(&wide(y, 40)), wide(x * y, shift + 40));
            let mut sum = wide(x, shift);
            sum.add_shifted(c, shift);
            prop_assert_eq!(sum.minus(&wide(c, shift)), wide(x, shift));
            prop_assert_eq!(wide(x, shift).cmp(&wide(y, shift)), a.cmp(&b));
        }

        #[test]
        fn the_nearest_double_is_that_of_a_smaller_integer(a: u128, drop in 0_u32..128, shift in 0_u32..500) {
            let a = a >> drop;
            let expected = a as f64 * power_of_two(shift.cast_signed() - 298);
            prop_assert_eq!(wide(a, shift).to_f64(-298).to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn a_bit_far_below_breaks_a_tie() {
        let tie = (1_u128 << 53) + 1;
        let mut above = wide(tie, 300);
        assert_eq!(above.to_f64(-300), 9_007_199_254_740_992.0);
        above.add_shifted(1, 0);
        assert_eq!(above.to_f64(-300), 9_007_199_254_740_994.0);
    }

    #[test]
    fn a_carry_runs_through_all_limbs() {
        let mut all_ones = wide(1, 700).minus(&wide(1, 0));
        all_ones.add_shifted(1, 0);
        assert_eq!(all_ones, wide(1, 700));
    }
}
