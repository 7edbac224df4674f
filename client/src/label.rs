//! Labels after the fact: the publisher says anew where an artifact may be, for all its releases.
//!
//! The newest label replaces the one before, wider or tighter. Labels of what the artifact was made from hold as well,
//! whatever this one says.

use serde::Serialize;
use waag_schema::ArtifactName;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::policy::Label;
use waag_schema::statement::predicate::Residency;
use waag_schema::statement::{Predicate, Statement, Subject};

use crate::draft::Draft;
use crate::error::{ClientError, Result};
use crate::namespace;
use crate::sign::{Enough, SIGN_ATTEMPTS_MAX, check_signers, sign};
use crate::site::Site;

/// A label that is in force now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Labelled {
    /// The artifact.
    pub name: ArtifactName,
    /// What the label says.
    pub label: Label,
    /// The ledger entry that says so; none if it said the same before.
    pub entry: Option<u64>,
}

/// Lays a label on an artifact; nothing is signed if it has the same one already.
///
/// # Errors
/// When there is no such artifact, its site may not hold it under this label, or the keys are not enough.
pub async fn set(site: &Site, artifact: &ArtifactName, label: &Label, keys: &[KeyPair]) -> Result<Labelled> {
    let done = |entry| Labelled {
        name: artifact.clone(),
        label: label.clone(),
        entry,
    };
    let mut tried = 0;
    loop {
        let Some(statement) = look(site, artifact, label).await? else {
            return Ok(done(None));
        };
        if tried == 0 {
            let public: Vec<PublicKey> = keys.iter().map(KeyPair::public).collect();
            check_signers(site, &artifact.namespace(), &public, Enough::Threshold).await?;
        }
        let envelopes = [sign(&statement, keys)];
        tried += 1;
        match site.record(artifact, &envelopes).await {
            Ok(proof) => {
                let positions = site.check_receipt(&proof, &envelopes).await?;
                return Ok(done(positions.first().copied()));
            }
            // Somebody wrote in between, or the answer got lost: what the artifact says now decides.
            Err(error @ (ClientError::Conflict(_) | ClientError::Unreachable { .. }))
                if tried < SIGN_ATTEMPTS_MAX =>
            {
                site.pause(tried, &error).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Begins a draft that lays a label on an artifact.
///
/// # Errors
/// As for [`set`], but one owner's key is enough; also when it has the same label already.
pub async fn draft(site: &Site, artifact: &ArtifactName, label: &Label, keys: &[KeyPair]) -> Result<Draft> {
    match look(site, artifact, label).await? {
        None => Err(ClientError::Usage(format!(
            "{artifact} has this label already: there is nothing to sign"
        ))),
        Some(statement) => {
            let ground = namespace::ground(site, &artifact.namespace()).await?;
            Draft::begin(ground, vec![*statement], None, keys)
        }
    }
}

/// Returns what is to be signed, if anything.
async fn look(site: &Site, artifact: &ArtifactName, label: &Label) -> Result<Option<Box<Statement>>> {
    let view = site.artifact(artifact).await?;
    if view.label.as_ref() == Some(label) {
        return Ok(None);
    }
    Ok(Some(Box::new(Statement {
        subject: Subject::Artifact(artifact.clone()),
        predicate: Predicate::Residency(Residency {
            namespace: view.namespace,
            link: view.chain.next(),
            label: label.clone(),
        }),
    })))
}
