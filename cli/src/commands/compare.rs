//! `waag compare`: the scorecards of two releases side by side.

use serde::Serialize;
use waag_client::scorecard::{self, Card};
use waag_client::site::Site;
use waag_schema::statement::agreement::pairs;
use waag_schema::statement::scorecard::{Amount, Section, SuiteRelease};
use waag_schema::{Reference, Sha256};

use super::open_site;
use super::scorecard::{bar, shown};
use crate::args::Compare;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: Compare, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let (a, first) = cards(&site, &args.a).await?;
    let (b, second) = cards(&site, &args.b).await?;
    let mut sections = Vec::new();
    for ours in &first {
        let suite = &ours.scorecard.suite;
        let theirs = second.iter().find(|card| card.scorecard.suite == *suite);
        for section in &ours.scorecard.sections {
            let other = theirs.and_then(|card| card.scorecard.section(&section.name));
            sections.extend(Compared::of(suite.as_ref(), section, other));
        }
    }
    ui.report(&SideBySide {
        a: args.a.to_string(),
        b: args.b.to_string(),
        digest_a: a,
        digest_b: b,
        sections,
    })
}

/// Returns the newest scorecard of a release for each suite that it was asked, and the one of its weights.
async fn cards(site: &Site, reference: &Reference) -> Result<(Sha256, Vec<Card>), Failure> {
    let resolved = site.resolve(&reference.artifact, &reference.version).await?;
    let manifest = resolved.manifest.digest();
    let mut cards: Vec<Card> = Vec::new();
    for card in scorecard::read(site, &reference.artifact).await?.cards {
        let known = |one: &Card| one.scorecard.suite == card.scorecard.suite;
        if card.manifest == manifest && !cards.iter().any(known) {
            cards.push(card);
        }
    }
    if cards.is_empty() {
        let message = format!("{reference} has no scorecard at this site");
        return Err(Failure::new(Exit::NotFound, message)
            .hint(format!("`waag scorecard {reference} --wait` waits for it")));
    }
    cards.sort_by_key(|card| {
        card.scorecard
            .suite
            .as_ref()
            .map(|suite| suite.artifact.to_string())
    });
    Ok((manifest, cards))
}

#[derive(Serialize)]
struct SideBySide {
    a: String,
    b: String,
    digest_a: Sha256,
    digest_b: Sha256,
    sections: Vec<Compared>,
}

#[derive(Serialize)]
struct Compared {
    section: String,
    suite: Option<SuiteRelease>,
    /// Why there is nothing to compare, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacking: Option<String>,
    results: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    task: Option<String>,
    metric: String,
    a: Option<Amount>,
    b: Option<Amount>,
    /// How much more the second is; none where one is missing or not finite.
    change: Option<f64>,
    /// The change over the magnitude of the first.
    relative: Option<f64>,
}

impl Compared {
    fn of(suite: Option<&SuiteRelease>, ours: &Section, theirs: Option<&Section>) -> Option<Self> {
        let none = Section::measured(&ours.name, Vec::new());
        let lacking = match (&ours.not_measured, theirs.map(|other| &other.not_measured)) {
            (Some(_), None | Some(Some(_))) => return None,
            (Some(reason), Some(None)) => Some(format!("the first was not measured because {reason}")),
            (None, Some(Some(reason))) => Some(format!("the second was not measured because {reason}")),
            (None, None) => Some("the second was not asked the same".to_owned()),
            (None, Some(None)) => None,
        };
        let results = pairs(ours, theirs.unwrap_or(&none)).filter_map(|pair| {
            let one = pair.ours.or(pair.theirs)?;
            let (a, b) = (pair.ours.map(|m| m.value), pair.theirs.map(|m| m.value));
            let (from, to) = (a.map(Amount::to_f64), b.map(Amount::to_f64));
            let change = from.zip(to).map(|(from, to)| to - from).filter(|c| c.is_finite());
            Some(Row {
                task: one.task.clone(),
                metric: one.metric.clone(),
                a,
                b,
                change,
                relative: change
                    .zip(from)
                    .map(|(change, from)| if change == 0.0 { 0.0 } else { change / from.abs() })
                    .filter(|relative| relative.is_finite()),
            })
        });
        Some(Self {
            section: ours.name.clone(),
            suite: suite.cloned(),
            lacking,
            results: results.collect(),
        })
    }
}

impl Report for SideBySide {
    fn page(&self, page: &mut Page) {
        page.fact("a", format_args!("{}  {}", self.a, self.digest_a));
        page.fact("b", format_args!("{}  {}", self.b, self.digest_b));
        for one in &self.sections {
            page.line("");
            if let Some(suite) = &one.suite {
                page.fact("suite", &suite.artifact);
            }
            if let Some(reason) = &one.lacking {
                page.fact(&one.section, reason);
            }
            let worst = one.results.iter().filter_map(|row| row.relative);
            let worst = worst.map(f64::abs).fold(0.0, f64::max);
            page.table(
                [one.section.as_str(), "a", "b", "b - a", ""],
                one.results.iter().map(|row| row.cells(worst)),
            );
        }
    }

    fn essential(&self) -> String {
        let differing = self.sections.iter().flat_map(|one| &one.results);
        differing.filter(|row| row.a != row.b).count().to_string()
    }
}

impl Row {
    fn cells(&self, worst: f64) -> [String; 5] {
        let value = |amount| Option::map_or(amount, "-".to_owned(), shown);
        let task = self
            .task
            .as_ref()
            .map_or_else(String::new, |task| format!("{task} "));
        let change = match self.change {
            Some(0.0) => "same".to_owned(),
            Some(change) => {
                let sign = if change > 0.0 { "+" } else { "" };
                let share = self
                    .relative
                    .map_or_else(String::new, |r| format!(" ({:+.2} %)", r * 100.0));
                format!("{sign}{}{share}", shown(Amount::Real(change)))
            }
            None if self.a == self.b => "same".to_owned(),
            None => "-".to_owned(),
        };
        let drawn = match self.relative {
            Some(relative) if relative != 0.0 && worst > 0.0 => bar(relative.abs() / worst),
            _ => String::new(),
        };
        [
            format!("{task}{}", self.metric),
            value(self.a),
            value(self.b),
            change,
            drawn,
        ]
    }
}
