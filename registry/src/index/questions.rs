//! Questions on the index, each a function that is named as the question.

use std::ops::RangeInclusive;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use waag_schema::content::planner::PlannerId;
use waag_schema::ledger::Stream;
use waag_schema::policy::label::Label;
use waag_schema::release::kind::Kind;
use waag_schema::statement::{Chain, Keeping, NamespaceState, Scorecard, Visibility};
use waag_schema::wire::artifact::{ArtifactSummary, ReleaseView, ScorecardView, TagView};
use waag_schema::wire::leaderboard::ScoredView;
use waag_schema::wire::site::GateView;
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256, SiteId, Tag, Timestamp};

use super::IndexError;
use crate::access::Reach;

/// Names the kinds again as the index of such entries does: else all entries are gone through.
const NEWEST: &str =
    "SELECT position, at FROM entry WHERE predicate = ? AND predicate IN ('revocation-list', 'erasure')
     ORDER BY position DESC LIMIT 1";

/// Answers on one consistent state of the index.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a> {
    connection: &'a Connection,
}

/// Which artifacts are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those of this namespace.
    pub namespace: Option<Namespace>,
    /// Only those behind this one.
    pub after: Option<ArtifactName>,
    /// Only those in whose name, kind, licence, architecture or size every word stands, in any case.
    pub words: String,
}

impl Wanted {
    fn words_json(&self) -> String {
        let words: Vec<String> = self.words.split_whitespace().map(str::to_lowercase).collect();
        serde_json::to_string(&words).expect("a list of strings always serialises")
    }
}

/// An artifact as its statements so far have made it.
#[derive(Debug, Clone)]
pub struct ArtifactRow {
    /// None before its first release.
    pub kind: Option<Kind>,
    /// The chain of statements on it.
    pub chain: Chain,
    /// Its newest label.
    pub label: Option<Label>,
    /// The entry of that label.
    pub label_position: Option<u64>,
}

/// A label, and whose it is.
#[derive(Debug, Clone)]
pub struct LabelRow {
    /// The artifact that it was laid on.
    pub artifact: ArtifactName,
    /// What it says.
    pub label: Label,
    /// The entry that says so.
    pub position: u64,
}

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

/// Where a statement stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Its position.
    pub position: u64,
    /// When it was recorded.
    pub at: Timestamp,
}

fn corrupt(error: &dyn std::fmt::Display) -> IndexError {
    IndexError::Corrupt(error.to_string())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: &str,
) -> Result<T, IndexError> {
    row.get::<_, String>(column)?
        .parse()
        .map_err(|e: T::Err| corrupt(&e))
}

/// What SQLite cannot hold is no row's number: it is asked for as NULL, which nothing equals.
fn storable(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, IndexError> {
    Ok(row.get(name)?)
}

fn sha256(row: &Row<'_>, name: &str) -> Result<Sha256, IndexError> {
    Ok(Sha256::from_bytes(row.get(name)?))
}

fn chain(row: &Row<'_>) -> Result<Chain, IndexError> {
    Ok(Chain {
        counter: column(row, "counter")?,
        head: Some(sha256(row, "head")?),
    })
}

fn kind(text: &str) -> Result<Kind, IndexError> {
    text.parse().map_err(|e| corrupt(&e))
}

impl<'a> Questions<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    pub(super) const fn connection(&self) -> &'a Connection {
        self.connection
    }

    fn one<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> Result<T, IndexError>,
    ) -> Result<Option<T>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        rows.next()?.map(read).transpose()
    }

    fn all<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl Fn(&Row<'_>) -> Result<T, IndexError>,
    ) -> Result<Vec<T>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// What is this namespace now?
    ///
    /// # Errors
    /// When the index fails, as for every question here.
    pub fn namespace(&self, name: &Namespace) -> Result<Option<NamespaceState>, IndexError> {
        self.one(
            "SELECT * FROM namespace WHERE name = ?",
            params![name.as_str()],
            |row| {
                let json = |name| -> Result<String, IndexError> { column(row, name) };
                let visibility = match json("visibility")?.as_str() {
                    "public" => Visibility::Public,
                    _ => Visibility::Private,
                };
                Ok(NamespaceState {
                    name: name.clone(),
                    id: sha256(row, "id")?,
                    keys: serde_json::from_str(&json("keys")?).map_err(|e| corrupt(&e))?,
                    home: parsed(row, "home")?,
                    visibility,
                    sites: serde_json::from_str(&json("sites")?).map_err(|e| corrupt(&e))?,
                    chain: chain(row)?,
                })
            },
        )
    }

    /// Which gates stand before tags of this namespace?
    ///
    /// # Errors
    /// When the index fails.
    pub fn gates(&self, name: &Namespace) -> Result<Vec<GateView>, IndexError> {
        let sql = "SELECT * FROM gate WHERE namespace = ? ORDER BY tag";
        self.all(sql, params![name.as_str()], |row| {
            let text: String = column(row, "requirements")?;
            Ok(GateView {
                tag: parsed(row, "tag")?,
                requirements: serde_json::from_str(&text).map_err(|e| corrupt(&e))?,
                entry: column(row, "position")?,
            })
        })
    }

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

    /// Which namespaces are there?
    ///
    /// # Errors
    /// When the index fails.
    pub fn namespaces(&self) -> Result<Vec<Namespace>, IndexError> {
        self.all("SELECT name FROM namespace ORDER BY name", params![], |row| {
            parsed(row, "name")
        })
    }

    /// What is this artifact now?
    ///
    /// # Errors
    /// When the index fails.
    pub fn artifact(&self, name: &ArtifactName) -> Result<Option<ArtifactRow>, IndexError> {
        self.one(
            "SELECT * FROM artifact WHERE name = ?",
            params![name.as_str()],
            |row| {
                let label: Option<String> = column(row, "label")?;
                let text: Option<String> = column(row, "kind")?;
                Ok(ArtifactRow {
                    kind: text.as_deref().map(kind).transpose()?,
                    chain: chain(row)?,
                    label: label
                        .map(|l| serde_json::from_str(&l))
                        .transpose()
                        .map_err(|e| corrupt(&e))?,
                    label_position: column(row, "label_position")?,
                })
            },
        )
    }

    /// Which artifacts may this caller read that fit, in order of name?
    ///
    /// # Errors
    /// When the index fails.
    pub fn artifacts(
        &self,
        reach: &Reach,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<ArtifactSummary>, IndexError> {
        let sql = "SELECT a.*, count(*) AS releases, max(r.at) AS updated
             FROM artifact a JOIN release r ON r.artifact = a.name JOIN namespace n ON n.name = a.namespace
             WHERE a.name > ?1 AND (?2 IS NULL OR a.namespace = ?2)
                 AND (?3 OR n.visibility = 'public' OR a.namespace IN (SELECT value FROM json_each(?4)))
                 AND NOT EXISTS (SELECT 1 FROM json_each(?5) w WHERE instr(a.words, w.value) = 0)
             GROUP BY a.name ORDER BY a.name LIMIT ?6";
        let parameters = params![
            wanted.after.as_ref().map_or("", ArtifactName::as_str),
            wanted.namespace.as_ref().map(Namespace::as_str),
            reach.everything(),
            reach.namespaces_json(),
            wanted.words_json(),
            limit as u64
        ];
        self.all(sql, parameters, |row| {
            Ok(ArtifactSummary {
                name: parsed(row, "name")?,
                kind: kind(&column::<String>(row, "kind")?)?,
                releases: column(row, "releases")?,
                updated: Timestamp::from_unix(column(row, "updated")?),
                license: column(row, "license")?,
                architecture: column(row, "architecture")?,
                parameters: column(row, "parameters")?,
            })
        })
    }

    /// Which releases has this artifact, newest first?
    ///
    /// # Errors
    /// When the index fails.
    pub fn releases(&self, artifact: &ArtifactName) -> Result<Vec<ReleaseView>, IndexError> {
        let sql = "SELECT * FROM release WHERE artifact = ? ORDER BY position DESC";
        self.all(sql, params![artifact.as_str()], release)
    }

    /// What is known of this release?
    ///
    /// # Errors
    /// When the index fails.
    pub fn release(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<ReleaseView>, IndexError> {
        let sql = "SELECT * FROM release WHERE artifact = ? AND manifest = ?";
        self.one(sql, params![artifact.as_str(), manifest.as_bytes()], release)
    }

    /// How many entries are folded?
    ///
    /// # Errors
    /// When the index fails.
    pub fn size(&self) -> Result<u64, IndexError> {
        let found = self.one("SELECT size FROM ledger", params![], |row| column(row, "size"))?;
        Ok(found.unwrap_or(0))
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

    /// Which releases stand in the ledger that are not withdrawn, of which artifact, in its order?
    ///
    /// # Errors
    /// When the index fails.
    pub fn all_releases(&self) -> Result<Vec<(ArtifactName, ReleaseView)>, IndexError> {
        self.all("SELECT * FROM release ORDER BY position", params![], |row| {
            Ok((parsed(row, "artifact")?, release(row)?))
        })
    }

    /// Is this manifest a release of an artifact of this ledger?
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_manifest(&self, manifest: &Sha256) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM release WHERE manifest = ? LIMIT 1";
        Ok(self.one(sql, params![manifest.as_bytes()], |_| Ok(()))?.is_some())
    }

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

    /// Are there entries that erase others?
    ///
    /// # Errors
    /// When the index fails.
    pub fn erases(&self) -> Result<bool, IndexError> {
        Ok(self.newest("erasure")?.is_some())
    }

    /// Does this entry erase another one?
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_erasure(&self, position: u64) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM entry WHERE position = ? AND predicate = 'erasure'";
        Ok(self.one(sql, params![storable(position)], |_| Ok(()))?.is_some())
    }

    /// Which tags has this artifact?
    ///
    /// # Errors
    /// When the index fails.
    pub fn tags(&self, artifact: &ArtifactName) -> Result<Vec<TagView>, IndexError> {
        self.all(
            "SELECT * FROM tag WHERE artifact = ? ORDER BY tag",
            params![artifact.as_str()],
            tag,
        )
    }

    /// What does this tag name?
    ///
    /// # Errors
    /// When the index fails.
    pub fn tag(&self, artifact: &ArtifactName, name: &Tag) -> Result<Option<TagView>, IndexError> {
        let sql = "SELECT * FROM tag WHERE artifact = ? AND tag = ?";
        self.one(sql, params![artifact.as_str(), name.as_str()], tag)
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

    /// Which labels is this artifact under, its own and those of everything that it was made from, as far as that is
    /// known here? Its own comes first, the others by name. They are decided together, wherever something is decided.
    ///
    /// # Errors
    /// When the index fails.
    pub fn labels(&self, artifact: &ArtifactName) -> Result<Vec<LabelRow>, IndexError> {
        let sql = "WITH RECURSIVE line (name) AS (
                 SELECT ?1 UNION SELECT l.ancestor FROM lineage l JOIN line ON l.artifact = line.name)
             SELECT a.name, a.label, a.label_position FROM line JOIN artifact a ON a.name = line.name
             WHERE a.label IS NOT NULL ORDER BY a.name <> ?1, a.name";
        self.all(sql, params![artifact.as_str()], |row| {
            Ok(LabelRow {
                artifact: parsed(row, "name")?,
                label: serde_json::from_str(&column::<String>(row, "label")?).map_err(|e| corrupt(&e))?,
                position: column(row, "label_position")?,
            })
        })
    }

    /// Where does an envelope stand in the ledger, if it was recorded?
    ///
    /// # Errors
    /// When the index fails.
    pub fn recorded(&self, envelope: &Sha256) -> Result<Option<Located>, IndexError> {
        let sql = "SELECT position, at FROM entry WHERE envelope = ?";
        self.one(sql, params![envelope.as_bytes()], located)
    }

    /// At which positions do the statements on a namespace itself stand?
    ///
    /// # Errors
    /// When the index fails.
    pub fn namespace_entries(&self, name: &Namespace) -> Result<Vec<u64>, IndexError> {
        let sql = "SELECT position FROM entry WHERE subject = ? ORDER BY position";
        self.all(sql, params![name.as_str()], |row| column(row, "position"))
    }

    /// At which position stands the last statement on a subject?
    ///
    /// # Errors
    /// When the index fails.
    pub fn last_entry_on(&self, subject: &str) -> Result<Option<u64>, IndexError> {
        let sql = "SELECT position FROM entry WHERE subject = ? ORDER BY position DESC LIMIT 1";
        self.one(sql, params![subject], |row| column(row, "position"))
    }

    /// Which releases of this ledger were withdrawn with erasure, and has this site not said yet that they are gone?
    ///
    /// # Errors
    /// When the index fails.
    pub fn to_erase(&self, site: &SiteId) -> Result<Vec<(ArtifactName, ReleaseView)>, IndexError> {
        let sql = "SELECT r.* FROM release r WHERE r.erase = 1 AND NOT EXISTS (
                 SELECT 1 FROM custody c WHERE c.site = ? AND c.artifact = r.artifact AND c.manifest = r.manifest
                     AND c.state = 'erased')
             ORDER BY r.position";
        self.all(sql, params![site.as_str()], |row| {
            Ok((parsed(row, "artifact")?, release(row)?))
        })
    }

    /// Has its publisher said that copies of this release have to be deleted?
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_to_be_erased(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<bool, IndexError> {
        let sql = "SELECT erase FROM release WHERE artifact = ? AND manifest = ?";
        let found = self.one(sql, params![artifact.as_str(), manifest.as_bytes()], |row| {
            column::<bool>(row, "erase")
        })?;
        Ok(found.unwrap_or(false))
    }

    /// At which position stands the withdrawal of a release, if it was withdrawn?
    ///
    /// # Errors
    /// When the index fails.
    pub fn withdrawal(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Option<u64>, IndexError> {
        let sql = "SELECT withdrawn_position AS position FROM release WHERE artifact = ? AND manifest = ?";
        Ok(self
            .one(sql, params![artifact.as_str(), manifest.as_bytes()], |row| {
                column(row, "position")
            })?
            .flatten())
    }

    /// At which positions stand the releases that are withdrawn?
    ///
    /// # Errors
    /// When the index fails.
    pub fn withdrawn(&self) -> Result<Vec<u64>, IndexError> {
        let sql = "SELECT position FROM release WHERE withdrawn_position IS NOT NULL ORDER BY position";
        self.all(sql, params![], |row| column(row, "position"))
    }

    /// Where stands the newest statement of this kind, `revocation-list` or `erasure`?
    ///
    /// # Errors
    /// When the index fails.
    pub fn newest(&self, predicate: &str) -> Result<Option<Located>, IndexError> {
        self.one(NEWEST, params![predicate], located)
    }

    /// Which private namespaces may or might this site read; which entry ended it, where one did?
    ///
    /// # Errors
    /// When the index fails.
    pub fn read_by(&self, site: &SiteId) -> Result<Vec<(Namespace, Option<u64>)>, IndexError> {
        let sql = "SELECT namespace, ended FROM reader WHERE site = ? ORDER BY namespace";
        self.all(sql, params![site.as_str()], |row| {
            Ok((parsed(row, "namespace")?, column(row, "ended")?))
        })
    }

    /// Which streams are there of copies of other sites' private namespaces?
    ///
    /// # Errors
    /// When the index fails.
    pub fn copies_streams(&self) -> Result<Vec<Stream>, IndexError> {
        // Behind `-` comes `.`, which no stream has.
        let sql = "SELECT DISTINCT stream FROM entry WHERE stream <> 'open'
                 AND stream > 'copies-' AND stream < 'copies.' ORDER BY stream";
        self.all(sql, params![], |row| parsed(row, "stream"))
    }

    /// Which is the last entry of this stream at one of these positions, and its number in the stream?
    ///
    /// # Errors
    /// When the index fails.
    pub fn last_of_stream(
        &self,
        stream: &Stream,
        positions: RangeInclusive<u64>,
    ) -> Result<Option<(u64, u64)>, IndexError> {
        let sql = "SELECT position, seq FROM entry WHERE stream = ? AND stream <> 'open'
                 AND position BETWEEN ? AND ? ORDER BY position DESC LIMIT 1";
        let parameters = params![stream.as_str(), positions.start(), positions.end()];
        self.one(sql, parameters, |row| {
            Ok((column(row, "position")?, column(row, "seq")?))
        })
    }

    /// How many entries of this stream are folded, of all series?
    ///
    /// # Errors
    /// When the index fails.
    pub fn folded_of_stream(&self, stream: &Stream) -> Result<u64, IndexError> {
        let sql = "SELECT count(*) AS entries FROM entry WHERE stream = ? AND stream <> 'open'";
        let found = self.one(sql, params![stream.as_str()], |row| column(row, "entries"))?;
        Ok(found.unwrap_or(0))
    }

    /// How many entries has this stream?
    ///
    /// # Errors
    /// When the index fails.
    pub fn stream_count(&self, stream: &str) -> Result<u64, IndexError> {
        let found = self
            .connection
            .prepare_cached("SELECT count FROM stream WHERE name = ?")?
            .query_row(params![stream], |r| r.get(0))
            .optional()?;
        Ok(found.unwrap_or(0))
    }

    /// Whose statement is this entry? Within: none for the site's own.
    ///
    /// # Errors
    /// When the index fails.
    pub fn namespace_of(&self, position: u64) -> Result<Option<Option<Namespace>>, IndexError> {
        self.one(
            "SELECT subject FROM entry WHERE position = ?",
            params![storable(position)],
            |row| {
                let subject: String = column(row, "subject")?;
                let namespace = subject.split('/').next().unwrap_or_default();
                Ok(if namespace.contains(':') {
                    None
                } else {
                    Some(namespace.parse().map_err(|e| corrupt(&e))?)
                })
            },
        )
    }

    /// Of which namespace that has artifacts is this entry the beginning, a rotation, a gate, or who may read it?
    ///
    /// # Errors
    /// When the index fails.
    pub fn founds(&self, position: u64) -> Result<Option<Namespace>, IndexError> {
        let sql = "SELECT subject FROM entry WHERE position = ? AND predicate IN ('namespace', 'rotation', 'gate', 'access') \
                   AND EXISTS (SELECT 1 FROM artifact WHERE artifact.namespace = entry.subject)";
        self.one(sql, params![position], |row| parsed(row, "subject"))
    }

    /// In which stream, and where in it, is the opening of this entry?
    ///
    /// # Errors
    /// When the index fails.
    pub fn place_of(&self, position: u64) -> Result<Option<(String, u64)>, IndexError> {
        let sql = "SELECT stream, seq FROM entry WHERE position = ?";
        self.one(sql, params![storable(position)], |row| {
            Ok((column(row, "stream")?, column(row, "seq")?))
        })
    }
}

fn located(row: &Row<'_>) -> Result<Located, IndexError> {
    Ok(Located {
        position: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
    })
}

fn scorecard(row: &Row<'_>) -> Result<ScorecardView, IndexError> {
    let text: String = column(row, "statement")?;
    Ok(ScorecardView {
        manifest: sha256(row, "manifest")?,
        entry: column(row, "position")?,
        recorded: Timestamp::from_unix(column(row, "at")?),
        scorecard: serde_json::from_str(&text).map_err(|e| corrupt(&e))?,
    })
}

fn custody(row: &Row<'_>) -> Result<CustodyRow, IndexError> {
    let state: String = column(row, "state")?;
    Ok(CustodyRow {
        site: parsed(row, "site")?,
        artifact: parsed(row, "artifact")?,
        manifest: sha256(row, "manifest")?,
        state: match state.as_str() {
            "holds" => Keeping::Holds,
            "refused" => Keeping::Refused,
            "erased" => Keeping::Erased,
            other => return Err(corrupt(&format_args!("custody {other}"))),
        },
        reason: column(row, "reason")?,
        size: column(row, "size")?,
        entry: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
    })
}

fn position_of(row: &Row<'_>) -> Result<(u64, ArtifactName, Sha256), IndexError> {
    Ok((
        column(row, "position")?,
        parsed(row, "artifact")?,
        sha256(row, "manifest")?,
    ))
}

fn release(row: &Row<'_>) -> Result<ReleaseView, IndexError> {
    Ok(ReleaseView {
        manifest: sha256(row, "manifest")?,
        entry: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
        files: column(row, "files")?,
        bytes: column(row, "bytes")?,
        withdrawn: column(row, "withdrawn")?,
    })
}

fn tag(row: &Row<'_>) -> Result<TagView, IndexError> {
    Ok(TagView {
        tag: parsed(row, "tag")?,
        manifest: sha256(row, "manifest")?,
        entry: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
    })
}

fn content(row: &Row<'_>) -> Result<ContentRow, IndexError> {
    Ok(ContentRow {
        sha256: sha256(row, "sha256")?,
        recipe: ChunkDigest::from_bytes(column(row, "recipe")?),
        size: column(row, "size")?,
        planner: parsed(row, "planner")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_rare_kind_is_found_without_going_through_all_entries() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {NEWEST}"), ["erasure"], |row| {
                row.get(3)
            })
            .unwrap();
        assert!(plan.contains("entry_by_predicate"), "{plan}");
    }
}
