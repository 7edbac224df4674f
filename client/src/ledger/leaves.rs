//! The leaves of a ledger, bundle by bundle, each checked against the signed root before it is believed.

use std::collections::HashMap;

use waag_schema::ledger::merkle::root_nodes;
use waag_schema::ledger::tile::{LEVEL_MAX, TILE_WIDTH, tiles_for};
use waag_schema::ledger::{
    Checkpoint, Leaf, LedgerError, RefKind, TileKind, TilePath, TileSource, bundle, entry_place,
};

use crate::error::{ClientError, Result};
use crate::site::Site;

const WIDTH: u64 = TILE_WIDTH as u64;

/// The leaves under one checkpoint, which was verified. What was fetched is kept.
pub(super) struct Leaves<'a> {
    site: &'a Site,
    checkpoint: Checkpoint,
    bundles: HashMap<u64, Vec<Leaf>>,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(site: &'a Site, checkpoint: Checkpoint) -> Self {
        Self {
            site,
            checkpoint,
            bundles: HashMap::new(),
        }
    }

    /// Returns the series that they are of.
    pub(super) const fn series(&self) -> u32 {
        self.checkpoint.origin.series()
    }

    /// Returns a leaf.
    pub(super) async fn leaf(&mut self, entry: u64) -> Result<Leaf> {
        let bundle = self.bundle(entry / WIDTH).await?;
        let slot = usize::try_from(entry % WIDTH).unwrap_or(usize::MAX);
        let leaf = bundle.get(slot).copied();
        leaf.ok_or_else(|| ClientError::Absent(format!("the ledger has no entry {entry}")))
    }

    /// Says whether a later entry refers to this one so. Reads on to the ledger's end if none does.
    pub(super) async fn is_referred_to(&mut self, kind: RefKind, entry: u64) -> Result<bool> {
        let (series, position) = entry_place(entry);
        let from = if series == self.series() {
            position / WIDTH
        } else {
            0
        };
        for index in from..self.checkpoint.size.div_ceil(WIDTH) {
            let leaves = self.bundle(index).await?;
            if leaves.iter().any(|leaf| leaf.reference == Some((kind, entry))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn bundle(&mut self, index: u64) -> Result<&[Leaf]> {
        if !self.bundles.contains_key(&index) {
            let leaves = fetch(self.site, &self.checkpoint, index).await?;
            self.authenticate(index, &leaves).await?;
            self.bundles.insert(index, leaves);
        }
        Ok(self.bundles.get(&index).map_or(&[], Vec::as_slice))
    }

    /// Checks that the leaves' hashes are the tile that the signed root says, by way of the tiles above.
    async fn authenticate(&self, index: u64, leaves: &[Leaf]) -> Result<()> {
        let Checkpoint { origin, size, root } = &self.checkpoint;
        let size = *size;
        let refused = |e: LedgerError| ClientError::verification("ledger", e);
        let mut tiles = TileSource::new(size);
        let own = TilePath::in_tree(TileKind::Hashes(0), index, size);
        if let Some(own) = own {
            tiles.insert(&own, &hashes(leaves)).map_err(refused)?;
        }
        let above = (1..=LEVEL_MAX)
            .filter_map(|level| TilePath::in_tree(TileKind::Hashes(level), index >> (8 * level), size));
        let edge = tiles_for(&root_nodes(size), size);
        for path in above.chain(edge).filter(|path| Some(*path) != own) {
            let (path, bytes) = self.site.tile(origin.series(), path).await.map_err(not_served)?;
            tiles.insert(&path, &bytes).map_err(refused)?;
        }
        tiles.authenticate(root).map_err(refused)
    }
}

/// Fetches the leaves of a bundle as it stands in this tree. They are not checked yet.
pub(super) async fn fetch(site: &Site, tree: &Checkpoint, index: u64) -> Result<Vec<Leaf>> {
    let path = TilePath::in_tree(TileKind::Entries, index, tree.size).ok_or_else(|| {
        ClientError::Absent(format!("the ledger has no entry {}", index.saturating_mul(WIDTH)))
    })?;
    let (found, bytes) = site.tile(tree.origin.series(), path).await.map_err(not_served)?;
    let mut leaves = bundle::decode(&found, &bytes)
        .map_err(|e| ClientError::verification(format_args!("ledger, {found}"), e))?;
    leaves.truncate(usize::from(path.width()));
    Ok(leaves)
}

/// The bytes of the tile that these leaves have.
pub(super) fn hashes(leaves: &[Leaf]) -> Vec<u8> {
    leaves.iter().flat_map(|leaf| *leaf.hash().as_bytes()).collect()
}

/// A tile of a tree that the site signed has to be there.
pub(super) fn not_served(error: ClientError) -> ClientError {
    match error {
        ClientError::Absent(reason) => ClientError::verification(
            "ledger",
            format_args!("a tile that was signed is not served: {reason}"),
        ),
        other => other,
    }
}
