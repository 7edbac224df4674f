//! One file for each command: what it asks of the client, and how its result reads.

mod agreement;
mod compare;
mod completions;
mod diff;
mod doctor;
mod gate;
mod key;
mod leaderboard;
mod ledger;
mod list;
mod login;
mod namespace;
mod pull;
mod push;
mod rotate;
mod scorecard;
mod secrets;
#[cfg(feature = "server")]
mod serve;
mod show;
mod sign;
mod tag;
mod token;
mod verify;
mod withdraw;

use waag_client::site::Site;
use waag_client::transport::Settings;

use crate::args::Command;
use crate::config::Config;
use crate::failure::Failure;
use crate::progress;
use crate::ui::Ui;

/// Runs a command.
pub(crate) async fn run(command: Command, config: &Config, ui: Ui) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve(args, ui).await,
        Command::Login(args) => login::login(args, config, ui).await,
        Command::Logout(_) => login::logout(config, ui),
        Command::Whoami(_) => login::whoami(config, ui).await,
        Command::Key(args) => key::run(args, config, ui),
        Command::Namespace(args) => Box::pin(namespace::run(args, config, ui)).await,
        // The two that move bytes hold the most on their way; a box keeps the others small.
        Command::Push(args) => Box::pin(push::run(args, config, ui)).await,
        Command::Pull(args) => Box::pin(pull::run(args, config, ui)).await,
        Command::Verify(args) => Box::pin(verify::run(args, config, ui)).await,
        Command::Show(args) => show::run(args, config, ui).await,
        Command::List(args) => list::list(args, config, ui).await,
        Command::Search(args) => list::search(args, config, ui).await,
        Command::Diff(args) => Box::pin(diff::run(args, config, ui)).await,
        Command::Tag(args) => tag::run(args, config, ui).await,
        Command::Sign(args) => sign::run(args, config, ui).await,
        Command::Withdraw(args) => withdraw::run(args, config, ui).await,
        Command::Weigh(args) => weigh(args, ui).await,
        Command::Scorecard(args) => Box::pin(scorecard::run(args, config, ui)).await,
        Command::Compare(args) => Box::pin(compare::run(args, config, ui)).await,
        Command::Leaderboard(args) => leaderboard::run(args, config, ui).await,
        Command::Ledger(args) => Box::pin(ledger::run(args, config, ui)).await,
        Command::Token(args) => token::run(args, config, ui).await,
        Command::Doctor(_) => Box::pin(doctor::run(config, ui)).await,
        Command::Completions(args) => completions::run(&args, ui),
    }
}

#[cfg(feature = "server")]
async fn serve(args: crate::args::Serve, ui: Ui) -> Result<(), Failure> {
    Box::pin(serve::run(args, ui)).await
}

#[cfg(not(feature = "server"))]
async fn serve(_: crate::args::Serve, _: Ui) -> Result<(), Failure> {
    Err(no_server())
}

#[cfg(feature = "server")]
async fn weigh(args: crate::args::Weigh, ui: Ui) -> Result<(), Failure> {
    scorecard::weigh(args, ui).await
}

#[cfg(not(feature = "server"))]
async fn weigh(_: crate::args::Weigh, _: Ui) -> Result<(), Failure> {
    Err(no_server())
}

#[cfg(not(feature = "server"))]
fn no_server() -> Failure {
    Failure::failed("this program was built without a site in it")
        .hint("build it with the feature `server`, which is on unless it is turned off")
}

/// How requests are made in this run.
fn settings(config: &Config, ui: Ui) -> Settings {
    Settings {
        insecure: config.insecure,
        bytes_per_second: config.limit_rate,
        authorities: config.ca.clone(),
        progress: progress::watch(ui),
        ..Settings::default()
    }
}

/// Opens the site that is meant.
fn open_site(config: &Config, ui: Ui) -> Result<Site, Failure> {
    Ok(Site::open(
        &config.home,
        config.site()?,
        None,
        &settings(config, ui),
    )?)
}
