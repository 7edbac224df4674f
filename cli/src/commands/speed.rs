//! How the section `speed` reads: a row for the prompt and one for what follows, beside what the machine could do.

use waag_schema::statement::scorecard::{Amount, Section};

use super::scorecard::{bar, shown, thousands};
use crate::ui::Page;

pub(super) fn show(page: &mut Page, section: &Section) {
    let precisions: Vec<&str> = section
        .results
        .iter()
        .filter_map(|m| m.metric.strip_prefix("decode_tokens_per_second."))
        .collect();
    let count = |metric: &str| section.result(metric).map(shown).unwrap_or_default();
    page.line("");
    page.fact(
        "speed",
        format_args!(
            "{} threads, a prompt of {} tokens, {} bytes read for each token after it",
            count("threads"),
            count("prompt_tokens"),
            count("pass_bytes")
        ),
    );
    for precision in &precisions {
        let energy = ["prefill", "decode"].map(|what| {
            let metric = format!("{what}_joules_per_1000_tokens.{precision}");
            Some(format!("{} J {what}", shown(section.result(&metric)?)))
        });
        let energy: Vec<String> = energy.into_iter().flatten().collect();
        let missing = section.missing.first();
        page.fact_if(
            "energy",
            match (energy.is_empty(), missing) {
                (false, _) => Some(format!("{} for 1,000 tokens, {precision}", energy.join(", "))),
                (true, Some(one)) => Some(format!("not measured because {}", one.reason)),
                (true, None) => None,
            },
        );
    }
    let rows = precisions.iter().flat_map(|precision| {
        let real = move |metric: &str| {
            let found = section.result(&format!("{metric}.{precision}"));
            found.map_or(0.0, Amount::to_f64)
        };
        let row = |what: &str, rate: f64, of: (f64, &str), share: f64| {
            [
                format!("{what}, {precision}"),
                tokens(rate),
                format!("{:.1} {}", of.0 / 1e9, of.1),
                format!("{:.0} %", 100.0 * share),
                bar(share),
            ]
        };
        [
            row(
                "prefill",
                real("prefill_tokens_per_second"),
                (real("prefill_flop_per_second"), "GFLOP/s"),
                real("prefill_of_peak"),
            ),
            row(
                "decode",
                real("decode_tokens_per_second"),
                (real("decode_bytes_per_second"), "GB/s"),
                real("decode_of_read"),
            ),
        ]
    });
    page.line("");
    page.table(["", "tokens/s", "which is", "of the machine's", ""], rows);
}

/// A rate for a person: three digits or so.
fn tokens(rate: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is neither negative nor beyond 2^63"
    )]
    match rate {
        rate if rate >= 100.0 => thousands(rate.round() as u64),
        rate if rate >= 10.0 => format!("{rate:.1}"),
        rate => format!("{rate:.2}"),
    }
}
