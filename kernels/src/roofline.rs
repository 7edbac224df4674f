//! How fast this processor can multiply and add at most, and how fast it can read memory, for others to be compared with.
//!
//! There is no clock in this crate: the caller takes the time.

use rayon::prelude::*;

use crate::cpu::tile;

/// Floating-point operations in one round of [`fused_multiply_adds`].
pub const OPERATIONS_PER_ROUND: u64 = (2 * tile::ROWS * tile::COLUMNS) as u64;

/// Runs fused multiply-adds of `f32` within registers, with the instructions that products use, on one thread.
/// The result is of no use but must be used.
#[must_use]
pub fn fused_multiply_adds(rounds: u64) -> f32 {
    tile::in_registers(rounds)
}

/// Does the same on every thread of the pool that this is called in, and returns how many operations that were.
#[must_use]
pub fn fused_multiply_adds_everywhere(rounds: u64) -> u64 {
    let sums = rayon::broadcast(|_| std::hint::black_box(tile::in_registers(rounds)));
    sums.len() as u64 * rounds * OPERATIONS_PER_ROUND
}

/// Reads memory on every thread of the pool that this is called in. The result is of no use but must be used.
#[must_use]
pub fn read(words: &[u64]) -> u64 {
    /// What a thread reads at a time.
    const SHARE: usize = 1 << 16;
    let shares = words.par_chunks(SHARE);
    shares
        .map(|share| share.iter().fold(0, |sum, word| sum ^ word))
        .reduce(|| 0, |a, b| a ^ b)
}
