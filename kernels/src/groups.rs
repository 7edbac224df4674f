//! What a tensor would lose if it were quantised: the squared error of rounding it in groups.
//!
//! A tensor is cut into groups of 128 neighbouring elements, counted from its start (the last one is filled up with
//! zeros). In each group the greatest magnitude `a` is scaled to the greatest number of the format:
//!
//! ```text
//!            greatest `g`   what can be written
//! int8                127   whole numbers
//! int4                  7   whole numbers
//! fp8-e4m3            448   4 significant bits down to 2^-6, multiples of 2^-9 below
//!
//! r = g / a          y = x * r          q = y rounded, ties to even          e = y - q
//! error of the group = sum(e^2) / r^2
//! ```
//! `r`, `y` and `e` are rounded to `f32`; the squares are added in `f32` into 16 sums, element `i` into sum `i mod 16`,
//! and these by halves (8 to 8, 4 to 4, ...). The division is one of `f64`, and its result enters the tensor's sum as a
//! whole number of 2^-360. So a group's error depends on its elements only, and sums of them are sums of integers: the
//! same to the last bit however a tensor is cut at groups and in whatever order its parts are added.
//!
//! Where `a` is below 2^-60 the elements are multiplied by 2^100 first, which is exact, and the error by 2^-200. A
//! group with an element that is not finite is skipped, and counted.

use crate::element::Element;
use crate::four::Four;
use crate::wide::Wide;

/// Elements of one group.
pub const GROUP: usize = 128;

/// Sums within a group.
const LANES: usize = 16;
/// Group errors are multiples of 2 to the power of minus this.
const UNIT: i32 = 360;
/// Below this, a group is scaled up.
const TINY: f32 = 1.0 / (1_u64 << 60) as f32;
const SCALE_UP: f32 = (1_u128 << 100) as f32;

/// A format to quantise to, group by group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantised {
    /// Whole numbers from -127 to 127.
    Int8,
    /// Whole numbers from -7 to 7.
    Int4,
    /// The 8-bit float with 3 bits of mantissa.
    Fp8E4m3,
}

impl Quantised {
    /// Every format, in order.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Int4, Self::Fp8E4m3];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Fp8E4m3 => "fp8_e4m3",
        }
    }
}

/// The errors of groups, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupErrors {
    groups: u64,
    skipped: u64,
    sums: [Wide; 3],
}

impl Default for GroupErrors {
    fn default() -> Self {
        Self {
            groups: 0,
            skipped: 0,
            sums: [Wide::ZERO; 3],
        }
    }
}

impl GroupErrors {
    /// Takes in the groups of these little-endian bytes; the last group may be short, and then nothing may follow.
    /// Bytes behind the last whole element are ignored.
    pub fn add(&mut self, element: Element, bytes: &[u8]) {
        wide::add(self, element, bytes);
    }

    /// Takes in what others have seen.
    pub fn merge(&mut self, other: &Self) {
        self.groups += other.groups;
        self.skipped += other.skipped;
        for (sum, theirs) in self.sums.iter_mut().zip(&other.sums) {
            sum.add(theirs);
        }
    }

    /// Makes the errors that a device has added up: groups, groups skipped, and columns of 32 bits for each format.
    pub(crate) fn from_device(words: &[u64]) -> Self {
        let word = |at: usize| words.get(at).copied().unwrap_or(0);
        let mut errors = Self {
            groups: word(0),
            skipped: word(1),
            ..Self::default()
        };
        let columns = words
            .get(2..)
            .unwrap_or_default()
            .chunks(Wide::BITS as usize / 32);
        for (sum, columns) in errors.sums.iter_mut().zip(columns) {
            for (shift, column) in (0..).step_by(32).zip(columns) {
                sum.add_shifted(u128::from(*column), shift);
            }
        }
        errors
    }

    /// Returns how many groups were rounded.
    #[must_use]
    pub const fn groups(&self) -> u64 {
        self.groups
    }

    /// Returns how many groups were skipped, because of elements that are not finite.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the sum of the squared errors in a format, rounded once.
    #[must_use]
    pub fn squared(&self, format: Quantised) -> f64 {
        self.sums[format as usize].to_f64(-UNIT)
    }

    #[inline(always)]
    fn add_elements(&mut self, element: Element, bytes: &[u8]) {
        match element {
            Element::Bf16 => self.add_all::<2>(bytes, 0x7f80_0000, |b| {
                f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
            }),
            // What is not finite comes out as 65536 or more.
            Element::F16 => self.add_all::<2>(bytes, 65536_f32.to_bits(), |b| half(u16::from_le_bytes(b))),
            Element::F32 => self.add_all::<4>(bytes, 0x7f80_0000, f32::from_le_bytes),
            Element::F8E4m3 | Element::F8E5m2 => self.add_bytes(element, bytes),
        }
    }

    /// Takes in elements of a byte. They have few magnitudes, so what rounding one of them changes, beside a greatest one,
    /// is computed once and looked up from then on.
    #[inline(always)]
    fn add_bytes(&mut self, element: Element, bytes: &[u8]) {
        let mut tables: Vec<Option<Box<Squares>>> = Vec::new();
        tables.resize_with(1 << 7, || None);
        for part in bytes.chunks(GROUP) {
            let mut group = [0_u8; GROUP];
            match <&[u8; GROUP]>::try_from(part) {
                Ok(whole) => group = whole.map(|b| b & 0x7f),
                Err(_) => {
                    for (to, from) in group.iter_mut().zip(part) {
                        *to = from & 0x7f;
                    }
                }
            }
            let most = group.iter().fold(0, |most, b| most.max(*b));
            if u32::from(most) >= element.infinity() {
                self.skipped += 1;
                continue;
            }
            self.groups += 1;
            if most == 0 {
                continue;
            }
            let table = tables[usize::from(most)].get_or_insert_with(|| Squares::beside(element, most));
            // Half of the lanes at a time stay in registers.
            let halves = [0, 1].map(|half| {
                let mut lanes = [Four::new([0.0; 4]); LANES / 2];
                // A word is taken apart by shifts: as single bytes they would pass through a vector register.
                for row in group.as_chunks().0.iter().skip(half).step_by(2) {
                    let word = u64::from_le_bytes(*row);
                    for (lane, sum) in lanes.iter_mut().enumerate() {
                        let magnitude = (word >> (8 * lane)) as usize & 0x7f;
                        *sum = sum.plus(table.of[magnitude]);
                    }
                }
                lanes
            });
            // All formats at once, in the order in which lanes are added: 8 to 8, 4 to 4, ...
            let [mut sums, upper] = halves;
            for (sum, upper) in sums.iter_mut().zip(upper) {
                *sum = sum.plus(upper);
            }
            for half in [4, 2, 1] {
                for lane in 0..half {
                    sums[lane] = sums[lane].plus(sums[lane + half]);
                }
            }
            self.total(sums[0].numbers(), table.squared);
        }
    }

    #[inline(always)]
    fn add_all<const SIZE: usize>(
        &mut self,
        bytes: &[u8],
        not_finite: u32,
        value: impl Fn([u8; SIZE]) -> f32,
    ) {
        let mut group = [0_f32; GROUP];
        for part in bytes.chunks(GROUP * SIZE) {
            let elements = part.as_chunks::<SIZE>().0;
            if let Ok(whole) = <&[[u8; SIZE]; GROUP]>::try_from(elements) {
                for (to, from) in group.iter_mut().zip(whole) {
                    *to = value(*from);
                }
            } else {
                group = [0.0; GROUP];
                for (to, from) in group.iter_mut().zip(elements) {
                    *to = value(*from);
                }
            }
            self.add_group(&mut group, not_finite);
        }
    }

    #[inline(always)]
    fn add_group(&mut self, group: &mut [f32; GROUP], not_finite: u32) {
        let mut most = [0_i32; LANES];
        for row in group.as_chunks::<LANES>().0 {
            for (most, x) in most.iter_mut().zip(row) {
                *most = (*most).max((x.to_bits() & 0x7fff_ffff).cast_signed());
            }
        }
        let most = most.into_iter().fold(0, i32::max).cast_unsigned();
        if most >= not_finite {
            self.skipped += 1;
            return;
        }
        self.groups += 1;
        if most == 0 {
            return;
        }
        let mut greatest = f32::from_bits(most);
        let mut scaled_by = 1.0;
        if greatest < TINY {
            for x in group.iter_mut() {
                *x *= SCALE_UP;
            }
            greatest *= SCALE_UP;
            scaled_by = f64::from(SCALE_UP);
        }
        let [int8, int4, e4m3] = ratios(greatest);
        let mut sums = [[0_f32; LANES]; 3];
        for row in group.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let squares = squares(row[lane], [int8, int4, e4m3]);
                for (sums, square) in sums.iter_mut().zip(squares) {
                    sums[lane] += square;
                }
            }
        }
        for sums in &mut sums {
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    sums[lane] += sums[lane + half];
                }
            }
        }
        self.total(sums.map(|sums| sums[0]), squared([int8, int4, e4m3], scaled_by));
    }

    /// Takes in what a group has in each format, over these squares of what it was multiplied by.
    #[inline(always)]
    fn total(&mut self, sums: [f32; 3], squared: [f64; 3]) {
        for ((sum, squared), total) in sums.into_iter().zip(squared).zip(&mut self.sums) {
            total.add_scaled(f64::from(sum) / squared, UNIT);
        }
    }
}

/// What rounding each magnitude of a format changes in a group with a certain greatest one.
struct Squares {
    /// The squares of what they are multiplied by, for each format.
    squared: [f64; 3],
    /// By magnitude; the fourth number, a zero, makes a whole register of it.
    of: [Four; 1 << 7],
}

impl Squares {
    /// Computes them for elements up to the greatest.
    fn beside(element: Element, greatest: u8) -> Box<Self> {
        let value = |magnitude: u8| element.value(u32::from(magnitude)) as f32;
        let ratios = ratios(value(greatest));
        let mut table = Box::new(Self {
            squared: squared(ratios, 1.0),
            of: [Four::new([0.0; 4]); 1 << 7],
        });
        for (magnitude, of) in (0..=greatest).zip(&mut table.of) {
            let [int8, int4, e4m3] = squares(value(magnitude), ratios);
            *of = Four::new([int8, int4, e4m3, 0.0]);
        }
        table
    }
}

/// Returns what elements are multiplied by, for each format.
#[inline(always)]
fn ratios(greatest: f32) -> [f32; 3] {
    [127.0 / greatest, 7.0 / greatest, 448.0 / greatest]
}

/// Returns the squares of them, beside what else elements were multiplied by.
#[inline(always)]
fn squared(ratios: [f32; 3], scaled_by: f64) -> [f64; 3] {
    ratios.map(|ratio| {
        let ratio = f64::from(ratio) * scaled_by;
        ratio * ratio
    })
}

/// Returns the squares of what rounding changes, for each format. It is the same for an element and its negative.
#[inline(always)]
fn squares(x: f32, [int8, int4, e4m3]: [f32; 3]) -> [f32; 3] {
    let (a, b, c) = (x * int8, x * int4, x * e4m3);
    let (a, b, c) = (a - to_whole(a), b - to_whole(b), c - to_e4m3(c));
    [a * a, b * b, c * c]
}

/// Rounds to a whole number, ties to even; the magnitude must be below 2^22.
#[inline(always)]
fn to_whole(y: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (y + SHIFT) - SHIFT
}

/// Rounds to what e4m3 can write, ties to even; the magnitude must be at most 448, but for rounding.
#[inline(always)]
fn to_e4m3(y: f32) -> f32 {
    const SHIFT: f32 = 24_576.0;
    let bits = y.to_bits();
    let normal = f32::from_bits((bits + 0x7_ffff + ((bits >> 20) & 1)) & 0xfff0_0000);
    let small = (y + SHIFT) - SHIFT;
    if bits & 0x7fff_ffff < 0x3c80_0000 {
        small
    } else {
        normal
    }
}

/// Reads a finite F16 exactly; one that is not finite becomes 65536 or more in magnitude, whatever its sign.
#[inline(always)]
pub(crate) fn half(bits: u16) -> f32 {
    const SCALE: f32 = (1_u128 << 112) as f32;
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * SCALE;
    f32::from_bits(magnitude.to_bits() | (u32::from(bits & 0x8000) << 16))
}

/// The same arithmetic with wider registers, where the processor has them. The compiler neither contracts nor
/// reorders it, so the bits are the same.
mod wide {
    use super::{Element, GroupErrors};

    #[cfg(target_arch = "x86_64")]
    pub(super) fn add(errors: &mut GroupErrors, element: Element, bytes: &[u8]) {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl") {
            #[expect(unsafe_code, reason = "the processor was asked for these instructions")]
            // SAFETY: both features were detected just above.
            unsafe {
                add_avx512(errors, element, bytes);
            }
        } else if std::arch::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "the processor was asked for these instructions")]
            // SAFETY: the feature was detected just above.
            unsafe {
                add_avx2(errors, element, bytes);
            }
        } else {
            errors.add_elements(element, bytes);
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn add(errors: &mut GroupErrors, element: Element, bytes: &[u8]) {
        errors.add_elements(element, bytes);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn add_avx512(errors: &mut GroupErrors, element: Element, bytes: &[u8]) {
        errors.add_elements(element, bytes);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_avx2(errors: &mut GroupErrors, element: Element, bytes: &[u8]) {
        errors.add_elements(element, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_up_for_a_byte_is_what_is_computed_for_it() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for element in [Element::F8E4m3, Element::F8E5m2] {
            // Groups with each greatest magnitude, those that are none among them, and a short one at the end.
            for most in 0..=127_u32 {
                let bytes: Vec<u8> = (0..3 * GROUP + 37)
                    .map(|_| {
                        let bits = random();
                        ((bits >> 8) % (most + 1)) as u8 | (bits & 0x80) as u8
                    })
                    .collect();
                let (mut found, mut computed) = (GroupErrors::default(), GroupErrors::default());
                found.add(element, &bytes);
                computed.add_all::<1>(&bytes, 0x7f80_0000, |[bits]| {
                    element.value(u32::from(bits)) as f32
                });
                assert_eq!(found, computed, "{element:?} {most}");
            }
        }
    }
}
