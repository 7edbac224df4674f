//! Events of the client as something to watch: bars on a terminal, lines in a log, nothing for programs.
//!
//! A line is due each time another tenth of a phase is done, so a log has about ten lines a phase whatever its
//! size, and a stalled transfer shows as a line that does not come.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use waag_client::event::{Event, Phase, Progress, silent};

use crate::ui::{Bytes, Ui, count};

/// A phase below this size is over before anybody could read about it.
const LINES_FROM_BYTES: u64 = 64 << 20;
const BAR: &str =
    "{prefix:>10} {bar:30} {bytes:>11} of {total_bytes:<11} {bytes_per_sec:>13} {eta:>4}  {wide_msg}";

/// Returns what shows events in the way that suits where standard error goes.
pub(crate) fn watch(ui: Ui) -> Progress {
    if !ui.talks() {
        silent()
    } else if std::io::stderr().is_terminal() {
        let bars = Mutex::new(Bars::new());
        Arc::new(move |event| bars.lock().unwrap_or_else(PoisonError::into_inner).show(event))
    } else {
        let lines = Mutex::new(Lines::new(ui.is_verbose()));
        Arc::new(move |event| {
            let line = lines.lock().unwrap_or_else(PoisonError::into_inner).tell(event);
            if let Some(line) = line {
                ui.note(line);
            }
        })
    }
}

struct Bars {
    all: MultiProgress,
    open: HashMap<Phase, ProgressBar>,
    style: ProgressStyle,
}

impl Bars {
    fn new() -> Self {
        let style = ProgressStyle::with_template(BAR).expect("the template is constant and tested");
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            open: HashMap::new(),
            style: style.progress_chars("━╸ "),
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            // A bar of nothing only flickers.
            Event::Began { bytes: 0, .. } => {}
            Event::Began { phase, bytes, .. } => {
                let bar = self
                    .all
                    .add(ProgressBar::new(bytes).with_style(self.style.clone()));
                bar.set_prefix(phase.to_string());
                self.open.insert(phase, bar);
            }
            Event::Advanced { phase, bytes } => {
                if let Some(bar) = self.open.get(&phase) {
                    bar.inc(bytes);
                }
            }
            Event::Done { phase, path } => {
                if let Some(bar) = self.open.get(&phase) {
                    bar.set_message(path.escape_debug().to_string());
                }
            }
            Event::Ended { phase } => {
                if let Some(bar) = self.open.remove(&phase) {
                    bar.finish_and_clear();
                }
            }
            Event::Retrying { url, reason, wait } => {
                let text = retrying(&url, &reason, wait.as_secs_f64());
                // A bar that cannot be drawn has nobody who looks at it.
                let _ = self.all.println(text.escape_debug().to_string());
            }
        }
    }
}

fn retrying(url: &str, reason: &str, seconds: f64) -> String {
    format!("{url}: {reason}; trying again in {seconds:.1} s")
}

struct Lines {
    verbose: bool,
    open: HashMap<Phase, Stretch>,
}

struct Stretch {
    done: u64,
    total: u64,
    tenths: u64,
}

impl Lines {
    fn new(verbose: bool) -> Self {
        Self {
            verbose,
            open: HashMap::new(),
        }
    }

    /// Returns the line that is due, if one is.
    fn tell(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Began { phase, items, bytes } => {
                let stretch = Stretch {
                    done: 0,
                    total: bytes,
                    tenths: 0,
                };
                self.open.insert(phase, stretch);
                let noun = if phase == Phase::Send { "chunk" } else { "file" };
                let told = bytes >= LINES_FROM_BYTES || self.verbose;
                told.then(|| format!("{phase} {}, {}", count(items, noun), Bytes(bytes)))
            }
            Event::Advanced { phase, bytes } => {
                let stretch = self.open.get_mut(&phase)?;
                stretch.done = stretch.done.saturating_add(bytes).min(stretch.total);
                let percent = u128::from(stretch.done) * 100 / u128::from(stretch.total.max(1));
                let tenths = u64::try_from(percent / 10).unwrap_or(10);
                let due = tenths > stretch.tenths && stretch.total >= LINES_FROM_BYTES;
                stretch.tenths = tenths;
                due.then(|| {
                    format!(
                        "{phase} {percent} % ({} of {})",
                        Bytes(stretch.done),
                        Bytes(stretch.total)
                    )
                })
            }
            Event::Done { phase, path } => self.verbose.then(|| format!("{phase} {path}: done")),
            Event::Ended { phase } => {
                self.open.remove(&phase);
                None
            }
            Event::Retrying { url, reason, wait } => Some(retrying(&url, &reason, wait.as_secs_f64())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_can_be_drawn() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn a_log_gets_a_line_for_each_tenth() {
        let mut lines = Lines::new(false);
        let phase = Phase::Send;
        let began = Event::Began {
            phase,
            items: 300,
            bytes: 1 << 30,
        };
        assert_eq!(lines.tell(began).unwrap(), "sending 300 chunks, 1.00 GiB");
        let told: Vec<String> = (0..1024)
            .filter_map(|_| {
                lines.tell(Event::Advanced {
                    phase,
                    bytes: 1 << 20,
                })
            })
            .collect();
        assert_eq!(told.len(), 10);
        assert_eq!(told[0], "sending 10 % (103 MiB of 1.00 GiB)");
        assert_eq!(told[9], "sending 100 % (1.00 GiB of 1.00 GiB)");
    }

    #[test]
    fn what_is_over_at_once_is_not_worth_a_line() {
        let mut lines = Lines::new(false);
        let phase = Phase::Read;
        let began = Event::Began {
            phase,
            items: 1,
            bytes: 10,
        };
        assert_eq!(lines.tell(began), None);
        assert_eq!(lines.tell(Event::Advanced { phase, bytes: 10 }), None);
        assert_eq!(lines.tell(Event::Ended { phase }), None);
    }
}
