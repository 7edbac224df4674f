//! The entries behind a tree that goes on from what was seen: their leaves, their openings, and into copy and index.
//!
//! A step is copied before it is folded, and folded before the watermark moves: a crash in between means that the step is
//! made again, to the same bytes.

use bytes::Bytes;
use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency, verify_consistency};
use waag_schema::ledger::{
    Checkpoint, Class, Commitment, Edge, Hash, Leaf, Pack, PackPath, RefKind, Root, SaltedOpening,
    SignedCheckpoint, Stream, TileKind, TilePath, Tree, bundle, entry_number, entry_place,
};
use waag_schema::statement::{Envelope, Predicate, Statement};

use super::{FollowError, Follower, WIDTH, damaged, lies};
use crate::index::{Folded, Home, IndexError, Rejection};
use crate::ledger::{AppendError, erase_slot, load_bundle, prepare};
use crate::store::{Key, StoreError, Swap};

/// Entries that are checked together.
const STEP: u64 = 16_384;
/// The most entries by which a ledger may have grown between two looks: beyond it the tree is no ledger's.
const GROWTH_MAX: u64 = 10_000_000;

/// What is wrong with entries.
pub(super) enum Wrong {
    /// What was served is not what was signed.
    Served(String),
    /// What was signed breaks the rules.
    Recorded(String),
    /// Something here failed.
    Here(AppendError),
}

impl Wrong {
    pub(super) fn here(error: IndexError) -> Self {
        Self::Here(error.into())
    }
}

/// Openings of leaves.
#[derive(Default)]
struct Openings {
    /// For each leaf: none if it has none for everybody; its number in the stream, and what is there.
    slots: Vec<Option<(u64, Option<SaltedOpening>)>>,
    /// The packs of the copy as they are with them.
    packs: Vec<(PackPath, Pack)>,
}

/// Returns the openings of a pack that were followed before. What stands behind them an earlier look has left, which did
/// not come to its end: perhaps what was withheld then comes now.
fn beginning(pack: &Pack, slots: usize) -> Result<Pack, FollowError> {
    if pack.len() < slots {
        return Err(damaged(&format_args!(
            "a pack with {} openings, {slots} were followed",
            pack.len()
        )));
    }
    let mut kept = Pack::default();
    for slot in 0..slots {
        match pack.slot(slot) {
            Some(opened) => kept.append(opened.clone()),
            None => kept.append_erased(),
        }
        .map_err(AppendError::from)?;
    }
    Ok(kept)
}

impl Follower {
    /// Follows one series to a tree, and returns how many entries are new.
    pub(super) async fn follow_to(&mut self, target: &SignedCheckpoint) -> Result<u64, FollowError> {
        let tree = target.checkpoint().clone();
        let series = tree.origin.series();
        let same = |signed: &&SignedCheckpoint| signed.checkpoint().origin == tree.origin;
        let known = self.trees.iter().find(same).cloned();
        let known_size = known.as_ref().map_or(0, |known| known.checkpoint().size);
        if let Some(known) = &known {
            self.compare(known, target).await?;
            if known_size == tree.size {
                // The same tree, perhaps with more witnesses' lines.
                if let Some(last) = self.trees.last_mut()
                    && last.checkpoint() == target.checkpoint()
                {
                    *last = target.clone();
                }
                return Ok(0);
            }
        }
        if tree.size - known_size > GROWTH_MAX {
            return Err(lies(format_args!(
                "it grew from {known_size} to {} entries, at most {GROWTH_MAX} at once are followed",
                tree.size
            )));
        }
        // What an earlier look has checked and folded beyond the last whole tree is not looked at again.
        let (at, done) = entry_place(self.index.folded()?.size);
        let start = if at == series { done.max(known_size) } else { 0 };
        if start == 0 && series > 1 {
            self.index.begin_series()?;
        }
        let mut edge = self.edge(&tree.origin, start, known.as_ref()).await?;
        let mut size = start;
        while size < tree.size {
            let end = tree.size.min(size - size % STEP + STEP);
            edge = self.step(&tree, &edge, end, target).await?;
            size = end;
        }
        match self.trees.last_mut() {
            Some(last) if last.checkpoint().origin == tree.origin => *last = target.clone(),
            _ => self.trees.push(target.clone()),
        }
        if self.blank.is_empty() {
            self.keep().await?;
        }
        Ok(tree.size - known_size)
    }

    /// Checks, copies and folds the entries up to `end`, and returns the edge behind them.
    pub(super) async fn step(
        &mut self,
        tree: &Checkpoint,
        edge: &Edge,
        end: u64,
        target: &SignedCheckpoint,
    ) -> Result<Edge, FollowError> {
        let (series, start) = (tree.origin.series(), edge.size());
        let leaves = self.leaves(tree, start, end).await?;
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        let growth = edge.grow(&hashes).map_err(lies)?;
        self.check_root(tree, growth.size, growth.root).await?;

        let openings = self.openings(series, &leaves).await?;
        let partial = load_bundle(self.copy.as_ref(), series, start / WIDTH, start).await?;
        let partial = if start.is_multiple_of(WIDTH) {
            Vec::new()
        } else {
            partial
        };
        let bundles = bundle::grow(start, &partial, &leaves).map_err(lies)?;

        self.index.begin()?;
        if let Err(wrong) = self.fold(tree, start, &leaves, &openings).await {
            self.index.rollback()?;
            return Err(match wrong {
                Wrong::Served(reason) => lies(reason),
                Wrong::Recorded(reason) => self.convict(&reason, &[target]).await?,
                Wrong::Here(error) => error.into(),
            });
        }
        // The copy before the fold: what is folded can always be folded again from it.
        let objects = growth.tiles.iter().chain(&bundles);
        let objects = objects.map(|(path, bytes)| (Key::tile(series, path), Bytes::copy_from_slice(bytes)));
        self.put(objects.collect()).await?;
        for (path, pack) in &openings.packs {
            self.write_pack(series, path, pack).await?;
        }
        for (series, path, slot) in self.erasures(start, series, &leaves)? {
            erase_slot(self.copy.as_ref(), series, &path, slot).await?;
            self.stale = true;
        }
        self.index.commit(Folded {
            size: entry_number(series, growth.size).map_err(AppendError::from)?,
            root: *growth.root.as_bytes(),
        })?;
        Ok(growth.edge)
    }

    /// Fetches leaves. They are not checked yet.
    pub(super) async fn leaves(
        &self,
        tree: &Checkpoint,
        start: u64,
        end: u64,
    ) -> Result<Vec<Leaf>, FollowError> {
        let mut leaves = Vec::new();
        for index in start / WIDTH..end.div_ceil(WIDTH) {
            let Some(path) = TilePath::in_tree(TileKind::Entries, index, tree.size) else {
                break;
            };
            let (found, bytes) = self.tile(tree.origin.series(), path).await?;
            let all = bundle::decode(&found, &bytes).map_err(lies)?;
            let first = index * WIDTH;
            let own = all
                .into_iter()
                .zip(first..)
                .filter(|(_, at)| (start..end).contains(at));
            leaves.extend(own.map(|(leaf, _)| leaf));
        }
        if leaves.len() as u64 != end - start {
            return Err(lies("its bundles have too few entries"));
        }
        Ok(leaves)
    }

    /// Checks that what the leaves give is the signed tree, or the beginning of it.
    async fn check_root(&self, tree: &Checkpoint, size: u64, root: Root) -> Result<(), FollowError> {
        let wrong = || {
            lies(format_args!(
                "its {size} entries give the root {root}, which is not in the tree that it signed"
            ))
        };
        if size == tree.size {
            return if root == tree.root { Ok(()) } else { Err(wrong()) };
        }
        let nodes = consistency_nodes(size, tree.size).map_err(lies)?;
        let tiles = self.tiles_of(tree, &nodes).await?;
        let path = prove_consistency(&tiles, size, tree.size).map_err(lies)?;
        verify_consistency(&Tree { size, root }, &tree.tree(), &path).map_err(|_| wrong())
    }

    /// Fetches the openings of these leaves that everybody may read, as far as they are there. Not checked yet.
    async fn openings(&self, series: u32, leaves: &[Leaf]) -> Result<Openings, FollowError> {
        let stream = Stream::open();
        let mut seq = self.index.questions().stream_count(stream.as_str())?;
        let mut openings = Openings::default();
        let mut served: Option<(PackPath, Pack)> = None;
        for leaf in leaves {
            if !matches!(leaf.class, Class::Open | Class::Admin) {
                openings.slots.push(None);
                continue;
            }
            let (path, slot) = PackPath::of(&stream, seq);
            if served.as_ref().is_none_or(|(found, _)| *found != path) {
                let bytes = self.peer.pack(series, &path).await?;
                let pack = Pack::decode(&bytes).map_err(|e| lies(format_args!("{path}: {e}")))?;
                let cell = self.copy.read_cell(&Key::pack(series, &path)).await?;
                let own = cell.map_or_else(|| Ok(Pack::default()), |cell| Pack::decode(&cell.bytes));
                let own = beginning(&own.map_err(AppendError::from)?, slot)?;
                openings.packs.push((path.clone(), own));
                served = Some((path, pack));
            }
            let Some(((path, pack), (_, own))) = served.as_ref().zip(openings.packs.last_mut()) else {
                continue;
            };
            if slot >= pack.len() {
                return Err(lies(format_args!("{path} has too few openings")));
            }
            let found = pack.slot(slot).cloned();
            match &found {
                Some(opened) => own.append(opened.clone()),
                None => own.append_erased(),
            }
            .map_err(AppendError::from)?;
            openings.slots.push(Some((seq, found)));
            seq += 1;
        }
        Ok(openings)
    }

    /// Checks and folds entries that everybody may read, within a transaction of the index.
    async fn fold(
        &mut self,
        tree: &Checkpoint,
        start: u64,
        leaves: &[Leaf],
        openings: &Openings,
    ) -> Result<(), Wrong> {
        for ((leaf, slot), at) in leaves.iter().zip(&openings.slots).zip(start..) {
            let number = entry_number(tree.origin.series(), at).map_err(|e| Wrong::Here(e.into()))?;
            if let Some((RefKind::Erases, target)) = leaf.reference {
                self.blank.remove(&target);
            }
            let Some((seq, opened)) = slot else { continue };
            match opened {
                Some(opened) => {
                    let at = (&Stream::open(), *seq, false);
                    let statement = self.fold_one(tree, number, at, leaf, opened).await?;
                    if let Predicate::RevocationList(list) = statement.predicate {
                        self.kept.withdrawn = list.entries;
                    }
                }
                None => {
                    self.blank.insert(number);
                    let count = seq + 1;
                    self.index.set_stream_count("open", count).map_err(Wrong::here)?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn fold_one(
        &mut self,
        tree: &Checkpoint,
        number: u64,
        (stream, seq, gaps): (&Stream, u64, bool),
        leaf: &Leaf,
        opened: &SaltedOpening,
    ) -> Result<Statement, Wrong> {
        if Commitment::to(&tree.origin, &opened.salt, &opened.opening) != leaf.commitment {
            return Err(Wrong::Served(format!(
                "the opening of entry {number} is another one's"
            )));
        }
        let recorded = |why: &dyn std::fmt::Display| Wrong::Recorded(format!("its entry {number}: {why}"));
        let header = opened.opening.header();
        if header.stream != *stream || header.seq != seq {
            return Err(recorded(&"it does not stand where it says in its stream"));
        }
        let envelope = Envelope::parse(opened.opening.envelope());
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(error) => return Err(recorded(&error)),
        };
        let prepared = match prepare(self.content.as_ref(), envelope).await {
            Ok(prepared) => prepared,
            // Perhaps said in a later version of these rules: that convicts nobody, and is not gone past either.
            Err(AppendError::Statement(error)) => {
                return Err(Wrong::Served(format!(
                    "its entry {number} cannot be read: {error}"
                )));
            }
            Err(error) => return Err(Wrong::Here(error)),
        };
        self.check_succession(tree, number, &prepared.statement.predicate)
            .map_err(|why| recorded(&why))?;
        let gaps = gaps
            || !self.blank.is_empty()
            || self.lacks_openings(stream)
            || self.index.questions().erases().map_err(Wrong::here)?;
        let home = Home {
            site: &self.site.id,
            log_key: &self.site.log_key,
            key: &self.site.site_key,
            gaps,
        };
        match self.index.admit(&prepared, &home) {
            Ok(()) => {}
            Err(Rejection::Index(error)) => return Err(Wrong::Here(error.into())),
            Err(rejection) => return Err(recorded(&rejection)),
        }
        let fold = self
            .index
            .fold(number, header.at, stream.as_str(), seq, &prepared);
        fold.map_err(Wrong::here)?;
        Ok(prepared.statement)
    }

    /// A series but the first begins with the tree that it continues, which is the one that was followed.
    fn check_succession(&self, tree: &Checkpoint, number: u64, predicate: &Predicate) -> Result<(), String> {
        let begins = matches!(entry_place(number), (2.., 0));
        match predicate {
            Predicate::Successor(successor) if begins => {
                let Some(last) = self.trees.last().map(|signed| signed.checkpoint()) else {
                    return Ok(());
                };
                let said = (&successor.origin, successor.size, successor.root);
                if said == (&last.origin, last.size, last.root) {
                    return Ok(());
                }
                Err(format!(
                    "{} continues {} at {} entries, {} entries of {} were followed, or others",
                    tree.origin, successor.origin, successor.size, last.size, last.origin
                ))
            }
            Predicate::Successor(_) => Err("no series begins here".to_owned()),
            _ if begins => Err("it does not say what its series continues".to_owned()),
            _ => Ok(()),
        }
    }

    /// Returns the openings of the copy that these entries erase.
    fn erasures(
        &self,
        start: u64,
        series: u32,
        leaves: &[Leaf],
    ) -> Result<Vec<(u32, PackPath, usize)>, FollowError> {
        let first = entry_number(series, start).map_err(AppendError::from)?;
        let mut found = Vec::new();
        for (leaf, number) in leaves.iter().zip(first..) {
            let Some((RefKind::Erases, target)) = leaf.reference.filter(|(_, target)| *target < number)
            else {
                continue;
            };
            if let Some((stream, seq)) = self.index.questions().place_of(target)? {
                let stream: Stream = stream.parse().map_err(AppendError::from)?;
                let (path, slot) = PackPath::of(&stream, seq);
                found.push((entry_place(target).0, path, slot));
            }
        }
        Ok(found)
    }

    async fn put(&self, objects: Vec<(Key, Bytes)>) -> Result<(), FollowError> {
        match self.copy.put_all(objects).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict(key)) => Err(damaged(&format_args!("{key}"))),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn write_pack(
        &self,
        series: u32,
        path: &PackPath,
        pack: &Pack,
    ) -> Result<(), FollowError> {
        let key = Key::pack(series, path);
        let cell = self.copy.read_cell(&key).await?;
        let version = cell.as_ref().map(|cell| &cell.version);
        match self.copy.swap_cell(&key, version, pack.encode().into()).await? {
            Swap::Swapped(_) => Ok(()),
            Swap::Lost => Err(damaged(&format_args!("{key} is written by somebody else"))),
        }
    }
}
