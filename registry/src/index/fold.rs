//! One entry into rows. No rule is checked here: what stands in the ledger was admitted, and a refold of a
//! million entries shall not verify a million signatures again (`waag ledger fsck` does).

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use waag_schema::content::recipe::Recipe;
use waag_schema::release::Packed;
use waag_schema::release::model::ModelConfig;
use waag_schema::statement::gate::Gate;
use waag_schema::statement::{
    Access, Chain, Content, Envelope, NamespaceState, Predicate, Release, Statement, StatementError, Subject,
};
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256, Timestamp};

use super::{Index, IndexError, element};

/// An envelope with what its fold needs: parsed, and the recipes that it names.
#[derive(Debug)]
pub struct Prepared {
    /// The envelope.
    pub envelope: Envelope,
    /// What it says.
    pub statement: Statement,
    /// The recipes of a release by their digest, those that are at this site.
    pub recipes: HashMap<ChunkDigest, Recipe>,
    /// The config of a release, if it is at this site and a ModelPack's.
    pub config: Option<ModelConfig>,
    /// What the manifest of a release says of packed files, if it is at this site and has any.
    pub packed: Option<Packed>,
    /// What the manifest of a release names as its base and training data, if it is at this site.
    pub ancestors: Vec<ArtifactName>,
}

impl Prepared {
    /// Parses an envelope; recipes are added by who has a store at hand.
    ///
    /// # Errors
    /// When the payload is no statement.
    pub fn parse(envelope: Envelope) -> Result<Self, StatementError> {
        let statement = Statement::parse(envelope.payload())?;
        Ok(Self {
            envelope,
            statement,
            recipes: HashMap::new(),
            config: None,
            packed: None,
            ancestors: Vec::new(),
        })
    }

    /// Returns a recipe that the statement names and that was not at hand.
    #[must_use]
    pub fn lacks(&self) -> Option<ChunkDigest> {
        let Predicate::Release(release) = &self.statement.predicate else {
            return None;
        };
        let mut named = release.content.iter().chain([&release.config]);
        named
            .find(|content| !self.recipes.contains_key(&content.recipe))
            .map(|content| content.recipe)
    }
}

/// Where and when an entry was recorded.
#[derive(Debug, Clone, Copy)]
struct Recorded {
    position: u64,
    at: Timestamp,
}

impl Index {
    /// Writes the rows of one entry.
    ///
    /// # Errors
    /// When SQLite fails, or the entry cannot follow what is folded: then the ledger was not made by this
    /// fold's rules.
    pub fn fold(
        &mut self,
        position: u64,
        at: Timestamp,
        stream: &str,
        seq: u64,
        prepared: &Prepared,
    ) -> Result<(), IndexError> {
        let Statement { subject, predicate } = &prepared.statement;
        let recorded = Recorded { position, at };
        self.batch.note(&prepared.statement);
        self.run(
            "INSERT INTO entry (position, envelope, predicate, subject, stream, seq, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                position,
                prepared.envelope.digest().as_bytes(),
                predicate.name(),
                subject.name(),
                stream,
                seq,
                at.unix()
            ],
        )?;
        self.set_stream_count(stream, seq + 1)?;
        match (predicate, subject) {
            (Predicate::Genesis(_) | Predicate::Rotation(_), _) => self.fold_namespace(prepared),
            (Predicate::Gate(gate), Subject::Namespace(name)) => {
                self.fold_namespace(prepared)?;
                self.fold_gate(position, name, gate)
            }
            (Predicate::Access(access), Subject::Namespace(name)) => {
                self.fold_namespace(prepared)?;
                self.fold_access(position, name, access)
            }
            (Predicate::Scorecard(scorecard), Subject::Manifest(artifact, manifest)) => {
                let text =
                    serde_json::to_string(scorecard).map_err(|e| IndexError::Corrupt(e.to_string()))?;
                self.run(
                    "INSERT INTO scorecard
                         (position, artifact, manifest, at, engine, version, precision, asked, suite, details, statement)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    params![
                        position,
                        artifact.as_str(),
                        manifest.as_bytes(),
                        at.unix(),
                        scorecard.harness.name,
                        scorecard.harness.version,
                        scorecard.precision,
                        scorecard.suite.as_ref().map(|suite| suite.artifact.as_str()),
                        scorecard.suite.as_ref().map(|suite| *suite.manifest.as_bytes()),
                        scorecard.details.as_ref().map(|d| *d.sha256.as_bytes()),
                        text
                    ],
                )
            }
            (Predicate::Custody(custody), Subject::Site(site)) => {
                self.run(
                    "INSERT INTO custody (position, site, artifact, manifest, state, reason, home, size, at)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    params![
                        position,
                        site.as_str(),
                        custody.artifact.as_str(),
                        custody.manifest.as_bytes(),
                        custody.state.as_str(),
                        custody.reason,
                        custody.home.to_string(),
                        custody.size,
                        at.unix()
                    ],
                )?;
                self.fold_holding(position, site, custody)
            }
            (_, Subject::Artifact(artifact) | Subject::Manifest(artifact, _)) => {
                self.extend_chain(artifact, prepared)?;
                match (predicate, subject) {
                    (Predicate::Release(release), Subject::Manifest(_, manifest)) => {
                        self.describe(artifact, release, prepared.config.as_ref())?;
                        self.fold_release(recorded, artifact, manifest, release, prepared, false)
                    }
                    (Predicate::Tag(tag), Subject::Manifest(_, manifest)) => self.run(
                        "INSERT INTO tag (artifact, tag, manifest, position, at) VALUES (?, ?, ?, ?, ?)
                         ON CONFLICT DO UPDATE SET manifest = excluded.manifest, position = excluded.position,
                             at = excluded.at",
                        params![
                            artifact.as_str(),
                            tag.tag.as_str(),
                            manifest.as_bytes(),
                            position,
                            at.unix()
                        ],
                    ),
                    (Predicate::Residency(residency), _) => {
                        let label = serde_json::to_string(&residency.label)
                            .map_err(|e| IndexError::Corrupt(e.to_string()))?;
                        self.run(
                            "UPDATE artifact SET label = ?, label_position = ? WHERE name = ?",
                            params![label, position, artifact.as_str()],
                        )
                    }
                    (Predicate::Withdrawal(withdrawal), Subject::Manifest(_, manifest)) => {
                        self.run(
                            "UPDATE release SET withdrawn = ?, withdrawn_position = ?, erase = max(erase, ?)
                             WHERE artifact = ? AND manifest = ?",
                            params![
                                withdrawal.reason,
                                position,
                                withdrawal.erase,
                                artifact.as_str(),
                                manifest.as_bytes()
                            ],
                        )?;
                        if withdrawal.erase {
                            self.forget_content(artifact, manifest)?;
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Drops the rows of what only this release has: nobody reads it any more.
    fn forget_content(&mut self, artifact: &ArtifactName, manifest: &Sha256) -> Result<(), IndexError> {
        let contents: String = self
            .connection
            .prepare_cached(
                "SELECT json_group_array(content) FROM release_content WHERE artifact = ? AND manifest = ?",
            )?
            .query_row(params![artifact.as_str(), manifest.as_bytes()], |r| r.get(0))?;
        self.run(
            "DELETE FROM release_content WHERE artifact = ? AND manifest = ?",
            params![artifact.as_str(), manifest.as_bytes()],
        )?;
        self.run(
            "DELETE FROM content_use WHERE artifact = ?1 AND content IN (SELECT value FROM json_each(?2))
                 AND NOT EXISTS (SELECT 1 FROM release_content r
                     WHERE r.artifact = ?1 AND r.content = content_use.content)",
            params![artifact.as_str(), contents],
        )?;
        let unused = "IN (SELECT value FROM json_each(?)
            WHERE NOT EXISTS (SELECT 1 FROM release_content r WHERE r.content = value))";
        // One walk through all chunks: they are found by digest, and erasures are rare.
        self.run(
            &format!("DELETE FROM chunk_use WHERE content {unused}"),
            params![contents],
        )?;
        self.run(
            &format!("DELETE FROM content WHERE id {unused}"),
            params![contents],
        )
    }

    /// Writes what a release's own content says of it, once that has arrived behind its statement: the same rows as
    /// a fold writes that finds the content there.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn arrived(&mut self, position: u64, at: Timestamp, prepared: &Prepared) -> Result<(), IndexError> {
        let (Predicate::Release(release), Subject::Manifest(artifact, manifest)) =
            (&prepared.statement.predicate, &prepared.statement.subject)
        else {
            return Ok(());
        };
        self.batch.note(&prepared.statement);
        let newest = self.questions().releases(artifact)?.first().map(|r| r.entry);
        if newest == Some(position) {
            self.describe(artifact, release, prepared.config.as_ref())?;
        }
        if let Some(packed) = &prepared.packed {
            self.run(
                "UPDATE release SET files = ?, bytes = ? WHERE artifact = ? AND manifest = ?",
                params![packed.files, packed.bytes, artifact.as_str(), manifest.as_bytes()],
            )?;
        }
        let recorded = Recorded { position, at };
        self.fold_release(recorded, artifact, manifest, release, prepared, true)
    }

    /// Notes how many slots of a stream are used.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn set_stream_count(&mut self, stream: &str, count: u64) -> Result<(), IndexError> {
        self.run(
            "INSERT INTO stream (name, count) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = excluded.count",
            params![stream, count],
        )
    }

    /// Begins with the next series, whose streams all begin anew.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn begin_series(&mut self) -> Result<(), IndexError> {
        self.run("DELETE FROM stream", params![])
    }

    pub(super) fn run(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<(), IndexError> {
        self.connection.prepare_cached(sql)?.execute(parameters)?;
        Ok(())
    }

    fn fold_namespace(&mut self, prepared: &Prepared) -> Result<(), IndexError> {
        let Some(name) = prepared.statement.subject.namespace() else {
            return Ok(());
        };
        let corrupt = |e: &dyn std::fmt::Display| IndexError::Corrupt(format!("namespace {name}: {e}"));
        let state = match &prepared.statement.predicate {
            Predicate::Genesis(genesis) => NamespaceState {
                name: name.clone(),
                id: Sha256::of(prepared.envelope.payload()),
                keys: genesis.keys.clone(),
                home: genesis.home.clone(),
                visibility: genesis.visibility,
                sites: Vec::new(),
                chain: Chain::default().then(prepared.envelope.digest()),
            },
            Predicate::Rotation(rotation) => {
                let known = self
                    .questions()
                    .namespace(&name)?
                    .ok_or_else(|| corrupt(&"rotated before it began"))?;
                let chain = known.chain.then(prepared.envelope.digest());
                NamespaceState {
                    keys: rotation.keys.clone(),
                    chain,
                    ..known
                }
            }
            Predicate::Gate(_) => {
                let known = self
                    .questions()
                    .namespace(&name)?
                    .ok_or_else(|| corrupt(&"a gate before it began"))?;
                let chain = known.chain.then(prepared.envelope.digest());
                NamespaceState { chain, ..known }
            }
            Predicate::Access(access) => {
                let known = self
                    .questions()
                    .namespace(&name)?
                    .ok_or_else(|| corrupt(&"shared before it began"))?;
                NamespaceState {
                    sites: access.sites.clone(),
                    chain: known.chain.then(prepared.envelope.digest()),
                    ..known
                }
            }
            _ => return Ok(()),
        };
        let keys = serde_json::to_string(&state.keys).map_err(|e| corrupt(&e))?;
        let visibility = serde_json::to_value(state.visibility).map_err(|e| corrupt(&e))?;
        let sites = serde_json::to_string(&state.sites).map_err(|e| corrupt(&e))?;
        self.run(
            "INSERT INTO namespace (name, id, keys, home, visibility, sites, counter, head)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET keys = excluded.keys, sites = excluded.sites, counter = excluded.counter,
                 head = excluded.head",
            params![
                name.as_str(),
                state.id.as_bytes(),
                keys,
                state.home.as_str(),
                visibility.as_str(),
                sites,
                state.chain.counter,
                prepared.envelope.digest().as_bytes()
            ],
        )
    }

    fn fold_gate(&mut self, position: u64, name: &Namespace, gate: &Gate) -> Result<(), IndexError> {
        if gate.requirements.is_empty() {
            return self.run(
                "DELETE FROM gate WHERE namespace = ? AND tag = ?",
                params![name.as_str(), gate.tag.as_str()],
            );
        }
        let requirements =
            serde_json::to_string(&gate.requirements).map_err(|e| IndexError::Corrupt(e.to_string()))?;
        self.run(
            "INSERT INTO gate (namespace, tag, position, requirements) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET position = excluded.position, requirements = excluded.requirements",
            params![name.as_str(), gate.tag.as_str(), position, requirements],
        )
    }

    /// Notes who may read from now on, and for whom this entry is the last.
    fn fold_access(&mut self, position: u64, name: &Namespace, access: &Access) -> Result<(), IndexError> {
        let sites = serde_json::to_string(&access.sites).map_err(|e| IndexError::Corrupt(e.to_string()))?;
        self.run(
            "UPDATE reader SET ended = ?2 WHERE namespace = ?1 AND ended IS NULL
                 AND site NOT IN (SELECT value FROM json_each(?3))",
            params![name.as_str(), position, sites],
        )?;
        self.run(
            "INSERT INTO reader (namespace, site) SELECT ?1, value FROM json_each(?2) WHERE true
             ON CONFLICT DO UPDATE SET ended = NULL",
            params![name.as_str(), sites],
        )
    }

    fn extend_chain(&mut self, artifact: &ArtifactName, prepared: &Prepared) -> Result<(), IndexError> {
        let counter = prepared.statement.predicate.link().map_or(0, |link| link.counter);
        self.run(
            "INSERT INTO artifact (name, namespace, counter, head) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET counter = excluded.counter, head = excluded.head",
            params![
                artifact.as_str(),
                artifact.namespace().as_str(),
                counter,
                prepared.envelope.digest().as_bytes()
            ],
        )
    }

    /// Notes what a release says of itself, and the words to find it by.
    fn describe(
        &mut self,
        artifact: &ArtifactName,
        release: &Release,
        config: Option<&ModelConfig>,
    ) -> Result<(), IndexError> {
        let license = config
            .map(|c| c.descriptor.licenses.join(", "))
            .filter(|l| !l.is_empty());
        let architecture = config.and_then(|c| c.config.architecture.clone());
        let parameters = config.and_then(|c| c.config.param_size.clone());
        let kind = release.kind.to_string();
        let described = [
            license.as_deref(),
            architecture.as_deref(),
            parameters.as_deref(),
            Some(kind.as_str()),
        ];
        let words: Vec<&str> = [artifact.as_str()]
            .into_iter()
            .chain(described.into_iter().flatten())
            .collect();
        self.run(
            "UPDATE artifact SET kind = ?, license = ?, architecture = ?, parameters = ?, words = ? WHERE name = ?",
            params![kind, license, architecture, parameters, words.join(" ").to_lowercase(), artifact.as_str()],
        )
    }

    fn fold_release(
        &mut self,
        recorded: Recorded,
        artifact: &ArtifactName,
        manifest: &Sha256,
        release: &Release,
        prepared: &Prepared,
        arrived: bool,
    ) -> Result<(), IndexError> {
        let Prepared { recipes, packed, .. } = prepared;
        let sizes = release.content.iter().map(|c| c.size);
        let of_layers = (release.content.len() as u64, sizes.fold(0, u64::saturating_add));
        // Of tars nobody wants to know how many there are.
        let (files, bytes) = packed.as_ref().map_or(of_layers, |p| (p.files, p.bytes));
        if packed.is_some() {
            self.run(
                "INSERT OR IGNORE INTO packed (artifact, position, manifest) VALUES (?, ?, ?)",
                params![artifact.as_str(), recorded.position, manifest.as_bytes()],
            )?;
        }
        for ancestor in prepared.ancestors.iter().filter(|ancestor| *ancestor != artifact) {
            self.run(
                "INSERT OR IGNORE INTO lineage (artifact, ancestor) VALUES (?, ?)",
                params![artifact.as_str(), ancestor.as_str()],
            )?;
        }
        self.run(
            "UPDATE artifact SET kind = ? WHERE name = ?",
            params![release.kind.to_string(), artifact.as_str()],
        )?;
        self.run(
            "INSERT OR IGNORE INTO release (artifact, manifest, position, at, files, bytes, element)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                artifact.as_str(),
                manifest.as_bytes(),
                recorded.position,
                recorded.at.unix(),
                files,
                bytes,
                element(artifact, manifest).as_bytes()
            ],
        )?;
        for content in release.content.iter().chain([&release.config]) {
            let (id, new) = self.content_id(content)?;
            self.run(
                "INSERT OR IGNORE INTO content_use (content, artifact) VALUES (?, ?)",
                params![id, artifact.as_str()],
            )?;
            self.run(
                "INSERT OR IGNORE INTO release_content (artifact, manifest, content) VALUES (?, ?, ?)",
                params![artifact.as_str(), manifest.as_bytes(), id],
            )?;
            if !new && !arrived {
                continue;
            }
            for piece in recipes.get(&content.recipe).iter().flat_map(|r| r.pieces()) {
                self.run(
                    "INSERT OR IGNORE INTO chunk_use (chunk, content) VALUES (?, ?)",
                    params![piece.chunk.as_bytes(), id],
                )?;
            }
        }
        Ok(())
    }

    /// Returns the row of a file with this recipe, and whether it was made just now.
    fn content_id(&mut self, content: &Content) -> Result<(i64, bool), IndexError> {
        let (sha256, recipe) = (content.sha256.as_bytes(), content.recipe.as_bytes());
        let known: Option<i64> = self
            .connection
            .prepare_cached("SELECT id FROM content WHERE sha256 = ? AND recipe = ?")?
            .query_row(params![sha256, recipe], |r| r.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok((id, false));
        }
        self.run(
            "INSERT INTO content (sha256, recipe, size, planner) VALUES (?, ?, ?, ?)",
            params![sha256, recipe, content.size, content.planner.to_string()],
        )?;
        Ok((self.connection.last_insert_rowid(), true))
    }
}
