//! Having a draft recorded. Anybody whose token may publish in the namespace can do it: what counts is signed.

use serde::Serialize;
use waag_schema::statement::{NamespaceState, Predicate, Subject};
use waag_schema::wire::artifact::{ArtifactView, Proof};
use waag_schema::wire::site::NamespaceRequest;
use waag_schema::wire::upload::PublishRequest;

use super::{Draft, Standing, Upload};
use crate::error::{ClientError, Result};
use crate::namespace;
use crate::site::Site;

/// A draft that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// What kind of statement it was; of several, the first.
    pub kind: &'static str,
    /// What it was about.
    pub subject: String,
    /// The first one's ledger entry.
    pub entry: u64,
}

/// Has a draft recorded that enough have signed, and checks the receipt.
///
/// # Errors
/// [`ClientError::Unsigned`] when more must sign; [`ClientError::Stale`] when something else was recorded since
/// it was begun, so that it has to be begun anew.
pub async fn submit(site: &Site, draft: &Draft) -> Result<Submitted> {
    if *draft.site() != site.pin().site {
        return Err(ClientError::Usage(format!(
            "the draft is for the site {}, this is {}",
            draft.site(),
            site.pin().site
        )));
    }
    let now = namespace::state(site, draft.namespace()).await?;
    let standing = draft.under(now.clone()).standing()?;
    let stale = |reason: String| ClientError::Stale {
        what: format!("the {} of {}", standing.kind, standing.subject),
        reason,
    };
    let view = match draft.artifact() {
        Some(name) => Some(site.artifact(name).await?),
        None => None,
    };
    if let Some(entry) = recorded(draft, view.as_ref()) {
        return Ok(done(&standing, entry));
    }
    check_follows(draft, &now, view.as_ref()).map_err(stale)?;
    standing.require_complete()?;
    let proof = send(site, draft).await.map_err(|error| match error {
        ClientError::Conflict(reason) => stale(reason),
        // Only an upload can be missing here: artifact and namespace were just seen.
        ClientError::NotFound(_) if draft.upload.is_some() => {
            stale("the site keeps no content for it (any more) that this token may publish".to_owned())
        }
        other => other,
    })?;
    let positions = site.check_receipt(&proof, draft.envelopes()).await?;
    Ok(done(&standing, positions.first().copied().unwrap_or_default()))
}

fn done(standing: &Standing, entry: u64) -> Submitted {
    Submitted {
        kind: standing.kind,
        subject: standing.subject.clone(),
        entry,
    }
}

/// The release's entry, if the answer to an earlier submission was lost. What needs no upload is answered with
/// its proof by the site itself.
fn recorded(draft: &Draft, view: Option<&ArtifactView>) -> Option<u64> {
    let (view, upload) = (view?, draft.upload.as_ref()?);
    let last = draft.signed.last()?.digest();
    if view.chain.head != Some(last) || draft.signed.len() < draft.statements.len() {
        return None;
    }
    let digest = upload.manifest.digest();
    let release = view.releases.iter().find(|release| release.manifest == digest)?;
    Some(release.entry)
}

/// Says why it cannot be recorded any more, if so.
fn check_follows(draft: &Draft, now: &NamespaceState, view: Option<&ArtifactView>) -> Result<(), String> {
    let chain = view.map_or(now.chain, |view| view.chain);
    let last = draft.signed.last().map(waag_schema::statement::Envelope::digest);
    // Recorded already, just so: the site answers with the proof.
    if view.is_some() && chain.head == last && draft.signed.len() == draft.statements.len() {
        return Ok(());
    }
    if let Some(link) = draft.statements.first().and_then(|first| first.predicate.link()) {
        chain.admits(&link).map_err(|e| e.to_string())?;
    }
    if now.keys != draft.ground.state.keys {
        return Err(format!("the keys of `{}` have changed since", now.name));
    }
    Ok(())
}

async fn send(site: &Site, draft: &Draft) -> Result<Proof> {
    let envelopes = draft.envelopes();
    if let Some(Upload { id, manifest }) = &draft.upload {
        let request = PublishRequest {
            manifest: manifest.bytes().to_vec().into(),
            envelopes: envelopes.iter().map(|e| e.bytes().to_vec().into()).collect(),
        };
        return site.publish(id, &request, manifest.total_size()).await;
    }
    let first = draft.statements.first();
    match (first.map(|first| (&first.predicate, &first.subject)), envelopes) {
        (Some((Predicate::Rotation(_), _)), [envelope]) => {
            let request = NamespaceRequest {
                envelope: envelope.bytes().to_vec().into(),
            };
            site.rotate_namespace(draft.namespace(), &request).await
        }
        (Some((Predicate::Gate(_), _)), [envelope]) => {
            let request = NamespaceRequest {
                envelope: envelope.bytes().to_vec().into(),
            };
            site.gate_namespace(draft.namespace(), &request).await
        }
        (Some((Predicate::Access(_), _)), [envelope]) => {
            let request = NamespaceRequest {
                envelope: envelope.bytes().to_vec().into(),
            };
            site.share_namespace(draft.namespace(), &request).await
        }
        (Some((_, Subject::Artifact(name) | Subject::Manifest(name, _))), _) => {
            site.record(name, envelopes).await
        }
        _ => Err(ClientError::Usage(
            "the draft holds nothing that an owner signs".to_owned(),
        )),
    }
}
