//! `waag ledger show`

use serde::Serialize;
use waag_client::ClientError;
use waag_client::ledger::{self, EntryView, Page as Shown, State};
use waag_schema::wire::ledger::WitnessingView;

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
    let witnessing = match ledger::witnessing(&site).await {
        Ok(view) => Some(view).filter(|view| view.jurisdictions.is_some() || !view.witnesses.is_empty()),
        // A site of an earlier version, or one that is shown from a copy.
        Err(ClientError::Absent(_)) => None,
        Err(error) => return Err(error.into()),
    };
    ui.report(&Entries { shown, witnessing })
}

#[derive(Serialize)]
struct Entries {
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    witnessing: Option<WitnessingView>,
}

impl Report for Entries {
    fn page(&self, page: &mut Page) {
        let Self { shown, witnessing } = self;
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
        if let Some(view) = witnessing {
            states(page, view);
        }
    }

    fn essential(&self) -> String {
        let kinds = self.shown.entries.iter().map(|one| {
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

/// Writes how far the ledger has come: entries of the series that goes on.
fn states(page: &mut Page, view: &WitnessingView) {
    page.line("");
    page.fact("committed", view.committed);
    page.fact("published", view.published);
    let needed = view.jurisdictions.unwrap_or_default();
    let witnessed = view
        .witnessed
        .map_or_else(|| "not yet".to_owned(), |size| size.to_string());
    page.fact(
        "witnessed",
        format_args!("{witnessed} (in {needed} other jurisdictions, as the charter asks)"),
    );
    for witness in &view.witnesses {
        let place = witness.jurisdiction.as_deref().unwrap_or("-");
        page.fact(
            "witness",
            format_args!(
                "{} ({place}): {} entries at {}",
                witness.name, witness.size, witness.at
            ),
        );
    }
}
