//! The kernel: a block of rows times a block of columns, from packed operands.
//!
//! ```text
//! left    panels of ROWS rows:        [panel][depth][ROWS]
//! right   panels of COLUMNS columns:  [panel][depth][COLUMNS]
//! ```
//!
//! Invariant: an element of the result is, for each block of [`DEPTH`] terms, one chain of fused multiply-adds
//! in order, and these chains are added in order. A fused multiply-add is defined to the last bit, so the
//! widths of registers, and where a block begins and ends, do not show in the result. Vector instructions are
//! chosen at run time; a processor without fused multiply-add computes the same, slowly.
#![allow(
    unsafe_code,
    reason = "a function for newer instructions may be called once the processor is known to have them"
)]

/// Rows of the left operand in a panel. With [`COLUMNS`] 12 registers of 8 numbers accumulate: AVX2 has 16.
pub(crate) const ROWS: usize = 6;
/// Columns of the right operand in a panel.
pub(crate) const COLUMNS: usize = 16;
/// Terms in one chain: a panel of this many stays in the first cache (16 KiB).
pub(crate) const DEPTH: usize = 256;

/// Computes `rows` × `columns` products of `depth` terms into `out`, whose rows are `stride` apart.
pub(crate) fn block(
    left: &[f32],
    right: &[f32],
    depth: usize,
    columns: usize,
    out: &mut [f32],
    stride: usize,
    rows: usize,
) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just asked.
            return unsafe { block_avx512(left, right, depth, columns, out, stride, rows) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked.
            return unsafe { block_avx2(left, right, depth, columns, out, stride, rows) };
        }
    }
    block_any(left, right, depth, columns, out, stride, rows);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn block_avx512(
    left: &[f32],
    right: &[f32],
    depth: usize,
    columns: usize,
    out: &mut [f32],
    stride: usize,
    rows: usize,
) {
    block_any(left, right, depth, columns, out, stride, rows);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(
    left: &[f32],
    right: &[f32],
    depth: usize,
    columns: usize,
    out: &mut [f32],
    stride: usize,
    rows: usize,
) {
    block_any(left, right, depth, columns, out, stride, rows);
}

#[inline(always)]
fn block_any(
    left: &[f32],
    right: &[f32],
    depth: usize,
    columns: usize,
    out: &mut [f32],
    stride: usize,
    rows: usize,
) {
    for from in (0..depth).step_by(DEPTH) {
        let to = depth.min(from + DEPTH);
        for (panel, right) in right.chunks_exact(depth * COLUMNS).enumerate() {
            let column = panel * COLUMNS;
            let Some(width) = columns.checked_sub(column).filter(|w| *w > 0) else {
                break;
            };
            let right = &right[from * COLUMNS..to * COLUMNS];
            for (panel, left) in left.chunks_exact(depth * ROWS).enumerate() {
                let row = panel * ROWS;
                let Some(height) = rows.checked_sub(row).filter(|h| *h > 0) else {
                    break;
                };
                let sums = tile(&left[from * ROWS..to * ROWS], right);
                let width = width.min(COLUMNS);
                for (i, sums) in sums.iter().enumerate().take(height) {
                    let at = (row + i) * stride + column;
                    let out = &mut out[at..at + width];
                    if from == 0 {
                        out.copy_from_slice(&sums[..width]);
                    } else {
                        for (out, sum) in out.iter_mut().zip(sums) {
                            *out += sum;
                        }
                    }
                }
            }
        }
    }
}

/// One tile of the result, over one block of terms.
#[inline(always)]
fn tile(left: &[f32], right: &[f32]) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    let (left, right) = (left.as_chunks::<ROWS>().0, right.as_chunks::<COLUMNS>().0);
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = left.mul_add(*right, *sum);
            }
        }
    }
    sums
}

/// Multiplies and adds without touching memory: the most that [`block`] could reach.
pub(crate) fn in_registers(rounds: u64) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was just asked.
            return unsafe { in_registers_avx512(rounds) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor was just asked.
            return unsafe { in_registers_avx2(rounds) };
        }
    }
    in_registers_any(rounds)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn in_registers_avx512(rounds: u64) -> f32 {
    in_registers_any(rounds)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn in_registers_avx2(rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    // By hand: whether the compiler widens the plain loop differs from build to build, and it is a limit for others.
    let (factor, term) = std::hint::black_box((0.999_f32, 0.001_f32));
    let (factor, term) = (_mm256_set1_ps(factor), _mm256_set1_ps(term));
    let mut sums = [_mm256_set1_ps(0.5); ROWS * COLUMNS / 8];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    let whole = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b));
    whole.map_or(0.0, |sum| _mm256_cvtss_f32(sum))
}

#[inline(always)]
fn in_registers_any(rounds: u64) -> f32 {
    let (factor, term) = std::hint::black_box((0.999_f32, 0.001_f32));
    let mut sums = [[0.5_f32; COLUMNS]; ROWS];
    for _ in 0..rounds {
        for sums in &mut sums {
            for sum in sums {
                *sum = sum.mul_add(factor, term);
            }
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The meaning: what every kernel has to give.
    fn plainly(left: &[f32], right: &[f32]) -> f32 {
        let mut sum = 0.0;
        for (at, (left, right)) in left.chunks(DEPTH).zip(right.chunks(DEPTH)).enumerate() {
            let chain = left
                .iter()
                .zip(right)
                .fold(0.0_f32, |sum, (l, r)| l.mul_add(*r, sum));
            sum = if at == 0 { chain } else { sum + chain };
        }
        sum
    }

    #[test]
    fn every_kernel_gives_the_bits_of_the_plain_one() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits((state >> 9) | 0x3f80_0000) - 1.5
        };
        for (rows, columns, depth) in [(1, 1, 1), (6, 16, 256), (7, 33, 300), (13, 5, 513)] {
            let left: Vec<Vec<f32>> = (0..rows)
                .map(|_| (0..depth).map(|_| random()).collect())
                .collect();
            let right: Vec<Vec<f32>> = (0..columns)
                .map(|_| (0..depth).map(|_| random()).collect())
                .collect();
            let pack = |of: &[Vec<f32>], width: usize| -> Vec<f32> {
                let panels = of.chunks(width).flat_map(|panel| {
                    (0..depth)
                        .flat_map(move |k| (0..width).map(move |i| panel.get(i).map_or(0.0, |row| row[k])))
                });
                panels.collect()
            };
            let (a, b) = (pack(&left, ROWS), pack(&right, COLUMNS));
            let stride = columns + 3;
            let (mut out, mut slow) = (vec![7.0; rows * stride], vec![7.0; rows * stride]);
            block(&a, &b, depth, columns, &mut out, stride, rows);
            block_any(&a, &b, depth, columns, &mut slow, stride, rows);
            assert_eq!(out, slow);
            for i in 0..rows {
                for j in 0..columns {
                    let truth = plainly(&left[i], &right[j]);
                    assert_eq!(
                        out[i * stride + j].to_bits(),
                        truth.to_bits(),
                        "{i} {j} of {rows} {columns} {depth}"
                    );
                }
                assert!(
                    out[i * stride + columns..(i + 1) * stride]
                        .iter()
                        .all(|x| x.to_bits() == 7.0_f32.to_bits())
                );
            }
        }
    }
}
