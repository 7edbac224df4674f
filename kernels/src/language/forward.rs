//! The forward pass over many sequences at once, layer by layer.
//!
//! Log-probabilities need no generation, and sequences do not see one another: so all rows of all sequences go
//! through a layer before the next one is needed. Weights are read once, and two layers are in memory: the one
//! in use and the one being read. Keys and values live within a layer only. Where the rows themselves are too
//! many, sequences are taken in several rounds, and each reads the weights again. Where all weights fit, they
//! stay.
//!
//! Invariant: rounds, batches, threads and where the weights are do not show in a result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::config::Shape;
use super::error::{LanguageError, NotMeasured, Stop};
use super::family::{Family, Layer, Names, Placed};
use super::source::{self, ModelSource};
use super::tensors::Tensors;
use crate::backend::{Backend, Cpu};
use crate::cpu::head::{self, Loss};
use crate::cpu::matrix::Matrix;
use crate::cpu::precision::Precision;
use crate::cpu::rows::{Norm, add};
use crate::cuda::forward::Cuda;
use crate::cuda::{Gpu, GpuError};

const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Rows that go through a layer together, in whole sequences: enough that reading weights from memory is cheap.
pub(super) const BATCH_ROWS: usize = 1024;
/// Tokens of the vocabulary that are read at a time when the head does not stay in memory: a multiple of the
/// tile.
const HEAD_ROWS: usize = 8 * head::TILE;

/// Where weights are between their uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// In memory if they fit into a half of what is allowed.
    #[default]
    Auto,
    /// In memory.
    Resident,
    /// In the store: a layer is read when its turn comes.
    Streaming,
}

/// How a model is measured. None of it but the precision, matrix units and the longest input shows in a result.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The arithmetic.
    pub precision: Precision,
    /// Where the weights are.
    pub residency: Residency,
    /// How much memory may be used, roughly. The greatest two layers are needed in any case.
    pub memory_bytes: u64,
    /// The longest input in tokens, instead of what the configuration says.
    pub length_max: Option<usize>,
    /// The GPU that computes, with the same bits. Without one this processor does.
    pub gpu: Option<&'a Arc<Gpu>>,
    /// Whether a GPU may use its matrix units in [`Precision::Bf16`], for weights that are stored in bfloat16. Their sums have
    /// an order of their own: results are then those of a class of devices, and near the others'.
    pub matrix_units: bool,
    /// Ends the measurement at the next layer once it is true.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            residency: Residency::Auto,
            memory_bytes: 8 << 30,
            length_max: None,
            gpu: None,
            matrix_units: false,
            cancel: None,
        }
    }
}

/// A sequence and what is asked of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The input.
    pub tokens: Vec<u32>,
    /// Positions in ascending order, and the tokens whose log-probability after each is asked for.
    pub asked: Vec<(usize, Vec<u32>)>,
}

/// What the model says after one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The likeliest token.
    pub best: u32,
    /// The log-probabilities that were asked for, in nats.
    pub log_probabilities: Vec<f64>,
}

/// A model that can be asked.
pub struct Model<'a> {
    pub(super) shape: Shape,
    tensors: Tensors<'a>,
    names: Names,
    pub(super) options: Options<'a>,
    outer_norm: Norm,
    pub(super) engine: Engine,
    /// Why weights do not stay although they were to.
    fallback: Option<GpuError>,
}

/// What computes, and all weights, if they stay.
pub(super) enum Engine {
    Cpu(Option<Resident<Cpu>>),
    Gpu(Cuda, Option<Resident<Cuda>>),
}

/// All layers and the head, where a backend has them.
pub(super) struct Resident<B: Backend> {
    pub(super) layers: Vec<Placed<B>>,
    head: Option<B::Linear>,
}

impl<'a> Model<'a> {
    /// Opens a model: reads its configuration and the places of its tensors, and all weights if they are to
    /// stay.
    ///
    /// # Errors
    ///
    /// When files are missing or broken, when they contradict one another, or when this engine cannot compute
    /// with them.
    pub fn open(source: &'a dyn ModelSource, options: Options<'a>) -> Result<Self, Stop> {
        let config = source::whole(source, "config.json", CONFIG_BYTES_MAX)?
            .ok_or_else(|| NotMeasured::NoFile("config.json".to_owned()))?;
        let shape = Shape::parse(&config)?;
        let mut tensors = Tensors::open(source)?;
        let names = Names::find(&shape, &tensors)?;
        tensors.check(|tensors| {
            let table = [shape.vocabulary, shape.hidden];
            tensors.expect(&names.embedding(), &table)?;
            if shape.family != Family::Bert {
                tensors.expect(&names.head(&shape), &table)?;
            }
            if let Some(name) = names.positions() {
                tensors.expect(&name, &[shape.positions, shape.hidden])?;
            }
            (0..shape.layers.len()).try_for_each(|layer| names.layer(&shape, tensors, layer).map(|_| ()))
        })?;
        let outer_norm = names.outer_norm(&shape, &tensors)?;
        let mut model = Self {
            shape,
            tensors,
            names,
            options,
            outer_norm,
            engine: Engine::Cpu(None),
            fallback: None,
        };
        let room = match options.gpu {
            Some(gpu) => gpu.memory_bytes(),
            None => options.memory_bytes,
        };
        let stays = match options.residency {
            Residency::Auto => model.tensors.bytes() <= room / 2,
            Residency::Resident => true,
            Residency::Streaming => false,
        };
        model.engine = match options.gpu {
            None => Engine::Cpu(stays.then(|| model.resident(&Cpu)).transpose()?),
            Some(gpu) => {
                let cuda = Cuda::new(Arc::clone(gpu), options.matrix_units);
                let resident = match stays.then(|| model.resident(&cuda)).transpose() {
                    Err(Stop::Failed(LanguageError::Gpu(error @ GpuError::Memory { .. }))) => {
                        model.fallback = Some(error);
                        None
                    }
                    other => other?,
                };
                Engine::Gpu(cuda, resident)
            }
        };
        Ok(model)
    }

    /// Reads all weights.
    fn resident<B: Backend>(&self, backend: &B) -> Result<Resident<B>, Stop> {
        let layers = (0..self.shape.layers.len()).map(|layer| Ok(self.layer(layer)?.place(backend)?));
        let layers = layers.collect::<Result<_, Stop>>()?;
        let head = match self.shape.family {
            Family::Bert => None,
            _ => Some(backend.matrix(self.head_rows(0..self.shape.vocabulary)?)?),
        };
        backend.arrive()?;
        Ok(Resident { layers, head })
    }

    /// Says why weights are read for each pass although they were to stay, if that is so: the memory of the GPU is too
    /// small for them.
    #[must_use]
    pub fn fallback(&self) -> Option<&GpuError> {
        self.fallback.as_ref()
    }

    /// Returns the longest input in tokens.
    #[must_use]
    pub fn length_max(&self) -> usize {
        let asked = self.options.length_max.unwrap_or(self.shape.positions).max(1);
        // Learned positions end; rotations do not.
        if self.names.positions().is_some() {
            asked.min(self.shape.positions)
        } else {
            asked
        }
    }

    /// Returns how many tokens there are.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    /// Returns how many numbers a row has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.hidden
    }

    /// Returns the architecture's family, as `model_type` names it.
    #[must_use]
    pub fn family(&self) -> String {
        format!("{:?}", self.shape.family).to_lowercase()
    }

    /// Returns how many bytes of weights one pass reads, whatever the number of tokens: all but the tables that are only
    /// looked up in.
    #[must_use]
    pub fn pass_bytes(&self) -> u64 {
        let tables = [
            (!self.shape.tied).then(|| self.names.embedding()),
            self.names.positions(),
            self.names.segments(),
        ];
        let tables = tables.into_iter().flatten();
        let looked_up = tables.map(|name| self.tensors.bytes_of(&name)).sum();
        self.tensors.bytes().saturating_sub(looked_up)
    }

    /// Returns how many additions and multiplications take a sequence of so many tokens through the model, if it is asked
    /// after its last one; those of matrices and attention, in numbers that are counted with as they are in the field.
    #[must_use]
    pub fn operations(&self, tokens: usize) -> f64 {
        let shape = &self.shape;
        let (q, kv) = (shape.heads * shape.head_width, shape.kv_heads * shape.head_width);
        let gated = !matches!(shape.family, Family::Gpt2 | Family::Bert);
        let inner = shape.inner as f64 * if gated { 3.0 } else { 2.0 };
        let layer = shape.hidden as f64 * (2.0 * (q + kv) as f64 + inner);
        let (tokens, layers) = (tokens as f64, shape.layers.len() as f64);
        // A row attends to half of the rows, twice: for the weights, and for the values.
        let attention = q as f64 * tokens;
        2.0 * (layers * (layer + attention) * tokens + (shape.hidden * shape.vocabulary) as f64)
    }

    /// Says whether the model predicts tokens: an encoder does not.
    #[must_use]
    pub fn predicts(&self) -> bool {
        self.shape.family != Family::Bert
    }

    pub(crate) fn special_tokens(&self) -> (Option<u32>, Option<u32>) {
        (self.shape.bos, self.shape.eos)
    }

    /// Returns the answers to what each sequence asks, in the same order.
    ///
    /// # Errors
    ///
    /// When tensors are missing, misshapen or cannot be read, a token or position is outside the model's, or a
    /// sequence takes more memory than is allowed.
    pub fn ask(&self, sequences: &[Sequence]) -> Result<Vec<Vec<Answer>>, Stop> {
        if !self.predicts() {
            return Err(NotMeasured::Encoder(self.family()).into());
        }
        let mut answers = Vec::with_capacity(sequences.len());
        for round in self.rounds(sequences)? {
            let hidden = self.through_layers(self.embed(round, 0)?, round)?;
            answers.extend(self.answers(&hidden, round, false)?);
        }
        Ok(answers)
    }

    /// Returns the last layer's rows of each sequence.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub fn hidden(&self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, Stop> {
        let mut rows = Vec::with_capacity(sequences.len());
        for round in self.rounds(sequences)? {
            let mut hidden = self.through_layers(self.embed(round, 0)?, round)?;
            if self.predicts() {
                self.outer_norm.apply(&mut hidden);
            }
            let mut rest = hidden.as_slice();
            for sequence in round {
                let (own, after) = rest.split_at(sequence.tokens.len() * self.shape.hidden);
                rows.push(own.to_vec());
                rest = after;
            }
        }
        Ok(rows)
    }

    /// Cuts sequences into rounds whose rows fit into a quarter of the memory.
    fn rounds<'s>(&self, sequences: &'s [Sequence]) -> Result<Vec<&'s [Sequence]>, Stop> {
        let allowed = self.options.memory_bytes / 4;
        let row = self.shape.hidden as u64 * 4;
        // Queries, keys, values and results of a batch, and their packed copies.
        let batch_row =
            (2 * self.shape.heads + 2 * self.shape.kv_heads) as u64 * self.shape.head_width as u64 * 4
                + 3 * row;
        let (mut rounds, mut first, mut rows) = (Vec::new(), 0, 0_u64);
        for (at, sequence) in sequences.iter().enumerate() {
            let length = sequence.tokens.len() as u64;
            let needed = length.saturating_mul(row + batch_row);
            if needed > allowed {
                return Err(NotMeasured::Memory {
                    needed: needed.saturating_mul(4),
                    allowed: self.options.memory_bytes,
                }
                .into());
            }
            if (rows + length).saturating_mul(row) > allowed {
                rounds.push(&sequences[first..at]);
                (first, rows) = (at, 0);
            }
            rows += length;
        }
        rounds.push(&sequences[first..]);
        Ok(rounds)
    }

    pub(super) fn check_cancelled(&self) -> Result<(), Stop> {
        if self
            .options
            .cancel
            .is_some_and(|cancel| cancel.load(Ordering::Relaxed))
        {
            return Err(LanguageError::Cancelled.into());
        }
        Ok(())
    }

    pub(super) fn layer(&self, layer: usize) -> Result<Layer, Stop> {
        self.names.layer(&self.shape, &self.tensors, layer)
    }

    fn head_rows(&self, rows: std::ops::Range<usize>) -> Result<Matrix, Stop> {
        let Shape {
            vocabulary, hidden, ..
        } = self.shape;
        self.tensors
            .matrix_rows(&self.names.head(&self.shape), vocabulary, hidden, rows)
    }

    /// Returns the first rows of all sequences, one after the other; each sequence begins at the position `first`.
    pub(super) fn embed(&self, sequences: &[Sequence], first: usize) -> Result<Vec<f32>, Stop> {
        let Shape {
            hidden,
            vocabulary,
            positions,
            ..
        } = self.shape;
        let mut tokens: Vec<usize> = Vec::new();
        for sequence in sequences {
            for token in &sequence.tokens {
                tokens.push(self.token(*token)?);
            }
            if self.names.positions().is_some() && first + sequence.tokens.len() > positions {
                let problem = format!(
                    "makes {positions} positions, an input has {}",
                    first + sequence.tokens.len()
                );
                return Err(LanguageError::config("max_position_embeddings", problem));
            }
        }
        let mut rows = vec![0.0; tokens.len() * hidden];
        // A token's row is read once, however often it occurs; neighbours are read together, unless there are few tokens.
        let together = if tokens.len() <= vocabulary / head::TILE {
            1
        } else {
            head::TILE
        };
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_unstable_by_key(|at| tokens[*at]);
        let name = self.names.embedding();
        let mut part: Option<(usize, Matrix)> = None;
        for at in order {
            let token = tokens[at];
            let from = token / together * together;
            let matrix = match &part {
                Some((held, matrix)) if *held == from => matrix,
                _ => {
                    let to = vocabulary.min(from + together);
                    let matrix = self.tensors.matrix_rows(&name, vocabulary, hidden, from..to)?;
                    &part.insert((from, matrix)).1
                }
            };
            matrix
                .elements
                .widen((token - from) * hidden, &mut rows[at * hidden..(at + 1) * hidden]);
        }
        if self.shape.scale_embedding {
            let factor = self.options.precision.round(scale(hidden));
            rows.par_iter_mut().for_each(|x| *x *= factor);
        }
        if let Some(name) = self.names.positions() {
            let longest = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
            let table = self
                .tensors
                .matrix_rows(&name, positions, hidden, first..first + longest)?;
            let mut row = vec![0.0; hidden];
            let places = sequences.iter().flat_map(|s| 0..s.tokens.len());
            for (to, place) in rows.chunks_exact_mut(hidden).zip(places) {
                table.elements.widen(place * hidden, &mut row);
                add(to, &row);
            }
        }
        if let Some(name) = self.names.segments() {
            let first = self.tensors.matrix_rows(&name, 2, hidden, 0..1)?;
            let mut row = vec![0.0; hidden];
            first.elements.widen(0, &mut row);
            rows.par_chunks_mut(hidden).for_each(|to| add(to, &row));
            self.outer_norm.apply(&mut rows);
        }
        Ok(rows)
    }

    fn token(&self, token: u32) -> Result<usize, Stop> {
        let vocabulary = self.shape.vocabulary;
        usize::try_from(token)
            .ok()
            .filter(|t| *t < vocabulary)
            .ok_or_else(|| {
                LanguageError::file(
                    "tokenizer.json",
                    format!("makes token {token}, the model has {vocabulary}"),
                )
            })
    }

    /// Returns the answers of sequences from their last rows: `in_chains` also where matrix units were asked for.
    pub(super) fn answers(
        &self,
        hidden: &[f32],
        sequences: &[Sequence],
        in_chains: bool,
    ) -> Result<Vec<Vec<Answer>>, Stop> {
        let width = self.shape.hidden;
        let mut rows = Vec::new();
        let mut losses = Vec::new();
        let mut first = 0;
        for sequence in sequences {
            for (position, targets) in &sequence.asked {
                if *position >= sequence.tokens.len() {
                    let problem = format!("position {position} is asked of {} tokens", sequence.tokens.len());
                    return Err(LanguageError::config("the input", problem));
                }
                let targets = targets
                    .iter()
                    .map(|t| self.token(*t))
                    .collect::<Result<Vec<_>, _>>()?;
                losses.push(Loss::new(targets.into_iter()));
                rows.extend_from_slice(&hidden[(first + position) * width..][..width]);
            }
            first += sequence.tokens.len();
        }
        self.outer_norm.apply(&mut rows);
        let losses = match &self.engine {
            Engine::Cpu(resident) => self.shown(&Cpu, resident.as_ref(), losses, &rows)?,
            Engine::Gpu(cuda, resident) if in_chains => {
                self.shown(&cuda.in_chains(), resident.as_ref(), losses, &rows)?
            }
            Engine::Gpu(cuda, resident) => self.shown(cuda, resident.as_ref(), losses, &rows)?,
        };
        let mut losses = losses.iter();
        let answers = sequences.iter().map(|sequence| {
            let own = losses.by_ref().take(sequence.asked.len());
            own.map(|loss| Answer {
                best: u32::try_from(loss.best()).unwrap_or(u32::MAX),
                log_probabilities: loss.log_probabilities().collect(),
            })
            .collect()
        });
        Ok(answers.collect())
    }

    /// Shows rows the whole vocabulary.
    fn shown<B: Backend>(
        &self,
        backend: &B,
        resident: Option<&Resident<B>>,
        losses: Vec<Loss>,
        rows: &[f32],
    ) -> Result<Vec<Loss>, Stop> {
        let (cap, precision, width) = (self.shape.final_cap, self.options.precision, self.shape.hidden);
        let mut losses = losses.into_iter();
        let mut batches = Vec::new();
        for rows in rows.chunks(BATCH_ROWS * width) {
            let losses = losses.by_ref().take(rows.len() / width).collect();
            batches.push(backend.ask(losses, rows.to_vec(), width, precision)?);
        }
        if let Some(head) = resident.and_then(|resident| resident.head.as_ref()) {
            for batch in &mut batches {
                self.check_cancelled()?;
                backend.show(batch, head, 0, cap, precision)?;
            }
        } else {
            for start in (0..self.shape.vocabulary).step_by(HEAD_ROWS) {
                self.check_cancelled()?;
                let part = self.head_rows(start..self.shape.vocabulary.min(start + HEAD_ROWS))?;
                let part = backend.matrix(part)?;
                backend.arrive()?;
                for batch in &mut batches {
                    backend.show(batch, &part, start, cap, precision)?;
                }
            }
        }
        let mut answered = Vec::new();
        for batch in batches {
            answered.append(&mut backend.answer(batch)?);
        }
        Ok(answered)
    }
}

/// What Gemma multiplies token vectors by.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "that is how it is defined"
)]
fn scale(hidden: usize) -> f32 {
    (hidden as f64).sqrt() as f32
}
