//! Numbers that are measured on weights.
//!
//! The law of this crate: it knows numbers and nothing else. Bytes come in as slices and numbers go out;
//! there is no file, no network, no store and no clock in it. What the plain Rust code here computes is the
//! meaning of each number; [`cuda`] gives the same bits on a GPU.
//!
//! - [`difference`]: two tensors held against each other.
//! - [`element`]: the number formats, and how their bits are read.
//! - [`tally`]: one pass over a tensor, into integers. It may be cut and merged at will.
//! - [`groups`]: what a tensor would lose if it were quantised in groups.
//! - [`pass`]: both over the bytes of a tensor as they come.
//! - [`summary`]: what follows from a tally: moments, extremes, exponent entropy.
//! - [`roofline`]: what this processor could do at most.
//! - [`cuda`]: a GPU, where there is one.
//! - [`language`]: the forward pass of language models, and what they score on texts.
//!
//! `kernels/README.md` has the formulas and the accuracy of every number.

mod backend;
mod cpu;
pub mod cuda;
pub mod difference;
pub mod element;
mod four;
pub mod groups;
pub mod language;
mod log2;
pub mod pass;
pub mod roofline;
pub mod summary;
pub mod tally;
mod wide;

pub use element::Element;
pub use groups::{GroupErrors, Quantised};
pub use pass::Pass;
pub use summary::Summary;
pub use tally::{Tally, TallyError};

#[cfg(test)]
#[path = "../tests/agree.rs"]
mod agree;
