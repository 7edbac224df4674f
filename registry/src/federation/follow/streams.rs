//! The openings of another site's ledger that not everybody may read, as far as this site may.
//!
//! ```text
//! which streams, how far (asked before the checkpoint) -> the tree, followed as always -> packs
//!     -> each opening is what a restricted leaf commits to, in order -> admitted by the rules -> copy -> index
//! ```
//!
//! A stream counts without gaps, and all that was counted is in the tree that was shown later: an opening that is
//! missing was erased, and an entry of the stream says so, or it is withheld, and nothing of that site is taken for
//! heard. A namespace's stream never gets shorter, also for who may not read on. That a release was withdrawn stands
//! in a list for everybody: a withdrawal that is missing here is noticed by that. An end that is withheld from
//! everybody entitled, with nothing withdrawn in it, is not noticed before the stream goes on.
//!
//! Budget: one request for each look, one for each pack that grew; leaves are read again from the copy only from the
//! stream's last entry on. Memory is one pack, and 75 bytes for each restricted leaf from there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use waag_schema::Namespace;
use waag_schema::ledger::number::SERIES_ENTRIES_MAX;
use waag_schema::ledger::pack::PACK_SLOTS;
use waag_schema::ledger::{
    Checkpoint, Class, Commitment, Leaf, Pack, PackPath, RefKind, SignedCheckpoint, Stream, entry_number,
};
use waag_schema::statement::{Envelope, Predicate, Statement, Subject, Visibility};
use waag_schema::wire::ledger::StreamView;

use super::entries::Wrong;
use super::{FollowError, Follower, WIDTH, damaged, lies};
use crate::ledger::{AppendError, load_bundle};
use crate::store::Key;

/// Keys handled in one listing.
const LISTED_AT_ONCE: usize = 1000;

/// What is kept of streams that not everybody may read.
#[derive(Default)]
pub(super) struct Kept {
    /// How many slots of each the copy has, by series.
    slots: BTreeMap<(u32, Stream), u64>,
    /// The slots that came empty, and of which no entry has said yet that they are erased.
    unexplained: BTreeMap<(u32, Stream), BTreeSet<u64>>,
    /// The releases of the newest list of those that are withdrawn.
    pub(super) withdrawn: Vec<u64>,
}

/// Restricted leaves of a series, from where a stream has come to.
struct Leaves {
    by_commitment: HashMap<Commitment, (u64, Leaf)>,
    /// The entries that a leaf behind them erases.
    erased: HashSet<u64>,
}

impl Kept {
    /// Is there something of a private namespace of that site?
    pub(super) fn has_namespaces(&self) -> bool {
        self.slots.keys().any(|(_, stream)| !stream.is_of_copies())
    }
}

impl Follower {
    /// Looks what the copy has of them; folds it again, where the index does not have it all.
    pub(super) async fn load_streams(&mut self) -> Result<(), FollowError> {
        self.kept = Kept::default();
        let mut folded: BTreeMap<Stream, u64> = BTreeMap::new();
        let trees: Vec<u32> = self
            .trees
            .iter()
            .map(|tree| tree.checkpoint().origin.series())
            .collect();
        for series in trees {
            let mut after = None;
            loop {
                let prefix = Key::pack_prefix(series);
                let keys = self.copy.list(&prefix, after.as_ref(), LISTED_AT_ONCE).await?;
                let Some(last) = keys.last().cloned() else { break };
                for key in keys {
                    let path: Option<PackPath> = key.ledger_path(series).and_then(|path| path.parse().ok());
                    let Some(path) = path.filter(|path| path.stream != Stream::open()) else {
                        continue;
                    };
                    let Some(cell) = self.copy.read_cell(&key).await? else {
                        continue;
                    };
                    let pack = Pack::decode(&cell.bytes).map_err(AppendError::from)?;
                    *folded.entry(path.stream.clone()).or_default() += self.note(series, &path, &pack);
                }
                after = Some(last);
            }
        }
        self.kept.unexplained.retain(|_, slots| !slots.is_empty());
        for (stream, opened) in folded {
            if self.index.questions().folded_of_stream(&stream)? != opened {
                self.index.reset()?;
                self.folding().catch_up().await?;
                break;
            }
        }
        Ok(())
    }

    /// Notes which slots of a pack are in use, and returns how many hold something.
    fn note(&mut self, series: u32, path: &PackPath, pack: &Pack) -> u64 {
        let of = (series, path.stream.clone());
        let first = path.number * PACK_SLOTS as u64;
        let end = self.kept.slots.entry(of.clone()).or_default();
        *end = (first + pack.len() as u64).max(*end);
        let unexplained = self.kept.unexplained.entry(of).or_default();
        let mut opened = 0;
        for slot in 0..pack.len() {
            match pack.slot(slot) {
                None => drop(unexplained.insert(first + slot as u64)),
                Some(found) => {
                    opened += 1;
                    // Erasures stand behind what they erase, so each is met after it.
                    let said = Envelope::parse(found.opening.envelope());
                    let said = said.and_then(|envelope| Statement::parse(envelope.payload()));
                    if let Ok(Statement {
                        predicate: Predicate::Erasure(erasure),
                        ..
                    }) = said
                    {
                        unexplained.remove(&erasure.seq);
                    }
                }
            }
        }
        opened
    }

    /// Follows the streams that were listed before the newest tree was shown, as far as they were counted.
    pub(super) async fn take_streams(
        &mut self,
        mut listed: Vec<StreamView>,
        due: &[u64],
    ) -> Result<(), FollowError> {
        listed.sort_by(|a, b| (a.series, &a.stream).cmp(&(b.series, &b.stream)));
        for ((series, stream), kept) in &self.kept.slots {
            let same = |view: &&StreamView| view.series == *series && view.stream == *stream;
            let count = listed.iter().find(same).map_or(0, |view| view.count);
            // What it does with copies it shows as long as the namespace is shared with this site.
            if count < *kept && !(stream.is_of_copies() && count == 0) {
                return Err(lies(format_args!(
                    "it has shown {kept} entries of a stream, and shows {count}"
                )));
            }
        }
        for view in listed {
            let of = |signed: &&SignedCheckpoint| signed.checkpoint().origin.series() == view.series;
            let Some(signed) = self.trees.iter().find(of).cloned() else {
                return Err(lies("a stream is of a series that it has not shown"));
            };
            let Some(name) = view.stream.namespace() else {
                return Err(lies("a stream is nobody's"));
            };
            // Of what is not its own it can say what it does with copies, and nothing else.
            if view.stream.is_of_copies() == self.site.owns(&name) {
                continue;
            }
            if view.count > signed.checkpoint().size {
                return Err(lies("a stream has more entries than the ledger"));
            }
            let of = (view.series, view.stream.clone());
            let from = self.kept.slots.get(&of).copied().unwrap_or(0);
            if from < view.count {
                self.take_stream(&signed, &name, &view.stream, from, view.count)
                    .await?;
            }
        }
        if let Some((of, seq)) = self.unexplained() {
            return Err(lies(format_args!(
                "entry {seq} of the stream of series {} that it lets this site read is not served",
                of.0
            )));
        }
        self.check_withdrawn(due)
    }

    fn unexplained(&self) -> Option<(&(u32, Stream), u64)> {
        let mut all = self.kept.unexplained.iter();
        all.find_map(|(of, slots)| Some((of, *slots.first()?)))
    }

    /// Holds what is known of releases in streams against the list of what is withdrawn that an earlier look has brought.
    fn check_withdrawn(&self, due: &[u64]) -> Result<(), FollowError> {
        if self.kept.slots.is_empty() || due.is_empty() {
            return Ok(());
        }
        let questions = self.index.questions();
        let known: HashSet<u64> = questions.withdrawn()?.into_iter().collect();
        for entry in due.iter().filter(|entry| !known.contains(entry)) {
            if questions
                .place_of(*entry)?
                .is_some_and(|(stream, _)| stream != Stream::open().as_str())
            {
                return Err(lies(format_args!(
                    "the release of entry {entry} was withdrawn, and the withdrawal is not served"
                )));
            }
        }
        Ok(())
    }

    /// Checks, copies and folds the entries of a stream from one number to another.
    async fn take_stream(
        &mut self,
        signed: &SignedCheckpoint,
        name: &Namespace,
        stream: &Stream,
        from: u64,
        to: u64,
    ) -> Result<(), FollowError> {
        let tree = signed.checkpoint();
        let series = tree.origin.series();
        let first = entry_number(series, 0).map_err(AppendError::from)?;
        let last = self
            .index
            .questions()
            .last_of_stream(stream, first..=first + SERIES_ENTRIES_MAX - 1)?;
        let mut next = last.map_or(0, |(entry, _)| entry - first + 1);
        let mut leaves = self.restricted(tree, next).await?;
        let mut seq = from;
        while seq < to {
            let (path, slot) = PackPath::of(stream, seq);
            let end = to.min((path.number + 1) * PACK_SLOTS as u64);
            let bytes = self.peer.pack(series, &path).await?;
            let served = Pack::decode(&bytes).map_err(|error| lies(format_args!("{path}: {error}")))?;
            let cell = self.copy.read_cell(&Key::pack(series, &path)).await?;
            let own = cell.map_or_else(|| Ok(Pack::default()), |cell| Pack::decode(&cell.bytes));
            let mut own = own.map_err(AppendError::from)?;
            if own.len() != slot {
                return Err(damaged(&format_args!(
                    "{path} has {} slots, {slot} were kept",
                    own.len()
                )));
            }
            self.index.begin()?;
            let mut step = Step {
                tree,
                name,
                stream,
                served: &served,
                leaves: &leaves,
                next,
                blank: BTreeSet::new(),
                explained: BTreeSet::new(),
            };
            let folded = match step.fold(self, seq..end, &mut own).await {
                // Of a series that ended nothing goes on: the count is that of the newest.
                Ok(()) if Some(signed) != self.trees.last() => self
                    .index
                    .set_stream_count(stream.as_str(), 0)
                    .map_err(Wrong::here),
                Ok(()) => self
                    .index
                    .set_stream_count(stream.as_str(), end)
                    .map_err(Wrong::here),
                Err(wrong) => Err(wrong),
            };
            if let Err(wrong) = folded {
                self.index.rollback()?;
                return Err(match wrong {
                    Wrong::Served(reason) => lies(reason),
                    Wrong::Recorded(reason) => self.convict(&reason, &[signed]).await?,
                    Wrong::Here(error) => error.into(),
                });
            }
            let Step {
                next: reached,
                blank,
                explained,
                ..
            } = step;
            // The copy before the fold: what is folded can always be folded again from it.
            self.write_pack(series, &path, &own).await?;
            let folded = self.index.folded()?;
            self.index.commit(folded)?;
            next = reached;
            let of = (series, stream.clone());
            self.kept.slots.insert(of.clone(), end);
            let unexplained = self.kept.unexplained.entry(of).or_default();
            unexplained.extend(blank);
            unexplained.retain(|slot| !explained.contains(slot));
            leaves.by_commitment.retain(|_, (at, _)| *at >= next);
            seq = end;
        }
        Ok(())
    }

    /// Reads the restricted leaves of the copy from a position on, and what is erased.
    async fn restricted(&self, tree: &Checkpoint, from: u64) -> Result<Leaves, FollowError> {
        let series = tree.origin.series();
        let first = entry_number(series, 0).map_err(AppendError::from)?;
        let mut found = Leaves {
            by_commitment: HashMap::new(),
            erased: HashSet::new(),
        };
        for index in from / WIDTH..tree.size.div_ceil(WIDTH) {
            let bundle = load_bundle(self.copy.as_ref(), series, index, tree.size).await?;
            for (leaf, at) in bundle.into_iter().zip(index * WIDTH..) {
                if let Some((RefKind::Erases, target)) = leaf.reference {
                    found.erased.insert(target);
                }
                if leaf.class == Class::Restricted && at >= from {
                    found.by_commitment.insert(leaf.commitment, (at, leaf));
                }
            }
        }
        found.erased.retain(|target| *target >= first);
        Ok(found)
    }

    /// Does something of this stream's namespace rest on what nobody here could read?
    pub(super) fn lacks_openings(&self, stream: &Stream) -> bool {
        let mut all = self.kept.unexplained.iter();
        all.any(|((_, found), slots)| found == stream && !slots.is_empty())
    }
}

/// The entries of one pack.
struct Step<'a> {
    tree: &'a Checkpoint,
    name: &'a Namespace,
    stream: &'a Stream,
    served: &'a Pack,
    leaves: &'a Leaves,
    /// The position from which on the next entry stands.
    next: u64,
    /// Slots that came empty.
    blank: BTreeSet<u64>,
    /// Slots of which an entry says that they are erased.
    explained: BTreeSet<u64>,
}

impl Step<'_> {
    async fn fold(
        &mut self,
        follower: &mut Follower,
        slots: std::ops::Range<u64>,
        own: &mut Pack,
    ) -> Result<(), Wrong> {
        let here = |error| Wrong::Here(AppendError::from(error));
        for seq in slots {
            let (path, slot) = PackPath::of(self.stream, seq);
            if slot >= self.served.len() {
                return Err(Wrong::Served(format!("{path} has too few openings")));
            }
            let Some(opened) = self.served.slot(slot) else {
                self.blank.insert(seq);
                own.append_erased().map_err(here)?;
                continue;
            };
            let commitment = Commitment::to(&self.tree.origin, &opened.salt, &opened.opening);
            let Some((at, leaf)) = self.leaves.by_commitment.get(&commitment) else {
                return Err(Wrong::Served(format!(
                    "no entry where one can be commits to the opening {seq} of {}",
                    self.stream
                )));
            };
            let number = entry_number(self.tree.origin.series(), *at).map_err(here)?;
            if *at < self.next {
                return Err(Wrong::Recorded(format!(
                    "its entry {number}: it does not stand where it says in its stream"
                )));
            }
            self.next = at + 1;
            if self.leaves.erased.contains(&number) {
                // It is served all the same, and not kept.
                own.append_erased().map_err(here)?;
                continue;
            }
            let gaps = !self.blank.is_empty();
            let statement = follower
                .fold_one(self.tree, number, (self.stream, seq, gaps), leaf, opened)
                .await?;
            check(self.name, self.stream, &statement)
                .map_err(|why| Wrong::Recorded(format!("its entry {number}: {why}")))?;
            if let Predicate::Erasure(erasure) = &statement.predicate {
                self.explained.insert(erasure.seq);
            }
            own.append(opened.clone()).map_err(here)?;
        }
        Ok(())
    }
}

/// Says what is wrong where a statement does not belong into a stream.
fn check(name: &Namespace, stream: &Stream, statement: &Statement) -> Result<(), &'static str> {
    let copies = stream.is_of_copies();
    let fits = match (&statement.predicate, &statement.subject) {
        (Predicate::Erasure(erasure), _) => erasure.stream == stream.as_str(),
        (Predicate::Custody(custody), _) => custody.artifact.namespace() == *name,
        (Predicate::Genesis(genesis), Subject::Namespace(found)) => {
            !copies && found == name && genesis.visibility == Visibility::Private
        }
        (_, subject) => !copies && subject.namespace().as_ref() == Some(name),
    };
    fits.then_some(()).ok_or("it does not belong into its stream")
}
