//! May this statement follow what the ledger holds? Asked within the sequencer's transaction, at exactly the
//! size that the batch will be committed at; the rules themselves are pure and stand in `schema`.

use waag_schema::base::key::PublicKey;
use waag_schema::statement::namespace::AdmitError;
use waag_schema::statement::{Chain, Keeping, NamespaceState, Predicate, Statement, Subject};
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId, Tag};

use super::{Index, IndexError, Prepared};

/// So many of a release's newest scorecards are looked through for what a gate requires.
const SCORECARDS_MAX: usize = 64;

/// A statement may not be recorded now.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It breaks a rule or does not follow the last statement on its subject.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// Nobody began its namespace here.
    #[error("the namespace `{0}` does not exist at this site")]
    NoNamespace(Namespace),
    /// The namespace's name is taken.
    #[error("the namespace `{name}` exists already, with the id {id}")]
    Taken {
        /// The name.
        name: Namespace,
        /// Whose it is.
        id: Sha256,
    },
    /// A tag, label or withdrawal of a manifest that was never released.
    #[error("{manifest} is no release of {artifact}")]
    NoRelease {
        /// The artifact.
        artifact: ArtifactName,
        /// The manifest.
        manifest: Sha256,
    },
    /// A tag shall name a release that was withdrawn.
    #[error("{manifest} of {artifact} was withdrawn; no tag can be given to it")]
    Withdrawn {
        /// The artifact.
        artifact: ArtifactName,
        /// The manifest.
        manifest: Sha256,
    },
    /// A scorecard of another site's release, of which this site holds no copy.
    #[error("this site does not say that it holds a copy of {manifest} of {artifact}")]
    NotHeld {
        /// The artifact.
        artifact: ArtifactName,
        /// The manifest.
        manifest: Sha256,
    },
    /// A release was withdrawn with erasure.
    #[error("{manifest} of {artifact} was withdrawn and erased; it does not come back")]
    Erased {
        /// The artifact.
        artifact: ArtifactName,
        /// The manifest.
        manifest: Sha256,
    },
    /// The tag names another manifest than the publisher believed.
    #[error("the tag `{tag}` names {found}, not {expected} as the statement says")]
    TagMoved {
        /// The tag.
        tag: Tag,
        /// What the statement says it names.
        expected: String,
        /// What it names.
        found: String,
    },
    /// The release has not scored what the namespace requires before this tag.
    #[error("entry {entry} puts a gate before the tag `{tag}`, which {artifact}@{manifest} does not pass")]
    Gate {
        /// The artifact.
        artifact: ArtifactName,
        /// The tag.
        tag: Tag,
        /// The release.
        manifest: Sha256,
        /// Where the gate is recorded.
        entry: u64,
        /// What is required, and what was found.
        unmet: Vec<String>,
    },
    /// A release of another kind than the earlier ones.
    #[error("{artifact} is a {expected}, the release says it is a {found}")]
    OtherKind {
        /// The artifact.
        artifact: ArtifactName,
        /// The kind of its earlier releases.
        expected: String,
        /// The kind of this one.
        found: String,
    },
    /// A site's statement about another site's ledger.
    #[error("{0} speaks in its own ledger only")]
    OtherSite(String),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// The site whose ledger it is.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// Its id.
    pub site: &'a SiteId,
    /// The key of its ledger, which says what the ledger continues.
    pub log_key: &'a PublicKey,
    /// The key that signs what it says of its ledger otherwise.
    pub key: &'a PublicKey,
    /// Whether entries may be missing whose openings were erased before anybody here could read them: what rests on
    /// them cannot be held against a statement then, its signatures still are.
    pub gaps: bool,
}

impl Index {
    /// Checks that a prepared statement may be recorded next.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, prepared: &Prepared, home: &Home<'_>) -> Result<(), Rejection> {
        let Statement { subject, predicate } = &prepared.statement;
        let Some(name) = subject.namespace() else {
            if *subject != Subject::Site(home.site.clone()) {
                return Err(Rejection::OtherSite(subject.name()));
            }
            let key = match predicate {
                Predicate::Successor(_) => home.log_key,
                _ => home.key,
            };
            return Ok(prepared.envelope.verify(&[*key], 1).map_err(AdmitError::from)?);
        };
        let known = self.questions().namespace(&name)?;
        if let Predicate::Genesis(_) = predicate {
            return match known {
                Some(NamespaceState { id, .. }) => Err(Rejection::Taken { name, id }),
                None => Ok(NamespaceState::begin(&prepared.envelope, home.site).map(drop)?),
            };
        }
        let Some(namespace) = known else {
            return self.admit_on_copy(prepared, home, name);
        };
        if home.gaps {
            return self.admit_behind_gaps(prepared, home, &namespace);
        }
        let (Subject::Artifact(artifact) | Subject::Manifest(artifact, _)) = subject else {
            return Ok(namespace.follow(&prepared.envelope).map(drop)?);
        };
        if predicate.is_a_sites() {
            prepared
                .envelope
                .verify(&[*home.key], 1)
                .map_err(AdmitError::from)?;
            return match subject {
                Subject::Manifest(_, manifest) => self.released(artifact, manifest),
                _ => Err(Rejection::OtherSite(subject.name())),
            };
        }
        let row = self.questions().artifact(artifact)?;
        let chain = row.as_ref().map_or_else(Chain::default, |r| r.chain);
        namespace.admit(&prepared.envelope, &prepared.statement, &chain)?;

        match (predicate, subject) {
            (Predicate::Release(_), Subject::Manifest(_, manifest))
                if self.questions().is_to_be_erased(artifact, manifest)? =>
            {
                Err(Rejection::Erased {
                    artifact: artifact.clone(),
                    manifest: *manifest,
                })
            }
            (Predicate::Release(release), _) => {
                match row.and_then(|r| r.kind).filter(|kind| *kind != release.kind) {
                    Some(kind) => Err(Rejection::OtherKind {
                        artifact: artifact.clone(),
                        expected: kind.to_string(),
                        found: release.kind.to_string(),
                    }),
                    None => Ok(()),
                }
            }
            (Predicate::Tag(tag), Subject::Manifest(_, manifest)) => {
                self.released(artifact, manifest)?;
                if self.questions().withdrawal(artifact, manifest)?.is_some() {
                    return Err(Rejection::Withdrawn {
                        artifact: artifact.clone(),
                        manifest: *manifest,
                    });
                }
                let now = self.questions().tag(artifact, &tag.tag)?.map(|t| t.manifest);
                if now == tag.from {
                    return self.passes(artifact, &tag.tag, manifest);
                }
                let show =
                    |digest: Option<Sha256>| digest.map_or_else(|| "nothing".to_owned(), |d| d.to_string());
                Err(Rejection::TagMoved {
                    tag: tag.tag.clone(),
                    expected: show(tag.from),
                    found: show(now),
                })
            }
            (Predicate::Withdrawal(_), Subject::Manifest(_, manifest)) => self.released(artifact, manifest),
            _ => Ok(()),
        }
    }

    /// Checks what a site says of a release that is at home elsewhere: what it has measured on the copy that it holds,
    /// by its own word.
    fn admit_on_copy(
        &self,
        prepared: &Prepared,
        home: &Home<'_>,
        namespace: Namespace,
    ) -> Result<(), Rejection> {
        let (Predicate::Scorecard(_), Subject::Manifest(artifact, manifest)) =
            (&prepared.statement.predicate, &prepared.statement.subject)
        else {
            return Err(Rejection::NoNamespace(namespace));
        };
        prepared
            .envelope
            .verify(&[*home.key], 1)
            .map_err(AdmitError::from)?;
        let custody = self.questions().custody_of(artifact, manifest)?;
        let is_held = custody.is_some_and(|row| row.state == Keeping::Holds);
        if is_held || home.gaps {
            return Ok(());
        }
        Err(Rejection::NotHeld {
            artifact: artifact.clone(),
            manifest: *manifest,
        })
    }

    /// Checks who signed a statement, and that it does not go back behind what is known.
    fn admit_behind_gaps(
        &self,
        prepared: &Prepared,
        home: &Home<'_>,
        namespace: &NamespaceState,
    ) -> Result<(), Rejection> {
        let Statement { subject, predicate } = &prepared.statement;
        let (Subject::Artifact(artifact) | Subject::Manifest(artifact, _)) = subject else {
            return Ok(namespace.follow(&prepared.envelope).map(drop)?);
        };
        if predicate.is_a_sites() {
            return Ok(prepared
                .envelope
                .verify(&[*home.key], 1)
                .map_err(AdmitError::from)?);
        }
        let row = self.questions().artifact(artifact)?;
        let known = row.map_or_else(Chain::default, |r| r.chain);
        let chain = match predicate.link() {
            Some(link) if link.counter > known.next().counter => Chain {
                counter: link.counter - 1,
                head: link.previous,
            },
            _ => known,
        };
        Ok(namespace.admit(&prepared.envelope, &prepared.statement, &chain)?)
    }

    /// Checks what the namespace requires of a release before this tag names it.
    fn passes(&self, artifact: &ArtifactName, tag: &Tag, manifest: &Sha256) -> Result<(), Rejection> {
        let gates = self.questions().gates(&artifact.namespace())?;
        let Some(gate) = gates.into_iter().find(|gate| gate.tag == *tag) else {
            return Ok(());
        };
        let scorecards = self
            .questions()
            .scorecards_of(artifact, manifest, SCORECARDS_MAX)?;
        let unmet: Vec<String> = gate
            .requirements
            .iter()
            .filter_map(|requirement| requirement.unmet(&scorecards))
            .collect();
        if unmet.is_empty() {
            return Ok(());
        }
        Err(Rejection::Gate {
            artifact: artifact.clone(),
            tag: tag.clone(),
            manifest: *manifest,
            entry: gate.entry,
            unmet,
        })
    }

    fn released(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<(), Rejection> {
        let known = self.questions().release(artifact, manifest)?.is_some();
        let missing = || Rejection::NoRelease {
            artifact: artifact.clone(),
            manifest: *manifest,
        };
        known.then_some(()).ok_or_else(missing)
    }
}
