//! `waag show`

use serde::Serialize;
use waag_client::{ClientError, scorecard};
use waag_schema::wire::artifact::{ArtifactView, WeighingView};

use super::open_site;
use crate::args::Show;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Bytes, Page, Report, Ui};

pub(crate) async fn run(args: Show, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let view = site.artifact(&args.artifact).await?;
    // Who may publish it is shown where its chain would begin.
    if view.releases.is_empty() && view.label.is_none() {
        let text = format!("{} was never published here", args.artifact);
        return Err(ClientError::NotFound(text).into());
    }
    let weighing = match scorecard::read(&site, &args.artifact).await {
        Ok(cards) => cards.weighing,
        // Nothing was released yet.
        Err(ClientError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    ui.report(&One { view, weighing })
}

#[derive(Serialize)]
struct One {
    #[serde(flatten)]
    view: ArtifactView,
    /// Releases that the site has not weighed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighing: Vec<WeighingView>,
}

impl Report for One {
    fn page(&self, page: &mut Page) {
        let Self { view, weighing } = self;
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
        if !weighing.is_empty() {
            page.line("");
            let rows = weighing.iter();
            page.table(
                ["weighing", "done", "release"],
                rows.map(|one| {
                    let far = format!("{} of {}", Bytes(one.done), Bytes(one.total));
                    let why = one
                        .reason
                        .as_ref()
                        .map_or_else(String::new, |why| format!("  {why}"));
                    let suite = one
                        .suite
                        .as_ref()
                        .map_or_else(String::new, |suite| format!(" on {}", suite.artifact));
                    [one.state.clone(), far, format!("{}{suite}{why}", one.manifest)]
                }),
            );
        }
    }

    fn essential(&self) -> String {
        let digests: Vec<String> = self
            .view
            .releases
            .iter()
            .map(|release| release.manifest.to_string())
            .collect();
        digests.join("\n")
    }
}
