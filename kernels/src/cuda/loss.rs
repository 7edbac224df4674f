//! The loss at the end of a model, on a GPU: rows see the vocabulary tile by tile, and no logit outlives its tiles.

use super::error::GpuError;
use super::forward::{Cuda, word};
use super::gpu::Buffer;
use super::machine::Arguments;
use super::product::{Deep, Placed};
use crate::backend::Backend as _;
use crate::cpu::head::{Loss, TILE as VOCABULARY_TILE};
use crate::cpu::precision::Precision;

/// Logits that are held at a time, as long as one tile's are not more.
const LOGITS_BYTES_MAX: usize = 32 << 20;

/// Rows that are asked, and what they have seen so far.
pub(crate) struct Asked {
    losses: Vec<Loss>,
    rows: Deep,
    /// Pairs of a row and a token, in the order of the losses' targets.
    pairs: Buffer,
    count: usize,
    kept: Buffer,
    /// The greatest logits until now, and room for those behind the next tiles.
    greatest: (Buffer, Buffer),
}

impl Cuda {
    /// Begins to ask rows.
    pub(super) fn ask_rows(
        &self,
        losses: Vec<Loss>,
        rows: Vec<f32>,
        width: usize,
        precision: Precision,
    ) -> Result<Asked, GpuError> {
        let pairs: Vec<u32> = (0_u32..)
            .zip(&losses)
            .flat_map(|(row, loss)| loss.tokens().flat_map(move |token| [row, word(token)]))
            .collect();
        let asked = Asked {
            greatest: (
                self.floats(&vec![f32::NEG_INFINITY; losses.len()])?,
                self.gpu.allocate(losses.len(), 4)?,
            ),
            kept: self.floats(&vec![f32::NAN; pairs.len() / 2])?,
            count: pairs.len() / 2,
            pairs: self.words(&pairs)?,
            rows: self.deep(self.place(rows)?, width, precision)?,
            losses,
        };
        self.gpu.join()?;
        Ok(asked)
    }

    /// Shows them a part of the vocabulary.
    pub(super) fn show_part(
        &self,
        asked: &mut Asked,
        part: &Placed,
        first: usize,
        cap: Option<f32>,
        precision: Precision,
    ) -> Result<(), GpuError> {
        let rows = asked.losses.len();
        let tiles = part.outputs.div_ceil(VOCABULARY_TILE);
        // Tiles that are looked at together, which does not show.
        let together = (LOGITS_BYTES_MAX / (4 * VOCABULARY_TILE * rows).max(1)).clamp(1, tiles.max(1));
        let logits = self.numbers(rows * part.outputs.min(together * VOCABULARY_TILE))?;
        let tops = self.gpu.allocate(together * rows, 16)?;
        // What a tile leaves of a row: 24 bytes.
        let seen = self.gpu.allocate(tiles * rows * 3, 8)?;
        for tile in (0..tiles).step_by(together) {
            let start = tile * VOCABULARY_TILE;
            let end = part.outputs.min(start + together * VOCABULARY_TILE);
            self.multiply(&asked.rows, part, start..end, precision, &logits)?;
            let grid = [word(rows), word((end - start).div_ceil(VOCABULARY_TILE)), 1];
            let arguments = Arguments::default()
                .long(logits.address())
                .long(tops.address())
                .word(word(end - start))
                .word(u32::from(cap.is_some()))
                .float(cap.unwrap_or(0.0));
            self.gpu.launch("head_tops", grid, 128, arguments)?;
            let arguments = Arguments::default()
                .long(logits.address())
                .long(tops.address())
                .long(asked.greatest.0.address())
                .long(asked.greatest.1.address())
                .long(seen.address() + (tile * rows * 24) as u64)
                .word(word(end - start));
            self.gpu.launch("head_seen", grid, 128, arguments)?;
            std::mem::swap(&mut asked.greatest.0, &mut asked.greatest.1);
            let arguments = Arguments::default()
                .long(logits.address())
                .long(asked.pairs.address())
                .long(asked.kept.address())
                .word(word(asked.count))
                .word(word(first + start))
                .word(word(end - start));
            self.gpu.launch_over("head_asked", asked.count, arguments)?;
        }
        let seen = seen.read_longs(tiles * rows * 3)?;
        for (tile, seen) in seen.chunks_exact((rows * 3).max(1)).enumerate() {
            for (loss, seen) in asked.losses.iter_mut().zip(seen.as_chunks().0) {
                let [sum, greatest_and_best, nan] = *seen;
                let best = (greatest_and_best >> 32) as u32;
                let best = (best != u32::MAX).then(|| first + tile * VOCABULARY_TILE + best as usize);
                let greatest = f32::from_bits(greatest_and_best as u32);
                loss.fold(greatest, best, nan as u32 != 0, f64::from_bits(sum));
            }
        }
        Ok(())
    }
}

impl Asked {
    /// Returns what they have seen.
    pub(super) fn answered(mut self) -> Result<Vec<Loss>, GpuError> {
        let kept = self.kept.read_floats(self.count)?;
        let mut kept = kept.into_iter();
        for loss in &mut self.losses {
            loss.keep(&mut kept);
        }
        Ok(self.losses)
    }
}
