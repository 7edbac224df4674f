//! A GPU that was found, and memory on it.
//!
//! Memory that is given back is kept for whoever wants as much again, since most that is wanted is wanted for every layer.
//! It may still be in use by what was launched before: launches are in order, and [`Buffer::write`] waits. What is kept
//! is really given back when memory ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{GpuError, NoGpu};
use super::images;
use super::library::{self, Library};
use super::machine::{Arguments, Fence, Machine};

/// Sizes are rounded up to a multiple of this.
const GRAIN: usize = 512;

/// A GPU, with the kernels of this library on it.
pub struct Gpu {
    pub(super) machine: Box<dyn Machine>,
    /// By size; each with a fence behind its last use.
    kept: Mutex<BTreeMap<usize, Vec<(u64, Fence)>>>,
    description: Description,
}

/// What a scorecard says of a device.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) capability: (i32, i32),
    pub(super) driver: i32,
    pub(super) memory: u64,
    /// How many blocks fill it.
    pub(super) multiprocessors: u32,
    pub(super) assembled: bool,
    pub(super) uuid: Option<[u8; 16]>,
}

impl Gpu {
    /// Looks for a driver and its device number `ordinal`, and loads the kernels. Never panics.
    ///
    /// # Errors
    /// When there is none that can be used: see [`NoGpu`].
    pub fn open(ordinal: usize) -> Result<Arc<Self>, NoGpu> {
        let (library, description) = Library::open(ordinal)?;
        Ok(Arc::new(Self::new(Box::new(library), description)))
    }

    pub(super) fn new(machine: Box<dyn Machine>, description: Description) -> Self {
        Self {
            machine,
            kept: Mutex::default(),
            description,
        }
    }

    /// Makes a device of the tests, with so much memory.
    #[cfg(test)]
    pub(crate) fn emulated(memory: usize) -> Result<Arc<Self>, String> {
        let machine = super::emulated::Emulated::start(memory)?;
        let description = Description {
            memory: memory as u64,
            multiprocessors: 2,
            ..Description::default()
        };
        Ok(Arc::new(Self::new(Box::new(machine), description)))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// Returns the version of CUDA that its driver is for.
    #[must_use]
    pub fn driver(&self) -> String {
        format!(
            "{}.{}",
            self.description.driver / 1000,
            self.description.driver % 1000 / 10
        )
    }

    /// Returns the identifier by which other parts of the driver know it, as `GPU-` and a UUID, if it has one.
    #[must_use]
    pub fn uuid(&self) -> Option<String> {
        let mut text = "GPU".to_owned();
        for (at, byte) in self.description.uuid?.iter().enumerate() {
            if matches!(at, 0 | 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Some(text)
    }

    /// Returns its compute capability.
    #[must_use]
    pub const fn capability(&self) -> (i32, i32) {
        self.description.capability
    }

    /// Returns how much memory it has, in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.description.memory
    }

    /// Returns how many multiprocessors it has.
    #[must_use]
    pub const fn multiprocessors(&self) -> u32 {
        self.description.multiprocessors
    }

    /// Says whether the driver assembled the kernels, instead of taking those that were made for this device.
    #[must_use]
    pub const fn assembled_by_driver(&self) -> bool {
        self.description.assembled
    }

    /// Returns the SHA-256 of the kernels' sources, in hexadecimal digits.
    #[must_use]
    pub fn kernels_digest() -> String {
        images::digest()
    }

    /// Allocates room for numbers of `size` bytes.
    pub(crate) fn allocate(self: &Arc<Self>, count: usize, size: usize) -> Result<Buffer, GpuError> {
        let bytes = count
            .checked_mul(size)
            .and_then(|bytes| bytes.max(1).checked_next_multiple_of(GRAIN))
            .ok_or(GpuError::Memory { wanted: usize::MAX })?;
        let kept = self.kept().get_mut(&bytes).and_then(Vec::pop);
        let (address, last_use) = match kept {
            Some((address, fence)) => (address, Some(fence)),
            None => (self.allocate_new(bytes)?, None),
        };
        Ok(Buffer {
            gpu: Arc::clone(self),
            address,
            bytes,
            last_use,
        })
    }

    fn allocate_new(&self, bytes: usize) -> Result<u64, GpuError> {
        match self.machine.allocate(bytes) {
            Err(GpuError::Memory { .. }) => {
                self.give_back()?;
                self.machine.allocate(bytes)
            }
            other => other,
        }
    }

    /// Gives back what is kept.
    fn give_back(&self) -> Result<(), GpuError> {
        let kept = std::mem::take(&mut *self.kept());
        self.machine.wait()?;
        for (address, _) in kept.into_values().flatten() {
            self.machine.free(address);
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<(u64, Fence)>>> {
        // It is whole between any two operations.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a kernel on so many blocks.
    pub(crate) fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        arguments: Arguments,
    ) -> Result<(), GpuError> {
        if grid.contains(&0) {
            return Ok(());
        }
        self.machine.launch(kernel, grid, threads, arguments)
    }

    /// Runs a kernel whose threads take numbers by turns.
    pub(crate) fn launch_over(
        &self,
        kernel: &'static str,
        count: usize,
        arguments: Arguments,
    ) -> Result<(), GpuError> {
        let most = self.description.multiprocessors as usize * 16;
        let blocks = u32::try_from(count.div_ceil(256).min(most)).unwrap_or(u32::MAX);
        self.launch(kernel, [blocks, 1, 1], 256, arguments)
    }

    /// Makes later launches see what was written.
    pub(crate) fn join(&self) -> Result<(), GpuError> {
        self.machine.join()
    }

    /// Waits until everything is done.
    ///
    /// # Errors
    /// When something was not.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.machine.wait()
    }

    /// Reads memory of the device, `rounds` times over `bytes` of it: for benchmarks, who take the time.
    ///
    /// # Errors
    /// When memory ends, or the driver refuses.
    pub fn read_rounds(self: &Arc<Self>, bytes: usize, rounds: u32) -> Result<(), GpuError> {
        let (memory, result) = (self.allocate(bytes, 1)?, self.allocate(1, 4)?);
        memory.zero()?;
        self.wait()?;
        for _ in 0..rounds {
            let arguments = Arguments::default()
                .long(memory.address())
                .long((bytes / 16) as u64)
                .long(result.address());
            self.launch_over("read_words", bytes / 16, arguments)?;
        }
        self.wait()
    }

    /// Multiplies bfloat16 in the registers of the matrix units, and returns how many operations that were: for benchmarks,
    /// who take the time.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn matrix_rounds(self: &Arc<Self>, rounds: u32) -> Result<f64, GpuError> {
        let result = self.allocate(1, 4)?;
        let blocks = self.multiprocessors() * 4;
        let arguments = Arguments::default()
            .word(rounds)
            .word(0x3f80_3f80)
            .long(result.address());
        self.launch("matrix_rounds", [blocks, 1, 1], 256, arguments)?;
        self.wait()?;
        // 8 warps, 8 products of 16 x 8 x 16 in a round.
        Ok(f64::from(blocks) * 8.0 * 8.0 * 4096.0 * f64::from(rounds))
    }

    /// Multiplies and adds `f32` in registers, and returns how many operations that were: for benchmarks, who take the time.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn fused_rounds(self: &Arc<Self>, rounds: u32) -> Result<f64, GpuError> {
        let result = self.allocate(1, 4)?;
        let blocks = self.multiprocessors() * 4;
        let arguments = Arguments::default()
            .word(rounds)
            .float(0.999)
            .float(0.001)
            .long(result.address());
        self.launch("fused_rounds", [blocks, 1, 1], 256, arguments)?;
        self.wait()?;
        Ok(f64::from(blocks) * 256.0 * 128.0 * f64::from(rounds))
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // A device that fails now has no more memory to give back.
        drop(self.give_back());
    }
}

/// Memory of a GPU.
pub(crate) struct Buffer {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
    last_use: Option<Fence>,
}

impl Buffer {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Writes bytes, from an offset on. What launches see of it is up to [`Gpu::join`]. Not to be used where the buffer was
    /// used by launches since it was allocated: they may still read it.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), GpuError> {
        self.write_after(offset, bytes, self.last_use)
    }

    /// Writes bytes once what was launched before a fence is done.
    pub(crate) fn write_after(
        &self,
        offset: usize,
        bytes: &[u8],
        fence: Option<Fence>,
    ) -> Result<(), GpuError> {
        self.check(offset, bytes.len())?;
        let after = fence.max(self.last_use);
        self.gpu.machine.write(self.address + offset as u64, bytes, after)
    }

    pub(crate) fn write_floats(&self, numbers: &[f32]) -> Result<(), GpuError> {
        self.write(0, library::bytes_of(numbers))
    }

    pub(crate) fn write_words(&self, numbers: &[u32]) -> Result<(), GpuError> {
        self.write(0, library::bytes_of(numbers))
    }

    pub(crate) fn zero(&self) -> Result<(), GpuError> {
        self.gpu.machine.zero(self.address, self.bytes)
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> Result<(), GpuError> {
        self.check(0, into.len())?;
        self.gpu.machine.read(self.address, into)
    }

    pub(crate) fn read_floats(&self, count: usize) -> Result<Vec<f32>, GpuError> {
        let mut numbers = vec![0.0; count];
        self.read(library::bytes_of_mut(&mut numbers))?;
        Ok(numbers)
    }

    pub(crate) fn read_longs(&self, count: usize) -> Result<Vec<u64>, GpuError> {
        let mut numbers = vec![0; count];
        self.read(library::bytes_of_mut(&mut numbers))?;
        Ok(numbers)
    }

    fn check(&self, offset: usize, bytes: usize) -> Result<(), GpuError> {
        if offset.checked_add(bytes).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(GpuError::Driver {
            call: "a copy".to_owned(),
            problem: format!("{bytes} bytes from {offset} on are not within {}", self.bytes),
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.gpu.machine.fence() {
            Ok(fence) => self
                .gpu
                .kept()
                .entry(self.bytes)
                .or_default()
                .push((self.address, fence)),
            // The device has failed; its memory goes with it.
            Err(_) => self.gpu.machine.free(self.address),
        }
    }
}
