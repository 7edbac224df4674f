//! `waag charter adopt`

use serde::Serialize;
use waag_client::charter::{self, Believed};
use waag_schema::Sha256;
use waag_schema::federation::{Charter, Standing};

use super::complete;
use crate::args::CharterAdopt;
use crate::commands::{now, open_site};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui, count};

pub(super) async fn run(args: CharterAdopt, config: &Config, ui: Ui) -> Result<(), Failure> {
    let charters: Vec<Charter> = args
        .files
        .iter()
        .map(|path| complete(path))
        .collect::<Result<_, _>>()?;
    let Some(last) = charters.last() else {
        return Err(Failure::usage("no charter is named"));
    };
    if let Standing::Expired { on } = last.standing(now()) {
        ui.warn(format_args!(
            "the charter ran out at {on}: nothing new is believed because of it"
        ));
    }
    let believed = Believed::new(config.home.clone());
    // A second story is found before anybody else is asked to believe it.
    if let Some(first) = charters.first() {
        believed.check(first)?;
    }
    let entry = match args.here {
        true => None,
        false => charter::adopt(&open_site(config, ui)?, &charters).await?.entry,
    };
    for charter in &charters {
        believed.believe(charter)?;
    }
    ui.report(&Adopted {
        federation: last.terms().federation.to_string(),
        version: last.version(),
        sha256: last.digest(),
        sites: last.terms().sites.len(),
        entry,
    })
}

#[derive(Serialize)]
struct Adopted {
    federation: String,
    version: u64,
    sha256: Sha256,
    sites: usize,
    /// The ledger entry in which the site says so.
    entry: Option<u64>,
}

impl Report for Adopted {
    fn page(&self, page: &mut Page) {
        page.fact(
            "adopted",
            format_args!("{}, version {}", self.federation, self.version),
        );
        page.fact("sha256", self.sha256);
        page.fact_if("entry", self.entry);
        page.fact("believed here", count(self.sites as u64, "site"));
    }

    fn essential(&self) -> String {
        self.sha256.to_string()
    }
}
