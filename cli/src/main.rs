//! `waag`: a person's way to a site, and the site itself.
//!
//! Here the command line is parsed, the command is run and its failure becomes an exit code; nothing else.

mod args;
mod commands;
mod config;
mod failure;
mod progress;
mod typed;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::CommandLine;
use crate::config::{Config, Environment};
use crate::failure::{Exit, Failure};
use crate::ui::Ui;

/// What a site calls this program with to have a process that measures for it.
#[cfg(feature = "server")]
const WEIGHER: &str = "weigher";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // No command of a person's: a site starts this, with nothing of its own but a socket.
    #[cfg(feature = "server")]
    if words.get(1).is_some_and(|word| word == WEIGHER) {
        return waag_registry::evaluation::child::main();
    }
    let line = match CommandLine::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) => return misunderstood(&error, &words),
    };
    let line = line.with_place();
    let environment = Environment::read();
    let ui = Ui::new(&line.global, environment.allows_colour());
    match Config::load(&line.global, environment).and_then(|config| run(line, &config, ui)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.error(&failure);
            failure.exit.into()
        }
    }
}

fn run(line: CommandLine, config: &Config, ui: Ui) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("threads cannot be started: {e}")))?;
    runtime.block_on(commands::run(line.command, config, ui))
}

/// Help and the version are results; anything else is a command line that makes no sense, which a program that
/// asked for JSON is told in JSON.
fn misunderstood(error: &clap::Error, words: &[OsString]) -> ExitCode {
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked_for && words.iter().any(|word| word == "--json") {
        Ui::json().error(&Failure::misunderstood(&error.render().to_string()));
        return Exit::Usage.into();
    }
    // If nobody reads, nobody needs to be told.
    let _ = error.print();
    if asked_for {
        ExitCode::SUCCESS
    } else {
        Exit::Usage.into()
    }
}
