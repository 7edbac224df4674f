//! Does what a site shows go on from what was seen of it? Its checkpoints, compared by tiles of its own that prove it.
//!
//! No tile is believed before it gives a root that was signed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency, root_nodes, verify_consistency};
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    Checkpoint, Edge, Origin, SignedCheckpoint, TileKind, TilePath, TileSource, site_key,
};

use super::{FollowError, Follower, WIDTH, damaged, lies};
use crate::federation::peer::PeerError;
use crate::ledger::{AppendError, load_tiles, root_at};

/// The most series that a ledger may have begun since it was last looked at.
const SERIES_MAX: u32 = 64;

impl Follower {
    /// Reads a checkpoint and checks that this site signed it.
    pub(super) fn signed(&self, note: &[u8]) -> Result<SignedCheckpoint, FollowError> {
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
        // Whatever the key signs behind the end, somebody else may have it.
        if let Some(end) = self.site.end_before(signed.checkpoint()) {
            return Err(FollowError::Ended {
                origin: origin.clone(),
                end: end.size,
                shown: signed.checkpoint().size,
            });
        }
        Ok(signed)
    }

    /// Asks which key the site signs with; the charter has to say the same.
    pub(super) async fn ask_site_key(&self) -> Result<Arc<str>, FollowError> {
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
    pub(super) async fn targets(
        &mut self,
        newest: &SignedCheckpoint,
    ) -> Result<Vec<SignedCheckpoint>, FollowError> {
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

    pub(super) fn behind(&self, shown: &SignedCheckpoint) -> FollowError {
        FollowError::Behind {
            origin: shown.checkpoint().origin.clone(),
            shown: shown.checkpoint().size,
            known: self.trees.last().map_or(0, |known| known.checkpoint().size),
        }
    }

    /// Holds a tree against the one that was followed.
    pub(super) async fn compare(
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
    pub(super) async fn tiles_of(
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

    pub(super) async fn tile(&self, series: u32, path: TilePath) -> Result<(TilePath, Bytes), FollowError> {
        let ask = async |path: TilePath| match &self.teller {
            Some(teller) => teller.tile_of(&self.site.id, series, &path).await,
            None => self.peer.tile(series, &path).await,
        };
        let (found, bytes) = match ask(path).await {
            Err(PeerError::Absent(_)) if !path.is_full() => (path.full(), ask(path.full()).await?),
            answer => (path, answer?),
        };
        if bytes.len() != found.byte_len() {
            return Err(lies(format_args!("{found} came with {} bytes", bytes.len())));
        }
        Ok((found, bytes))
    }

    /// Returns the edge of what is copied of a series.
    pub(super) async fn edge(
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
}
