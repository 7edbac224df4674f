//! Where a file is cut into chunks.
//!
//! Three planners, named so that a recipe can say which one made it:
//! - `tensors-1` cuts a safetensors file at its tensors. The length field and JSON are chunks of their own; a
//!   tensor of at least 64 KiB is cut from its own start into slices of whole rows, at most 4 MiB; smaller
//!   neighbours share a chunk of up to 1 MiB. So a chunk's bytes depend on its tensor alone: a renamed
//!   tensor, another sharding or a frozen layer yields the same chunks.
//! - `gguf-1` cuts a GGUF file the same way: header and padding in slices of at most 4 MiB, then its tensors with
//!   their padding, slices of 4 MiB each from its own start.
//! - `fastcdc-1` cuts everything else where its content says so (FastCDC 2020, normalisation level 1, no
//!   seed; 256 KiB, 1 MiB, 4 MiB).
//!
//! The cuts of a file depend on its bytes only, never on how a reader's buffer happened to fill. Budget: a
//! reader needs one buffer of [`CHUNK_MAX`] bytes; tensor cuts read nothing but the header; content-defined
//! cuts read each byte once. Hashing chunks and storing them is the caller's work.

mod id;
mod tensors;

pub use self::id::{PlannerId, UnknownPlanner};
use self::tensors::TensorCursor;
pub use self::tensors::{plan_gguf, plan_tensors};
use super::gguf::{self, GgufError, Reading};
use super::safetensors::{Header, LENGTH_BYTES, SafetensorsError, header_length};
use crate::base::name::FilePath;

/// No chunk is larger: 4 MiB. A buffer of this size per worker is affordable, a hundred gigabytes make a
/// recipe of 1.5 MB, and a larger chunk would lose deduplication (16 MiB stores 3 % more of a family).
pub const CHUNK_MAX: usize = 4 << 20;
/// A tensor below this size shares a chunk with its neighbours: alone it would cost more in bookkeeping.
const SHARED_BELOW_BYTES: u64 = 64 << 10;
/// Shared chunks stop here, so that one changed bias does not make megabytes new.
const SHARED_MAX_BYTES: u64 = 1 << 20;
/// The smallest content-defined chunk, but for a file's last.
const CDC_MIN: usize = 256 << 10;
/// The size that content-defined chunks gather around.
const CDC_AVERAGE: usize = 1 << 20;

/// A file cannot be cut as planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The file is called safetensors and is not. The caller decides: refuse it, or start again from the
    /// first byte with [`PlannerId::FastCdc1`].
    #[error(transparent)]
    Header(#[from] SafetensorsError),
    /// The file is called GGUF and is not. The caller decides likewise.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The file is not as long as was said (by the caller, or by its own header).
    #[error("expected a file of {expected} bytes, found {found}{}", if *.more { " or more" } else { "" })]
    Size {
        /// What was said.
        expected: u64,
        /// What came.
        found: u64,
        /// Whether the file goes on behind what came.
        more: bool,
    },
}

/// Cuts one file, window by window.
///
/// ```text
/// loop { fill the buffer; while let Some(n) = plan.next_len(window, at_end)? { chunk = window[..n]; advance n }
///        if at_end { break } }
/// ```
#[derive(Debug, Clone)]
pub struct ChunkPlan {
    planner: PlannerId,
    size: Option<u64>,
    done: u64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// The length field has not been seen.
    Start,
    /// A header of more than one chunk is being collected.
    Header { length: u64, collected: Vec<u8> },
    /// The tensors are known.
    Tensors { header: Header, cursor: TensorCursor },
    /// A GGUF header of unknown length is being collected.
    GgufHeader { collected: Vec<u8> },
    /// All of a GGUF header is known; so many bytes of it are not cut yet.
    Gguf {
        header: gguf::Header,
        header_left: u64,
        cursor: TensorCursor,
    },
    /// Content decides.
    Content,
}

impl ChunkPlan {
    /// Plans a file by its name: `.safetensors` and `.gguf` at its tensors, everything else by content. The size, where
    /// it is known, is checked against what comes.
    #[must_use]
    pub fn for_file(path: &FilePath, size: Option<u64>) -> Self {
        if path.has_extension("safetensors") {
            Self::new(PlannerId::Tensors1, size)
        } else if path.has_extension("gguf") {
            Self::new(PlannerId::Gguf1, size)
        } else {
            Self::new(PlannerId::FastCdc1, size)
        }
    }

    /// Plans a blob that came without a name by its first bytes (nine or more, where there are as many).
    ///
    /// What looks like safetensors may still fail at its header; then start again by content.
    #[must_use]
    pub fn for_blob(first: &[u8], size: Option<u64>) -> Self {
        let looks_like_tensors = first.get(8) == Some(&b'{')
            && first
                .first_chunk::<8>()
                .is_some_and(|first8| header_length(first8, size.unwrap_or(u64::MAX)).is_ok());
        let planner = if looks_like_tensors {
            PlannerId::Tensors1
        } else {
            PlannerId::FastCdc1
        };
        Self::new(planner, size)
    }

    /// Plans a file with a given planner.
    #[must_use]
    pub const fn new(planner: PlannerId, size: Option<u64>) -> Self {
        Self {
            planner,
            size,
            done: 0,
            state: match planner {
                PlannerId::Tensors1 => State::Start,
                PlannerId::FastCdc1 => State::Content,
                PlannerId::Gguf1 => State::GgufHeader {
                    collected: Vec::new(),
                },
            },
        }
    }

    /// Returns which planner this is.
    #[must_use]
    pub const fn planner(&self) -> PlannerId {
        self.planner
    }

    /// Returns the tensors, once their header has been cut; content-planned files have none.
    #[must_use]
    pub const fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Tensors { header, .. } => Some(header),
            _ => None,
        }
    }

    /// Returns the tensors of a GGUF file, once their header has been cut.
    #[must_use]
    pub const fn gguf(&self) -> Option<&gguf::Header> {
        match &self.state {
            State::Gguf { header, .. } => Some(header),
            _ => None,
        }
    }

    /// Returns the length of the next chunk: the first bytes of `window`, which starts where the last chunk
    /// ended. `at_end` says that nothing follows the window.
    ///
    /// `None` asks for a longer window, or, at the end, says that the file is complete. A window of
    /// [`CHUNK_MAX`] bytes is always long enough.
    ///
    /// # Errors
    /// When a header is refused, or the file is shorter or longer than was said.
    pub fn next_len(&mut self, window: &[u8], at_end: bool) -> Result<Option<usize>, PlanError> {
        let seen = self.done + window.len() as u64;
        if let Some(expected) = self.size
            && (seen > expected || (at_end && seen < expected))
        {
            return Err(PlanError::Size {
                expected,
                found: seen,
                more: !at_end,
            });
        }
        let length = match self.planner {
            PlannerId::FastCdc1 => next_cut(window, at_end),
            PlannerId::Tensors1 => self.next_at_tensors(window, at_end)?,
            PlannerId::Gguf1 => self.next_in_gguf(window)?,
        };
        self.done += length.unwrap_or(0) as u64;
        Ok(length)
    }

    fn next_at_tensors(&mut self, window: &[u8], at_end: bool) -> Result<Option<usize>, PlanError> {
        loop {
            match &mut self.state {
                State::Start => {
                    let Some(first8) = window.first_chunk::<8>() else {
                        let size = window.len() as u64;
                        return if at_end {
                            Err(SafetensorsError::FileTooShort { size }.into())
                        } else {
                            Ok(None)
                        };
                    };
                    let length = header_length(first8, self.size.unwrap_or(u64::MAX))?;
                    self.state = State::Header {
                        length: length + LENGTH_BYTES,
                        collected: Vec::new(),
                    };
                }
                State::Header { length, collected } => {
                    let left = *length - collected.len() as u64;
                    let next = left.min(CHUNK_MAX as u64) as usize;
                    let Some(piece) = window.get(..next) else {
                        if at_end {
                            let found = *length - LENGTH_BYTES;
                            let available = self.done + window.len() as u64 - LENGTH_BYTES;
                            return Err(SafetensorsError::HeaderBeyondFile { found, available }.into());
                        }
                        return Ok(None);
                    };
                    if left > next as u64 {
                        collected.extend_from_slice(piece);
                        return Ok(Some(next));
                    }
                    let header = if collected.is_empty() {
                        parse(&piece[LENGTH_BYTES as usize..], self.size)?
                    } else {
                        collected.extend_from_slice(piece);
                        parse(&collected[LENGTH_BYTES as usize..], self.size)?
                    };
                    let cursor = TensorCursor {
                        at: header.data_start(),
                        tensor: 0,
                    };
                    self.state = State::Tensors { header, cursor };
                    return Ok(Some(next));
                }
                State::Tensors { header, cursor } => {
                    let Some((next, moved)) = cursor.next(header) else {
                        if window.is_empty() {
                            return Ok(None);
                        }
                        return Err(PlanError::Size {
                            expected: header.file_size(),
                            found: self.done + window.len() as u64,
                            more: !at_end,
                        });
                    };
                    if window.len() < next as usize {
                        if at_end {
                            return Err(PlanError::Size {
                                expected: header.file_size(),
                                found: self.done + window.len() as u64,
                                more: false,
                            });
                        }
                        return Ok(None);
                    }
                    *cursor = moved;
                    return Ok(Some(next as usize));
                }
                State::Content | State::GgufHeader { .. } | State::Gguf { .. } => {
                    return Ok(next_cut(window, at_end));
                }
            }
        }
    }

    /// The header does not say how long it is, so it is read again from its start with each 4 MiB that come: at
    /// most sixteen times.
    fn next_in_gguf(&mut self, window: &[u8]) -> Result<Option<usize>, PlanError> {
        let size = self.size.ok_or(GgufError::SizeUnknown)?;
        if let State::GgufHeader { collected } = &mut self.state {
            let piece = &window[..window.len().min(CHUNK_MAX)];
            let cut = collected.len();
            collected.extend_from_slice(piece);
            match gguf::Header::read(collected, size)? {
                Reading::Whole(header) => {
                    let cursor = TensorCursor {
                        at: header.data_start(),
                        tensor: 0,
                    };
                    self.state = State::Gguf {
                        header_left: header.data_start() - cut as u64,
                        header,
                        cursor,
                    };
                }
                Reading::NeedsMore if piece.len() == CHUNK_MAX => return Ok(Some(CHUNK_MAX)),
                Reading::NeedsMore => {
                    collected.truncate(cut);
                    return Ok(None);
                }
            }
        }
        let State::Gguf {
            header,
            header_left,
            cursor,
        } = &mut self.state
        else {
            return Ok(None);
        };
        if *header_left > 0 {
            // What has been read is in the window, and that is all of the header.
            let next = *header_left as usize;
            *header_left = 0;
            return Ok(Some(next));
        }
        let Some((next, moved)) = cursor.next(header) else {
            return Ok(None);
        };
        if window.len() < next as usize {
            // Not at the end: the header fits the size, and the size what came.
            return Ok(None);
        }
        *cursor = moved;
        Ok(Some(next as usize))
    }
}

fn parse(json: &[u8], size: Option<u64>) -> Result<Header, SafetensorsError> {
    match size {
        Some(size) => Header::parse(json, size),
        None => Header::parse_unsized(json),
    }
}

/// Returns where content says that a chunk ends: the first bytes of `window`. `None` asks for a longer
/// window (at the end: there is nothing left).
///
/// A cut that a short window shows is the cut that any longer window shows, so a reader may ask before its
/// buffer is full; it should then fill it before it asks again, because each call scans from the start.
#[must_use]
pub fn next_cut(window: &[u8], at_end: bool) -> Option<usize> {
    use fastcdc::v2020::{Normalization, cut, select_masks};

    if window.is_empty() {
        return None;
    }
    let (small, large) = select_masks(CDC_AVERAGE, Normalization::Level1);
    let (_, length) = cut(
        window,
        CDC_MIN,
        CDC_AVERAGE,
        CHUNK_MAX,
        small,
        large,
        small << 1,
        large << 1,
    );
    // A window without a cut is returned whole: that is a chunk only if it is full, or nothing follows.
    (at_end || length < window.len() || length == CHUNK_MAX).then_some(length)
}
