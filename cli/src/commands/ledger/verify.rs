//! `waag ledger verify`

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde::Serialize;
use waag_client::ledger::{self, Audited, EntryView, ProvenEntry};
use waag_client::trust::Trust;
use waag_schema::SiteId;

use super::facts;
use crate::args::LedgerVerify;
use crate::commands::open_site;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui};

/// The largest proof: an envelope of 512 KiB in base64, and the way to the root.
const PROOF_MAX_BYTES: u64 = 2 << 20;

pub(super) async fn run(args: LedgerVerify, config: &Config, ui: Ui) -> Result<(), Failure> {
    let Some(what) = args.what else {
        return whole(None, config, ui).await;
    };
    match what.parse() {
        Ok(entry) => whole(Some(entry), config, ui).await,
        Err(_) => one(Path::new(&what), config, ui),
    }
}

/// Checks a proof's file, without a network.
fn one(path: &Path, config: &Config, ui: Ui) -> Result<(), Failure> {
    let unread = |e: std::io::Error| {
        let exit = match e.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("cannot read {}: {e}", path.display()))
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(PROOF_MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(unread)?;
    let ProvenEntry { site, size, view, .. } = ledger::check_proof(&Trust::new(config.home.clone()), &text)?;
    ui.report(&Proof {
        verified: true,
        site,
        size,
        what: view,
    })
}

/// Computes the whole ledger anew.
async fn whole(entry: Option<u64>, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let ledger = ledger::audit(&site).await?;
    let entry = match entry {
        Some(entry) => Some(ledger::prove(&site, entry).await?.view),
        None => None,
    };
    ui.report(&Ledger {
        verified: true,
        ledger,
        entry,
    })
}

#[derive(Serialize)]
struct Proof {
    /// Always true: anything else is a failure.
    verified: bool,
    site: SiteId,
    /// How many entries the ledger had.
    size: u64,
    #[serde(flatten)]
    what: EntryView,
}

impl Report for Proof {
    fn page(&self, page: &mut Page) {
        facts(page, &self.what);
        page.fact(
            "verified",
            format_args!("in the ledger of {} when it had {} entries", self.site, self.size),
        );
    }

    fn essential(&self) -> String {
        self.what.entry.to_string()
    }
}

#[derive(Serialize)]
struct Ledger {
    /// Always true: anything else is a failure.
    verified: bool,
    #[serde(flatten)]
    ledger: Audited,
    /// The entry that was asked for.
    #[serde(rename = "entry", skip_serializing_if = "Option::is_none")]
    entry: Option<EntryView>,
}

impl Report for Ledger {
    fn page(&self, page: &mut Page) {
        let ledger = &self.ledger;
        page.fact("ledger", &ledger.site);
        page.fact("entries", ledger.size);
        page.fact(
            "",
            format_args!(
                "{} open, {} restricted, {} of them erasures",
                ledger.open, ledger.restricted, ledger.erasures
            ),
        );
        page.fact("root", format_args!("{}: as signed", ledger.root));
        match ledger.continues {
            Some(size) => page.fact(
                "continues",
                format_args!("the {size} entries that were seen before"),
            ),
            None => page.fact("continues", "nothing: it was not seen before"),
        }
        if let Some(entry) = &self.entry {
            facts(page, entry);
        }
    }

    fn essential(&self) -> String {
        format!("{} {}", self.ledger.size, self.ledger.root)
    }
}
