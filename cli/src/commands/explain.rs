//! `waag explain`: a verdict with its reasons, and the statements that it rests on.

use std::path::Path;

use serde::Serialize;
use waag_client::charter::Believed;
use waag_client::explain::{Ground, Grounds};
use waag_client::site::Site;
use waag_schema::federation::{Charter, SiteHandle};
use waag_schema::policy::{Action, GroupTerms, Place, Reason, Verdict};
use waag_schema::{ArtifactName, Reference, SiteId, Timestamp};

use super::{now, open_site};
use crate::args::Explain;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: Explain, config: &Config, ui: Ui) -> Result<(), Failure> {
    let Some(at) = args.at.as_deref() else {
        return Err(Failure::usage("no place is named").hint("--at bologna, --at DE, or --site with a name"));
    };
    let directory = Path::new(&args.what);
    let (grounds, asked) = if directory.join(".waag").is_dir() {
        (Grounds::kept(&config.home, directory)?, None)
    } else {
        let reference: Reference = args.what.parse().map_err(Failure::usage)?;
        let site = open_site(config, ui)?;
        (Grounds::ask(&site, &reference.artifact).await?, Some(site))
    };
    let charter = Believed::new(config.home.clone()).naming(&grounds.ledger)?;
    let place = place(at, charter.as_ref(), asked.as_ref()).await?;
    let groups: &[GroupTerms] = charter.as_ref().map_or(&[], |charter| &charter.terms().groups);
    let when = args.when.unwrap_or_else(now);
    let verdict = grounds.decide(when, groups, args.action, &place);
    if !grounds.unknown.is_empty() {
        let names: Vec<String> = grounds.unknown.iter().map(ToString::to_string).collect();
        ui.warn(format_args!(
            "it was made from {}, whose labels hold as well and are not kept here: ask the site",
            names.join(", ")
        ));
    }
    ui.report(&Explained {
        name: grounds.name,
        action: args.action,
        place,
        at: when,
        home: grounds.home,
        ledger: grounds.ledger,
        charter: charter.map(|charter| charter.version()),
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        verdict,
        labels: grounds.labels,
        unknown: grounds.unknown,
    })
}

/// Reads where: a country for a consumer, otherwise a site of the charter, or one by its id.
async fn place(text: &str, charter: Option<&Charter>, asked: Option<&Site>) -> Result<Place, Failure> {
    if let Ok(country) = text.parse() {
        return Ok(Place::Consumer {
            jurisdiction: Some(country),
        });
    }
    if text == "*" {
        return Ok(Place::Consumer { jurisdiction: None });
    }
    let handle: SiteHandle = text.parse().map_err(|_| {
        Failure::usage(format!(
            "`{}` is neither a site's name or id nor a country",
            text.escape_debug()
        ))
    })?;
    let named = charter.and_then(|charter| charter.find(&handle));
    match (named, handle) {
        (Some(site), _) => Ok(Place::Site {
            id: site.id.clone(),
            jurisdiction: Some(site.jurisdiction),
        }),
        (None, SiteHandle::Id(id)) => {
            // Without a charter only the site itself says where it is.
            let jurisdiction = match asked {
                Some(site) if site.pin().site == id => site.view().await?.jurisdiction,
                _ => None,
            };
            Ok(Place::Site {
                id,
                jurisdiction: jurisdiction.and_then(|code| code.parse().ok()),
            })
        }
        (None, SiteHandle::Name(name)) => {
            let failure = Failure::new(
                Exit::NotFound,
                format!("no charter that is believed here names a site `{name}`"),
            );
            Err(failure.hint("`waag charter adopt FILE --here` believes one; or name the site by its id"))
        }
    }
}

#[derive(Serialize)]
struct Explained {
    name: ArtifactName,
    action: Action,
    place: Place,
    at: Timestamp,
    home: SiteId,
    /// The site whose ledger holds the statements.
    ledger: SiteId,
    /// The version of the charter whose groups and sites were used.
    charter: Option<u64>,
    verdict: Verdict,
    /// The same reasons as sentences.
    reasons: Vec<String>,
    labels: Vec<Ground>,
    unknown: Vec<ArtifactName>,
}

impl Report for Explained {
    fn page(&self, page: &mut Page) {
        let answer = if self.verdict.allowed { "allowed" } else { "denied" };
        page.fact(
            answer,
            format_args!("{} of {} at {}", self.action, self.name, self.place),
        );
        page.fact("as of", self.at);
        for (reason, text) in self.verdict.reasons.iter().zip(&self.reasons) {
            page.fact(if Reason::allows(reason) { "for" } else { "against" }, text);
        }
        for (index, ground) in self.labels.iter().enumerate() {
            let whose = ground
                .artifact
                .as_ref()
                .map_or("an artifact that is not shown".to_owned(), ToString::to_string);
            page.fact(
                &format!("label {}", index + 1),
                format_args!("{} ({whose})", ground.label),
            );
            match ground.entry {
                Some(entry) => page.fact("", format_args!("entry {entry} of {}, checked", self.ledger)),
                None => page.fact("", "as the site says; its statement may not be read"),
            }
        }
        page.fact("home", &self.home);
        page.fact_if(
            "charter",
            self.charter.map(|version| format!("version {version}")),
        );
    }

    fn essential(&self) -> String {
        if self.verdict.allowed { "allowed" } else { "denied" }.to_owned()
    }
}
