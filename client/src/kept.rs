//! What a pull keeps beside the files, so that they can be verified without a network.
//!
//! `.waag/proof.json`:
//! ```text
//! {"version": 1, "site": "<site id>", "artifact": "acme/tiny", "asked": "1.0",
//!  "manifest": "<base64>", "proof": {"checkpoint": "...", "entries": [...]},
//!  "partial": [{"path": "config.json"},
//!              {"path": "model.safetensors", "made": {"from": "sha256:...", "key": "sha256:...",
//!                                                     "sha256": "sha256:...", "size": 1234}}]}
//! ```
//! `.waag/files.json` beside it is the list of files of a release that packs them, as the manifest names it.
//!
//! `witnesses`, where a pull was asked for them, are witnesses' lines on the ledger, each with the hashes that lead from the
//! smaller of its tree and the proof's to the larger: `[{"note": "...", "path": ["<base64>", ...]}]`.
//!
//! `partial` is there when not all files were pulled, and names those that were. What a pull made itself (a
//! file of some tensors) has a digest there that nobody signed: it says what the pull wrote, whose bytes it
//! checked.
//!
//! `.waag/pulling` is there while a pull has not ended: `pull <reference>` when it begins, then `<sha256 in hex>
//! <path>`, a line for each file before it gets its name, so that the next pull knows it as its own.
//!
//! Nothing in any of them is believed for being there: it is checked against the pin of the site that it names, which
//! lies in the home directory and never travels with the files.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waag_schema::base::bytes::Base64;
use waag_schema::base::name::Version;
use waag_schema::release::Manifest;
use waag_schema::wire::artifact::Proof;
use waag_schema::{ArtifactName, FilePath, Reference, Sha256, SiteId};

use crate::error::{ClientError, Result};
use crate::home::sync_dir;
use crate::listing::kept_listing;
use crate::witnessed::Line;

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
    /// The files that were pulled, if not all.
    pub(crate) partial: Option<Vec<KeptFile>>,
    /// What witnesses had said of the ledger, where that was asked for.
    pub(crate) witnesses: Vec<Line>,
}

/// A file that was pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptFile {
    pub(crate) path: FilePath,
    /// Set when it is not the file of the release but was made of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<Made>,
}

/// What a pull has made of a file of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The file of the release.
    pub(crate) from: Sha256,
    /// What it was made of: the same key, the same bytes.
    pub(crate) key: Sha256,
    /// Its digest; unsigned.
    pub(crate) sha256: Sha256,
    /// Its length.
    pub(crate) size: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptJson {
    version: u32,
    site: SiteId,
    artifact: ArtifactName,
    asked: String,
    manifest: Base64,
    proof: Proof,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partial: Option<Vec<KeptFile>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<Line>,
}

/// Returns where a directory's proof lies.
pub(crate) fn proof_path(directory: &Path) -> PathBuf {
    directory.join(KEPT_DIR).join(PROOF_FILE)
}

impl Kept {
    /// Reads the proof beside the files of a directory.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = proof_path(directory);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if let Some(reference) = Journal::read(directory).references.pop() {
                    let directory = directory.to_owned();
                    return Err(ClientError::Interrupted { directory, reference });
                }
                let text = format!(
                    "{} does not exist: nothing was pulled to {}",
                    path.display(),
                    directory.display()
                );
                return Err(ClientError::Absent(text));
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
            partial: json.partial,
            witnesses: json.witnesses,
        })
    }

    /// Returns the digests and sizes that the pulled files had, by path; none where they cannot be known.
    pub(crate) fn digests(&self, directory: &Path) -> HashMap<String, (Sha256, u64)> {
        let listing = Manifest::parse(self.manifest.clone())
            .ok()
            .and_then(|manifest| kept_listing(directory, &manifest, &self.artifact).ok());
        let Some(listing) = listing else {
            return HashMap::new();
        };
        let files = listing.files.iter();
        let mut digests: HashMap<String, (Sha256, u64)> = files
            .map(|file| (file.path.to_string(), (file.sha256, file.size)))
            .collect();
        if let Some(files) = &self.partial {
            let listed = files.iter().filter_map(|file| {
                let path = file.path.to_string();
                let whole = digests.get(&path).copied();
                let made = file.made.as_ref().map(|made| (made.sha256, made.size));
                Some((path, made.or(whole)?))
            });
            digests = listed.collect();
        }
        digests
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
            partial: self.partial.clone(),
            witnesses: self.witnesses.clone(),
        };
        let bytes = serde_json::to_vec(&json).expect("strings, numbers and lists always serialise");
        replace(directory, &proof_path(directory), &bytes)
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

/// A journal of a hundred thousand files has less than half of this.
const JOURNAL_MAX_BYTES: u64 = 64 << 20;
/// The word before what is to be pulled; no digest.
const BEGUN: &str = "pull";

fn journal_path(directory: &Path) -> PathBuf {
    directory.join(KEPT_DIR).join("pulling")
}

/// What pulls that did not end have done.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// What they were to pull, the last one last.
    pub(crate) references: Vec<Reference>,
    /// What they were about to name, by path.
    pub(crate) files: HashMap<String, Vec<Sha256>>,
}

impl Journal {
    /// Reads the journal of a directory. Lines that are none are skipped: the last one of a crash may be cut.
    pub(crate) fn read(directory: &Path) -> Self {
        let mut text = Vec::new();
        if let Ok(file) = File::open(journal_path(directory)) {
            // What cannot be read is not known.
            let _ = file.take(JOURNAL_MAX_BYTES).read_to_end(&mut text);
        }
        let mut journal = Self::default();
        for line in String::from_utf8_lossy(&text).lines() {
            match line.split_once(' ') {
                Some((BEGUN, reference)) => journal.references.extend(reference.parse()),
                Some((hex, path)) => {
                    if let Ok(digest) = Sha256::from_hex(hex) {
                        journal.files.entry(path.to_owned()).or_default().push(digest);
                    }
                }
                None => {}
            }
        }
        journal
    }
}

/// Notes what is to be pulled.
pub(crate) fn begin_journal(directory: &Path, reference: &Reference) -> Result<()> {
    append(directory, &format!("{BEGUN} {reference}\n")).map(drop)
}

/// Adds what is about to be named; the caller makes it durable.
pub(crate) fn note<'f>(
    directory: &Path,
    files: impl Iterator<Item = (&'f Sha256, &'f FilePath)>,
) -> Result<File> {
    let lines: String = files
        .map(|(digest, path)| format!("{} {path}\n", digest.hex()))
        .collect();
    append(directory, &lines)
}

fn append(directory: &Path, lines: &str) -> Result<File> {
    let path = journal_path(directory);
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .custom_flags(no_links)
        .open(&path)
        .map_err(ClientError::io("open", &path))?;
    file.write_all(lines.as_bytes())
        .map_err(ClientError::io("write", &path))?;
    Ok(file)
}

/// Removes the journal: the proof says it all.
pub(crate) fn end_journal(directory: &Path) {
    // Left behind, it only lets files be replaced that a pull once put there.
    let _ = fs::remove_file(journal_path(directory));
}
