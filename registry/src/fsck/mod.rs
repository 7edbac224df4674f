//! Is everything that this site keeps what its signed ledger says? Asked offline, of a data directory.
//!
//! Everything is derived again from the least that must be believed, the checkpoint that the site's own key
//! signed: tree from leaves, leaves from openings, rows from statements (each signature checked), chunks from
//! recipes. What differs is named. Repairing writes only what can be derived from what was found whole.

mod content;
mod ledger;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use waag_schema::Sha256;
use waag_schema::statement::Release;
use waag_schema::statement::scorecard::Details;

use crate::index::IndexError;
use crate::ledger::AppendError;
use crate::store::{Store, StoreError};
use crate::vault::{Vault, VaultError};

/// What to do about what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only look.
    Check,
    /// Write again what can be derived; take away damaged chunks, so that the next push sends them again.
    Repair,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What: a key of the store, an entry, or the index.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// It was put right.
    pub repaired: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.repaired { " (repaired)" } else { "" };
        write!(f, "{}: {}{end}", self.object, self.problem)
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of the ledger.
    pub entries: u64,
    /// Entries whose opening was erased on purpose.
    pub erased: u64,
    /// Statements whose signatures were checked.
    pub statements: u64,
    /// Manifests.
    pub manifests: u64,
    /// Details of scorecards.
    pub details: u64,
    /// Recipes.
    pub recipes: u64,
    /// Chunks, each once.
    pub chunks: u64,
    /// Their stored bytes.
    pub chunk_bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What the ledger says must be in the store.
#[derive(Default)]
struct Held {
    /// Manifests, and what their files are made of.
    releases: Vec<(Sha256, Release)>,
    /// What scorecards name.
    details: Vec<Details>,
}

impl Report {
    /// Says whether all is well, or was put right.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|f| f.repaired)
    }

    fn found(&mut self, object: impl fmt::Display, problem: impl fmt::Display, repaired: bool) {
        self.findings.push(Finding {
            object: object.to_string(),
            problem: problem.to_string(),
            repaired,
        });
    }
}

/// The check could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The data directory cannot be used, or a site runs on it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The ledger cannot be read at all.
    #[error(transparent)]
    Ledger(#[from] AppendError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a data directory and the store that belongs to it, while no site runs on them.
///
/// # Errors
/// When the check cannot be carried out. What is wrong with the data is in the report instead.
pub async fn fsck(data: &Path, store: Arc<dyn Store>, mode: Mode) -> Result<Report, FsckError> {
    let vault = Vault::open(data)?;
    let mut report = Report::default();
    if let Some(Held { releases, details }) = ledger::check(&vault, &store, mode, &mut report).await? {
        content::check(&store, mode, &releases, &mut report).await?;
        content::check_details(&store, &details, &mut report).await?;
    }
    Ok(report)
}
