//! Weighing: what is measured on a release, and on a directory.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_client::SiteUrl;
use waag_schema::{ArtifactName, Reference};

/// Show what the site has measured on a release
///
/// A site weighs each release after it is published and enters what it found in its ledger. The scorecard is
/// shown only if it stands there, under the key that is pinned, and its details have the digest that it names.
///
/// With --against, another pinned site that holds the same release is asked what it has found: each section is
/// confirmed, disputed (exit code 4), or cannot be compared.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Scorecard {
    /// Which release: by tag (default: latest) or by digest
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// Wait until the site has weighed it
    #[arg(long)]
    pub(crate) wait: bool,
    /// Compare it with what the site at this address has measured on the same release; several times for several
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) against: Vec<SiteUrl>,
}

/// Put what the site has measured on two releases side by side
///
/// Each number of the first, of the second, and how far the second is from the first.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Compare {
    /// The one: by tag (default: latest) or by digest
    #[arg(value_name = "REF")]
    pub(crate) a: Reference,
    /// The other
    #[arg(value_name = "REF")]
    pub(crate) b: Reference,
}

/// Rank the site's releases by what they scored on a suite
///
/// The ranks are the site's word; `waag scorecard` proves each release's own numbers.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Leaderboard {
    /// The suite
    #[arg(value_name = "NAMESPACE/NAME")]
    pub(crate) suite: ArtifactName,
    /// Which number ranks: acc, acc_norm, bits_per_byte ... [default: the first of these that there is]
    #[arg(long, value_name = "METRIC")]
    pub(crate) metric: Option<String>,
    /// Of which task [default: each task by itself]
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
}

/// Measure the weights in a directory on this machine, without any site
///
/// The numbers are those that a site's scorecard of the same files has, to the last bit.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Weigh {
    /// A directory, or a safetensors file
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
}
