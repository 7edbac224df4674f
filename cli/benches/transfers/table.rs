//! One table of all that was measured, in Markdown, so that it can stand in a document as it is.

use super::process::Cost;

#[derive(Default)]
pub(crate) struct Table {
    lines: Vec<String>,
}

pub(crate) struct Row {
    cells: [String; 6],
}

pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

impl Row {
    pub(crate) fn of(label: &str, cost: &Cost, bytes: u64) -> Self {
        Self {
            cells: [
                label.to_owned(),
                format!("{:.2}", cost.wall.as_secs_f64()),
                format!("{:.2}", cost.rate(bytes)),
                format!("{:.2} + {:.2}", cost.client_cpu, cost.server_cpu),
                format!("{}", cost.peak_kib / 1024),
                String::new(),
            ],
        }
    }

    pub(crate) fn note(mut self, note: String) -> Self {
        self.cells[5] = note;
        self
    }
}

impl Table {
    pub(crate) fn section(&mut self, title: &str) {
        println!("... {title}");
        self.lines.push(format!(
            "\n**{title}**\n\n| what | s | GB/s | CPU s, client + server | peak MiB | |\n| --- | ---: | ---: | ---: | ---: | --- |"
        ));
    }

    pub(crate) fn row(&mut self, row: &Row) {
        let line = format!("| {} |", row.cells.join(" | "));
        println!("{line}");
        self.lines.push(line);
    }

    pub(crate) fn line(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        self.line(format!("| {what} | skipped: {why} | | | | |"));
    }

    pub(crate) fn print(&self) {
        println!("\n{}", self.lines.join("\n"));
    }
}
