//! A model in the site's store: what a forward pass reads of it, chunk by chunk, each checked against its digest.
//!
//! Budget: a few chunks are kept, since small tensors share one and large ones are read in pieces of a chunk's size;
//! nothing is copied to a file.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use waag_kernels::language::ModelSource;
use waag_schema::ChunkDigest;
use waag_schema::content::recipe::Recipe;

use super::Progress;
use crate::content::Content;

/// Chunks that are kept: 4 MiB at most each.
const KEPT: usize = 8;

/// The files of a release, read from threads that are not the runtime's.
pub(super) struct StoreSource {
    pub(super) files: BTreeMap<String, Recipe>,
    pub(super) content: Content,
    pub(super) runtime: Handle,
    pub(super) progress: Progress,
    /// Ends reading: the runtime may be going.
    pub(super) cancel: Arc<AtomicBool>,
    pub(super) kept: Mutex<VecDeque<(ChunkDigest, Bytes)>>,
}

impl StoreSource {
    fn chunk(&self, digest: ChunkDigest) -> io::Result<Bytes> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = kept().iter().find(|(of, _)| *of == digest) {
            return Ok(bytes.clone());
        }
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped before the end, as asked"));
        }
        let stored = self.runtime.block_on(self.content.stored_chunk(&digest));
        let stored = stored.map_err(io::Error::other)?;
        let raw = Content::opened(&stored, digest)
            .ok_or_else(|| io::Error::other(format!("the stored chunk {digest} is damaged")))?;
        let mut kept = kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((digest, raw.clone()));
        Ok(raw)
    }
}

impl ModelSource for StoreSource {
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
            self.progress.passed(end - offset);
        }
        Ok(())
    }
}
