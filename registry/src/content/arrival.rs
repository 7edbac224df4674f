//! Files that are hashed while their chunks arrive, so that sealing them need not read them again.
//!
//! A run follows one file of one upload: it has the SHA-256 of the file's first pieces. Chunks come in any
//! order; one that is early is held in memory until its turn, within a budget that all runs share. One that
//! does not fit is let go, and the run ends before it: sealing reads the rest from the store. So everything
//! here may be forgotten at any moment, at the cost of that reading and of nothing else.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::recipe::Recipe;
use waag_schema::{ChunkDigest, Sha256};

use crate::pool::Pool;

/// Raw bytes of early chunks, of all uploads together.
const HELD_MAX_BYTES: usize = 64 << 20;
/// Pieces of all files that are followed: a terabyte in chunks of 4 MiB, some 40 MiB of memory.
const PIECES_MAX: usize = 1 << 18;
/// Pieces hashed in one job.
const PIECES_AT_ONCE: usize = 16;

/// The files that are being hashed as they arrive. Cheap to clone.
#[derive(Clone)]
pub(super) struct Arrivals {
    state: Arc<Mutex<State>>,
}

struct State {
    uploads: HashMap<Sha256, Upload>,
    /// The uploads, the oldest first.
    order: VecDeque<Sha256>,
    held_bytes: usize,
    held_max_bytes: usize,
    pieces: usize,
}

#[derive(Default)]
struct Upload {
    runs: HashMap<Sha256, Run>,
    /// Which files need a chunk.
    files_of: HashMap<ChunkDigest, Vec<Sha256>>,
}

struct Run {
    recipe: Recipe,
    /// None while a job is hashing.
    hasher: Option<Sha256Hasher>,
    /// How many pieces went into the hasher.
    next: usize,
    /// The first piece that will not come by.
    end: usize,
    /// The same, as it was when the run began.
    promised: usize,
    /// For each chunk before `end`: where it is needed first, and how often still.
    needs: HashMap<ChunkDigest, (usize, u32)>,
    early: HashMap<ChunkDigest, Bytes>,
}

/// The beginning of a file, hashed.
pub(super) struct Begun {
    pub(super) hasher: Sha256Hasher,
    /// How many of its pieces are in.
    pub(super) pieces: usize,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self::with_budget(HELD_MAX_BYTES)
    }

    fn with_budget(held_max_bytes: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                uploads: HashMap::new(),
                order: VecDeque::new(),
                held_bytes: 0,
                held_max_bytes,
                pieces: 0,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a file, of which the pieces before `end` will come.
    pub(super) fn expect(&self, upload: &Sha256, file: &Sha256, recipe: Recipe, end: usize) {
        if end > 0 && recipe.pieces().len() <= PIECES_MAX {
            self.lock().expect(upload, file, recipe, end);
        }
    }

    /// Takes in the raw bytes of a chunk, which were checked.
    pub(super) async fn feed(&self, pool: &Pool, upload: &Sha256, chunk: ChunkDigest, raw: &Bytes) {
        let files = self.lock().hold(upload, chunk, raw);
        for file in files {
            // Whoever holds the hasher goes on for all: what comes meanwhile is found by the next turn.
            loop {
                let turn = self.lock().turn(upload, &file);
                let Some((mut hasher, parts)) = turn else { break };
                let pieces = parts.len();
                let hashed = pool
                    .run(move || {
                        for part in &parts {
                            hasher.update(part);
                        }
                        hasher
                    })
                    .await;
                self.lock().give_back(upload, &file, hashed, pieces);
            }
        }
    }

    /// Ends following a file, and returns what was hashed of it.
    pub(super) fn take(&self, upload: &Sha256, file: &Sha256, recipe: &Recipe) -> Option<Begun> {
        let run = self.lock().remove(upload, file)?;
        (run.recipe == *recipe)
            .then_some(run.hasher)
            .flatten()
            .map(|hasher| Begun {
                hasher,
                pieces: run.next,
            })
    }

    /// Ends following all files of an upload.
    pub(super) fn forget(&self, upload: &Sha256) {
        self.lock().forget(upload);
    }
}

impl State {
    fn expect(&mut self, upload: &Sha256, file: &Sha256, recipe: Recipe, end: usize) {
        let same = |run: &Run| run.recipe == recipe;
        match self.uploads.get(upload).and_then(|known| known.runs.get(file)) {
            // Planned again: what has come is in already, or early.
            Some(run) if same(run) => return,
            Some(_) => drop(self.remove(upload, file)),
            None => {}
        }
        while self.pieces + recipe.pieces().len() > PIECES_MAX {
            let Some(oldest) = self.order.front().copied().filter(|oldest| oldest != upload) else {
                return;
            };
            self.forget(&oldest);
        }
        self.pieces += recipe.pieces().len();
        let known = match self.uploads.entry(*upload) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.order.push_back(*upload);
                entry.insert(Upload::default())
            }
        };
        let mut needs = HashMap::new();
        for (index, piece) in recipe.pieces().iter().take(end).enumerate() {
            let (_, uses) = needs.entry(piece.chunk).or_insert_with(|| {
                known.files_of.entry(piece.chunk).or_default().push(*file);
                (index, 0)
            });
            *uses += 1;
        }
        let run = Run {
            recipe,
            hasher: Some(Sha256Hasher::default()),
            next: 0,
            end,
            promised: end,
            needs,
            early: HashMap::new(),
        };
        known.runs.insert(*file, run);
    }

    /// Keeps a chunk for each file that waits for it; returns those.
    fn hold(&mut self, upload: &Sha256, chunk: ChunkDigest, raw: &Bytes) -> Vec<Sha256> {
        let Some(known) = self.uploads.get_mut(upload) else {
            return Vec::new();
        };
        let files = known.files_of.get(&chunk).cloned().unwrap_or_default();
        for file in &files {
            let Some(run) = known.runs.get_mut(file) else {
                continue;
            };
            let Some(&(first, _)) = run.needs.get(&chunk) else {
                continue;
            };
            if first >= run.end || run.early.contains_key(&chunk) {
                continue;
            }
            if self.held_bytes + raw.len() > self.held_max_bytes && first > run.next {
                run.end = first;
                continue;
            }
            self.held_bytes += raw.len();
            run.early.insert(chunk, raw.clone());
        }
        files
    }

    /// Takes the hasher and the pieces that come next, if there are any.
    fn turn(&mut self, upload: &Sha256, file: &Sha256) -> Option<(Sha256Hasher, Vec<Bytes>)> {
        let run = self.uploads.get_mut(upload)?.runs.get_mut(file)?;
        let pieces = &run.recipe.pieces()[run.next..run.end];
        let ready = pieces.iter().take(PIECES_AT_ONCE).map_while(|piece| {
            let begin = piece.offset as usize;
            let raw = run.early.get(&piece.chunk)?;
            let end = begin + piece.length as usize;
            (end <= raw.len()).then(|| raw.slice(begin..end))
        });
        let parts: Vec<Bytes> = ready.collect();
        if parts.is_empty() {
            return None;
        }
        Some((run.hasher.take()?, parts))
    }

    fn give_back(&mut self, upload: &Sha256, file: &Sha256, hasher: Sha256Hasher, pieces: usize) {
        let Some(run) = self
            .uploads
            .get_mut(upload)
            .and_then(|known| known.runs.get_mut(file))
        else {
            return;
        };
        for piece in &run.recipe.pieces()[run.next..run.next + pieces] {
            let Some((_, uses)) = run.needs.get_mut(&piece.chunk) else {
                continue;
            };
            *uses -= 1;
            if *uses == 0 {
                run.needs.remove(&piece.chunk);
                let held = run.early.remove(&piece.chunk);
                self.held_bytes -= held.map_or(0, |raw| raw.len());
            }
        }
        run.next += pieces;
        run.hasher = Some(hasher);
    }

    fn remove(&mut self, upload: &Sha256, file: &Sha256) -> Option<Run> {
        let known = self.uploads.get_mut(upload)?;
        let run = known.runs.remove(file)?;
        for piece in &run.recipe.pieces()[..run.promised] {
            if let Entry::Occupied(mut entry) = known.files_of.entry(piece.chunk) {
                entry.get_mut().retain(|other| other != file);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
        self.held_bytes -= run.early.values().map(Bytes::len).sum::<usize>();
        self.pieces -= run.recipe.pieces().len();
        Some(run)
    }

    fn forget(&mut self, upload: &Sha256) {
        let files: Vec<Sha256> = self
            .uploads
            .get(upload)
            .map(|known| known.runs.keys().copied().collect())
            .unwrap_or_default();
        for file in files {
            drop(self.remove(upload, &file));
        }
        self.uploads.remove(upload);
        self.order.retain(|known| known != upload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waag_schema::content::planner::PlannerId;
    use waag_schema::content::recipe::{Piece, RecipeBuilder};

    use super::*;

    fn chunk(number: u8) -> (ChunkDigest, Bytes) {
        let raw = Bytes::from(vec![number; 100 + usize::from(number)]);
        (ChunkDigest::of(&raw), raw)
    }

    /// A file of these chunks, each without its first bytes; some may stand in it more than once.
    fn file(numbers: &[u8]) -> (Recipe, Vec<Vec<u8>>) {
        let mut builder = RecipeBuilder::new(PlannerId::FastCdc1);
        let mut pieces = Vec::new();
        for number in numbers {
            let (chunk, raw) = chunk(*number);
            let length = raw.len() as u32 - 10;
            builder
                .push(Piece {
                    chunk,
                    offset: 10,
                    length,
                })
                .unwrap();
            pieces.push(raw[10..].to_vec());
        }
        (builder.finish(), pieces)
    }

    async fn begun(numbers: &[u8], end: usize, order: &[u8], budget: usize) -> Option<(usize, Sha256)> {
        let (pool, arrivals) = (Pool::new(), Arrivals::with_budget(budget));
        let (upload, name) = (Sha256::of(b"upload"), Sha256::of(b"file"));
        let (recipe, _) = file(numbers);
        arrivals.expect(&upload, &name, recipe.clone(), end);
        for number in order {
            let (chunk, raw) = chunk(*number);
            arrivals.feed(&pool, &upload, chunk, &raw).await;
        }
        let begun = arrivals.take(&upload, &name, &recipe)?;
        let state = arrivals.lock();
        assert_eq!((state.held_bytes, state.pieces), (0, 0), "nothing is left behind");
        assert!(state.uploads[&upload].files_of.is_empty(), "of the files, too");
        Some((begun.pieces, begun.hasher.finish()))
    }

    proptest! {
        #[test]
        fn what_is_hashed_on_arrival_is_the_beginning_of_the_file(
            numbers in prop::collection::vec(0..8_u8, 1..40),
            order in Just((0..8_u8).collect::<Vec<_>>()).prop_shuffle(),
            budget in prop_oneof![Just(0_usize), 0..600_usize, Just(usize::MAX / 2)],
            end in 0..50_usize,
        ) {
            let end = end.min(numbers.len());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(begun(&numbers, end, &order, budget));
            let (_, pieces) = file(&numbers);
            match found {
                None => prop_assert_eq!(end, 0),
                Some((hashed, digest)) => {
                    prop_assert_eq!(digest, Sha256::of(&pieces[..hashed].concat()));
                    // Everything came: only what did not fit, or was not to come, is missing.
                    prop_assert!(hashed <= end);
                    if budget > 10_000 {
                        prop_assert_eq!(hashed, end);
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn chunks_in_order_need_no_room() {
        let found = begun(&[1, 2, 3, 1], 4, &[1, 2, 3], 0).await;
        assert_eq!(found.unwrap().0, 4);
    }

    #[tokio::test]
    async fn the_oldest_upload_makes_room_for_a_new_one() {
        let arrivals = Arrivals::new();
        let (recipe, _) = file(&[1; 100_000]);
        let name = Sha256::of(b"file");
        let uploads: Vec<Sha256> = (0..4_u8).map(|n| Sha256::of(&[n])).collect();
        for upload in &uploads {
            arrivals.expect(upload, &name, recipe.clone(), 1);
        }
        let followed = |upload| arrivals.take(upload, &name, &recipe).is_some();
        assert_eq!(
            uploads.iter().map(followed).collect::<Vec<_>>(),
            [false, false, true, true]
        );
    }
}
