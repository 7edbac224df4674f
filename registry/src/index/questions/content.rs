//! What is asked of bytes: which files and chunks there are, and through which artifacts somebody may know of them.

use rusqlite::{Row, params};
use waag_schema::content::planner::PlannerId;
use waag_schema::policy::label::Label;
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256};

use super::{Questions, column, parsed, sha256};
use crate::access::Reach;
use crate::index::IndexError;

/// A file and how it is made of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRow {
    /// The file.
    pub sha256: Sha256,
    /// Its recipe.
    pub recipe: ChunkDigest,
    /// Its length.
    pub size: u64,
    /// What cut it.
    pub planner: PlannerId,
}

pub(super) fn content(row: &Row<'_>) -> Result<ContentRow, IndexError> {
    Ok(ContentRow {
        sha256: sha256(row, "sha256")?,
        recipe: ChunkDigest::from_bytes(column(row, "recipe")?),
        size: column(row, "size")?,
        planner: parsed(row, "planner")?,
    })
}

impl Questions<'_> {
    /// Is this recipe one of a layer of this ledger's artifacts?
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_recipe(&self, recipe: &ChunkDigest) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM content WHERE recipe = ? LIMIT 1";
        Ok(self.one(sql, params![recipe.as_bytes()], |_| Ok(()))?.is_some())
    }

    /// Is this chunk in a layer of this ledger's artifacts?
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_chunk(&self, chunk: &ChunkDigest) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM chunk_use WHERE chunk = ? LIMIT 1";
        Ok(self.one(sql, params![chunk.as_bytes()], |_| Ok(()))?.is_some())
    }

    /// Which are the newest releases of this artifact that pack files?
    ///
    /// # Errors
    /// When the index fails.
    pub fn packed_releases(&self, artifact: &ArtifactName, limit: usize) -> Result<Vec<Sha256>, IndexError> {
        let sql = "SELECT manifest FROM packed WHERE artifact = ? ORDER BY position DESC LIMIT ?";
        self.all(sql, params![artifact.as_str(), limit as u64], |row| {
            sha256(row, "manifest")
        })
    }

    /// How is this layer of this artifact made of chunks?
    ///
    /// # Errors
    /// When the index fails.
    pub fn content_of(
        &self,
        artifact: &ArtifactName,
        file: &Sha256,
    ) -> Result<Option<ContentRow>, IndexError> {
        let sql = "SELECT c.* FROM content c JOIN content_use u ON u.content = c.id
             WHERE c.sha256 = ? AND u.artifact = ? ORDER BY c.id LIMIT 1";
        self.one(sql, params![file.as_bytes(), artifact.as_str()], content)
    }

    /// Which recipes has this file, of those that the caller may know of through an artifact that `allows`?
    ///
    /// # Errors
    /// When the index fails.
    pub fn reusable_content(
        &self,
        reach: &Reach,
        file: &Sha256,
        allows: impl Fn(&Namespace, &[Label]) -> bool,
    ) -> Result<Vec<ContentRow>, IndexError> {
        let sql =
            "SELECT DISTINCT c.*, a.name AS artifact FROM content c JOIN content_use u ON u.content = c.id
                 JOIN artifact a ON a.name = u.artifact JOIN namespace n ON n.name = a.namespace
             WHERE c.sha256 = ?1
                 AND (?2 OR n.visibility = 'public' OR a.namespace IN (SELECT value FROM json_each(?3)))";
        let parameters = params![file.as_bytes(), reach.everything(), reach.namespaces_json()];
        let rows = self.all(sql, parameters, |row| {
            Ok((content(row)?, parsed(row, "artifact")?))
        })?;
        let mut found = Vec::new();
        for (row, artifact) in rows {
            if self.allows_through(&artifact, &allows)? {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// May the caller know of this chunk through an artifact that `allows`?
    ///
    /// # Errors
    /// When the index fails.
    pub fn reusable_chunk(
        &self,
        reach: &Reach,
        chunk: &ChunkDigest,
        allows: impl Fn(&Namespace, &[Label]) -> bool,
    ) -> Result<bool, IndexError> {
        let sql =
            "SELECT DISTINCT a.name AS artifact FROM chunk_use k JOIN content_use u ON u.content = k.content
                 JOIN artifact a ON a.name = u.artifact JOIN namespace n ON n.name = a.namespace
             WHERE k.chunk = ?1
                 AND (?2 OR n.visibility = 'public' OR a.namespace IN (SELECT value FROM json_each(?3)))";
        let parameters = params![chunk.as_bytes(), reach.everything(), reach.namespaces_json()];
        for artifact in self.all(sql, parameters, |row| parsed(row, "artifact"))? {
            if self.allows_through(&artifact, &allows)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn allows_through(
        &self,
        artifact: &ArtifactName,
        allows: impl Fn(&Namespace, &[Label]) -> bool,
    ) -> Result<bool, IndexError> {
        let labels: Vec<Label> = self.labels(artifact)?.into_iter().map(|row| row.label).collect();
        Ok(allows(&artifact.namespace(), &labels))
    }
}
