//! The only place that prints: results on standard output, everything else on standard error.
//!
//! ```text
//!                 standard output                       standard error
//! human           a result in a few aligned lines       progress, messages, errors with a hint
//! --quiet         its essential, one word or line       errors
//! --json          one object on one line                errors as {"error": {code, message, ...}}
//! ```
//! Text that came from elsewhere may hold anything: control characters never reach the terminal as they are, and a
//! message is one line. Only what is told to be [lines](Ui::lines) has more.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::Global;
use crate::failure::Failure;

/// What a command found out or did. Serialised, it is the answer of `--json`: its field names are an interface.
pub(crate) trait Report: Serialize {
    /// Writes it for a person.
    fn page(&self, page: &mut Page);

    /// Returns what a script wants most: the answer of `--quiet`.
    fn essential(&self) -> String;
}

/// How to talk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    verbose: bool,
    colour: bool,
}

impl Ui {
    /// Talks as the command line asks for; `colour` says whether the environment allows colours.
    pub(crate) fn new(global: &Global, colour: bool) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose > 0,
            colour: colour && io::stderr().is_terminal(),
        }
    }

    /// Talks to a program whose command line was not understood.
    pub(crate) const fn json() -> Self {
        Self {
            json: true,
            quiet: false,
            verbose: false,
            colour: false,
        }
    }

    /// Says whether messages and progress are wanted.
    pub(crate) const fn talks(self) -> bool {
        !self.json && !self.quiet
    }

    /// Says whether only the essential is wanted.
    #[cfg(feature = "server")]
    pub(crate) const fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Says whether standard error takes colours.
    #[cfg(feature = "server")]
    pub(crate) const fn colours(self) -> bool {
        self.colour
    }

    /// Says whether details are wanted.
    pub(crate) const fn is_verbose(self) -> bool {
        self.verbose && self.talks()
    }

    /// Says whether somebody is there to be asked.
    pub(crate) fn can_ask(self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints a result.
    pub(crate) fn report(self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string(report)
                .map_err(|e| Failure::failed(format!("the result cannot be written: {e}")))?
        } else if self.quiet {
            harmless(&report.essential())
        } else {
            let mut page = Page::default();
            report.page(&mut page);
            harmless(&page.to_string())
        };
        print(text.trim_end_matches('\n'))
    }

    /// Prints text that is for a program, as it is.
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        written(io::stdout().lock().write_all(bytes))
    }

    /// Prints a part of a result as it comes; a program gets it with the rest.
    #[cfg(feature = "server")]
    pub(crate) fn tell(self, text: impl fmt::Display) -> Result<(), Failure> {
        if self.talks() {
            print(&harmless(&text.to_string()))
        } else {
            Ok(())
        }
    }

    /// Says something that is no result.
    pub(crate) fn note(self, text: impl fmt::Display) {
        if self.talks() {
            complain(&one_line(&text.to_string()));
        }
    }

    /// Says something of several lines, in which what came from elsewhere is on one line each.
    pub(crate) fn lines(self, text: impl fmt::Display) {
        if self.talks() {
            complain(&harmless(&text.to_string()));
        }
    }

    /// Says something that must not be missed.
    pub(crate) fn warn(self, text: impl fmt::Display) {
        if self.talks() {
            complain(&format!(
                "{} {}",
                self.painted("33;1", "warning:"),
                one_line(&text.to_string())
            ));
        }
    }

    /// Says why nothing came of it.
    pub(crate) fn error(self, failure: &Failure) {
        if self.json {
            complain(&failure.json());
        } else {
            complain(&self.told(failure));
        }
    }

    fn told(self, failure: &Failure) -> String {
        let mut text = format!(
            "{} {}",
            self.painted("31;1", "error:"),
            one_line(&failure.message)
        );
        for detail in &failure.details {
            text.push_str(&format!("\n  - {}", one_line(detail)));
        }
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{} {}", self.painted("36;1", "hint:"), one_line(hint)));
        }
        text
    }

    /// Asks a question on the terminal; only `y` and `yes` are a yes.
    pub(crate) fn confirm(self, question: &str) -> Result<bool, Failure> {
        let mut stderr = io::stderr().lock();
        let mut answer = String::new();
        write!(stderr, "{} [y/N] ", one_line(question))
            .and_then(|()| stderr.flush())
            .and_then(|()| io::stdin().read_line(&mut answer))
            .map_err(|e| Failure::failed(format!("the terminal cannot be asked: {e}")))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn painted(self, codes: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{codes}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Whoever reads may stop reading, as `head` does; that is no failure of ours.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// If standard error is gone there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Returns the text with every character escaped that shows nothing itself but changes how others are shown:
/// control characters but the line's end, other ends of lines, marks of direction, joiners of no width.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let unseen = |c: char| matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    for c in text.chars() {
        if (c.is_control() && c != '\n') || unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns the text on one line: what somebody else wrote shall not look like a line of ours.
fn one_line(text: &str) -> String {
    harmless(&text.replace('\n', "\\n"))
}

/// A result for a person: facts with their names in one column, tables, and plain lines.
#[derive(Debug, Default)]
pub(crate) struct Page {
    blocks: Vec<Block>,
}

#[derive(Debug)]
enum Block {
    Line(String),
    Facts(Vec<(String, String)>),
    Table(Vec<Vec<String>>),
}

impl Page {
    /// Adds a line.
    pub(crate) fn line(&mut self, text: impl fmt::Display) {
        self.blocks.push(Block::Line(one_line(&text.to_string())));
    }

    /// Adds text of several lines, as it is.
    pub(crate) fn text(&mut self, text: impl fmt::Display) {
        self.blocks.push(Block::Line(text.to_string()));
    }

    /// Adds a fact; neighbouring facts are aligned.
    pub(crate) fn fact(&mut self, name: &str, value: impl fmt::Display) {
        let fact = (name.to_owned(), one_line(&value.to_string()));
        if let Some(Block::Facts(facts)) = self.blocks.last_mut() {
            facts.push(fact);
        } else {
            self.blocks.push(Block::Facts(vec![fact]));
        }
    }

    /// Adds a fact if there is something to say.
    pub(crate) fn fact_if(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.fact(name, value);
        }
    }

    /// Adds a table with these headings.
    pub(crate) fn table<const N: usize>(
        &mut self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let head: Vec<String> = headings.iter().map(|h| h.to_uppercase()).collect();
        let rows = rows
            .into_iter()
            .map(|row| row.iter().map(|cell| one_line(cell)).collect());
        self.blocks
            .push(Block::Table(std::iter::once(head).chain(rows).collect()));
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for block in &self.blocks {
            match block {
                Block::Line(text) => writeln!(f, "{text}")?,
                Block::Facts(facts) => {
                    let width = facts
                        .iter()
                        .map(|(name, _)| name.chars().count())
                        .max()
                        .unwrap_or(0);
                    for (name, value) in facts {
                        writeln!(f, "{name:width$}  {value}")?;
                    }
                }
                Block::Table(rows) => table(f, rows)?,
            }
        }
        Ok(())
    }
}

fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A number of bytes for a person: three digits, binary units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

/// Behind a number of bytes, what they were on the way: raw, and encoded. Nothing where that saved nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded(pub(crate) u64, pub(crate) u64);

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(raw, wire) = *self;
        if wire < raw {
            write!(f, " as {}", Bytes(wire))?;
        }
        Ok(())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // From here on rounding would print four digits.
        while value >= 999.5 {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        write!(f, "{value:.decimals$} {}", UNITS[unit])
    }
}

/// A number with its noun: `1 file`, `3 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Several things in one line.
pub(crate) fn listed<T: fmt::Display>(things: &[T]) -> String {
    let texts: Vec<String> = things.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1023 * 1024, "1.00 MiB"),
            (1_073_741_824, "1.00 GiB"),
            (140 << 30, "140 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn facts_and_tables_are_aligned() {
        let mut page = Page::default();
        page.fact("name", "acme/tiny");
        page.fact("a", 1);
        page.table(
            ["tag", "digest"],
            [
                ["latest".to_owned(), "x".to_owned()],
                ["1".to_owned(), "y".to_owned()],
            ],
        );
        assert_eq!(
            page.to_string(),
            "name  acme/tiny\na     1\nTAG     DIGEST\nlatest  x\n1       y\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\nc");
        assert_eq!(harmless("a\u{202e}b"), "a\\u{202e}b");
        let mut page = Page::default();
        page.fact("reason", "x\nverified  all");
        page.line("a\nb");
        assert_eq!(page.to_string(), "reason  x\\nverified  all\na\\nb\n");
    }

    #[test]
    fn what_others_wrote_breaks_no_line_of_an_error() {
        let forged = "no\nhint: rm -rf x\r\x1b[1A\u{2028}\u{202e}";
        let failure = Failure::failed(forged)
            .details(vec![forged.to_owned()])
            .hint(forged);
        let told = Ui::json().told(&failure);
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(!told.contains(['\r', '\x1b', '\u{2028}', '\u{202e}']), "{told}");
        assert!(
            told.starts_with("error: no\\nhint: rm -rf x\\r\\u{1b}[1A"),
            "{told}"
        );
    }
}
