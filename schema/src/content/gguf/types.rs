//! Element types of ggml: elements are stored in blocks, and a row (the first dimension) is whole blocks.

use super::error::GgufError;

/// The type of a tensor's elements, by ggml's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementType(u32);

/// Why a tensor of a known type cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShapeFault {
    Overflow,
    PartialBlock,
}

impl ShapeFault {
    pub(super) const fn of(self, name: String) -> GgufError {
        match self {
            Self::Overflow => GgufError::ShapeOverflow(name),
            Self::PartialBlock => GgufError::PartialBlock(name),
        }
    }
}

impl ElementType {
    /// Takes ggml's number; every number is taken, because new types come with each release of it.
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// Returns ggml's number.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }

    /// Returns ggml's name, and how many elements make a block of how many bytes, where it is known. (Type 9,
    /// `q8_1`, has had two sizes and stands in no file.)
    const fn layout(self) -> Option<(&'static str, u64, u64)> {
        Some(match self.0 {
            0 => ("f32", 1, 4),
            1 => ("f16", 1, 2),
            2 => ("q4_0", 32, 18),
            3 => ("q4_1", 32, 20),
            6 => ("q5_0", 32, 22),
            7 => ("q5_1", 32, 24),
            8 => ("q8_0", 32, 34),
            10 => ("q2_K", 256, 84),
            11 => ("q3_K", 256, 110),
            12 => ("q4_K", 256, 144),
            13 => ("q5_K", 256, 176),
            14 => ("q6_K", 256, 210),
            15 => ("q8_K", 256, 292),
            16 => ("iq2_xxs", 256, 66),
            17 => ("iq2_xs", 256, 74),
            18 => ("iq3_xxs", 256, 98),
            19 => ("iq1_s", 256, 50),
            20 => ("iq4_nl", 32, 18),
            21 => ("iq3_s", 256, 110),
            22 => ("iq2_s", 256, 82),
            23 => ("iq4_xs", 256, 136),
            24 => ("i8", 1, 1),
            25 => ("i16", 1, 2),
            26 => ("i32", 1, 4),
            27 => ("i64", 1, 8),
            28 => ("f64", 1, 8),
            29 => ("iq1_m", 256, 56),
            30 => ("bf16", 1, 2),
            34 => ("tq1_0", 256, 54),
            35 => ("tq2_0", 256, 66),
            39 => ("mxfp4", 32, 17),
            _ => return None,
        })
    }

    /// Returns ggml's name, where it is known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.layout().map(|(name, ..)| name)
    }

    /// Returns how many bytes a tensor of this shape has; none for a type that is not known.
    pub(super) fn bytes_of(self, shape: &[u64]) -> Result<Option<u64>, ShapeFault> {
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
            .ok_or(ShapeFault::Overflow)?;
        let Some((_, block, bytes)) = self.layout() else {
            return Ok(None);
        };
        if !shape.first().copied().unwrap_or(1).is_multiple_of(block) {
            return Err(ShapeFault::PartialBlock);
        }
        (elements / block)
            .checked_mul(bytes)
            .map(Some)
            .ok_or(ShapeFault::Overflow)
    }
}
