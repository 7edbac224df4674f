//! What comes in: namespaces, releases, and statements that need no content.

use std::sync::Arc;

use bytes::Bytes;
use waag_schema::policy::{Action, Label, decide};
use waag_schema::release::gate::Unsafe;
use waag_schema::release::manifest::Manifest;
use waag_schema::statement::{Envelope, NamespaceState, Predicate, Statement, Subject};
use waag_schema::wire::artifact::Proof;
use waag_schema::wire::upload::UploadRequest;
use waag_schema::{ArtifactName, Namespace, Sha256};

use super::PublishError;
use super::inspection::Inspection;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::content::{self, Uploads};
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
        let said = self.of_owners(caller, name, envelope).await?;
        if !matches!(said.statement.predicate, Predicate::Rotation(_)) {
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
        let said = self.of_owners(caller, name, envelope).await?;
        if !matches!(said.statement.predicate, Predicate::Gate(_)) {
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
        let said = self.of_owners(caller, name, envelope).await?;
        if !matches!(said.statement.predicate, Predicate::Access(_)) {
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

    /// Publishes a manifest whose content was sent in this upload, with the statements that say so. Another token
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
        let inspection = Inspection {
            content: &self.content,
            uploads: &self.uploads,
            allowed: &self.allowed,
            caller,
            upload: id,
        };
        inspection.of(&parsed, release).await?;
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

    /// Reads a statement about a namespace of somebody who may publish there.
    async fn of_owners(
        &self,
        caller: &Caller,
        name: &Namespace,
        envelope: &[u8],
    ) -> Result<Said, PublishError> {
        self.publisher(caller, name).await?;
        let said = read(envelope)?;
        if said.statement.subject.name() == name.as_str() {
            Ok(said)
        } else {
            Err(PublishError::Mismatch(format!(
                "the statement is about {}, not about `{name}`",
                said.statement.subject.name()
            )))
        }
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
