//! What is asked of a device.
//!
//! Invariant: launches, zeroing and reading happen in the order they were asked for. Writing runs beside them: it waits
//! for the fence it is given, and what is launched after [`Machine::join`] sees it.

use super::error::GpuError;

/// A point in the order of launches: whatever was asked for before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fence(pub(super) u64);

/// A device, or what stands for one. Addresses are those of its memory; callers keep within what they allocated.
pub(crate) trait Machine: Send + Sync {
    /// Returns the address of so many bytes, which hold anything.
    fn allocate(&self, bytes: usize) -> Result<u64, GpuError>;
    /// Gives back what was allocated, once nothing uses it.
    fn free(&self, address: u64);
    /// Returns a fence behind everything that was asked for until now.
    fn fence(&self) -> Result<Fence, GpuError>;
    /// Copies bytes to the device; they may change as soon as this returns.
    fn write(&self, to: u64, bytes: &[u8], after: Option<Fence>) -> Result<(), GpuError>;
    /// Makes what is asked for from now on see what was written until now.
    fn join(&self) -> Result<(), GpuError>;
    /// Sets bytes to zero.
    fn zero(&self, at: u64, bytes: usize) -> Result<(), GpuError>;
    /// Copies bytes from the device, once what was asked for before is done.
    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), GpuError>;
    /// Runs a kernel on a grid of blocks of so many threads.
    fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        arguments: Arguments,
    ) -> Result<(), GpuError>;
    /// Waits until everything is done.
    fn wait(&self) -> Result<(), GpuError>;
}

/// The arguments of a kernel, each from a multiple of 8 bytes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    pub(super) slots: Vec<u64>,
    pub(super) starts: Vec<u32>,
}

impl Arguments {
    fn slot(mut self, value: u64) -> Self {
        self.starts
            .push(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(value);
        self
    }

    pub(crate) fn word(self, value: u32) -> Self {
        self.slot(u64::from(value))
    }

    pub(crate) fn long(self, value: u64) -> Self {
        self.slot(value)
    }

    pub(crate) fn float(self, value: f32) -> Self {
        self.word(value.to_bits())
    }

    pub(crate) fn double(self, value: f64) -> Self {
        self.slot(value.to_bits())
    }

    /// A structure of words.
    pub(crate) fn structure(mut self, words: &[u32]) -> Self {
        self.starts
            .push(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let pairs = words.chunks(2).map(|pair| {
            pair.iter()
                .rev()
                .fold(0, |slot, word| slot << 32 | u64::from(*word))
        });
        self.slots.extend(pairs);
        self
    }
}
