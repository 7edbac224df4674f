//! Chunks that lie in files on this disk already, at whatever offset: an earlier version of a file, or
//! another file that has the same tensor.
//!
//! Files are cut as a push would cut them, and only chunks that are wanted are remembered. Nothing found here
//! is believed later: a chunk is read again to be copied and must then have its digest, so a file that
//! changes meanwhile costs a fetch and nothing else.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::ChunkDigest;
use waag_schema::content::{CHUNK_MAX, ChunkPlan, PlannerId};

use super::build::Builder;
use super::output::{Source, Wanted};
use super::target::{Target, open_any};
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::kept::KEPT_DIR;
use crate::read::{blocking, cores};

/// Two of the largest chunks: half of it stays valid while the other half is filled.
const WINDOW_BYTES: usize = 2 * CHUNK_MAX;

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    length: u32,
    chunk: ChunkDigest,
}

/// Why a file is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It is in the target: an earlier version, or another file of the release.
    Target,
    /// It is in a directory that was named.
    Named,
}

/// A file that may hold wanted chunks.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Where it lies.
    pub(crate) local: PathBuf,
    /// Why it is searched.
    pub(crate) why: Why,
}

/// A file, and the wanted chunks in it, in its order.
struct Holding {
    local: PathBuf,
    why: Why,
    places: Vec<Place>,
}

/// Files that are searched in a named directory, at most.
const FILES_MAX: usize = 1_000_000;

/// Lists the files of a directory that was named. Links to files are followed, as a Hugging Face cache has
/// them: nothing is believed for where it lies.
pub(crate) fn files_of(root: &Path) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).map_err(ClientError::io("list", &dir))? {
            let entry = entry.map_err(ClientError::io("list", &dir))?;
            let local = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() != KEPT_DIR {
                    waiting.push(local);
                }
            } else if local.is_file() && found.len() < FILES_MAX {
                found.push(Candidate {
                    local,
                    why: Why::Named,
                });
            }
        }
    }
    // Whatever the order in which the file system lists them, the same bytes are found at the same place.
    found.sort_by(|a, b| a.local.cmp(&b.local));
    Ok(found)
}

/// Wanted chunks that lie on this disk, each once.
#[derive(Default)]
pub(crate) struct Local {
    files: Vec<Holding>,
}

impl Local {
    /// Looks for wanted chunks: in outputs that are in place, and then in other files, several at once.
    pub(crate) async fn find(
        target: &Target,
        wanted: &Wanted,
        candidates: Vec<Candidate>,
        builder: &Arc<Builder>,
        progress: &Progress,
    ) -> Result<Self> {
        let mut all = in_place(target, wanted, builder)?;
        let sizes = candidates.iter().filter_map(|one| one.local.metadata().ok());
        progress(Event::Began {
            phase: Phase::Reuse,
            items: candidates.len() as u64,
            bytes: sizes.map(|meta| meta.len()).fold(0, u64::saturating_add),
        });
        let cut: Vec<Holding> = stream::iter(candidates)
            .map(|candidate| {
                let (builder, progress) = (Arc::clone(builder), Arc::clone(progress));
                blocking(move || look_in(candidate, &builder, &progress))
            })
            .buffered(cores())
            .try_collect()
            .await?;
        progress(Event::Ended { phase: Phase::Reuse });
        all.extend(cut);
        // Each chunk from one place, the first.
        let mut seen = HashSet::new();
        for file in &mut all {
            file.places.retain(|place| seen.insert(place.chunk));
        }
        all.retain(|file| !file.places.is_empty());
        Ok(Self { files: all })
    }

    /// Returns the chunks that were found, and why.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (&ChunkDigest, Why)> {
        let places = |file: &'_ Holding| file.why;
        self.files
            .iter()
            .flat_map(move |file| file.places.iter().map(move |place| (&place.chunk, places(file))))
    }

    /// Copies what was found to where it is wanted; returns the chunks that arrived.
    pub(crate) async fn copy(self, builder: &Arc<Builder>) -> Result<HashSet<ChunkDigest>> {
        let copied: Vec<Vec<ChunkDigest>> = stream::iter(self.files)
            .map(|file| {
                let builder = Arc::clone(builder);
                blocking(move || copy_from(&file, &builder))
            })
            .buffer_unordered(cores())
            .try_collect()
            .await?;
        Ok(copied.into_iter().flatten().collect())
    }
}

/// Outputs that are complete under their names: their recipes say where each chunk lies.
fn in_place(target: &Target, wanted: &Wanted, builder: &Builder) -> Result<Vec<Holding>> {
    let mut found = Vec::new();
    for (index, output) in wanted.outputs.iter().enumerate() {
        let Some(path) = builder.in_place(index) else {
            continue;
        };
        let mut places = Vec::new();
        for span in output.spans(&wanted.contents) {
            if let Source::Chunk {
                chunk,
                within,
                whole: true,
                ..
            } = span.source
                && builder.wants(&chunk)
            {
                places.push(Place {
                    offset: span.offset,
                    length: within.end,
                    chunk,
                });
            }
        }
        if !places.is_empty() {
            let local = target.place(path)?;
            found.push(Holding {
                local,
                why: Why::Target,
                places,
            });
        }
    }
    Ok(found)
}

fn look_in(candidate: Candidate, builder: &Builder, progress: &Progress) -> Result<Holding> {
    let Candidate { local, why } = candidate;
    let mut places = Vec::new();
    if let Some(file) = open(&local, why)? {
        let mut keep = |place: Place| {
            if builder.wants(&place.chunk) {
                places.push(place);
            }
        };
        let bytes = file.metadata().map_err(ClientError::io("read", &local))?.len();
        let mut first = [0; 16];
        let length = file
            .read_at(&mut first, 0)
            .map_err(ClientError::io("read", &local))?;
        let planner = ChunkPlan::for_blob(&first[..length], Some(bytes)).planner();
        let done = cut(&file, &local, planner, &mut keep)?;
        if !done && planner != PlannerId::FastCdc1 {
            cut(&file, &local, PlannerId::FastCdc1, &mut keep)?;
        }
        progress(Event::Advanced {
            phase: Phase::Reuse,
            bytes,
        });
    }
    Ok(Holding { local, why, places })
}

fn open(local: &Path, why: Why) -> Result<Option<File>> {
    match why {
        Why::Target => open_any(local),
        // One that may not be read, or has gone, is none to reuse.
        Why::Named => Ok(File::open(local).ok()),
    }
}

/// Cuts a file and names its chunks; says whether it could be cut this way to its end.
fn cut(file: &File, local: &Path, planner: PlannerId, keep: &mut impl FnMut(Place)) -> Result<bool> {
    let failed = |e| ClientError::io("read", local)(e);
    let size = file.metadata().map_err(failed)?.len();
    let mut plan = ChunkPlan::new(planner, Some(size));
    let mut window = vec![0; WINDOW_BYTES.min(usize::try_from(size).unwrap_or(WINDOW_BYTES).max(1))];
    let (mut start, mut filled) = (0_u64, 0);
    loop {
        while filled < window.len() {
            match file
                .read_at(&mut window[filled..], start + filled as u64)
                .map_err(failed)?
            {
                0 => break,
                read => filled += read,
            }
        }
        let at_end = start + filled as u64 >= size || filled < window.len();
        let mut taken = 0;
        loop {
            match plan.next_len(&window[taken..filled], at_end) {
                Ok(Some(length)) => {
                    keep(Place {
                        offset: start + taken as u64,
                        length: length as u32,
                        chunk: ChunkDigest::of(&window[taken..taken + length]),
                    });
                    taken += length;
                }
                Ok(None) => break,
                // No safetensors file, or it changes: what was found so far is as good as it is.
                Err(_) => return Ok(false),
            }
        }
        if at_end {
            return Ok(true);
        }
        window.copy_within(taken..filled, 0);
        filled -= taken;
        start += taken as u64;
    }
}

fn copy_from(holding: &Holding, builder: &Builder) -> Result<Vec<ChunkDigest>> {
    let Some(file) = open(&holding.local, holding.why)? else {
        return Ok(Vec::new());
    };
    let mut done = Vec::with_capacity(holding.places.len());
    let mut buffer = Vec::new();
    for place in &holding.places {
        buffer.resize(place.length as usize, 0);
        let same =
            file.read_exact_at(&mut buffer, place.offset).is_ok() && ChunkDigest::of(&buffer) == place.chunk;
        if same {
            builder.take(&place.chunk, &buffer)?;
            done.push(place.chunk);
        }
    }
    Ok(done)
}
