//! The verbs that every face calls: admit a namespace, publish a release, record a statement, resolve a
//! version. A face translates to and from these; what may happen is decided here, by `schema`'s pure rules
//! and by the sequencer, and nowhere else.

mod answers;
mod catalogue;
mod demand;
mod gates;
mod inspection;
mod intake;
mod openings;
mod others;
mod packed;
mod shelf;

use waag_schema::release::files::FilesError;
use waag_schema::release::gate::Refused;
use waag_schema::release::manifest::ManifestError;
use waag_schema::statement::StatementError;
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId, Timestamp};

pub use answers::Answers;
pub(crate) use answers::PIECES_MAX;
pub use catalogue::{Catalogue, FileBytes};
pub use demand::Demand;
pub use intake::Intake;
pub use packed::PackedFiles;

use crate::content::ContentError;
use crate::index::IndexError;
use crate::ledger::AppendError;
use crate::store::StoreError;

/// A verb could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The caller's token does not allow it.
    #[error("this token may not {what} in the namespace `{namespace}`")]
    Forbidden {
        /// What was tried.
        what: &'static str,
        /// Where.
        namespace: Namespace,
    },
    /// Only an admin token may do it.
    #[error("only an admin token may {0}")]
    NotAdmin(&'static str),
    /// The charter gives the namespace to another site.
    #[error(
        "by the charter of version {version} the namespace `{namespace}` belongs to the site {site} at {url}"
    )]
    OwnedElsewhere {
        /// The namespace.
        namespace: Namespace,
        /// What the charter calls its owner.
        site: String,
        /// Where the owner answers.
        url: String,
        /// The charter's version.
        version: u64,
    },
    /// Only another site may ask for it.
    #[error("only a site of the charter that signs its request is answered a challenge")]
    NotSite,
    /// The site has asked too often.
    #[error("too many challenges came from this site in the last minute")]
    TooOften,
    /// Nothing of this name, or nothing the caller may know of.
    #[error("there is no {0} here")]
    NotFound(String),
    /// A release does not pass the gates of its namespace.
    #[error("{artifact}@{manifest} does not pass the gates of its namespace")]
    Gates {
        /// The artifact.
        artifact: ArtifactName,
        /// The release.
        manifest: Sha256,
        /// What is not met.
        unmet: Vec<String>,
    },
    /// A label denies it.
    #[error("the residency label of {artifact} denies it")]
    Denied {
        /// The artifact.
        artifact: ArtifactName,
        /// The verdict's reasons.
        reasons: Vec<String>,
    },
    /// Its home has not been heard from for so long that what it may have forbidden since is not known here.
    #[error(
        "{artifact} is a copy, and its home {home} has not been heard from since {since}: no copy is given out after 24 hours of silence"
    )]
    Silent {
        /// The artifact.
        artifact: ArtifactName,
        /// Its home.
        home: SiteId,
        /// When it was last heard from.
        since: Timestamp,
    },
    /// Its home has contradicted itself.
    #[error("{artifact} is a copy, and its home {home} is not believed any more: {reason}")]
    Distrusted {
        /// The artifact.
        artifact: ArtifactName,
        /// Its home.
        home: SiteId,
        /// What was found.
        reason: String,
    },
    /// It will be fetched from its home.
    #[error("{artifact} is not here yet; it is being fetched from its home {home}: ask again")]
    Coming {
        /// The artifact.
        artifact: ArtifactName,
        /// Its home.
        home: SiteId,
    },
    /// The manifest cannot be accepted.
    #[error("the manifest cannot be accepted: {0}")]
    Manifest(#[from] ManifestError),
    /// The list of packed files cannot be accepted.
    #[error("the manifest cannot be accepted: {0}")]
    Files(#[from] FilesError),
    /// An envelope cannot be accepted.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Files are of formats that run code.
    #[error("{} of a format that runs code", if .0.len() == 1 { "a file is" } else { "files are" })]
    Format(Vec<Refused>),
    /// The parts of the request do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// Content that the manifest names has not been sent.
    #[error("the manifest names {path} ({digest}), which has not been sent")]
    MissingContent {
        /// The file.
        path: String,
        /// Its digest.
        digest: Sha256,
    },
    /// Content could not be taken in or given out.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The ledger did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
