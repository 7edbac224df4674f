//! A tensor's tally and group errors, measured on a GPU while its bytes come in.
//!
//! Bytes go into one of [`SLOTS`] buffers of the device; when it is full, two kernels measure it while the next one fills.
//! Result: the same integers that [`Pass`](crate::Pass) gives.

use std::sync::Arc;

use super::error::GpuError;
use super::gpu::{Buffer, Gpu};
use super::machine::{Arguments, Fence};
use crate::element::Element;
use crate::groups::GroupErrors;
use crate::pass::Measured;
use crate::tally::{Tally, TallyError};

/// Bytes of a buffer: whole groups of every format.
const SLOT_BYTES: usize = 16 << 20;
const SLOTS: usize = 3;
/// Sums of the device cannot overflow below so many elements; then they are fetched.
const ELEMENTS_MAX: u64 = 1 << 34;
/// Words of a tally on the device, behind its bins: zeros, infinities, what is no number, extremes.
const BEHIND_BINS: usize = 8;
const ERROR_WORDS: usize = 2 + 3 * 22;

/// Measures a tensor on a GPU while its bytes come in.
pub struct GpuPass {
    gpu: Arc<Gpu>,
    measured: Measured,
    slots: [(Buffer, Option<Fence>); SLOTS],
    current: usize,
    filled: usize,
    /// Bytes so far.
    bytes: u64,
    /// Elements whose sums are on the device.
    pending: u64,
    tally: Buffer,
    tally_words: usize,
    errors: Buffer,
}

impl GpuPass {
    /// Begins with nothing.
    ///
    /// # Errors
    /// When the memory of the GPU ends.
    pub fn new(gpu: &Arc<Gpu>, element: Element) -> Result<Self, GpuError> {
        Self::with_slots(gpu, element, SLOT_BYTES)
    }

    fn with_slots(gpu: &Arc<Gpu>, element: Element, slot_bytes: usize) -> Result<Self, GpuError> {
        let slot = || Ok::<_, GpuError>((gpu.allocate(slot_bytes, 1)?, None));
        let tally_words = match element.size_bytes() {
            1 => 256,
            _ => 4 * (2 << element.exponent_bits()) + BEHIND_BINS,
        };
        let pass = Self {
            gpu: Arc::clone(gpu),
            measured: Measured::none(element),
            slots: [slot()?, slot()?, slot()?],
            current: 0,
            filled: 0,
            bytes: 0,
            pending: 0,
            tally: gpu.allocate(tally_words, 8)?,
            tally_words,
            errors: gpu.allocate(ERROR_WORDS, 8)?,
        };
        pass.clear()?;
        Ok(pass)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the GPU fails.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), GpuError> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (slot, fence) = &self.slots[self.current];
            let (now, rest) = bytes.split_at(bytes.len().min(self.slot_bytes() - self.filled));
            slot.write_after(self.filled, now, *fence)?;
            self.filled += now.len();
            bytes = rest;
            if self.filled == self.slot_bytes() {
                self.measure()?;
            }
        }
        Ok(())
    }

    /// Ends the tensor.
    ///
    /// # Errors
    /// When its bytes end within an element, there are too many, or the GPU fails.
    pub fn finish(mut self) -> Result<Measured, GpuError> {
        let element = self.measured.tally.element();
        if !self.bytes.is_multiple_of(element.size_bytes() as u64) {
            let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
            return Err(TallyError::Ragged { element, bytes }.into());
        }
        self.measure()?;
        self.fetch()?;
        Ok(self.measured)
    }

    fn slot_bytes(&self) -> usize {
        self.slots[0].0.bytes()
    }

    fn clear(&self) -> Result<(), GpuError> {
        self.tally.zero()?;
        self.errors.zero()
    }

    /// Measures what is in the current slot, and goes on to the next.
    fn measure(&mut self) -> Result<(), GpuError> {
        let element = self.measured.tally.element();
        let count = (self.filled / element.size_bytes()) as u64;
        if count == 0 {
            return Ok(());
        }
        self.gpu.join()?;
        let slot = &self.slots[self.current].0;
        self.launch_tally(slot, count)?;
        self.launch_groups(slot, count)?;
        self.slots[self.current].1 = Some(self.gpu.machine.fence()?);
        self.current = (self.current + 1) % SLOTS;
        self.filled = 0;
        self.pending += count;
        if self.pending >= ELEMENTS_MAX {
            self.fetch()?;
            self.clear()?;
        }
        Ok(())
    }

    fn launch_tally(&self, slot: &Buffer, count: u64) -> Result<(), GpuError> {
        let kernel = match self.measured.tally.element() {
            Element::Bf16 => "tally_bf16",
            Element::F16 => "tally_f16",
            Element::F32 => "tally_f32",
            Element::F8E4m3 | Element::F8E5m2 => "count_bytes",
        };
        // What a block takes in a round, or more.
        let blocks = blocks(count, 1 << 14).min(4 * self.gpu.multiprocessors());
        self.gpu
            .launch(kernel, [blocks, 1, 1], 256, arguments(slot, count, &self.tally))
    }

    fn launch_groups(&self, slot: &Buffer, count: u64) -> Result<(), GpuError> {
        let element = self.measured.tally.element();
        let arguments = arguments(slot, count, &self.errors);
        let (kernel, arguments) = match element {
            Element::Bf16 => ("groups_bf16", arguments),
            Element::F16 => ("groups_f16", arguments),
            Element::F32 => ("groups_f32", arguments),
            Element::F8E4m3 | Element::F8E5m2 => ("groups_f8", arguments.word(element.exponent_bits())),
        };
        let blocks = blocks(count, 16 * 128).min(8 * self.gpu.multiprocessors());
        self.gpu.launch(kernel, [blocks, 1, 1], 256, arguments)
    }

    /// Takes in what the device has summed up.
    fn fetch(&mut self) -> Result<(), GpuError> {
        if self.pending > 0 {
            let words = self.tally.read_longs(self.tally_words)?;
            let tally = Tally::from_device(self.measured.tally.element(), self.pending, &words)?;
            let errors = GroupErrors::from_device(&self.errors.read_longs(ERROR_WORDS)?);
            self.measured.merge(&Measured { tally, errors })?;
            self.pending = 0;
        }
        Ok(())
    }
}

fn arguments(slot: &Buffer, count: u64, result: &Buffer) -> Arguments {
    Arguments::default()
        .long(slot.address())
        .long(count)
        .long(result.address())
}

/// Returns how many blocks take so many elements each.
fn blocks(count: u64, each: u64) -> u32 {
    u32::try_from(count.div_ceil(each)).unwrap_or(u32::MAX)
}

impl Gpu {
    /// Tallies weights that are on the device, `rounds` times: for benchmarks, who take the time.
    ///
    /// # Errors
    /// When memory ends, or the driver refuses.
    pub fn tally_rounds(
        self: &Arc<Self>,
        element: Element,
        weights: &[u8],
        rounds: u32,
    ) -> Result<(), GpuError> {
        let pass = GpuPass::with_slots(self, element, weights.len().max(1))?;
        pass.slots[0].0.write(0, weights)?;
        self.join()?;
        for _ in 0..rounds {
            pass.launch_tally(&pass.slots[0].0, (weights.len() / element.size_bytes()) as u64)?;
        }
        self.wait()
    }
}

#[cfg(test)]
#[path = "../../tests/agree/weights.rs"]
mod tests;
