//! The openings of every stream, read in order beside the leaves, for a fold of what is stored.
//!
//! A pack keeps a slot for what was erased, so the cursors together pass one slot for each entry that has or had
//! an opening. Fewer mean that a pack was read stale or is lost.

use std::collections::{HashMap, HashSet};

use waag_schema::ledger::{
    Checkpoint, Commitment, Leaf, LedgerError, Origin, Pack, PackPath, RefKind, SaltedOpening, Stream,
};

use super::AppendError;
use super::reader::load_bundle;
use crate::index::Index;
use crate::store::{Key, Store};

/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

/// Reads all streams at once.
pub(super) struct Streams {
    origin: Origin,
    cursors: Vec<Cursor>,
    heads: HashMap<Commitment, usize>,
    bundle: Option<(u64, Vec<Leaf>)>,
    /// The entries that others erase; none while nobody had to know.
    erased: Option<HashSet<u64>>,
}

/// How far one stream was read.
struct Cursor {
    stream: Stream,
    /// Where it began.
    start: u64,
    seq: u64,
    pack: Option<(PackPath, Pack)>,
}

impl Streams {
    pub(super) async fn open(store: &dyn Store, origin: &Origin, index: &Index) -> Result<Self, AppendError> {
        let mut names: Vec<Stream> = Vec::new();
        let mut after = None;
        loop {
            let keys = store
                .list(&Key::pack_prefix(origin.series()), after.as_ref(), LISTED_AT_ONCE)
                .await?;
            let Some(last) = keys.last().cloned() else { break };
            for key in keys {
                let path: Option<PackPath> = key.ledger_path(origin.series()).and_then(|p| p.parse().ok());
                if let Some(stream) = path.map(|p| p.stream).filter(|s| names.last() != Some(s)) {
                    names.push(stream);
                }
            }
            after = Some(last);
        }
        names.sort();
        names.dedup();
        let mut streams = Self {
            origin: origin.clone(),
            cursors: Vec::new(),
            heads: HashMap::new(),
            bundle: None,
            erased: None,
        };
        for stream in names {
            let seq = index.questions().stream_count(stream.as_str())?;
            streams.cursors.push(Cursor {
                stream,
                start: seq,
                seq,
                pack: None,
            });
            streams.advance(store, streams.cursors.len() - 1).await?;
        }
        Ok(streams)
    }

    /// Moves a cursor to the next opening that is not erased and notes what it commits to.
    async fn advance(&mut self, store: &dyn Store, number: usize) -> Result<(), AppendError> {
        loop {
            let cursor = &mut self.cursors[number];
            let (path, slot) = PackPath::of(&cursor.stream, cursor.seq);
            if cursor.pack.as_ref().is_none_or(|(loaded, _)| *loaded != path) {
                let Some(cell) = store.read_cell(&Key::pack(self.origin.series(), &path)).await? else {
                    return Ok(());
                };
                cursor.pack = Some((path, Pack::decode(&cell.bytes)?));
            }
            let Some((_, pack)) = &cursor.pack else {
                return Ok(());
            };
            if slot >= pack.len() {
                return Ok(());
            }
            if let Some(opened) = pack.slot(slot) {
                let commitment = Commitment::to(&self.origin, &opened.salt, &opened.opening);
                self.heads.insert(commitment, number);
                return Ok(());
            }
            cursor.seq += 1;
        }
    }

    /// Takes the opening of a leaf, if any stream has it next.
    pub(super) async fn take(
        &mut self,
        store: &dyn Store,
        commitment: &Commitment,
    ) -> Result<Option<(Stream, u64, SaltedOpening)>, AppendError> {
        let Some(number) = self.heads.remove(commitment) else {
            return Ok(None);
        };
        let cursor = &mut self.cursors[number];
        let (_, slot) = PackPath::of(&cursor.stream, cursor.seq);
        let opened = cursor
            .pack
            .as_ref()
            .and_then(|(_, pack)| pack.slot(slot))
            .cloned();
        let (stream, seq) = (cursor.stream.clone(), cursor.seq);
        cursor.seq += 1;
        self.advance(store, number).await?;
        Ok(opened.map(|opened| (stream, seq, opened)))
    }

    /// Returns how many slots the cursors have passed.
    pub(super) fn passed(&self) -> u64 {
        self.cursors.iter().map(|cursor| cursor.seq - cursor.start).sum()
    }

    /// Returns how many slots of each stream are in use, erased ones at its end among them.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.cursors
            .iter()
            .map(|cursor| (cursor.stream.as_str(), cursor.seq))
    }

    /// Says whether a later entry, of any series, erases this one. All leaves are read, once, and only when one has no opening.
    pub(super) async fn is_erased(
        &mut self,
        store: &dyn Store,
        trees: &[Checkpoint],
        entry: u64,
    ) -> Result<bool, AppendError> {
        if self.erased.is_none() {
            let mut erased = HashSet::new();
            for tree in trees {
                for number in 0..tree.size.div_ceil(256) {
                    let leaves = load_bundle(store, tree.origin.series(), number, tree.size).await?;
                    let erases = |leaf: &Leaf| leaf.reference.filter(|(kind, _)| *kind == RefKind::Erases);
                    erased.extend(leaves.iter().filter_map(erases).map(|(_, target)| target));
                }
            }
            self.erased = Some(erased);
        }
        Ok(self.erased.as_ref().is_some_and(|erased| erased.contains(&entry)))
    }

    /// Returns the leaf of an entry of the tree of this size.
    pub(super) async fn leaf(
        &mut self,
        store: &dyn Store,
        position: u64,
        size: u64,
    ) -> Result<Leaf, AppendError> {
        let number = position / 256;
        if self.bundle.as_ref().is_none_or(|(loaded, _)| *loaded != number) {
            self.bundle = Some((
                number,
                load_bundle(store, self.origin.series(), number, size).await?,
            ));
        }
        let slot = usize::try_from(position % 256).expect("below 256");
        let leaf = self
            .bundle
            .as_ref()
            .and_then(|(_, leaves)| leaves.get(slot))
            .copied();
        leaf.ok_or(AppendError::Damaged(LedgerError::OutOfRange {
            what: "entry",
            asked: position,
            size,
        }))
    }
}
