//! Logarithms to base 2 in integers, so that they are the same on every machine: a platform's own `log2`
//! differs in its last bits from one mathematics library to the next.

/// Fraction bits of a logarithm.
pub(crate) const FRACTION_BITS: u32 = 60;

/// Returns `floor(log2(n) * 2^60)`, or 1 less; 0 for `n` = 0. Powers of two are exact.
///
/// The whole part is the position of the highest bit. Each squaring of the rest, a number from 1 to 2, then
/// gives one more bit: whether the square reaches 2. A squaring rounds down by less than 2^-63 of its value,
/// which counts half as much at each further bit, so that all of them together take less than 2^-62 away.
pub(crate) fn log2(n: u64) -> u128 {
    let Some(whole) = n.checked_ilog2() else {
        return 0;
    };
    // With 63 fraction bits.
    let mut rest = n << n.leading_zeros();
    let mut result = u128::from(whole);
    for _ in 0..FRACTION_BITS {
        let square = u128::from(rest) * u128::from(rest);
        let reaches_two = square >> 127;
        rest = (square >> (63 + reaches_two)) as u64;
        result = (result << 1) | reaches_two;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn powers_of_two_are_exact() {
        for whole in 0..64_u32 {
            assert_eq!(log2(1 << whole), u128::from(whole) << FRACTION_BITS);
        }
        assert_eq!(log2(0), 0);
    }

    #[test]
    fn known_digits_of_the_logarithm_of_three() {
        // log2(3) = 1.584962500721156181453738943947816508759814407692481...
        let expected = 1_584_962_500_721_156_181_u128 * (1 << FRACTION_BITS) / 1_000_000_000_000_000_000;
        assert!(log2(3).abs_diff(expected) <= 3, "{}", log2(3));
    }

    proptest! {
        #[test]
        fn it_is_the_logarithm(n in 1_u64..) {
            let ours = log2(n) as f64 / (1_u64 << FRACTION_BITS) as f64;
            prop_assert!((ours - (n as f64).log2()).abs() < 1e-13);
        }

        #[test]
        fn it_never_falls(n in 1_u64..u64::MAX) {
            prop_assert!(log2(n) <= log2(n + 1));
        }
    }
}
