//! The bytes of each element, split by position.
//!
//! ```text
//! body  = form u8 | plane 0 | .. | plane (width - 1) | tail
//! form    0x02: elements of 2 bytes     0x12: the same, each rotated left by one bit
//!         0x04: elements of 4 bytes     0x14: the same, each rotated left by one bit
//! plane = coding u8 | length u32be | that many bytes
//! coding  0: the plane's bytes   1: one zstd frame that states its length
//! tail  = the raw length mod width last bytes, as they are
//! ```
//! Elements are little-endian integers, n = raw length / width of them (at least one); plane k has n bytes,
//! the bits 8k to 8k + 7 of each element. Rotating left by one moves the sign of a bfloat16 or a float32 to the
//! lowest bit, so that the last plane is the exponent and nothing else. Of weights, that plane has 2.6 bits
//! of entropy in its 8, and the others have hardly less than 8.

use super::zstd::{self, Mode};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const PLANE_HEADER_BYTES: usize = 5;
/// The most planes of a form.
pub(super) const PLANES_MAX: usize = 4;
/// Elements split or joined at a time: a block of each plane stays in the nearest cache.
const BLOCK: usize = 2048;

/// How elements are cut into planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Halves,
    HalvesRotated,
    Words,
    WordsRotated,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [Self::Halves, Self::HalvesRotated, Self::Words, Self::WordsRotated];

    const fn code(self) -> u8 {
        match self {
            Self::Halves => 0x02,
            Self::HalvesRotated => 0x12,
            Self::Words => 0x04,
            Self::WordsRotated => 0x14,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.code() == code)
    }

    /// Returns the bytes of an element, which is also the number of planes.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Halves | Self::HalvesRotated => 2,
            Self::Words | Self::WordsRotated => 4,
        }
    }
}

/// How a plane is tried to be stored; one that does not get smaller is stored raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Raw,
    Literals,
    Runs,
}

/// Returns the body. `codings` has one for each plane at least.
pub(super) fn encode(raw: &[u8], form: Form, codings: [Coding; PLANES_MAX]) -> Vec<u8> {
    let width = form.width();
    let n = raw.len() / width;
    let (elements, tail) = raw.split_at(n * width);
    let mut split = vec![0; n * width];
    split_into(elements, form, &mut split, n);
    let mut body = Vec::with_capacity(1 + width * PLANE_HEADER_BYTES + raw.len());
    body.push(form.code());
    for (plane, coding) in split.chunks_exact(n.max(1)).zip(codings) {
        let coded = match coding {
            Coding::Raw => None,
            Coding::Literals => zstd::compress(plane, Mode::Literals),
            Coding::Runs => zstd::compress(plane, Mode::Runs),
        };
        let (code, bytes) = match &coded {
            Some(frame) if frame.len() < plane.len() => (ZSTD, frame.as_slice()),
            _ => (RAW, plane),
        };
        body.push(code);
        body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        body.extend_from_slice(bytes);
    }
    body.extend_from_slice(tail);
    body
}

/// A plane as it stands in a body.
#[derive(Debug, Clone, Copy)]
struct Plane<'a> {
    zstd: bool,
    bytes: &'a [u8],
}

/// Returns the raw bytes. Everything is measured before anything is allocated.
pub(super) fn decode(body: &[u8], raw_length: usize) -> Result<Vec<u8>, &'static str> {
    let (code, mut rest) = body.split_first().ok_or("its body is empty")?;
    let form = Form::from_code(*code).ok_or("its form is not known")?;
    let width = form.width();
    let n = raw_length / width;
    if n == 0 {
        return Err("it is shorter than one element");
    }
    let mut planes = [Plane {
        zstd: false,
        bytes: &[],
    }; PLANES_MAX];
    for plane in &mut planes[..width] {
        (*plane, rest) = read_plane(rest, n)?;
    }
    if rest.len() != raw_length % width {
        return Err("its planes and tail do not fill its body");
    }
    let mut decoded: [Vec<u8>; PLANES_MAX] = [const { Vec::new() }; PLANES_MAX];
    for (plane, decoded) in planes.iter().zip(&mut decoded) {
        if plane.zstd {
            *decoded = zstd::decompress(plane.bytes, n)?;
        }
    }
    let mut sources: [&[u8]; PLANES_MAX] = [&[]; PLANES_MAX];
    for ((source, plane), decoded) in sources.iter_mut().zip(&planes).zip(&decoded) {
        *source = if plane.zstd { decoded } else { plane.bytes };
    }
    let mut raw = vec![0; raw_length];
    let (elements, tail) = raw.split_at_mut(n * width);
    join_into(sources, form, elements);
    tail.copy_from_slice(rest);
    Ok(raw)
}

fn read_plane(rest: &[u8], n: usize) -> Result<(Plane<'_>, &[u8]), &'static str> {
    const SHORT: &str = "it ends within a plane";
    let (header, rest) = rest.split_first_chunk::<PLANE_HEADER_BYTES>().ok_or(SHORT)?;
    let [coding, l0, l1, l2, l3] = *header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let (bytes, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
    let zstd = match coding {
        RAW if length == n => false,
        RAW => return Err("a raw plane has another length"),
        ZSTD => true,
        _ => return Err("a plane's coding is not known"),
    };
    Ok((Plane { zstd, bytes }, rest))
}

/// Cuts whole elements into planes of `n` bytes, one behind the other.
fn split_into(elements: &[u8], form: Form, planes: &mut [u8], n: usize) {
    match form {
        Form::Halves => split_halves::<0>(elements.as_chunks().0, planes, n),
        Form::HalvesRotated => split_halves::<1>(elements.as_chunks().0, planes, n),
        Form::Words => split_words::<0>(elements.as_chunks().0, planes, n),
        Form::WordsRotated => split_words::<1>(elements.as_chunks().0, planes, n),
    }
}

fn split_halves<const ROTATED: u32>(elements: &[[u8; 2]], planes: &mut [u8], n: usize) {
    let (low, high) = planes.split_at_mut(n);
    for ((element, low), high) in elements.iter().zip(low).zip(high) {
        let bits = u16::from_le_bytes(*element).rotate_left(ROTATED);
        *low = bits as u8;
        *high = (bits >> 8) as u8;
    }
}

fn split_words<const ROTATED: u32>(elements: &[[u8; 4]], planes: &mut [u8], n: usize) {
    for (index, block) in elements.chunks(BLOCK).enumerate() {
        for (k, plane) in planes.chunks_exact_mut(n).enumerate() {
            let part = &mut plane[index * BLOCK..];
            for (byte, element) in part.iter_mut().zip(block) {
                *byte = (u32::from_le_bytes(*element).rotate_left(ROTATED) >> (8 * k)) as u8;
            }
        }
    }
}

/// Fills whole elements from their planes.
fn join_into(planes: [&[u8]; PLANES_MAX], form: Form, elements: &mut [u8]) {
    match form {
        Form::Halves => join_halves::<0>(planes, elements.as_chunks_mut().0),
        Form::HalvesRotated => join_halves::<1>(planes, elements.as_chunks_mut().0),
        Form::Words => join_words::<0>(planes, elements.as_chunks_mut().0),
        Form::WordsRotated => join_words::<1>(planes, elements.as_chunks_mut().0),
    }
}

fn join_halves<const ROTATED: u32>(planes: [&[u8]; PLANES_MAX], elements: &mut [[u8; 2]]) {
    let [low, high, ..] = planes;
    for ((element, low), high) in elements.iter_mut().zip(low).zip(high) {
        let bits = u16::from(*low) | u16::from(*high) << 8;
        *element = bits.rotate_right(ROTATED).to_le_bytes();
    }
}

fn join_words<const ROTATED: u32>(planes: [&[u8]; PLANES_MAX], elements: &mut [[u8; 4]]) {
    let [p0, p1, p2, p3] = planes;
    for ((((element, p0), p1), p2), p3) in elements.iter_mut().zip(p0).zip(p1).zip(p2).zip(p3) {
        let bits = u32::from_le_bytes([*p0, *p1, *p2, *p3]);
        *element = bits.rotate_right(ROTATED).to_le_bytes();
    }
}
