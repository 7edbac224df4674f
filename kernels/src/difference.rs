//! Two tensors of one format and one shape, held against each other.
//!
//! Element `i` goes into sum `i mod 8`, and the sums are added in order at the end, all in `f64`: the numbers depend on
//! the elements and their order only, not on where the tensors were cut. An element that is not finite on either side
//! stays out of the sums.

use crate::element::Element;
use crate::groups::half;
use crate::tally::TallyError;

const LANES: usize = 8;

/// What differs between two tensors, while their elements come in.
#[derive(Debug, Clone)]
pub struct Difference {
    element: Element,
    elements: u64,
    equal: u64,
    lanes: [Sums; LANES],
}

/// Sums over pairs of elements `a` and `b`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// `a²`
    pub first: f64,
    /// `b²`
    pub second: f64,
    /// `a b`
    pub product: f64,
    /// `(a - b)²`
    pub delta: f64,
}

impl Difference {
    /// Begins with nothing.
    #[must_use]
    pub fn new(element: Element) -> Self {
        Self {
            element,
            elements: 0,
            equal: 0,
            lanes: [Sums::default(); LANES],
        }
    }

    /// Takes the next elements of both, as little-endian bytes. What the longer one has more is ignored.
    ///
    /// # Errors
    /// When the first one's bytes end within an element.
    pub fn add(&mut self, a: &[u8], b: &[u8]) -> Result<(), TallyError> {
        if !a.len().is_multiple_of(self.element.size_bytes()) {
            return Err(TallyError::Ragged {
                element: self.element,
                bytes: a.len(),
            });
        }
        match self.element {
            Element::Bf16 => {
                self.add_all::<2>(a, b, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
            }
            Element::F16 => self.add_all::<2>(a, b, |b| {
                let value = half(u16::from_le_bytes(b));
                if value.abs() >= 65536.0 { f32::NAN } else { value }
            }),
            Element::F32 => self.add_all::<4>(a, b, f32::from_le_bytes),
            Element::F8E4m3 | Element::F8E5m2 => {
                let mut values = [0_f32; 256];
                for (bits, value) in (0_u32..).zip(&mut values) {
                    *value = self.element.value(bits) as f32;
                }
                self.add_all::<1>(a, b, |[b]| values[usize::from(b)]);
            }
        }
        Ok(())
    }

    /// Returns how many pairs came in.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns how many of them have the same bits on both sides.
    #[must_use]
    pub const fn equal(&self) -> u64 {
        self.equal
    }

    /// Returns the sums over all pairs.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut all = Sums::default();
        for lane in &self.lanes {
            all.add(lane);
        }
        all
    }

    fn add_all<const SIZE: usize>(&mut self, a: &[u8], b: &[u8], value: impl Fn([u8; SIZE]) -> f32) {
        let pairs = a.as_chunks::<SIZE>().0.iter().zip(b.as_chunks::<SIZE>().0);
        for (at, (a, b)) in (self.elements..).zip(pairs) {
            self.elements += 1;
            self.equal += u64::from(a == b);
            let (a, b) = (f64::from(value(*a)), f64::from(value(*b)));
            if a.is_finite() && b.is_finite() {
                let lane = &mut self.lanes[(at % LANES as u64) as usize];
                lane.first += a * a;
                lane.second += b * b;
                lane.product += a * b;
                lane.delta += (a - b) * (a - b);
            }
        }
    }
}

impl Sums {
    /// Takes in the sums over other pairs.
    pub fn add(&mut self, other: &Self) {
        self.first += other.first;
        self.second += other.second;
        self.product += other.product;
        self.delta += other.delta;
    }

    /// Returns the norm of the difference over the norm of the first, if that is not zero.
    #[must_use]
    pub fn relative_delta(&self) -> Option<f64> {
        (self.first > 0.0).then(|| (self.delta / self.first).sqrt())
    }

    /// Returns the cosine of the angle between both, if neither is zero.
    #[must_use]
    pub fn cosine(&self) -> Option<f64> {
        let norms = self.first.sqrt() * self.second.sqrt();
        (norms > 0.0).then(|| self.product / norms)
    }
}
