//! What convicts a site: kept before anything else is done, and believed until an admin decides otherwise.

use bytes::Bytes;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::wire::federation::Evidence;

use super::{FollowError, Follower, damaged};
use crate::federation::exchange::{pardon, read_pardoned};
use crate::ledger::Standing;
use crate::store::{Key, Swap};

impl Follower {
    /// Keeps what convicts the site and stops believing it.
    pub(super) async fn convict(
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
    pub(in crate::federation) async fn accuse(
        &mut self,
        reason: &str,
        checkpoints: &[&SignedCheckpoint],
    ) -> Result<(), FollowError> {
        match self.standing {
            Standing::Sound => self.convict(reason, checkpoints).await.map(drop),
            Standing::Stopped(_) => Ok(()),
        }
    }

    /// Believes the site again: what was found against it stays in the log only, and is not held against it once more when
    /// others tell of it.
    pub(in crate::federation) async fn absolve(&mut self) -> Result<(), FollowError> {
        // If we stop in between, the evidence is there still, and it is decided again.
        if let Some(against) = self.copy.read_cell(&Key::evidence()).await? {
            let cell = self.copy.read_cell(&Key::pardoned()).await?;
            let before = cell.as_ref().map(read_pardoned).unwrap_or_default();
            let version = cell.as_ref().map(|cell| &cell.version);
            if let Some(bytes) = pardon(before, &against) {
                let _: Swap = self.copy.swap_cell(&Key::pardoned(), version, bytes).await?;
            }
        }
        self.copy.delete(&Key::evidence()).await?;
        self.standing = Standing::Sound;
        self.load().await
    }
}
