//! A release that lies elsewhere, as the weigher reads it: any range of any file, chunk by chunk, over its line.
//!
//! Budget: a few chunks are kept, since small tensors share one and large ones are read in pieces of a chunk's size;
//! nothing is copied to a file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use waag_kernels::language::ModelSource;
use waag_schema::ChunkDigest;
use waag_schema::content::recipe::Recipe;

use super::line::{Line, Shelf};

/// Chunks that are kept: 4 MiB at most each.
const KEPT: usize = 8;

/// The files of a release.
pub(super) struct ShelfSource<'a> {
    files: &'a Shelf,
    line: &'a Line,
    kept: Mutex<VecDeque<(ChunkDigest, Bytes)>>,
}

impl<'a> ShelfSource<'a> {
    pub(super) const fn new(files: &'a Shelf, line: &'a Line) -> Self {
        Self {
            files,
            line,
            kept: Mutex::new(VecDeque::new()),
        }
    }

    fn chunk(&self, digest: ChunkDigest) -> io::Result<Bytes> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept().iter().find(|(of, _)| *of == digest) {
            return Ok(bytes.clone());
        }
        let mut raw = Bytes::new();
        self.line.each(&[digest], |bytes| {
            raw = bytes;
            Ok::<_, io::Error>(())
        })?;
        let mut kept = kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((digest, raw.clone()));
        Ok(raw)
    }
}

impl ModelSource for ShelfSource<'_> {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        Ok(self.files.get(file).map(Recipe::size))
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let recipe = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let end = offset.checked_add(into.len() as u64).ok_or_else(short)?;
        if end > recipe.size() {
            return Err(short());
        }
        let mut rest = &mut *into;
        for part in recipe.pieces_for(offset..end) {
            let raw = self.chunk(part.chunk)?;
            let own = raw.get(part.within.start as usize..part.within.end as usize);
            let own = own.ok_or_else(short)?;
            let (to, after) = rest.split_at_mut_checked(own.len()).ok_or_else(short)?;
            to.copy_from_slice(own);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(short());
        }
        if file.ends_with(".safetensors") {
            self.line.passed(end - offset);
        }
        Ok(())
    }
}
