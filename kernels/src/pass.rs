//! One pass over a tensor's bytes as they come, in pieces of any length.
//!
//! Invariant: what a pass has measured depends on the bytes and their order only, not on where they were cut. At most
//! one group of elements is held back between two pieces.

use crate::element::Element;
use crate::groups::{GROUP, GroupErrors};
use crate::summary::Summary;
use crate::tally::{Tally, TallyError};

/// What the numbers are made of, for the digest that a scorecard names.
pub const SOURCES: [&str; 8] = [
    include_str!("difference.rs"),
    include_str!("element.rs"),
    include_str!("four.rs"),
    include_str!("groups.rs"),
    include_str!("log2.rs"),
    include_str!("summary.rs"),
    include_str!("tally.rs"),
    include_str!("wide.rs"),
];

/// The version of the numbers: raised whenever the same bytes would give others, or more of them.
pub const REVISION: u32 = 1;

/// Measures a tensor while its bytes come in.
#[derive(Debug, Clone)]
pub struct Pass {
    tally: Tally,
    errors: GroupErrors,
    /// The beginning of a group.
    held: Vec<u8>,
}

impl Pass {
    /// Begins with nothing.
    #[must_use]
    pub fn new(element: Element) -> Self {
        Self {
            tally: Tally::new(element),
            errors: GroupErrors::default(),
            held: Vec::new(),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When there are more elements than can be tallied.
    pub fn add(&mut self, mut bytes: &[u8]) -> Result<(), TallyError> {
        let group = GROUP * self.tally.element().size_bytes();
        if !self.held.is_empty() {
            let lacking = (group - self.held.len()).min(bytes.len());
            let (first, rest) = bytes.split_at(lacking);
            self.held.extend_from_slice(first);
            bytes = rest;
            if self.held.len() < group {
                return Ok(());
            }
            let held = std::mem::take(&mut self.held);
            self.take(&held)?;
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % group);
        self.take(whole)?;
        self.held.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the tensor.
    ///
    /// # Errors
    /// When its bytes end within an element, or there are too many.
    pub fn finish(mut self) -> Result<Measured, TallyError> {
        let held = std::mem::take(&mut self.held);
        self.take(&held)?;
        Ok(Measured {
            tally: self.tally,
            errors: self.errors,
        })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TallyError> {
        // An error leaves the tally as it was, and the pass is of no more use.
        self.tally.add(bytes)?;
        self.errors.add(self.tally.element(), bytes);
        Ok(())
    }
}

/// A tensor, measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Its elements, in integers.
    pub tally: Tally,
    /// What quantising would lose.
    pub errors: GroupErrors,
}

impl Measured {
    /// Makes the measure of no elements.
    #[must_use]
    pub fn none(element: Element) -> Self {
        Self {
            tally: Tally::new(element),
            errors: GroupErrors::default(),
        }
    }

    /// Takes in another tensor.
    ///
    /// # Errors
    /// When that is of another format, or both together have too many elements.
    pub fn merge(&mut self, other: &Self) -> Result<(), TallyError> {
        self.tally.merge(&other.tally)?;
        self.errors.merge(&other.errors);
        Ok(())
    }

    /// Returns the numbers that people read.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(&self.tally)
    }
}
