//! What comes in: namespaces, releases, and statements that need no content.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use waag_schema::content::gguf::{self, Reading};
use waag_schema::content::planner::CHUNK_MAX;
use waag_schema::content::recipe::Recipe;
use waag_schema::content::safetensors::{self, Header, SafetensorsError};
use waag_schema::policy::{Action, Label, decide};
use waag_schema::release::files::{Files, LIST_MAX_BYTES, Place};
use waag_schema::release::gate::{self, Unsafe};
use waag_schema::release::kind::Kind;
use waag_schema::release::manifest::Manifest;
use waag_schema::release::packed::{Packed, tar_path};
use waag_schema::release::role::Packing;
use waag_schema::release::tar::{TarCheck, TarError};
use waag_schema::statement::{Content, Envelope, NamespaceState, Predicate, Release, Statement, Subject};
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::upload::UploadRequest;
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256};

use super::PublishError;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::content::{self, ContentError, Uploads};
use crate::evaluation::read_suite;
use crate::index::{Reader, Rejection};
use crate::ledger::{AppendError, Ledger};
use crate::store::{Key, Store};

/// The most statements in one request: a release, a label and some tags.
const ENVELOPES_MAX: usize = 16;

/// Takes in what publishers sign.
#[derive(Clone)]
pub struct Intake {
    /// Who this site is.
    pub here: Here,
    /// Where manifests go.
    pub store: Arc<dyn Store>,
    /// What is recorded so far.
    pub reader: Reader,
    /// Where statements go.
    pub ledger: Ledger,
    /// What was sent for them.
    pub uploads: Uploads,
    /// What is stored.
    pub content: content::Content,
    /// Formats that run code and may be published all the same.
    pub allowed: Vec<Unsafe>,
    /// When it is.
    pub clock: Arc<dyn Clock>,
}

/// An envelope and what it says.
struct Said {
    envelope: Envelope,
    statement: Statement,
}

impl Intake {
    /// Admits a namespace by its signed genesis.
    ///
    /// # Errors
    /// When the caller is no admin, the genesis is no good, or its name is taken.
    pub async fn namespace(&self, caller: &Caller, envelope: &[u8]) -> Result<Proof, PublishError> {
        if !caller.is_admin() {
            return Err(PublishError::NotAdmin("admit a namespace"));
        }
        let said = read(envelope)?;
        if !matches!(said.statement.predicate, Predicate::Genesis(_)) {
            return Err(PublishError::Mismatch(
                "the statement does not begin a namespace".to_owned(),
            ));
        }
        if let Some(name) = said.statement.subject.namespace() {
            self.may_begin(&name)?;
        }
        self.record(vec![said.envelope]).await
    }

    /// Changes a namespace's keys by a signed rotation.
    ///
    /// # Errors
    /// When the caller may not publish there, or the rotation is not signed by the old and the new keys.
    pub async fn rotation(
        &self,
        caller: &Caller,
        name: &Namespace,
        envelope: &[u8],
    ) -> Result<Proof, PublishError> {
        self.publisher(caller, name).await?;
        let said = read(envelope)?;
        if !matches!(said.statement.predicate, Predicate::Rotation(_))
            || said.statement.subject.name() != name.as_str()
        {
            return Err(PublishError::Mismatch(format!(
                "the statement does not change the keys of `{name}`"
            )));
        }
        self.record(vec![said.envelope]).await
    }

    /// Puts a gate before a tag of a namespace, or takes it away, by a statement of its owners.
    ///
    /// # Errors
    /// When the caller may not publish there, or too few owners have signed.
    pub async fn gate(
        &self,
        caller: &Caller,
        name: &Namespace,
        envelope: &[u8],
    ) -> Result<Proof, PublishError> {
        self.publisher(caller, name).await?;
        let said = read(envelope)?;
        if !matches!(said.statement.predicate, Predicate::Gate(_))
            || said.statement.subject.name() != name.as_str()
        {
            return Err(PublishError::Mismatch(format!(
                "the statement is no gate of `{name}`"
            )));
        }
        self.record(vec![said.envelope]).await
    }

    /// Says which other sites may read a private namespace, by a statement of its owners.
    ///
    /// # Errors
    /// When the caller may not publish there, too few owners have signed, or everybody may read it.
    pub async fn access(
        &self,
        caller: &Caller,
        name: &Namespace,
        envelope: &[u8],
    ) -> Result<Proof, PublishError> {
        self.publisher(caller, name).await?;
        let said = read(envelope)?;
        if !matches!(said.statement.predicate, Predicate::Access(_))
            || said.statement.subject.name() != name.as_str()
        {
            return Err(PublishError::Mismatch(format!(
                "the statement does not say who may read `{name}`"
            )));
        }
        self.record(vec![said.envelope]).await
    }

    /// Records statements on an artifact that need no content: tags, labels, withdrawals.
    ///
    /// # Errors
    /// When the caller may not publish there, or a statement may not follow.
    pub async fn statements(
        &self,
        caller: &Caller,
        artifact: &ArtifactName,
        envelopes: &[Vec<u8>],
    ) -> Result<Proof, PublishError> {
        self.publisher(caller, &artifact.namespace()).await?;
        let said = read_all(envelopes, artifact)?;
        if said
            .iter()
            .any(|s| matches!(s.statement.predicate, Predicate::Release(_)))
        {
            return Err(PublishError::Mismatch(
                "a release is published through an upload".to_owned(),
            ));
        }
        self.hold(artifact, &said, Vec::new()).await?;
        self.record(said.into_iter().map(|s| s.envelope).collect()).await
    }

    /// Opens an upload, once it is clear that this site may hold what will come.
    ///
    /// # Errors
    /// When the caller may not publish there, or the label denies this site.
    pub async fn open(&self, caller: &Caller, request: UploadRequest) -> Result<Sha256, PublishError> {
        let namespace = request.artifact.namespace();
        self.publisher(caller, &namespace).await?;
        let token = caller.token().ok_or(PublishError::Forbidden {
            what: "publish",
            namespace,
        })?;
        self.may_hold(&request.artifact, request.label, request.ancestors)
            .await?;
        let (artifact, manifest) = (request.artifact.clone(), request.manifest);
        let erased = self
            .reader
            .ask(move |q| q.is_to_be_erased(&artifact, &manifest))
            .await?;
        if erased {
            let (artifact, manifest) = (request.artifact, request.manifest);
            return Err(AppendError::from(Rejection::Erased { artifact, manifest }).into());
        }
        Ok(self
            .uploads
            .open(&token.id, request.artifact, request.manifest)
            .await?)
    }

    /// Publishes a manifest whose content was sent in this session, with the statements that say so. Another token
    /// of the namespace may finish what one has sent.
    ///
    /// # Errors
    /// When something is missing, does not belong together, or may not be held here; nothing is recorded then.
    pub async fn publish(
        &self,
        caller: &Caller,
        id: &Sha256,
        manifest: &[u8],
        envelopes: &[Vec<u8>],
    ) -> Result<Proof, PublishError> {
        let session = self.uploads.finishable(caller, id).await?;
        let artifact = session.artifact;
        self.publisher(caller, &artifact.namespace()).await?;
        let digest = Sha256::of(manifest);
        if digest != session.manifest {
            return Err(PublishError::Mismatch(format!(
                "the upload was opened for the manifest {}, this is {digest}",
                session.manifest
            )));
        }
        let said = read_all(envelopes, &artifact)?;
        let release = said
            .iter()
            .find_map(|s| match (&s.statement.predicate, &s.statement.subject) {
                (Predicate::Release(release), Subject::Manifest(_, found)) if *found == digest => {
                    Some(release)
                }
                _ => None,
            });
        let release = release
            .ok_or_else(|| PublishError::Mismatch(format!("no statement releases the manifest {digest}")))?;
        let parsed = Manifest::parse(manifest.to_vec())?;
        self.hold(&artifact, &said, parsed.ancestors()).await?;
        let manifest_bytes = Bytes::copy_from_slice(manifest);
        self.check_content(caller, id, &parsed, release).await?;
        self.store
            .put_if_absent(&Key::manifest(&digest), manifest_bytes)
            .await?;
        // A crash here leaves a manifest that no statement names; the publisher sends the same again.
        let proof = self
            .record(said.into_iter().map(|s| s.envelope).collect())
            .await?;
        if let Err(error) = self.uploads.close(id).await {
            tracing::warn!(upload = %id, %error, "a finished upload is left to the next sweep");
        }
        Ok(proof)
    }

    /// Erases the opening of a ledger entry at this site, on a ground that is recorded.
    ///
    /// # Errors
    /// When the caller is no admin, or there is no such opening (any more).
    pub async fn erase(&self, caller: &Caller, entry: u64, ground: &str) -> Result<Proof, PublishError> {
        if !caller.is_admin() {
            return Err(PublishError::NotAdmin("erase an entry"));
        }
        let positions = self.ledger.erase(entry, ground).await?;
        Ok(self.ledger.prove(&positions).await?)
    }

    async fn record(&self, envelopes: Vec<Envelope>) -> Result<Proof, PublishError> {
        let positions = self.ledger.append(envelopes).await?;
        Ok(self.ledger.prove(&positions).await?)
    }

    /// Returns the namespace if the caller may publish into it.
    async fn publisher(&self, caller: &Caller, name: &Namespace) -> Result<NamespaceState, PublishError> {
        let wanted = name.clone();
        let state = self.reader.ask(move |q| q.namespace(&wanted)).await?;
        match state {
            Some(state) if caller.may_publish(name) => Ok(state),
            Some(state) if caller.may_read(&state) => Err(PublishError::Forbidden {
                what: "publish",
                namespace: name.clone(),
            }),
            // To whom a private namespace is closed, it does not exist.
            _ => Err(PublishError::NotFound(format!("namespace `{name}`"))),
        }
    }

    /// Refuses a namespace that the charter gives to another site.
    fn may_begin(&self, name: &Namespace) -> Result<(), PublishError> {
        let Some(charter) = self.here.adopted.charter() else {
            return Ok(());
        };
        match charter.owner(name) {
            Some(owner) if owner.id != self.here.site => Err(PublishError::OwnedElsewhere {
                namespace: name.clone(),
                site: owner.name.to_string(),
                url: owner.url.to_string(),
                version: charter.version(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses what this site may not hold, under the label that these statements bring or the one in force, and the
    /// labels of what it was made from.
    async fn hold(
        &self,
        artifact: &ArtifactName,
        said: &[Said],
        ancestors: Vec<ArtifactName>,
    ) -> Result<(), PublishError> {
        let brought = said.iter().rev().find_map(|s| match &s.statement.predicate {
            Predicate::Residency(residency) => Some(residency.label.clone()),
            _ => None,
        });
        self.may_hold(artifact, brought, ancestors).await
    }

    /// Refuses what this site may not hold: under this label or, without one, the one in force, and under those of
    /// what earlier releases or this one were made from.
    async fn may_hold(
        &self,
        artifact: &ArtifactName,
        brought: Option<Label>,
        ancestors: Vec<ArtifactName>,
    ) -> Result<(), PublishError> {
        let wanted = artifact.clone();
        let rows = self
            .reader
            .ask(move |q| {
                let mut rows = q.labels(&wanted)?;
                for ancestor in &ancestors {
                    rows.extend(q.labels(ancestor)?);
                }
                Ok(rows)
            })
            .await?;
        let replaced = brought.is_some();
        let in_force = rows
            .into_iter()
            .filter(|row| !(replaced && row.artifact == *artifact));
        let labels: Vec<Label> = brought.into_iter().chain(in_force.map(|row| row.label)).collect();
        let facts = self.here.facts(&self.here.site, self.clock.now());
        let verdict = decide(&labels, &facts, Action::Hold, &self.here.place());
        if verdict.allowed {
            return Ok(());
        }
        let reasons = verdict.reasons.iter().map(ToString::to_string).collect();
        Err(PublishError::Denied {
            artifact: artifact.clone(),
            reasons,
        })
    }

    /// Checks that the release speaks of exactly the manifest's files, and that all of them are here.
    async fn check_content(
        &self,
        caller: &Caller,
        id: &Sha256,
        manifest: &Manifest,
        release: &Release,
    ) -> Result<(), PublishError> {
        let mut named: BTreeMap<Sha256, &Content> = release.content.iter().map(|c| (c.sha256, c)).collect();
        if release.kind != manifest.kind() {
            return Err(PublishError::Mismatch(format!(
                "the release says it is a {}, its manifest a {}",
                release.kind,
                manifest.kind()
            )));
        }
        let config = manifest.config();
        if release.config.sha256 != config.digest || release.config.size != config.size {
            return Err(PublishError::Mismatch(
                "the release names another config than the manifest".to_owned(),
            ));
        }
        self.check_complete(caller, id, "its config", &release.config)
            .await?;
        if let Some(archive) = manifest
            .layers()
            .iter()
            .find(|layer| layer.packing != Packing::Raw)
        {
            return Err(PublishError::Mismatch(format!(
                "{} is an archive without a list of its files, which this version does not read",
                archive.path
            )));
        }
        let mut seen: BTreeMap<Sha256, &Content> = BTreeMap::new();
        for (path, blob) in manifest.blobs() {
            let known = seen.get(&blob.digest).copied();
            let content = match known.or_else(|| named.remove(&blob.digest)) {
                Some(content) if content.size == blob.size => content,
                _ => {
                    return Err(PublishError::Mismatch(format!(
                        "the release does not name {path} as the manifest does"
                    )));
                }
            };
            if seen.insert(blob.digest, content).is_none() {
                self.check_complete(caller, id, &path, content).await?;
            }
        }
        if let Some(extra) = named.keys().next() {
            return Err(PublishError::Mismatch(format!(
                "the release names {extra}, which the manifest does not"
            )));
        }
        let mut refused = Vec::new();
        for layer in manifest.layers() {
            if let Some(content) = seen.get(&layer.blob.digest)
                && gate::has_to_be_seen(&layer.path)
            {
                let recipe = self.recipe(&content.recipe).await?;
                let head = self.content.head(&recipe, gate::LOOKED_AT as u64).await?;
                refused.extend(gate::check(&layer.path, &head, &self.allowed).err());
            }
        }
        if !refused.is_empty() {
            return Err(PublishError::Format(refused));
        }
        for layer in manifest.layers() {
            let (path, content) = (layer.path.as_str(), seen.get(&layer.blob.digest));
            match content {
                Some(content) if layer.path.has_extension("safetensors") => {
                    self.check_safetensors(path, &content.recipe).await?;
                }
                Some(content) if layer.path.has_extension("gguf") => {
                    self.check_gguf(path, &content.recipe).await?;
                }
                _ => {}
            }
        }
        if let Some(packed) = manifest.packed() {
            self.check_packed(manifest, packed, &seen).await?;
        }
        if manifest.kind() == Kind::Suite {
            self.check_suite(manifest, &seen).await?;
        }
        Ok(())
    }

    /// Reads a suite as whoever measures with it will: what cannot be asked is not published.
    async fn check_suite(
        &self,
        manifest: &Manifest,
        contents: &BTreeMap<Sha256, &Content>,
    ) -> Result<(), PublishError> {
        if manifest.packed().is_some() {
            return Err(PublishError::Mismatch(
                "a suite has at most 1,000 files: this one would be packed".to_owned(),
            ));
        }
        let mut files = BTreeMap::new();
        for layer in manifest.layers() {
            if let Some(content) = contents.get(&layer.blob.digest) {
                files.insert(layer.path.to_string(), self.recipe(&content.recipe).await?);
            }
        }
        let read = read_suite(&self.content, files).await?;
        let read = read.map_err(|e| PublishError::Mismatch(e.to_string()))?;
        match read.not_measured.first() {
            None => Ok(()),
            Some((path, reason)) => Err(PublishError::Mismatch(format!("{path}: {reason}"))),
        }
    }

    /// Checks the list of packed files, and that each tar holds exactly what it lists. Streams: memory is the list
    /// and a few chunks.
    async fn check_packed(
        &self,
        manifest: &Manifest,
        packed: &Packed,
        contents: &BTreeMap<Sha256, &Content>,
    ) -> Result<(), PublishError> {
        let mut recipes = Vec::with_capacity(packed.tars.len());
        for digest in packed
            .tars
            .iter()
            .map(|tar| tar.blob.digest)
            .chain([packed.list.digest])
        {
            // Each was found complete above.
            let content = contents
                .get(&digest)
                .ok_or_else(|| PublishError::Mismatch(format!("the release does not name {digest}")))?;
            recipes.push(self.recipe(&content.recipe).await?);
        }
        let Some(list) = recipes.pop() else { return Ok(()) };
        if list.size() > LIST_MAX_BYTES as u64 {
            return Err(PublishError::Mismatch(format!(
                "the list of files has {} bytes, at most {LIST_MAX_BYTES} are read",
                list.size()
            )));
        }
        let bytes = self.content.head(&list, list.size()).await?;
        let manifest = manifest.clone();
        let files = self
            .content
            .on_pool(move || Files::of(&manifest, Some(&bytes)))
            .await?;
        self.check_packed_formats(&files, &recipes).await?;
        for (index, tar) in recipes.iter().enumerate() {
            let refused = |error: TarError| match error {
                TarError::Safetensors { path, error } => PublishError::Content(ContentError::Safetensors {
                    path: path.to_string(),
                    error,
                }),
                error => PublishError::Mismatch(format!("{}: {error}", tar_path(index))),
            };
            let check = TarCheck::new(files.expected(index));
            let checked = self.content.walk(tar, check, TarCheck::update).await?;
            let check = checked.map_err(refused)?;
            check.finish().map_err(refused)?;
        }
        Ok(())
    }

    /// Looks at the packed files whose names do not say that they are plain.
    async fn check_packed_formats(&self, files: &Files, tars: &[Recipe]) -> Result<(), PublishError> {
        let mut refused = Vec::new();
        for file in files.iter().filter(|file| gate::has_to_be_seen(&file.path)) {
            if let Place::Within { tar, offset } = file.place
                && let Some(tar) = tars.get(tar)
            {
                let end = offset.saturating_add(file.size.min(gate::LOOKED_AT as u64));
                let range = offset.min(tar.size())..end.min(tar.size());
                let parts: Vec<Bytes> = self.content.range(tar, range).try_collect().await?;
                refused.extend(gate::check(&file.path, &parts.concat(), &self.allowed).err());
            }
        }
        if refused.is_empty() {
            Ok(())
        } else {
            Err(PublishError::Format(refused))
        }
    }

    async fn recipe(&self, digest: &ChunkDigest) -> Result<Recipe, PublishError> {
        let recipe = self.content.recipe(digest).await?;
        recipe.ok_or_else(|| {
            ContentError::Damaged {
                what: "recipe",
                digest: *digest,
            }
            .into()
        })
    }

    async fn check_complete(
        &self,
        caller: &Caller,
        id: &Sha256,
        path: &str,
        content: &Content,
    ) -> Result<(), PublishError> {
        let recipes = self.uploads.complete(caller, id, &content.sha256).await?;
        if !recipes.contains(&content.recipe) {
            return Err(PublishError::MissingContent {
                path: path.to_owned(),
                digest: content.sha256,
            });
        }
        let recipe = self.content.recipe(&content.recipe).await?;
        match recipe {
            Some(recipe) if recipe.size() == content.size && recipe.planner() == content.planner => Ok(()),
            _ => Err(PublishError::Mismatch(format!(
                "the release gives {path} another size or planner than its recipe"
            ))),
        }
    }

    /// Reads the header of a safetensors file as defensively as the publisher's own client does.
    async fn check_safetensors(&self, path: &str, recipe: &ChunkDigest) -> Result<(), PublishError> {
        let bad = |error: SafetensorsError| ContentError::Safetensors {
            path: path.to_owned(),
            error,
        };
        let recipe = self.recipe(recipe).await?;
        let size = recipe.size();
        let start = self.content.head(&recipe, 8).await?;
        let mut first = [0; 8];
        first[..start.len()].copy_from_slice(&start);
        let length = safetensors::header_length(&first, size).map_err(bad)?;
        let head = self.content.head(&recipe, 8 + length).await?;
        Header::parse(&head[8..], size).map_err(bad)?;
        Ok(())
    }

    /// Likewise the header of a GGUF file, which does not say how long it is.
    async fn check_gguf(&self, path: &str, recipe: &ChunkDigest) -> Result<(), PublishError> {
        let recipe = self.recipe(recipe).await?;
        let mut limit = CHUNK_MAX as u64;
        loop {
            let head = self.content.head(&recipe, limit).await?;
            let bad = |error| ContentError::Gguf {
                path: path.to_owned(),
                error,
            };
            match gguf::Header::read(&head, recipe.size()).map_err(bad)? {
                Reading::Whole(_) => return Ok(()),
                Reading::NeedsMore => limit = (limit * 4).min(gguf::HEADER_MAX_BYTES),
            }
        }
    }
}

fn read(bytes: &[u8]) -> Result<Said, PublishError> {
    let envelope = Envelope::parse(bytes)?;
    let statement = Statement::parse(envelope.payload())?;
    Ok(Said { envelope, statement })
}

/// Reads statements that must all be about this artifact, or about its namespace.
fn read_all(envelopes: &[Vec<u8>], artifact: &ArtifactName) -> Result<Vec<Said>, PublishError> {
    if envelopes.is_empty() || envelopes.len() > ENVELOPES_MAX {
        return Err(PublishError::Mismatch(format!(
            "{} statements, 1 to {ENVELOPES_MAX} are accepted",
            envelopes.len()
        )));
    }
    let said: Vec<Said> = envelopes.iter().map(|e| read(e)).collect::<Result<_, _>>()?;
    for one in &said {
        let name = one.statement.subject.name();
        if name != artifact.as_str() {
            return Err(PublishError::Mismatch(format!(
                "a statement is about {name}, not {artifact}"
            )));
        }
    }
    Ok(said)
}
