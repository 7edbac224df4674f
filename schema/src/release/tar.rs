//! The tar archives in which small files travel.
//!
//! Written by one rule, so that the same files make the same bytes: POSIX ustar, one header and the bytes of
//! each file in the order of their paths, padded to blocks of 512 bytes, two blocks of zeros at the end.
//! Owner, group and time are 0 and nameless, the mode is 0644. A pax header stands in front of a file only where
//! ustar cannot hold its path (more than 256 bytes, or not to be split at a `/`, or not ASCII) or its size
//! (8 GiB). Since nothing is free in it, a tar is checked by writing it again: [`TarCheck`] compares every
//! byte that is not a file's, so that what a tool unpacks is what the list of files says, and nothing else.

use crate::base::digest::{Sha256, Sha256Hasher};
use crate::base::name::FilePath;
use crate::content::safetensors::{Header, LENGTH_BYTES, SafetensorsError, header_length};

/// Everything in a tar begins at a multiple of this.
pub const BLOCK_BYTES: u64 = 512;
/// The two blocks that end a tar.
pub const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// The largest size that eleven octal digits hold.
const OCTAL_MAX: u64 = (1 << 33) - 1;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
const PAX_NAME: &[u8] = b"pax";

/// A tar is not the one that its list of files says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// What is between two files is not what belongs there.
    #[error("byte {at} is not what stands there in an archive of the files that are listed")]
    Frame {
        /// The first byte that is not.
        at: u64,
    },
    /// A file's bytes are not the ones that are listed.
    #[error("{path} has the digest {found}, {expected} is listed")]
    Digest {
        /// The file.
        path: FilePath,
        /// As listed.
        expected: Sha256,
        /// As found.
        found: Sha256,
    },
    /// A file is called safetensors and is not.
    #[error("{path}: {error}")]
    Safetensors {
        /// The file.
        path: FilePath,
        /// What is wrong.
        error: SafetensorsError,
    },
    /// The archive ends too early.
    #[error("it ends at byte {at}, before the end of the files that are listed")]
    Short {
        /// Where.
        at: u64,
    },
}

/// Returns what stands in front of a file's bytes.
#[must_use]
pub fn header(path: &FilePath, size: u64) -> Vec<u8> {
    let text = path.as_str();
    let split = split(text);
    let mut records = Vec::new();
    if split.is_none() {
        records.extend(record("path", text));
    }
    if size > OCTAL_MAX {
        records.extend(record("size", &size.to_string()));
    }
    let mut header = Vec::with_capacity(BLOCK_BYTES as usize);
    if !records.is_empty() {
        let length = records.len() as u64;
        header.extend_from_slice(&block(b"", PAX_NAME, length, b'x'));
        header.extend_from_slice(&records);
        pad(&mut header, length);
    }
    let size = if size > OCTAL_MAX { 0 } else { size };
    match split {
        Some((prefix, name)) => {
            header.extend_from_slice(&block(prefix.as_bytes(), name.as_bytes(), size, b'0'));
        }
        // For a reader that does not know pax: something to see.
        None => {
            let plain = text.bytes().map(|b| if b.is_ascii() { b } else { b'_' });
            let name: Vec<u8> = plain.take(NAME_BYTES).collect();
            header.extend_from_slice(&block(b"", &name, size, b'0'));
        }
    }
    header
}

/// Returns the length of what stands in front of a file's bytes.
#[must_use]
pub fn header_bytes(path: &FilePath, size: u64) -> u64 {
    if size <= OCTAL_MAX && split(path.as_str()).is_some() {
        BLOCK_BYTES
    } else {
        header(path, size).len() as u64
    }
}

/// Returns how many zeros follow so many bytes.
#[must_use]
pub const fn padding(size: u64) -> u64 {
    (BLOCK_BYTES - size % BLOCK_BYTES) % BLOCK_BYTES
}

/// Where the next file of a tar goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TarLayout {
    end: u64,
}

impl TarLayout {
    /// Places a file, and returns where its bytes begin; none if the tar would exceed 2^64 - 1 bytes.
    pub fn place(&mut self, path: &FilePath, size: u64) -> Option<u64> {
        let offset = self.end.checked_add(header_bytes(path, size))?;
        self.end = offset.checked_add(size)?.checked_add(padding(size))?;
        self.end.checked_add(END_BYTES)?;
        Some(offset)
    }

    /// Returns where the next header goes.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the tar's length, if nothing more is placed.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end + END_BYTES
    }
}

/// The two places of a path: none if ustar cannot hold it.
fn split(path: &str) -> Option<(&str, &str)> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= NAME_BYTES {
        return Some(("", path));
    }
    // The first `/` behind which the rest fits.
    let from = path.len() - NAME_BYTES - 1;
    let at = from + path[from..].find('/')?;
    (at <= PREFIX_BYTES).then(|| (&path[..at], &path[at + 1..]))
}

/// One record of a pax header. Its length counts its own digits.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// One header block. Names fit their fields, sizes eleven octal digits.
fn block(prefix: &[u8], name: &[u8], size: u64, kind: u8) -> [u8; BLOCK_BYTES as usize] {
    let mut block = [0; BLOCK_BYTES as usize];
    let mut set = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    set(0, name);
    set(100, b"0000644\0");
    set(108, b"0000000\0");
    set(116, b"0000000\0");
    set(124, format!("{size:011o}\0").as_bytes());
    set(136, b"00000000000\0");
    // The sum is taken with spaces in its place.
    set(148, b"        ");
    set(156, &[kind]);
    set(257, b"ustar\x0000");
    set(329, b"0000000\x000000000\0");
    set(345, prefix);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn pad(bytes: &mut Vec<u8>, size: u64) {
    bytes.resize(bytes.len() + padding(size) as usize, 0);
}

/// A file that a tar must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its path.
    pub path: FilePath,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length.
    pub size: u64,
}

/// Checks a tar as it streams by: every byte of it is a listed file's, or what our rule writes.
/// Memory: one header, and of a safetensors file its own.
#[derive(Debug)]
pub struct TarCheck {
    waiting: std::vec::IntoIter<Expected>,
    state: State,
    at: u64,
}

#[derive(Debug)]
enum State {
    /// These bytes must come, from the one at this place on; then the file, if there is one.
    Frame {
        bytes: Vec<u8>,
        done: usize,
        then: Option<Expected>,
    },
    /// So many bytes of a file are still to come.
    File {
        expected: Expected,
        left: u64,
        hasher: Sha256Hasher,
        head: Option<Head>,
    },
    /// Nothing may come.
    End,
}

/// The beginning of a safetensors file, as far as its header reaches.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    needed: Option<usize>,
}

impl TarCheck {
    /// Expects these files, in this order.
    #[must_use]
    pub fn new(files: Vec<Expected>) -> Self {
        let mut check = Self {
            waiting: files.into_iter(),
            state: State::End,
            at: 0,
        };
        check.state = check.next_frame(0);
        check
    }

    /// What stands behind a file of this size: padding, and the next header or the end.
    fn next_frame(&mut self, size: u64) -> State {
        let mut bytes = Vec::new();
        pad(&mut bytes, size);
        let then = self.waiting.next();
        match &then {
            Some(next) => bytes.extend(header(&next.path, next.size)),
            None => bytes.resize(bytes.len() + END_BYTES as usize, 0),
        }
        State::Frame { bytes, done: 0, then }
    }

    /// Takes the next bytes of the tar.
    ///
    /// # Errors
    /// When they are not what is expected; the check is over then.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        loop {
            let taken = match &mut self.state {
                State::End if bytes.is_empty() => return Ok(()),
                State::End => return Err(TarError::Frame { at: self.at }),
                State::Frame {
                    bytes: frame, done, ..
                } => {
                    let wanted = &frame[*done..];
                    let length = wanted.len().min(bytes.len());
                    let differs = wanted.iter().zip(bytes).position(|(a, b)| a != b);
                    if let Some(place) = differs {
                        return Err(TarError::Frame {
                            at: self.at + place as u64,
                        });
                    }
                    *done += length;
                    length
                }
                State::File {
                    expected,
                    left,
                    hasher,
                    head,
                } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    hasher.update(&bytes[..length]);
                    if let Some(head) = head {
                        head.take(&bytes[..length], expected)?;
                    }
                    *left -= length as u64;
                    length
                }
            };
            bytes = &bytes[taken..];
            self.at += taken as u64;
            if !self.advance()? && bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Goes on to the next state if this one is complete.
    fn advance(&mut self) -> Result<bool, TarError> {
        match std::mem::replace(&mut self.state, State::End) {
            State::Frame { bytes, done, then } if done == bytes.len() => {
                if let Some(expected) = then {
                    let head = expected.path.has_extension("safetensors").then(Head::default);
                    self.state = State::File {
                        left: expected.size,
                        hasher: Sha256Hasher::default(),
                        head,
                        expected,
                    };
                }
                Ok(true)
            }
            State::File {
                expected,
                left: 0,
                hasher,
                head,
            } => {
                let found = hasher.finish();
                if found != expected.sha256 {
                    return Err(TarError::Digest {
                        path: expected.path,
                        expected: expected.sha256,
                        found,
                    });
                }
                if let Some(head) = head {
                    head.finish(&expected)?;
                }
                self.state = self.next_frame(expected.size);
                Ok(true)
            }
            state => {
                self.state = state;
                Ok(false)
            }
        }
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<(), TarError> {
        match self.state {
            State::End => Ok(()),
            _ => Err(TarError::Short { at: self.at }),
        }
    }
}

impl Head {
    fn take(&mut self, bytes: &[u8], expected: &Expected) -> Result<(), TarError> {
        let limit = self.needed.unwrap_or(LENGTH_BYTES as usize);
        let wanted = limit.saturating_sub(self.bytes.len()).min(bytes.len());
        let (now, rest) = bytes.split_at(wanted);
        self.bytes.extend_from_slice(now);
        if self.needed.is_none()
            && let Some(first) = self.bytes.first_chunk()
        {
            let length = header_length(first, expected.size).map_err(|e| refused(expected, e))?;
            // At most 100 MB, and no more than the file has.
            self.needed = Some((LENGTH_BYTES + length) as usize);
            return self.take(rest, expected);
        }
        Ok(())
    }

    fn finish(self, expected: &Expected) -> Result<(), TarError> {
        let json = match self.needed {
            Some(_) => &self.bytes[LENGTH_BYTES as usize..],
            None => {
                return Err(refused(
                    expected,
                    SafetensorsError::FileTooShort { size: expected.size },
                ));
            }
        };
        Header::parse(json, expected.size).map_err(|e| refused(expected, e))?;
        Ok(())
    }
}

fn refused(expected: &Expected, error: SafetensorsError) -> TarError {
    TarError::Safetensors {
        path: expected.path.clone(),
        error,
    }
}
