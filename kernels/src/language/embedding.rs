//! Vectors of whole texts, from an encoder's rows.

use super::error::Stop;
use super::forward::{Model, Options, Sequence};
use super::source::ModelSource;
use super::tokens::Tokens;

/// How rows become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean, over all tokens.
    Mean,
    /// The first of them.
    First,
}

/// Returns a vector for each text, of length 1 if asked for.
///
/// # Errors
///
/// As [`Model::open`] and [`Model::hidden`]; and when the tokenizer cannot be used.
pub fn embed(
    source: &dyn ModelSource,
    texts: &[&str],
    pooling: Pooling,
    normalised: bool,
    options: Options<'_>,
) -> Result<Vec<Vec<f32>>, Stop> {
    let model = Model::open(source, options)?;
    let (bos, eos) = model.special_tokens();
    let tokens = Tokens::open(source, bos, eos)?;
    let mut sequences = Vec::with_capacity(texts.len());
    for text in texts {
        let mut tokens = tokens.of(text)?;
        tokens.truncate(model.length_max());
        sequences.push(Sequence {
            tokens,
            asked: Vec::new(),
        });
    }
    let rows = model.hidden(&sequences)?;
    Ok(rows
        .iter()
        .map(|rows| pool(rows, model.width(), pooling, normalised))
        .collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "that is the result's format"
)]
fn pool(rows: &[f32], width: usize, pooling: Pooling, normalised: bool) -> Vec<f32> {
    let count = match pooling {
        Pooling::Mean => (rows.len() / width).max(1),
        Pooling::First => 1,
    };
    let mut sums = vec![0.0_f64; width];
    for row in rows.chunks_exact(width).take(count) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
    let square: f64 = sums.iter().map(|x| x * x).sum();
    let by = if normalised && square > 0.0 {
        square.sqrt()
    } else {
        count as f64
    };
    sums.iter().map(|x| (x / by) as f32).collect()
}
