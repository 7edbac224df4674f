//! One row times weights: what a model does for each token that it writes.
//!
//! Nothing is gained by widening weights in panels that only one row sees: they are widened in registers and forgotten,
//! so each is read from memory once and written nowhere. Eight outputs go side by side, one in each lane.
//!
//! Invariant: the bits are those of [`super::tile`], chain by chain.
#![allow(
    unsafe_code,
    reason = "a function for newer instructions may be called once the processor is known to have them"
)]

use rayon::prelude::*;

use super::matrix::{Elements, Matrix, from_f16};
use super::precision::Precision;
use super::tile::DEPTH;

/// Outputs side by side.
const LANES: usize = 8;
/// Neighbouring terms that are read of each output at a time: 32 bytes of bfloat16.
const STEP: usize = 16;
/// Outputs that a thread takes at a time.
const SHARE: usize = 64;

/// Writes the products of a row, as the kernel multiplies it, with the matrix's rows from `first` on.
pub(crate) fn multiply(x: &[f32], matrix: &Matrix, first: usize, precision: Precision, y: &mut [f32]) {
    let depth = matrix.columns;
    y.par_chunks_mut(SHARE).enumerate().for_each(|(share, y)| {
        let from = (first + share * SHARE) * depth;
        let to = from + y.len() * depth;
        match &matrix.elements {
            Elements::Bf16(held) => wide::bf16(x, &held[from..to], y),
            Elements::F16(held) => wide::f16(x, &held[from..to], precision, y),
            Elements::F32(held) => wide::f32(x, &held[from..to], precision, y),
        }
    });
}

/// Computes outputs whose weights lie one after the other. `columns` turns [`STEP`] terms of each lane into lanes of each
/// term, `widen` does so with one weight.
#[inline(always)]
fn outputs<W: Copy>(
    x: &[f32],
    weights: &[W],
    y: &mut [f32],
    columns: impl Fn([&[W; STEP]; LANES]) -> [[f32; LANES]; STEP],
    widen: impl Fn(W) -> f32,
) {
    let depth = x.len();
    for (y, weights) in y.chunks_mut(LANES).zip(weights.chunks(LANES * depth)) {
        // Lanes behind the last output repeat it.
        let last = y.len() - 1;
        let rows: [&[W]; LANES] = std::array::from_fn(|lane| &weights[lane.min(last) * depth..][..depth]);
        let mut total = [0.0_f32; LANES];
        for (block, x) in x.chunks(DEPTH).enumerate() {
            let part: [_; LANES] =
                std::array::from_fn(|lane| rows[lane][block * DEPTH..][..x.len()].as_chunks::<STEP>());
            let mut sums = [0.0_f32; LANES];
            let (steps, rest) = x.as_chunks::<STEP>();
            for (at, x) in steps.iter().enumerate() {
                let terms = columns(std::array::from_fn(|lane| &part[lane].0[at]));
                for (x, weights) in x.iter().zip(&terms) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = x.mul_add(*weight, *sum);
                    }
                }
            }
            for (at, x) in rest.iter().enumerate() {
                for (sum, (_, rest)) in sums.iter_mut().zip(&part) {
                    *sum = x.mul_add(widen(rest[at]), *sum);
                }
            }
            for (total, sum) in total.iter_mut().zip(&sums) {
                *total = if block == 0 { *sum } else { *total + sum };
            }
        }
        y.copy_from_slice(&total[..=last]);
    }
}

/// Turns terms of each lane into lanes of each term, two elements at a time.
#[inline(always)]
fn pairs(rows: [&[u16; STEP]; LANES], widen: impl Fn(u16) -> f32) -> [[f32; LANES]; STEP] {
    let rows = rows.map(|row| -> [u32; STEP / 2] {
        std::array::from_fn(|at| u32::from(row[2 * at]) | u32::from(row[2 * at + 1]) << 16)
    });
    let mut terms = [[0.0; LANES]; STEP];
    for (at, terms) in terms.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let both: [u32; LANES] = std::array::from_fn(|lane| rows[lane][at]);
        *terms = [
            both.map(|b| widen(b as u16)),
            both.map(|b| widen((b >> 16) as u16)),
        ];
    }
    terms
}

#[inline(always)]
fn bf16_any(x: &[f32], weights: &[u16], y: &mut [f32]) {
    // Rounding to bfloat16 would change nothing.
    let widen = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    outputs(x, weights, y, |rows| pairs(rows, widen), widen);
}

#[inline(always)]
fn f16_any(x: &[f32], weights: &[u16], precision: Precision, y: &mut [f32]) {
    match precision {
        Precision::F32 => outputs(x, weights, y, |rows| pairs(rows, from_f16), from_f16),
        Precision::Bf16 => {
            let widen = |bits| Precision::Bf16.round(from_f16(bits));
            outputs(x, weights, y, |rows| pairs(rows, widen), widen);
        }
    }
}

#[inline(always)]
fn f32_any(x: &[f32], weights: &[f32], precision: Precision, y: &mut [f32]) {
    let columns = |rows: [&[f32; STEP]; LANES]| -> [[f32; LANES]; STEP] {
        std::array::from_fn(|at| std::array::from_fn(|lane| precision.round(rows[lane][at])))
    };
    outputs(x, weights, y, columns, |weight| precision.round(weight));
}

/// The same with wider registers, where the processor has them.
mod wide {
    use super::{Precision, bf16_any, f16_any, f32_any};

    macro_rules! chosen {
        ($name:ident, $any:ident, $avx2:ident, ($($argument:ident: $type:ty),*)) => {
            pub(super) fn $name($($argument: $type),*) {
                #[cfg(target_arch = "x86_64")]
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the processor was just asked.
                    return unsafe { $avx2($($argument),*) };
                }
                $any($($argument),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn $avx2($($argument: $type),*) {
                $any($($argument),*);
            }
        };
    }

    chosen!(bf16, bf16_any, bf16_avx2, (x: &[f32], weights: &[u16], y: &mut [f32]));
    chosen!(f16, f16_any, f16_avx2, (x: &[f32], weights: &[u16], precision: Precision, y: &mut [f32]));
    chosen!(f32, f32_any, f32_avx2, (x: &[f32], weights: &[f32], precision: Precision, y: &mut [f32]));
}

#[cfg(test)]
mod tests {
    use super::super::product::{Linear, Packed};
    use super::*;

    #[test]
    fn a_row_alone_has_the_bits_that_it_has_among_others() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for (outputs, depth) in [(1, 1), (7, 15), (8, 16), (65, 256), (130, 273), (9, 1040)] {
            let halves: Vec<u16> = (0..outputs * depth)
                .map(|_| 0x3800 | ((random() >> 8) as u16 & 0x87ff))
                .collect();
            let floats: Vec<f32> = (0..outputs * depth)
                .map(|_| f32::from_bits(0x3e00_0000 | (random() << 8 & 0x80ff_ffff)))
                .collect();
            let x: Vec<f32> = (0..2 * depth)
                .map(|_| f32::from_bits(0x3f80_0000 | (random() & 0x7f_ffff)) - 1.5)
                .collect();
            for elements in [
                Elements::Bf16(halves.clone()),
                Elements::F16(halves.clone()),
                Elements::F32(floats),
            ] {
                let linear = Linear {
                    matrix: Matrix {
                        rows: outputs,
                        columns: depth,
                        elements,
                    },
                    bias: None,
                };
                for precision in [Precision::F32, Precision::Bf16] {
                    let both = linear.apply(&Packed::new(&x, depth, precision), precision);
                    let alone = linear.apply(&Packed::new(&x[depth..], depth, precision), precision);
                    let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&alone), bits(&both[outputs..]), "{outputs} x {depth}");
                }
            }
        }
    }
}
