//! Where each chunk of a push lies on this disk, to be read again when the site asks for it.
//!
//! A file that is read again must have the inode, length and time that it had; that each chunk still has its digest is
//! what the site checks, so nothing is hashed twice here unless it finds one wrong.

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
    fn with_room_for(raw_bytes: u64) -> Self {
        let raw_bytes = usize::try_from(raw_bytes).unwrap_or(0);
        Self {
            // Headers are small beside what most encodings save.
            bytes: Vec::with_capacity(raw_bytes + (raw_bytes >> 6)),
            stored_bytes: 0,
        }
    }

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

    /// Reads chunks again, encodes and frames them. Who receives them checks their digests; [`Sources::check`] says
    /// whose fault it is when one is wrong.
    pub(crate) fn frames(&self, chunks: &[ChunkDigest], form: Form) -> Result<Frames> {
        let lengths = chunks.iter().filter_map(|chunk| self.place(chunk));
        let mut frames = Frames::with_room_for(lengths.map(|place| u64::from(place.length)).sum());
        let mut reading = Reading::default();
        for chunk in chunks {
            let raw = self.read(chunk, &mut reading)?;
            let odd = |e: &dyn std::fmt::Display| ClientError::Usage(format!("chunk {chunk}: {e}"));
            match form {
                Form::Encoded => frames.push(chunk, encode(raw).map_err(|e| odd(&e))?.stored()),
                Form::Raw => frames.push(chunk, StoredChunk::raw(raw).map_err(|e| odd(&e))?),
            }
            .map_err(|e| odd(&e))?;
        }
        Ok(frames)
    }

    /// Checks that chunks still have their digests on this disk.
    ///
    /// # Errors
    /// Which file has changed.
    pub(crate) fn check(&self, chunks: &[ChunkDigest]) -> Result<()> {
        let mut reading = Reading::default();
        for chunk in chunks {
            if ChunkDigest::of(self.read(chunk, &mut reading)?) == *chunk {
                continue;
            }
            let place = self.place(chunk).ok_or_else(|| unknown(chunk))?;
            match &self.sources[place.source] {
                Source::Memory(_) => return Err(unknown(chunk)),
                Source::Tar(tar) => return Err(ClientError::Changed(tar.local_at(place.offset))),
                Source::File { local, .. } => return Err(ClientError::Changed(local.clone())),
            }
        }
        Ok(())
    }

    fn read<'a>(&self, chunk: &ChunkDigest, reading: &'a mut Reading) -> Result<&'a [u8]> {
        let place = self.place(chunk).ok_or_else(|| unknown(chunk))?;
        let length = place.length as usize;
        if reading.bytes.len() < length {
            reading.bytes.resize(length, 0);
        }
        let raw = &mut reading.bytes[..length];
        match &self.sources[place.source] {
            Source::Memory(bytes) => {
                let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
                let part = bytes.get(start..).and_then(|rest| rest.get(..length));
                raw.copy_from_slice(part.ok_or_else(|| unknown(chunk))?);
            }
            Source::Tar(tar) => {
                // Between its members a tar has zeros.
                raw.fill(0);
                tar.fill(place.offset, raw)?;
            }
            Source::File { local, stamp } => {
                let file = match reading.open.take() {
                    Some((source, file)) if source == place.source => file,
                    _ => reopen(local, *stamp)?,
                };
                file.read_exact_at(raw, place.offset)
                    .map_err(|_| ClientError::Changed(local.clone()))?;
                reading.open = Some((place.source, file));
            }
        }
        Ok(raw)
    }
}

/// The file that was read last, and memory for a chunk that is used again for the next.
#[derive(Debug, Default)]
struct Reading {
    open: Option<(usize, File)>,
    bytes: Vec<u8>,
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
        sources.check(&wanted).unwrap();
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
        assert!(matches!(sources.check(&wanted), Err(ClientError::Changed(_))));
        assert!(matches!(
            sources.frames(&[ChunkDigest::of(b"never seen")], Form::Raw),
            Err(ClientError::Verification { .. })
        ));
    }
}
