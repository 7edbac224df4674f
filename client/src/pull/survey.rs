//! What is here already: looked at, never changed.
//!
//! A name whose file has all its bytes is left alone. Of the others, bytes that a broken pull left in place
//! are used. Each byte is believed by a digest: of the chunk that it is all of, or of the whole file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::CHUNK_MAX;
use waag_schema::{ChunkDigest, Sha256};

use super::output::{Output, Source, Wanted};
use super::target::{Target, open_regular};
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::read::{blocking, cores};

/// Outputs that are looked at in one go, and their bytes: of small ones a task each would cost more than it does.
const GROUP_OUTPUTS: usize = 256;
const GROUP_BYTES: u64 = 64 << 20;

/// Where bytes of a chunk belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The output, by its place in [`Wanted::outputs`].
    pub(crate) output: usize,
    /// Where in the output.
    pub(crate) offset: u64,
    /// Which bytes of the chunk.
    pub(crate) within: Range<u32>,
}

impl Slot {
    /// Returns how many bytes it takes.
    pub(crate) const fn length(&self) -> u64 {
        (self.within.end - self.within.start) as u64
    }
}

/// What an output lacks. One that lacks nothing is not mentioned.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The output, by its place in [`Wanted::outputs`].
    pub(crate) output: usize,
    /// The first of its paths that is right, if any.
    pub(crate) present: Option<usize>,
    /// Its paths that are not right.
    pub(crate) absent: Vec<usize>,
    /// What has to be written into its partial file; nothing when it is present.
    pub(crate) wants: Vec<Want>,
}

/// A stretch of an output that is not there.
#[derive(Debug)]
pub(crate) struct Want {
    /// The chunk that has it.
    pub(crate) chunk: ChunkDigest,
    /// How long that is at least.
    pub(crate) length: u32,
    /// The content through which it is asked for, by its place in [`Wanted::contents`].
    pub(crate) content: usize,
    /// Where its bytes belong.
    pub(crate) slot: Slot,
}

/// Looks at all outputs, several at once.
pub(crate) async fn survey(
    target: &Arc<Target>,
    wanted: &Arc<Wanted>,
    progress: &Progress,
) -> Result<Vec<Standing>> {
    progress(Event::Began {
        phase: Phase::Compare,
        items: wanted.outputs.len() as u64,
        bytes: wanted
            .outputs
            .iter()
            .map(Output::size)
            .fold(0, u64::saturating_add),
    });
    let looked: Vec<Vec<Standing>> = stream::iter(groups(&wanted.outputs))
        .map(|group| {
            let (target, wanted, progress) = (Arc::clone(target), Arc::clone(wanted), Arc::clone(progress));
            blocking(move || {
                let mut look = Look {
                    target: &target,
                    wanted: &wanted,
                    buffer: Vec::new(),
                };
                let mut found = Vec::new();
                for index in group {
                    found.extend(look.at(index)?);
                    progress(Event::Advanced {
                        phase: Phase::Compare,
                        bytes: wanted.outputs[index].size(),
                    });
                }
                Ok::<_, ClientError>(found)
            })
        })
        .buffered(cores())
        .try_collect()
        .await?;
    progress(Event::Ended {
        phase: Phase::Compare,
    });
    Ok(looked.into_iter().flatten().collect())
}

/// Neighbouring outputs, bounded in number and bytes.
fn groups(outputs: &[Output]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, output) in outputs.iter().enumerate() {
        let size = output.size();
        match groups.last_mut() {
            Some(last) if last.len() < GROUP_OUTPUTS && bytes + size <= GROUP_BYTES => {
                last.end = index + 1;
                bytes += size;
            }
            _ => {
                groups.push(index..index + 1);
                bytes = size;
            }
        }
    }
    groups
}

struct Look<'a> {
    target: &'a Target,
    wanted: &'a Wanted,
    /// For one chunk, kept from one to the next.
    buffer: Vec<u8>,
}

impl Look<'_> {
    fn at(&mut self, index: usize) -> Result<Option<Standing>> {
        let wanted = self.wanted;
        let output = &wanted.outputs[index];
        let (mut present, mut absent) = (None, Vec::new());
        for (number, path) in output.paths.iter().enumerate() {
            let place = self.target.place(path)?;
            let right = match open_regular(&place, output.size())? {
                Some(file) => self.is_right(&file, output),
                None => false,
            };
            if right {
                present.get_or_insert(number);
            } else {
                absent.push(number);
            }
        }
        if absent.is_empty() {
            return Ok(None);
        }
        let wants = match present {
            Some(_) => Vec::new(),
            None => self.lacking(index)?,
        };
        Ok(Some(Standing {
            output: index,
            present,
            absent,
            wants,
        }))
    }

    /// Says whether each span of an output has a digest of its own, or is known here.
    fn goes_by_chunks(&self, output: &Output) -> bool {
        output.spans(&self.wanted.contents).all(|span| match span.source {
            Source::Literal(_) => true,
            Source::Chunk { whole, .. } => whole,
        })
    }

    /// Says whether a file of the output's length has all its bytes.
    fn is_right(&mut self, file: &File, output: &Output) -> bool {
        let wanted = self.wanted;
        if self.goes_by_chunks(output) {
            return output
                .spans(&wanted.contents)
                .all(|span| self.has(file, span.offset, &span.source));
        }
        output
            .digest
            .is_some_and(|digest| self.sha256(file).is_some_and(|found| found == digest))
    }

    /// Returns what the output's partial file lacks.
    fn lacking(&mut self, index: usize) -> Result<Vec<Want>> {
        let wanted = self.wanted;
        let output = &wanted.outputs[index];
        let resumed = self.target.resumed(&output.key, output.size())?;
        // By its chunks it is read below, once.
        if let Some(file) = &resumed
            && !self.goes_by_chunks(output)
            && self.is_right(file, output)
        {
            return Ok(Vec::new());
        }
        let mut wants = Vec::new();
        for span in output.spans(&wanted.contents) {
            let Source::Chunk {
                chunk,
                content,
                within,
                length,
                ..
            } = &span.source
            else {
                // Literals are written in any case.
                continue;
            };
            let there = resumed
                .as_ref()
                .is_some_and(|file| self.has(file, span.offset, &span.source));
            if !there {
                let slot = Slot {
                    output: index,
                    offset: span.offset,
                    within: within.clone(),
                };
                wants.push(Want {
                    chunk: *chunk,
                    length: *length,
                    content: *content,
                    slot,
                });
            }
        }
        Ok(wants)
    }

    /// Says whether a file has these bytes at this place. A part of a chunk has no digest to be compared with.
    fn has(&mut self, file: &File, offset: u64, source: &Source<'_>) -> bool {
        match source {
            Source::Literal(bytes) => bytes.chunks(CHUNK_MAX).enumerate().all(|(i, part)| {
                self.read(file, offset + (i * CHUNK_MAX) as u64, part.len())
                    .is_some_and(|found| found == part)
            }),
            Source::Chunk {
                chunk, within, whole, ..
            } => {
                *whole
                    && self
                        .read(file, offset, within.len())
                        .is_some_and(|found| ChunkDigest::of(found) == *chunk)
            }
        }
    }

    fn sha256(&mut self, file: &File) -> Option<Sha256> {
        let mut hasher = Sha256Hasher::default();
        let mut left = file.metadata().ok()?.len();
        let mut offset = 0;
        while left > 0 {
            let next = left.min(CHUNK_MAX as u64);
            hasher.update(self.read(file, offset, next as usize)?);
            offset += next;
            left -= next;
        }
        Some(hasher.finish())
    }

    fn read(&mut self, file: &File, offset: u64, length: usize) -> Option<&[u8]> {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let bytes = &mut self.buffer[..length];
        file.read_exact_at(bytes, offset).ok()?;
        Some(bytes)
    }
}
