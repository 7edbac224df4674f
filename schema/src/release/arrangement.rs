//! Which files of a release are layers of their own, and which are packed into which tar.
//!
//! The rule knows paths and sizes only, so that the same files are always arranged alike:
//! 1. Up to 1,000 files, each is a layer.
//! 2. Above, all files of at most T bytes are packed; T is the smallest power of two, 1 MiB or more, that leaves
//!    at most 900 files.
//! 3. Packed files fill tars in the order of their paths. A tar ends in front of the file with which it would
//!    exceed C bytes (a larger file has one to itself); C is the smallest power of two, 128 MiB or more, that
//!    gives at most 512 tars.
//!
//! So a statement names at most some 1,400 contents, requests do not grow with files, and a tar is large enough
//! that a million bytes cost one chunk, small enough that several are read at once.

use super::tar::TarLayout;
use crate::base::name::FilePath;

/// Up to this many files nothing is packed.
pub const UNPACKED_MAX: usize = 1000;
const ALONE_MAX: usize = 900;
const TARS_MAX: usize = 512;
const SMALL_BYTES: u64 = 1 << 20;
const TAR_BYTES: u64 = 128 << 20;

/// Files by their places in the list that was arranged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrangement {
    /// Those that are layers of their own.
    pub alone: Vec<usize>,
    /// Those of each tar; none is empty.
    pub tars: Vec<Vec<usize>>,
}

impl Arrangement {
    /// Arranges files, which stand in the order of their paths.
    #[must_use]
    pub fn of(files: &[(&FilePath, u64)]) -> Self {
        if files.len() <= UNPACKED_MAX {
            return Self {
                alone: (0..files.len()).collect(),
                tars: Vec::new(),
            };
        }
        let small = doubled(SMALL_BYTES, |limit| {
            files.iter().filter(|(_, size)| *size > limit).count() <= ALONE_MAX
        });
        let (packed, alone): (Vec<usize>, Vec<usize>) =
            (0..files.len()).partition(|index| files[*index].1 <= small);
        let mut tars = Vec::new();
        doubled(TAR_BYTES, |limit| {
            tars = fill(files, &packed, limit);
            tars.len() <= TARS_MAX
        });
        Self { alone, tars }
    }
}

/// Returns the smallest of a number's doublings that will do, or the largest that there is.
fn doubled(mut number: u64, mut will_do: impl FnMut(u64) -> bool) -> u64 {
    while !will_do(number) {
        match number.checked_mul(2) {
            Some(next) => number = next,
            None => break,
        }
    }
    number
}

fn fill(files: &[(&FilePath, u64)], packed: &[usize], limit: u64) -> Vec<Vec<usize>> {
    let mut tars: Vec<Vec<usize>> = Vec::new();
    let mut layout = TarLayout::default();
    for index in packed {
        let (path, size) = files[*index];
        let mut grown = layout;
        let fits = grown.place(path, size).is_some() && grown.size() <= limit;
        match tars.last_mut() {
            Some(tar) if fits => {
                tar.push(*index);
                layout = grown;
            }
            _ => {
                tars.push(vec![*index]);
                layout = TarLayout::default();
                // A file of this disk is no 2^64 bytes long; one that says so is refused when it is read.
                let _ = layout.place(path, size);
            }
        }
    }
    tars
}
