//! `waag ledger prove`

use std::path::PathBuf;

use serde::Serialize;
use waag_client::ledger::{self, EntryView};
use waag_schema::SiteId;

use super::facts;
use crate::args::LedgerProve;
use crate::commands::open_site;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(super) async fn run(args: LedgerProve, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let proven = ledger::prove(&site, args.entry).await?;
    let proof = proven.proof.to_string();
    if let Some(file) = &args.out {
        std::fs::write(file, &proof)
            .map_err(|e| Failure::failed(format!("cannot write {}: {e}", file.display())))?;
    }
    ui.report(&Proven {
        site: proven.site,
        size: proven.size,
        what: proven.view,
        file: args.out,
        proof,
    })
}

#[derive(Serialize)]
struct Proven {
    site: SiteId,
    /// How many entries the ledger had.
    size: u64,
    #[serde(flatten)]
    what: EntryView,
    /// Where the proof was written to.
    file: Option<PathBuf>,
    /// The proof's exact text.
    proof: String,
}

impl Report for Proven {
    fn page(&self, page: &mut Page) {
        match &self.file {
            // On its own, so that standard output is the file.
            None => page.text(&self.proof),
            Some(file) => {
                facts(page, &self.what);
                page.fact("ledger", format_args!("{}, {} entries", self.site, self.size));
                page.fact("proof", file.display());
            }
        }
    }

    fn essential(&self) -> String {
        match &self.file {
            None => self.proof.clone(),
            Some(file) => file.display().to_string(),
        }
    }
}
