//! The number formats of tensors, and how their bits are read.
//!
//! All are binary floating point as IEEE 754 lays it out, little-endian in files:
//!
//! ```text
//!         sign  exponent  mantissa   bias
//! BF16       1         8         7    127
//! F16        1         5        10     15
//! F32        1         8        23    127
//! F8_E4M3    1         4         3      7    no infinities: all ones is not a number, the rest of that exponent is
//! F8_E5M2    1         5         2     15
//!
//! exponent 0          ±0 where the mantissa is 0, else subnormal: ± mantissa * 2^(1 - bias - mantissa bits)
//! exponent all ones   ±infinity where the mantissa is 0, else not a number
//! any other           ± (2^mantissa bits + mantissa) * 2^(exponent - bias - mantissa bits)
//! ```
//!
//! Invariant: nothing here rounds. Every finite element is an `f64`.

/// A format of floating-point elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// bfloat16: the upper half of an F32.
    Bf16,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// The 8-bit format of OCP and of safetensors with more precision, `E4M3FN`.
    F8E4m3,
    /// The one with more range.
    F8E5m2,
}

impl Element {
    /// Every format, in order.
    pub const ALL: [Self; 5] = [Self::Bf16, Self::F16, Self::F32, Self::F8E4m3, Self::F8E5m2];

    /// Returns the name that safetensors headers use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
        }
    }

    /// Returns the format of this safetensors name, or `None` for all others.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name() == name)
    }

    /// Returns how many bytes an element has.
    #[must_use]
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F8E4m3 | Self::F8E5m2 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Returns the width of the exponent field.
    #[must_use]
    pub const fn exponent_bits(self) -> u32 {
        match self {
            Self::Bf16 | Self::F32 => 8,
            Self::F16 | Self::F8E5m2 => 5,
            Self::F8E4m3 => 4,
        }
    }

    /// Returns the width of the mantissa field.
    #[must_use]
    pub const fn mantissa_bits(self) -> u32 {
        match self {
            Self::Bf16 => 7,
            Self::F16 => 10,
            Self::F32 => 23,
            Self::F8E4m3 => 3,
            Self::F8E5m2 => 2,
        }
    }

    /// Returns what is subtracted from the exponent field.
    #[must_use]
    pub const fn bias(self) -> i32 {
        (1 << (self.exponent_bits() - 1)) - 1
    }

    /// Returns the bits of positive infinity, beyond which nothing is a number. The format that has none answers
    /// with what is not a number.
    #[must_use]
    pub const fn infinity(self) -> u32 {
        match self {
            Self::F8E4m3 => 0x7f,
            _ => self.top_exponent() << self.mantissa_bits(),
        }
    }

    /// Says whether there are infinities.
    #[must_use]
    pub const fn has_infinities(self) -> bool {
        !matches!(self, Self::F8E4m3)
    }

    /// Returns the exponent field of infinities and of what is not a number: all ones.
    #[must_use]
    pub const fn top_exponent(self) -> u32 {
        (1 << self.exponent_bits()) - 1
    }

    /// Returns the binary exponent of the smallest subnormal, of which every finite element is a multiple.
    #[must_use]
    pub const fn unit_exponent(self) -> i32 {
        1 - self.bias() - self.mantissa_bits().cast_signed()
    }

    /// Takes the bits of an element apart; bits beyond the format's width are ignored.
    #[must_use]
    pub const fn fields(self, bits: u32) -> Fields {
        let exponent = bits >> self.mantissa_bits();
        Fields {
            negative: (exponent >> self.exponent_bits()) & 1 == 1,
            exponent: exponent & self.top_exponent(),
            mantissa: bits & ((1 << self.mantissa_bits()) - 1),
        }
    }

    /// Returns the value of these bits, exactly; some NaN for all that are none.
    #[must_use]
    pub fn value(self, bits: u32) -> f64 {
        let Fields {
            negative,
            exponent,
            mantissa,
        } = self.fields(bits);
        let bits = (exponent << self.mantissa_bits()) | mantissa;
        let magnitude = if bits == self.infinity() && self.has_infinities() {
            f64::INFINITY
        } else if bits >= self.infinity() {
            f64::NAN
        } else {
            let (steps, implicit) = match exponent {
                0 => (0, 0),
                normal => (normal - 1, 1 << self.mantissa_bits()),
            };
            f64::from(implicit + mantissa) * power_of_two(steps.cast_signed() + self.unit_exponent())
        };
        if negative { -magnitude } else { magnitude }
    }
}

/// The three fields of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// Whether the sign bit is set.
    pub negative: bool,
    /// The exponent field, with its bias.
    pub exponent: u32,
    /// The mantissa field, without the implicit one.
    pub mantissa: u32,
}

/// Returns 2 to the power of an exponent that is held within what `f64` has as normal numbers.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    let biased = exponent.clamp(-1022, 1023) + 1023;
    f64::from_bits(u64::from(biased.unsigned_abs()) << 52)
}
