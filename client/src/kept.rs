//! What a pull keeps beside the files, so that they can be verified without a network.
//!
//! `.waag/proof.json`:
//! ```text
//! {"version": 1, "site": "<site id>", "artifact": "acme/tiny", "asked": "1.0",
//!  "manifest": "<base64>", "proof": {"checkpoint": "...", "entries": [...]}}
//! ```
//! `.waag/files.json` beside it is the list of files of a release that packs them, as the manifest names it.
//! Nothing in either is believed for being there: it is checked against the pin of the site that it names, which
//! lies in the home directory and never travels with the files.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waag_schema::base::bytes::Base64;
use waag_schema::base::name::Version;
use waag_schema::wire::artifact::Proof;
use waag_schema::{ArtifactName, SiteId};

use crate::error::{ClientError, Result};
use crate::home::sync_dir;

/// The directory in which a pull keeps its proof and what it has not finished.
pub(crate) const KEPT_DIR: &str = ".waag";
const PROOF_FILE: &str = "proof.json";
const LIST_FILE: &str = "files.json";
const VERSION: u32 = 1;
/// A manifest of 4 MiB with its proof takes less than half of this.
const KEPT_MAX_BYTES: u64 = 32 << 20;

/// A proof as it lies beside the files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// The site whose ledger proves it.
    pub(crate) site: SiteId,
    /// The artifact.
    pub(crate) artifact: ArtifactName,
    /// What was asked for: a tag, or a digest.
    pub(crate) asked: Version,
    /// The manifest's exact bytes.
    pub(crate) manifest: Vec<u8>,
    /// The proof, as the site gave it.
    pub(crate) proof: Proof,
}

#[derive(Serialize, Deserialize)]
struct KeptJson {
    version: u32,
    site: SiteId,
    artifact: ArtifactName,
    asked: String,
    manifest: Base64,
    proof: Proof,
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join(KEPT_DIR).join(PROOF_FILE)
}

impl Kept {
    /// Reads the proof beside the files of a directory.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = path_in(directory);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let text = format!(
                    "{} does not exist: nothing was pulled to {}",
                    path.display(),
                    directory.display()
                );
                return Err(ClientError::NotFound(text));
            }
            Err(e) => return Err(ClientError::io("open", path)(e)),
        };
        let damaged = |reason: String| ClientError::verification(path.display(), reason);
        let mut bytes = Vec::new();
        file.take(KEPT_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(ClientError::io("read", &path))?;
        if bytes.len() as u64 > KEPT_MAX_BYTES {
            return Err(damaged(format!("it has more than {KEPT_MAX_BYTES} bytes")));
        }
        let json: KeptJson = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if json.version != VERSION {
            return Err(damaged(format!(
                "it has the version {}, this program reads {VERSION}",
                json.version
            )));
        }
        Ok(Self {
            site: json.site,
            artifact: json.artifact,
            asked: json.asked.parse().map_err(|e| damaged(format!("{e}")))?,
            manifest: json.manifest.0,
            proof: json.proof,
        })
    }

    /// Writes the proof beside the files, in place of an earlier one.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let json = KeptJson {
            version: VERSION,
            site: self.site.clone(),
            artifact: self.artifact.clone(),
            asked: self.asked.to_string(),
            manifest: self.manifest.clone().into(),
            proof: self.proof.clone(),
        };
        let bytes = serde_json::to_vec(&json).expect("strings, numbers and lists always serialise");
        replace(directory, &path_in(directory), &bytes)
    }
}

/// Reads the list of files that lies beside the proof; it must have this many bytes.
pub(crate) fn read_list(directory: &Path, size: usize) -> Result<Vec<u8>> {
    let path = directory.join(KEPT_DIR).join(LIST_FILE);
    let missing = || ClientError::verification(path.display(), "the list of files is missing or was changed");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(e) => return Err(ClientError::io("open", &path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(size as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(ClientError::io("read", &path))?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(missing())
    }
}

/// Keeps the list of files; to be called before the proof that needs it is written.
pub(crate) fn write_list(directory: &Path, bytes: &[u8]) -> Result<()> {
    replace(directory, &directory.join(KEPT_DIR).join(LIST_FILE), bytes)
}

/// Writes a file beside its place, syncs it and puts it there.
fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    // Made anew: what a crash or somebody else left there, a link perhaps, is not written through.
    let _ = fs::remove_file(&temporary);
    let mut file = File::create_new(&temporary).map_err(ClientError::io("create", &temporary))?;
    file.write_all(bytes)
        .map_err(ClientError::io("write", &temporary))?;
    file.sync_all().map_err(ClientError::io("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(ClientError::io("replace", path))?;
    sync_dir(&directory.join(KEPT_DIR))
}
