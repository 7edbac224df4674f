//! Bundles: releases carried to a site that no network reaches.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use waag_schema::Reference;

/// Carry releases to a site that no network reaches, in a file
#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    Export(BundleExport),
    Import(BundleImport),
}

/// Write a bundle: this site's ledger, and releases that are at home here
///
/// The site must be stopped. What goes is what the destination could have fetched over a network: a release that its
/// label does not allow there is left out, and refused where it was named.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BundleExport {
    /// Releases; without one, --all
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]", required_unless_present = "all")]
    pub(crate) references: Vec<Reference>,
    /// All releases that may go there
    #[arg(long, conflicts_with = "references")]
    pub(crate) all: bool,
    /// The file to write; there must be none of this name
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// The site that it is for, by its name in the charter or by its id
    #[arg(long = "for", value_name = "SITE")]
    pub(crate) destination: String,
    /// A bundle that the destination has imported: what it has is left out
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) since: Option<PathBuf>,
    /// The site's data directory
    #[arg(long, value_name = "DIR", default_value = "waag-data", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
}

/// Take in a bundle
///
/// The site must be stopped. The whole file is checked before anything of it is taken; then its ledger is followed and
/// its releases are mirrored, as if its site had been asked. A release that a label denies to this site is refused, and
/// the refusal stands in this site's ledger.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct BundleImport {
    /// The bundle
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The site's data directory
    #[arg(long, value_name = "DIR", default_value = "waag-data", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
}
