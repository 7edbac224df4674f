//! Weighing: what is measured on a release, and on a directory.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_schema::Reference;

/// Show what the site has measured on a release
///
/// A site weighs each release after it is published and enters what it found in its ledger. The scorecard is
/// shown only if it stands there, under the key that is pinned, and its details have the digest that it names.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Scorecard {
    /// Which release: by tag (default: latest) or by digest
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// Wait until the site has weighed it
    #[arg(long)]
    pub(crate) wait: bool,
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
