//! The operations of the forward pass on a GPU: which kernel, how many blocks, which arguments.
//!
//! Rows are rounded where a product reads them, so packing them is nothing here.

use std::ops::Range;
use std::sync::Arc;

use super::error::GpuError;
use super::gpu::{Buffer, Gpu};
use super::kept::Kept;
use super::library;
use super::loss::Asked;
use super::machine::Arguments;
use super::product::{BF16, Deep, F16, F32, Placed};
use crate::backend::Backend;
use crate::cpu::attention::Attention;
use crate::cpu::head::Loss;
use crate::cpu::matrix::Elements;
use crate::cpu::precision::Precision;
use crate::cpu::product::Linear;
use crate::cpu::rows::{Activation, Norm, NormKind, Rotation};

/// Rows and columns of a block's products.
const TILE: usize = 128;
/// Terms in one chain.
pub(super) const CHAIN: usize = 256;
/// Scores of attention that are held at a time, as long as one head's are not more.
const SCORES_BYTES_MAX: usize = 512 << 20;

/// A GPU that computes.
#[derive(Debug, Clone)]
pub(crate) struct Cuda {
    pub(super) gpu: Arc<Gpu>,
    /// Whether products of bfloat16 go through matrix units, whose sums are the device's own.
    pub(super) matrix_units: bool,
}

/// Numbers on the GPU.
pub(crate) struct Numbers {
    pub(super) buffer: Buffer,
    pub(super) count: usize,
}

impl Numbers {
    pub(super) fn address(&self) -> u64 {
        self.buffer.address()
    }
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

/// Returns a size as kernels take it. What is larger did not fit into the memory of any device.
pub(super) fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

pub(super) fn tiles(size: usize) -> u32 {
    word(size.div_ceil(TILE))
}

pub(super) fn is_bf16(precision: Precision) -> u32 {
    u32::from(precision == Precision::Bf16)
}

impl Cuda {
    pub(crate) fn new(gpu: Arc<Gpu>, matrix_units: bool) -> Self {
        Self { gpu, matrix_units }
    }

    /// The same without matrix units.
    pub(crate) fn in_chains(&self) -> Self {
        Self::new(Arc::clone(&self.gpu), false)
    }

    pub(super) fn numbers(&self, count: usize) -> Result<Numbers, GpuError> {
        let buffer = self.gpu.allocate(count, 4)?;
        Ok(Numbers { buffer, count })
    }

    pub(super) fn floats(&self, numbers: &[f32]) -> Result<Buffer, GpuError> {
        let buffer = self.gpu.allocate(numbers.len(), 4)?;
        buffer.write_floats(numbers)?;
        Ok(buffer)
    }

    pub(super) fn words(&self, numbers: &[u32]) -> Result<Buffer, GpuError> {
        let buffer = self.gpu.allocate(numbers.len(), 4)?;
        buffer.write_words(numbers)?;
        Ok(buffer)
    }

    /// Copies the first numbers of one to another.
    pub(super) fn copy_to(&self, to: &Numbers, from: &Numbers, count: usize) -> Result<(), GpuError> {
        let arguments = Arguments::default()
            .long(to.address())
            .long(from.address())
            .long(count as u64);
        self.gpu.launch_over("copy", count, arguments)
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
        self.gpu.join()?;
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
        let elements = self.gpu.allocate(bytes.len(), 1)?;
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
        self.gpu.join()
    }

    fn copy(&self, rows: &Numbers, numbers: Range<usize>) -> Result<Numbers, GpuError> {
        let copy = self.numbers(numbers.len())?;
        let arguments = Arguments::default()
            .long(copy.address())
            .long(rows.address() + 4 * numbers.start as u64)
            .long(numbers.len() as u64);
        self.gpu.launch_over("copy", numbers.len(), arguments)?;
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
        self.gpu
            .launch("normalise", [word(count.div_ceil(32)), 1, 1], 256, arguments)
    }

    fn pack(&self, numbers: Numbers, depth: usize, precision: Precision) -> Result<Deep, GpuError> {
        self.deep(numbers, depth, precision)
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
            self.gpu.join()?;
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
        self.gpu.launch_over("rotate", rows.count / 2, arguments)
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
        let scores = self.gpu.allocate(square.saturating_mul(together), 4)?;
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
                self.gpu.launch(
                    "attention_scores",
                    [tiles(length), tiles_of_rows, heads],
                    256,
                    arguments,
                )?;
                let arguments = Arguments::default().long(scores.address()).structure(&sequence);
                self.gpu
                    .launch("attention_weights", [word(length), heads, 1], 128, arguments)?;
                let arguments = Arguments::default()
                    .long(scores.address())
                    .long(v.address() + keys)
                    .long(out.address() + rows)
                    .structure(&sequence);
                let grid = [tiles(attention.width), tiles_of_rows, heads];
                self.gpu.launch("attention_values", grid, 256, arguments)?;
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
        self.attend_row(attention, q, k, v, kept)
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
        self.gpu.launch_over("activate", x.count, arguments)
    }

    fn add(&self, to: &mut Numbers, first: usize, from: &Numbers) -> Result<(), GpuError> {
        let arguments = Arguments::default()
            .long(to.address() + 4 * first as u64)
            .long(from.address())
            .long(from.count as u64);
        self.gpu.launch_over("add", from.count, arguments)
    }

    fn ask(
        &self,
        losses: Vec<Loss>,
        rows: Vec<f32>,
        width: usize,
        precision: Precision,
    ) -> Result<Asked, GpuError> {
        self.ask_rows(losses, rows, width, precision)
    }

    fn show(
        &self,
        asked: &mut Asked,
        part: &Placed,
        first: usize,
        cap: Option<f32>,
        precision: Precision,
    ) -> Result<(), GpuError> {
        self.show_part(asked, part, first, cap, precision)
    }

    fn answer(&self, asked: Asked) -> Result<Vec<Loss>, GpuError> {
        asked.answered()
    }
}

#[cfg(test)]
#[path = "../../tests/agree/forward.rs"]
mod tests;
