//! `waag withdraw`

use serde::Serialize;
use waag_client::withdraw::{self, Withdrawn};

use super::{open_site, secrets, sign};
use crate::args::Withdraw;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: Withdraw, config: &Config, ui: Ui) -> Result<(), Failure> {
    withdraw::check_reason(&args.reason).map_err(Failure::usage)?;
    let site = open_site(config, ui)?;
    sign::check_place(args.out.out.as_deref())?;
    let keys = secrets::signers(&args.signing, config, ui)?;
    if let Some(file) = args.out.out {
        let draft = withdraw::draft(&site, &args.reference, (&args.reason, args.erase), &keys).await?;
        return sign::keep(file, &draft, ui);
    }
    let withdrawn = withdraw::withdraw(&site, &args.reference, (&args.reason, args.erase), &keys).await?;
    if withdrawn.entry.is_none() {
        ui.note("it was withdrawn before; nothing was signed");
    }
    ui.report(&Done(withdrawn))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Withdrawn);

impl Report for Done {
    fn page(&self, page: &mut Page) {
        page.fact("withdrawn", format_args!("{}@{}", self.0.name, self.0.digest));
        page.fact("reason", &self.0.reason);
        page.fact_if("entry", self.0.entry);
    }

    fn essential(&self) -> String {
        self.0.digest.to_string()
    }
}
