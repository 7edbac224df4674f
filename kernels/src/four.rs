//! Four numbers that are added at once. The compiler, left to itself, adds them one by one.

/// The numbers, in one register where the processor has such.
#[derive(Clone, Copy)]
pub(crate) struct Four(
    #[cfg(target_arch = "x86_64")] std::arch::x86_64::__m128,
    #[cfg(not(target_arch = "x86_64"))] [f32; 4],
);

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "every processor of this kind has these instructions")]
impl Four {
    #[inline(always)]
    pub(crate) fn new([a, b, c, d]: [f32; 4]) -> Self {
        // SAFETY: SSE is part of x86_64.
        Self(unsafe { std::arch::x86_64::_mm_setr_ps(a, b, c, d) })
    }

    #[inline(always)]
    pub(crate) fn plus(self, other: Self) -> Self {
        // SAFETY: SSE is part of x86_64.
        Self(unsafe { std::arch::x86_64::_mm_add_ps(self.0, other.0) })
    }

    /// Returns the first three of them.
    #[inline(always)]
    pub(crate) fn numbers(self) -> [f32; 3] {
        use std::arch::x86_64::{_mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps};
        // SAFETY: SSE is part of x86_64.
        unsafe {
            [
                _mm_cvtss_f32(self.0),
                _mm_cvtss_f32(_mm_shuffle_ps::<1>(self.0, self.0)),
                _mm_cvtss_f32(_mm_movehl_ps(self.0, self.0)),
            ]
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Four {
    pub(crate) fn new(numbers: [f32; 4]) -> Self {
        Self(numbers)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    pub(crate) fn numbers(self) -> [f32; 3] {
        [self.0[0], self.0[1], self.0[2]]
    }
}
