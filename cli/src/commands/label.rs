//! `waag label`

use serde::Serialize;
use waag_client::label::{self, Labelled};
use waag_schema::policy::label::Label;

use super::{open_site, secrets, sign};
use crate::args::LabelArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: LabelArgs, config: &Config, ui: Ui) -> Result<(), Failure> {
    let label = Label::from_cli(&args.residency, &args.allow, &args.deny).map_err(Failure::usage)?;
    let site = open_site(config, ui)?;
    sign::check_place(args.out.out.as_deref())?;
    let keys = secrets::signers(&args.signing, config, ui)?;
    if let Some(file) = args.out.out {
        let draft = label::draft(&site, &args.artifact, &label, &keys).await?;
        return sign::keep(file, &draft, ui);
    }
    let labelled = label::set(&site, &args.artifact, &label, &keys).await?;
    if labelled.entry.is_none() {
        ui.note("it had this label before; nothing was signed");
    }
    ui.report(&Done(labelled))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Labelled);

impl Report for Done {
    fn page(&self, page: &mut Page) {
        page.fact("labelled", &self.0.name);
        page.fact("label", &self.0.label);
        page.fact_if("entry", self.0.entry);
    }

    fn essential(&self) -> String {
        self.0.label.to_string()
    }
}
