//! One file for each command: what it asks of the client, and how its result reads.

mod agreement;
#[cfg(feature = "server")]
mod bundle;
mod charter;
mod compare;
mod completions;
#[cfg(feature = "server")]
mod demo;
mod diff;
mod doctor;
mod explain;
mod exponents;
mod gate;
mod key;
mod label;
mod language;
mod leaderboard;
mod ledger;
mod list;
mod login;
mod mirror;
mod namespace;
mod pull;
mod push;
mod rotate;
mod scorecard;
mod secrets;
#[cfg(feature = "server")]
mod serve;
mod share;
mod show;
mod sign;
mod speed;
mod svr;
mod tag;
mod token;
mod verify;
#[cfg(feature = "server")]
mod weigh;
mod withdraw;
#[cfg(feature = "server")]
mod worker;

use std::time::SystemTime;

use waag_client::site::Site;
use waag_client::transport::Settings;
use waag_schema::Timestamp;

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
        Command::Label(args) => label::run(args, config, ui).await,
        Command::Withdraw(args) => withdraw::run(args, config, ui).await,
        Command::Weigh(args) => weigh(args, config, ui).await,
        Command::Worker(args) => worker(args, config, ui).await,
        Command::Scorecard(args) => Box::pin(scorecard::run(args, config, ui)).await,
        Command::Explain(args) => explain::run(args, config, ui).await,
        Command::Charter(args) => Box::pin(charter::run(args, config, ui)).await,
        Command::Compare(args) => Box::pin(compare::run(args, config, ui)).await,
        Command::Leaderboard(args) => leaderboard::run(args, config, ui).await,
        Command::Ledger(args) => Box::pin(ledger::run(args, config, ui)).await,
        Command::Mirror(args) => mirror::run(args, config, ui).await,
        Command::Where(args) => mirror::holders(args, config, ui).await,
        Command::Bundle(args) => bundle(args, ui).await,
        Command::Token(args) => token::run(args, config, ui).await,
        Command::Doctor(_) => Box::pin(doctor::run(config, ui)).await,
        #[cfg(feature = "server")]
        Command::Demo(args) => demo::run(args, ui),
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
async fn bundle(args: crate::args::Bundle, ui: Ui) -> Result<(), Failure> {
    Box::pin(bundle::run(args, ui)).await
}

#[cfg(not(feature = "server"))]
async fn bundle(_: crate::args::Bundle, _: Ui) -> Result<(), Failure> {
    Err(no_server())
}

#[cfg(feature = "server")]
async fn weigh(args: crate::args::Weigh, config: &Config, ui: Ui) -> Result<(), Failure> {
    Box::pin(weigh::run(args, config, ui)).await
}

#[cfg(not(feature = "server"))]
async fn weigh(_: crate::args::Weigh, _: &Config, _: Ui) -> Result<(), Failure> {
    Err(no_server())
}

#[cfg(feature = "server")]
async fn worker(args: crate::args::Worker, config: &Config, ui: Ui) -> Result<(), Failure> {
    Box::pin(worker::run(args, config, ui)).await
}

#[cfg(not(feature = "server"))]
async fn worker(_: crate::args::Worker, _: &Config, _: Ui) -> Result<(), Failure> {
    Err(no_server())
}

#[cfg(not(feature = "server"))]
fn no_server() -> Failure {
    Failure::failed("this program was built without a site in it")
        .hint("build it with the feature `server`, which is on unless it is turned off")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a command asks for the time"
)]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
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
