//! How fast this processor can multiply and add at most, for others to be compared with.
//!
//! There is no clock in this crate: the caller takes the time.

use crate::cpu::tile;

/// Floating-point operations in one round of [`fused_multiply_adds`].
pub const OPERATIONS_PER_ROUND: u64 = (2 * tile::ROWS * tile::COLUMNS) as u64;

/// Runs fused multiply-adds of `f32` within registers, with the instructions that products use, on one thread.
/// The result is of no use but must be used.
#[must_use]
pub fn fused_multiply_adds(rounds: u64) -> f32 {
    tile::in_registers(rounds)
}
