//! `waag leaderboard`: a site's releases, ranked by what they scored on a suite.

use serde::Serialize;
use waag_client::leaderboard::{self, Board};
use waag_schema::ArtifactName;
use waag_schema::statement::scorecard::Amount;

use super::open_site;
use super::scorecard::{bar, shown};
use crate::args::Leaderboard;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui};

/// Of a digest, as many characters as tell releases apart.
const DIGEST_SHOWN: usize = 19;

pub(crate) async fn run(args: Leaderboard, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let (scored, more) = leaderboard::scored(&site, &args.suite).await?;
    if scored.is_empty() {
        let message = format!(
            "nothing here that this token may read was weighed on {}",
            args.suite
        );
        return Err(Failure::new(Exit::NotFound, message).hint(
            "waag.toml names the suites that a site weighs on; `waag scorecard REF` shows what it has",
        ));
    }
    let boards = leaderboard::rank(&scored, args.metric.as_deref(), args.task.as_deref());
    if more {
        ui.warn(format_args!(
            "only the newest {} scorecards are ranked",
            scored.len()
        ));
    }
    ui.report(&Ranked {
        suite: args.suite,
        boards,
    })
}

#[derive(Serialize)]
struct Ranked {
    suite: ArtifactName,
    boards: Vec<Board>,
}

impl Report for Ranked {
    fn page(&self, page: &mut Page) {
        page.fact("suite", &self.suite);
        for board in &self.boards {
            page.line("");
            page.fact("task", board.task.as_deref().unwrap_or("the whole suite"));
            page.fact(
                "ranked by",
                format_args!(
                    "{}, {} is better",
                    board.metric,
                    if board.more_is_better { "more" } else { "less" }
                ),
            );
            let value = |amount: Amount| amount.to_f64();
            let most = board
                .places
                .iter()
                .map(|one| value(one.value).abs())
                .fold(0.0, f64::max);
            let rows = board.places.iter().map(|one| {
                let error = one
                    .standard_error
                    .map_or_else(String::new, |e| format!(" ± {}", shown(e)));
                [
                    format!("{}{}", one.rank, if one.tied { "=" } else { "" }),
                    one.artifact.to_string(),
                    one.manifest.to_string().chars().take(DIGEST_SHOWN).collect(),
                    format!("{}{error}", shown(one.value)),
                    bar(value(one.value) / most),
                ]
            });
            page.table(["", "release", "digest", board.metric.as_str(), ""], rows);
            for one in &board.missing {
                page.fact("no place", format_args!("{}: {}", one.artifact, one.reason));
            }
        }
    }

    fn essential(&self) -> String {
        let best = self.boards.iter().filter_map(|board| board.places.first());
        let best: Vec<String> = best
            .map(|one| format!("{}@{}", one.artifact, one.manifest))
            .collect();
        best.join("\n")
    }
}
