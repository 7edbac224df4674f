//! What is done to rows one by one: norms, activations, rotations.
//!
//! Sums run over [`LANES`] lanes in `f64`, added up in order.

use rayon::prelude::*;

use super::exponential::sigmoid;

const LANES: usize = 8;

/// How a row is normalised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NormKind {
    /// By its root mean square; `offset` is added to the weights.
    RootMeanSquare { offset: f32 },
    /// By its mean and deviation.
    Layer,
}

/// A norm with its weights.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) epsilon: f64,
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Norm {
    /// Normalises rows as wide as the weights, in place.
    pub(crate) fn apply(&self, x: &mut [f32]) {
        x.par_chunks_mut(self.weight.len()).for_each(|row| self.row(row));
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "that is the result's format"
    )]
    fn row(&self, row: &mut [f32]) {
        let width = row.len() as f64;
        let (mean, offset) = match self.kind {
            NormKind::RootMeanSquare { offset } => (0.0, offset),
            NormKind::Layer => (sum(row, f64::from) / width, 0.0),
        };
        let square = sum(row, |x| (f64::from(x) - mean) * (f64::from(x) - mean)) / width;
        let inverse = (1.0 / (square + self.epsilon).sqrt()) as f32;
        let mean = mean as f32;
        for (x, weight) in row.iter_mut().zip(&self.weight) {
            *x = (*x - mean) * inverse * (weight + offset);
        }
        if let Some(bias) = &self.bias {
            add(row, bias);
        }
    }
}

/// Sums over a row in lanes, then over the lanes.
fn sum(row: &[f32], of: impl Fn(f32) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += of(*x);
        }
    }
    lanes.iter().sum()
}

/// Adds one row to another.
pub(crate) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// Adds many rows to as many others.
pub(crate) fn add_all(to: &mut [f32], from: &[f32]) {
    const STRETCH: usize = 1 << 14;
    to.par_chunks_mut(STRETCH)
        .zip(from.par_chunks(STRETCH))
        .for_each(|(to, from)| add(to, from));
}

/// The function between the two halves of a layer's second part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// x · Φ(x) by a hyperbolic tangent.
    GeluTanh,
    /// x · Φ(x) by the error function.
    GeluErf,
}

impl Activation {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        match self {
            Self::Silu => x * sigmoid(x),
            // (1 + tanh u) / 2 is sigmoid(2u), which does not cancel. The factor is 2 · √(2/π).
            Self::GeluTanh => x * sigmoid(1.595_769 * (x + 0.044_715 * x * x * x)),
            Self::GeluErf => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        }
    }

    /// Applies it to each number, and multiplies by the gate's partner where there is one.
    pub(crate) fn apply(self, x: &mut [f32], partner: Option<&[f32]>) {
        const STRETCH: usize = 1 << 12;
        match partner {
            Some(partner) => x
                .par_chunks_mut(STRETCH)
                .zip(partner.par_chunks(STRETCH))
                .for_each(|(x, partner)| x.iter_mut().zip(partner).for_each(|(x, p)| *x = self.of(*x) * p)),
            None => x
                .par_chunks_mut(STRETCH)
                .for_each(|x| x.iter_mut().for_each(|x| *x = self.of(*x))),
        }
    }
}

/// Rotations by position: cosines and sines of each position's angles, from a first position on.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) half: usize,
    /// For each position the cosines, then the sines.
    pub(crate) table: Vec<f32>,
}

impl Rotation {
    /// Makes the table for these positions. Angles are products in `f32`, as models were trained with.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "that is how angles are defined"
    )]
    pub(crate) fn new(frequencies: &[f32], positions: std::ops::Range<usize>) -> Self {
        let half = frequencies.len();
        let mut table = vec![0.0; positions.len() * half * 2];
        for (position, row) in positions.zip(table.chunks_exact_mut((half * 2).max(1))) {
            let (cosines, sines) = row.split_at_mut(half);
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
                let angle = f64::from(position as f32 * frequency);
                *cosine = libm::cos(angle) as f32;
                *sine = libm::sin(angle) as f32;
            }
        }
        Self { half, table }
    }

    /// Rotates rows of sequences of these lengths, each by its place in its sequence.
    pub(crate) fn apply_all(&self, rows: &mut [f32], lengths: &[usize]) {
        let places: Vec<usize> = lengths.iter().flat_map(|length| 0..*length).collect();
        let width = rows.len() / places.len().max(1);
        rows.par_chunks_mut(width.max(1))
            .zip(&places)
            .for_each(|(row, place)| self.apply(row, *place));
    }

    /// Rotates each head of a row at a position; the first half of a head is paired with its second.
    fn apply(&self, row: &mut [f32], position: usize) {
        let (cosines, sines) = self.table[position * self.half * 2..][..self.half * 2].split_at(self.half);
        for head in row.chunks_exact_mut(self.half * 2) {
            let (first, second) = head.split_at_mut(self.half);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    }
}
