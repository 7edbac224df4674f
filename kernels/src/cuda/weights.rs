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
        let (slot, fence) = &mut self.slots[self.current];
        let (tally, groups) = match element {
            Element::Bf16 => ("tally_bf16", "groups_bf16"),
            Element::F16 => ("tally_f16", "groups_f16"),
            Element::F32 => ("tally_f32", "groups_f32"),
            Element::F8E4m3 | Element::F8E5m2 => ("count_bytes", "groups_f8"),
        };
        self.gpu.join()?;
        let of = |result: &Buffer| {
            Arguments::default()
                .long(slot.address())
                .long(count)
                .long(result.address())
        };
        let blocks = |elements: u64| u32::try_from(count.div_ceil(elements)).unwrap_or(u32::MAX);
        let most = self.gpu.multiprocessors();
        // What a block takes in a round, or more.
        self.gpu
            .launch(tally, [blocks(1 << 14).min(4 * most), 1, 1], 256, of(&self.tally))?;
        let mut arguments = of(&self.errors);
        if element.size_bytes() == 1 {
            arguments = arguments.word(element.exponent_bits());
        }
        self.gpu
            .launch(groups, [blocks(16 * 128).min(8 * most), 1, 1], 256, arguments)?;
        *fence = Some(self.gpu.machine.fence()?);
        self.current = (self.current + 1) % SLOTS;
        self.filled = 0;
        self.pending += count;
        if self.pending >= ELEMENTS_MAX {
            self.fetch()?;
            self.clear()?;
        }
        Ok(())
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

#[cfg(test)]
#[path = "../../tests/agree/weights.rs"]
mod tests;
