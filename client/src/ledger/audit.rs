//! The whole ledger, computed anew: every leaf is fetched, the tree is built from them, and its roots are held
//! against the signed checkpoint and against the one that was remembered. Nothing is believed on the way.
//!
//! Budget: 45 bytes for each entry and 32 for its hash cross the network; memory is a few bundles and the
//! tree's right edge, whatever its size.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use waag_schema::SiteId;
use waag_schema::ledger::tile::TILE_WIDTH;
use waag_schema::ledger::{
    Checkpoint, Class, Edge, Growth, Hash, Leaf, LedgerError, RefKind, Root, SignedCheckpoint, TileKind,
    TilePath,
};

use super::leaves::{fetch, hashes, not_served};
use crate::error::{ClientError, Result};
use crate::site::Site;
use crate::trust::Standing;

/// Bundles fetched at once.
const BUNDLES_AT_ONCE: usize = 8;
const WIDTH: u64 = TILE_WIDTH as u64;

/// A ledger that is what its site signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// The site.
    pub site: SiteId,
    /// How many entries the ledger has, in all its series.
    pub size: u64,
    /// The root of its newest tree, as computed here and as signed there.
    pub root: Root,
    /// The size of the tree that was remembered, which this one continues.
    pub continues: Option<u64>,
    /// How many tiles of hashes were compared.
    pub tiles: u64,
    /// Entries that anybody may read.
    pub open: u64,
    /// Entries for certain readers.
    pub restricted: u64,
    /// Entries that erase another one's opening.
    pub erasures: u64,
}

/// Computes a site's ledger anew from all its leaves.
///
/// # Errors
/// [`ClientError::Verification`] when a root, a tile or a bundle is not what was signed, or the ledger does not
/// continue what was remembered; both checkpoints are kept then.
pub async fn audit(site: &Site) -> Result<Audited> {
    let (pin, trust) = (site.pin(), site.trust());
    let newest = site.newest().await?;
    match trust.compare(pin, &newest)? {
        Standing::Older(_) | Standing::Ended => return Err(trust.set_back(pin, &newest)),
        // Followed first, so that what was seen of the ledger before is compared with where that ended.
        Standing::Successor(_) => site.observe(&newest).await?,
        Standing::First | Standing::Same | Standing::Newer(_) => {}
    }
    let known = trust.remembered(pin)?;
    let mut audited = Audited {
        site: pin.site.clone(),
        size: 0,
        root: newest.checkpoint().root,
        continues: known.as_ref().map(|known| known.checkpoint().size),
        tiles: 0,
        open: 0,
        restricted: 0,
        erasures: 0,
    };
    for signed in site.lineage(&newest).await? {
        let same = |known: &&SignedCheckpoint| known.checkpoint().origin == signed.checkpoint().origin;
        let done = audit_series(site, &signed, known.as_ref().filter(same)).await?;
        audited.size += signed.checkpoint().size;
        audited.tiles += done.tiles;
        audited.open += done.open;
        audited.restricted += done.restricted;
        audited.erasures += done.erasures;
    }
    site.observe(&newest).await?;
    Ok(audited)
}

/// Computes one series anew.
async fn audit_series(
    site: &Site,
    signed: &SignedCheckpoint,
    known: Option<&SignedCheckpoint>,
) -> Result<Build> {
    let checkpoint = signed.checkpoint();
    let mut build = Build::new(checkpoint, known);
    let mut bundles = stream::iter(0..checkpoint.size.div_ceil(WIDTH))
        .map(|index| read(site, checkpoint, index))
        .buffered(BUNDLES_AT_ONCE);
    while let Some(next) = bundles.next().await {
        for (path, bytes) in build
            .take(&next?)
            .map_err(|wrong| said(site, signed, known, wrong))?
        {
            let tile = site.tile(checkpoint.origin.series(), path).await;
            let (found, served) = tile.map_err(not_served)?;
            if !served.starts_with(&bytes) {
                return Err(differs(&found));
            }
        }
    }
    build.finish().map_err(|wrong| said(site, signed, known, wrong))
}

/// Fetches a bundle, and the tile of its leaves' hashes, which must be just that.
async fn read(site: &Site, tree: &Checkpoint, index: u64) -> Result<Vec<Leaf>> {
    let leaves = fetch(site, tree, index).await?;
    if let Some(path) = TilePath::in_tree(TileKind::Hashes(0), index, tree.size) {
        let (found, bytes) = site.tile(tree.origin.series(), path).await.map_err(not_served)?;
        if !bytes.starts_with(&hashes(&leaves)) {
            return Err(differs(&found));
        }
    }
    Ok(leaves)
}

fn differs(path: &TilePath) -> ClientError {
    ClientError::verification("ledger", format_args!("{path} is not what the entries give"))
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    /// The tree is none.
    Tree(LedgerError),
    /// The leaves give another root than was signed.
    Root(Root),
    /// The leaves give another root at the remembered size.
    Known,
}

fn said(
    site: &Site,
    signed: &SignedCheckpoint,
    known: Option<&SignedCheckpoint>,
    wrong: Wrong,
) -> ClientError {
    match (wrong, known) {
        (Wrong::Known, Some(known)) => site.trust().two_histories(site.pin(), known, signed),
        (Wrong::Root(found), _) => {
            let Checkpoint { size, root, .. } = signed.checkpoint();
            ClientError::verification(
                "ledger",
                format_args!("its {size} entries give the root {found}, {root} was signed"),
            )
        }
        (Wrong::Tree(error), _) => ClientError::verification("ledger", error),
        (Wrong::Known, None) => {
            ClientError::verification("ledger", "it does not continue what was remembered")
        }
    }
}

/// The tree so far. Pure.
struct Build {
    target: Checkpoint,
    known: Option<Checkpoint>,
    edge: Edge,
    tiles: u64,
    open: u64,
    restricted: u64,
    erasures: u64,
}

impl Build {
    fn new(target: &Checkpoint, known: Option<&SignedCheckpoint>) -> Self {
        Self {
            target: target.clone(),
            known: known.map(|known| known.checkpoint().clone()),
            edge: Edge::default(),
            tiles: 0,
            open: 0,
            restricted: 0,
            erasures: 0,
        }
    }

    /// Takes the next leaves, and returns the tiles above the lowest that are complete with them, as they stand
    /// in the whole tree.
    fn take(&mut self, leaves: &[Leaf]) -> Result<Vec<(TilePath, Vec<u8>)>, Wrong> {
        for leaf in leaves {
            match leaf.class {
                Class::Open | Class::Admin => self.open += 1,
                Class::Restricted => self.restricted += 1,
                Class::Pad => {}
            }
            self.erasures += u64::from(matches!(leaf.reference, Some((RefKind::Erases, _))));
        }
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        let before = self.edge.size();
        let known = self.known.as_ref();
        let at = known.map_or(u64::MAX, |known| known.size.saturating_sub(before));
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(hashes.len());
        let (old, new) = hashes.split_at(at);
        let mut tiles = self.grow(old)?;
        if self
            .known
            .as_ref()
            .is_some_and(|known| known.size == self.edge.size() && known.root != self.edge.root())
        {
            return Err(Wrong::Known);
        }
        tiles.extend(self.grow(new)?);
        let size = self.target.size;
        tiles.retain(|(path, _)| {
            path.kind() != TileKind::Hashes(0)
                && TilePath::in_tree(path.kind(), path.index(), size) == Some(*path)
        });
        self.tiles += 1 + tiles.len() as u64;
        Ok(tiles)
    }

    fn grow(&mut self, hashes: &[Hash]) -> Result<Vec<(TilePath, Vec<u8>)>, Wrong> {
        let Growth { edge, tiles, .. } = self.edge.grow(hashes).map_err(Wrong::Tree)?;
        self.edge = edge;
        Ok(tiles)
    }

    fn finish(self) -> Result<Self, Wrong> {
        let found = self.edge.root();
        if self.edge.size() == self.target.size && found == self.target.root {
            Ok(self)
        } else {
            Err(Wrong::Root(found))
        }
    }
}

#[cfg(test)]
mod tests {
    use waag_schema::base::key::KeyPair;
    use waag_schema::ledger::{Commitment, Origin};

    use super::*;

    fn leaves(count: u32, salt: u8) -> Vec<Leaf> {
        (0..count)
            .map(|i| {
                let mut bytes = [salt; 32];
                bytes[..4].copy_from_slice(&i.to_be_bytes());
                Leaf {
                    class: if i % 3 == 0 {
                        Class::Restricted
                    } else {
                        Class::Open
                    },
                    reference: (i % 100 == 99).then(|| (RefKind::Erases, u64::from(i) - 1)),
                    commitment: Commitment::from_bytes(bytes),
                }
            })
            .collect()
    }

    fn checkpoint(leaves: &[Leaf]) -> Checkpoint {
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        let growth = Edge::default().grow(&hashes).unwrap();
        Checkpoint {
            origin: Origin::of(&KeyPair::from_seed(&[1; 32]).public().site_id(), 1),
            size: growth.size,
            root: growth.root,
        }
    }

    fn signed(leaves: &[Leaf]) -> SignedCheckpoint {
        SignedCheckpoint::sign(checkpoint(leaves), &KeyPair::from_seed(&[1; 32]))
    }

    fn run(
        target: &Checkpoint,
        known: Option<&SignedCheckpoint>,
        leaves: &[Leaf],
    ) -> Result<Vec<TilePath>, Wrong> {
        let mut build = Build::new(target, known);
        let mut paths = Vec::new();
        for bundle in leaves.chunks(usize::from(TILE_WIDTH)) {
            paths.extend(build.take(bundle)?.into_iter().map(|(path, _)| path));
        }
        build.finish().map(|_| paths)
    }

    #[test]
    fn all_leaves_give_the_signed_root_and_every_upper_tile_once() {
        for count in [0, 1, 255, 256, 257, 1000, 66_000] {
            let all = leaves(count, 1);
            let known = signed(&all[..all.len() / 2]);
            let paths = run(&checkpoint(&all), Some(&known), &all).unwrap();
            let mut expected: Vec<TilePath> = Vec::new();
            for level in 1..=2 {
                expected.extend(
                    (0..2).filter_map(|index| {
                        TilePath::in_tree(TileKind::Hashes(level), index, u64::from(count))
                    }),
                );
            }
            let mut found = paths.clone();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{count}");
        }
    }

    #[test]
    fn a_changed_leaf_changes_the_root() {
        let all = leaves(300, 1);
        let target = checkpoint(&all);
        let mut other = all.clone();
        other[7].class = Class::Pad;
        assert!(matches!(run(&target, None, &other), Err(Wrong::Root(_))));
        assert!(matches!(run(&target, None, &all[..299]), Err(Wrong::Root(_))));
    }

    #[test]
    fn a_history_that_is_not_the_remembered_one_is_found() {
        let (all, other) = (leaves(600, 1), leaves(600, 2));
        for size in [1, 255, 256, 300, 600] {
            let known = signed(&other[..size]);
            assert_eq!(
                run(&checkpoint(&all), Some(&known), &all),
                Err(Wrong::Known),
                "{size}"
            );
        }
    }
}
