//! A site's history as this machine has seen it: each checkpoint goes on from the one before, series by series.
//!
//! A checkpoint is kept only once it is known to continue; what contradicts it is kept as evidence.

use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency, verify_consistency};
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    Checkpoint, Hash, LedgerError, SignedCheckpoint, TilePath, TileSource, entry_number,
};
use waag_schema::statement::{Predicate, Successor};
use waag_schema::wire::artifact::Proof;

use super::Site;
use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::said;
use crate::trust::Standing;

impl Site {
    /// Returns the last checkpoints of all series of the ledger, the given one last.
    pub(crate) async fn lineage(&self, newest: &SignedCheckpoint) -> Result<Vec<SignedCheckpoint>> {
        let mut lineage = vec![newest.clone()];
        let mut series = newest.checkpoint().origin.series();
        while series > 1 {
            let (successor, _) = self.successor(series).await?;
            series = successor.origin.series();
            let ask = Ask::get(self.ledger_path(&format!("{series}/checkpoint")));
            let bytes = self.transport.bytes(ask, NOTE_BYTES_MAX).await?;
            let signed =
                SignedCheckpoint::parse(&bytes).map_err(|e| ClientError::verification("checkpoint", e))?;
            self.pin.check_signed(&signed)?;
            let ended = signed.checkpoint();
            if (&ended.origin, ended.size, ended.root) != (&successor.origin, successor.size, successor.root)
            {
                return Err(ClientError::verification(
                    "checkpoint",
                    format_args!(
                        "the last one of {} is not the one that its successor names",
                        ended.origin
                    ),
                ));
            }
            lineage.insert(0, signed);
        }
        Ok(lineage)
    }

    /// Fetches the site's newest checkpoint, and believes it if it continues what was signed before.
    ///
    /// # Errors
    /// As for [`Self::observe`]; also when the site shows an older one than before.
    pub async fn observe_newest(&self) -> Result<Checkpoint> {
        Ok(self.observed().await?.checkpoint().clone())
    }

    /// The same, with its signatures.
    pub(crate) async fn observed(&self) -> Result<SignedCheckpoint> {
        let signed = self.newest().await?;
        match self.trust.compare(&self.pin, &signed)? {
            Standing::Older(_) | Standing::Ended => Err(self.trust.set_back(&self.pin, &signed)),
            _ => {
                self.observe(&signed).await?;
                Ok(signed)
            }
        }
    }

    /// Believes a checkpoint if the site signed it and it belongs to the one history that was seen before.
    ///
    /// One that is older than what is remembered may come from an answer that was under way meanwhile; it is
    /// accepted when it is the beginning of the remembered tree and the site still stands by that.
    ///
    /// # Errors
    /// When it is not signed, or of a second history; both checkpoints are kept then.
    pub async fn observe(&self, signed: &SignedCheckpoint) -> Result<()> {
        loop {
            let standing = self.trust.compare(&self.pin, signed)?;
            match &standing {
                Standing::Same => return Ok(()),
                Standing::First => {}
                Standing::Newer(known) => self.check_continues(known, signed.checkpoint(), signed).await?,
                Standing::Older(known) => {
                    // Asked first: a site that was set back has no tiles of what is remembered.
                    let newest = self.newest().await?;
                    if let Standing::Older(_) = self.trust.compare(&self.pin, &newest)? {
                        if self.copy {
                            // A copy may be behind: that convicts nobody, and cannot be checked here either.
                            return Err(ClientError::Lagging {
                                mirror: self.url().to_string(),
                                home: self.pin.site.clone(),
                                shown: newest.checkpoint().size,
                                known: known.size,
                            });
                        }
                        return Err(self.trust.set_back(&self.pin, &newest));
                    }
                    return self.check_continues(signed.checkpoint(), known, signed).await;
                }
                Standing::Successor(known) => {
                    let found = self.follow(known, signed).await?;
                    self.trust.remember(&self.pin, &found, &standing)?;
                    continue;
                }
                Standing::Ended => return Err(self.trust.set_back(&self.pin, signed)),
            }
            // Another process may have remembered a tree meanwhile; ends when nobody does.
            if self.trust.remember(&self.pin, signed, &standing)? {
                return Ok(());
            }
        }
    }

    /// Goes on with the successor of a ledger though entries are lost that were seen here, or are not those that
    /// were seen. What was seen stays on this disk.
    ///
    /// # Errors
    /// When the site shows no successor, or what it shows does not hold.
    pub async fn accept_successor(&self) -> Result<Checkpoint> {
        let signed = self.newest().await?;
        let standing = self.trust.compare(&self.pin, &signed)?;
        let Standing::Successor(_) = &standing else {
            return Err(ClientError::Usage(format!(
                "the site {} shows no successor of the ledger that was seen: there is nothing to accept",
                self.pin.site
            )));
        };
        let (_, found) = self.successor(signed.checkpoint().origin.series()).await?;
        self.trust.remember(&self.pin, &found, &standing)?;
        self.observe_newest().await
    }

    /// Checks that nothing is lost of what was seen of an earlier series, and returns a checkpoint of the newest.
    async fn follow(&self, known: &Checkpoint, signed: &SignedCheckpoint) -> Result<SignedCheckpoint> {
        let (mut successor, found) = self.successor(signed.checkpoint().origin.series()).await?;
        while successor.origin.series() > known.origin.series() {
            successor = self.successor(successor.origin.series()).await?.0;
        }
        let Successor {
            origin, size, root, ..
        } = successor;
        let stands = Checkpoint { origin, size, root };
        let kept = stands.origin == known.origin && known.size <= stands.size;
        if !kept || (known.size == stands.size && known.root != stands.root) {
            return Err(self.trust.lost(&self.pin, &stands, &found));
        }
        self.check_continues(known, &stands, &found).await?;
        Ok(found)
    }

    /// Asks what a series continues; returns that with the checkpoint under which it was proven.
    async fn successor(&self, series: u32) -> Result<(Successor, SignedCheckpoint)> {
        let what = format!("series {series} of the ledger");
        let refused = |reason: &dyn std::fmt::Display| ClientError::verification(&what, reason);
        let entry = entry_number(series, 0).map_err(|e| refused(&e))?;
        let path = self.ledger_api(&format!("entries/{entry}"));
        let proof: Proof = self.transport.json(Ask::get(path)).await?;
        let read = said::read(&self.pin, &what, &proof)?;
        let found = read.entries.into_iter().find(|said| said.index == entry);
        match found.map(|said| said.statement.predicate) {
            Some(Predicate::Successor(successor)) if successor.origin.series() < series => {
                Ok((successor, read.newest))
            }
            _ => Err(refused(&"it does not say what it continues")),
        }
    }

    pub(crate) async fn newest(&self) -> Result<SignedCheckpoint> {
        if self.copy {
            let ask = Ask::get(self.ledger_path("checkpoint"));
            let bytes = self.transport.bytes(ask, NOTE_BYTES_MAX).await?;
            let signed =
                SignedCheckpoint::parse(&bytes).map_err(|e| ClientError::verification("checkpoint", e))?;
            self.pin.check_signed(&signed)?;
            return Ok(signed);
        }
        self.transport.newest(&self.pin).await
    }

    /// Checks that the old tree is the beginning of the new one, with tiles of the new one.
    async fn check_continues(
        &self,
        old: &Checkpoint,
        new: &Checkpoint,
        found: &SignedCheckpoint,
    ) -> Result<()> {
        let path = self.consistency(old, new).await?;
        if verify_consistency(&old.tree(), &new.tree(), &path).is_ok() {
            return Ok(());
        }
        match self.trust.remembered(&self.pin)? {
            Some(known) => Err(self.trust.two_histories(&self.pin, &known, found)),
            None => Err(ClientError::verification(
                "checkpoint",
                "what it continued has gone from this disk",
            )),
        }
    }

    /// Computes from tiles of the new tree what should lead to it from the old one.
    pub(crate) async fn consistency(&self, old: &Checkpoint, new: &Checkpoint) -> Result<Vec<Hash>> {
        let refused = |e: LedgerError| ClientError::verification("checkpoint", e);
        let nodes = consistency_nodes(old.size, new.size).map_err(refused)?;
        let mut tiles = TileSource::new(new.size);
        for path in tiles_for(&nodes, new.size) {
            let (path, bytes) = self.tile(new.origin.series(), path).await?;
            tiles.insert(&path, &bytes).map_err(refused)?;
        }
        prove_consistency(&tiles, old.size, new.size).map_err(refused)
    }

    /// Fetches a tile; a partial one may have been swept away once it was full.
    pub(crate) async fn tile(&self, series: u32, path: TilePath) -> Result<(TilePath, Vec<u8>)> {
        let fetch = async |path: TilePath| {
            let ask = Ask::get(self.ledger_path(&format!("{series}/{path}")));
            let bytes = self.transport.bytes(ask, path.byte_len()).await?;
            Ok::<_, ClientError>((path, bytes))
        };
        match fetch(path).await {
            Err(ClientError::Absent(_)) if !path.is_full() => fetch(path.full()).await,
            other => other,
        }
    }

    pub(super) fn odd(&self, reason: String) -> ClientError {
        ClientError::Answer {
            url: self.url().to_string(),
            reason,
        }
    }
}
