//! Who somebody is at a site, and with which keys and tokens: `login`, `logout`, `whoami`, `key`, `token`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use waag_schema::policy::place::Country;
use waag_schema::{Namespace, SiteId};

use crate::typed::{ScopeArg, token_id};

/// Get to know a site, and keep a token for it
///
/// The first contact pins the site's key. On this machine that is done without asking; elsewhere the
/// fingerprint is shown and asked about, or compared with --trust. `waag serve` prints it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Login {
    /// The site's address
    #[arg(value_hint = ValueHint::Url)]
    pub(crate) url: String,
    /// Read the token from this file, `-` for standard input; without it, the token is asked for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Keep no token: for what everybody may read
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) anonymous: bool,
    /// Go on with a site that has lost entries which were seen here, once its operator has said what was lost
    #[arg(long)]
    pub(crate) accept_successor: bool,
    /// Pin the site without asking if this is its fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust: Option<SiteId>,
}

/// Forget the token for a site; its pin is kept
#[derive(Debug, Args)]
pub(crate) struct Logout {}

/// Show what the token for the site allows
#[derive(Debug, Args)]
pub(crate) struct Whoami {}

/// Make and show signing keys
///
/// Keys are ed25519 in OpenSSH's format. A key made by ssh-keygen works as well: name it by its path, as
/// in --key ~/.ssh/id_ed25519.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum Key {
    Generate(KeyGenerate),
    Show(KeyShow),
    List(KeyList),
}

/// Make a new signing key
#[derive(Debug, Args)]
pub(crate) struct KeyGenerate {
    /// What to call it
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// Keep it without a passphrase: whoever reads the file can sign
    #[arg(long, conflicts_with = "passphrase_file")]
    pub(crate) no_passphrase: bool,
    /// Read the passphrase from the first line of this file, `-` for standard input, instead of asking
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Show the public half of a key
#[derive(Debug, Args)]
pub(crate) struct KeyShow {
    /// A key's name, or the path of its file
    #[arg(value_name = "NAME|PATH", default_value = "default")]
    pub(crate) key: String,
}

/// List the keys in WAAG_HOME
#[derive(Debug, Args)]
pub(crate) struct KeyList {}

/// Which keys sign.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing")]
pub(crate) struct Signing {
    /// Sign with this key; several times for several owners [default: default]
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) key: Vec<String>,
    /// Read the passphrase from the first line of this file, `-` for standard input, instead of asking
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Create, list and revoke tokens; needs an admin token
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Create(TokenCreate),
    List(TokenList),
    Revoke(TokenRevoke),
}

/// Make a token; its secret is shown this once
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What it is for, in your words
    pub(crate) label: String,
    /// What it allows
    #[arg(
        long,
        value_name = "SCOPE,...",
        value_delimiter = ',',
        default_value = "read",
        value_enum
    )]
    pub(crate) scope: Vec<ScopeArg>,
    /// In which namespaces; an admin token needs none
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',')]
    pub(crate) namespace: Vec<Namespace>,
    /// The country whose law its holder is under, which labels are matched against
    #[arg(long, value_name = "COUNTRY")]
    pub(crate) jurisdiction: Option<Country>,
    /// After how many days it ends [default: never]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: Option<u32>,
}

/// List the tokens of the site, without their secrets
#[derive(Debug, Args)]
pub(crate) struct TokenList {}

/// End a token at once
#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// Its id, as `waag token list` shows it
    #[arg(value_parser = token_id)]
    pub(crate) id: String,
}
