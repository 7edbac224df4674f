//! One token after the other, as models write: the keys and values of what came before are kept.
//!
//! Scores need none of it. It is here so that what a model costs to use can be measured with the arithmetic that scores are
//! made of.
//!
//! Invariant: a token's answer has the bits that [`Model::ask`] gives it in the whole sequence, where that goes without matrix
//! units: there is nothing for these to do with one row.

use super::error::{NotMeasured, Stop};
use super::forward::{Answer, Engine, Model, Resident, Sequence};
use crate::backend::{Backend, Cpu};
use crate::cpu::rows::Rotation;
use crate::cuda::forward::Cuda;

/// A sequence that grows.
pub struct Decoder<'m, 'a> {
    model: &'m Model<'a>,
    kept: Kept<'m>,
    tokens: usize,
}

/// Keys and values of each layer, where the model's weights are.
enum Kept<'m> {
    Cpu(Option<&'m Resident<Cpu>>, Vec<<Cpu as Backend>::Kept>),
    Gpu(Cuda, Option<&'m Resident<Cuda>>, Vec<<Cuda as Backend>::Kept>),
}

impl<'a> Model<'a> {
    /// Begins a sequence. Where weights do not stay they are read again for each token.
    ///
    /// # Errors
    ///
    /// When the model does not predict tokens.
    pub fn decoder(&self) -> Result<Decoder<'_, 'a>, Stop> {
        if !self.predicts() {
            return Err(NotMeasured::Encoder(self.family()).into());
        }
        let layers = self.shape.layers.len();
        let kept = match &self.engine {
            Engine::Cpu(resident) => Kept::Cpu(resident.as_ref(), nothing(layers)),
            Engine::Gpu(cuda, resident) => Kept::Gpu(cuda.in_chains(), resident.as_ref(), nothing(layers)),
        };
        Ok(Decoder {
            model: self,
            kept,
            tokens: 0,
        })
    }
}

fn nothing<T: Default>(layers: usize) -> Vec<T> {
    std::iter::repeat_with(T::default).take(layers).collect()
}

impl Decoder<'_, '_> {
    /// Takes the next token, and returns what the model says after it of these others.
    ///
    /// # Errors
    ///
    /// As [`Model::ask`]; the sequence is of no more use then.
    pub fn take(&mut self, token: u32, asked: &[u32]) -> Result<Answer, Stop> {
        let sequence = [Sequence {
            tokens: vec![token],
            asked: vec![(0, asked.to_vec())],
        }];
        let model = self.model;
        let row = model.embed(&sequence, self.tokens)?;
        let row = match &mut self.kept {
            Kept::Cpu(resident, kept) => model.follow(&Cpu, *resident, row, self.tokens, kept)?,
            Kept::Gpu(cuda, resident, kept) => model.follow(&*cuda, *resident, row, self.tokens, kept)?,
        };
        self.tokens += 1;
        let mut answers = model.answers(&row, &sequence, true)?.into_iter().flatten();
        Ok(answers.next().expect("one sequence asks once"))
    }
}

impl Model<'_> {
    /// Takes a row that stands at this position through all layers.
    fn follow<B: Backend>(
        &self,
        backend: &B,
        resident: Option<&Resident<B>>,
        row: Vec<f32>,
        position: usize,
        kept: &mut [B::Kept],
    ) -> Result<Vec<f32>, Stop> {
        let rotations = (self.shape.rotations.iter())
            .map(|frequencies| backend.rotation(Rotation::new(frequencies, position..position + 1)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut batch = (backend.place(row)?, vec![1]);
        backend.arrive()?;
        for (at, kept) in kept.iter_mut().enumerate() {
            self.check_cancelled()?;
            let read;
            let layer = match resident {
                Some(resident) => &resident.layers[at],
                None => {
                    read = self.layer(at)?.place(backend)?;
                    backend.arrive()?;
                    &read
                }
            };
            self.step(backend, at, layer, &mut batch, &rotations, Some(kept))?;
        }
        Ok(backend.fetch(batch.0)?)
    }
}
