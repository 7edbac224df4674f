//! The whole command line. Help texts are the documentation of each command; `tests/help` keeps a snapshot of
//! every page, so a change of words is seen in review.
//!
//! Names are parsed here, into the types of `waag-schema`: what a command gets has the right form.

mod bundles;
mod charter;
mod ledger;
mod mirrors;
mod owners;
mod weighing;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use waag_client::pull::TensorPattern;
use waag_schema::policy::label::Action;
use waag_schema::policy::place::{Country, Where};
use waag_schema::release::gate::Unsafe;
use waag_schema::release::kind::Kind;
use waag_schema::{Namespace, Reference, SiteId, Tag};

pub(crate) use bundles::Bundle;
#[cfg(feature = "server")]
pub(crate) use bundles::{BundleExport, BundleImport};
pub(crate) use charter::{
    CharterAddSite, CharterAdopt, CharterCommand, CharterInit, CharterRemoveSite, CharterShow, CharterSign,
    Explain, LabelArgs,
};
#[cfg(feature = "server")]
pub(crate) use ledger::LedgerFsck;
pub(crate) use ledger::{LedgerCommand, LedgerErase, LedgerProve, LedgerShow, LedgerVerify};
pub(crate) use mirrors::{Mirror, MirrorAdd, Whereabouts};
pub(crate) use owners::{
    NamespaceGate, NamespaceRotate, NamespaceShare, NamespaceSubmit, Out, Sign, Withdraw,
};
pub(crate) use weighing::{Compare, Leaderboard, Scorecard, Weigh, Worker};

use crate::typed::{Compared, ScopeArg, Shown, Target, rate, token_id};

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
