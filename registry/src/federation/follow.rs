//! Following: another site's ledger is read, checked, copied and folded, entry by entry, and never back.
//!
//! ```text
//! checkpoint -> signature, origin -> growth bound -> continues what was seen -> leaves give the signed root
//!            -> openings are what leaves commit to -> statements may follow, signed by whom they must be
//!            -> copy (tiles, bundles, packs) -> index -> watermark
//! ```
//!
//! What not everybody may read, and this site may, comes behind that (`streams`).
//!
//! Nothing is written that was not checked. A tree that contradicts what was seen is kept with it as evidence, and
//! nothing more is believed of that site until an admin decides. The watermark moves forward only, and last.
//!
//! Budget: 45 bytes for each entry and its opening cross the network once; memory is one step of 16,384 leaves
//! (0.7 MB) and a few packs, however far behind the copy is.

mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency, root_nodes, verify_consistency};
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    Checkpoint, Class, Commitment, Edge, Hash, Leaf, LedgerError, Origin, Pack, PackPath, RefKind, Root,
    SaltedOpening, SignedCheckpoint, Stream, TileKind, TilePath, TileSource, Tree, bundle, entry_number,
    entry_place, site_key,
};
use waag_schema::statement::{Envelope, Predicate, Statement};
use waag_schema::wire::federation::Evidence;
use waag_schema::{SiteId, Timestamp};

use self::streams::Kept;
use super::peer::{Peer, PeerError, PeerSite};
use crate::clock::Clock;
use crate::index::{Folded, Home, Index, IndexError, Reader, Rejection};
use crate::ledger::{
    AppendError, Folding, Followed, Reads, Standing, erase_slot, load_bundle, load_tiles, prepare, root_at,
};
use crate::store::{Cell, Key, Store, StoreError, Swap};

/// Entries that are checked together.
const STEP: u64 = 16_384;
/// The most entries by which a ledger may have grown between two looks: beyond it the tree is no ledger's.
const GROWTH_MAX: u64 = 10_000_000;
/// The most series that a ledger may have begun since it was last looked at.
const SERIES_MAX: u32 = 64;
/// How old what is kept of the time of the last word may be.
const HEARD_KEPT_SECONDS: u64 = 600;
const WIDTH: u64 = 256;

/// A ledger was not followed any further.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It cannot be asked. Ask again later.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What came is not what it signed. Ask again: it may be damaged on the way, or there.
    #[error("{0}")]
    Lies(String),
    /// It shows an older tree than before. Ask again; if that stays so, a backup was restored there.
    #[error("it shows {shown} entries of {origin}, {known} were seen")]
    Behind {
        /// The ledger.
        origin: Origin,
        /// How many it shows.
        shown: u64,
        /// How many were seen.
        known: u64,
    },
    /// It is not believed any more, until an admin decides.
    #[error("it is not believed any more: {0}")]
    Stopped(String),
    /// The charter names it no more.
    #[error("the charter does not name {0} any more")]
    Dropped(SiteId),
    /// What is kept of it here cannot be used.
    #[error(transparent)]
    Copy(#[from] AppendError),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Copy(error.into())
    }
}

impl From<IndexError> for FollowError {
    fn from(error: IndexError) -> Self {
        Self::Copy(error.into())
    }
}

fn lies(what: impl std::fmt::Display) -> FollowError {
    FollowError::Lies(what.to_string())
}

/// What a look at a ledger has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// How many entries are new.
    pub new: u64,
}

/// What the store keeps of a ledger that is followed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Watermark {
    /// The last checkpoints of all series, the newest last.
    trees: Vec<String>,
    /// The note that says which key the site signs with: what it has measured is proven to others by that.
    #[serde(default)]
    site_key: Option<String>,
    /// When it was last heard from, or a little earlier.
    heard: Option<Timestamp>,
}

/// Follows one ledger.
pub(super) struct Follower {
    site: PeerSite,
    peer: Arc<dyn Peer>,
    /// That site's part of the store.
    copy: Arc<dyn Store>,
    /// Where recipes and manifests are.
    content: Arc<dyn Store>,
    index: Index,
    reader: Reader,
    clock: Arc<dyn Clock>,
    trees: Vec<SignedCheckpoint>,
    site_key: Option<Arc<str>>,
    heard: Option<Timestamp>,
    /// The time that is in the store.
    heard_kept: Option<Timestamp>,
    cell: Option<Cell>,
    standing: Standing,
    /// Entries without an opening of which no later one has said yet that they are erased.
    blank: BTreeSet<u64>,
    /// What is kept of streams that not everybody may read.
    kept: Kept,
    /// Rows were folded from openings that are erased since.
    stale: bool,
    /// What is looked at was carried here, so nobody is heard: time is what the ledger itself says.
    carried: bool,
}

/// What a follower works with.
pub(super) struct FollowerParts {
    pub(super) site: PeerSite,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) copy: Arc<dyn Store>,
    pub(super) content: Arc<dyn Store>,
    pub(super) index: Index,
    pub(super) reader: Reader,
    pub(super) clock: Arc<dyn Clock>,
}

impl Follower {
    /// Takes up the copy where it was left.
    pub(super) async fn open(parts: FollowerParts) -> Result<Self, FollowError> {
        let FollowerParts {
            site,
            peer,
            copy,
            content,
            index,
            reader,
            clock,
        } = parts;
        let mut follower = Self {
            site,
            peer,
            copy,
            content,
            index,
            reader,
            clock,
            trees: Vec::new(),
            site_key: None,
            heard: None,
            heard_kept: None,
            cell: None,
            standing: Standing::Sound,
            blank: BTreeSet::new(),
            kept: Kept::default(),
            stale: false,
            carried: false,
        };
        follower.load().await?;
        Ok(follower)
    }

    async fn load(&mut self) -> Result<(), FollowError> {
        self.cell = self.copy.read_cell(&Key::watermark()).await?;
        let kept: Watermark = match &self.cell {
            Some(cell) => serde_json::from_slice(&cell.bytes)
                .map_err(|e| damaged(&format_args!("the watermark of {}: {e}", self.site.id)))?,
            None => Watermark::default(),
        };
        self.trees = kept
            .trees
            .iter()
            .map(|note| self.signed(note.as_bytes()))
            .collect::<Result<_, _>>()?;
        self.site_key = kept.site_key.map(Arc::from);
        (self.heard, self.heard_kept) = (kept.heard, kept.heard);
        if let Some(cell) = self.copy.read_cell(&Key::evidence()).await? {
            let evidence: Evidence = serde_json::from_slice(&cell.bytes)
                .map_err(|e| damaged(&format_args!("the evidence against {}: {e}", self.site.id)))?;
            self.standing = Standing::Stopped(evidence.reason);
        }
        self.blank.clear();
        self.index.rollback()?;
        self.folding().catch_up().await?;
        self.load_streams().await?;
        self.stale = false;
        Ok(())
    }

    fn folding(&mut self) -> Folding<'_> {
        Folding {
            ledger: self.copy.as_ref(),
            content: self.content.as_ref(),
            index: &mut self.index,
            trees: self
                .trees
                .iter()
                .map(|signed| signed.checkpoint().clone())
                .collect(),
            reads: Reads::Open,
        }
    }

    /// Returns what was followed, for whoever answers questions.
    pub(super) fn followed(&self) -> Followed {
        Followed {
            site: self.site.id.clone(),
            jurisdiction: self.site.jurisdiction,
            owns: self.site.owns.clone(),
            trees: self.trees.clone(),
            site_key: self.site_key.clone(),
            index: self.reader.clone(),
            heard: self.heard.unwrap_or(Timestamp::from_unix(0)),
            standing: self.standing.clone(),
            store: Arc::clone(&self.copy),
        }
    }

    /// Goes on by what the charter says of the site now. Whose ledger it is stays the same.
    pub(super) fn go_by(&mut self, site: PeerSite, peer: Arc<dyn Peer>) {
        (self.site, self.peer) = (site, peer);
    }

    pub(super) const fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Follows the ledger as far as it was carried here. What was followed already goes on being what counts.
    pub(super) async fn look_at_carried(&mut self, carrier: Arc<dyn Peer>) -> Result<Looked, FollowError> {
        let online = std::mem::replace(&mut self.peer, carrier);
        self.carried = true;
        let looked = self.look().await;
        self.carried = false;
        self.peer = online;
        match looked {
            // An older tree of the same history: a bundle that came late.
            Err(FollowError::Behind { .. }) => Ok(Looked { new: 0 }),
            looked => looked,
        }
    }

    /// When the site has spoken last, as far as is known.
    fn word_at(&self) -> Result<Option<Timestamp>, FollowError> {
        let now = self.clock.now();
        if !self.carried {
            return Ok(Some(now));
        }
        // A file does not carry what is said in private namespaces, so what they forbid now is not known by it.
        if self.kept.has_namespaces() {
            return Ok(self.heard);
        }
        // A list of what is withdrawn has a time that the ledger's key has signed.
        let list = self.index.questions().newest("revocation-list")?;
        Ok(self.heard.max(list.map(|list| list.at.min(now))))
    }

    /// Looks once, and follows the ledger to where it is now.
    pub(super) async fn look(&mut self) -> Result<Looked, FollowError> {
        if let Standing::Stopped(reason) = &self.standing {
            return Err(FollowError::Stopped(reason.clone()));
        }
        let looked = self.try_look().await;
        if looked.is_err() {
            // What was checked before the failure stays; what was half folded does not.
            self.index.rollback()?;
        }
        looked
    }

    async fn try_look(&mut self) -> Result<Looked, FollowError> {
        let known = self.trees.last().map(ToString::to_string);
        // Before the checkpoint: what is counted now is in the tree that is shown then.
        let streams = if self.carried {
            None
        } else {
            Some(self.peer.streams().await?)
        };
        let due = self.kept.withdrawn.clone();
        let Some(note) = self.peer.checkpoint(None, known.as_deref()).await? else {
            if let Some(streams) = streams {
                self.take_streams(streams, &due).await?;
            }
            self.hear(false).await?;
            return Ok(Looked { new: 0 });
        };
        let newest = self.signed(&note)?;
        if self.site_key.is_none() {
            self.site_key = Some(self.ask_site_key().await?);
        }
        let mut new = 0;
        for target in self.targets(&newest).await? {
            new += self.follow_to(&target).await?;
        }
        if let Some(entry) = self.blank.first() {
            // Erased since its tree was signed, and the next tree will say so; or withheld.
            let text = format!("entry {entry} is for everybody to read and is not served");
            self.load().await?;
            return Err(FollowError::Lies(text));
        }
        if self.stale {
            // Rows were folded from what is erased now: all are folded anew, without it.
            self.index.reset()?;
            self.folding().catch_up().await?;
            self.index.scrub()?;
            self.stale = false;
        }
        if let Some(streams) = streams {
            self.take_streams(streams, &due).await?;
        }
        self.hear(new > 0).await?;
        Ok(Looked { new })
    }

    /// Reads a checkpoint and checks that this site signed it.
    fn signed(&self, note: &[u8]) -> Result<SignedCheckpoint, FollowError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(lies("a checkpoint that is too large"));
        }
        let signed = SignedCheckpoint::parse(note).map_err(|e| lies(format_args!("its checkpoint: {e}")))?;
        let origin = &signed.checkpoint().origin;
        if *origin.site() != self.site.id {
            return Err(lies(format_args!("its checkpoint is of {origin}")));
        }
        signed
            .verify(&[self.site.log_key], &[])
            .map_err(|e| lies(format_args!("its checkpoint: {e}")))?;
        Ok(signed)
    }

    /// Asks which key the site signs with; the charter has to say the same.
    async fn ask_site_key(&self) -> Result<Arc<str>, FollowError> {
        let note = self.peer.site_key().await?;
        let said = site_key::read(&note, &self.site.log_key)
            .map_err(|e| lies(format_args!("the note of its site key: {e}")))?;
        if said != self.site.site_key {
            return Err(lies(
                "its ledger's key names another site key than the charter does",
            ));
        }
        let text =
            std::str::from_utf8(&note).map_err(|e| lies(format_args!("the note of its site key: {e}")))?;
        Ok(text.into())
    }

    /// Returns the trees that lead from what is known to the newest one: the last of each series.
    async fn targets(&mut self, newest: &SignedCheckpoint) -> Result<Vec<SignedCheckpoint>, FollowError> {
        let series = newest.checkpoint().origin.series();
        let from = self
            .trees
            .last()
            .map_or(1, |last| last.checkpoint().origin.series());
        if series < from {
            return Err(self.behind(newest));
        }
        if series - from > SERIES_MAX {
            return Err(lies(format_args!(
                "it began {} series since it was seen last",
                series - from
            )));
        }
        let mut targets = Vec::new();
        for earlier in from..series {
            match self.peer.checkpoint(Some(earlier), None).await {
                Ok(Some(note)) => targets.push(self.signed(&note)?),
                // A number may be missing between two series.
                Ok(None) | Err(PeerError::Absent(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        targets.push(newest.clone());
        Ok(targets)
    }

    fn behind(&self, shown: &SignedCheckpoint) -> FollowError {
        FollowError::Behind {
            origin: shown.checkpoint().origin.clone(),
            shown: shown.checkpoint().size,
            known: self.trees.last().map_or(0, |known| known.checkpoint().size),
        }
    }

    /// Follows one series to a tree, and returns how many entries are new.
    async fn follow_to(&mut self, target: &SignedCheckpoint) -> Result<u64, FollowError> {
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

    /// Holds a tree against the one that was followed.
    async fn compare(
        &mut self,
        known: &SignedCheckpoint,
        found: &SignedCheckpoint,
    ) -> Result<(), FollowError> {
        let (old, new) = (known.checkpoint(), found.checkpoint());
        if new.size == old.size {
            if new.root == old.root {
                return Ok(());
            }
            return Err(self
                .convict("it signed two trees of one size", &[known, found])
                .await?);
        }
        if new.size < old.size {
            let here = root_at(self.copy.as_ref(), new.size, old).await?;
            if here != new.root {
                return Err(self.convict("it signed two histories", &[known, found]).await?);
            }
            return Err(self.behind(found));
        }
        if old.size == 0 {
            return Ok(());
        }
        let mut nodes = consistency_nodes(old.size, new.size).map_err(lies)?;
        nodes.extend(root_nodes(new.size));
        let tiles = self.tiles_of(new, &nodes).await?;
        tiles
            .authenticate(&new.root)
            .map_err(|e| lies(format_args!("its tiles: {e}")))?;
        let path = prove_consistency(&tiles, old.size, new.size).map_err(lies)?;
        if verify_consistency(&old.tree(), &new.tree(), &path).is_err() {
            // The tiles are the signed tree's, and it does not begin with the one that was signed before.
            return Err(self.convict("it signed two histories", &[known, found]).await?);
        }
        Ok(())
    }

    /// Fetches the tiles that hold these nodes, and those above them up to the root.
    async fn tiles_of(
        &self,
        tree: &Checkpoint,
        nodes: &[waag_schema::ledger::Node],
    ) -> Result<TileSource, FollowError> {
        let mut source = TileSource::new(tree.size);
        let mut wanted = tiles_for(nodes, tree.size);
        let mut seen = BTreeSet::new();
        while let Some(path) = wanted.pop() {
            if !seen.insert(path) {
                continue;
            }
            let (found, bytes) = self.tile(tree.origin.series(), path).await?;
            source
                .insert(&found, &bytes)
                .map_err(|e| lies(format_args!("its tiles: {e}")))?;
            if let TileKind::Hashes(level) = path.kind()
                && path.is_full()
            {
                let above = TileKind::Hashes(level + 1);
                wanted.extend(TilePath::in_tree(above, path.index() / WIDTH, tree.size));
            }
        }
        Ok(source)
    }

    async fn tile(&self, series: u32, path: TilePath) -> Result<(TilePath, Bytes), FollowError> {
        let (found, bytes) = match self.peer.tile(series, &path).await {
            Err(PeerError::Absent(_)) if !path.is_full() => {
                (path.full(), self.peer.tile(series, &path.full()).await?)
            }
            answer => (path, answer?),
        };
        if bytes.len() != found.byte_len() {
            return Err(lies(format_args!("{found} came with {} bytes", bytes.len())));
        }
        Ok((found, bytes))
    }

    /// Returns the edge of what is copied of a series.
    async fn edge(
        &self,
        origin: &Origin,
        size: u64,
        known: Option<&SignedCheckpoint>,
    ) -> Result<Edge, FollowError> {
        if size == 0 {
            return Ok(Edge::default());
        }
        let source = load_tiles(self.copy.as_ref(), origin.series(), &root_nodes(size), size).await?;
        let edge = Edge::from_source(&source, size).map_err(AppendError::from)?;
        let known = known.map(|known| known.checkpoint());
        let folded = self.index.folded()?;
        let root = match known {
            Some(known) if known.size == size => *known.root.as_bytes(),
            _ => folded.root,
        };
        if *edge.root().as_bytes() != root {
            return Err(damaged(&format_args!("the tiles of {origin} at {size} entries")));
        }
        Ok(edge)
    }

    /// Checks, copies and folds the entries up to `end`, and returns the edge behind them.
    async fn step(
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
    async fn leaves(&self, tree: &Checkpoint, start: u64, end: u64) -> Result<Vec<Leaf>, FollowError> {
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

    async fn fold_one(
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

    async fn write_pack(&self, series: u32, path: &PackPath, pack: &Pack) -> Result<(), FollowError> {
        let key = Key::pack(series, path);
        let cell = self.copy.read_cell(&key).await?;
        let version = cell.as_ref().map(|cell| &cell.version);
        match self.copy.swap_cell(&key, version, pack.encode().into()).await? {
            Swap::Swapped(_) => Ok(()),
            Swap::Lost => Err(damaged(&format_args!("{key} is written by somebody else"))),
        }
    }

    /// Notes that the site has answered with what it signed.
    async fn hear(&mut self, grown: bool) -> Result<(), FollowError> {
        self.heard = self.word_at()?;
        let due = match (self.heard_kept, self.heard) {
            (Some(kept), Some(heard)) => kept.plus(HEARD_KEPT_SECONDS) <= heard,
            (None, _) => true,
            (_, None) => false,
        };
        if grown || due { self.keep().await } else { Ok(()) }
    }

    /// Moves the watermark.
    async fn keep(&mut self) -> Result<(), FollowError> {
        let watermark = Watermark {
            trees: self.trees.iter().map(ToString::to_string).collect(),
            site_key: self.site_key.as_deref().map(str::to_owned),
            heard: self.heard,
        };
        let bytes = Bytes::from(serde_json::to_vec(&watermark).map_err(|e| damaged(&e))?);
        let version = self.cell.as_ref().map(|cell| &cell.version);
        match self
            .copy
            .swap_cell(&Key::watermark(), version, bytes.clone())
            .await?
        {
            Swap::Swapped(version) => {
                self.cell = Some(Cell { bytes, version });
                self.heard_kept = self.heard;
                Ok(())
            }
            Swap::Lost => Err(damaged(&"the watermark was moved by somebody else")),
        }
    }

    /// Keeps what convicts the site and stops believing it.
    async fn convict(
        &mut self,
        reason: &str,
        checkpoints: &[&SignedCheckpoint],
    ) -> Result<FollowError, FollowError> {
        let evidence = Evidence {
            reason: reason.to_owned(),
            checkpoints: checkpoints.iter().map(ToString::to_string).collect(),
            found: self.clock.now(),
        };
        tracing::error!(site = %self.site.id, reason, "a site is not believed any more");
        let bytes = Bytes::from(serde_json::to_vec(&evidence).map_err(|e| damaged(&e))?);
        let _: Swap = self.copy.swap_cell(&Key::evidence(), None, bytes).await?;
        self.standing = Standing::Stopped(reason.to_owned());
        Ok(FollowError::Stopped(reason.to_owned()))
    }

    /// Stops believing the site because of what was found elsewhere, unless it is not believed already.
    pub(super) async fn accuse(
        &mut self,
        reason: &str,
        checkpoints: &[&SignedCheckpoint],
    ) -> Result<(), FollowError> {
        match self.standing {
            Standing::Sound => self.convict(reason, checkpoints).await.map(drop),
            Standing::Stopped(_) => Ok(()),
        }
    }

    /// Believes the site again: what was found against it stays in the log only.
    pub(super) async fn absolve(&mut self) -> Result<(), FollowError> {
        self.copy.delete(&Key::evidence()).await?;
        self.standing = Standing::Sound;
        self.load().await
    }
}

/// What is wrong with entries.
enum Wrong {
    /// What was served is not what was signed.
    Served(String),
    /// What was signed breaks the rules.
    Recorded(String),
    /// Something here failed.
    Here(AppendError),
}

impl Wrong {
    fn here(error: IndexError) -> Self {
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

fn damaged(what: &dyn std::fmt::Display) -> FollowError {
    AppendError::from(LedgerError::Malformed {
        what: "copy of another site's ledger",
        reason: what.to_string(),
    })
    .into()
}
