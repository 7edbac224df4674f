//! `waag ledger show`

use serde::Serialize;
use waag_client::ledger::{self, EntryView, Page as Shown, State};

use super::about;
use crate::args::LedgerShow;
use crate::commands::open_site;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(super) async fn run(args: &LedgerShow, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let shown = ledger::show(&site, args.from, args.limit).await?;
    let withheld = shown.entries.iter().filter(|one| one.state == State::Withheld);
    for one in withheld {
        ui.warn(format_args!(
            "entry {} may be read by anybody and is not served",
            one.entry
        ));
    }
    ui.report(&Entries(shown))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Entries(Shown);

impl Report for Entries {
    fn page(&self, page: &mut Page) {
        let Self(shown) = self;
        if shown.entries.is_empty() {
            page.line(format_args!(
                "no entries there; the ledger of {} has {}",
                shown.site, shown.size
            ));
            return;
        }
        page.table(
            ["entry", "recorded", "kind", "about"],
            shown.entries.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        let kinds = self.0.entries.iter().map(|one| {
            let kind = one.kind.clone().unwrap_or_else(|| one.state.to_string());
            format!("{} {kind}", one.entry)
        });
        kinds.collect::<Vec<_>>().join("\n")
    }
}

fn row(one: &EntryView) -> [String; 4] {
    [
        one.entry.to_string(),
        one.at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
        // An entry that cannot be read says what it is instead.
        one.kind.clone().unwrap_or_else(|| format!("({})", one.state)),
        about(one).unwrap_or_else(|| "-".to_owned()),
    ]
}
