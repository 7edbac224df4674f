//! The command line of what owners decide together: rotating keys, co-signing, withdrawing.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_schema::statement::scorecard::Amount;
use waag_schema::{ArtifactName, Namespace, Reference, Tag};

use super::Signing;
use crate::typed::amount;

/// Where what one owner has signed is kept for the others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub(crate) struct Out {
    /// Record nothing: write what is signed so far to this file, for other owners to `waag sign`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Change the keys that own a namespace
///
/// As many of the present owners as must sign, and as many of the new ones, sign the change. If not all of
/// them are on this machine, --out writes what is signed so far to a file: the others add theirs with
/// `waag sign FILE`, and `waag sign FILE --submit` has it recorded.
///
/// Where owners have lost their keys, as many recovery keys sign in place of the present owners: name them
/// with --sign-with.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NamespaceRotate {
    /// Its name
    pub(crate) name: Namespace,
    /// A key that becomes an owner: its name, its path, or its public half as text
    #[arg(long = "add-owner", alias = "add", value_name = "KEY")]
    pub(crate) add: Vec<String>,
    /// A key that is no owner any more: its fingerprint, its name, its path, or its public half
    #[arg(long = "remove-owner", alias = "remove", value_name = "KEY")]
    pub(crate) remove: Vec<String>,
    /// A key that may stand in for a lost owner's, named likewise; those given are all there are from then on
    #[arg(long, value_name = "KEY")]
    pub(crate) recovery: Vec<String>,
    /// No key stands in for a lost owner's any more
    #[arg(long, conflicts_with = "recovery")]
    pub(crate) no_recovery: bool,
    /// How many owners must sign from then on [default: as many as now]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) threshold: Option<u32>,
    /// Sign with this key; several times for several owners, old and new [default: default]
    #[arg(long, alias = "key", value_name = "NAME|PATH", help_heading = "Signing")]
    pub(crate) sign_with: Vec<String>,
    /// Read the passphrase from the first line of this file, `-` for standard input, instead of asking
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Signing")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) out: Out,
}

/// Require a score before a tag moves
///
/// From then on no release of the namespace gets this tag unless the site's newest scorecard of it has the number:
/// of a task of a suite, or, without --suite, of its weights, as in `--metric nonfinite --at-most 0`. Several gates
/// may stand before one tag; all must be passed. --remove takes those of the tag away.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NamespaceGate {
    /// The namespace's name
    pub(crate) name: Namespace,
    /// The tag, on all artifacts of the namespace
    #[arg(long)]
    pub(crate) tag: Tag,
    /// The suite that must have been asked
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) suite: Option<ArtifactName>,
    /// The suite's task
    #[arg(long, value_name = "TASK", requires = "suite")]
    pub(crate) task: Option<String>,
    /// The number, as `waag scorecard` calls it; `nonfinite` is what is not a number or infinite
    #[arg(long, value_name = "METRIC", required_unless_present = "remove")]
    pub(crate) metric: Option<String>,
    /// It must be this or more
    #[arg(long, value_name = "NUMBER", value_parser = amount)]
    pub(crate) at_least: Option<Amount>,
    /// It must be this or less
    #[arg(long, value_name = "NUMBER", value_parser = amount)]
    pub(crate) at_most: Option<Amount>,
    /// Take away what stands before this tag
    #[arg(long, conflicts_with_all = ["suite", "task", "metric", "at_least", "at_most"])]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Share a private namespace with other sites of the charter
///
/// From then on these sites follow what is recorded of the namespace, from its beginning: their mirror rules may match
/// its releases, as far as labels allow, and they show them to tokens of theirs that carry the namespace. All other
/// sites go on learning nothing of it, and neither do they learn whom it is shared with.
///
/// With --stop these sites get nothing more, and have to delete their copies and say so. What they have read of its
/// names and statements stays with them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct NamespaceShare {
    /// The namespace's name
    pub(crate) name: Namespace,
    /// The sites: what the charter calls them, or their ids
    #[arg(value_name = "SITE", required = true)]
    pub(crate) sites: Vec<String>,
    /// Share it with them no longer
    #[arg(long)]
    pub(crate) stop: bool,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
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
/// Says what the file would have recorded, and how many signatures it has and needs; on a terminal, that is
/// asked about. No network is needed: the file proves whose signatures count. A push has several statements,
/// each linked to the signed one before, so that owners may have to sign in turns: the file says so.
///
/// With --submit it is recorded once enough have signed, by anybody whose token may publish in the
/// namespace. The content of a push waits at the site for as many days as `upload_days` in its waag.toml
/// says (7 by default). If something else was recorded meanwhile, the file has to be made anew.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Sign {
    /// What `--out` wrote
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
    /// Have every site that holds it, this one first, delete it and say so in its ledger
    #[arg(long)]
    pub(crate) erase: bool,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
}
