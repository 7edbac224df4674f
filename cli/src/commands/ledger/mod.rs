//! `waag ledger show | prove | verify | fsck | erase`

mod erase;
#[cfg(feature = "server")]
mod fsck;
mod prove;
mod show;
mod verify;

use waag_client::ledger::EntryView;

use crate::args::LedgerCommand;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Ui};

pub(crate) async fn run(command: LedgerCommand, config: &Config, ui: Ui) -> Result<(), Failure> {
    match command {
        LedgerCommand::Show(args) => show::run(&args, config, ui).await,
        LedgerCommand::Prove(args) => prove::run(args, config, ui).await,
        LedgerCommand::Verify(args) => verify::run(args, config, ui).await,
        LedgerCommand::Erase(args) => erase::run(&args, config, ui).await,
        #[cfg(feature = "server")]
        LedgerCommand::Fsck(args) => Box::pin(fsck::run(args, ui)).await,
        #[cfg(not(feature = "server"))]
        LedgerCommand::Fsck(_) => Err(super::no_server()),
    }
}

/// Writes what an entry says.
fn facts(page: &mut Page, view: &EntryView) {
    page.fact("entry", view.entry);
    page.fact_if("recorded", view.at);
    page.fact_if("kind", view.kind.as_ref());
    page.fact_if("about", about(view));
}

/// Returns what an entry is about, if that is known.
fn about(view: &EntryView) -> Option<String> {
    let subject = view.subject.as_ref()?;
    Some(match &view.digest {
        Some(digest) => format!("{subject}@{digest}"),
        None => subject.clone(),
    })
}
