//! Rows times weights on a GPU: which kernel takes them.
//!
//! Invariant: one row, a few and many have the same bits, those of the CPU. The exception is what was asked for: where rows
//! come with `halves`, matrix units multiply them however many there are, so that neighbours do not show there either.

use std::ops::Range;
use std::sync::Arc;

use super::error::GpuError;
use super::forward::{CHAIN, Cuda, Numbers, is_bf16, tiles, word};
use super::gpu::{Buffer, Gpu};
use super::machine::Arguments;
use crate::cpu::precision::Precision;

/// Rows that are multiplied without tiles, at most.
pub(super) const FEW: usize = 8;
/// Threads of a block that does so.
pub(super) const FEW_THREADS: u32 = 128;

/// Rows of a depth.
pub(crate) struct Deep {
    pub(super) numbers: Numbers,
    pub(super) depth: usize,
    /// The same in bfloat16, for matrix units.
    pub(super) halves: Option<Buffer>,
}

/// A format of weights, with the kernels that multiply with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    bytes: usize,
    /// One row, a few, and tiles of them.
    row: &'static str,
    few: &'static str,
    many: &'static str,
}

pub(super) const BF16: Format = Format {
    bytes: 2,
    row: "row_bf16",
    few: "few_bf16",
    many: "product_bf16",
};
pub(super) const F16: Format = Format {
    bytes: 2,
    row: "row_f16",
    few: "few_f16",
    many: "product_f16",
};
pub(super) const F32: Format = Format {
    bytes: 4,
    row: "row_f32",
    few: "few_f32",
    many: "product_f32",
};

/// A matrix on the GPU, in the width of the file.
pub(crate) struct Placed {
    pub(super) format: Format,
    pub(super) elements: Buffer,
    pub(super) bias: Option<Buffer>,
    pub(super) outputs: usize,
    pub(super) depth: usize,
}

impl Cuda {
    /// Multiplies rows with `count` of a matrix's rows from `first` on.
    pub(super) fn multiply(
        &self,
        x: &Deep,
        linear: &Placed,
        outputs: Range<usize>,
        precision: Precision,
        y: &Numbers,
    ) -> Result<(), GpuError> {
        let rows = x.numbers.count / x.depth.max(1);
        let format = linear.format;
        let weights = linear.elements.address() + (outputs.start * linear.depth * format.bytes) as u64;
        let bias = linear.bias.as_ref().map_or(0, Buffer::address);
        if let Some(halves) = &x.halves
            && format == BF16
        {
            let arguments = Arguments::default()
                .long(halves.address())
                .long(weights)
                .long(bias)
                .long(y.address())
                .word(word(rows))
                .word(word(outputs.len()))
                .word(word(linear.depth));
            let grid = [tiles(outputs.len()), tiles(rows), 1];
            return (self.gpu).launch("matrix_bf16", grid, 128, arguments);
        }
        let arguments = Arguments::default()
            .long(x.numbers.address())
            .long(weights)
            .long(bias)
            .long(y.address())
            .word(word(rows))
            .word(word(outputs.len()))
            .word(word(linear.depth))
            .word(is_bf16(precision));
        if rows <= FEW {
            let kernel = if rows == 1 { format.row } else { format.few };
            let shift = self.gpu.few_shift(rows, outputs.len(), linear.depth);
            let blocks = word(outputs.len()).div_ceil(1 << shift);
            return (self.gpu).launch(kernel, [blocks, 1, 1], FEW_THREADS, arguments.word(shift));
        }
        self.gpu.launch(
            format.many,
            [tiles(outputs.len()), tiles(rows), 1],
            256,
            arguments,
        )
    }

    /// Prepares rows for products.
    pub(super) fn deep(
        &self,
        numbers: Numbers,
        depth: usize,
        precision: Precision,
    ) -> Result<Deep, GpuError> {
        // Pieces of 16 bytes are what matrix units are fed with.
        let halves = if self.matrix_units && precision == Precision::Bf16 && depth.is_multiple_of(8) {
            let halves = self.gpu.allocate(numbers.count, 2)?;
            let arguments = Arguments::default()
                .long(numbers.address())
                .long(halves.address())
                .long((numbers.count / 2) as u64);
            self.gpu.launch_over("to_halves", numbers.count / 2, arguments)?;
            Some(halves)
        } else {
            None
        };
        Ok(Deep {
            numbers,
            depth,
            halves,
        })
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
        let cuda = Cuda::new(Arc::clone(self), false);
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
        let (x, y) = (
            Deep {
                numbers,
                depth,
                halves: None,
            },
            cuda.numbers(outputs)?,
        );
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
