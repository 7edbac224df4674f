//! Drafts: statements that wait for signatures, in a file that passes from one holder of a key to the next.
//!
//! A draft holds what will be said, the signatures so far, and the proof of whose signatures count: no network is
//! needed to see what it says or to sign it. Nothing in it is believed for being there: the proof is checked
//! against the pin of the site, the signatures against the keys that it proves.
//!
//! A statement names the envelope before it, signatures included. So the statements of a draft are signed one
//! after the other: once enough have signed one it is never touched again, and the next is linked to it. Whoever
//! completes one signs the next in the same step.

mod file;
mod standing;
mod submit;

use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::release::Manifest;
use waag_schema::statement::{Envelope, Link, NamespaceState, Predicate, Statement, Subject};
use waag_schema::wire::artifact::Proof;
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId};

pub use standing::{DraftFile, Part, Quorum, Standing};
pub use submit::{Submitted, submit};

use crate::error::{ClientError, Result};

/// A site takes at most this many statements at once.
const STATEMENTS_MAX: usize = 16;

/// Whose signatures count: a namespace, as the ledger of a site proves it to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Ground {
    /// The site.
    pub site: SiteId,
    /// The namespace, by the proof.
    pub state: NamespaceState,
    /// How the namespace began and how its keys changed.
    pub proof: Proof,
}

/// What a release needs besides its statements. Its content waits at the site.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// The session in which the content is complete.
    pub id: Sha256,
    /// The manifest.
    pub manifest: Manifest,
}

/// Statements that are recorded together, with the signatures that they have so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    ground: Ground,
    upload: Option<Upload>,
    statements: Vec<Statement>,
    /// Of the first so many statements; all but the last of these have enough signatures.
    signed: Vec<Envelope>,
}

impl Draft {
    /// Begins a draft of these statements in the order of their chain, and signs it. Only the first one's link
    /// counts; those behind it are linked when it is their turn.
    ///
    /// # Errors
    /// When they say what no statement may say, do not belong together, or none of the keys counts.
    pub fn begin(
        ground: Ground,
        statements: Vec<Statement>,
        upload: Option<Upload>,
        keys: &[KeyPair],
    ) -> Result<Self> {
        let first = statements.first().and_then(|s| s.predicate.link());
        let mut draft = Self {
            ground,
            upload,
            statements,
            signed: Vec::new(),
        };
        let first = first.map_or(1, |link| link.counter);
        for (at, statement) in (0_u64..).zip(&mut draft.statements).skip(1) {
            let link = Link {
                counter: first.saturating_add(at),
                previous: None,
            };
            relink(&mut statement.predicate, link);
        }
        for statement in &draft.statements {
            Statement::parse(&statement.to_bytes()).map_err(|e| ClientError::Usage(e.to_string()))?;
        }
        draft.check().map_err(ClientError::Usage)?;
        draft.sign(keys)?;
        Ok(draft)
    }

    /// Returns the site whose ledger it is for.
    #[must_use]
    pub const fn site(&self) -> &SiteId {
        &self.ground.site
    }

    /// Returns the namespace whose owners must sign it.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.ground.state.name
    }

    /// Returns what has been signed by somebody, in the order of the chain.
    #[must_use]
    pub fn envelopes(&self) -> &[Envelope] {
        &self.signed
    }

    /// Adds signatures, to as many statements as it is the turn of; those of keys that have signed already are
    /// left as they are. Returns how many were added.
    ///
    /// # Errors
    /// When no signature of these keys counts, one that is there does not hold, or there would be more of them
    /// than an envelope holds.
    pub fn sign(&mut self, keys: &[KeyPair]) -> Result<usize> {
        let mut ours: Vec<&KeyPair> = Vec::new();
        for key in keys.iter().filter(|key| self.counts(&key.public())) {
            if !ours.iter().any(|known| known.public() == key.public()) {
                ours.push(key);
            }
        }
        if ours.is_empty() {
            return Err(ClientError::NotOwner {
                namespace: self.namespace().clone(),
                found: 0,
                needed: self.ground.state.keys.threshold as usize,
                keys: keys.iter().map(|key| key.public().fingerprint()).collect(),
            });
        }
        let mut added = 0;
        for at in 0..self.statements.len() {
            if self.part(at)?.complete {
                continue;
            }
            let missing = |envelope: &Envelope, key: &KeyPair| {
                let name = key.public().fingerprint();
                !envelope.key_ids().any(|id| id == name)
            };
            let envelope = match self.signed.get(at) {
                None => {
                    if let Some(link) = self.link_after(at) {
                        relink(&mut self.statements[at].predicate, link);
                    }
                    added += ours.len();
                    Envelope::sign(&self.statements[at].to_bytes(), &ours)
                }
                Some(known) => {
                    let new: Vec<&KeyPair> = ours.iter().copied().filter(|key| missing(known, key)).collect();
                    if new.is_empty() {
                        break;
                    }
                    added += new.len();
                    let merged = known.merge(&Envelope::sign(known.payload(), &new));
                    merged.map_err(|e| ClientError::verification("draft", e))?
                }
            };
            // Read back, so that nothing is kept that nobody could read again.
            let envelope =
                Envelope::parse(envelope.bytes()).map_err(|e| ClientError::Usage(e.to_string()))?;
            self.signed.truncate(at);
            self.signed.push(envelope);
            if !self.part(at)?.complete {
                break;
            }
        }
        Ok(added)
    }

    /// The same draft, judged by the keys that hold in this state.
    fn under(&self, state: NamespaceState) -> Self {
        let mut draft = self.clone();
        draft.ground.state = state;
        draft
    }

    fn counts(&self, key: &PublicKey) -> bool {
        let now = &self.ground.state.keys;
        now.owners.contains(key)
            || self
                .rotation()
                .is_some_and(|rotation| now.recovery.contains(key) || rotation.keys.owners.contains(key))
    }

    fn rotation(&self) -> Option<&waag_schema::statement::namespace::Rotation> {
        match self.statements.as_slice() {
            [
                Statement {
                    predicate: Predicate::Rotation(rotation),
                    ..
                },
            ] => Some(rotation),
            _ => None,
        }
    }

    /// The artifact that it is about, unless it is about the namespace itself.
    fn artifact(&self) -> Option<&ArtifactName> {
        match &self.statements.first()?.subject {
            Subject::Artifact(name) | Subject::Manifest(name, _) => Some(name),
            _ => None,
        }
    }

    /// The link that the statement at this place must have, given those before; none for the first.
    fn link_after(&self, at: usize) -> Option<Link> {
        let before = at.checked_sub(1)?;
        Some(Link {
            counter: self.statements[before]
                .predicate
                .link()?
                .counter
                .saturating_add(1),
            previous: Some(self.signed.get(before)?.digest()),
        })
    }

    /// Checks that the statements belong together, and that what is signed is linked.
    fn check(&self) -> Result<(), String> {
        if self.statements.is_empty() || self.statements.len() > STATEMENTS_MAX {
            return Err(format!(
                "{} statements, 1 to {STATEMENTS_MAX} are accepted",
                self.statements.len()
            ));
        }
        let state = &self.ground.state;
        let artifact = self.artifact();
        for (at, statement) in self.statements.iter().enumerate() {
            let Statement { subject, predicate } = statement;
            if subject.namespace().as_ref() != Some(&state.name) || predicate.namespace_id() != Some(state.id)
            {
                return Err(format!(
                    "it is not of the namespace `{}` with the id {}",
                    state.name, state.id
                ));
            }
            let together = match subject {
                Subject::Artifact(name) | Subject::Manifest(name, _) => Some(name) == artifact,
                _ => self.statements.len() == 1,
            };
            if !together {
                return Err("its statements are about several things".to_owned());
            }
            let link = predicate.link();
            let counter = self.statements[0].predicate.link().map(|first| first.counter);
            if link.map(|link| link.counter) != counter.map(|first| first.saturating_add(at as u64)) {
                return Err(format!("statement {} does not follow the one before", at + 1));
            }
            if at < self.signed.len() && at > 0 && link != self.link_after(at) {
                return Err(format!("statement {} is not linked to the one before", at + 1));
            }
            match (predicate, subject, &self.upload) {
                (Predicate::Release(release), Subject::Manifest(_, digest), Some(upload)) if at == 0 => {
                    if upload.manifest.digest() != *digest {
                        return Err("its manifest is not the one that is released".to_owned());
                    }
                    release.check_manifest(&upload.manifest)?;
                }
                (Predicate::Release(_), ..) => {
                    return Err("a release comes first, once, and with its manifest".to_owned());
                }
                (_, _, Some(_)) if at == 0 => return Err("it has a manifest but no release".to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Gives a statement its place in the chain.
pub(crate) fn relink(predicate: &mut Predicate, link: Link) {
    match predicate {
        Predicate::Rotation(said) => said.link = link,
        Predicate::Gate(said) => said.link = link,
        Predicate::Access(said) => said.link = link,
        Predicate::Release(said) => said.link = link,
        Predicate::Tag(said) => said.link = link,
        Predicate::Residency(said) => said.link = link,
        Predicate::Withdrawal(said) => said.link = link,
        Predicate::Genesis(_)
        | Predicate::Erasure(_)
        | Predicate::RevocationList(_)
        | Predicate::Successor(_)
        | Predicate::CharterAdopted(_)
        | Predicate::Scorecard(_)
        | Predicate::Custody(_) => {}
    }
}

#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
mod tests;
