//! `waag completions`

use clap::CommandFactory as _;

use crate::args::{CommandLine, Completions};
use crate::failure::Failure;
use crate::ui::Ui;

/// Writes the completions of a shell. They are for the shell, so `--json` changes nothing.
pub(crate) fn run(args: &Completions, ui: Ui) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "waag", &mut script);
    ui.raw(&script)
}
