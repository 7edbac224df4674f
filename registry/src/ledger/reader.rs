//! Proofs from what is published: tiles, entry bundles and packs.

use std::sync::Arc;

use bytes::Bytes;
use waag_schema::ledger::merkle::inclusion_nodes;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    EntryProof, InclusionProof, Leaf, LedgerError, Node, Origin, Pack, PackPath, Stream, TileKind, TilePath,
    TileSource, bundle,
};

use super::{AppendError, SERIES};
use crate::index::Reader;
use crate::store::{Key, Store, StoreError};

/// Entries in one bundle or pack.
const WIDTH: u64 = 256;

/// Reads the published ledger. Cheap to clone.
#[derive(Clone)]
pub(super) struct LedgerReader {
    pub(super) store: Arc<dyn Store>,
    pub(super) index: Reader,
    pub(super) origin: Origin,
}

impl LedgerReader {
    pub(super) async fn tile(&self, path: &TilePath) -> Result<Bytes, StoreError> {
        self.store.get(&Key::tile(SERIES, path)).await
    }

    /// Proves one entry in the tree of this size: one bundle, one pack and at most one tile a level are read.
    pub(super) async fn prove(&self, position: u64, size: u64) -> Result<EntryProof, AppendError> {
        let nodes = inclusion_nodes(position, size)?;
        let source = load_tiles(self.store.as_ref(), &nodes, size).await?;
        let inclusion = InclusionProof::make(&source, position, size)?;
        let leaf = self.leaf(position, size).await?;
        let place = self.index.ask(move |q| q.place_of(position)).await?;
        let (stream, seq) = place.ok_or(AppendError::Erased(position))?;
        let stream: Stream = stream.parse()?;
        let (path, slot) = PackPath::of(&stream, seq);
        let cell = self
            .store
            .read_cell(&Key::pack(SERIES, &path))
            .await?
            .ok_or(AppendError::Erased(position))?;
        let pack = Pack::decode(&cell.bytes)?;
        let opened = pack.slot(slot).ok_or(AppendError::Erased(position))?.clone();
        let proof = EntryProof::new(&leaf, opened, inclusion);
        // Checked here as well, so that damage is found where it is, not at a consumer's.
        if proof.leaf(&self.origin) != leaf {
            return Err(LedgerError::Malformed {
                what: "pack",
                reason: format!("its opening is not what entry {position} commits to"),
            }
            .into());
        }
        Ok(proof)
    }

    async fn leaf(&self, position: u64, size: u64) -> Result<Leaf, AppendError> {
        let leaves = load_bundle(self.store.as_ref(), position / WIDTH, size).await?;
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
pub(super) async fn load_tiles(
    store: &dyn Store,
    nodes: &[Node],
    size: u64,
) -> Result<TileSource, AppendError> {
    let mut source = TileSource::new(size);
    for path in tiles_for(nodes, size) {
        let bytes = load_fullest(store, &path).await?;
        source.insert(&bytes.0, &bytes.1)?;
    }
    Ok(source)
}

/// Loads the leaves of an entry bundle as far as the tree of this size fills it.
pub(super) async fn load_bundle(store: &dyn Store, index: u64, size: u64) -> Result<Vec<Leaf>, AppendError> {
    let Some(path) = TilePath::in_tree(TileKind::Entries, index, size) else {
        return Ok(Vec::new());
    };
    let (found, bytes) = load_fullest(store, &path).await?;
    let mut leaves = bundle::decode(&found, &bytes)?;
    leaves.truncate(usize::from(path.width()));
    Ok(leaves)
}

/// Loads a tile, or the full one in its place where the partial one was cleaned away.
async fn load_fullest(store: &dyn Store, path: &TilePath) -> Result<(TilePath, Bytes), AppendError> {
    match store.get(&Key::tile(SERIES, path)).await {
        Ok(bytes) => Ok((*path, bytes)),
        Err(StoreError::NotFound(_)) if !path.is_full() => {
            let full = path.full();
            Ok((full, store.get(&Key::tile(SERIES, &full)).await?))
        }
        Err(error) => Err(error.into()),
    }
}
