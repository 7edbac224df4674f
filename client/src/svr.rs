//! A Simple Verification Result of a site: fetched, and checked as far as the pinned key goes.
//!
//! What comes is for others, who know neither this site's ledger nor its pin: an envelope that DSSE tools read, and the
//! note by which the ledger's key names the key that signed it.

use waag_schema::ledger::site_key;
use waag_schema::statement::{Envelope, Svr};
use waag_schema::wire::artifact::SvrView;
use waag_schema::{ArtifactName, Sha256};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::site::Site;

/// What a site says for others to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub svr: Svr,
    /// The DSSE envelope, exact bytes.
    pub envelope: Vec<u8>,
    /// The note of the key that signed it.
    pub site_key: String,
}

/// Has the site say that a release passes all gates of its namespace.
///
/// # Errors
/// When it does not pass them, there is none, or what came is not signed by the site or says something else.
pub async fn fetch(site: &Site, artifact: &ArtifactName, manifest: &Sha256) -> Result<Verified> {
    let ask = Ask::get(format!("/api/v1/artifacts/{artifact}/svr/{manifest}"));
    let SvrView {
        envelope,
        site_key: note,
    } = site.transport().json(ask).await?;
    let pin = site.pin();
    let key = site_key::read(note.as_bytes(), pin.key()).map_err(|e| refused(artifact, &e))?;
    let read = Envelope::parse(&envelope.0).map_err(|e| refused(artifact, &e))?;
    read.verify(&[key], 1).map_err(|e| refused(artifact, &e))?;
    let svr = Svr::parse(read.payload()).map_err(|e| refused(artifact, &e))?;
    if (&svr.artifact, &svr.manifest, &svr.site) != (artifact, manifest, &pin.site) {
        return Err(refused(
            artifact,
            &"it is about something else, or by somebody else",
        ));
    }
    Ok(Verified {
        svr,
        envelope: envelope.0,
        site_key: note,
    })
}

fn refused(artifact: &ArtifactName, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::verification(format_args!("verification result of {artifact}"), why)
}
