//! `waag ledger erase`

use serde::Serialize;
use waag_client::ledger::{self, Erased};

use super::about;
use crate::args::LedgerErase;
use crate::commands::open_site;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(super) async fn run(args: &LedgerErase, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    if !args.yes {
        if !ui.can_ask() {
            return Err(
                Failure::usage("an erasure cannot be undone, and nobody is there to be asked")
                    .hint("--yes if you are sure"),
            );
        }
        // What is to go is shown, if it can be read at all.
        let what = match ledger::prove(&site, args.entry).await {
            Ok(proven) => format!(
                "the {} of {}",
                proven.view.kind.as_deref().unwrap_or("statement"),
                about(&proven.view).unwrap_or_default()
            ),
            Err(_) => "what this token may not read".to_owned(),
        };
        let question = format!("erase entry {}, {what}, for ever?", args.entry);
        if !ui.confirm(&question)? {
            return Err(Failure::failed("nothing was erased"));
        }
    }
    ui.report(&Gone(ledger::erase(&site, args.entry, &args.ground).await?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Gone(Erased);

impl Report for Gone {
    fn page(&self, page: &mut Page) {
        page.fact("erased", format_args!("entry {}", self.0.erased));
        page.fact("ground", &self.0.ground);
        page.fact("recorded", format_args!("entry {}", self.0.entry));
    }

    fn essential(&self) -> String {
        self.0.entry.to_string()
    }
}
