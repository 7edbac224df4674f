//! Outputs being built: checked chunks go to all places that want them, complete outputs get their names.
//!
//! Budget: a byte is written once for each place that it belongs to, and zeros not at all where a new file
//! has them already; at most [`OPEN_MAX`] files are open; small outputs are made durable in batches, by one
//! flush each. Nothing that happens here is lost: what a partial file holds is found by the next pull.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use waag_schema::{ChunkDigest, FilePath, Sha256};

use super::claim::sha256_of;
use super::fetch::Lacking;
use super::output::{Output, Source, Wanted};
use super::survey::{Slot, Standing, Want};
use super::target::{Finished, Target};
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};

/// Files that are kept open; far below what a process may have.
const OPEN_MAX: usize = 128;
/// An output of this size is worth a flush of its own, so that it is there as early as possible.
const ALONE_FROM_BYTES: u64 = 8 << 20;
/// Smaller ones wait until they are so many.
const BATCH_OUTPUTS: usize = 4096;

/// An output that is not complete.
struct Building {
    standing: Standing,
    /// How many slots are empty.
    left: AtomicUsize,
}

/// Writes what comes to where it belongs.
pub(crate) struct Builder {
    target: Arc<Target>,
    wanted: Arc<Wanted>,
    progress: Progress,
    slots: HashMap<ChunkDigest, Vec<Slot>>,
    building: HashMap<usize, Building>,
    open: Mutex<Handles>,
    /// Complete, and without a name.
    ready: Mutex<Vec<usize>>,
    /// Digests of outputs that nobody has signed, as they were written.
    made: Mutex<HashMap<usize, Sha256>>,
    /// Whether nothing gets its name yet: what a name would replace is still read from.
    held: AtomicBool,
}

impl Builder {
    /// Takes what the survey has found; returns what has to come, too: each chunk once, in the order of files.
    pub(crate) fn new(
        target: Arc<Target>,
        wanted: Arc<Wanted>,
        standings: Vec<Standing>,
        progress: Progress,
    ) -> (Self, Vec<Lacking>) {
        let mut slots: HashMap<ChunkDigest, Vec<Slot>> = HashMap::new();
        let mut building = HashMap::with_capacity(standings.len());
        let mut lacking: Vec<Lacking> = Vec::new();
        for mut standing in standings {
            let wants = std::mem::take(&mut standing.wants);
            let left = AtomicUsize::new(wants.len());
            for want in wants {
                let Want {
                    chunk,
                    length,
                    content,
                    slot,
                } = want;
                let own = slots.entry(chunk).or_default();
                if own.is_empty() {
                    lacking.push(Lacking {
                        chunk,
                        content: wanted.contents[content].sha256,
                        length,
                    });
                }
                own.push(slot);
            }
            building.insert(standing.output, Building { standing, left });
        }
        let builder = Self {
            target,
            wanted,
            progress,
            slots,
            building,
            open: Mutex::default(),
            ready: Mutex::default(),
            made: Mutex::default(),
            held: AtomicBool::new(true),
        };
        (builder, lacking)
    }

    /// Names the files that take bytes from a content, for a message.
    pub(crate) fn shown(&self, content: &Sha256) -> String {
        self.wanted.shown(content)
    }

    /// Says whether a chunk has a place that waits for it.
    pub(crate) fn wants(&self, chunk: &ChunkDigest) -> bool {
        self.slots.contains_key(chunk)
    }

    /// Returns a path under which an output is right already.
    pub(crate) fn in_place(&self, output: usize) -> Option<&FilePath> {
        let paths = &self.wanted.outputs[output].paths;
        match self.building.get(&output) {
            None => paths.first(),
            Some(building) => building.standing.present.and_then(|present| paths.get(present)),
        }
    }

    /// Returns the paths that will be written to.
    pub(crate) fn to_write(&self) -> impl Iterator<Item = &FilePath> {
        self.building.iter().flat_map(|(output, building)| {
            let paths = &self.wanted.outputs[*output].paths;
            building.standing.absent.iter().map(|path| &paths[*path])
        })
    }

    /// Returns how many bytes the empty slots take.
    pub(crate) fn lacking_bytes(&self) -> u64 {
        self.slots.values().flatten().map(Slot::length).sum()
    }

    /// Writes the bytes that were made here, and finishes what lacks nothing else.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut order: Vec<usize> = self.building.keys().copied().collect();
        order.sort_unstable();
        for index in order {
            let building = &self.building[&index];
            if building.standing.present.is_none() {
                for span in self.wanted.outputs[index].spans(&self.wanted.contents) {
                    if let Source::Literal(bytes) = span.source {
                        self.write(index, span.offset, bytes, false)?;
                    }
                }
            }
            if building.left.load(Ordering::Acquire) == 0 {
                self.complete(index)?;
            }
        }
        Ok(())
    }

    /// Writes a checked chunk wherever it belongs, and names the outputs that are complete with it.
    pub(crate) fn take(&self, chunk: &ChunkDigest, raw: &[u8]) -> Result<()> {
        let slots = self.slots.get(chunk).map_or(&[][..], Vec::as_slice);
        let zeros = raw.iter().all(|byte| *byte == 0);
        for slot in slots {
            let bytes = raw.get(slot.within.start as usize..slot.within.end as usize);
            let bytes = bytes.ok_or_else(|| {
                let text = format!("the chunk {chunk} of {} bytes is too short for it", raw.len());
                ClientError::verification("recipe", text)
            })?;
            self.write(slot.output, slot.offset, bytes, zeros)?;
            let last = |building: &Building| building.left.fetch_sub(1, Ordering::AcqRel) == 1;
            if self.building.get(&slot.output).is_some_and(last) {
                self.complete(slot.output)?;
            }
        }
        Ok(())
    }

    /// Tells whoever watches that so many bytes have come from the site.
    pub(crate) fn advanced(&self, bytes: usize) {
        (self.progress)(Event::Advanced {
            phase: Phase::Receive,
            bytes: bytes as u64,
        });
    }

    /// Returns how many bytes of the outputs these chunks make.
    pub(crate) fn wanted_bytes<'c>(&self, chunks: impl Iterator<Item = &'c ChunkDigest>) -> u64 {
        let slots = chunks.filter_map(|chunk| self.slots.get(chunk)).flatten();
        slots.map(Slot::length).sum()
    }

    /// Names all outputs that are complete and wait for others; from now on names are given as they come.
    pub(crate) fn settle(&self) -> Result<()> {
        self.held.store(false, Ordering::Release);
        let ready = std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner));
        self.name(&ready)
    }

    fn write(&self, index: usize, offset: u64, bytes: &[u8], zeros: bool) -> Result<()> {
        let output = &self.wanted.outputs[index];
        let open = self.open(index, output)?;
        if zeros && open.zeros {
            return Ok(());
        }
        let failed = |e| ClientError::io("write", self.target.partial(&output.key))(e);
        open.file.write_all_at(bytes, offset).map_err(failed)
    }

    fn open(&self, index: usize, output: &Output) -> Result<Arc<Open>> {
        let mut handles = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = handles.open.get(&index) {
            return Ok(Arc::clone(open));
        }
        // Under the lock: two threads that both made the file would disagree about its zeros.
        let (file, new) = self.target.build(&output.key, output.size())?;
        let open = Arc::new(Open { file, zeros: new });
        handles.keep(index, Arc::clone(&open));
        Ok(open)
    }

    fn complete(&self, index: usize) -> Result<()> {
        let mut handles = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        handles.open.remove(&index);
        drop(handles);
        let output = &self.wanted.outputs[index];
        // An empty file has no bytes that would have made it.
        if self.building[&index].standing.present.is_none() && output.segments.is_empty() {
            self.target.build(&output.key, 0)?;
        }
        if self.building[&index].standing.present.is_none() && output.is_listed(&self.wanted.contents) {
            self.check_digest(output)?;
        }
        let held = self.held.load(Ordering::Acquire);
        if output.size() >= ALONE_FROM_BYTES && !held {
            return self.name(&[index]);
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(index);
        if ready.len() < BATCH_OUTPUTS || held {
            return Ok(());
        }
        let batch = std::mem::take(&mut *ready);
        drop(ready);
        self.name(&batch)
    }

    /// Hashes what was built.
    fn check_digest(&self, output: &Output) -> Result<()> {
        let found = sha256_of(&self.target.partial(&output.key))?;
        if output.digest.is_none_or(|listed| found == Some(listed)) {
            return Ok(());
        }
        let named = output.paths.first().map_or("a file", FilePath::as_str);
        let found = found.map(|found| found.to_string()).unwrap_or_default();
        let reason = format!("what was packed as it has the digest {found}");
        Err(ClientError::verification(named, reason))
    }

    /// Returns the digest of an output, which stands at this place; one that nobody has signed is read.
    pub(crate) fn digest(&self, index: usize, place: &Path) -> Result<Sha256> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.wanted.outputs[index].digest;
        if let Some(digest) = known.or_else(|| made().get(&index).copied()) {
            return Ok(digest);
        }
        let gone = || ClientError::Changed(place.to_owned());
        let digest = sha256_of(place)?.ok_or_else(gone)?;
        made().insert(index, digest);
        Ok(digest)
    }

    fn name(&self, outputs: &[usize]) -> Result<()> {
        let mut finished = Vec::with_capacity(outputs.len());
        for index in outputs {
            let (output, standing) = (&self.wanted.outputs[*index], &self.building[index].standing);
            let partial = self.target.partial(&output.key);
            let (source, own) = match standing.present {
                Some(present) => (self.target.place(&output.paths[present])?, None),
                None => (partial.clone(), standing.absent.first()),
            };
            let digest = self.digest(*index, &source)?;
            // Copies first: the partial file goes with its name.
            for (number, path) in standing
                .absent
                .iter()
                .skip(usize::from(own.is_some()))
                .enumerate()
            {
                finished.push(Finished {
                    built: self.target.copy(&source, &output.key, number)?,
                    path: output.paths[*path].clone(),
                    digest,
                });
            }
            finished.extend(own.map(|path| Finished {
                built: partial,
                path: output.paths[*path].clone(),
                digest,
            }));
        }
        self.target.name(&finished)?;
        for Finished { path, .. } in finished {
            (self.progress)(Event::Done {
                phase: Phase::Receive,
                path: path.to_string(),
            });
        }
        Ok(())
    }
}

/// A partial file.
struct Open {
    file: File,
    /// Whether it holds zeros wherever nothing was written since it was made.
    zeros: bool,
}

/// Partial files that are open; the one that was opened first goes first.
#[derive(Default)]
struct Handles {
    open: HashMap<usize, Arc<Open>>,
    order: VecDeque<usize>,
}

impl Handles {
    fn keep(&mut self, index: usize, open: Arc<Open>) {
        while self.open.len() >= OPEN_MAX {
            let Some(first) = self.order.pop_front() else {
                break;
            };
            self.open.remove(&first);
        }
        // Names of closed ones stay in the order until they come to its front, which is bounded here.
        if self.order.len() > 4 * OPEN_MAX {
            self.order.retain(|index| self.open.contains_key(index));
        }
        self.open.insert(index, open);
        self.order.push_back(index);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use waag_schema::content::{PlannerId, RecipeBuilder};

    use super::super::output::Content;
    use super::super::survey::survey;
    use super::*;
    use crate::event::silent;

    /// Files that lie one behind the other in a content, as in an archive, whatever its chunks.
    fn packed(files: usize, file_bytes: usize, chunk_bytes: usize) -> (Wanted, Vec<Vec<u8>>) {
        let bytes: Vec<u8> = (0..files * file_bytes).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut recipe = RecipeBuilder::new(PlannerId::FastCdc1);
        let chunks: Vec<Vec<u8>> = bytes.chunks(chunk_bytes).map(<[u8]>::to_vec).collect();
        for chunk in &chunks {
            recipe.push_chunk(ChunkDigest::of(chunk), chunk.len()).unwrap();
        }
        let content = Content {
            sha256: Sha256::of(b"archive"),
            recipe: recipe.finish(),
        };
        let outputs = bytes.chunks(file_bytes).enumerate().map(|(i, own)| {
            let begin = (i * file_bytes) as u64;
            let path = format!("{}/{i}.bin", i % 100).parse().unwrap();
            // The number makes contents distinct that happen to repeat.
            let mut output = Output::signed(Sha256::of(own), vec![path], 0, begin..begin + own.len() as u64);
            output.key = Sha256::of(&i.to_be_bytes());
            output
        });
        let wanted = Wanted {
            outputs: outputs.collect(),
            contents: vec![content],
        };
        (wanted, chunks)
    }

    async fn unpack(root: &Path, wanted: &Arc<Wanted>, chunks: &[Vec<u8>]) -> usize {
        let target = Arc::new(Target::open(root).unwrap());
        let standings = survey(&target, wanted, &silent()).await.unwrap();
        let (builder, lacking) = Builder::new(target, Arc::clone(wanted), standings, silent());
        builder.begin().unwrap();
        builder.settle().unwrap();
        let number = lacking.len();
        for one in lacking {
            let raw = chunks.iter().find(|raw| ChunkDigest::of(raw) == one.chunk);
            builder.take(&one.chunk, raw.unwrap()).unwrap();
        }
        builder.settle().unwrap();
        number
    }

    #[tokio::test]
    async fn many_files_come_out_of_the_chunks_of_one_archive() {
        let dir = tempfile::tempdir().unwrap();
        let (wanted, chunks) = packed(700, 1000, 4096);
        let wanted = Arc::new(wanted);
        let root = dir.path().join("out");
        assert_eq!(unpack(&root, &wanted, &chunks).await, chunks.len());
        let all = chunks.concat();
        for i in [0, 5, 331, 699] {
            let file = fs::read(root.join(format!("{}/{i}.bin", i % 100))).unwrap();
            assert_eq!(file, all[i * 1000..(i + 1) * 1000]);
        }
        // All of them are known again by their digests, though no chunk is all of one.
        assert_eq!(unpack(&root, &wanted, &chunks).await, 0);
        fs::remove_file(root.join("31/331.bin")).unwrap();
        assert_eq!(unpack(&root, &wanted, &chunks).await, 2);
    }
}
