//! Arithmetic of the forward pass on a CPU, with the same bits on every machine.
//!
//! The law: what a number is depends on the numbers it is made of, never on the number of threads, the width
//! of a vector register, the rows beside it, or the machine's mathematical library. So each element of a
//! product is one chain of fused multiply-adds per block of [`tile::DEPTH`] terms, blocks added in order; sums
//! over rows go through a fixed number of lanes; `exp` is ours and what is rarer comes from `libm`.
//!
//! - [`precision`]: what operands are rounded to.
//! - [`matrix`]: weights as they are stored, widened in panels.
//! - [`tile`]: the kernel that everything big goes through.
//! - [`product`]: rows times weights; [`single`]: one row.
//! - [`attention`], [`rows`] (norms, activations, rotations), [`head`] (the loss, without logits).

pub(crate) mod attention;
pub(crate) mod exponential;
pub(crate) mod head;
pub(crate) mod matrix;
pub(crate) mod precision;
pub(crate) mod product;
pub(crate) mod rows;
pub(crate) mod single;
pub(crate) mod tile;
