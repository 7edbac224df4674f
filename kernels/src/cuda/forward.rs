//! The operations of the forward pass on a GPU: which kernel, how many blocks, which arguments.
//!
//! Rows are rounded where a product reads them, so packing them is nothing here.

use std::ops::Range;
use std::sync::Arc;

use super::error::GpuError;
use super::gpu::{Buffer, Gpu};
use super::library;
use super::machine::Arguments;
use crate::backend::Backend;
use crate::cpu::attention::Attention;
use crate::cpu::head::{Loss, TILE as VOCABULARY_TILE};
use crate::cpu::matrix::Elements;
use crate::cpu::precision::Precision;
use crate::cpu::product::Linear;
use crate::cpu::rows::{Activation, Norm, NormKind, Rotation};

/// Rows and columns of a block's products.
const TILE: usize = 128;
/// Rows that are multiplied without tiles, at most, and threads of a block that does so.
const FEW: usize = 8;
const FEW_THREADS: u32 = 128;
/// Keys of a block that multiplies them with one row, and how many rows there is room for at least.
const KEPT_KEYS: usize = 128;
const KEPT_MIN: usize = 256;
/// Terms in one chain.
const CHAIN: usize = 256;
/// Scores of attention that are held at a time, as long as one head's are not more.
const SCORES_BYTES_MAX: usize = 512 << 20;

/// Logits that are held at a time, as long as one tile's are not more.
const LOGITS_BYTES_MAX: usize = 32 << 20;

/// A GPU that computes.
#[derive(Debug, Clone)]
pub(crate) struct Cuda(pub(crate) Arc<Gpu>);

/// Numbers on the GPU.
pub(crate) struct Numbers {
    buffer: Buffer,
    count: usize,
}

impl Numbers {
    fn address(&self) -> u64 {
        self.buffer.address()
    }
}

/// Rows of a depth.
pub(crate) struct Deep {
    numbers: Numbers,
    depth: usize,
}

/// A format of weights, with the kernels that multiply with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    bytes: usize,
    /// One row, a few, and tiles of them.
    row: &'static str,
    few: &'static str,
    many: &'static str,
}

const BF16: Format = Format {
    bytes: 2,
    row: "row_bf16",
    few: "few_bf16",
    many: "product_bf16",
};
const F16: Format = Format {
    bytes: 2,
    row: "row_f16",
    few: "few_f16",
    many: "product_f16",
};
const F32: Format = Format {
    bytes: 4,
    row: "row_f32",
    few: "few_f32",
    many: "product_f32",
};

/// A matrix on the GPU, in the width of the file.
pub(crate) struct Placed {
    format: Format,
    elements: Buffer,
    bias: Option<Buffer>,
    outputs: usize,
    depth: usize,
}

/// A norm on the GPU.
pub(crate) struct PlacedNorm {
    kind: NormKind,
    epsilon: f64,
    weight: Buffer,
    bias: Option<Buffer>,
    width: usize,
}

/// Rotations on the GPU.
pub(crate) struct Table {
    half: usize,
    table: Buffer,
}

/// Keys and values of rows, with room for more of them.
#[derive(Default)]
pub(crate) struct Kept {
    rows: usize,
    held: Option<(Numbers, Numbers)>,
}

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

/// Returns a size as kernels take it. What is larger did not fit into the memory of any device.
fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn tiles(size: usize) -> u32 {
    word(size.div_ceil(TILE))
}

fn is_bf16(precision: Precision) -> u32 {
    u32::from(precision == Precision::Bf16)
}

impl Cuda {
    fn numbers(&self, count: usize) -> Result<Numbers, GpuError> {
        let buffer = self.0.allocate(count, 4)?;
        Ok(Numbers { buffer, count })
    }

    fn floats(&self, numbers: &[f32]) -> Result<Buffer, GpuError> {
        let buffer = self.0.allocate(numbers.len(), 4)?;
        buffer.write_floats(numbers)?;
        Ok(buffer)
    }

    fn words(&self, numbers: &[u32]) -> Result<Buffer, GpuError> {
        let buffer = self.0.allocate(numbers.len(), 4)?;
        buffer.write_words(numbers)?;
        Ok(buffer)
    }

    /// Copies the first numbers of one to another.
    fn copy_to(&self, to: &Numbers, from: &Numbers, count: usize) -> Result<(), GpuError> {
        let arguments = Arguments::default()
            .long(to.address())
            .long(from.address())
            .long(count as u64);
        self.0.launch_over("copy", count, arguments)
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
        self.0.launch("kept_scores", grid, FEW_THREADS, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(greatest.address())
            .word(word(tiles_of_keys))
            .structure(&kept);
        let grid = [word(seen.div_ceil(1024)), word(heads), 1];
        self.0.launch("kept_weights", grid, 256, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(sums.address())
            .structure(&kept);
        self.0.launch("kept_sums", [word(heads), 1, 1], 256, arguments)?;
        let arguments = Arguments::default()
            .long(scores.address())
            .long(sums.address())
            .long(values.address())
            .long(parts.address())
            .structure(&kept);
        let grid = [word(chains * width.div_ceil(128)), word(kv_heads), eights];
        self.0.launch("kept_values", grid, 128, arguments)?;
        let arguments = Arguments::default()
            .long(parts.address())
            .long(out.address())
            .word(word(chains))
            .word(word(out.count));
        let blocks = word(out.count.div_ceil(128));
        self.0.launch("kept_heads", [blocks, 1, 1], 128, arguments)
    }

    /// Multiplies rows with `count` of a matrix's rows from `first` on.
    fn multiply(
        &self,
        x: &Deep,
        linear: &Placed,
        outputs: Range<usize>,
        precision: Precision,
        y: &Numbers,
    ) -> Result<(), GpuError> {
        let rows = x.numbers.count / x.depth.max(1);
        let format = linear.format;
        let arguments = Arguments::default()
            .long(x.numbers.address())
            .long(linear.elements.address() + (outputs.start * linear.depth * format.bytes) as u64)
            .long(linear.bias.as_ref().map_or(0, Buffer::address))
            .long(y.address())
            .word(word(rows))
            .word(word(outputs.len()))
            .word(word(linear.depth))
            .word(is_bf16(precision));
        if rows <= FEW {
            let kernel = if rows == 1 { format.row } else { format.few };
            let shift = self.0.few_shift(rows, outputs.len(), linear.depth);
            let blocks = word(outputs.len()).div_ceil(1 << shift);
            return (self.0).launch(kernel, [blocks, 1, 1], FEW_THREADS, arguments.word(shift));
        }
        self.0.launch(
            format.many,
            [tiles(outputs.len()), tiles(rows), 1],
            256,
            arguments,
        )
    }
}

impl Gpu {
    /// Multiplies a row with matrices of bfloat16 that lie one after the other in `bytes` of memory, again from the first
    /// one once these end: for benchmarks, who take the time. Returns how many bytes of weights that were.
    ///
    /// # Errors
    /// When memory ends, or the driver refuses.
    pub fn row_rounds(
        self: &Arc<Self>,
        bytes: usize,
        outputs: usize,
        depth: usize,
        rounds: u32,
    ) -> Result<f64, GpuError> {
        let cuda = Cuda(Arc::clone(self));
        let matrix = (outputs * depth * BF16.bytes).max(1);
        let matrices = (bytes / matrix).max(1);
        let linear = Placed {
            format: BF16,
            elements: self.allocate(matrices * matrix, 1)?,
            bias: None,
            outputs: matrices * outputs,
            depth,
        };
        linear.elements.zero()?;
        let numbers = cuda.numbers(depth)?;
        numbers.buffer.zero()?;
        let (x, y) = (Deep { numbers, depth }, cuda.numbers(outputs)?);
        for round in 0..rounds as usize {
            let first = round % matrices * outputs;
            cuda.multiply(&x, &linear, first..first + outputs, Precision::F32, &y)?;
        }
        self.wait()?;
        Ok(matrix as f64 * f64::from(rounds))
    }

    /// Returns how many outputs a block of `few.cu` takes, as a power of two. The fewer these are, the more of their chains
    /// it walks at a time; a few rows have room for 4. It does not show in a result.
    fn few_shift(&self, rows: usize, outputs: usize, depth: usize) -> u32 {
        // So many blocks that each multiprocessor has 4.
        let enough = self.multiprocessors() as usize * 4;
        let least = if rows == 1 { 3 } else { 5 };
        let chains = depth.div_ceil(CHAIN);
        let fits = |shift: &u32| {
            let walked = (FEW_THREADS >> shift) as usize;
            *shift == least || outputs >> shift >= enough || walked >= chains * 2
        };
        (least..=5).rev().find(fits).unwrap_or(least)
    }
}

impl Backend for Cuda {
    type Rows = Numbers;
    type Packed = Deep;
    type Linear = Placed;
    type Norm = PlacedNorm;
    type Rotation = Table;
    type Asked = Asked;
    type Kept = Kept;

    fn place(&self, numbers: Vec<f32>) -> Result<Numbers, GpuError> {
        let buffer = self.floats(&numbers)?;
        self.0.join()?;
        Ok(Numbers {
            buffer,
            count: numbers.len(),
        })
    }

    fn fetch(&self, rows: Numbers) -> Result<Vec<f32>, GpuError> {
        rows.buffer.read_floats(rows.count)
    }

    fn linear(&self, linear: Linear) -> Result<Placed, GpuError> {
        let matrix = &linear.matrix;
        let (format, bytes) = match &matrix.elements {
            Elements::Bf16(elements) => (BF16, library::bytes_of(elements)),
            Elements::F16(elements) => (F16, library::bytes_of(elements)),
            Elements::F32(elements) => (F32, library::bytes_of(elements)),
        };
        let elements = self.0.allocate(bytes.len(), 1)?;
        elements.write(0, bytes)?;
        Ok(Placed {
            format,
            elements,
            bias: linear.bias.as_deref().map(|bias| self.floats(bias)).transpose()?,
            outputs: matrix.rows,
            depth: matrix.columns,
        })
    }

    fn norm(&self, norm: Norm) -> Result<PlacedNorm, GpuError> {
        Ok(PlacedNorm {
            kind: norm.kind,
            epsilon: norm.epsilon,
            weight: self.floats(&norm.weight)?,
            bias: norm.bias.as_deref().map(|bias| self.floats(bias)).transpose()?,
            width: norm.weight.len(),
        })
    }

    fn rotation(&self, rotation: Rotation) -> Result<Table, GpuError> {
        Ok(Table {
            half: rotation.half,
            table: self.floats(&rotation.table)?,
        })
    }

    fn arrive(&self) -> Result<(), GpuError> {
        self.0.join()
    }

    fn copy(&self, rows: &Numbers, numbers: Range<usize>) -> Result<Numbers, GpuError> {
        let copy = self.numbers(numbers.len())?;
        let arguments = Arguments::default()
            .long(copy.address())
            .long(rows.address() + 4 * numbers.start as u64)
            .long(numbers.len() as u64);
        self.0.launch_over("copy", numbers.len(), arguments)?;
        Ok(copy)
    }

    fn normalise(&self, rows: &mut Numbers, norm: &PlacedNorm) -> Result<(), GpuError> {
        let count = rows.count / norm.width.max(1);
        let (by_mean, offset) = match norm.kind {
            NormKind::Layer => (1, 0.0),
            NormKind::RootMeanSquare { offset } => (0, offset),
        };
        let arguments = Arguments::default()
            .long(rows.address())
            .long(norm.weight.address())
            .long(norm.bias.as_ref().map_or(0, Buffer::address))
            .word(word(count))
            .word(word(norm.width))
            .word(by_mean)
            .float(offset)
            .double(norm.epsilon);
        self.0
            .launch("normalise", [word(count.div_ceil(32)), 1, 1], 256, arguments)
    }

    fn pack(&self, numbers: Numbers, depth: usize, _precision: Precision) -> Result<Deep, GpuError> {
        Ok(Deep { numbers, depth })
    }

    fn product(&self, x: &Deep, linear: &Placed, precision: Precision) -> Result<Numbers, GpuError> {
        let y = self.numbers(x.numbers.count / x.depth.max(1) * linear.outputs)?;
        self.multiply(x, linear, 0..linear.outputs, precision, &y)?;
        Ok(y)
    }

    fn rotate(&self, rows: &mut Numbers, rotation: &Table, lengths: &[usize]) -> Result<(), GpuError> {
        let places: Vec<u32> = lengths.iter().flat_map(|length| 0..word(*length)).collect();
        let heads = rows.count / places.len().max(1) / (2 * rotation.half).max(1);
        // A row alone is at the first place, which need not be told.
        let positions = if places.len() > 1 {
            let positions = self.words(&places)?;
            self.0.join()?;
            Some(positions)
        } else {
            None
        };
        let arguments = Arguments::default()
            .long(rows.address())
            .long(rotation.table.address())
            .long(positions.as_ref().map_or(0, Buffer::address))
            .word(word(places.len()))
            .word(word(heads))
            .word(word(rotation.half));
        self.0.launch_over("rotate", rows.count / 2, arguments)
    }

    fn attend(
        &self,
        attention: &Attention,
        q: &Numbers,
        k: &Numbers,
        v: &Numbers,
        lengths: &[usize],
    ) -> Result<Numbers, GpuError> {
        let out = self.numbers(q.count)?;
        let (q_width, kv_width) = (
            attention.heads * attention.width,
            attention.kv_heads * attention.width,
        );
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let square = longest.saturating_mul(longest).max(1);
        let together = (SCORES_BYTES_MAX / 4 / square).clamp(1, attention.heads.max(1));
        let scores = self.0.allocate(square.saturating_mul(together), 4)?;
        let mut start = 0;
        for &length in lengths {
            let (rows, keys) = ((start * q_width * 4) as u64, (start * kv_width * 4) as u64);
            start += length;
            for first in (0..attention.heads).step_by(together) {
                let heads = word(together.min(attention.heads - first));
                let sequence = [
                    word(length),
                    word(attention.heads),
                    word(attention.kv_heads),
                    word(attention.width),
                    u32::from(attention.causal),
                    word(attention.window.unwrap_or(0)),
                    is_bf16(attention.precision),
                    word(first),
                    u32::from(attention.cap.is_some()),
                    attention.cap.unwrap_or(0.0).to_bits(),
                    attention.scale.to_bits(),
                ];
                let tiles_of_rows = tiles(length);
                let arguments = Arguments::default()
                    .long(q.address() + rows)
                    .long(k.address() + keys)
                    .long(scores.address())
                    .structure(&sequence);
                self.0.launch(
                    "attention_scores",
                    [tiles(length), tiles_of_rows, heads],
                    256,
                    arguments,
                )?;
                let arguments = Arguments::default().long(scores.address()).structure(&sequence);
                self.0
                    .launch("attention_weights", [word(length), heads, 1], 128, arguments)?;
                let arguments = Arguments::default()
                    .long(scores.address())
                    .long(v.address() + keys)
                    .long(out.address() + rows)
                    .structure(&sequence);
                let grid = [tiles(attention.width), tiles_of_rows, heads];
                self.0.launch("attention_values", grid, 256, arguments)?;
            }
        }
        Ok(out)
    }

    fn attend_kept(
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
            self.0.launch_over("keep", k.count, arguments)?;
            kept.rows += 1;
            self.attend_last(attention, q, keys, values, kept.rows, &out)?;
        }
        Ok(out)
    }

    fn activate(
        &self,
        activation: Activation,
        x: &mut Numbers,
        partner: Option<&Numbers>,
    ) -> Result<(), GpuError> {
        let kind = match activation {
            Activation::Silu => 0,
            Activation::GeluTanh => 1,
            Activation::GeluErf => 2,
        };
        let arguments = Arguments::default()
            .long(x.address())
            .long(partner.map_or(0, Numbers::address))
            .long(x.count as u64)
            .word(kind);
        self.0.launch_over("activate", x.count, arguments)
    }

    fn add(&self, to: &mut Numbers, first: usize, from: &Numbers) -> Result<(), GpuError> {
        let arguments = Arguments::default()
            .long(to.address() + 4 * first as u64)
            .long(from.address())
            .long(from.count as u64);
        self.0.launch_over("add", from.count, arguments)
    }

    fn ask(
        &self,
        losses: Vec<Loss>,
        rows: Vec<f32>,
        width: usize,
        _precision: Precision,
    ) -> Result<Asked, GpuError> {
        let pairs: Vec<u32> = (0_u32..)
            .zip(&losses)
            .flat_map(|(row, loss)| loss.tokens().flat_map(move |token| [row, word(token)]))
            .collect();
        let asked = Asked {
            greatest: (
                self.floats(&vec![f32::NEG_INFINITY; losses.len()])?,
                self.0.allocate(losses.len(), 4)?,
            ),
            kept: self.floats(&vec![f32::NAN; pairs.len() / 2])?,
            count: pairs.len() / 2,
            pairs: self.words(&pairs)?,
            rows: Deep {
                numbers: self.place(rows)?,
                depth: width,
            },
            losses,
        };
        self.0.join()?;
        Ok(asked)
    }

    fn show(
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
        let tops = self.0.allocate(together * rows, 16)?;
        // What a tile leaves of a row: 24 bytes.
        let seen = self.0.allocate(tiles * rows * 3, 8)?;
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
            self.0.launch("head_tops", grid, 128, arguments)?;
            let arguments = Arguments::default()
                .long(logits.address())
                .long(tops.address())
                .long(asked.greatest.0.address())
                .long(asked.greatest.1.address())
                .long(seen.address() + (tile * rows * 24) as u64)
                .word(word(end - start));
            self.0.launch("head_seen", grid, 128, arguments)?;
            std::mem::swap(&mut asked.greatest.0, &mut asked.greatest.1);
            let arguments = Arguments::default()
                .long(logits.address())
                .long(asked.pairs.address())
                .long(asked.kept.address())
                .word(word(asked.count))
                .word(word(first + start))
                .word(word(end - start));
            self.0.launch_over("head_asked", asked.count, arguments)?;
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

    fn answer(&self, mut asked: Asked) -> Result<Vec<Loss>, GpuError> {
        let kept = asked.kept.read_floats(asked.count)?;
        let mut kept = kept.into_iter();
        for loss in &mut asked.losses {
            loss.keep(&mut kept);
        }
        Ok(asked.losses)
    }
}

#[cfg(test)]
#[path = "../../tests/agree/forward.rs"]
mod tests;
