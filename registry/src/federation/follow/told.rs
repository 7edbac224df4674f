//! A tree that another site was shown, held against what was followed: the other site gives its tiles, which are those of
//! the signed tree or none.

use std::sync::Arc;

use waag_schema::ledger::SignedCheckpoint;

use super::{FollowError, Follower};
use crate::federation::peer::Peer;
use crate::ledger::Standing;

impl Follower {
    /// Holds a tree that was told against the one that was followed. Whether its site shows it here is another question.
    pub(in crate::federation) async fn hold_against(
        &mut self,
        found: &SignedCheckpoint,
        teller: Arc<dyn Peer>,
    ) -> Result<(), FollowError> {
        let same = |known: &&SignedCheckpoint| known.checkpoint().origin == found.checkpoint().origin;
        let Some(known) = self.trees.iter().find(same).cloned() else {
            return Ok(());
        };
        if self.standing != Standing::Sound {
            return Ok(());
        }
        self.teller = Some(teller);
        let compared = self.compare(&known, found).await;
        self.teller = None;
        match compared {
            // It has grown here meanwhile, by the same history.
            Err(FollowError::Behind { .. }) => Ok(()),
            compared => compared,
        }
    }
}
