//! Tiles: how a tree is stored and served (C2SP tlog-tiles).
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]        W hashes of 32 bytes: nodes (8 L, 256 N) .. (8 L, 256 N + W)
//! tile/entries/<N>[.p/<W>]    W entries, the leaves 256 N .. 256 N + W
//! ```
//!
//! `N` stands in groups of three digits (`x001/x234/067`); a full tile has 256 and no `.p/<W>`. A tile's bytes
//! never change, and a path has one spelling. What a tile says is to be believed only after
//! [`TileSource::authenticate`], or when a proof made from it holds against a signed root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::error::LedgerError;
use super::hash::{Hash, Root};
use super::leaf::LEAF_BYTES;
use super::merkle::{self, HashSource, MissingHash, Node, SIZE_MAX};
use super::reading::{decimal, grouped, parse_grouped, shown};

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u16 = 256;
/// Tree levels within one tile.
const HEIGHT: u8 = 8;
/// The highest level of tiles that a tree of [`SIZE_MAX`] leaves has.
pub const LEVEL_MAX: u8 = 6;
const HASH_BYTES: usize = 32;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of the tree at this level of tiles, 0 for the leaves' hashes.
    Hashes(u8),
    /// The leaves themselves.
    Entries,
}

impl TileKind {
    /// How many hashes or entries of this kind a tree has.
    const fn count(self, size: u64) -> u64 {
        match self {
            Self::Hashes(level) => size >> (HEIGHT * level),
            Self::Entries => size,
        }
    }
}

/// The name of a tile, with the part of it that is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// Names a tile of `width` hashes or entries, 256 for a full one.
    ///
    /// # Errors
    /// When no tree of at most [`SIZE_MAX`] leaves has it.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, LedgerError> {
        let fail = |reason| Err(LedgerError::malformed("tile path", reason));
        if matches!(kind, TileKind::Hashes(level) if level > LEVEL_MAX) {
            return fail(format!("its level is above {LEVEL_MAX}"));
        }
        if width == 0 || width > TILE_WIDTH {
            return fail(format!("its width is {width}, not 1 to {TILE_WIDTH}"));
        }
        if index > kind.count(SIZE_MAX) / u64::from(TILE_WIDTH) {
            return fail(format!("its index {index} is beyond every tree"));
        }
        Ok(Self { kind, index, width })
    }

    /// Names this tile as it stands in a tree of `size` leaves; `None` where that has none of it.
    #[must_use]
    pub fn in_tree(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        // Checked first, so that nothing below overflows.
        let widest = Self::new(kind, index, TILE_WIDTH).ok()?;
        let filled = kind
            .count(size.min(SIZE_MAX))
            .saturating_sub(index * u64::from(TILE_WIDTH))
            .min(u64::from(TILE_WIDTH));
        let width = u16::try_from(filled).unwrap_or(TILE_WIDTH);
        (width > 0).then_some(Self { width, ..widest })
    }

    /// Returns what the tile holds.
    #[must_use]
    pub const fn kind(&self) -> TileKind {
        self.kind
    }

    /// Returns the tile's position among those of its kind.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Returns how many hashes or entries are filled, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Says whether all 256 are filled, so that the tile stays for ever.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Returns the same tile, full: what a server may have instead of a partial one that was swept away.
    #[must_use]
    pub const fn full(&self) -> Self {
        Self {
            kind: self.kind,
            index: self.index,
            width: TILE_WIDTH,
        }
    }

    /// Returns the exact length of the tile's bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        usize::from(self.width)
            * match self.kind {
                TileKind::Hashes(_) => HASH_BYTES,
                TileKind::Entries => 2 + LEAF_BYTES,
            }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = grouped(self.index);
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/{number}")?,
            TileKind::Entries => write!(f, "tile/entries/{number}")?,
        }
        if self.is_full() {
            return Ok(());
        }
        write!(f, ".p/{}", self.width)
    }
}

impl FromStr for TilePath {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let parts = || {
            let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
            let kind = match kind {
                "entries" => TileKind::Entries,
                level => TileKind::Hashes(decimal(level)?.try_into().ok()?),
            };
            let (number, width) = match rest.split_once(".p/") {
                Some((number, width)) => (
                    number,
                    decimal(width)?
                        .try_into()
                        .ok()
                        .filter(|width| *width < TILE_WIDTH)?,
                ),
                None => (rest, TILE_WIDTH),
            };
            Some((kind, parse_grouped(number)?, width))
        };
        let (kind, index, width) = parts().ok_or_else(|| {
            LedgerError::malformed(
                "tile path",
                format!("`{}` is not tile/<L>/<N>[.p/<W>]", shown(text)),
            )
        })?;
        Self::new(kind, index, width)
    }
}

/// Where a node's hash is found: which tile of hashes, and which of its hashes join to it.
struct Place {
    level: u8,
    tile: u64,
    first: usize,
    count: usize,
}

impl Place {
    fn of(node: Node) -> Option<Self> {
        let (level, within) = (node.level / HEIGHT, node.level % HEIGHT);
        if level > LEVEL_MAX || node.index >= SIZE_MAX {
            return None;
        }
        // 2^(8 - within) nodes of this level stand on one tile, each on 2^within of its hashes.
        let tile = node.index >> (HEIGHT - within);
        let position = node.index - (tile << (HEIGHT - within));
        Some(Self {
            level,
            tile,
            first: usize::try_from(position << within).ok()?,
            count: 1 << within,
        })
    }
}

/// Returns the tiles of a tree of `size` leaves that hold these nodes, each once, in order.
///
/// Nodes that such a tree does not have are passed over; a [`TileSource`] will call them missing.
#[must_use]
pub fn tiles_for(nodes: &[Node], size: u64) -> Vec<TilePath> {
    let tiles: BTreeSet<_> = nodes
        .iter()
        .filter_map(|node| Place::of(*node))
        .filter_map(|place| TilePath::in_tree(TileKind::Hashes(place.level), place.tile, size))
        .collect();
    tiles.into_iter().collect()
}

/// Encodes hashes as a tile's bytes.
pub(super) fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// A tree of a known size, seen through the tiles that were loaded.
#[derive(Debug, Clone)]
pub struct TileSource {
    size: u64,
    /// By level and index, cut to what is filled at `size`.
    tiles: BTreeMap<(u8, u64), Vec<Hash>>,
}

impl TileSource {
    /// Starts without any tile of the tree of `size` leaves.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            tiles: BTreeMap::new(),
        }
    }

    /// Returns the tree's size.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes in a tile of hashes. It may be filled further than this tree needs.
    ///
    /// # Errors
    /// When the bytes are not of the length that the path says, or the tile does not hold what this tree needs
    /// of it.
    pub fn insert(&mut self, path: &TilePath, bytes: &[u8]) -> Result<(), LedgerError> {
        let TileKind::Hashes(level) = path.kind else {
            return Err(LedgerError::malformed("tile of hashes", "it holds entries"));
        };
        if bytes.len() != path.byte_len() {
            return Err(LedgerError::malformed(
                "tile of hashes",
                format!("{path} has {} bytes, not {}", bytes.len(), path.byte_len()),
            ));
        }
        let needed = TilePath::in_tree(path.kind, path.index, self.size)
            .filter(|needed| needed.width <= path.width)
            .ok_or_else(|| {
                LedgerError::malformed(
                    "tile of hashes",
                    format!("{path} does not fill its part of a tree of {} leaves", self.size),
                )
            })?;
        let hashes = bytes
            .as_chunks::<HASH_BYTES>()
            .0
            .iter()
            .take(usize::from(needed.width))
            .map(|hash| Hash::from_bytes(*hash))
            .collect();
        self.tiles.insert((level, path.index), hashes);
        Ok(())
    }

    /// Returns the tiles that still have to be loaded for these nodes.
    #[must_use]
    pub fn missing(&self, nodes: &[Node]) -> Vec<TilePath> {
        let mut paths = tiles_for(nodes, self.size);
        paths.retain(|path| match path.kind {
            TileKind::Hashes(level) => !self.tiles.contains_key(&(level, path.index)),
            TileKind::Entries => false,
        });
        paths
    }

    /// Checks every loaded tile against the tree's root, through its parents.
    ///
    /// # Errors
    /// When a tile is not part of this tree, or the tiles above one, up to the right edge, are not loaded.
    pub fn authenticate(&self, root: &Root) -> Result<(), LedgerError> {
        // The partial tiles at the right edge are exactly what the root is joined from.
        let found = merkle::root(self, self.size)?;
        if found != *root {
            return Err(LedgerError::refused(
                "tree",
                format!("its tiles give the root {found} at {}, not {root}", self.size),
            ));
        }
        for ((level, index), hashes) in &self.tiles {
            if hashes.len() < usize::from(TILE_WIDTH) {
                continue;
            }
            let above = self.hash_at(HEIGHT * (level + 1), *index)?;
            if Hash::complete(hashes) != above {
                return Err(LedgerError::refused(
                    "tree",
                    format!("tile {index} of level {level} is not what the tile above it says"),
                ));
            }
        }
        Ok(())
    }
}

impl HashSource for TileSource {
    fn hash_at(&self, level: u8, index: u64) -> Result<Hash, MissingHash> {
        let node = Node { level, index };
        let hashes = Place::of(node).and_then(|place| {
            let tile = self.tiles.get(&(place.level, place.tile))?;
            tile.get(place.first..place.first.checked_add(place.count)?)
        });
        hashes.map(Hash::complete).ok_or(MissingHash(node))
    }
}
