//! Keys and values that are kept on a GPU, and the attention of one row to all of them.
//!
//! Invariant: the bits are those that the row has among all others.

use super::error::GpuError;
use super::forward::{CHAIN, Cuda, Numbers, is_bf16, word};
use super::machine::Arguments;
use super::product::{FEW, FEW_THREADS};
use crate::cpu::attention::Attention;

/// Keys of a block that multiplies them with one row.
const KEPT_KEYS: usize = 128;
/// For how many rows there is room at least.
const KEPT_MIN: usize = 256;

/// Keys and values of rows, with room for more of them.
#[derive(Default)]
pub(crate) struct Kept {
    rows: usize,
    held: Option<(Numbers, Numbers)>,
}

impl Cuda {
    /// Lets a row attend to itself and to all that are kept, and keeps it.
    pub(super) fn attend_row(
        &self,
        attention: &Attention,
        q: &Numbers,
        k: &Numbers,
        v: &Numbers,
        kept: &mut Kept,
    ) -> Result<Numbers, GpuError> {
        let room = match &kept.held {
            Some((keys, _)) => keys.count / k.count.max(1),
            None => 0,
        };
        if room <= kept.rows {
            // Twice as many: what is copied is never more than what was kept.
            let count = (kept.rows + 1).next_power_of_two().max(KEPT_MIN) * k.count;
            let more = (self.numbers(count)?, self.numbers(count)?);
            if let Some((keys, values)) = &kept.held {
                self.copy_to(&more.0, keys, kept.rows * k.count)?;
                self.copy_to(&more.1, values, kept.rows * k.count)?;
            }
            kept.held = Some(more);
        }
        let out = self.numbers(q.count)?;
        if let Some((keys, values)) = &kept.held {
            let end = 4 * (kept.rows * k.count) as u64;
            let arguments = Arguments::default()
                .long(keys.address() + end)
                .long(values.address() + end)
                .long(k.address())
                .long(v.address())
                .long(k.count as u64);
            self.gpu.launch_over("keep", k.count, arguments)?;
            kept.rows += 1;
            self.attend_last(attention, q, keys, values, kept.rows, &out)?;
        }
        Ok(out)
    }

    /// Lets a row attend to `rows` rows, of which it is the last.
    fn attend_last(
        &self,
        attention: &Attention,
        q: &Numbers,
        keys: &Numbers,
        values: &Numbers,
        rows: usize,
        out: &Numbers,
    ) -> Result<(), GpuError> {
        let Attention {
            heads,
            kv_heads,
            width,
            ..
        } = *attention;
        let first = attention.window.map_or(0, |window| rows.saturating_sub(window));
        let seen = rows - first;
        // Of a few sizes, so that memory that is given back is of use.
        let stride = seen.next_power_of_two().max(KEPT_MIN);
        let tiles_of_keys = seen.div_ceil(KEPT_KEYS);
        let chains = rows.div_ceil(CHAIN) - first / CHAIN;
        let scores = self.numbers(heads * stride)?;
        let greatest = self.numbers(heads * stride.div_ceil(KEPT_KEYS))?;
        let sums = self.numbers(heads)?;
        let parts = self.numbers((stride / CHAIN + 2) * heads * width)?;
        let kept = [
            word(rows),
            word(heads),
            word(kv_heads),
            word(width),
            word(first),
            is_bf16(attention.precision),
            u32::from(attention.cap.is_some()),
            attention.cap.unwrap_or(0.0).to_bits(),
            attention.scale.to_bits(),
            word(stride),
        ];
        // Heads that share keys, by eights.
        let eights = word((heads / kv_heads.max(1)).div_ceil(FEW));
        let arguments = Arguments::default()
            .long(q.address())
            .long(keys.address())
            .long(scores.address())
            .long(greatest.address())
            .structure(&kept);
        let grid = [word(tiles_of_keys), word(kv_heads), eights];
        self.gpu.launch("kept_scores", grid, FEW_THREADS, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(greatest.address())
            .word(word(tiles_of_keys))
            .structure(&kept);
        let grid = [word(seen.div_ceil(1024)), word(heads), 1];
        self.gpu.launch("kept_weights", grid, 256, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(sums.address())
            .structure(&kept);
        self.gpu
            .launch("kept_sums", [word(heads), 1, 1], 256, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(sums.address())
            .long(values.address())
            .long(parts.address())
            .structure(&kept);
        let grid = [word(chains * width.div_ceil(128)), word(kv_heads), eights];
        self.gpu.launch("kept_values", grid, 128, arguments)?;
        let arguments = Arguments::default()
            .long(parts.address())
            .long(out.address())
            .word(word(chains))
            .word(word(out.count));
        let blocks = word(out.count.div_ceil(128));
        self.gpu.launch("kept_heads", [blocks, 1, 1], 128, arguments)
    }
}
