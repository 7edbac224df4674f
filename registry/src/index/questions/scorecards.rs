//! What is asked of measurements: which there are, and what lacks one.

use rusqlite::{Row, params};
use waag_schema::statement::Scorecard;
use waag_schema::wire::artifact::ScorecardView;
use waag_schema::wire::leaderboard::ScoredView;
use waag_schema::{ArtifactName, Sha256, Timestamp};

use super::{Questions, column, corrupt, parsed, sha256, storable};
use crate::access::Reach;
use crate::index::IndexError;

fn scorecard(row: &Row<'_>) -> Result<ScorecardView, IndexError> {
    let text: String = column(row, "statement")?;
    Ok(ScorecardView {
        manifest: sha256(row, "manifest")?,
        entry: column(row, "position")?,
        recorded: Timestamp::from_unix(column(row, "at")?),
        scorecard: serde_json::from_str(&text).map_err(|e| corrupt(&e))?,
    })
}

fn position_of(row: &Row<'_>) -> Result<(u64, ArtifactName, Sha256), IndexError> {
    Ok((
        column(row, "position")?,
        parsed(row, "artifact")?,
        sha256(row, "manifest")?,
    ))
}

impl Questions<'_> {
    /// What was measured on this release, newest first?
    ///
    /// # Errors
    /// When the index fails.
    pub fn scorecards_of(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        limit: usize,
    ) -> Result<Vec<Scorecard>, IndexError> {
        let sql = "SELECT statement FROM scorecard WHERE artifact = ? AND manifest = ?
             ORDER BY position DESC LIMIT ?";
        let parameters = params![artifact.as_str(), manifest.as_bytes(), limit as u64];
        self.all(sql, parameters, |row| {
            let text: String = column(row, "statement")?;
            serde_json::from_str(&text).map_err(|e| corrupt(&e))
        })
    }

    /// Which scorecards has this artifact, newest first?
    ///
    /// # Errors
    /// When the index fails.
    pub fn scorecards(
        &self,
        artifact: &ArtifactName,
        limit: usize,
    ) -> Result<Vec<ScorecardView>, IndexError> {
        let sql = "SELECT * FROM scorecard WHERE artifact = ? ORDER BY position DESC LIMIT ?";
        self.all(sql, params![artifact.as_str(), limit as u64], scorecard)
    }

    /// At which positions stand the newest scorecards of this release?
    ///
    /// # Errors
    /// When the index fails.
    pub fn scorecard_entries(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
        limit: usize,
    ) -> Result<Vec<u64>, IndexError> {
        let sql = "SELECT position FROM scorecard WHERE artifact = ? AND manifest = ?
             ORDER BY position DESC LIMIT ?";
        let parameters = params![artifact.as_str(), manifest.as_bytes(), limit as u64];
        self.all(sql, parameters, |row| column(row, "position"))
    }

    /// What did the releases that this caller may read score on this suite, each by its newest scorecard, newest first?
    ///
    /// # Errors
    /// When the index fails.
    pub fn scored_on(
        &self,
        reach: &Reach,
        suite: &ArtifactName,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ScoredView>, IndexError> {
        let sql = "SELECT s.* FROM scorecard s
                 JOIN release r ON r.artifact = s.artifact AND r.manifest = s.manifest AND r.withdrawn IS NULL
                 JOIN artifact a ON a.name = s.artifact JOIN namespace n ON n.name = a.namespace
             WHERE s.asked = ?1 AND (?2 IS NULL OR s.position < ?2)
                 AND (?3 OR n.visibility = 'public' OR a.namespace IN (SELECT value FROM json_each(?4)))
                 AND NOT EXISTS (SELECT 1 FROM scorecard d WHERE d.artifact = s.artifact
                     AND d.manifest = s.manifest AND d.asked = s.asked AND d.position > s.position)
             ORDER BY s.position DESC LIMIT ?5";
        let below = below.map(|position| storable(position).unwrap_or(i64::MAX));
        let parameters = params![
            suite.as_str(),
            below,
            reach.everything(),
            reach.namespaces_json(),
            limit as u64
        ];
        self.all(sql, parameters, |row| {
            let text: String = column(row, "statement")?;
            let Scorecard {
                precision, sections, ..
            } = serde_json::from_str(&text).map_err(|e| corrupt(&e))?;
            Ok(ScoredView {
                artifact: parsed(row, "artifact")?,
                manifest: sha256(row, "manifest")?,
                suite: sha256(row, "suite")?,
                entry: column(row, "position")?,
                recorded: Timestamp::from_unix(column(row, "at")?),
                precision,
                sections,
            })
        })
    }

    /// Which suites were asked for scorecards of this artifact with these details? None stands for no suite; nothing is
    /// returned where there is no such scorecard.
    ///
    /// # Errors
    /// When the index fails.
    pub fn details_of(
        &self,
        artifact: &ArtifactName,
        details: &Sha256,
    ) -> Result<Vec<Option<ArtifactName>>, IndexError> {
        let sql = "SELECT DISTINCT asked FROM scorecard WHERE artifact = ? AND details = ?";
        self.all(sql, params![artifact.as_str(), details.as_bytes()], |row| {
            let asked: Option<String> = column(row, "asked")?;
            asked.map(|_| parsed(row, "asked")).transpose()
        })
    }

    /// Which releases from this position on have no scorecard of this engine, in the ledger's order? Those of this
    /// ledger that are not withdrawn, and those of other sites of which this one says that it holds a copy: these stand
    /// at the position of that.
    ///
    /// # Errors
    /// When the index fails.
    pub fn unweighed(
        &self,
        engine: &str,
        version: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, ArtifactName, Sha256)>, IndexError> {
        let sql = "SELECT r.position, r.artifact, r.manifest FROM (
                 SELECT position, artifact, manifest FROM release WHERE withdrawn IS NULL
                 UNION ALL
                 SELECT position, artifact, manifest FROM custody c WHERE state = 'holds' AND NOT EXISTS (
                     SELECT 1 FROM custody n WHERE n.artifact = c.artifact AND n.manifest = c.manifest
                         AND n.site = c.site AND n.position > c.position)
             ) r
             WHERE r.position >= ?1 AND NOT EXISTS (
                 SELECT 1 FROM scorecard s WHERE s.artifact = r.artifact AND s.manifest = r.manifest
                     AND s.engine = ?2 AND s.version = ?3)
             ORDER BY r.position LIMIT ?4";
        self.all(sql, params![from, engine, version, limit as u64], position_of)
    }

    /// Which models from this position on have no scorecard of this engine and precision on this suite, in the ledger's
    /// order? Withdrawn ones are none of them. Copies of other sites' releases are among them, models or not.
    ///
    /// # Errors
    /// When the index fails.
    pub fn unasked(
        &self,
        suite: &Sha256,
        (engine, version): (&str, &str),
        precision: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, ArtifactName, Sha256)>, IndexError> {
        let sql = "SELECT r.position, r.artifact, r.manifest FROM (
                 SELECT position, artifact, manifest FROM release WHERE withdrawn IS NULL AND EXISTS (
                     SELECT 1 FROM artifact a WHERE a.name = release.artifact AND a.kind = 'model')
                 UNION ALL
                 SELECT position, artifact, manifest FROM custody c WHERE state = 'holds' AND NOT EXISTS (
                     SELECT 1 FROM custody n WHERE n.artifact = c.artifact AND n.manifest = c.manifest
                         AND n.site = c.site AND n.position > c.position)
             ) r
             WHERE r.position >= ?1 AND NOT EXISTS (
                 SELECT 1 FROM scorecard s WHERE s.artifact = r.artifact AND s.manifest = r.manifest
                     AND s.engine = ?2 AND s.version = ?3 AND s.precision = ?4 AND s.suite = ?5)
             ORDER BY r.position LIMIT ?6";
        let of = params![from, engine, version, precision, suite.as_bytes(), limit as u64];
        self.all(sql, of, position_of)
    }
}
