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
/// Elements of 4 bytes between two looks through their table: as many lower halves stay below [`COUNTED`], and as many
/// squares of them below 2^56.
const TABLE_FLOATS_MAX: usize = 1 << 23;

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
                for block in bytes.chunks(TABLE_FLOATS_MAX * size) {
                    if block.len() < TABLE_BYTES_MIN {
                        let blocks = block.chunks(BLOCK_ELEMENTS * size);
                        blocks.for_each(|block| wide::add_floats(self, block));
                    } else {
                        self.add_halves(block);
                    }
                }
            }
            Element::F8E4m3 | Element::F8E5m2 => {
                for block in bytes.chunks(TABLE_ELEMENTS_MAX) {
                    let mut counts = [0_u64; 1 << 8];
                    let mut rest = block;
                    if block.len() >= TABLE_BYTES_MIN {
                        // Two at a time, as one number.
                        let (pairs, odd) = block.as_chunks();
                        for (pair, count) in counted(pairs).iter().enumerate() {
                            counts[pair & 0xff] += u64::from(*count);
                            counts[pair >> 8] += u64::from(*count);
                        }
                        rest = odd;
                    }
                    for byte in rest {
                        counts[usize::from(*byte)] += 1;
                    }
                    self.add_table(counts.into_iter());
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
                    let table = counted(block.as_chunks().0);
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

    /// Takes in at most [`TABLE_FLOATS_MAX`] elements of 4 bytes. By their upper halves they are spread over so many places that neighbours seldom wait for each other's sums. With the upper 7 bits `h` and
    /// the lower 16 bits `l` of a mantissa, `Σm = Σ 2^16 h + l` and `Σm² = Σ 2^32 h² + 2^17 h l + l²`.
    fn add_halves(&mut self, bytes: &[u8]) {
        let mut table = vec![Narrow::default(); 1 << 16];
        // Fixing the length spares the check of every index.
        if let Some(table) = table.first_chunk_mut::<{ 1 << 16 }>() {
            for bits in bytes.as_chunks().0.iter().map(word) {
                let lower = u64::from(bits & 0xffff);
                let place = &mut table[(bits >> 16) as usize];
                place.counted += COUNTED + lower;
                place.squares += lower * lower;
            }
        }
        // Where all in the lowest places are zeros, and none is in the highest, extremes are all that is left to be found.
        let zeros = [&table[0], &table[0x8000]];
        let highest = [&table[0x7f80..0x8000], &table[0xff80..]];
        if zeros.iter().any(|place| place.counted % COUNTED > 0)
            || highest.into_iter().flatten().any(|place| place.counted > 0)
        {
            wide::look_at_floats(self, bytes);
        } else {
            for (zeros, place) in self.zeros.iter_mut().zip(zeros) {
                *zeros += place.counted / COUNTED;
            }
            let (least, greatest) = wide::extremes(bytes);
            self.stretch(least, greatest);
        }
        let top = self.element.top_exponent() as usize;
        for (upper, place) in table.iter().enumerate().filter(|(_, place)| place.counted > 0) {
            let bin = &mut self.bins[upper >> 7];
            let (count, lower) = (place.counted / COUNTED, place.counted % COUNTED);
            bin.count += count;
            if (upper >> 7) & top != top {
                let h = (upper & 0x7f) as u64;
                bin.mantissas += u128::from(((h * count) << 16) + lower);
                let squares = u128::from(h * h * count) << 32;
                bin.squares += squares + (u128::from(h * lower) << 17) + u128::from(place.squares);
            }
        }
    }

    /// Looks at what has no place in a bin: zeros, extremes, what is not finite. The compiler makes the loop a vector's.
    #[inline(always)]
    fn look_at<const EXPONENT: u32, const MANTISSA: u32>(&mut self, elements: impl Iterator<Item = u32>) {
        let sign = 1_u32 << (EXPONENT + MANTISSA);
        let infinity = sign - (1 << MANTISSA);
        let (mut least, mut greatest) = (u32::MAX, 0);
        let (mut zeros, mut infinities, mut nans) = ([0_u32; 2], [0_u32; 2], [0_u32; 2]);
        for bits in elements {
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
    }

    /// Takes in at most [`BLOCK_ELEMENTS`] elements. The widths are constants here so that the loops' shifts and masks
    /// are, too.
    #[inline(always)]
    fn add_block<const EXPONENT: u32, const MANTISSA: u32>(
        &mut self,
        elements: impl Iterator<Item = u32> + Clone,
    ) {
        self.look_at::<EXPONENT, MANTISSA>(elements.clone());
        // By turns into several tables: neighbours often have the same exponent, and would wait for each other's sums.
        let mut tables = [[Narrow::default(); 512]; TABLES];
        for (at, bits) in elements.enumerate() {
            let mantissa = u64::from(bits & ((1 << MANTISSA) - 1));
            // `bits` has no more than the format's bits: at most 9 remain. The mask tells the compiler.
            let bin = &mut tables[at % TABLES][(bits >> MANTISSA) as usize & 511];
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

/// Tables that neighbours are added to by turns.
const TABLES: usize = 4;

/// One element, in a sum of mantissas and of elements at once: 2^16 mantissas of 23 bits stay below it.
const COUNTED: u64 = 1 << 40;

/// A bin within one block.
#[derive(Clone, Copy, Default)]
struct Narrow {
    /// Mantissas, and [`COUNTED`] for each element.
    counted: u64,
    squares: u64,
}

/// The same with wider registers, where the processor has them: integers are the same in all of them.
mod wide {
    use super::{BLOCK_ELEMENTS, Tally, word};

    pub(super) fn add_floats(tally: &mut Tally, block: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was asked for these instructions")]
            // SAFETY: the feature was detected just above.
            return unsafe { add_floats_avx2(tally, block) };
        }
        add_floats_any(tally, block);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_floats_avx2(tally: &mut Tally, block: &[u8]) {
        add_floats_any(tally, block);
    }

    /// Looks at what has no place in a bin, in any number of elements.
    pub(super) fn look_at_floats(tally: &mut Tally, bytes: &[u8]) {
        for block in bytes.chunks(4 * BLOCK_ELEMENTS) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "the processor was asked for these instructions")]
                // SAFETY: the feature was detected just above.
                unsafe {
                    look_at_floats_avx2(tally, block);
                }
                continue;
            }
            look_at_floats_any(tally, block);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn look_at_floats_avx2(tally: &mut Tally, block: &[u8]) {
        look_at_floats_any(tally, block);
    }

    /// Returns the least and the greatest of floats that all are numbers, as integers that order as the values do.
    pub(super) fn extremes(bytes: &[u8]) -> (u32, u32) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was asked for these instructions")]
            // SAFETY: the feature was detected just above.
            return unsafe { extremes_avx2(bytes) };
        }
        extremes_any(bytes)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn extremes_avx2(bytes: &[u8]) -> (u32, u32) {
        extremes_any(bytes)
    }

    #[inline(always)]
    fn extremes_any(bytes: &[u8]) -> (u32, u32) {
        const SIGN: u32 = 1 << 31;
        let (mut least, mut greatest) = (i32::MAX, i32::MIN);
        for bits in bytes.as_chunks().0.iter().map(word) {
            // Magnitudes of negatives are turned round: so signed integers order as the values do.
            let order = (bits ^ ((bits.cast_signed() >> 31).cast_unsigned() & !SIGN)).cast_signed();
            least = least.min(order);
            greatest = greatest.max(order);
        }
        (least.cast_unsigned() ^ SIGN, greatest.cast_unsigned() ^ SIGN)
    }

    #[inline(always)]
    fn look_at_floats_any(tally: &mut Tally, block: &[u8]) {
        tally.look_at::<8, 23>(block.as_chunks().0.iter().map(word));
    }

    #[inline(always)]
    fn add_floats_any(tally: &mut Tally, block: &[u8]) {
        tally.add_block::<8, 23>(block.as_chunks().0.iter().map(word));
    }
}

/// Counts elements of 2 bytes by their bits.
fn counted(elements: &[[u8; 2]]) -> Vec<u32> {
    let mut table = vec![0_u32; 1 << 16];
    // Fixing the length spares the check of every index.
    if let Some(table) = table.first_chunk_mut::<{ 1 << 16 }>() {
        for bytes in elements {
            table[usize::from(u16::from_le_bytes(*bytes))] += 1;
        }
    }
    table
}

fn half_word(bytes: &[u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(*bytes))
}

fn word(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_by_upper_halves_gives_what_counting_in_bins_gives() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let specials: [&[u32]; 6] = [
            &[],
            &[0, 0x8000_0000],
            &[0, 1, 0x8000_0001, 0x8000_ffff],
            &[0x7f80_0000, 0xff80_0000],
            &[0x7fc0_0000, 0xffff_ffff, 0x7f80_0001],
            &[0x0080_0000, 0x7f7f_ffff, 0xff7f_ffff],
        ];
        for special in specials {
            let any = special.len() as u32;
            let bytes: Vec<u8> = (0..TABLE_BYTES_MIN / 4 + 77)
                .flat_map(|_| {
                    let (bits, choice) = (random(), random() >> 8);
                    let usual = 0x3c00_0000 | (bits & 0x81ff_ffff);
                    let is_special = any > 0 && choice % 50 == 0;
                    if is_special {
                        special[(choice / 50 % any) as usize]
                    } else {
                        usual
                    }
                    .to_le_bytes()
                })
                .collect();
            let whole = Tally::of(Element::F32, &bytes).unwrap();
            let mut parts = Tally::new(Element::F32);
            for part in bytes.chunks(TABLE_BYTES_MIN / 3 / 4 * 4) {
                parts.merge(&Tally::of(Element::F32, part).unwrap()).unwrap();
            }
            assert_eq!(whole, parts, "{special:x?}");
            // The same bytes as elements of a byte, in pairs and one by one.
            let odd = &bytes[1..];
            let whole = Tally::of(Element::F8E4m3, odd).unwrap();
            let mut parts = Tally::new(Element::F8E4m3);
            for part in odd.chunks(1001) {
                parts.merge(&Tally::of(Element::F8E4m3, part).unwrap()).unwrap();
            }
            assert_eq!(whole, parts);
        }
    }
}
