//! The loss at the end of a model: log-probabilities of asked tokens, without the logits being kept.
//!
//! The vocabulary is taken in tiles of [`TILE`] tokens. A row carries its greatest logit so far, the sum of
//! exponentials relative to it in `f64`, and the logits it was asked for.

use rayon::prelude::*;

use super::exponential::exp;
use super::matrix::Matrix;
use super::precision::Precision;
use super::product::{Packed, multiply};

/// Tokens in a tile. The order of sums depends on it, so it is the same everywhere.
pub(crate) const TILE: usize = 1024;
const LANES: usize = 16;

/// What a row has seen of the vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    greatest: f32,
    best: usize,
    sum: f64,
    nan: bool,
    targets: Vec<(usize, f32)>,
}

impl Loss {
    /// Begins a row that is asked for these tokens.
    pub(crate) fn new(targets: impl Iterator<Item = usize>) -> Self {
        Self {
            greatest: f32::NEG_INFINITY,
            best: 0,
            sum: 0.0,
            nan: false,
            targets: targets.map(|token| (token, f32::NAN)).collect(),
        }
    }

    /// Returns the token with the greatest logit, the first of equals.
    pub(crate) fn best(&self) -> usize {
        self.best
    }

    /// Returns the log-probabilities that were asked for, in nats; not a number where a logit was none.
    pub(crate) fn log_probabilities(&self) -> impl Iterator<Item = f64> + '_ {
        let total = if self.nan {
            f64::NAN
        } else {
            f64::from(self.greatest) + libm::log(self.sum)
        };
        self.targets
            .iter()
            .map(move |(_, logit)| f64::from(*logit) - total)
    }

    /// Returns the tokens that are asked for.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.targets.iter().map(|(token, _)| *token)
    }

    /// Takes in the logits of the tokens that are asked for.
    pub(crate) fn keep(&mut self, logits: &mut impl Iterator<Item = f32>) {
        for ((_, kept), logit) in self.targets.iter_mut().zip(logits) {
            *kept = logit;
        }
    }

    /// Takes in what a tile looks like elsewhere: the greatest logit until now, its token if it is of this tile,
    /// whether one is not a number, and the tile's sum of exponentials relative to the greatest.
    pub(crate) fn fold(&mut self, greatest: f32, best: Option<usize>, nan: bool, sum: f64) {
        self.nan |= nan;
        if let Some(best) = best {
            self.sum *= libm::exp(f64::from(self.greatest) - f64::from(greatest));
            (self.greatest, self.best) = (greatest, best);
        }
        self.sum += sum;
    }

    /// Takes in the logits of the tokens from `first` on.
    fn take(&mut self, first: usize, logits: &mut [f32], cap: Option<f32>) {
        if let Some(cap) = cap {
            for x in logits.iter_mut() {
                *x = cap * libm::tanhf(*x / cap);
            }
        }
        for (token, kept) in &mut self.targets {
            if let Some(logit) = token.checked_sub(first).and_then(|at| logits.get(at)) {
                *kept = *logit;
            }
        }
        let before = self.greatest;
        for (at, x) in logits.iter().enumerate() {
            self.nan |= x.is_nan();
            if *x > self.greatest {
                (self.greatest, self.best) = (*x, first + at);
            }
        }
        if self.greatest > before {
            self.sum *= libm::exp(f64::from(before) - f64::from(self.greatest));
        }
        let mut lanes = [0.0_f64; LANES];
        for chunk in logits.chunks(LANES) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(exp(*x - self.greatest));
            }
        }
        self.sum += lanes.iter().sum::<f64>();
    }
}

/// Shows rows a part of the vocabulary, whose first token is `first`: a multiple of [`TILE`].
pub(crate) fn take(
    losses: &mut [Loss],
    rows: &Packed,
    part: &Matrix,
    first: usize,
    cap: Option<f32>,
    precision: Precision,
) {
    let mut logits = vec![0.0; rows.rows * TILE.min(part.rows)];
    for start in (0..part.rows).step_by(TILE) {
        let width = TILE.min(part.rows - start);
        let logits = &mut logits[..rows.rows * width];
        multiply(rows, part, start, width, precision, logits);
        losses
            .par_iter_mut()
            .zip(logits.par_chunks_mut(width))
            .for_each(|(loss, logits)| loss.take(first + start, logits, cap));
    }
}
