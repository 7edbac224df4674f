//! The command line of a federation: its charter, labels after the fact, and why something may be done somewhere.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueHint};
use waag_schema::federation::{Address, FederationName, Owned, SiteName};
use waag_schema::ledger::VerifierKey;
use waag_schema::policy::label::Action;
use waag_schema::policy::place::{Country, Where};
use waag_schema::{ArtifactName, SiteId, Timestamp};

use super::{Out, Signing};

/// Found a federation of sites, change it, and go by it
///
/// A charter says which sites belong together, under which keys, and which namespaces each owns. It is a
/// file: a draft is edited, then as many holders of root keys as must sign it do so, one after the other, and
/// each site adopts it. Each further version is signed by the root keys of the one before as well.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum CharterCommand {
    Init(CharterInit),
    AddSite(Box<CharterAddSite>),
    RemoveSite(CharterRemoveSite),
    Sign(CharterSign),
    Show(CharterShow),
    Adopt(CharterAdopt),
}

/// Begin a draft: of a first charter, or of the next one with --from
///
/// The draft is JSON, to be edited by hand where no command does: groups of countries, and ledgers that end.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("origin").required(true).args(["federation", "from"]), verbatim_doc_comment)]
pub(crate) struct CharterInit {
    /// Where to write it
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What the new federation calls itself
    #[arg(long, value_name = "NAME")]
    pub(crate) federation: Option<FederationName>,
    /// Begin the version after this signed charter
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from: Option<PathBuf>,
    /// A root key: its name, its path, or its public half as text; those given are all there are
    /// [default: default, or those of --from]
    #[arg(long, value_name = "KEY", verbatim_doc_comment)]
    pub(crate) root: Vec<String>,
    /// How many root keys must sign [default: all but one, or as many as in --from]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) threshold: Option<u32>,
    /// For how many days it holds
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650), conflicts_with = "expires")]
    pub(crate) days: u32,
    /// Until when it holds, as in 2027-11-21T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Timestamp>,
    /// In how many other jurisdictions a ledger must be witnessed [default: 0, or as in --from]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) witnesses: Option<u32>,
}

/// Add a site to a draft, or replace what the draft says of it
///
/// With --site URL the site is asked for its keys and where it is; its fingerprint is compared as at the
/// first login. Without a network, all of it is given: --url, --jurisdiction, --log-key, --site-key and
/// --witness-key, as `waag charter show --keys` prints them at the site.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CharterAddSite {
    /// The draft
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What people call the site: lower-case letters and digits, joined by single `-`
    #[arg(long, value_name = "NAME")]
    pub(crate) name: SiteName,
    /// Namespaces that only this site may be the home of: acme, or acme-* for all that begin so
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',')]
    pub(crate) owns: Vec<String>,
    /// A key that speaks for the site when its own are lost: its name, its path, or its public half
    #[arg(long, value_name = "KEY")]
    pub(crate) recovery: Vec<String>,
    /// Believe the site that answers if this is its fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust: Option<SiteId>,
    /// Where the others find it [default: the address that was asked]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<Address>,
    /// The country in which its storage stands [default: what it says]
    #[arg(long, value_name = "COUNTRY")]
    pub(crate) jurisdiction: Option<Country>,
    /// The key of its ledger: no site is asked
    #[arg(long, value_name = "KEY", requires_all = ["url", "jurisdiction", "site_key", "witness_key"])]
    pub(crate) log_key: Option<VerifierKey>,
    /// The key that signs what it says of itself
    #[arg(long, value_name = "KEY", requires = "log_key")]
    pub(crate) site_key: Option<String>,
    /// The key that cosigns other sites' checkpoints
    #[arg(long, value_name = "KEY", requires = "log_key")]
    pub(crate) witness_key: Option<VerifierKey>,
}

impl CharterAddSite {
    /// Returns the namespaces that it owns. `acme/*` is another way to say `acme`.
    pub(crate) fn owned(&self) -> Result<Vec<Owned>, String> {
        let read = |text: &String| {
            let plain = text.strip_suffix("/*").unwrap_or(text);
            plain.parse().map_err(|e| format!("{e}"))
        };
        self.owns.iter().map(read).collect()
    }
}

/// Take a site out of a draft
#[derive(Debug, Args)]
pub(crate) struct CharterRemoveSite {
    /// The draft
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What the charter calls it
    pub(crate) name: SiteName,
}

/// Sign a charter with root keys
///
/// The first signature turns the draft into what is signed: from then on it cannot be edited. Pass the file
/// on to the other holders of root keys.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CharterSign {
    /// The draft, or what others have signed
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The charter before it, if this home does not believe that yet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) previous: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Show a charter, who has signed it and whose signatures are missing
#[derive(Debug, Args)]
pub(crate) struct CharterShow {
    /// A draft or a charter [default: the one that the site goes by]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The charter before it, if this home does not believe that yet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "file")]
    pub(crate) previous: Option<PathBuf>,
    /// Print what the site says of its own keys, for `waag charter add-site` without a network
    #[arg(long, conflicts_with_all = ["file", "previous"])]
    pub(crate) keys: bool,
}

/// Have a site go by a charter, and believe its sites from here on
///
/// Needs an admin token of the site, which checks every step again and records the adoption in its ledger.
/// The charter is believed on this machine as well: `pull` and `verify` then know every site it names. A
/// second charter of the same version is refused here and there, and kept as evidence.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CharterAdopt {
    /// Signed charters, the oldest first, from the first one that the site lacks
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Believe it on this machine only; no site is asked
    #[arg(long)]
    pub(crate) here: bool,
}

/// Say anew where an artifact may be
///
/// The label holds for all releases of the artifact, from the ledger entry on that records it, and replaces
/// the one before, wider or tighter. Labels of what the artifact was made from hold as well.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LabelArgs {
    /// The artifact
    #[arg(value_name = "NAMESPACE/NAME")]
    pub(crate) artifact: ArtifactName,
    /// Where it may be: countries (DE), EU, EEA, group:NAME of the charter, site:ID or `*`
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',', required = true)]
    pub(crate) residency: Vec<Where>,
    /// What may be done there: hold, serve, evaluate [default: all]
    #[arg(long, value_name = "ACTION,...", value_delimiter = ',')]
    pub(crate) allow: Vec<Action>,
    /// What may be done nowhere: hold, serve, evaluate
    #[arg(long, value_name = "ACTION,...", value_delimiter = ',')]
    pub(crate) deny: Vec<Action>,
    #[command(flatten)]
    pub(crate) out: Out,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Say whether something may be done with an artifact somewhere, why, and by which statements
///
/// PLACE is a site by its name in the charter or by its id, or a country for somebody there who pulls; it can
/// be given with --site as well. The verdict is computed here, by the same function as at every site, from
/// labels whose statements are checked. For a directory that `waag pull` filled, no network is needed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Explain {
    /// The artifact; or a directory that `waag pull` filled
    #[arg(value_name = "NAMESPACE/NAME|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) what: String,
    /// Where: a site's name or id, or a country
    #[arg(long, value_name = "PLACE")]
    pub(crate) at: Option<String>,
    /// What is to be done there: hold, serve, evaluate
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Action,
    /// When; without it, now
    #[arg(long, value_name = "TIME")]
    pub(crate) when: Option<Timestamp>,
}
