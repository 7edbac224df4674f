//! The command line of what owners decide together: rotating keys, co-signing, withdrawing.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_schema::{Namespace, Reference};

use super::Signing;

/// Change the keys that own a namespace
///
/// As many of the present owners as must sign, and as many of the new ones, sign the change. If not all of
/// them are on this machine, --out writes what is signed so far to a file: the others add theirs with
/// `waag sign FILE`, and `waag namespace submit` has it recorded.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NamespaceRotate {
    /// Its name
    pub(crate) name: Namespace,
    /// A key that becomes an owner: its name, its path, or its public half as text
    #[arg(long, value_name = "NAME|PATH|'ssh-ed25519 AAAA...'")]
    pub(crate) add: Vec<String>,
    /// A key that is no owner any more: its fingerprint, its name, its path, or its public half
    #[arg(long, value_name = "FINGERPRINT|NAME|PATH")]
    pub(crate) remove: Vec<String>,
    /// How many owners must sign from then on [default: as many as now]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) threshold: Option<u32>,
    /// Sign with this key; several times for several owners, old and new [default: default]
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) sign_with: Vec<String>,
    /// Read the passphrase from the first line of this file, `-` for standard input, instead of asking
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Write it to this file for others to sign, and record nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Have a change recorded that enough owners have signed
#[derive(Debug, Args)]
pub(crate) struct NamespaceSubmit {
    /// The namespace's name
    pub(crate) name: Namespace,
    /// The file that `waag namespace rotate --out` wrote and the owners signed
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}

/// Add a signature to a file that waits for several
///
/// Says what the file would change before it is signed, and how many signatures it needs and has. On a
/// terminal, that is asked about.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Sign {
    /// What `--out` wrote, signed so far
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Have it recorded once enough have signed
    #[arg(long)]
    pub(crate) submit: bool,
    /// Sign without asking
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Say that a release is no longer to be used
///
/// Nothing is deleted: whoever pulls the release from now on is told why not to use it. That cannot be
/// taken back; publish another release instead.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Withdraw {
    /// The release, by tag (default: latest) or by digest
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// Why; readers are shown it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}
