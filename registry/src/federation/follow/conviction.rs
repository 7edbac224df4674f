//! What convicts a site: kept before anything else is done, and believed until an admin decides otherwise.

use bytes::Bytes;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::wire::federation::Evidence;

use super::{FollowError, Follower, damaged};
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

    /// Believes the site again: what was found against it stays in the log only.
    pub(in crate::federation) async fn absolve(&mut self) -> Result<(), FollowError> {
        self.copy.delete(&Key::evidence()).await?;
        self.standing = Standing::Sound;
        self.load().await
    }
}
