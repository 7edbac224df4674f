//! Rows times weights: `y = x · Wᵀ + b`.
//!
//! Rows are packed once for all the matrices that see them. A slice of the matrix is widened by all threads
//! together, then all threads take rows. How large slices and shares are does not show in the result.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::precision::Precision;
use super::single;
use super::tile::{self, ROWS};

/// Rows that a thread takes at a time: with [`tile::DEPTH`] terms they fill a fifth of a common second cache.
const SHARE: usize = 96;
/// Widened weights that are held at a time: 4 MiB, which is in a common third cache.
const SLICE: usize = 1 << 20;

/// Rows of activations, packed for the kernel and rounded to what it multiplies.
pub(crate) struct Packed {
    pub(crate) rows: usize,
    depth: usize,
    panels: Vec<f32>,
}

impl Packed {
    /// Packs rows of `depth` numbers that lie one after the other.
    pub(crate) fn new(x: &[f32], depth: usize, precision: Precision) -> Self {
        let rows = x.len() / depth;
        let mut panels = vec![0.0; rows.next_multiple_of(ROWS) * depth];
        panels
            .par_chunks_mut(ROWS * depth)
            .zip(x.par_chunks(ROWS * depth))
            .for_each(|(panel, rows)| pack(rows, depth, depth, precision, panel));
        Self { rows, depth, panels }
    }
}

/// Packs at most [`ROWS`] rows of `depth` numbers, `stride` apart, into one panel.
pub(crate) fn pack(rows: &[f32], depth: usize, stride: usize, precision: Precision, panel: &mut [f32]) {
    for (lane, row) in rows.chunks(stride).enumerate() {
        for (to, x) in panel.iter_mut().skip(lane).step_by(ROWS).zip(&row[..depth]) {
            *to = precision.round(*x);
        }
    }
}

/// A matrix with what is added to its products.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Linear {
    /// Returns one row of outputs for each packed row.
    pub(crate) fn apply(&self, x: &Packed, precision: Precision) -> Vec<f32> {
        let outputs = self.matrix.rows;
        let mut y = vec![0.0; x.rows * outputs];
        multiply(x, &self.matrix, 0, outputs, precision, &mut y);
        if let Some(bias) = &self.bias {
            y.par_chunks_mut(outputs).for_each(|row| {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            });
        }
        y
    }
}

/// Writes for each packed row its products with the matrix's rows `first..first + count`.
pub(crate) fn multiply(
    x: &Packed,
    matrix: &Matrix,
    first: usize,
    count: usize,
    precision: Precision,
    y: &mut [f32],
) {
    if x.rows == 0 || count == 0 {
        return;
    }
    if x.rows == 1 {
        let row: Vec<f32> = x.panels.iter().step_by(ROWS).copied().collect();
        return single::multiply(&row, matrix, first, precision, &mut y[..count]);
    }
    let slice = (SLICE / x.depth.max(1)).clamp(64, 2048) / 64 * 64;
    let threads = rayon::current_num_threads().max(1);
    let share = x.rows.div_ceil(threads).min(SHARE).next_multiple_of(ROWS);
    let mut panels = vec![0.0; matrix.panels_len(slice.min(count))];
    for start in (0..count).step_by(slice) {
        let width = slice.min(count - start);
        matrix.panels(first + start, width, precision, &mut panels);
        let right = &panels[..matrix.panels_len(width)];
        y.par_chunks_mut(share * count)
            .zip(x.panels.par_chunks(share * x.depth))
            .for_each(|(y, left)| {
                let rows = y.len() / count;
                tile::block(left, right, x.depth, width, &mut y[start..], count, rows);
            });
    }
}
