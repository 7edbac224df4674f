//! Withdrawal: the publisher says that a release is no longer to be used.
//!
//! Nothing is taken away by it: the files stay, and so does the release's entry. Whoever resolves the release
//! from now on is shown the withdrawal, and the site's revocation list names it.

use serde::Serialize;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::base::name::{Reference, Version};
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::{Predicate, Statement, Subject};
use waag_schema::{ArtifactName, Sha256};

use crate::draft::Draft;
use crate::error::{ClientError, Result};
use crate::namespace;
use crate::sign::{Enough, SIGN_ATTEMPTS_MAX, check_signers, sign};
use crate::site::Site;

/// A reason has at most this many bytes.
pub const REASON_MAX_BYTES: usize = 1000;

/// A release that is withdrawn now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// The artifact.
    pub name: ArtifactName,
    /// The manifest's digest.
    pub digest: Sha256,
    /// Why, as the ledger has it.
    pub reason: String,
    /// The ledger entry that says so; none if it was withdrawn before.
    pub entry: Option<u64>,
}

/// Withdraws the release that `reference` names now; nothing is signed if it is withdrawn already.
///
/// # Errors
/// When there is no such release, the reason is empty or too long, or the keys are not enough.
pub async fn withdraw(
    site: &Site,
    reference: &Reference,
    (reason, erase): (&str, bool),
    keys: &[KeyPair],
) -> Result<Withdrawn> {
    check_reason(reason)?;
    let artifact = &reference.artifact;
    let digest = find(site, reference).await?;
    let mut tried = 0;
    loop {
        let statement = match look(site, artifact, digest, (reason, erase)).await? {
            Found::Done(reason) => {
                return Ok(Withdrawn {
                    name: artifact.clone(),
                    digest,
                    reason,
                    entry: None,
                });
            }
            Found::Say(statement) => statement,
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
                return Ok(Withdrawn {
                    name: artifact.clone(),
                    digest,
                    reason: reason.to_owned(),
                    entry: positions.first().copied(),
                });
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

/// Begins a draft that withdraws the release that `reference` names now.
///
/// # Errors
/// As for [`withdraw`], but one owner's key is enough; also when it is withdrawn already.
pub async fn draft(
    site: &Site,
    reference: &Reference,
    (reason, erase): (&str, bool),
    keys: &[KeyPair],
) -> Result<Draft> {
    check_reason(reason)?;
    let artifact = &reference.artifact;
    let digest = find(site, reference).await?;
    match look(site, artifact, digest, (reason, erase)).await? {
        Found::Done(known) => Err(ClientError::Usage(format!(
            "{artifact}@{digest} was withdrawn before: {known}"
        ))),
        Found::Say(statement) => {
            let ground = namespace::ground(site, &artifact.namespace()).await?;
            Draft::begin(ground, vec![*statement], None, keys)
        }
    }
}

/// What is left to do.
enum Found {
    /// It is withdrawn, for this reason.
    Done(String),
    /// This is to be signed.
    Say(Box<Statement>),
}

async fn look(
    site: &Site,
    artifact: &ArtifactName,
    digest: Sha256,
    (reason, erase): (&str, bool),
) -> Result<Found> {
    let view = site.artifact(artifact).await?;
    let release = view.releases.iter().find(|release| release.manifest == digest);
    let release = release
        .ok_or_else(|| ClientError::NotFound(format!("{artifact} has no release of the digest {digest}")))?;
    // That copies have to go may be said later, too.
    if let Some(known) = release.withdrawn.as_ref().filter(|_| !erase) {
        return Ok(Found::Done(known.clone()));
    }
    Ok(Found::Say(Box::new(Statement {
        subject: Subject::Manifest(artifact.clone(), digest),
        predicate: Predicate::Withdrawal(Withdrawal {
            namespace: view.namespace,
            link: view.chain.next(),
            reason: reason.to_owned(),
            erase,
        }),
    })))
}

/// Returns which manifest is meant, proven: a site must not have another release withdrawn than was named.
async fn find(site: &Site, reference: &Reference) -> Result<Sha256> {
    match (
        site.resolve(&reference.artifact, &reference.version).await,
        &reference.version,
    ) {
        (Ok(proven), _) => Ok(proven.manifest.digest()),
        // Who may withdraw need not be where the label lets the artifact be served; a digest says enough.
        (Err(ClientError::Denied { .. }), Version::Manifest(digest)) => Ok(*digest),
        (Err(error), _) => Err(error),
    }
}

/// Checks that a reason says something and is short enough.
///
/// # Errors
/// When it is not.
pub fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        return Err(ClientError::Usage(
            "the reason is empty; readers will be shown it".to_owned(),
        ));
    }
    if reason.len() > REASON_MAX_BYTES {
        return Err(ClientError::Usage(format!(
            "the reason has {} bytes, at most {REASON_MAX_BYTES} are accepted",
            reason.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_and_is_short() {
        for good in ["a licence problem", &"x".repeat(REASON_MAX_BYTES)] {
            assert!(check_reason(good).is_ok());
        }
        for bad in ["", " \n", &"x".repeat(REASON_MAX_BYTES + 1)] {
            assert!(check_reason(bad).is_err());
        }
    }
}
