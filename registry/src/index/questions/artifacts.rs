//! What is asked of artifacts: namespaces, their gates, releases, tags, labels.

use rusqlite::{Row, params};
use waag_schema::policy::label::Label;
use waag_schema::release::kind::Kind;
use waag_schema::statement::{Chain, NamespaceState, Visibility};
use waag_schema::wire::artifact::{ArtifactSummary, ReleaseView, TagView};
use waag_schema::wire::site::GateView;
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId, Tag, Timestamp};

use super::{Questions, column, corrupt, parsed, sha256};
use crate::access::Reach;
use crate::index::IndexError;

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

fn chain(row: &Row<'_>) -> Result<Chain, IndexError> {
    Ok(Chain {
        counter: column(row, "counter")?,
        head: Some(sha256(row, "head")?),
    })
}

pub(super) fn kind(text: &str) -> Result<Kind, IndexError> {
    text.parse().map_err(|e| corrupt(&e))
}

pub(super) fn release(row: &Row<'_>) -> Result<ReleaseView, IndexError> {
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

impl Questions<'_> {
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

    /// Which artifacts were made from this one, or from what was made from it, as far as that is known here?
    ///
    /// # Errors
    /// When the index fails.
    pub fn made_from(&self, artifact: &ArtifactName) -> Result<Vec<ArtifactName>, IndexError> {
        let sql = "WITH RECURSIVE line (name) AS (
                 SELECT ?1 UNION SELECT l.artifact FROM lineage l JOIN line ON l.ancestor = line.name)
             SELECT name FROM line WHERE name <> ?1";
        self.all(sql, params![artifact.as_str()], |row| parsed(row, "name"))
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
}
