//! How a tree grows: the right edge of a tree, new leaves, and the tiles that they make.
//!
//! Growth depends only on the leaves, never on how they were batched, so that any node of a site that redoes a
//! commit writes the same bytes. An edge holds at most 7 x 255 hashes, whatever the tree's size.

use super::error::LedgerError;
use super::frontier::Frontier;
use super::hash::{Hash, Root};
use super::merkle::{HashSource, MissingHash, SIZE_MAX};
use super::tile::{LEVEL_MAX, TILE_WIDTH, TileKind, TilePath, encode_hashes};

const WIDTH: usize = TILE_WIDTH as usize;

/// The partial tiles at the right edge of a tree, which determine its size and root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    /// By level; each has 0 to 255 hashes, the topmost at least one.
    tiles: Vec<Vec<Hash>>,
}

/// What new leaves make of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The edge of the tree with the new leaves.
    pub edge: Edge,
    /// Its size.
    pub size: u64,
    /// Its root.
    pub root: Root,
    /// Every tile of hashes that is new or fuller than before, from the lowest level up.
    pub tiles: Vec<(TilePath, Vec<u8>)>,
}

impl Edge {
    /// Returns the tiles that make up the edge of the tree of `size` leaves: those to load for
    /// [`Self::from_source`].
    #[must_use]
    pub fn paths(size: u64) -> Vec<TilePath> {
        (0..=LEVEL_MAX)
            .filter_map(|level| {
                let above = size.min(SIZE_MAX) >> (8 * (level + 1));
                TilePath::in_tree(TileKind::Hashes(level), above, size)
            })
            .collect()
    }

    /// Reads the edge of the tree of `size` leaves.
    ///
    /// # Errors
    /// When one of [`Self::paths`] is not loaded, or `size` is beyond [`SIZE_MAX`].
    pub fn from_source<S: HashSource + ?Sized>(source: &S, size: u64) -> Result<Self, LedgerError> {
        if size > SIZE_MAX {
            return Err(too_large(size));
        }
        let mut tiles = Vec::new();
        for level in 0..=LEVEL_MAX {
            let end = size >> (8 * level);
            if end == 0 {
                break;
            }
            let start = end - end % WIDTH as u64;
            let tile: Result<Vec<_>, MissingHash> = (start..end)
                .map(|index| source.hash_at(8 * level, index))
                .collect();
            tiles.push(tile?);
        }
        Ok(Self { tiles })
    }

    /// Returns how many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sizes = self.tiles.iter().zip(0_u32..);
        sizes
            .map(|(tile, level)| (tile.len() as u64) << (8 * level))
            .sum()
    }

    /// Returns the root of the tree.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::of(Hash::joined(&self.subtrees()))
    }

    /// Returns the edge in its shortest form.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        Frontier::from_hashes(self.size(), self.subtrees())
            .expect("a tile of n hashes gives one subtree for each set bit of n")
    }

    /// The complete subtrees that make up the tree, largest first.
    fn subtrees(&self) -> Vec<Hash> {
        let mut subtrees = Vec::new();
        for tile in self.tiles.iter().rev() {
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (complete, behind) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(Hash::complete(complete));
                rest = behind;
            }
        }
        subtrees
    }

    /// Appends leaves, given by their hashes.
    ///
    /// # Errors
    /// When the tree would grow beyond [`SIZE_MAX`] leaves.
    pub fn grow(&self, leaves: &[Hash]) -> Result<Growth, LedgerError> {
        let old_size = self.size();
        let size = old_size.saturating_add(leaves.len() as u64);
        if size > SIZE_MAX {
            return Err(too_large(size));
        }
        let mut edge = self.clone();
        let mut written = Vec::new();
        let mut incoming = leaves.to_vec();
        let mut level = 0;
        while !incoming.is_empty() {
            if edge.tiles.len() == usize::from(level) {
                edge.tiles.push(Vec::new());
            }
            let tile = &mut edge.tiles[usize::from(level)];
            let mut hashes = std::mem::take(tile);
            hashes.append(&mut incoming);

            let kind = TileKind::Hashes(level);
            let mut index = old_size >> (8 * (level + 1));
            let (full, partial) = hashes.as_chunks::<WIDTH>();
            for hashes in full {
                written.push((TilePath::new(kind, index, TILE_WIDTH)?, encode_hashes(hashes)));
                incoming.push(Hash::complete(hashes));
                index += 1;
            }
            if let Ok(width @ 1..) = u16::try_from(partial.len()) {
                written.push((TilePath::new(kind, index, width)?, encode_hashes(partial)));
            }
            *tile = partial.to_vec();
            level += 1;
        }
        Ok(Growth {
            size,
            root: edge.root(),
            edge,
            tiles: written,
        })
    }
}

fn too_large(size: u64) -> LedgerError {
    LedgerError::TooLarge {
        what: "tree's number of leaves",
        found: size,
        limit: SIZE_MAX,
    }
}
