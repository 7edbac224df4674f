//! Attention within windows of rows.
//!
//! Every task takes [`BLOCK`] rows of one window and all heads. Scores of a block exist only while it is worked
//! on, and keys that no row of it sees are skipped. Keys are blocked from the window's start, so a row's result
//! does not depend on the block it is in.

use rayon::prelude::*;

use super::exponential::exp;
use super::precision::Precision;
use super::product::pack;
use super::tile::{self, COLUMNS, DEPTH, ROWS};

/// Rows of a window in one task: a multiple of [`ROWS`].
const BLOCK: usize = 96;
/// Lanes of a sum of weights.
const LANES: usize = 16;

/// What attention is, for one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) width: usize,
    pub(crate) scale: f32,
    /// Scores are squeezed into ± this.
    pub(crate) cap: Option<f32>,
    /// Whether a row sees only itself and rows before it.
    pub(crate) causal: bool,
    /// A row sees rows that are fewer than this many before it.
    pub(crate) window: Option<usize>,
    pub(crate) precision: Precision,
}

/// The numbers that a task needs room for, kept from one task to the next.
#[derive(Default)]
struct Room {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    weights: Vec<f32>,
}

impl Attention {
    /// Returns the heads' results for windows of these lengths, which lie one after the other in `q`, `k` and
    /// `v`.
    pub(crate) fn apply(&self, q: &[f32], k: &[f32], v: &[f32], lengths: &[usize]) -> Vec<f32> {
        let (q_width, kv_width) = (self.heads * self.width, self.kv_heads * self.width);
        let mut out = vec![0.0; q.len()];
        let mut tasks = Vec::new();
        let (mut rest, mut start) = (out.as_mut_slice(), 0);
        for &length in lengths {
            let keys = &k[start * kv_width..(start + length) * kv_width];
            let values = &v[start * kv_width..(start + length) * kv_width];
            for first in (0..length).step_by(BLOCK) {
                let rows = BLOCK.min(length - first);
                let queries = &q[(start + first) * q_width..][..rows * q_width];
                let (out, after) = rest.split_at_mut(rows * q_width);
                rest = after;
                tasks.push((first, queries, keys, values, out));
            }
            start += length;
        }
        tasks
            .into_par_iter()
            .for_each_init(Room::default, |room, (first, queries, keys, values, out)| {
                self.rows(first, queries, keys, values, out, room);
            });
        out
    }

    /// Returns the heads' result for the last row of one window, whose keys and values are `k` and `v`.
    pub(crate) fn apply_last(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; q.len()];
        let length = k.len() / (self.kv_heads * self.width).max(1);
        if let Some(last) = length.checked_sub(1) {
            self.rows(last, q, k, v, &mut out, &mut Room::default());
        }
        out
    }

    /// Computes the rows of a window from `first` on.
    fn rows(&self, first: usize, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32], room: &mut Room) {
        let (width, q_width, kv_width) = (self.width, self.heads * self.width, self.kv_heads * self.width);
        let rows = q.len() / q_width;
        let length = k.len() / kv_width;
        let to = if self.causal { first + rows } else { length };
        // Chains of products with values begin at multiples of DEPTH, whatever the block.
        let from = self.seen(first).start / DEPTH * DEPTH;
        let keys = to - from;
        let padded = rows.next_multiple_of(ROWS);
        room.scores.resize(rows * keys, 0.0);
        for kv in 0..self.kv_heads {
            self.pack_keys(&k[from * kv_width + kv * width..], keys, kv_width, &mut room.keys);
            self.pack_values(
                &v[from * kv_width + kv * width..],
                keys,
                kv_width,
                &mut room.values,
            );
            for head in kv * self.heads / self.kv_heads..(kv + 1) * self.heads / self.kv_heads {
                room.queries.clear();
                room.queries.resize(padded * width, 0.0);
                pack_panels(
                    &q[head * width..],
                    width,
                    q_width,
                    self.precision,
                    &mut room.queries,
                );
                tile::block(
                    &room.queries,
                    &room.keys,
                    width,
                    keys,
                    &mut room.scores,
                    keys,
                    rows,
                );
                for (i, row) in room.scores.chunks_exact_mut(keys).enumerate() {
                    let seen = self.seen(first + i);
                    self.weigh(row, seen.start.saturating_sub(from)..seen.end.min(to) - from);
                }
                room.weights.clear();
                room.weights.resize(padded * keys, 0.0);
                pack_panels(&room.scores, keys, keys, self.precision, &mut room.weights);
                tile::block(
                    &room.weights,
                    &room.values,
                    keys,
                    width,
                    &mut out[head * width..],
                    q_width,
                    rows,
                );
            }
        }
    }

    /// Returns the rows that a row sees; the end is not held to the window's length.
    fn seen(&self, row: usize) -> std::ops::Range<usize> {
        let start = self.window.map_or(0, |window| (row + 1).saturating_sub(window));
        start..if self.causal { row + 1 } else { usize::MAX }
    }

    /// Turns a row of scores into weights: what is not seen weighs nothing.
    fn weigh(&self, row: &mut [f32], seen: std::ops::Range<usize>) {
        let (before, rest) = row.split_at_mut(seen.start);
        let (row, after) = rest.split_at_mut(seen.end - seen.start);
        before.fill(0.0);
        after.fill(0.0);
        for x in row.iter_mut() {
            *x *= self.scale;
        }
        if let Some(cap) = self.cap {
            for x in row.iter_mut() {
                *x = cap * libm::tanhf(*x / cap);
            }
        }
        let greatest = row
            .iter()
            .fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
        for x in row.iter_mut() {
            *x = exp(*x - greatest);
        }
        let mut lanes = [0.0_f32; LANES];
        for chunk in row.chunks(LANES) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x;
            }
        }
        let sum: f32 = lanes.iter().sum();
        for x in row.iter_mut() {
            *x /= sum;
        }
    }

    /// Packs keys as columns: `[panel][width][COLUMNS]`.
    fn pack_keys(&self, k: &[f32], keys: usize, stride: usize, into: &mut Vec<f32>) {
        into.clear();
        into.resize(keys.next_multiple_of(COLUMNS) * self.width, 0.0);
        for (key, row) in k.chunks(stride).take(keys).enumerate() {
            let panel = &mut into[key / COLUMNS * COLUMNS * self.width..];
            let slots = panel.iter_mut().skip(key % COLUMNS).step_by(COLUMNS);
            for (to, x) in slots.zip(&row[..self.width]) {
                *to = self.precision.round(*x);
            }
        }
    }

    /// Packs values so that keys are the terms: `[panel][keys][COLUMNS]`.
    fn pack_values(&self, v: &[f32], keys: usize, stride: usize, into: &mut Vec<f32>) {
        into.clear();
        into.resize(self.width.next_multiple_of(COLUMNS) * keys, 0.0);
        for (panel, into) in into.chunks_exact_mut(COLUMNS * keys).enumerate() {
            let first = panel * COLUMNS;
            let last = self.width.min(first + COLUMNS);
            for (row, into) in v.chunks(stride).zip(into.chunks_exact_mut(COLUMNS)) {
                for (to, x) in into.iter_mut().zip(&row[first..last]) {
                    *to = self.precision.round(*x);
                }
            }
        }
    }
}

/// Packs rows into panels of [`ROWS`].
fn pack_panels(x: &[f32], depth: usize, stride: usize, precision: Precision, into: &mut [f32]) {
    for (rows, panel) in x.chunks(ROWS * stride).zip(into.chunks_exact_mut(ROWS * depth)) {
        pack(rows, depth, stride, precision, panel);
    }
}
