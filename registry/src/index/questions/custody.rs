//! What is asked of custody: what sites said that they do with bytes.

use rusqlite::{Row, params};
use waag_schema::statement::Keeping;
use waag_schema::{ArtifactName, Sha256, SiteId, Timestamp};

use super::{Questions, column, parsed, sha256};
use crate::index::IndexError;

/// What a site said last of its custody of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyRow {
    /// The site.
    pub site: SiteId,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// What it does with the bytes.
    pub state: Keeping,
    /// Why.
    pub reason: Option<String>,
    /// How many entries of the home ledger it had verified when it said so.
    pub size: u64,
    /// The entry that says so.
    pub entry: u64,
    /// When that was recorded.
    pub at: Timestamp,
}

pub(super) fn custody(row: &Row<'_>) -> Result<CustodyRow, IndexError> {
    Ok(CustodyRow {
        site: parsed(row, "site")?,
        artifact: parsed(row, "artifact")?,
        manifest: sha256(row, "manifest")?,
        state: parsed(row, "state")?,
        reason: column(row, "reason")?,
        size: column(row, "size")?,
        entry: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
    })
}

impl Questions<'_> {
    /// What did each site say last of its custody of releases: of this artifact, or of all?
    ///
    /// # Errors
    /// When the index fails.
    pub fn custody(&self, artifact: Option<&ArtifactName>) -> Result<Vec<CustodyRow>, IndexError> {
        let sql = "SELECT c.* FROM custody c WHERE (?1 IS NULL OR c.artifact = ?1) AND NOT EXISTS (
                 SELECT 1 FROM custody n WHERE n.artifact = c.artifact AND n.manifest = c.manifest
                     AND n.site = c.site AND n.position > c.position)
             ORDER BY c.artifact, c.manifest, c.site";
        self.all(sql, params![artifact.map(ArtifactName::as_str)], custody)
    }

    /// Which is the first copy, by the entry that says so from this one on, that its site holds by its newest word?
    ///
    /// # Errors
    /// When the index fails.
    pub fn held_from(&self, entry: u64) -> Result<Option<CustodyRow>, IndexError> {
        let sql = "SELECT c.* FROM custody c WHERE c.position >= ? AND c.state = 'holds' AND NOT EXISTS (
                 SELECT 1 FROM custody n WHERE n.artifact = c.artifact AND n.manifest = c.manifest
                     AND n.site = c.site AND n.position > c.position)
             ORDER BY c.position LIMIT 1";
        self.one(sql, params![entry], custody)
    }

    /// What did a site say last of its custody of this release?
    ///
    /// # Errors
    /// When the index fails.
    pub fn custody_of(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<CustodyRow>, IndexError> {
        let sql = "SELECT * FROM custody WHERE artifact = ? AND manifest = ? ORDER BY position DESC LIMIT 1";
        self.one(sql, params![artifact.as_str(), manifest.as_bytes()], custody)
    }
}
