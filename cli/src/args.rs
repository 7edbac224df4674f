//! The whole command line. Help texts are the documentation of each command; `tests/help` keeps a snapshot of
//! every page, so a change of words is seen in review.
//!
//! Names are parsed here, into the types of `waag-schema`: what a command gets has the right form.

mod bundles;
mod charter;
mod identity;
mod ledger;
mod mirrors;
mod owners;
mod releases;
mod weighing;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use waag_schema::Namespace;

use crate::typed::rate;

pub(crate) use bundles::Bundle;
#[cfg(feature = "server")]
pub(crate) use bundles::{BundleExport, BundleImport};
pub(crate) use charter::{
    CharterAddSite, CharterAdopt, CharterCommand, CharterInit, CharterRemoveSite, CharterShow, CharterSign,
    Explain, LabelArgs,
};
pub(crate) use identity::{Key, KeyGenerate, Login, Logout, Signing, Token, TokenCreate, Whoami};
#[cfg(feature = "server")]
pub(crate) use ledger::LedgerFsck;
pub(crate) use ledger::{LedgerCommand, LedgerErase, LedgerProve, LedgerShow, LedgerVerify};
pub(crate) use mirrors::{Mirror, MirrorAdd, Whereabouts};
pub(crate) use owners::{
    NamespaceGate, NamespaceRotate, NamespaceShare, NamespaceSubmit, Out, Sign, Withdraw,
};
pub(crate) use releases::{Diff, List, Pull, Push, Search, Show, TagArgs, Verify};
pub(crate) use weighing::{Compare, Leaderboard, Scorecard, Weigh, Worker};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const MORE: &str = "\
First steps:
  waag serve                          a site on this machine; the rest in another terminal
  waag login http://127.0.0.1:7070 --token-file waag-data/admin-token
  waag key generate
  waag namespace create acme
  waag push ./model acme/tiny:1.0
  waag pull acme/tiny:1.0 ./out
  waag verify ./out

Exit codes:
  0  done
  1  failed
  2  the command line makes no sense, or the site it means is not pinned yet
  3  refused: a label, a token (or none) or a namespace's keys do not allow it, or it was withdrawn
  4  verification failed: something is not what was signed
  5  not found: a name at the site, or a file or directory that was named here
  6  the site cannot be reached

Environment:
  WAAG_SITE    the site that is meant when --site is not given
  WAAG_CA      a file of certificates that are believed as well, as with --ca
  WAAG_HOME    where keys, tokens and pinned sites are kept (default: $XDG_CONFIG_HOME/waag or ~/.config/waag)
  NO_COLOR     no colours
  RUST_LOG     what `waag serve` logs (default: info)";

/// A federated registry for AI models and datasets.
///
/// Publishers sign what they push, the site records it in a ledger that cannot be rewritten unseen,
/// and whoever pulls can prove offline that the files are what was signed.
#[derive(Debug, Parser)]
#[command(name = "waag", version, styles = STYLES, after_long_help = MORE)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    verbatim_doc_comment
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl CommandLine {
    /// `waag explain --site bologna` names a place by the word with which all other commands name an address.
    pub(crate) fn with_place(mut self) -> Self {
        if let Command::Explain(explain) = &mut self.command
            && explain.at.is_none()
            && self
                .global
                .site
                .as_ref()
                .is_some_and(|text| !text.contains("://"))
        {
            explain.at = self.global.site.take();
        }
        self
    }
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The site to talk to; without it, the one logged in to last
    #[arg(long, global = true, value_name = "URL", env = "WAAG_SITE", hide_env = true, value_hint = ValueHint::Url)]
    pub(crate) site: Option<String>,
    /// Print results and errors as one line of JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but the essential: no progress, a result as one word
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more: each file, each repeated request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Send tokens over plain HTTP to other machines as well
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
    /// Believe the certificates in this PEM file as well, for a site with an authority of its own
    #[arg(long, global = true, value_name = "FILE", env = "WAAG_CA", hide_env = true, value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Move at most so many bytes a second, both ways together: 500K, 10M, 1G
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub(crate) limit_rate: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Login(Login),
    Logout(Logout),
    Whoami(Whoami),
    #[command(subcommand)]
    Key(Key),
    #[command(subcommand)]
    Namespace(NamespaceCommand),
    Push(Push),
    Pull(Pull),
    Verify(Verify),
    Show(Show),
    List(List),
    Search(Search),
    Diff(Diff),
    Tag(TagArgs),
    Sign(Sign),
    Label(LabelArgs),
    Withdraw(Withdraw),
    Weigh(Weigh),
    Worker(Worker),
    Scorecard(Scorecard),
    Explain(Explain),
    #[command(subcommand)]
    Charter(CharterCommand),
    #[command(subcommand)]
    Mirror(Mirror),
    Where(Whereabouts),
    #[command(subcommand)]
    Bundle(Bundle),
    Compare(Compare),
    Leaderboard(Leaderboard),
    #[command(subcommand)]
    Ledger(LedgerCommand),
    #[command(subcommand)]
    Token(Token),
    Doctor(Doctor),
    #[cfg(feature = "server")]
    Demo(Demo),
    Completions(Completions),
}

/// Run a site
///
/// The first start makes the data directory, the site's keys, a commented waag.toml and a first admin
/// token. When the site is ready, `listening on http://...` is printed. SIGTERM or Ctrl-C ends it after
/// the requests under way are answered.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "waag-data", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
    /// Where to listen, instead of what waag.toml says; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The data directory comes from a backup: if nobody has seen more than was restored, go on; otherwise end
    /// the ledger there, and go on with a successor
    #[arg(long, verbatim_doc_comment)]
    pub(crate) recovered: bool,
    /// With --recovered: others have seen this many entries
    #[arg(long, value_name = "SIZE", requires = "recovered")]
    pub(crate) seen: Option<u64>,
}

/// Create and show namespaces, and change their keys
///
/// A namespace is the part of a name before the `/`. Only its owners' keys can publish in it; a site cannot.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum NamespaceCommand {
    Create(NamespaceCreate),
    Show(NamespaceShow),
    Rotate(NamespaceRotate),
    Gate(NamespaceGate),
    Share(NamespaceShare),
    Submit(NamespaceSubmit),
}

/// Claim a namespace at the site; needs an admin token
#[derive(Debug, Args)]
pub(crate) struct NamespaceCreate {
    /// Its name: 1 to 39 lower-case letters and digits, joined by single `-`
    pub(crate) name: Namespace,
    /// Only tokens that carry the namespace may read it
    #[arg(long)]
    pub(crate) private: bool,
    /// How many of the owners' keys must sign each statement
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) threshold: u32,
    /// A key that may stand in for a lost owner's: its name, its path, or its public half as text
    #[arg(long, value_name = "KEY")]
    pub(crate) recovery: Vec<String>,
    /// The keys given with --key own the namespace
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// Show a namespace's owners and who may read it
#[derive(Debug, Args)]
pub(crate) struct NamespaceShow {
    /// Its name
    pub(crate) name: Namespace,
}

/// Look for what is wrong on this machine and with the site
///
/// Checks the home directory, keys, disk, connection, clock, pin, token and ledger. One line each: ok,
/// warning or failed, and what to type. Nothing is changed. Fails if a check failed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Doctor {}

/// Run three sites on this machine, and tell what goes on between them
///
/// Two in the EU, one in the EEA: a charter, a push with an EU label, weighing, a mirror, a refusal with its
/// reason, a pull that is proven by the home's ledger, a withdrawal with its receipt. Each line behind a `$`
/// is a command as a person types it, run as it stands. Takes less than a minute; nothing is left behind.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Demo {
    /// Let it happen in this new directory, and leave everything there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) keep: Option<PathBuf>,
}

/// Write the completions of a shell to standard output
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
