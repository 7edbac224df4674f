//! Tags: letting a name point at a release that is there already.

use serde::Serialize;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::base::name::Version;
use waag_schema::statement::{Predicate, Statement, Subject, TagMove};
use waag_schema::{ArtifactName, Sha256, Tag};

use crate::draft::Draft;
use crate::error::{ClientError, Result};
use crate::namespace;
use crate::sign::{Enough, SIGN_ATTEMPTS_MAX, check_signers, sign};
use crate::site::Site;

/// A tag that names a release now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tagged {
    /// The artifact.
    pub name: ArtifactName,
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Sha256,
    /// The ledger entry that says so.
    pub entry: u64,
}

/// Lets a tag name the release that `version` names now; nothing is signed if it does already.
///
/// # Errors
/// When there is no such release, the tag names another one and may not be moved, or the keys are not enough.
pub async fn set(
    site: &Site,
    artifact: &ArtifactName,
    tag: &Tag,
    version: &Version,
    move_tag: bool,
    keys: &[KeyPair],
) -> Result<Tagged> {
    let proven = site.resolve(artifact, version).await?;
    let digest = proven.manifest.digest();
    let mut tried = 0;
    loop {
        let statement = match look(site, artifact, tag, digest, move_tag).await? {
            Found::Done(entry) => return Ok(done(artifact, tag, digest, entry)),
            Found::Move(statement) => statement,
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
                return Ok(done(artifact, tag, digest, positions[0]));
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

/// Begins a draft that lets a tag name the release that `version` names now.
///
/// # Errors
/// As for [`set`], but one owner's key is enough; also when the tag names the release already.
pub async fn draft(
    site: &Site,
    artifact: &ArtifactName,
    tag: &Tag,
    version: &Version,
    move_tag: bool,
    keys: &[KeyPair],
) -> Result<Draft> {
    let digest = site.resolve(artifact, version).await?.manifest.digest();
    match look(site, artifact, tag, digest, move_tag).await? {
        Found::Done(_) => Err(ClientError::Usage(format!(
            "{artifact}:{tag} names {digest} already: there is nothing to sign"
        ))),
        Found::Move(statement) => {
            let ground = namespace::ground(site, &artifact.namespace()).await?;
            Draft::begin(ground, vec![*statement], None, keys)
        }
    }
}

/// What is left to do.
enum Found {
    /// The tag names the release; this entry says so.
    Done(u64),
    /// This is to be signed.
    Move(Box<Statement>),
}

async fn look(
    site: &Site,
    artifact: &ArtifactName,
    tag: &Tag,
    digest: Sha256,
    move_tag: bool,
) -> Result<Found> {
    let view = site.artifact(artifact).await?;
    let now = view.tags.iter().find(|t| t.tag == *tag);
    if now.is_some_and(|now| now.manifest == digest) {
        let proven = site.resolve(artifact, &Version::Tag(tag.clone())).await?;
        if let Some(entry) = proven.tag_entry.filter(|_| proven.manifest.digest() == digest) {
            return Ok(Found::Done(entry));
        }
    }
    if let Some(now) = now.filter(|now| now.manifest != digest && !tag.moves() && !move_tag) {
        return Err(ClientError::TagNeedsMove {
            artifact: artifact.clone(),
            tag: tag.clone(),
            names: now.manifest,
        });
    }
    Ok(Found::Move(Box::new(Statement {
        subject: Subject::Manifest(artifact.clone(), digest),
        predicate: Predicate::Tag(TagMove {
            namespace: view.namespace,
            link: view.chain.next(),
            tag: tag.clone(),
            from: now.map(|now| now.manifest),
        }),
    })))
}

fn done(artifact: &ArtifactName, tag: &Tag, digest: Sha256, entry: u64) -> Tagged {
    Tagged {
        name: artifact.clone(),
        tag: tag.clone(),
        digest,
        entry,
    }
}
