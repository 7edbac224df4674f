//! `waag pull`

use std::path::PathBuf;

use serde::Serialize;
use waag_client::pull::{self, PullRequest, Pulled};

use super::open_site;
use crate::args::Pull;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Bytes, Encoded, Page, Report, Ui, listed};

pub(crate) async fn run(args: Pull, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let directory = match args.directory {
        Some(directory) => directory,
        None => PathBuf::from(args.reference.artifact.last()),
    };
    let request = PullRequest {
        reference: args.reference,
        target: directory.clone(),
        withdrawn: args.withdrawn,
    };
    let pulled = pull::pull(&site, &request).await?;
    ui.report(&Done { pulled, directory })
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    pulled: Pulled,
    directory: PathBuf,
}

impl Report for Done {
    fn page(&self, page: &mut Page) {
        let Self { pulled, directory } = self;
        match &pulled.tag {
            Some(tag) => page.fact("pulled", format_args!("{}:{tag}", pulled.name)),
            None => page.fact("pulled", &pulled.name),
        }
        page.fact("digest", pulled.digest);
        page.fact("into", directory.display());
        page.fact("files", format_args!("{}, {}", pulled.files, Bytes(pulled.bytes)));
        page.fact(
            "received",
            format_args!(
                "{}{} ({} reused)",
                Bytes(pulled.received_bytes),
                Encoded(pulled.received_bytes, pulled.wire_bytes),
                Bytes(pulled.reused_bytes)
            ),
        );
        page.fact("signed by", listed(&pulled.signed_by));
        page.fact("entry", pulled.entry);
    }

    fn essential(&self) -> String {
        self.pulled.digest.to_string()
    }
}
