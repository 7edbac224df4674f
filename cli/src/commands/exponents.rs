//! How magnitudes of weights are spread, as a scorecard's details have it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::scorecard::bar;
use crate::ui::Page;

/// At most so many bars show how magnitudes are spread; neighbouring powers of two share one where there are more.
const BARS_MAX: i32 = 16;
/// Exponents at either end that together hold less than this share of the elements are not drawn.
const SHARE_CUT: f64 = 0.0005;

#[derive(Deserialize)]
struct Exponents {
    first: i32,
    counts: Vec<u64>,
}

/// The distribution of magnitudes, a bar for each power of two or for some neighbours.
pub(super) fn show(page: &mut Page, details: &Value) {
    let Ok(all) = BTreeMap::<String, Exponents>::deserialize(&details["exponents"]) else {
        return;
    };
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for of_type in all.values() {
        for (exponent, count) in (of_type.first..).zip(&of_type.counts) {
            *counts.entry(exponent).or_default() += count;
        }
    }
    let total = counts.values().sum::<u64>() as f64;
    let end = |counts: &mut dyn Iterator<Item = (&i32, &u64)>| {
        let mut cut = 0.0;
        let mut kept = counts.skip_while(|(_, count)| {
            cut += **count as f64;
            cut < SHARE_CUT * total
        });
        kept.next().map(|(exponent, _)| *exponent)
    };
    let (Some(first), Some(last)) = (end(&mut counts.iter()), end(&mut counts.iter().rev())) else {
        return;
    };
    let width = (last - first) / BARS_MAX + 1;
    let mut bars: BTreeMap<i32, u64> = BTreeMap::new();
    for (exponent, count) in counts.range(first..=last) {
        *bars
            .entry(first + (exponent - first) / width * width)
            .or_default() += count;
    }
    let most = bars.values().copied().max().unwrap_or(0) as f64;
    let rows = bars.iter().map(|(from, count)| {
        let count = *count as f64;
        let magnitude = match (*from + width - 1).min(last) {
            to if to == *from => format!("2^{from}"),
            to => format!("2^{from} to 2^{to}"),
        };
        [
            magnitude,
            format!("{:.1} %", 100.0 * count / total),
            bar(count / most),
        ]
    });
    page.line("");
    page.table(["magnitude", "share", ""], rows);
}
