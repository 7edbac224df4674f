//! `waag show`

use serde::Serialize;
use waag_client::proof::Proven;
use waag_client::{ClientError, Site, listing, scorecard};
use waag_schema::policy::Label;
use waag_schema::release::kind::Kind;
use waag_schema::wire::artifact::{ArtifactView, WeighingView};
use waag_schema::{ArtifactName, FilePath, Reference, Sha256, Timestamp};

use super::open_site;
use crate::args::Show;
use crate::config::Config;
use crate::failure::Failure;
use crate::typed::Shown;
use crate::ui::{Bytes, Page, Report, Ui};

pub(crate) async fn run(args: Show, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    match args.what {
        Shown::Artifact(artifact) => ui.report(&all(&site, &artifact).await?),
        Shown::Release(reference) => ui.report(&one(&site, &reference).await?),
    }
}

async fn all(site: &Site, artifact: &ArtifactName) -> Result<All, Failure> {
    let view = site.artifact(artifact).await?;
    // Who may publish it is shown where its chain would begin.
    if view.releases.is_empty() && view.label.is_none() {
        let text = format!("{artifact} was never published here");
        return Err(ClientError::NotFound(text).into());
    }
    let weighing = match scorecard::read(site, artifact).await {
        Ok(cards) => cards.weighing,
        // Nothing was released yet.
        Err(ClientError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(All { view, weighing })
}

async fn one(site: &Site, reference: &Reference) -> Result<One, Failure> {
    let proven = site.resolve(&reference.artifact, &reference.version).await?;
    let files = listing::files(site, &proven).await?;
    let Proven { manifest, .. } = &proven;
    let about = manifest.about();
    Ok(One {
        name: reference.to_string(),
        digest: manifest.digest(),
        kind: manifest.kind(),
        bytes: manifest.total_size(),
        entry: proven.entry,
        at: proven.at,
        signed_by: proven.signed_by.clone(),
        label: proven.label.clone().map(|(_, label)| label),
        withdrawn: proven.withdrawn.clone(),
        base: manifest.base().map(ToString::to_string),
        trained_on: manifest.data().iter().map(ToString::to_string).collect(),
        license: about.license,
        files: files
            .iter()
            .map(|file| OneFile {
                path: file.path.clone(),
                bytes: file.size,
                sha256: file.sha256,
            })
            .collect(),
    })
}

/// One release.
#[derive(Serialize)]
struct One {
    name: String,
    digest: Sha256,
    kind: Kind,
    bytes: u64,
    entry: u64,
    at: Timestamp,
    signed_by: Vec<String>,
    label: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trained_on: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    files: Vec<OneFile>,
}

#[derive(Serialize)]
struct OneFile {
    path: FilePath,
    bytes: u64,
    sha256: Sha256,
}

impl Report for One {
    fn page(&self, page: &mut Page) {
        page.fact("name", &self.name);
        page.fact("digest", self.digest);
        page.fact("kind", self.kind);
        page.fact_if("withdrawn", self.withdrawn.as_ref());
        page.fact("recorded", format_args!("{}, entry {}", self.at, self.entry));
        page.fact("signed by", self.signed_by.join(", "));
        match &self.label {
            Some(label) => page.fact("label", label),
            None => page.fact("label", "none: at its home site only"),
        }
        page.fact_if("license", self.license.as_ref());
        page.fact_if("base", self.base.as_ref());
        if !self.trained_on.is_empty() {
            page.fact("trained on", self.trained_on.join(", "));
        }
        page.fact("files", self.files.len());
        page.fact("size", Bytes(self.bytes));
        page.line("");
        page.table(
            ["size", "file", "sha256"],
            self.files.iter().map(|file| {
                let digest = file.sha256.hex();
                [Bytes(file.bytes).to_string(), file.path.to_string(), digest]
            }),
        );
    }

    fn essential(&self) -> String {
        self.digest.to_string()
    }
}

/// An artifact with all its versions.
#[derive(Serialize)]
struct All {
    #[serde(flatten)]
    view: ArtifactView,
    /// Releases that the site has not weighed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighing: Vec<WeighingView>,
}

impl Report for All {
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
