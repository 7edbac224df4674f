//! The forward pass and what is scored with it, against numbers of a reference implementation.

mod fixtures;
mod parity;
mod refusals;
mod scores;
