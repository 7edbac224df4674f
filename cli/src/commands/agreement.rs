//! What other sites say to a scorecard: those whose ledgers the asked one follows, and those of `--against`.

use waag_client::SiteUrl;
use waag_client::scorecard::{Card, Opinion, second_opinion};
use waag_client::site::Site;
use waag_schema::ArtifactName;
use waag_schema::statement::agreement::{Agreement, Difference, Outcome, Verdict};

use super::scorecard::shown;
use super::settings;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Ui};

/// Asks these sites; fails if one of them disputes anything.
pub(super) async fn ask(
    urls: &[SiteUrl],
    artifact: &ArtifactName,
    card: &Card,
    config: &Config,
    ui: Ui,
) -> Result<Vec<Opinion>, Failure> {
    let mut opinions = Vec::with_capacity(urls.len());
    for url in urls {
        let site = Site::open(&config.home, url, None, &settings(config, ui))?;
        opinions.push(second_opinion(&site, artifact, card).await?);
    }
    let disputing: Vec<&Opinion> = opinions
        .iter()
        .filter(|opinion| opinion.verdict == Outcome::Disputed)
        .collect();
    if disputing.is_empty() {
        return Ok(opinions);
    }
    let lines = disputing.iter().flat_map(|opinion| {
        let disputed = opinion
            .agreements
            .iter()
            .filter(|one| matches!(one.verdict, Verdict::Disputed { .. }));
        disputed.map(|one| format!("{}: {}", opinion.site, line(one)))
    });
    let message = format!(
        "{} of {} other sites dispute what {} has measured on {artifact}@{}",
        disputing.len(),
        opinions.len(),
        card.site,
        card.manifest
    );
    Err(Failure::new(Exit::Verification, message)
        .details(lines.collect())
        .hint("`waag pull` and `waag weigh DIR` show on this machine who is right"))
}

pub(super) fn show(page: &mut Page, opinions: &[Opinion]) {
    for Opinion {
        site,
        card,
        proven,
        against,
        agreements,
        ..
    } in opinions
    {
        page.line("");
        let claimed = if *proven {
            ""
        } else {
            ", not proven: its key is not known here"
        };
        page.fact(
            "also by",
            format_args!("{site}, entry {}, {}{claimed}", card.entry, card.recorded),
        );
        let harness = &card.scorecard.harness;
        page.fact(
            "  engine",
            format_args!(
                "{} {} on {}, {}",
                harness.name, harness.version, card.scorecard.device.class, harness.digest
            ),
        );
        page.fact_if(
            "  suite",
            card.scorecard.suite.as_ref().map(|suite| &suite.artifact),
        );
        if against.is_none() {
            page.fact("  verdict", "nobody else has measured this");
        }
        for one in agreements {
            page.fact(&format!("  {}", one.section), said(&one.verdict));
        }
    }
}

fn line(one: &Agreement) -> String {
    format!("{} {}", one.section, said(&one.verdict))
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Confirmed {
            bit_for_bit: true, ..
        } => "confirmed, bit for bit".to_owned(),
        Verdict::Confirmed { greatest, .. } => match greatest {
            Some(greatest) => match greatest.tolerance {
                Some(stated) => format!("confirmed (within {stated}); {}", apart(greatest)),
                None => format!("confirmed within the tolerance; {}", apart(greatest)),
            },
            None => "confirmed".to_owned(),
        },
        Verdict::Disputed { greatest, differing } => {
            let more = if *differing > 1 {
                format!(", and {} more", differing - 1)
            } else {
                String::new()
            };
            format!("disputed: {}{more}", apart(greatest))
        }
        Verdict::Incomparable { reason } => format!("cannot be compared: {reason}"),
    }
}

fn apart(one: &Difference) -> String {
    let value = |amount| Option::map_or(amount, "nothing".to_owned(), shown);
    let task = one
        .task
        .as_ref()
        .map_or_else(String::new, |task| format!("{task} "));
    format!(
        "{task}{} is {} here and {} there",
        one.metric,
        value(one.ours),
        value(one.theirs)
    )
}

#[cfg(test)]
mod tests {
    use waag_schema::statement::scorecard::Amount;

    use super::*;

    #[test]
    fn a_verdict_says_the_tolerance_that_the_suite_states() {
        let mut greatest = Difference {
            task: Some("arc".to_owned()),
            metric: "acc".to_owned(),
            ours: Some(Amount::Real(0.5)),
            theirs: Some(Amount::Real(0.500_04)),
            relative: 8e-5,
            tolerance: Some(Amount::Real(1e-4)),
        };
        let confirmed = |greatest: &Difference| {
            said(&Verdict::Confirmed {
                bit_for_bit: false,
                greatest: Some(greatest.clone()),
            })
        };
        assert_eq!(
            confirmed(&greatest),
            "confirmed (within 1e-4); arc acc is 0.5 here and 0.50004 there"
        );
        greatest.tolerance = None;
        assert!(confirmed(&greatest).starts_with("confirmed within the tolerance; arc acc"));
    }
}
