//! `waag verify`

use serde::Serialize;
use waag_client::error::ClientError;
use waag_client::scorecard::{self, Card};
use waag_client::verify::{self, Partial, Verified};
use waag_client::witnessed::{self, WitnessedBy};
use waag_schema::{Reference, Sha256, SiteId, Timestamp};

use super::pull::witnesses;
use super::{now, open_site};
use crate::args::Verify;
use crate::config::Config;
use crate::failure::Failure;
use crate::progress;
use crate::typed::Compared;
use crate::ui::{Bytes, Page, Report, Ui, count, listed};

/// Files beside the artifact's that are named; a directory of data may hold thousands.
const EXTRA_SHOWN: usize = 5;

pub(crate) async fn run(args: Verify, config: &Config, ui: Ui) -> Result<(), Failure> {
    let typed = args.directory.to_str().and_then(|text| text.parse().ok());
    if let (Some(Compared::Release(reference)), false) = (typed, args.directory.exists()) {
        return release(&reference, &args, config, ui).await;
    }
    let verified = verify::verify(&config.home, &args.directory, &progress::watch(ui)).await?;
    warn_of_others(&verified.extra, ui);
    match &verified.withdrawn {
        Some(reason) if args.withdrawn => {
            ui.warn(format_args!("its publisher has withdrawn it: {reason}"));
        }
        Some(reason) => return Err(withdrawn(&verified, reason)),
        None => {}
    }
    if let Some(days) = args.max_age {
        let checked = verified.check_fresh(now(), days);
        checked
            .map_err(|e| Failure::from(e).hint("the same `waag pull` again brings what is known today"))?;
    }
    if let Some(quorum) = args.witnessed {
        let checked = verified.check_witnessed(&config.home, quorum);
        checked.map_err(|e| match e {
            ClientError::Verification { .. } => {
                Failure::from(e).hint("`waag pull --witnessed` again brings what witnesses say today")
            }
            other => other.into(),
        })?;
    }
    ui.report(&Done {
        verified: true,
        what: verified,
    })
}

/// A release at the site: everything that is proven of it, without its files.
async fn release(reference: &Reference, args: &Verify, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let proven = site.resolve(&reference.artifact, &reference.version).await?;
    if let Some(reason) = proven.withdrawn.clone().filter(|_| !args.withdrawn) {
        let release = reference.to_string();
        return Err(Failure::from(ClientError::Withdrawn { release, reason })
            .hint("--withdrawn accepts it all the same"));
    }
    let witnessed_by = match args.witnessed {
        Some(quorum) => witnessed::ask(&site, &proven, quorum).await?,
        None => Vec::new(),
    };
    if let Some(details) = proven
        .weighed
        .first()
        .and_then(|card| card.scorecard.details.as_ref())
    {
        scorecard::details(&site, &reference.artifact, details).await?;
    }
    ui.report(&AtSite {
        verified: true,
        name: reference.to_string(),
        digest: proven.manifest.digest(),
        entry: proven.entry,
        at: proven.at,
        signed_by: proven.signed_by,
        site: proven.checkpoint.checkpoint().origin.site().clone(),
        withdrawn: proven.withdrawn,
        fresh_as_of: proven.fresh_as_of,
        witnessed_by,
        weighed: proven.weighed,
    })
}

/// As signed, and nobody should use it.
fn withdrawn(verified: &Verified, reason: &str) -> Failure {
    let name = &verified.name;
    let release = match &verified.tag {
        Some(tag) => format!("{name}:{tag}"),
        None => format!("{name}@{}", verified.digest),
    };
    let error = ClientError::Withdrawn {
        release,
        reason: reason.to_owned(),
    };
    Failure::from(error)
        .details(vec![format!("{}: all as signed", count(verified.files, "file"))])
        .hint("--withdrawn accepts it all the same")
}

/// What nobody signed is no reason to fail, but somebody may take it for part of the artifact.
fn warn_of_others(extra: &[String], ui: Ui) {
    if extra.is_empty() {
        return;
    }
    let shown = &extra[..extra.len().min(EXTRA_SHOWN)];
    let more = if extra.len() > shown.len() { ", ..." } else { "" };
    let number = count(extra.len() as u64, "file");
    ui.warn(format_args!("{number} not part of it: {}{more}", listed(shown)));
}

#[derive(Serialize)]
struct Done {
    /// Always true: anything else is a failure.
    verified: bool,
    #[serde(flatten)]
    what: Verified,
}

impl Report for Done {
    fn page(&self, page: &mut Page) {
        let Self { what, .. } = self;
        match &what.tag {
            Some(tag) => page.fact("verified", format_args!("{}:{tag}", what.name)),
            None => page.fact("verified", &what.name),
        }
        page.fact("digest", what.digest);
        let (files, bytes) = (what.files, Bytes(what.bytes));
        match what.partial {
            None => page.fact("files", format_args!("{files}, {bytes}: all as signed")),
            Some(Partial {
                release_files,
                made_files: 0,
            }) => page.fact(
                "files",
                format_args!("partial: {files} of {release_files} files, {bytes}: as signed"),
            ),
            Some(Partial {
                release_files,
                made_files,
            }) => {
                let signed = files - made_files;
                page.fact(
                    "files",
                    format_args!("partial: {files} of {release_files} files, {bytes}"),
                );
                page.fact("as signed", count(signed, "file"));
                page.fact(
                    "as pulled",
                    format_args!("{} made of signed tensors", count(made_files, "file")),
                );
            }
        }
        page.fact("signed by", listed(&what.signed_by));
        page.fact(
            "recorded",
            format_args!("entry {} of {}, {}", what.entry, what.site, what.at),
        );
        page.fact_if("witnessed by", witnesses(&what.witnessed_by));
        weighed_by(page, &what.weighed);
        page.fact_if("withdrawn", what.withdrawn.as_ref());
        page.fact_if("fresh as of", what.fresh_as_of);
    }

    fn essential(&self) -> String {
        self.what.digest.to_string()
    }
}

/// What is proven of a release whose files are at the site only.
#[derive(Serialize)]
struct AtSite {
    /// Always true: anything else is a failure.
    verified: bool,
    name: String,
    digest: Sha256,
    entry: u64,
    at: Timestamp,
    signed_by: Vec<String>,
    site: SiteId,
    withdrawn: Option<String>,
    fresh_as_of: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    witnessed_by: Vec<WitnessedBy>,
    weighed: Vec<Card>,
}

impl Report for AtSite {
    fn page(&self, page: &mut Page) {
        page.fact("verified", &self.name);
        page.fact("digest", self.digest);
        page.fact("files", "at the site; `waag pull` fetches and checks them");
        page.fact("signed by", listed(&self.signed_by));
        page.fact(
            "recorded",
            format_args!("entry {} of {}, {}", self.entry, self.site, self.at),
        );
        page.fact_if("witnessed by", witnesses(&self.witnessed_by));
        weighed_by(page, &self.weighed);
        page.fact_if("withdrawn", self.withdrawn.as_ref());
        page.fact_if("fresh as of", self.fresh_as_of);
    }

    fn essential(&self) -> String {
        self.digest.to_string()
    }
}

/// Each scorecard on a line: whose, where it is recorded, and what was measured.
fn weighed_by(page: &mut Page, cards: &[Card]) {
    for (at, card) in cards.iter().enumerate() {
        let Card { scorecard, .. } = card;
        let sections = scorecard.sections.iter();
        let measured: Vec<&str> = sections
            .filter(|section| section.not_measured.is_none())
            .map(|section| section.name.as_str())
            .collect();
        let measured = if measured.is_empty() {
            "nothing".to_owned()
        } else {
            measured.join(", ")
        };
        page.fact(
            if at == 0 { "weighed by" } else { "" },
            format_args!(
                "{}, entry {}, {}: {measured}, by {} {}",
                card.site, card.entry, card.recorded, scorecard.harness.name, scorecard.harness.version
            ),
        );
    }
}
