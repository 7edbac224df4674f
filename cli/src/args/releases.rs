//! Releases, out and in: `push`, `pull`, `verify`, `show`, `list`, `search`, `diff`, `tag`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_client::pull::TensorPattern;
use waag_client::witnessed::Quorum;
use waag_schema::policy::label::Action;
use waag_schema::policy::place::Where;
use waag_schema::release::gate::Unsafe;
use waag_schema::release::kind::Kind;
use waag_schema::{Namespace, Reference, Tag};

use super::{Out, Signing};
use crate::typed::{Compared, Shown, Target};

/// Publish a directory or a file
///
/// Reads the files, sends what the site does not have yet, signs the release and has it recorded. What
/// was sent before an interruption is not sent again. A file .waagignore names what is left out, in the
/// way of .gitignore.
///
/// Where several owners must sign and not all of their keys are here, --out FILE sends the content and
/// writes what is signed so far to a file: the others need only that, for `waag sign FILE`. The content
/// waits at the site for as many days as `upload_days` in its waag.toml says (7 by default).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Push {
    /// What to publish
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Under which name, and which tag (default: latest)
    #[arg(value_name = "NAMESPACE/NAME[:TAG]")]
    pub(crate) target: Target,
    /// What it is
    #[arg(long, default_value = "model", value_name = "model|dataset|suite")]
    pub(crate) kind: Kind,
    /// Where it may be: countries (DE), EU, EEA, group:NAME of the charter, site:ID or `*`
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',')]
    pub(crate) residency: Vec<Where>,
    /// What may be done there: hold, serve, evaluate [default: all]
    #[arg(
        long,
        value_name = "ACTION,...",
        value_delimiter = ',',
        requires = "residency"
    )]
    pub(crate) allow: Vec<Action>,
    /// What may be done nowhere: hold, serve, evaluate
    #[arg(
        long,
        value_name = "ACTION,...",
        value_delimiter = ',',
        requires = "residency"
    )]
    pub(crate) deny: Vec<Action>,
    /// Its licence, as an SPDX expression
    #[arg(long, value_name = "SPDX")]
    pub(crate) license: Option<String>,
    /// The release that it was made from; its label holds for this as well
    #[arg(long, value_name = "REF")]
    pub(crate) base: Option<Reference>,
    /// Releases that it was trained on; their labels hold for this as well
    #[arg(long, value_name = "REF,...", value_delimiter = ',')]
    pub(crate) trained_on: Vec<Reference>,
    /// Move the tag if it names another release (`latest` and `main` always move)
    #[arg(long = "move")]
    pub(crate) move_tag: bool,
    /// Take the regular files that symbolic links lead to, as in a Hugging Face cache
    #[arg(long)]
    pub(crate) follow: bool,
    /// Publish a format that runs code all the same, where the site allows it: pickle, executable
    #[arg(long, value_name = "FORMAT,...", value_delimiter = ',')]
    pub(crate) allow_format: Vec<Unsafe>,
    /// Send the bytes as they are: on a fast network, encoding them may take longer than it saves
    #[arg(long)]
    pub(crate) no_encode: bool,
    /// Say what would be sent, and send nothing
    #[arg(long, conflicts_with = "out")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Fetch a release, and prove that its publisher signed it
///
/// Every chunk is checked as it arrives. The proof is kept beside the files, in .waag, so that
/// `waag verify` can repeat the check offline. What is on disk already is used; what was fetched before
/// an interruption is not fetched again.
///
/// Globs are those of .waagignore: without a `/` they match a name in any directory, with one they are tied
/// to the root; a directory stands for all that lies in it. `verify` then checks what was pulled.
///
/// With --tensors, each safetensors file becomes one of the tensors that match, and only their chunks are
/// fetched. Files without such a tensor are left out, an index (*.safetensors.index.json) is written for
/// what is kept, other files are pulled as they are. What is made so is checked against what was signed
/// while it is pulled; `verify` can only say later that it is as it was written.
///
/// A directory with files that no pull has put there, or of another artifact, is refused, and so is
/// replacing files that were changed since: --force does it all the same. Files that an earlier pull of the
/// artifact has put there and the release has no more are removed when all of it is pulled, unless they
/// were changed since.
///
/// Pulls share a cache of chunks in WAAG_HOME/cache of at most 2 GiB. A pull that fetches more than
/// 512 MiB keeps nothing of it there: weights are not on the disk twice.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Pull {
    /// Which release: by tag (default: latest) or by digest
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// Where to put it [default: the artifact's name, in this directory]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Only files that match; several times for several patterns
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// No files that match; several times for several patterns
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Of safetensors files only tensors whose names match, as in `layers\.[0-3]\.`
    #[arg(long, value_name = "REGEX")]
    pub(crate) tensors: Option<TensorPattern>,
    /// Take bytes from the files of this directory where they are the same; several times for several
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) reuse: Vec<PathBuf>,
    /// Say what would be fetched and what is here, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fill the directory whatever it holds, and replace files that were changed
    #[arg(long)]
    pub(crate) force: bool,
    /// Take it even if its publisher has withdrawn it
    #[arg(long)]
    pub(crate) withdrawn: bool,
    /// Only if so many other jurisdictions have cosigned the ledger that proves it, by the charter that is believed here
    /// (`waag charter adopt`); without a number, as many as the charter asks for and at least one
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "charter", require_equals = true)]
    pub(crate) witnessed: Option<Quorum>,
    /// Where chunks are shared with other pulls [default: WAAG_HOME/cache/chunks]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache: Option<PathBuf>,
    /// Share no chunks with other pulls
    #[arg(long, conflicts_with = "cache")]
    pub(crate) no_cache: bool,
}

/// Check pulled files against the proof that was kept beside them; needs no network
///
/// Also what the site had measured on the release when it was pulled: each scorecard must be signed by the site, about
/// this release and in its ledger. Of a release at the site (`waag verify acme/tiny:1.0`) the same is checked without
/// pulling its files, and the scorecard's details as well.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Verify {
    /// A directory that `waag pull` filled; or a release, where there is no such directory
    #[arg(value_name = "DIR|REF", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// Fail if what was withdrawn is known as of longer ago than this; pull again to know it anew
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub(crate) max_age: Option<u32>,
    /// Accept it even if its publisher has withdrawn it
    #[arg(long)]
    pub(crate) withdrawn: bool,
    /// Fail unless so many other jurisdictions had cosigned the ledger when it was pulled with `--witnessed`; without a
    /// number, as many as the charter asks for and at least one
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "charter", require_equals = true)]
    pub(crate) witnessed: Option<Quorum>,
}

/// Show an artifact: its tags, releases and label; or one of its releases: who signed it, and its files
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name, alone or with a version
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) what: Shown,
}

/// List the artifacts of the site
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this namespace
    pub(crate) namespace: Option<Namespace>,
}

/// Find artifacts by words
///
/// Each word must stand in the artifact's name, kind, licence, architecture or size, in any case.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Search {
    /// The words
    #[arg(required = true, value_name = "WORD")]
    pub(crate) words: Vec<String>,
    /// Only in this namespace
    #[arg(long)]
    pub(crate) namespace: Option<Namespace>,
}

/// Compare two releases, or directories: files, tensors, configuration
///
/// What holds a `/` and begins with neither `.` nor `/` is a release. Of a release only metadata is
/// fetched; a directory is read whole.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Diff {
    /// The earlier one
    #[arg(value_name = "REF|DIR")]
    pub(crate) a: Compared,
    /// The later one
    #[arg(value_name = "REF|DIR")]
    pub(crate) b: Compared,
}

/// Let a tag name a release
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The release, by another tag or by digest
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// The tag
    pub(crate) tag: Tag,
    /// Move the tag if it names another release (`latest` and `main` always move)
    #[arg(long = "move")]
    pub(crate) move_tag: bool,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
}
