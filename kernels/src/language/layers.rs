//! Rows through layers.
//!
//! In memory or not, a layer does the same to the same batches: whole sequences, together enough rows that reading
//! weights from memory is cheap.

use rayon::prelude::*;

use super::error::Stop;
use super::family::{Family, Layer};
use super::forward::{BATCH_ROWS, Model, Sequence};
use crate::cpu::attention::Attention;
use crate::cpu::product::Packed;
use crate::cpu::rows::{Rotation, add_all};

impl Model<'_> {
    /// Takes all rows of sequences through all layers.
    pub(super) fn through_layers(&self, hidden: &mut [f32], sequences: &[Sequence]) -> Result<(), Stop> {
        let longest = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
        let rotations: Vec<Rotation> = self
            .shape
            .rotations
            .iter()
            .map(|f| Rotation::new(f, longest))
            .collect();
        let mut batches = self.batches(hidden, sequences);
        let count = self.shape.layers.len();
        if let Some((layers, _)) = &self.resident {
            for (rows, lengths) in &mut batches {
                for (at, layer) in layers.iter().enumerate() {
                    self.check_cancelled()?;
                    self.step(at, layer, rows, lengths, &rotations);
                }
            }
            return Ok(());
        }
        let mut next = (count > 0).then(|| self.layer(0)).transpose()?;
        for at in 0..count {
            self.check_cancelled()?;
            let Some(layer) = next.take() else { break };
            let work = || {
                for (rows, lengths) in &mut batches {
                    self.step(at, &layer, rows, lengths, &rotations);
                }
            };
            let read = || (at + 1 < count).then(|| self.layer(at + 1)).transpose();
            let ((), loaded) = rayon::join(work, read);
            next = loaded?;
        }
        Ok(())
    }

    /// Cuts rows into batches of whole sequences, with their lengths.
    fn batches<'h>(&self, hidden: &'h mut [f32], sequences: &[Sequence]) -> Vec<(&'h mut [f32], Vec<usize>)> {
        let mut batches = Vec::new();
        let (mut rest, mut lengths, mut rows) = (hidden, Vec::new(), 0);
        for (at, sequence) in sequences.iter().enumerate() {
            lengths.push(sequence.tokens.len());
            rows += sequence.tokens.len();
            if rows >= BATCH_ROWS || at + 1 == sequences.len() {
                let (batch, after) = rest.split_at_mut(rows * self.shape.hidden);
                batches.push((batch, std::mem::take(&mut lengths)));
                (rest, rows) = (after, 0);
            }
        }
        batches
    }

    /// Takes rows through one layer.
    fn step(&self, at: usize, layer: &Layer, rows: &mut [f32], lengths: &[usize], rotations: &[Rotation]) {
        let hidden = self.shape.hidden;
        let norm_first = self.shape.family != Family::Bert;
        let mut added = self.attend(at, layer, rows, lengths, rotations);
        if let Some(norm) = &layer.attention_after {
            norm.apply(&mut added);
        }
        add_all(rows, &added);
        drop(added);
        if !norm_first {
            layer.attention_norm.apply(rows);
        }
        for rows in rows.chunks_mut(BATCH_ROWS * hidden) {
            let mut input = rows.to_vec();
            if norm_first {
                layer.mlp_norm.apply(&mut input);
            }
            let packed = Packed::new(&input, hidden, self.options.precision);
            drop(input);
            let mut inner = match &layer.gate {
                Some(gate) => {
                    let mut gate = gate.apply(&packed, self.options.precision);
                    let up = layer.up.apply(&packed, self.options.precision);
                    self.shape.activation.apply(&mut gate, Some(&up));
                    gate
                }
                None => {
                    let mut up = layer.up.apply(&packed, self.options.precision);
                    self.shape.activation.apply(&mut up, None);
                    up
                }
            };
            let packed = Packed::new(&inner, self.shape.inner, self.options.precision);
            inner = layer.down.apply(&packed, self.options.precision);
            if let Some(norm) = &layer.mlp_after {
                norm.apply(&mut inner);
            }
            add_all(rows, &inner);
            if !norm_first {
                layer.mlp_norm.apply(rows);
            }
        }
    }

    /// Returns what attention adds to rows.
    fn attend(
        &self,
        at: usize,
        layer: &Layer,
        rows: &[f32],
        lengths: &[usize],
        rotations: &[Rotation],
    ) -> Vec<f32> {
        let (shape, precision) = (&self.shape, self.options.precision);
        let mut input = rows.to_vec();
        if shape.family != Family::Bert {
            layer.attention_norm.apply(&mut input);
        }
        let packed = Packed::new(&input, shape.hidden, precision);
        drop(input);
        let mut q = layer.q.apply(&packed, precision);
        let mut k = layer.k.apply(&packed, precision);
        let v = layer.v.apply(&packed, precision);
        drop(packed);
        let reach = shape.layers[at];
        for (x, norm) in [(&mut q, &layer.q_norm), (&mut k, &layer.k_norm)] {
            if let Some(norm) = norm {
                norm.apply(x);
            }
            if let Some(rotation) = rotations.get(reach.rotation) {
                let places: Vec<usize> = lengths.iter().flat_map(|length| 0..*length).collect();
                let width = x.len() / places.len().max(1);
                x.par_chunks_mut(width.max(1))
                    .zip(&places)
                    .for_each(|(row, place)| rotation.apply(row, *place));
            }
        }
        let attention = Attention {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            width: shape.head_width,
            scale: shape.attention_scale,
            cap: shape.attention_cap,
            causal: shape.family != Family::Bert,
            window: reach.window,
            precision,
        };
        let heads = attention.apply(&q, &k, &v, lengths);
        let packed = Packed::new(&heads, shape.heads * shape.head_width, precision);
        layer.o.apply(&packed, precision)
    }
}
