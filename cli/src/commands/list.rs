//! `waag list` and `waag search`

use serde::Serialize;
use waag_schema::Namespace;
use waag_schema::wire::artifact::ArtifactSummary;

use super::open_site;
use crate::args::{List, Search};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn list(args: List, config: &Config, ui: Ui) -> Result<(), Failure> {
    let artifacts = all(&[], args.namespace.as_ref(), config, ui).await?;
    ui.report(&All {
        artifacts,
        none: "nothing here that this token may read",
    })
}

pub(crate) async fn search(args: Search, config: &Config, ui: Ui) -> Result<(), Failure> {
    let artifacts = all(&args.words, args.namespace.as_ref(), config, ui).await?;
    ui.report(&All {
        artifacts,
        none: "nothing that this token may read has all these words",
    })
}

/// Reads all pages.
async fn all(
    words: &[String],
    namespace: Option<&Namespace>,
    config: &Config,
    ui: Ui,
) -> Result<Vec<ArtifactSummary>, Failure> {
    let site = open_site(config, ui)?;
    let mut artifacts: Vec<ArtifactSummary> = Vec::new();
    let mut after = None;
    loop {
        let page = site.search(words, namespace, after.as_ref()).await?;
        // A page that leads back would be read for ever.
        let onward = page
            .next
            .filter(|next| after.as_ref().is_none_or(|last| next > last));
        artifacts.extend(page.artifacts);
        after = onward;
        if after.is_none() {
            return Ok(artifacts);
        }
    }
}

#[derive(Serialize)]
struct All {
    artifacts: Vec<ArtifactSummary>,
    /// What is said when there are none.
    #[serde(skip)]
    none: &'static str,
}

impl Report for All {
    fn page(&self, page: &mut Page) {
        if self.artifacts.is_empty() {
            page.line(self.none);
            return;
        }
        let known = |what: &Option<String>| what.clone().unwrap_or_else(|| "-".to_owned());
        let row = |one: &ArtifactSummary| {
            [
                one.name.to_string(),
                one.kind.to_string(),
                known(&one.license),
                known(&one.architecture),
                known(&one.parameters),
                one.releases.to_string(),
                one.updated.to_string(),
            ]
        };
        page.table(
            [
                "name",
                "kind",
                "license",
                "architecture",
                "parameters",
                "releases",
                "updated",
            ],
            self.artifacts.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        let names: Vec<&str> = self.artifacts.iter().map(|one| one.name.as_str()).collect();
        names.join("\n")
    }
}
