//! The same numbers on a GPU of NVIDIA's.
//!
//! The law: bits are those of the CPU. Weights are measured in integers, and every sum of the forward pass has the
//! order that `cpu` gives it; kernels are compiled without contraction, and functions are ours. So a number does not
//! tell where it was computed. Only who asks for matrix units gets sums of the device's own.
//!
//! A driver is looked for at run time, and nothing else: this library carries the kernels. That there is no GPU is a value, [`NoGpu`].
//!
//! - `gpu`: a GPU that was found, and memory on it.
//! - `machine`: what is asked of a device. `library` asks NVIDIA's driver, with kernels from `images`; the tests also ask
//!   a process that runs the kernels' text on the processor (`emulated`).
//! - `weights`: a tensor's tally and group errors.
//! - `forward`: the operations of the forward pass; `product`, `kept` and `loss` have the larger ones: rows times weights,
//!   attention to what was kept, and the head.

mod error;
pub(crate) mod forward;
mod gpu;
mod images;
mod kept;
mod library;
mod loss;
pub(crate) mod machine;
mod product;
mod weights;

#[cfg(test)]
pub(crate) mod emulated;

pub use error::{GpuError, NoGpu};
pub use gpu::Gpu;
pub use weights::GpuPass;
