//! What a few pieces of a chunk say about all of it: histograms, and the bits that they leave.
//!
//! Order-0 entropy, by position within elements of 2 and 4 bytes, rotated and not. Of weights that is all there
//! is to know; where repetition counts as well, a trial of the sample says more (see [`super::encode`]).

use super::planes::{Coding, Form, PLANES_MAX};

/// How many pieces of a chunk are looked at.
const PIECES: usize = 4;
/// The length of each: enough for histograms of 256 values, 1.5 % of the largest chunk.
const PIECE_BYTES: usize = 16 << 10;
/// A plane with more bits of entropy than this in its 8 is stored raw: decoding it would cost more than it saves.
const CODED_BELOW_BITS: f64 = 7.75;
/// Below this many bits, a code for single bytes (which takes one bit at least) wastes more than runs do.
const RUNS_BELOW_BITS: f64 = 1.0;
/// Frames have headers, whatever is in them.
const CODED_BITS_MIN: f64 = 0.01;
/// A wider form has to be better by this: it has more headers, and tables learnt from fewer bytes.
const WIDER_BY: f64 = 0.99;

type Histogram = [u32; 256];

/// A chunk's sample.
pub(super) struct Sample {
    bytes: Vec<u8>,
}

/// The best way to cut a sample into planes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub(super) form: Form,
    pub(super) codings: [Coding; PLANES_MAX],
    /// What it leaves, as a fraction of the raw bytes.
    pub(super) kept: f64,
}

impl Sample {
    /// Takes pieces from all over a chunk; each begins where an element may begin.
    pub(super) fn of(raw: &[u8]) -> Self {
        if raw.len() <= PIECES * PIECE_BYTES {
            return Self { bytes: raw.to_vec() };
        }
        let last = raw.len() - PIECE_BYTES;
        let pieces = (0..PIECES).map(|piece| {
            let start = last / (PIECES - 1) * piece / 4 * 4;
            &raw[start..start + PIECE_BYTES]
        });
        Self {
            bytes: pieces.collect::<Vec<_>>().concat(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bits of entropy of a byte, and the best split.
    pub(super) fn measure(&self) -> (f64, Split) {
        let plain = words::<0>(&self.bytes);
        let halves = [sum(&plain[0], &plain[2]), sum(&plain[1], &plain[3])];
        let bits = entropy(&sum(&halves[0], &halves[1]));
        let best = [
            split(Form::Halves, &halves),
            split(Form::HalvesRotated, &rotated_halves(&self.bytes)),
            split(Form::Words, &plain),
            split(Form::WordsRotated, &words::<1>(&self.bytes)),
        ]
        .into_iter()
        .reduce(|best, other| {
            let margin = if other.form.width() > best.form.width() {
                WIDER_BY
            } else {
                1.0
            };
            if other.kept < best.kept * margin {
                other
            } else {
                best
            }
        });
        (bits, best.expect("there are four forms"))
    }
}

fn split(form: Form, planes: &[Histogram]) -> Split {
    let mut codings = [Coding::Raw; PLANES_MAX];
    let mut bits = 0.0;
    for (coding, plane) in codings.iter_mut().zip(planes) {
        let entropy = entropy(plane);
        *coding = match entropy {
            raw if raw >= CODED_BELOW_BITS => Coding::Raw,
            runs if runs < RUNS_BELOW_BITS => Coding::Runs,
            _ => Coding::Literals,
        };
        bits += if *coding == Coding::Raw {
            8.0
        } else {
            entropy.max(CODED_BITS_MIN)
        };
    }
    Split {
        form,
        codings,
        kept: bits / (8 * form.width()) as f64,
    }
}

fn words<const ROTATED: u32>(bytes: &[u8]) -> [Histogram; 4] {
    let mut planes = [[0; 256]; 4];
    for word in bytes.as_chunks::<4>().0 {
        let word = u32::from_le_bytes(*word).rotate_left(ROTATED).to_le_bytes();
        for (plane, byte) in planes.iter_mut().zip(word) {
            plane[usize::from(byte)] += 1;
        }
    }
    planes
}

fn rotated_halves(bytes: &[u8]) -> [Histogram; 2] {
    let mut planes = [[0; 256]; 2];
    for half in bytes.as_chunks::<2>().0 {
        let half = u16::from_le_bytes(*half).rotate_left(1).to_le_bytes();
        for (plane, byte) in planes.iter_mut().zip(half) {
            plane[usize::from(byte)] += 1;
        }
    }
    planes
}

fn sum(a: &Histogram, b: &Histogram) -> Histogram {
    std::array::from_fn(|value| a[value] + b[value])
}

/// Returns the bits that a byte takes when each value is coded by its frequency alone. What a small sample makes
/// too little of that is added (Miller 1955): (values seen - 1) / (2 x bytes x ln 2).
fn entropy(histogram: &Histogram) -> f64 {
    let total: u32 = histogram.iter().sum();
    let total = f64::from(total.max(1));
    let bits = histogram.iter().filter(|count| **count > 0).map(|count| {
        let count = f64::from(*count);
        count * (total / count).log2()
    });
    let bits = bits.sum::<f64>() / total;
    let seen = histogram.iter().filter(|count| **count > 0).count().max(1) as f64;
    (bits + (seen - 1.0) / (2.0 * total * std::f64::consts::LN_2)).min(8.0)
}
