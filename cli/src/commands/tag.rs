//! `waag tag`

use serde::Serialize;
use waag_client::tag::{self, Tagged};

use super::{open_site, secrets, sign};
use crate::args::TagArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: TagArgs, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    sign::check_place(args.out.out.as_deref())?;
    let keys = secrets::signers(&args.signing, config, ui)?;
    let reference = &args.reference;
    if let Some(file) = args.out.out {
        let (artifact, version) = (&reference.artifact, &reference.version);
        let draft = tag::draft(&site, artifact, &args.tag, version, args.move_tag, &keys).await?;
        return sign::keep(file, &draft, ui);
    }
    let tagged = tag::set(
        &site,
        &reference.artifact,
        &args.tag,
        &reference.version,
        args.move_tag,
        &keys,
    )
    .await?;
    ui.report(&Done(tagged))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Tagged);

impl Report for Done {
    fn page(&self, page: &mut Page) {
        page.fact("tagged", format_args!("{}:{}", self.0.name, self.0.tag));
        page.fact("digest", self.0.digest);
        page.fact("entry", self.0.entry);
    }

    fn essential(&self) -> String {
        self.0.digest.to_string()
    }
}
