//! `waag scorecard --svr`: a site's word for others that a release passes its gates, in a file of theirs.

use std::ffi::OsString;
use std::io::Write as _;
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
    let key = key_file(file);
    // Looked at before anything is asked: a file of before would seem to say what the site says now.
    for path in [file, &key] {
        if path.symlink_metadata().is_ok() {
            let text = format!("{} is there already, and is not written over", path.display());
            return Err(Failure::failed(text).hint("name another file, or remove it first"));
        }
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let text = format!(
            "{} is no directory to write {} to",
            directory.display(),
            file.display()
        );
        return Err(ClientError::Absent(text).into());
    }
    let found = svr::fetch(site, artifact, manifest).await.map_err(refused)?;
    let written = |path: &Path, bytes: &[u8]| {
        let made = std::fs::File::create_new(path).and_then(|mut made| made.write_all(bytes));
        made.map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))
    };
    written(&key, found.site_key.as_bytes())?;
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
