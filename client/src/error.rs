//! What can go wrong at a site or on this disk, by what the caller must do.
//!
//! Messages say what was tried and what was found. What to type next is for the command line to say.

use std::fmt;
use std::path::{Path, PathBuf};

use waag_schema::federation::CharterError;
use waag_schema::wire::Problem;
use waag_schema::{ArtifactName, FilePath, Namespace, Reference, Sha256, SiteId, Tag};

use crate::keys::KeyFileError;
use crate::scan::ScanError;

/// What every verb of this crate returns.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// A verb could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// What was asked makes no sense: ask differently.
    #[error("{0}")]
    Usage(String),
    /// A residency label denies it: no repetition will help.
    #[error("{message}")]
    Denied {
        /// What was denied.
        message: String,
        /// The verdict's reasons.
        reasons: Vec<String>,
    },
    /// Files of formats that run code: convert them.
    #[error("{} of a format that runs code: {}", if .0.len() == 1 { "a file is" } else { "files are" }, .0.join("; "))]
    RunsCode(Vec<String>),
    /// Something is not what its signature, digest or proof says: trust nothing of it.
    #[error("{what}: {reason}")]
    Verification {
        /// What was checked: a file, a proof, a checkpoint.
        what: String,
        /// What was found.
        reason: String,
    },
    /// A site lost entries that were seen here, and goes on with a successor of its ledger: a person must accept it.
    #[error("the ledger of {site} was set back and goes on as {successor}: {lost}{kept}")]
    Lost {
        /// The site.
        site: SiteId,
        /// What goes on.
        successor: String,
        /// Where the ledger ended, and what of it is lost.
        lost: String,
        /// Where both checkpoints are kept.
        kept: String,
    },
    /// Files are not what was signed.
    #[error("{}", Listed(.0))]
    Damaged(Vec<BadFile>),
    /// Nobody has said yet that this site is to be trusted: compare the fingerprint, then pin it.
    #[error("the site at {url} is not known yet; it says that it is {site}")]
    Unpinned {
        /// Where it answered.
        url: String,
        /// Who it says it is.
        site: SiteId,
    },
    /// There is no pin for this address: log in first.
    #[error("no site is pinned for {url}")]
    NoPin {
        /// The address.
        url: String,
    },
    /// Whose witnesses count is not known.
    #[error("no charter that is believed here names the site {site}: it would say whose witnesses count")]
    NoCharter {
        /// The site whose ledger is to be witnessed.
        site: SiteId,
    },
    /// A site gives out a copy of what another one records, and nobody has decided about that one.
    #[error("{mirror} holds this as a copy; it is recorded by the site {home}, which is not pinned here")]
    UnknownHome {
        /// Where the copy is.
        mirror: String,
        /// The site that records it.
        home: SiteId,
    },
    /// A copy of a ledger is behind what is known of that ledger, so that it can be checked against nothing.
    #[error("{mirror} has followed the ledger of {home} to {shown} entries, {known} are known here")]
    Lagging {
        /// Where the copy is.
        mirror: String,
        /// Whose ledger.
        home: SiteId,
        /// How many entries the copy has.
        shown: u64,
        /// How many were seen.
        known: u64,
    },
    /// Another site answers than the one that was pinned or asked for.
    #[error("the site at {url} is {found}, expected {expected}")]
    WrongSite {
        /// Where it answered.
        url: String,
        /// Who was expected.
        expected: SiteId,
        /// Who answered.
        found: SiteId,
    },
    /// Nothing of this name at the site, or nothing that this token may know of.
    #[error("{0}")]
    NotFound(String),
    /// Nothing of this name on this disk, in a ledger or among tokens: look for the name elsewhere.
    #[error("{0}")]
    Absent(String),
    /// What an earlier pull has begun in a directory did not end: do it again.
    #[error("a pull of {reference} into {} was interrupted", .directory.display())]
    Interrupted {
        /// The directory.
        directory: PathBuf,
        /// What was pulled.
        reference: Reference,
    },
    /// The site did not answer: try later, or look at the address.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Others wrote in between, more than once: try again.
    #[error("{0}")]
    Conflict(String),
    /// The name belongs to somebody else.
    #[error("{0}")]
    Taken(String),
    /// The token is missing, unknown or expired: log in.
    #[error("{0}")]
    Unauthorized(String),
    /// The token does not allow this: ask for another one.
    #[error("{0}")]
    Forbidden(String),
    /// A token would cross the network in plain text.
    #[error("a token is not sent to {url}: plain HTTP to another machine shows it to everybody on the way")]
    Insecure {
        /// The address.
        url: String,
    },
    /// A tag that does not move by itself names something else already.
    #[error("{artifact}:{tag} names {names} already")]
    TagNeedsMove {
        /// The artifact.
        artifact: ArtifactName,
        /// The tag.
        tag: Tag,
        /// What it names.
        names: Sha256,
    },
    /// The keys at hand are not enough for the namespace.
    #[error(
        "{found} of the owner keys of `{namespace}` would sign, {needed} must; the keys at hand are {}",
        .keys.join(", ")
    )]
    NotOwner {
        /// The namespace.
        namespace: Namespace,
        /// How many of its keys are at hand.
        found: usize,
        /// How many must sign.
        needed: usize,
        /// The fingerprints of the keys at hand.
        keys: Vec<String>,
    },
    /// Not enough have signed a statement yet: let the others sign as well.
    #[error("{what} needs more signatures: {}", .lacking.join("; "))]
    Unsigned {
        /// Which statement.
        what: String,
        /// How far those have come whose signatures are lacking.
        lacking: Vec<String>,
    },
    /// Something else was recorded since a draft was begun: begin it anew.
    #[error("{what} cannot be recorded any more: {reason}")]
    Stale {
        /// Which draft.
        what: String,
        /// What has changed.
        reason: String,
    },
    /// The publisher withdrew this release.
    #[error("{release} was withdrawn by its publisher: {reason}")]
    Withdrawn {
        /// The release.
        release: String,
        /// Why.
        reason: String,
    },
    /// A file was written to while it was being pushed: stop whoever writes, and push again.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// A directory holds something else than what is to be pulled into it: choose another, or insist.
    #[error("{} holds {holds}; nothing was written", .directory.display())]
    Occupied {
        /// The directory.
        directory: PathBuf,
        /// What it holds.
        holds: String,
    },
    /// What would come does not fit on the disk: make room.
    #[error("{} has room for {free} bytes, at least {needed} are to be written", .directory.display())]
    NoRoom {
        /// The directory.
        directory: PathBuf,
        /// How many bytes are to be written at least.
        needed: u64,
        /// How many fit.
        free: u64,
    },
    /// Files that would be replaced are not as a pull has left them: save them, or insist.
    #[error("would replace what no pull has put there: {}; nothing was written", .0.join(", "))]
    Modified(Vec<String>),
    /// A file stands for another one that was not fetched: fetch it.
    #[error("{0} is a Git LFS pointer, not the file")]
    LfsPointer(FilePath),
    /// A file is not what its name says: repair it, or leave it out.
    #[error("{path}: {reason}")]
    Format {
        /// Its path within the artifact.
        path: FilePath,
        /// What is wrong with it.
        reason: String,
    },
    /// A charter is not to be believed or signed.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// The directory cannot be published as it is.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The site refused for a reason of its own.
    #[error("the site refused: {}", .0.message)]
    Refused(Problem),
    /// The site's answer is not of the form that was agreed: one of the two is too old, or it is no site.
    #[error("the answer of {url} is not understood: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What came.
        reason: String,
    },
    /// This disk failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is something else than a regular file.
    NotAFile,
    /// A directory on the way to it is a link.
    Linked {
        /// Which, within the artifact.
        directory: String,
    },
    /// It has another length.
    Size {
        /// What was signed.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// It has other bytes.
    Digest {
        /// What was signed.
        expected: Sha256,
        /// What is there.
        found: Sha256,
    },
}

/// A file that is not what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// Its path within the artifact.
    pub path: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.fault {
            Fault::Missing => f.write_str("is missing"),
            Fault::NotAFile => f.write_str("is not a regular file"),
            Fault::Linked { directory } => write!(f, "its directory {directory} is a link"),
            Fault::Size { expected, found } => write!(f, "has {found} bytes, {expected} were signed"),
            Fault::Digest { expected, found } => write!(f, "has the digest {found}, {expected} was signed"),
        }
    }
}

struct Listed<'a>(&'a [BadFile]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, file) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            fmt::Display::fmt(file, f)?;
        }
        Ok(())
    }
}

impl ClientError {
    /// Names what was tried on which path when the disk failed.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn verification(what: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Verification {
            what: what.to_string(),
            reason: reason.to_string(),
        }
    }
}
