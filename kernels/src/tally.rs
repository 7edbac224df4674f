//! One pass over a tensor's bytes, into integers.
//!
//! For each sign and exponent a tally holds how many elements there are, the sum of their mantissas and the
//! sum of the mantissas' squares; beside it the zeros, the infinities, the smallest and the greatest element.
//! All of that is integers, and adding integers does not depend on the order: so a tensor may be cut anywhere
//! between two elements, its parts tallied on any number of threads, nodes or devices and merged in any
//! order, and the tally is the same to the last bit. [`Summary`](crate::Summary) derives the rest from it.
//!
//! Cost: every byte is read once. Memory: at most 512 bins of 48 bytes, whatever the tensor's size.

use crate::element::{Element, Fields};

/// A tally takes at most this many elements, 2^48: no accumulator can overflow below that. It is 512 TiB of
/// BF16.
pub const ELEMENTS_MAX: u64 = 1 << 48;

/// Elements between two transfers of the narrow sums into the wide ones: 2^16 squares of 23-bit mantissas
/// stay below 2^62.
const BLOCK_ELEMENTS: usize = 1 << 16;

/// From so many bytes on, elements of 2 bytes are counted by their bits first: 2^16 counters are then worth looking
/// through.
const TABLE_BYTES_MIN: usize = 1 << 18;
/// Bytes between two looks through such counters; they have 32 bits.
const TABLE_ELEMENTS_MAX: usize = 1 << 30;

/// Bytes cannot be tallied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TallyError {
    /// The bytes end within an element.
    #[error("{bytes} bytes are not a whole number of {} elements of {} bytes", .element.name(), .element.size_bytes())]
    Ragged {
        /// The tally's format.
        element: Element,
        /// How many bytes there are.
        bytes: usize,
    },
    /// Tallies of two formats cannot be merged.
    #[error("a tally of {} cannot take in one of {}", .into.name(), .from.name())]
    Mixed {
        /// The format of the tally that was to grow.
        into: Element,
        /// The format of the other one.
        from: Element,
    },
    /// More elements than [`ELEMENTS_MAX`].
    #[error("{found} elements, at most {ELEMENTS_MAX} are tallied together")]
    TooMany {
        /// How many there would be.
        found: u128,
    },
}

/// What is known of the elements that share a sign and an exponent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bin {
    /// How many there are.
    pub count: u64,
    /// The sum of the mantissa fields of those that are finite.
    pub mantissas: u128,
    /// The sum of the squares of those mantissa fields.
    pub squares: u128,
}

/// The integers that one pass over elements leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    element: Element,
    elements: u64,
    /// Indexed by sign and exponent, as they stand at the top of an element's bits.
    bins: Vec<Bin>,
    /// Positive and negative.
    zeros: [u64; 2],
    /// Positive and negative.
    infinities: [u64; 2],
    /// Positive and negative.
    nans: [u64; 2],
    /// The least and the greatest element that is a number, as integers that order as the values do.
    extremes: Option<(u32, u32)>,
}

impl Tally {
    /// Makes the tally of no elements.
    #[must_use]
    pub fn new(element: Element) -> Self {
        Self {
            element,
            elements: 0,
            bins: vec![Bin::default(); 2 << element.exponent_bits()],
            zeros: [0; 2],
            infinities: [0; 2],
            nans: [0; 2],
            extremes: None,
        }
    }

    /// Makes the tally of a tensor that is in memory.
    ///
    /// # Errors
    /// See [`Tally::add`].
    pub fn of(element: Element, bytes: &[u8]) -> Result<Self, TallyError> {
        let mut tally = Self::new(element);
        tally.add(bytes)?;
        Ok(tally)
    }

    /// Takes in the elements of these little-endian bytes. After an error the tally is as it was.
    ///
    /// # Errors
    /// When the bytes end within an element, or the elements would be more than [`ELEMENTS_MAX`].
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), TallyError> {
        let size = self.element.size_bytes();
        if !bytes.len().is_multiple_of(size) {
            return Err(TallyError::Ragged {
                element: self.element,
                bytes: bytes.len(),
            });
        }
        self.grow((bytes.len() / size) as u64)?;
        match self.element {
            Element::F32 => {
                for block in bytes.chunks(BLOCK_ELEMENTS * size) {
                    self.add_block::<8, 23>(block.as_chunks().0.iter().map(word));
                }
            }
            Element::F8E4m3 | Element::F8E5m2 => {
                for block in bytes.chunks(TABLE_ELEMENTS_MAX) {
                    let mut table = [0_u32; 1 << 8];
                    for byte in block {
                        table[usize::from(*byte)] += 1;
                    }
                    self.add_table(table.iter().map(|count| u64::from(*count)));
                }
            }
            Element::Bf16 | Element::F16 if bytes.len() < TABLE_BYTES_MIN => {
                for block in bytes.chunks(BLOCK_ELEMENTS * size) {
                    let words = block.as_chunks().0.iter().map(half_word);
                    match self.element {
                        Element::F16 => self.add_block::<5, 10>(words),
                        _ => self.add_block::<8, 7>(words),
                    }
                }
            }
            Element::Bf16 | Element::F16 => {
                for block in bytes.chunks(TABLE_ELEMENTS_MAX) {
                    let mut table = vec![0_u32; 1 << 16];
                    // Fixing the length spares the check of every index.
                    if let Some(table) = table.first_chunk_mut::<{ 1 << 16 }>() {
                        for bytes in block.as_chunks().0 {
                            table[usize::from(u16::from_le_bytes(*bytes))] += 1;
                        }
                    }
                    self.add_table(table.iter().map(|count| u64::from(*count)));
                }
            }
        }
        Ok(())
    }

    /// Makes the tally of elements that a device has counted: `kernels/cuda/tally.cu` says what the words are.
    pub(crate) fn from_device(element: Element, elements: u64, words: &[u64]) -> Result<Self, TallyError> {
        let mut tally = Self::new(element);
        tally.grow(elements)?;
        if element.size_bytes() == 1 {
            tally.add_table(words.iter().copied());
            return Ok(tally);
        }
        let (bins, rest) = words.split_at(words.len().min(4 * tally.bins.len()));
        for (bin, words) in tally.bins.iter_mut().zip(bins.as_chunks().0) {
            let [count, mantissas, low, high] = *words;
            bin.count = count;
            bin.mantissas = u128::from(mantissas);
            bin.squares = u128::from(low) + (u128::from(high) << 23);
        }
        let word = |at: usize| rest.get(at).copied().unwrap_or(0);
        for sign in 0..2 {
            tally.zeros[sign] = word(sign);
            tally.infinities[sign] = word(2 + sign);
            tally.nans[sign] = word(4 + sign);
        }
        let (least, greatest) = ((1 << 32) - word(6).min(1 << 32), word(7).saturating_sub(1));
        if word(6) > 0 {
            tally.stretch(least as u32, greatest as u32);
        }
        Ok(tally)
    }

    /// Takes in all that another tally has seen. After an error the tally is as it was.
    ///
    /// # Errors
    /// When the other one is of another format, or both together have more than [`ELEMENTS_MAX`] elements.
    pub fn merge(&mut self, other: &Self) -> Result<(), TallyError> {
        if self.element != other.element {
            return Err(TallyError::Mixed {
                into: self.element,
                from: other.element,
            });
        }
        self.grow(other.elements)?;
        for (bin, theirs) in self.bins.iter_mut().zip(&other.bins) {
            bin.count += theirs.count;
            bin.mantissas += theirs.mantissas;
            bin.squares += theirs.squares;
        }
        for sign in 0..2 {
            self.zeros[sign] += other.zeros[sign];
            self.infinities[sign] += other.infinities[sign];
            self.nans[sign] += other.nans[sign];
        }
        if let Some((least, greatest)) = other.extremes {
            self.stretch(least, greatest);
        }
        Ok(())
    }

    /// Returns the format.
    #[must_use]
    pub const fn element(&self) -> Element {
        self.element
    }

    /// Returns how many elements were taken in.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the bins of one sign, indexed by the exponent field.
    #[must_use]
    pub fn bins(&self, negative: bool) -> &[Bin] {
        let (positives, negatives) = self.bins.split_at(self.bins.len() / 2);
        if negative { negatives } else { positives }
    }

    /// Returns how many elements have each exponent field, whatever their sign.
    #[must_use]
    pub fn exponent_histogram(&self) -> Vec<u64> {
        let both = self.bins(false).iter().zip(self.bins(true));
        both.map(|(positive, negative)| positive.count + negative.count)
            .collect()
    }

    /// Returns how many zeros there are, of both signs.
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros[0] + self.zeros[1]
    }

    /// Returns how many of the zeros have the sign bit set.
    #[must_use]
    pub const fn negative_zeros(&self) -> u64 {
        self.zeros[1]
    }

    /// Returns how many subnormal elements there are; zeros are none.
    #[must_use]
    pub fn subnormals(&self) -> u64 {
        self.with_exponent(0) - self.zeros()
    }

    /// Returns how many infinities there are, of both signs.
    #[must_use]
    pub const fn infinities(&self) -> u64 {
        self.infinities[0] + self.infinities[1]
    }

    /// Returns how many of the infinities are negative.
    #[must_use]
    pub const fn negative_infinities(&self) -> u64 {
        self.infinities[1]
    }

    /// Returns how many elements are not a number.
    #[must_use]
    pub const fn nans(&self) -> u64 {
        self.nans[0] + self.nans[1]
    }

    /// Returns how many elements of one sign with the top exponent are finite: none, but in the format that has no
    /// infinities.
    pub(crate) fn finite_at_top(&self, negative: bool) -> u64 {
        let at_top = self.bins(negative).last().map_or(0, |bin| bin.count);
        at_top - self.infinities[usize::from(negative)] - self.nans[usize::from(negative)]
    }

    /// Returns how many elements are neither infinite nor not a number.
    #[must_use]
    pub const fn finite(&self) -> u64 {
        self.elements - self.infinities() - self.nans()
    }

    /// Returns the bits of the least element that is a number, infinities included; -0 is less than +0.
    #[must_use]
    pub fn minimum_bits(&self) -> Option<u32> {
        self.extremes.map(|(least, _)| self.unordered(least))
    }

    /// Returns the bits of the greatest element that is a number, infinities included; -0 is less than +0.
    #[must_use]
    pub fn maximum_bits(&self) -> Option<u32> {
        self.extremes.map(|(_, greatest)| self.unordered(greatest))
    }

    fn with_exponent(&self, exponent: u32) -> u64 {
        let count = |bins: &[Bin]| bins.get(exponent as usize).map_or(0, |bin| bin.count);
        count(self.bins(false)) + count(self.bins(true))
    }

    fn grow(&mut self, by: u64) -> Result<(), TallyError> {
        match self.elements.checked_add(by) {
            Some(elements) if elements <= ELEMENTS_MAX => {
                self.elements = elements;
                Ok(())
            }
            _ => Err(TallyError::TooMany {
                found: u128::from(self.elements) + u128::from(by),
            }),
        }
    }

    fn stretch(&mut self, least: u32, greatest: u32) {
        self.extremes = Some(match self.extremes {
            Some((a, b)) => (a.min(least), b.max(greatest)),
            None => (least, greatest),
        });
    }

    /// Turns an order back into the bits it was made of.
    fn unordered(&self, order: u32) -> u32 {
        let sign = 1 << (self.element.exponent_bits() + self.element.mantissa_bits());
        if order & sign != 0 {
            order ^ sign
        } else {
            !order & (sign | (sign - 1))
        }
    }

    /// Takes in elements that were counted by their bits.
    fn add_table(&mut self, table: impl Iterator<Item = u64>) {
        let element = self.element;
        let sign = 1 << (element.exponent_bits() + element.mantissa_bits());
        for (bits, count) in (0_u32..).zip(table).filter(|(_, count)| *count > 0) {
            let Fields {
                negative, mantissa, ..
            } = element.fields(bits);
            let magnitude = bits & (sign - 1);
            let bin = &mut self.bins[(bits >> element.mantissa_bits()) as usize];
            bin.count += count;
            if magnitude < element.infinity() {
                bin.mantissas += u128::from(u64::from(mantissa) * count);
                bin.squares += u128::from(u64::from(mantissa * mantissa) * count);
            } else if magnitude > element.infinity() || !element.has_infinities() {
                self.nans[usize::from(negative)] += count;
                continue;
            } else {
                self.infinities[usize::from(negative)] += count;
            }
            self.zeros[usize::from(negative)] += if magnitude == 0 { count } else { 0 };
            let order = if negative {
                !bits & (sign | (sign - 1))
            } else {
                bits | sign
            };
            self.stretch(order, order);
        }
    }

    /// Takes in at most [`BLOCK_ELEMENTS`] elements. The widths are constants here so that the loops' shifts and masks
    /// are, too. What has no place in a bin is looked at first, in a loop that the compiler makes a vector's.
    fn add_block<const EXPONENT: u32, const MANTISSA: u32>(
        &mut self,
        elements: impl Iterator<Item = u32> + Clone,
    ) {
        let sign = 1_u32 << (EXPONENT + MANTISSA);
        let infinity = sign - (1 << MANTISSA);
        let (mut least, mut greatest) = (u32::MAX, 0);
        let (mut zeros, mut infinities, mut nans) = ([0_u32; 2], [0_u32; 2], [0_u32; 2]);
        for bits in elements.clone() {
            let magnitude = bits & (sign - 1);
            let negative = bits & sign != 0;
            zeros[0] += u32::from(bits == 0);
            zeros[1] += u32::from(bits == sign);
            infinities[0] += u32::from(bits == infinity);
            infinities[1] += u32::from(bits == infinity | sign);
            nans[0] += u32::from(magnitude > infinity && !negative);
            nans[1] += u32::from(magnitude > infinity && negative);
            // Orders as the values do: negatives turned round below the positives.
            let order = if negative {
                !bits & (sign | (sign - 1))
            } else {
                bits | sign
            };
            let is_number = magnitude <= infinity;
            least = least.min(if is_number { order } else { u32::MAX });
            greatest = greatest.max(if is_number { order } else { 0 });
        }
        for negative in 0..2 {
            self.zeros[negative] += u64::from(zeros[negative]);
            self.infinities[negative] += u64::from(infinities[negative]);
            self.nans[negative] += u64::from(nans[negative]);
        }
        if least <= greatest {
            self.stretch(least, greatest);
        }
        // By turns into two tables: neighbours often have the same exponent, and would wait for each other's sums.
        let mut tables = [[Narrow::default(); 512]; 2];
        for (at, bits) in elements.enumerate() {
            let mantissa = u64::from(bits & ((1 << MANTISSA) - 1));
            // `bits` has no more than the format's bits: at most 9 remain. The mask tells the compiler.
            let bin = &mut tables[at & 1][(bits >> MANTISSA) as usize & 511];
            bin.counted += COUNTED + mantissa;
            bin.squares += mantissa * mantissa;
        }
        let top = self.element.top_exponent() as usize;
        for table in &tables {
            for (i, (bin, narrow)) in self.bins.iter_mut().zip(table).enumerate() {
                bin.count += narrow.counted / COUNTED;
                if i & top != top {
                    bin.mantissas += u128::from(narrow.counted % COUNTED);
                    bin.squares += u128::from(narrow.squares);
                }
            }
        }
    }
}

/// One element, in a sum of mantissas and of elements at once: 2^16 mantissas of 23 bits stay below it.
const COUNTED: u64 = 1 << 40;

/// A bin within one block.
#[derive(Clone, Copy, Default)]
struct Narrow {
    /// Mantissas, and [`COUNTED`] for each element.
    counted: u64,
    squares: u64,
}

fn half_word(bytes: &[u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(*bytes))
}

fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}
