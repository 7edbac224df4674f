//! What the operands of products are rounded to.

/// The arithmetic of a forward pass. Sums are kept in `f32` in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights as stored, everything else `f32`: the reference.
    #[default]
    F32,
    /// Both operands of every product rounded to bfloat16, ties to even, as tensor cores take them. The
    /// residual stream, norms, softmax and loss stay `f32`.
    Bf16,
}

impl Precision {
    /// Returns what a product sees of this number.
    #[inline(always)]
    pub(crate) fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::Bf16 => to_bf16(x),
        }
    }
}

/// Rounds to the nearest bfloat16, ties to even. What is not a number stays so.
#[inline(always)]
fn to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { x } else { f32::from_bits(rounded) }
}

#[test]
fn rounding_is_to_nearest_even() {
    for (bits, expected) in [
        (0x3f80_0000_u32, 0x3f80_0000_u32),
        (0x3f80_8000, 0x3f80_0000),
        (0x3f81_8000, 0x3f82_0000),
        (0x3f80_8001, 0x3f81_0000),
        (0x7f7f_ffff, 0x7f80_0000),
        (0xff80_0000, 0xff80_0000),
        (0x8000_0001, 0x8000_0000),
    ] {
        assert_eq!(to_bf16(f32::from_bits(bits)).to_bits(), expected, "{bits:#x}");
    }
    assert!(to_bf16(f32::from_bits(0x7f80_0001)).is_nan());
}
