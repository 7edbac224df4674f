//! How the section `language` reads: a row for each score of each task.

use waag_client::scorecard::Card;
use waag_schema::statement::scorecard::{Amount, Measure, Section};

use super::scorecard::{bar, shown, thousands};
use crate::ui::Page;

/// The section's name.
pub(super) const SECTION: &str = "language";

/// What a model said on a suite at a site.
pub(super) fn show_card(page: &mut Page, card: &Card) {
    let scorecard = &card.scorecard;
    let Some(suite) = &scorecard.suite else { return };
    page.line("");
    page.fact("suite", format_args!("{}@{}", suite.artifact, suite.manifest));
    page.fact(
        "asked by",
        format_args!("{}, entry {}, {}", card.site, card.entry, card.recorded),
    );
    page.fact(
        "engine",
        format_args!(
            "{} {} on {} {}, {}",
            scorecard.harness.name,
            scorecard.harness.version,
            scorecard.device.class,
            scorecard.device.name.as_deref().unwrap_or_default(),
            scorecard.precision
        ),
    );
    for section in &scorecard.sections {
        match &section.not_measured {
            Some(reason) => page.fact(&section.name, format_args!("not measured because {reason}")),
            None => show(page, section),
        }
    }
}

pub(super) fn show(page: &mut Page, section: &Section) {
    let sum = |metric: &str| {
        let of_tasks = section.results.iter().filter(|m| m.task.is_some());
        let counts = of_tasks.filter(|m| m.metric == metric).map(|m| match m.value {
            Amount::Count(count) => count,
            Amount::Real(_) => 0,
        });
        counts.fold(0, u64::saturating_add)
    };
    page.line("");
    page.fact(
        "language",
        format_args!(
            "{} requests, {} tokens predicted",
            thousands(sum("requests")),
            thousands(sum("tokens"))
        ),
    );
    let cut = sum("truncated");
    let longest = section.result("length_max").map(shown).unwrap_or_default();
    page.fact_if(
        "cut",
        (cut > 0).then(|| format!("{} inputs, to {longest} tokens", thousands(cut))),
    );
    page.line("");
    let scores = section
        .results
        .iter()
        .filter_map(|m| Some((m.task.as_ref()?, m, m.sample_size?)));
    page.table(
        ["task", "metric", "value", "stderr", "n", ""],
        scores.map(|(task, measure, n)| {
            let share = is_share(measure).then(|| bar(measure.value.to_f64()));
            [
                task.clone(),
                measure.metric.clone(),
                shown(measure.value),
                measure.standard_error.map(shown).unwrap_or_default(),
                shown(n),
                share.unwrap_or_default(),
            ]
        }),
    );
}

/// Says whether a score is a share of the documents.
fn is_share(measure: &Measure) -> bool {
    measure.metric == "acc" || measure.metric.starts_with("acc_")
}
