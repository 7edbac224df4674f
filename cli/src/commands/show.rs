//! `waag show`

use serde::Serialize;
use waag_client::ClientError;
use waag_schema::wire::artifact::ArtifactView;

use super::open_site;
use crate::args::Show;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Bytes, Page, Report, Ui};

pub(crate) async fn run(args: Show, config: &Config, ui: Ui) -> Result<(), Failure> {
    let view = open_site(config, ui)?.artifact(&args.artifact).await?;
    // Who may publish it is shown where its chain would begin.
    if view.releases.is_empty() && view.label.is_none() {
        let text = format!("{} was never published here", args.artifact);
        return Err(ClientError::NotFound(text).into());
    }
    ui.report(&One(view))
}

#[derive(Serialize)]
#[serde(transparent)]
struct One(ArtifactView);

impl Report for One {
    fn page(&self, page: &mut Page) {
        let Self(view) = self;
        page.fact("name", &view.name);
        page.fact_if("kind", view.kind);
        match &view.label {
            Some(label) => page.fact("label", label),
            None => page.fact("label", "none: at its home site only"),
        }
        if !view.tags.is_empty() {
            page.line("");
            let rows = view.tags.iter();
            page.table(
                ["tag", "since", "names"],
                rows.map(|tag| [tag.tag.to_string(), tag.at.to_string(), tag.manifest.to_string()]),
            );
        }
        if !view.releases.is_empty() {
            page.line("");
            let rows = view.releases.iter();
            page.table(
                ["entry", "recorded", "files", "size", "release"],
                rows.map(|release| {
                    let withdrawn = release.withdrawn.as_ref();
                    [
                        release.entry.to_string(),
                        release.at.to_string(),
                        release.files.to_string(),
                        Bytes(release.bytes).to_string(),
                        withdrawn.map_or_else(
                            || release.manifest.to_string(),
                            |why| format!("{}  withdrawn: {why}", release.manifest),
                        ),
                    ]
                }),
            );
        }
    }

    fn essential(&self) -> String {
        let digests: Vec<String> = self
            .0
            .releases
            .iter()
            .map(|release| release.manifest.to_string())
            .collect();
        digests.join("\n")
    }
}
