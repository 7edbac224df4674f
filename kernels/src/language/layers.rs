//! Rows through layers.
//!
//! In memory or not, a layer does the same to the same batches: whole sequences, together enough rows that reading
//! weights from memory is cheap.

use super::error::Stop;
use super::family::{Family, Placed};
use super::forward::{BATCH_ROWS, Engine, Model, Resident, Sequence};
use crate::backend::{Backend, Cpu};
use crate::cpu::attention::Attention;
use crate::cpu::rows::Rotation;
use crate::cuda::GpuError;

/// Rows of some sequences, and the sequences' lengths.
pub(super) type Batch<B> = (<B as Backend>::Rows, Vec<usize>);

impl Model<'_> {
    /// Takes all rows of sequences through all layers.
    pub(super) fn through_layers(&self, hidden: Vec<f32>, sequences: &[Sequence]) -> Result<Vec<f32>, Stop> {
        match &self.engine {
            Engine::Cpu(resident) => self.through(&Cpu, resident.as_ref(), hidden, sequences),
            Engine::Gpu(cuda, resident) => self.through(cuda, resident.as_ref(), hidden, sequences),
        }
    }

    fn through<B: Backend>(
        &self,
        backend: &B,
        resident: Option<&Resident<B>>,
        hidden: Vec<f32>,
        sequences: &[Sequence],
    ) -> Result<Vec<f32>, Stop> {
        let longest = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
        let rotations = (self.shape.rotations.iter())
            .map(|frequencies| backend.rotation(Rotation::new(frequencies, 0..longest)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut batches = self.batches(backend, hidden, sequences)?;
        backend.arrive()?;
        let count = self.shape.layers.len();
        if let Some(resident) = resident {
            for batch in &mut batches {
                for (at, layer) in resident.layers.iter().enumerate() {
                    self.check_cancelled()?;
                    self.step(backend, at, layer, batch, &rotations, None)?;
                }
            }
        } else {
            let read = |at| self.layer(at).and_then(|layer| Ok(layer.place(backend)?));
            let mut next = (count > 0).then(|| read(0)).transpose()?;
            for at in 0..count {
                self.check_cancelled()?;
                let Some(layer) = next.take() else { break };
                backend.arrive()?;
                let work = || {
                    let mut batches = batches.iter_mut();
                    batches.try_for_each(|batch| self.step(backend, at, &layer, batch, &rotations, None))
                };
                let (worked, loaded) =
                    rayon::join(work, || (at + 1 < count).then(|| read(at + 1)).transpose());
                worked?;
                next = loaded?;
            }
        }
        let mut hidden = Vec::new();
        for (rows, _) in batches {
            hidden.append(&mut backend.fetch(rows)?);
        }
        Ok(hidden)
    }

    /// Cuts rows into batches of whole sequences.
    fn batches<B: Backend>(
        &self,
        backend: &B,
        hidden: Vec<f32>,
        sequences: &[Sequence],
    ) -> Result<Vec<Batch<B>>, GpuError> {
        let mut cuts: Vec<Vec<usize>> = Vec::new();
        let (mut lengths, mut rows) = (Vec::new(), 0);
        for (at, sequence) in sequences.iter().enumerate() {
            lengths.push(sequence.tokens.len());
            rows += sequence.tokens.len();
            if rows >= BATCH_ROWS || at + 1 == sequences.len() {
                cuts.push(std::mem::take(&mut lengths));
                rows = 0;
            }
        }
        // From the last one on, so that no two copies of all rows are held.
        let mut rest = hidden;
        let mut batches = Vec::with_capacity(cuts.len());
        while let Some(lengths) = cuts.pop() {
            let numbers = lengths.iter().sum::<usize>() * self.shape.hidden;
            let own = rest.split_off(rest.len() - numbers);
            rest.shrink_to_fit();
            batches.push((backend.place(own)?, lengths));
        }
        batches.reverse();
        Ok(batches)
    }

    /// Takes rows through one layer. Where keys and values are kept, it is one row that follows them.
    pub(super) fn step<B: Backend>(
        &self,
        backend: &B,
        at: usize,
        layer: &Placed<B>,
        batch: &mut Batch<B>,
        rotations: &[B::Rotation],
        kept: Option<&mut B::Kept>,
    ) -> Result<(), GpuError> {
        let (hidden, precision) = (self.shape.hidden, self.options.precision);
        let norm_first = self.shape.family != Family::Bert;
        let mut added = self.attend(backend, at, layer, batch, rotations, kept)?;
        let (rows, lengths) = batch;
        let numbers = lengths.iter().sum::<usize>() * hidden;
        if let Some(norm) = &layer.attention_after {
            backend.normalise(&mut added, norm)?;
        }
        backend.add(rows, 0, &added)?;
        drop(added);
        if !norm_first {
            backend.normalise(rows, &layer.attention_norm)?;
        }
        for first in (0..numbers).step_by(BATCH_ROWS * hidden) {
            let mut input = backend.copy(rows, first..numbers.min(first + BATCH_ROWS * hidden))?;
            if norm_first {
                backend.normalise(&mut input, &layer.mlp_norm)?;
            }
            let packed = backend.pack(input, hidden, precision)?;
            let mut inner = match &layer.gate {
                Some(gate) => {
                    let mut gate = backend.product(&packed, gate, precision)?;
                    let up = backend.product(&packed, &layer.up, precision)?;
                    backend.activate(self.shape.activation, &mut gate, Some(&up))?;
                    gate
                }
                None => {
                    let mut up = backend.product(&packed, &layer.up, precision)?;
                    backend.activate(self.shape.activation, &mut up, None)?;
                    up
                }
            };
            let packed = backend.pack(inner, self.shape.inner, precision)?;
            inner = backend.product(&packed, &layer.down, precision)?;
            if let Some(norm) = &layer.mlp_after {
                backend.normalise(&mut inner, norm)?;
            }
            backend.add(rows, first, &inner)?;
        }
        if !norm_first {
            backend.normalise(rows, &layer.mlp_norm)?;
        }
        Ok(())
    }

    /// Returns what attention adds to rows.
    fn attend<B: Backend>(
        &self,
        backend: &B,
        at: usize,
        layer: &Placed<B>,
        (rows, lengths): &Batch<B>,
        rotations: &[B::Rotation],
        kept: Option<&mut B::Kept>,
    ) -> Result<B::Rows, GpuError> {
        let (shape, precision) = (&self.shape, self.options.precision);
        let numbers = lengths.iter().sum::<usize>() * shape.hidden;
        let mut input = backend.copy(rows, 0..numbers)?;
        if shape.family != Family::Bert {
            backend.normalise(&mut input, &layer.attention_norm)?;
        }
        let packed = backend.pack(input, shape.hidden, precision)?;
        let mut q = backend.product(&packed, &layer.q, precision)?;
        let mut k = backend.product(&packed, &layer.k, precision)?;
        let v = backend.product(&packed, &layer.v, precision)?;
        drop(packed);
        let reach = shape.layers[at];
        for (x, norm) in [(&mut q, &layer.q_norm), (&mut k, &layer.k_norm)] {
            if let Some(norm) = norm {
                backend.normalise(x, norm)?;
            }
            if let Some(rotation) = rotations.get(reach.rotation) {
                backend.rotate(x, rotation, lengths)?;
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
        let heads = match kept {
            Some(kept) => backend.attend_kept(&attention, &q, &k, &v, kept)?,
            None => backend.attend(&attention, &q, &k, &v, lengths)?,
        };
        let packed = backend.pack(heads, shape.heads * shape.head_width, precision)?;
        backend.product(&packed, &layer.o, precision)
    }
}
