//! Mirrors: copies of other sites' releases, and who holds what.

use clap::{Args, Subcommand};
use waag_schema::policy::place::Where;
use waag_schema::release::kind::Kind;
use waag_schema::{Hours, Reference};

use crate::typed::rate;

/// Copy releases of other sites, and see how that stands
#[derive(Debug, Subcommand)]
pub(crate) enum Mirror {
    Add(MirrorAdd),
    /// Take away a rule that was added, named by the same words
    ///
    /// Copies that it brought stay; `waag mirror drop` gives one up. Rules in the site's waag.toml are taken away there.
    #[command(verbatim_doc_comment)]
    Remove(MirrorAdd),
    List(MirrorList),
    Status(MirrorStatus),
    Compare(MirrorCompare),
    Run(MirrorRun),
    Drop(MirrorDrop),
    Trust(MirrorTrust),
}

/// Add a rule: which releases of which site are copied here
///
/// Rules that are in the site's waag.toml stay beside it. A release whose label does not allow this site to hold it is
/// not copied; the site enters its refusal in its ledger.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorAdd {
    /// The site, by its name in the charter or by its id
    #[arg(value_name = "SITE")]
    pub(crate) other: String,
    /// Artifacts, in whose names * stands for anything; without one, all
    #[arg(value_name = "GLOB")]
    pub(crate) artifacts: Vec<String>,
    /// Only this kind: model, dataset or suite
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<Kind>,
    /// Only artifacts whose own label allows to hold them at one of these places, as it is written in the label
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',')]
    pub(crate) residency: Vec<Where>,
    /// Copy a release only once somebody has asked this site for it
    #[arg(long)]
    pub(crate) on_demand: bool,
    /// Take at most so many bytes a second from that site: 500K, 10M
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) bandwidth: Option<u64>,
    /// Copy only within these hours of the day, in UTC: 22:00-06:00
    #[arg(long, value_name = "HOURS", conflicts_with = "on_demand")]
    pub(crate) hours: Option<Hours>,
}

/// List the rules, and how many releases each matches
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorList {}

/// Show how each release that a rule matches stands, and each site that is followed
///
/// Fails when a rule matches nothing, or a site is not believed any more.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorStatus {}

/// Show whether a site holds every release of another one, and exactly which it lacks
///
/// Compared are two sets: the releases in the home's ledger that are not withdrawn, and those of which the holder's
/// ledger says that it holds them, both as far as this site has followed them. One digest means one set. At most 1000
/// differing releases are named of each kind; what was withdrawn without being erased may be held beside.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorCompare {
    /// The home, by its name in the charter or by its id
    #[arg(value_name = "SITE")]
    pub(crate) other: String,
    /// Who holds copies of it; without one, the site that is asked
    #[arg(value_name = "HOLDER")]
    pub(crate) holder: Option<String>,
}

/// Look at other sites and copy from them now
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorRun {
    /// Only this site, by its name in the charter or by its id
    #[arg(value_name = "SITE")]
    pub(crate) other: Option<String>,
}

/// Give up this site's copy of a release, once other sites have proved that they have it
///
/// Each is asked for a hash over random ranges of its bytes, now. The copy is deleted and stays away, although a rule
/// matches it, until a rule that matches it is added again, or somebody asks for what is copied on demand. What is at home
/// here goes with `waag withdraw --erase`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorDrop {
    /// Which release; without a tag or digest, the one that `latest` names
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
    /// How many other sites have to prove that they have it; its home is one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) copies: u32,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Believe a site again that has signed two histories
///
/// What was found against it is in `waag mirror status`. Decide this with its people, not alone.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MirrorTrust {
    /// The site, by its name in the charter or by its id
    #[arg(value_name = "SITE")]
    pub(crate) other: String,
}

/// Show which sites hold an artifact's releases, have refused them, or have erased them
///
/// Each site says so in its own ledger; shown is what this one has followed of them, and until when.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Whereabouts {
    /// Which artifact; with a tag or a digest, only that release
    #[arg(value_name = "NAMESPACE/NAME[:TAG|@DIGEST]")]
    pub(crate) reference: Reference,
}
