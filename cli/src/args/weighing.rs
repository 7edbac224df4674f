//! Weighing: what is measured on a release, and on a directory.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use waag_client::SiteUrl;
use waag_schema::{ArtifactName, Reference};

use crate::typed::{DeviceArg, PrecisionArg};

/// Show what the site has measured on a release
///
/// A site weighs each release after it is published and enters what it found in its ledger. The scorecard is
/// shown only if it stands there, under the key that is pinned, and its details have the digest that it names.
///
/// What other sites have found on the same release follows: all whose ledgers the site follows, each confirmed bit
/// for bit or within the tolerance (the suite's, where it states one), or disputed with the largest difference.
///
/// With --svr, the site also says, signed for whoever knows nothing of it, that the release passes all gates of its
/// namespace: FILE is a DSSE envelope with an in-toto Simple Verification Result, FILE.key the note of the key that
/// signed it. A release that does not pass (exit code 3), or has no gate to pass (5), writes none; a file that is there already is not
/// written over.
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
    /// Write that it passes the gates of its namespace to this file, for in-toto tools
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) svr: Option<PathBuf>,
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

/// Measure a model on this machine: its weights, with --suite what it says of texts, with --speed how fast it is
///
/// Without --suite the numbers are those that a site's scorecard of the same files has, to the last bit. A
/// model at a site is fetched first, every chunk checked, and so is a suite.
///
/// A suite is a directory of task descriptions (YAML, the common subset of lm-evaluation-harness's) and
/// documents (JSONL), or one description; data files are looked for beside it, then in the directories
/// above. Scores have the names that lm-evaluation-harness gives them. What this program cannot measure is
/// said to be not measured, with the reason.
///
/// --speed runs the model on all processors, all its weights in memory: a prompt, then one token after the other,
/// beside what the machine could do at most. It says something of this machine as it is now, and nothing of another.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Weigh {
    /// A directory, a safetensors file, or a release at the site
    #[arg(value_name = "PATH|NAMESPACE/NAME[:TAG|@DIGEST]", value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// What to ask it: a directory, a YAML file, or a suite at the site
    #[arg(long, value_name = "PATH|NAMESPACE/NAME[:TAG|@DIGEST]", value_hint = ValueHint::AnyPath)]
    pub(crate) suite: Option<String>,
    /// What to compute on; `auto` takes a GPU where there is one
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N")]
    pub(crate) device: DeviceArg,
    /// How to compute: `bf16` rounds both sides of every product to bfloat16
    #[arg(long, default_value = "f32", value_name = "f32|bf16")]
    pub(crate) precision: PrecisionArg,
    /// Measure how fast it is on this machine
    #[arg(long)]
    pub(crate) speed: bool,
    /// For how long, beside reading the weights
    #[arg(long, default_value_t = 10, value_name = "SECONDS", requires = "speed", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) speed_seconds: u64,
    /// Write what came out for each request to this file, as lines of JSON
    #[arg(long, value_name = "FILE", requires = "suite", value_hint = ValueHint::FilePath)]
    pub(crate) samples: Option<PathBuf>,
}

/// Measure releases in the site's stead, on this machine
///
/// Takes a job from the site under a lease, fetches the release, every chunk checked, measures it with the
/// code that the site runs, and hands in what it found; the site checks that, signs it and enters it in its
/// ledger, with the name that the site's operator gave the worker's token:
///
///   waag token create node-7 --scope weigh --namespace acme
///
/// A worker that is killed loses its lease in time, and the job is open again. Ctrl-C gives it back at once.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Worker {
    /// End after one job, or at once where there is none
    #[arg(long)]
    pub(crate) once: bool,
    /// What to compute on; `auto` takes a GPU where there is one
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N")]
    pub(crate) device: DeviceArg,
    /// Where releases lie while they are measured [default: cache/work in WAAG_HOME]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
}
