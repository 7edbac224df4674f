//! Where each chunk of a push lies on this disk, to be read again when the site asks for it.
//!
//! Each chunk that is read again must still have its digest, and its file the inode, length and time that it had.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use waag_schema::ChunkDigest;
use waag_schema::content::chunk::StoredChunk;
use waag_schema::content::encoding::encode;
use waag_schema::content::frame::encode_frame_header;
use waag_schema::content::{FrameError, Recipe};

use crate::error::{ClientError, Result};
use crate::packed::ReadTar;
use crate::read::{ReadFile, Stamp};

/// Where a chunk can be read again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Which source.
    pub(crate) source: usize,
    offset: u64,
    pub(crate) length: u32,
}

/// Chunks one behind the other, as they travel.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the chunks as they are stored, without the digests and lengths in front of them.
    pub(crate) stored_bytes: u64,
}

/// Whether chunks travel as their bytes recommend, or as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Encoded,
    Raw,
}

/// What chunks are read from: files, tars of files, and bytes in memory.
#[derive(Debug)]
enum Source {
    File { local: PathBuf, stamp: Stamp },
    Tar(ReadTar),
    Memory(Vec<u8>),
}

/// Where each chunk of a push lies.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    sources: Vec<Source>,
    places: HashMap<ChunkDigest, Place>,
}

impl Frames {
    fn push(&mut self, chunk: &ChunkDigest, stored: StoredChunk<'_>) -> std::result::Result<(), FrameError> {
        let header = encode_frame_header(chunk, stored.stored_length())?;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&stored.header());
        self.bytes.extend_from_slice(stored.body());
        self.stored_bytes += stored.stored_length() as u64;
        Ok(())
    }
}

impl Sources {
    pub(crate) fn add_file(&mut self, file: &ReadFile) {
        let source = Source::File {
            local: file.local.clone(),
            stamp: file.stamp,
        };
        self.add(source, &file.recipe);
    }

    pub(crate) fn add_tar(&mut self, tar: ReadTar) {
        let recipe = tar.recipe.clone();
        self.add(Source::Tar(tar), &recipe);
    }

    pub(crate) fn add_bytes(&mut self, bytes: Vec<u8>, recipe: &Recipe) {
        self.add(Source::Memory(bytes), recipe);
    }

    fn add(&mut self, source: Source, recipe: &Recipe) {
        let index = self.sources.len();
        self.sources.push(source);
        let mut offset = 0;
        for piece in recipe.pieces() {
            self.places.entry(piece.chunk).or_insert(Place {
                source: index,
                offset,
                length: piece.length,
            });
            offset += u64::from(piece.length);
        }
    }

    /// Returns how many distinct chunks there are.
    pub(crate) fn chunks(&self) -> u64 {
        self.places.len() as u64
    }

    pub(crate) fn place(&self, chunk: &ChunkDigest) -> Option<Place> {
        self.places.get(chunk).copied()
    }

    /// Reads chunks again, encodes and frames them. Each must still have its digest.
    pub(crate) fn frames(&self, chunks: &[ChunkDigest], form: Form) -> Result<Frames> {
        let mut frames = Frames::default();
        let mut open: Option<(usize, File)> = None;
        for chunk in chunks {
            let place = self.place(chunk).ok_or_else(|| unknown(chunk))?;
            let mut raw = vec![0; place.length as usize];
            match &self.sources[place.source] {
                Source::Memory(bytes) => {
                    let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
                    let part = bytes.get(start..).and_then(|rest| rest.get(..raw.len()));
                    raw.copy_from_slice(part.ok_or_else(|| unknown(chunk))?);
                }
                Source::Tar(tar) => {
                    tar.fill(place.offset, &mut raw)?;
                    if ChunkDigest::of(&raw) != *chunk {
                        return Err(ClientError::Changed(tar.local_at(place.offset)));
                    }
                }
                Source::File { local, stamp } => {
                    if open.as_ref().is_none_or(|(source, _)| *source != place.source) {
                        open = Some((place.source, reopen(local, *stamp)?));
                    }
                    let changed = |_| ClientError::Changed(local.clone());
                    if let Some((_, file)) = &open {
                        file.read_exact_at(&mut raw, place.offset).map_err(changed)?;
                    }
                    if ChunkDigest::of(&raw) != *chunk {
                        return Err(ClientError::Changed(local.clone()));
                    }
                }
            }
            let odd = |e: &dyn std::fmt::Display| ClientError::Usage(format!("chunk {chunk}: {e}"));
            match form {
                Form::Encoded => frames.push(chunk, encode(&raw).map_err(|e| odd(&e))?.stored()),
                Form::Raw => frames.push(chunk, StoredChunk::raw(&raw).map_err(|e| odd(&e))?),
            }
            .map_err(|e| odd(&e))?;
        }
        Ok(frames)
    }
}

pub(crate) fn reopen(local: &Path, stamp: Stamp) -> Result<File> {
    let file = File::open(local).map_err(|_| ClientError::Changed(local.to_owned()))?;
    let meta = file.metadata().map_err(ClientError::io("read", local))?;
    if Stamp::of(&meta) != stamp {
        return Err(ClientError::Changed(local.to_owned()));
    }
    Ok(file)
}

fn unknown(chunk: &ChunkDigest) -> ClientError {
    ClientError::verification(
        "upload",
        format_args!("the site asks for the chunk {chunk}, which is not part of it"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::event::silent;
    use crate::read::tests::{directory, noise};
    use crate::read::{cut, read_file};
    use waag_schema::content::frame::FrameDecoder;

    #[test]
    fn chunks_are_read_again_as_frames_and_checked() {
        let mut bytes = noise(5 << 20);
        bytes[4 << 20..].fill(7);
        let (_dir, found) = directory("data.bin", &bytes);
        let file = read_file(&found, &silent()).unwrap();
        let mut sources = Sources::default();
        sources.add_file(&file);
        let config = b"{}".to_vec();
        sources.add_bytes(config.clone(), &cut(&config));
        let mut wanted: Vec<ChunkDigest> = file.recipe.pieces().iter().map(|p| p.chunk).collect();
        wanted.push(ChunkDigest::of(&config));
        let whole = [bytes.as_slice(), &config].concat();
        let sizes = [Form::Encoded, Form::Raw].map(|form| {
            let frames = sources.frames(&wanted, form).unwrap();
            let (mut decoder, mut input) = (FrameDecoder::new(), frames.bytes.as_slice());
            let (mut back, mut stored_bytes) = (Vec::new(), 0);
            while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                let stored = StoredChunk::parse(&frame.stored).unwrap();
                back.extend_from_slice(&stored.verify(&frame.chunk).unwrap());
                stored_bytes += frame.stored.len() as u64;
            }
            assert!(back == whole, "{form:?}");
            assert_eq!(stored_bytes, frames.stored_bytes);
            stored_bytes
        });
        assert!(sizes[0] < sizes[1], "{sizes:?}");

        // Same length, other bytes, and the old time: only the digest tells.
        let modified = fs::metadata(&found.local).unwrap().modified().unwrap();
        let mut other = bytes;
        other[0] ^= 1;
        let handle = fs::OpenOptions::new().write(true).open(&found.local).unwrap();
        handle.write_all_at(&other, 0).unwrap();
        handle.set_modified(modified).unwrap();
        assert!(matches!(
            sources.frames(&wanted, Form::Raw),
            Err(ClientError::Changed(_))
        ));
        assert!(matches!(
            sources.frames(&[ChunkDigest::of(b"never seen")], Form::Raw),
            Err(ClientError::Verification { .. })
        ));
    }
}
