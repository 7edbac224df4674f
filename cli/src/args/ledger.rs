//! The command line of the ledger: looking at it, proving from it, checking it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Look at a site's ledger, prove from it and check it
///
/// The ledger is what a site has recorded, in an order that it cannot change unseen. Everything that is
/// shown is checked against the site's pinned key.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum LedgerCommand {
    Show(LedgerShow),
    Prove(LedgerProve),
    Verify(LedgerVerify),
    Fsck(LedgerFsck),
    Erase(LedgerErase),
}

/// Show entries: the last ones, or those from a position on
#[derive(Debug, Args)]
pub(crate) struct LedgerShow {
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) limit: u64,
    /// The position of the first one; a ledger begins at 0
    #[arg(long, value_name = "POSITION")]
    pub(crate) from: Option<u64>,
}

/// Prove an entry, in a file that can be checked without a network
///
/// The proof is a C2SP tlog-proof: the entry, the way from its leaf to the root, and the signed root. It
/// holds what the entry says, so it is as private as the entry.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LedgerProve {
    /// The entry's position
    pub(crate) entry: u64,
    /// Write the proof to this file instead of standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

/// Check a proof, or the whole ledger
///
/// A proof's file is checked without a network: only pinned sites are believed. Without one, all entries
/// are fetched, the tree is computed anew, and its root compared with the signed one and with the one
/// that was seen before; with a position, that entry is opened and checked as well.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LedgerVerify {
    /// A proof that `waag ledger prove` wrote, or an entry's position
    #[arg(value_name = "FILE|ENTRY", value_hint = ValueHint::FilePath)]
    pub(crate) what: Option<String>,
}

/// Check everything that a stopped site keeps: ledger, index, manifests and chunks
///
/// Everything is derived anew from the checkpoint that the site's key signed, and each damaged object is
/// named. --repair writes again what can be derived, and takes away damaged chunks so that the next push
/// heals them. Copies of other sites' releases are not gone through: holders ask each other for proof of those.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LedgerFsck {
    /// The site's data directory
    #[arg(long, value_name = "DIR", default_value = "waag-data", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// Put right what can be put right
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Erase what an entry says, for ever; needs an admin token
///
/// The entry's place in the ledger stays, so every other proof still holds. That it was erased, and on
/// which ground, is recorded. Proofs that others have made before are out of reach.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LedgerErase {
    /// The entry's position
    pub(crate) entry: u64,
    /// Why, as a code of lower-case letters, digits and `-`, such as gdpr-17; it is recorded
    #[arg(long, value_name = "CODE")]
    pub(crate) ground: String,
    /// Erase without asking
    #[arg(long)]
    pub(crate) yes: bool,
}
