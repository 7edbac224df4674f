//! Where the forward pass computes: on this processor, or on a GPU.
//!
//! Invariant: every operation gives the same bits on each backend. What is placed on a backend belongs to it; rows stay
//! there from one operation to the next.

use crate::cpu::attention::Attention;
use crate::cpu::head::{self, Loss};
use crate::cpu::matrix::Matrix;
use crate::cpu::precision::Precision;
use crate::cpu::product::{Linear, Packed};
use crate::cpu::rows::{Activation, Norm, Rotation, add_all};
use crate::cuda::GpuError;

/// The operations of the forward pass.
pub(crate) trait Backend: Sync {
    /// Numbers of rows.
    type Rows: Send;
    /// Rows as products take them.
    type Packed: Send;
    /// A matrix with what is added to its products.
    type Linear: Send + Sync;
    /// A norm with its weights.
    type Norm: Send + Sync;
    /// Rotations by position.
    type Rotation: Sync;
    /// Rows that are asked for log-probabilities.
    type Asked: Send;
    /// Keys and values of a sequence's rows, in one layer.
    type Kept: Default + Send;

    /// Places numbers of rows.
    fn place(&self, numbers: Vec<f32>) -> Result<Self::Rows, GpuError>;
    /// Returns the numbers of rows.
    fn fetch(&self, rows: Self::Rows) -> Result<Vec<f32>, GpuError>;
    /// Places a matrix. Until [`Backend::arrive`] nothing may be computed with it.
    fn linear(&self, linear: Linear) -> Result<Self::Linear, GpuError>;
    /// Places a norm, in the same way.
    fn norm(&self, norm: Norm) -> Result<Self::Norm, GpuError>;
    /// Places rotations, in the same way.
    fn rotation(&self, rotation: Rotation) -> Result<Self::Rotation, GpuError>;
    /// Lets what is computed from now on see what was placed.
    fn arrive(&self) -> Result<(), GpuError>;

    /// Copies numbers of rows.
    fn copy(&self, rows: &Self::Rows, numbers: std::ops::Range<usize>) -> Result<Self::Rows, GpuError>;
    /// Normalises rows as wide as the norm's weights.
    fn normalise(&self, rows: &mut Self::Rows, norm: &Self::Norm) -> Result<(), GpuError>;
    /// Prepares rows of `depth` numbers for products.
    fn pack(&self, rows: Self::Rows, depth: usize, precision: Precision) -> Result<Self::Packed, GpuError>;
    /// Multiplies rows with a matrix.
    fn product(
        &self,
        x: &Self::Packed,
        linear: &Self::Linear,
        precision: Precision,
    ) -> Result<Self::Rows, GpuError>;
    /// Rotates rows of sequences of these lengths, each by its place in its sequence.
    fn rotate(
        &self,
        rows: &mut Self::Rows,
        rotation: &Self::Rotation,
        lengths: &[usize],
    ) -> Result<(), GpuError>;
    /// Lets rows attend to one another within sequences of these lengths.
    fn attend(
        &self,
        attention: &Attention,
        q: &Self::Rows,
        k: &Self::Rows,
        v: &Self::Rows,
        lengths: &[usize],
    ) -> Result<Self::Rows, GpuError>;
    /// Lets one row attend to itself and to all rows before it, whose keys and values are kept; its own are kept from then
    /// on. Gives what [`Backend::attend`] gives for the last row of all of them.
    fn attend_kept(
        &self,
        attention: &Attention,
        q: &Self::Rows,
        k: &Self::Rows,
        v: &Self::Rows,
        kept: &mut Self::Kept,
    ) -> Result<Self::Rows, GpuError>;
    /// Applies a function to each number, and multiplies by a partner where there is one.
    fn activate(
        &self,
        activation: Activation,
        x: &mut Self::Rows,
        partner: Option<&Self::Rows>,
    ) -> Result<(), GpuError>;
    /// Adds numbers to those from `first` on.
    fn add(&self, to: &mut Self::Rows, first: usize, from: &Self::Rows) -> Result<(), GpuError>;

    /// Begins to ask rows of `width` numbers.
    fn ask(
        &self,
        losses: Vec<Loss>,
        rows: Vec<f32>,
        width: usize,
        precision: Precision,
    ) -> Result<Self::Asked, GpuError>;
    /// Shows them a part of the vocabulary, whose first token is `first`: a multiple of [`head::TILE`].
    fn show(
        &self,
        asked: &mut Self::Asked,
        part: &Self::Linear,
        first: usize,
        cap: Option<f32>,
        precision: Precision,
    ) -> Result<(), GpuError>;
    /// Returns what they have seen.
    fn answer(&self, asked: Self::Asked) -> Result<Vec<Loss>, GpuError>;

    /// Places a matrix that nothing is added to.
    fn matrix(&self, matrix: Matrix) -> Result<Self::Linear, GpuError> {
        self.linear(Linear { matrix, bias: None })
    }
}

/// This processor: nothing is placed anywhere, and nothing fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu;

impl Backend for Cpu {
    type Rows = Vec<f32>;
    type Packed = Packed;
    type Linear = Linear;
    type Norm = Norm;
    type Rotation = Rotation;
    type Asked = (Vec<Loss>, Packed);
    type Kept = (Vec<f32>, Vec<f32>);

    fn place(&self, numbers: Vec<f32>) -> Result<Vec<f32>, GpuError> {
        Ok(numbers)
    }

    fn fetch(&self, rows: Vec<f32>) -> Result<Vec<f32>, GpuError> {
        Ok(rows)
    }

    fn linear(&self, linear: Linear) -> Result<Linear, GpuError> {
        Ok(linear)
    }

    fn norm(&self, norm: Norm) -> Result<Norm, GpuError> {
        Ok(norm)
    }

    fn rotation(&self, rotation: Rotation) -> Result<Rotation, GpuError> {
        Ok(rotation)
    }

    fn arrive(&self) -> Result<(), GpuError> {
        Ok(())
    }

    fn copy(&self, rows: &Vec<f32>, numbers: std::ops::Range<usize>) -> Result<Vec<f32>, GpuError> {
        Ok(rows[numbers].to_vec())
    }

    fn normalise(&self, rows: &mut Vec<f32>, norm: &Norm) -> Result<(), GpuError> {
        norm.apply(rows);
        Ok(())
    }

    fn pack(&self, rows: Vec<f32>, depth: usize, precision: Precision) -> Result<Packed, GpuError> {
        Ok(Packed::new(&rows, depth, precision))
    }

    fn product(&self, x: &Packed, linear: &Linear, precision: Precision) -> Result<Vec<f32>, GpuError> {
        Ok(linear.apply(x, precision))
    }

    fn rotate(&self, rows: &mut Vec<f32>, rotation: &Rotation, lengths: &[usize]) -> Result<(), GpuError> {
        rotation.apply_all(rows, lengths);
        Ok(())
    }

    fn attend(
        &self,
        attention: &Attention,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        lengths: &[usize],
    ) -> Result<Vec<f32>, GpuError> {
        Ok(attention.apply(q, k, v, lengths))
    }

    fn attend_kept(
        &self,
        attention: &Attention,
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
        (keys, values): &mut Self::Kept,
    ) -> Result<Vec<f32>, GpuError> {
        keys.extend_from_slice(k);
        values.extend_from_slice(v);
        Ok(attention.apply_last(q, keys, values))
    }

    fn activate(
        &self,
        activation: Activation,
        x: &mut Vec<f32>,
        partner: Option<&Vec<f32>>,
    ) -> Result<(), GpuError> {
        activation.apply(x, partner.map(Vec::as_slice));
        Ok(())
    }

    fn add(&self, to: &mut Vec<f32>, first: usize, from: &Vec<f32>) -> Result<(), GpuError> {
        add_all(&mut to[first..first + from.len()], from);
        Ok(())
    }

    fn ask(
        &self,
        losses: Vec<Loss>,
        rows: Vec<f32>,
        width: usize,
        precision: Precision,
    ) -> Result<Self::Asked, GpuError> {
        Ok((losses, Packed::new(&rows, width, precision)))
    }

    fn show(
        &self,
        (losses, rows): &mut Self::Asked,
        part: &Linear,
        first: usize,
        cap: Option<f32>,
        precision: Precision,
    ) -> Result<(), GpuError> {
        head::take(losses, rows, &part.matrix, first, cap, precision);
        Ok(())
    }

    fn answer(&self, (losses, _): Self::Asked) -> Result<Vec<Loss>, GpuError> {
        Ok(losses)
    }
}
