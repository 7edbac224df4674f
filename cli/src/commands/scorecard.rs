//! `waag scorecard`: what a site has measured on a release.

use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use waag_client::ClientError;
use waag_client::scorecard::{self, Card, Opinion};
use waag_schema::statement::scorecard::{Amount, Section};
use waag_schema::wire::artifact::WeighingView;

use super::{agreement, exponents, language, open_site, speed, svr};
use crate::args::Scorecard;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Bytes, Page, Report, Ui};

/// The width of a full bar.
const BAR: usize = 40;
pub(crate) async fn run(args: Scorecard, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let reference = &args.reference;
    let manifest = site
        .resolve(&reference.artifact, &reference.version)
        .await?
        .manifest
        .digest();
    let found = if args.wait {
        scorecard::wait(&site, &reference.artifact, &manifest).await?
    } else {
        scorecard::read(&site, &reference.artifact).await?
    };
    if let Some(file) = &args.svr {
        svr::write(&site, &reference.artifact, &manifest, file).await?;
    }
    let Some(card) = found.of(&manifest).or_else(|| found.by_others(&manifest)) else {
        return Err(not_yet(&reference.to_string(), found.weighing(&manifest)));
    };
    let details = match &card.scorecard.details {
        Some(named) => {
            match scorecard::details(&site, &reference.artifact, named).await {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map_err(|e| Failure::failed(format!("the scorecard's details cannot be read: {e}")))?,
                // Those of another site's scorecard lie at that site.
                Err(ClientError::NotFound(_)) if found.of(&manifest).is_none() => Value::Null,
                Err(error) => return Err(error.into()),
            }
        }
        None => Value::Null,
    };
    let to_come = found.weighing.iter().filter(|view| view.manifest == manifest);
    let mut others: Vec<Opinion> = found
        .others_on(&manifest)
        .filter(|opinion| opinion.card != *card)
        .cloned()
        .collect();
    for asked in agreement::ask(&args.against, &reference.artifact, card, config, ui).await? {
        others.retain(|known| known.card != asked.card);
        others.push(asked);
    }
    ui.report(&Shown {
        name: reference.to_string(),
        card: card.clone(),
        suites: found.on_suites(&manifest).into_iter().cloned().collect(),
        to_come: to_come.cloned().collect(),
        others,
        svr: args.svr,
        details,
    })
}

fn not_found(message: String) -> Failure {
    Failure::new(Exit::NotFound, message)
}

fn not_yet(name: &str, weighing: Option<&WeighingView>) -> Failure {
    let Some(view) = weighing else {
        return not_found(format!("{name} has no scorecard at this site")).hint(
            "a site weighs unless its waag.toml says otherwise; `waag weigh DIR` measures on this machine",
        );
    };
    let far = match view.state.as_str() {
        "weighing" => format!(", {} of {}", Bytes(view.done), Bytes(view.total)),
        _ => String::new(),
    };
    let why = view
        .reason
        .as_ref()
        .map_or_else(String::new, |why| format!(": {why}"));
    let failure = not_found(format!("{name} has no scorecard yet: {}{far}{why}", view.state));
    if view.state == "given up" {
        failure
    } else {
        failure.hint("the same command with --wait waits for it")
    }
}

#[derive(Serialize)]
struct Shown {
    name: String,
    #[serde(flatten)]
    card: Card,
    /// What it said on each suite.
    suites: Vec<Card>,
    /// What the site has not asked yet, or cannot ask.
    to_come: Vec<WeighingView>,
    /// What other sites say to it: those whose ledgers the site follows, and those that were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Opinion>,
    /// The file in which the site says that it passes the gates of its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    svr: Option<PathBuf>,
    details: Value,
}

impl Report for Shown {
    fn page(&self, page: &mut Page) {
        let Self {
            name,
            card,
            suites,
            to_come,
            others,
            svr,
            details,
        } = self;
        let Card { scorecard, .. } = card;
        page.fact("scorecard", name);
        page.fact("digest", card.manifest);
        page.fact(
            "weighed by",
            format_args!("{}, entry {}, {}", card.site, card.entry, card.recorded),
        );
        let device = scorecard.device.name.as_deref().unwrap_or_default();
        page.fact(
            "engine",
            format_args!(
                "{} {} on {} {device}, {}",
                scorecard.harness.name,
                scorecard.harness.version,
                scorecard.device.class,
                scorecard.precision
            ),
        );
        // What is measured in a scorecard of its own is not told to be missing.
        let asked = !suites.is_empty() || !to_come.is_empty();
        let own: Vec<Section> = scorecard
            .sections
            .iter()
            .filter(|section| !(asked && section.name == language::SECTION && section.not_measured.is_some()))
            .cloned()
            .collect();
        show_sections(page, &own, details);
        for card in suites {
            language::show_card(page, card);
        }
        for view in to_come {
            if let Some(suite) = &view.suite {
                page.line("");
                let why = view
                    .reason
                    .as_ref()
                    .map_or_else(String::new, |why| format!(": {why}"));
                page.fact("suite", &suite.artifact);
                page.fact("state", format_args!("{}{why}", view.state));
            }
        }
        agreement::show(page, others);
        if let Some(file) = svr {
            page.line("");
            page.fact("passes", "all gates of its namespace");
            page.fact(
                "signed",
                format_args!("{}, its key in {}", file.display(), svr::key_file(file).display()),
            );
        }
    }

    fn essential(&self) -> String {
        self.card
            .scorecard
            .details
            .as_ref()
            .map_or_else(|| self.card.manifest.to_string(), |d| d.sha256.to_string())
    }
}

/// Shows what was measured, then what was not and why.
pub(super) fn show_sections(page: &mut Page, sections: &[Section], details: &Value) {
    for section in sections.iter().filter(|s| s.not_measured.is_none()) {
        match section.name.as_str() {
            "weights" => show_weights(page, section, details),
            "language" => language::show(page, section),
            "speed" => speed::show(page, section),
            _ => show_plainly(page, section),
        }
    }
    page.line("");
    for section in sections {
        if let Some(reason) = &section.not_measured {
            page.fact(&section.name, format_args!("not measured because {reason}"));
        }
    }
}

/// Any section: its numbers, one a line.
fn show_plainly(page: &mut Page, section: &Section) {
    page.line("");
    page.table(
        [section.name.as_str(), "value"],
        section
            .results
            .iter()
            .map(|measure| [measure.metric.clone(), shown(measure.value)]),
    );
}

fn show_weights(page: &mut Page, section: &Section, details: &Value) {
    let count = |metric: &str| match section.result(metric) {
        Some(Amount::Count(count)) => count,
        _ => 0,
    };
    page.line("");
    page.fact(
        "weights",
        format_args!(
            "{} parameters in {} tensor{}, {}",
            thousands(count("parameters")),
            thousands(count("tensors")),
            if count("tensors") == 1 { "" } else { "s" },
            Bytes(count("bytes"))
        ),
    );
    for measure in &section.results {
        if let (Some(dtype), Amount::Count(count)) =
            (measure.metric.strip_prefix("parameters."), measure.value)
        {
            page.fact(&format!("  {dtype}"), thousands(count));
        }
    }
    if section.result("nan").is_some() {
        page.fact(
            "not finite",
            format_args!(
                "{} not a number, {} infinite",
                thousands(count("nan")),
                thousands(count("infinite"))
            ),
        );
        page.fact(
            "zero",
            format_args!(
                "{}, and {} subnormal",
                thousands(count("zero")),
                thousands(count("subnormal"))
            ),
        );
    }
    let real = |metric: &str| section.result(metric).map(shown);
    if let (Some(least), Some(greatest)) = (real("minimum"), real("maximum")) {
        page.fact("range", format_args!("{least} to {greatest}"));
    }
    page.fact_if("l2 norm", real("l2_norm"));
    page.fact_if(
        "lossless",
        real("lossless_bits")
            .map(|bits| format!("{bits} bits an element at best, exponents coded one by one")),
    );
    let errors: Vec<_> = section
        .results
        .iter()
        .filter_map(|m| Some((m.metric.strip_prefix("relative_error.")?, m.value.to_f64())))
        .collect();
    let worst = errors.iter().map(|(_, e)| *e).fold(0.0, f64::max);
    if !errors.is_empty() {
        page.line("");
        page.table(
            ["quantised to", "relative error", ""],
            errors.iter().map(|(format, e)| {
                [
                    (*format).to_owned(),
                    format!("{:.3} %", e * 100.0),
                    bar(e / worst),
                ]
            }),
        );
    }
    exponents::show(page, details);
}

/// A bar of this share of the full width.
pub(super) fn bar(share: f64) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and the width"
    )]
    let width = (share * BAR as f64).round() as usize;
    if width == 0 {
        "▏".to_owned()
    } else {
        "█".repeat(width)
    }
}

/// A number for a person: counts with their digits grouped, others with five significant digits.
pub(super) fn shown(amount: Amount) -> String {
    match amount {
        Amount::Count(count) => thousands(count),
        Amount::Real(real) if real == 0.0 || !real.is_finite() => real.to_string(),
        Amount::Real(real) if (1e-3..1e5).contains(&real.abs()) => {
            let text = format!("{real:.5}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Amount::Real(real) => format!("{real:.4e}"),
    }
}

pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(8_030_261_248), "8,030,261,248");
        for (amount, text) in [
            (Amount::Real(0.25), "0.25"),
            (Amount::Real(-2.0), "-2"),
            (Amount::Real(1.5e-9), "1.5000e-9"),
            (Amount::Real(f64::NEG_INFINITY), "-inf"),
            (Amount::Count(1234), "1,234"),
        ] {
            assert_eq!(shown(amount), text);
        }
        assert_eq!(bar(1.0).chars().count(), BAR);
        assert_eq!(bar(f64::NAN), "▏");
    }
}
