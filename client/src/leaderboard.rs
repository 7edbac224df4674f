//! The releases of a site, ranked by what they scored on a suite.
//!
//! Ranks are the site's word: it says which releases there are. What one of them scored is proven by its scorecard.

use std::collections::BTreeSet;

use serde::Serialize;
use waag_schema::statement::scorecard::{Amount, Measure};
use waag_schema::wire::leaderboard::{LeaderboardPage, ScoredView};
use waag_schema::{ArtifactName, Sha256};

use crate::ask::Ask;
use crate::error::Result;
use crate::site::Site;

/// Releases beyond this number are not ranked.
const SCORED_MAX: usize = 10_000;
/// What ranks, unless somebody says otherwise: the first of these that was measured.
const METRICS: [&str; 7] = [
    "acc_norm",
    "acc",
    "acc_bytes",
    "bits_per_byte",
    "byte_perplexity",
    "word_perplexity",
    "token_perplexity",
];

/// The ranks by one number of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Board {
    /// The task; none for the suite as a whole.
    pub task: Option<String>,
    /// What ranks.
    pub metric: String,
    /// Whether more of it is better.
    pub more_is_better: bool,
    /// Best first.
    pub places: Vec<Place>,
    /// Those on which it was not measured, and why.
    pub missing: Vec<Missing>,
}

/// A release in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// From 1; those that scored the same share one.
    pub rank: u64,
    /// Whether another one shares it.
    pub tied: bool,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// The release of the suite that it was asked.
    pub suite: Sha256,
    /// How it was computed.
    pub precision: String,
    /// What it scored.
    pub value: Amount,
    /// Within what.
    pub standard_error: Option<Amount>,
}

/// A release without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// Why.
    pub reason: String,
}

/// Fetches what the site's releases scored on a suite. Says as well whether there were more than are read.
///
/// # Errors
/// When the site refuses or does not answer.
pub async fn scored(site: &Site, suite: &ArtifactName) -> Result<(Vec<ScoredView>, bool)> {
    let mut all: Vec<ScoredView> = Vec::new();
    let mut below: Option<u64> = None;
    loop {
        let from = below.map_or_else(String::new, |below| format!("&below={below}"));
        let ask = Ask::get(format!("/api/v1/leaderboard?suite={suite}{from}"));
        let page: LeaderboardPage = site.transport().json(ask).await?;
        all.extend(page.scored);
        // A page that leads back would be read for ever.
        let onward = page.next.filter(|next| below.is_none_or(|last| *next < last));
        match onward {
            Some(_) if all.len() >= SCORED_MAX => {
                all.truncate(SCORED_MAX);
                return Ok((all, true));
            }
            Some(next) => below = Some(next),
            None => return Ok((all, false)),
        }
    }
}

/// Ranks releases: by this number, or by the first known one that was measured; of this task, or of each.
#[must_use]
pub fn rank(scored: &[ScoredView], metric: Option<&str>, task: Option<&str>) -> Vec<Board> {
    let tasks: BTreeSet<Option<&str>> = match task {
        Some(task) => BTreeSet::from([Some(task)]),
        None => scored
            .iter()
            .flat_map(results)
            .map(|one| one.task.as_deref())
            .collect(),
    };
    let board = |task: Option<&str>| {
        let measured = |metric: &str| scored.iter().any(|one| find(one, task, metric).is_some());
        let metric = match metric {
            Some(metric) => metric,
            None => METRICS.into_iter().find(|metric| measured(metric))?,
        };
        // Where each task has its own board, one without the number has none.
        (measured(metric) || tasks.len() == 1).then(|| one_board(scored, task, metric))
    };
    tasks.iter().filter_map(|task| board(*task)).collect()
}

fn one_board(scored: &[ScoredView], task: Option<&str>, metric: &str) -> Board {
    let more_is_better = metric.starts_with("acc");
    let mut found: Vec<(&ScoredView, &Measure)> = Vec::new();
    let mut missing = Vec::new();
    for one in scored {
        match find(one, task, metric) {
            Some(measure) => found.push((one, measure)),
            None => missing.push(Missing {
                artifact: one.artifact.clone(),
                manifest: one.manifest,
                reason: why_missing(one, metric),
            }),
        }
    }
    let value = |(_, measure): &(&ScoredView, &Measure)| measure.value.to_f64();
    found.sort_by(|a, b| {
        let by_value = value(a).total_cmp(&value(b));
        let by_value = if more_is_better {
            by_value.reverse()
        } else {
            by_value
        };
        by_value.then_with(|| (&a.0.artifact, a.0.entry).cmp(&(&b.0.artifact, b.0.entry)))
    });
    let first_of = |at: usize| {
        found
            .iter()
            .position(|one| value(one) == value(&found[at]))
            .unwrap_or(at)
    };
    let places = found.iter().enumerate().map(|(at, (one, measure))| Place {
        rank: first_of(at) as u64 + 1,
        tied: found
            .iter()
            .filter(|other| value(other) == measure.value.to_f64())
            .count()
            > 1,
        artifact: one.artifact.clone(),
        manifest: one.manifest,
        suite: one.suite,
        precision: one.precision.clone(),
        value: measure.value,
        standard_error: measure.standard_error,
    });
    Board {
        task: task.map(str::to_owned),
        metric: metric.to_owned(),
        more_is_better,
        places: places.collect(),
        missing,
    }
}

fn results(one: &ScoredView) -> impl Iterator<Item = &Measure> {
    one.sections.iter().flat_map(|section| &section.results)
}

fn find<'a>(one: &'a ScoredView, task: Option<&str>, metric: &str) -> Option<&'a Measure> {
    results(one).find(|measure| measure.task.as_deref() == task && measure.metric == metric)
}

fn why_missing(one: &ScoredView, metric: &str) -> String {
    let mut reasons = one
        .sections
        .iter()
        .filter_map(|section| section.not_measured.as_ref());
    match reasons.next() {
        Some(reason) => format!("not measured because {reason}"),
        None => format!("{metric} was not measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waag_schema::Timestamp;
    use waag_schema::statement::scorecard::Section;

    fn scored(name: &str, results: Vec<Measure>) -> ScoredView {
        ScoredView {
            artifact: name.parse().unwrap(),
            manifest: Sha256::of(name.as_bytes()),
            suite: Sha256::of(b"suite"),
            entry: 1,
            recorded: Timestamp::from_unix(0),
            precision: "f32".to_owned(),
            sections: vec![Section::measured("language", results)],
        }
    }

    fn acc(value: f64) -> Measure {
        Measure::new("acc", Amount::Real(value)).of_task("arc")
    }

    fn bits(value: f64) -> Measure {
        Measure::new("bits_per_byte", Amount::Real(value)).of_task("wiki")
    }

    fn ranks(board: &Board) -> Vec<(u64, bool, &str)> {
        let place = |place: &'_ Place| (place.rank, place.tied);
        let all = board.places.iter();
        all.map(|one| (place(one).0, place(one).1, one.artifact.as_str()))
            .collect()
    }

    #[test]
    fn each_task_has_its_board_and_the_better_end_is_first() {
        let mut silent = scored("acme/silent", Vec::new());
        silent.sections = vec![Section::not_measured("language", "its architecture is unknown")];
        let all = [
            scored("acme/a", vec![acc(0.5), bits(1.5)]),
            scored("acme/b", vec![acc(0.75), bits(2.0)]),
            scored("acme/c", vec![acc(0.5)]),
            silent,
        ];
        let boards = rank(&all, None, None);
        let [arc, wiki] = boards.as_slice() else {
            panic!("{boards:?}")
        };
        assert_eq!(
            ranks(arc),
            [(1, false, "acme/b"), (2, true, "acme/a"), (2, true, "acme/c")]
        );
        assert_eq!(
            arc.missing[0].reason,
            "not measured because its architecture is unknown"
        );
        assert_eq!(ranks(wiki), [(1, false, "acme/a"), (2, false, "acme/b")]);
        assert_eq!(wiki.missing.len(), 2);
    }

    #[test]
    fn what_nobody_measured_ranks_nobody() {
        let all = [scored("acme/a", vec![acc(0.5)])];
        let boards = rank(&all, Some("f1"), Some("arc"));
        assert_eq!((boards[0].places.len(), boards[0].missing.len()), (0, 1));
        assert_eq!(rank(&[], None, None), []);
    }
}
