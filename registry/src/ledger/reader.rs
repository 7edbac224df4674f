//! Proofs from what is published: tiles, entry bundles and packs.

use std::sync::Arc;

use bytes::Bytes;
use waag_schema::ledger::merkle::inclusion_nodes;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    Checkpoint, EntryProof, InclusionProof, Leaf, LedgerError, Node, Origin, Pack, PackPath,
    SignedCheckpoint, Stream, TileKind, TilePath, TileSource, bundle, entry_number, entry_place,
};
use waag_schema::wire::artifact::{Part, Proof};

use super::AppendError;
use crate::index::Reader;
use crate::store::{Key, Store, StoreError};

/// Entries in one bundle or pack.
const WIDTH: u64 = 256;

/// Reads the published ledger. Cheap to clone.
#[derive(Clone)]
pub(super) struct LedgerReader {
    pub(super) store: Arc<dyn Store>,
    pub(super) index: Reader,
    /// The last checkpoints of the series that ended.
    pub(super) earlier: Arc<[SignedCheckpoint]>,
    pub(super) origin: Origin,
    /// Says which key signs what the site says.
    pub(super) site_key: Option<Arc<str>>,
}

impl LedgerReader {
    pub(super) async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, StoreError> {
        self.store.get(&Key::tile(series, path)).await
    }

    /// Proves entries, each in the last tree of its series: from the first series that is needed to the one
    /// that goes on, so that each of them is tied to the next.
    pub(super) async fn prove_all(
        &self,
        mut numbers: Vec<u64>,
        newest: &SignedCheckpoint,
    ) -> Result<Proof, AppendError> {
        let first = numbers.iter().map(|number| entry_place(*number).0).min();
        let first = first.unwrap_or(self.origin.series());
        let needed = self.earlier.iter().chain([newest]);
        let needed: Vec<_> = needed
            .filter(|signed| signed.checkpoint().origin.series() >= first)
            .collect();
        for signed in needed.iter().skip(1) {
            numbers.push(entry_number(signed.checkpoint().origin.series(), 0)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut parts = Vec::with_capacity(needed.len());
        for signed in needed {
            let mut entries = Vec::new();
            for (series, index) in numbers.iter().map(|number| entry_place(*number)) {
                if series == signed.checkpoint().origin.series() {
                    entries.push(self.prove(index, signed.checkpoint()).await?);
                }
            }
            parts.push(Part {
                checkpoint: signed.to_string(),
                entries,
            });
        }
        let Some(Part { checkpoint, entries }) = parts.pop() else {
            return Err(AppendError::Stopped(
                "there is no series of this ledger".to_owned(),
            ));
        };
        Ok(Proof {
            checkpoint,
            entries,
            earlier: parts,
            site_key: self.site_key.as_deref().map(str::to_owned),
        })
    }

    /// Proves one entry in the tree of this size: one bundle, one pack and at most one tile a level are read.
    async fn prove(&self, position: u64, tree: &Checkpoint) -> Result<EntryProof, AppendError> {
        let (origin, size) = (&tree.origin, tree.size);
        let number = entry_number(origin.series(), position)?;
        let nodes = inclusion_nodes(position, size)?;
        let source = load_tiles(self.store.as_ref(), origin.series(), &nodes, size).await?;
        let inclusion = InclusionProof::make(&source, position, size)?;
        let leaf = self.leaf(origin.series(), position, size).await?;
        let place = self.index.ask(move |q| q.place_of(number)).await?;
        let (stream, seq) = place.ok_or(AppendError::Erased(number))?;
        let stream: Stream = stream.parse()?;
        let (path, slot) = PackPath::of(&stream, seq);
        let cell = self
            .store
            .read_cell(&Key::pack(origin.series(), &path))
            .await?
            .ok_or(AppendError::Erased(number))?;
        let pack = Pack::decode(&cell.bytes)?;
        let opened = pack.slot(slot).ok_or(AppendError::Erased(number))?.clone();
        let proof = EntryProof::new(&leaf, opened, inclusion);
        // Checked here as well, so that damage is found where it is, not at a consumer's.
        if proof.leaf(origin) != leaf {
            return Err(LedgerError::Malformed {
                what: "pack",
                reason: format!("its opening is not what entry {number} commits to"),
            }
            .into());
        }
        Ok(proof)
    }

    async fn leaf(&self, series: u32, position: u64, size: u64) -> Result<Leaf, AppendError> {
        let leaves = load_bundle(self.store.as_ref(), series, position / WIDTH, size).await?;
        let slot = usize::try_from(position % WIDTH).expect("below 256");
        leaves
            .get(slot)
            .copied()
            .ok_or(AppendError::Damaged(LedgerError::OutOfRange {
                what: "entry",
                asked: position,
                size,
            }))
    }
}

/// Loads the tiles that hold these nodes of the tree of this size.
pub(crate) async fn load_tiles(
    store: &dyn Store,
    series: u32,
    nodes: &[Node],
    size: u64,
) -> Result<TileSource, AppendError> {
    let mut source = TileSource::new(size);
    for path in tiles_for(nodes, size) {
        let bytes = load_fullest(store, series, &path).await?;
        source.insert(&bytes.0, &bytes.1)?;
    }
    Ok(source)
}

/// Loads the leaves of an entry bundle as far as the tree of this size fills it.
pub(crate) async fn load_bundle(
    store: &dyn Store,
    series: u32,
    index: u64,
    size: u64,
) -> Result<Vec<Leaf>, AppendError> {
    let Some(path) = TilePath::in_tree(TileKind::Entries, index, size) else {
        return Ok(Vec::new());
    };
    let (found, bytes) = load_fullest(store, series, &path).await?;
    let mut leaves = bundle::decode(&found, &bytes)?;
    leaves.truncate(usize::from(path.width()));
    Ok(leaves)
}

/// Loads a tile, or the full one in its place where the partial one was cleaned away.
async fn load_fullest(
    store: &dyn Store,
    series: u32,
    path: &TilePath,
) -> Result<(TilePath, Bytes), AppendError> {
    match store.get(&Key::tile(series, path)).await {
        Ok(bytes) => Ok((*path, bytes)),
        Err(StoreError::NotFound(_)) if !path.is_full() => {
            let full = path.full();
            Ok((full, store.get(&Key::tile(series, &full)).await?))
        }
        Err(error) => Err(error.into()),
    }
}
