//! Bundles: what a site would have fetched over a network, carried in a file.
//!
//! A bundle is written as its destination would be answered, with the same verdicts, and read as a [`super::Peer`]: the
//! same follower and the same mirror check what is in it. Nobody believes the file itself.

mod export;
mod file;
mod import;

use std::path::PathBuf;

use waag_schema::ArtifactName;
use waag_schema::federation::CharterError;
use waag_schema::federation::bundle::BundleError;

pub use export::{ExportRequest, Exported, LeftOut, export};
pub use file::BundleFile;
pub use import::{Imported, import};

use super::{FederationError, PeerError, SitesError};
use crate::index::IndexError;
use crate::ledger::AppendError;

/// A bundle cannot be written, or not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The file is damaged, or no bundle. Nothing of it was taken.
    #[error("{path}: {error}")]
    Bundle {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        error: BundleError,
    },
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is this site's own.
    #[error("the bundle is this site's own")]
    Own,
    /// A release that was named may not go where the bundle goes.
    #[error("{artifact} may not be carried there: {reason}")]
    Denied {
        /// The artifact.
        artifact: ArtifactName,
        /// The verdict.
        reason: String,
    },
    /// There is no such release of this site.
    #[error("there is no {0} that is at home here")]
    NotFound(String),
    /// This site has the wrong content, or not all of it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What is in the bundle was not believed, or the charter does not name its site.
    #[error(transparent)]
    Sites(Box<SitesError>),
    /// Its charters were not adopted.
    #[error(transparent)]
    Charter(#[from] FederationError),
    /// The own ledger failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl From<SitesError> for CarryError {
    fn from(error: SitesError) -> Self {
        Self::Sites(Box::new(error))
    }
}

impl From<CharterError> for CarryError {
    fn from(error: CharterError) -> Self {
        Self::Charter(error.into())
    }
}
