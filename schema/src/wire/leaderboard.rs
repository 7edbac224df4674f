//! What releases scored on one suite, page by page; ranking is for whoever reads it.

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::name::ArtifactName;
use crate::base::time::Timestamp;
use crate::statement::scorecard::Section;

/// A release that was weighed on the suite: its newest scorecard of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScoredView {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release's manifest.
    pub manifest: Sha256,
    /// The manifest of the suite's release that was asked.
    pub suite: Sha256,
    /// The ledger entry of the scorecard.
    pub entry: u64,
    /// When that was recorded.
    pub recorded: Timestamp,
    /// How it was computed.
    pub precision: String,
    /// What was found, and what was not and why.
    pub sections: Vec<Section>,
}

/// Answer of `GET /api/v1/leaderboard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaderboardPage {
    /// Newest scorecard first.
    pub scored: Vec<ScoredView>,
    /// Pass as `below` to read on; none at the end.
    pub next: Option<u64>,
}
