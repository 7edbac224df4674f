//! `waag scorecard --svr`: a site's word for others that a release passes its gates, in a file of theirs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use waag_client::ClientError;
use waag_client::site::Site;
use waag_client::svr;
use waag_schema::wire::problem::Code;
use waag_schema::{ArtifactName, Sha256};

use crate::failure::{Exit, Failure};

/// What the file with the note of the key has behind its name.
const KEY: &str = ".key";

/// Fetches it and writes two files: the envelope, and beside it the note of the key that signed it. Nothing is written
/// where there is nothing to say.
pub(super) async fn write(
    site: &Site,
    artifact: &ArtifactName,
    manifest: &Sha256,
    file: &Path,
) -> Result<(), Failure> {
    let found = svr::fetch(site, artifact, manifest).await.map_err(refused)?;
    let written = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes)
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))
    };
    written(&key_file(file), found.site_key.as_bytes())?;
    written(file, &found.envelope)
}

/// Where the note of the key lies.
pub(super) fn key_file(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(KEY);
    name.into()
}

fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Refused(problem) if problem.code == Code::Gate => Failure::new(
            Exit::Refused,
            problem.message,
        )
        .details(problem.reasons)
        .hint(
            "`waag namespace show NAMESPACE` shows its gates; --wait waits for what is still to be measured",
        ),
        ClientError::NotFound(what) => Failure::from(ClientError::NotFound(what)).hint(
            "`waag namespace gate NAMESPACE --tag TAG --metric METRIC --at-least NUMBER` sets up a gate",
        ),
        other => other.into(),
    }
}
