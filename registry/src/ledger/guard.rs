//! The guard: the newest tree that this signer has signed or was about to sign.
//!
//! Invariant: it is durable before a signature over that tree leaves the process. It lives outside the store,
//! so that a restored or rolled-back store cannot take it along; it is never part of a backup. That is what
//! keeps one key from ever signing two histories.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waag_schema::ledger::Checkpoint;

/// What the guard remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Guarded {
    /// The text of the checkpoint, unsigned.
    checkpoint: String,
}

/// The guard's file.
#[derive(Debug, Clone)]
pub struct Guard {
    path: PathBuf,
}

impl Guard {
    /// Keeps the guard in this file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Returns the guarded tree, or none where nothing was ever signed here.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold what this writes.
    pub fn load(&self) -> io::Result<Option<Checkpoint>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let guarded: Guarded = serde_json::from_slice(&text).map_err(io::Error::other)?;
        guarded.checkpoint.parse().map(Some).map_err(io::Error::other)
    }

    /// Remembers a tree, durably.
    ///
    /// # Errors
    /// When the disk does not take it; then nothing may be signed.
    pub fn save(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let guarded = Guarded {
            checkpoint: checkpoint.to_string(),
        };
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&guarded).map_err(io::Error::other)?)?;
        file.sync_all()?;
        // A crash before the rename leaves the older tree, one after it the newer: neither was signed yet.
        fs::rename(&temporary, &self.path)?;
        let directory = self
            .path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}
