//! Weights as they are stored, and what a kernel wants to see of them.
//!
//! A matrix has one row per output: `y = x · Wᵀ`. It is widened to `f32` panel by panel, exactly, so memory holds
//! it in the width it came in.

use rayon::prelude::*;

use super::precision::Precision;
use super::tile::COLUMNS;

/// Elements of a row that are widened in one go, so that what they are scattered to stays in the first cache.
const STRETCH: usize = 64;

/// The formats that are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Bf16,
    F16,
    F32,
}

impl Stored {
    /// Returns the format of a safetensors name, or `None` for all others.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "BF16" => Some(Self::Bf16),
            "F16" => Some(Self::F16),
            "F32" => Some(Self::F32),
            _ => None,
        }
    }

    /// Returns how many bytes an element has.
    pub(crate) fn size_bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The elements of a tensor, in the width of the file.
#[derive(Debug, Clone)]
pub(crate) enum Elements {
    Bf16(Vec<u16>),
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Elements {
    /// Makes room for elements of a format.
    pub(crate) fn with_capacity(format: Stored, count: usize) -> Self {
        match format {
            Stored::Bf16 => Self::Bf16(Vec::with_capacity(count)),
            Stored::F16 => Self::F16(Vec::with_capacity(count)),
            Stored::F32 => Self::F32(Vec::with_capacity(count)),
        }
    }

    /// Takes in whole little-endian elements.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        match self {
            Self::Bf16(held) | Self::F16(held) => {
                held.extend(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)));
            }
            Self::F32(held) => held.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        }
    }

    /// Writes a stretch of them, exactly, as `f32`.
    pub(crate) fn widen(&self, first: usize, into: &mut [f32]) {
        let last = first + into.len();
        match self {
            Self::Bf16(held) => {
                for (to, from) in into.iter_mut().zip(&held[first..last]) {
                    *to = f32::from_bits(u32::from(*from) << 16);
                }
            }
            Self::F16(held) => {
                for (to, from) in into.iter_mut().zip(&held[first..last]) {
                    *to = from_f16(*from);
                }
            }
            Self::F32(held) => into.copy_from_slice(&held[first..last]),
        }
    }

    /// Returns the elements at these places, in that order.
    fn gather(&self, indices: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::Bf16(held) => Self::Bf16(indices.map_while(|i| held.get(i).copied()).collect()),
            Self::F16(held) => Self::F16(indices.map_while(|i| held.get(i).copied()).collect()),
            Self::F32(held) => Self::F32(indices.map_while(|i| held.get(i).copied()).collect()),
        }
    }
}

/// Widens a binary16, exactly.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // The exponent counts from 15 in one and from 127 in the other: a multiplication by 2^112 moves it, and
    // sets subnormals right on the way.
    let wide = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let wide = if magnitude >= 0x7c00 {
        f32::from_bits(0x7f80_0000 | (magnitude << 13))
    } else {
        wide
    };
    f32::from_bits(wide.to_bits() | sign)
}

/// A matrix of weights with one row per output.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) elements: Elements,
}

impl Matrix {
    /// Cuts a matrix that is stored with one *column* per output into several of the usual kind, of `counts`
    /// outputs each.
    pub(crate) fn split_columns(&self, counts: &[usize]) -> Vec<Self> {
        let mut first = 0;
        let mut parts = Vec::with_capacity(counts.len());
        for &count in counts {
            let outputs = first..first + count;
            let indices = outputs.flat_map(|o| (0..self.rows).map(move |i| i * self.columns + o));
            parts.push(Self {
                rows: count,
                columns: self.rows,
                elements: self.elements.gather(indices),
            });
            first += count;
        }
        parts
    }

    /// Returns how many elements [`Self::panels`] writes for this many outputs.
    pub(crate) fn panels_len(&self, count: usize) -> usize {
        count.next_multiple_of(COLUMNS) * self.columns
    }

    /// Widens the outputs `first..first + count` into panels of [`COLUMNS`] outputs, as [`super::tile`] takes
    /// them; the last panel is filled with zeros.
    pub(crate) fn panels(&self, first: usize, count: usize, precision: Precision, into: &mut [f32]) {
        let depth = self.columns;
        let panels = into[..self.panels_len(count)].par_chunks_mut(COLUMNS * depth);
        panels.enumerate().for_each(|(panel, into)| {
            let start = panel * COLUMNS;
            let held = COLUMNS.min(count - start);
            if held < COLUMNS {
                into.fill(0.0);
            }
            let mut row = [0.0; STRETCH];
            for from in (0..depth).step_by(STRETCH) {
                let length = STRETCH.min(depth - from);
                for lane in 0..held {
                    let row = &mut row[..length];
                    self.elements.widen((first + start + lane) * depth + from, row);
                    let slots = into[from * COLUMNS..].iter_mut().skip(lane).step_by(COLUMNS);
                    for (to, value) in slots.zip(row) {
                        *to = precision.round(*value);
                    }
                }
            }
        });
    }
}

#[test]
fn every_binary16_is_widened_exactly() {
    for bits in 0..=u16::MAX {
        let (ours, truth) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
        assert!(
            ours.to_bits() == truth.to_bits() || (ours.is_nan() && truth.is_nan()),
            "{bits:#x}: {ours} is not {truth}"
        );
    }
}
