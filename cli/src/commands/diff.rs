//! `waag diff`

use serde::Serialize;
use serde_json::Value;
use waag_client::diff::{self, ConfigDiff, Diff as Found, FileDiff, Side, Summary, TensorDiff};

use super::open_site;
use crate::args::Diff;
use crate::config::Config;
use crate::failure::Failure;
use crate::progress;
use crate::typed::Compared;
use crate::ui::{Bytes, Page, Report, Ui, count};

/// A value of a configuration is shown up to this many characters.
const VALUE_SHOWN: usize = 40;

pub(crate) async fn run(args: Diff, config: &Config, ui: Ui) -> Result<(), Failure> {
    let a = look_at(&args.a, config, ui).await?;
    let b = look_at(&args.b, config, ui).await?;
    ui.report(&Done(diff::diff(&a, &b).await?))
}

async fn look_at(what: &Compared, config: &Config, ui: Ui) -> Result<Side, Failure> {
    Ok(match what {
        Compared::Release(reference) => Side::of_release(&open_site(config, ui)?, reference).await?,
        Compared::Directory(path) => Side::of_directory(path, &progress::watch(ui)).await?,
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Found);

impl Report for Done {
    fn page(&self, page: &mut Page) {
        let Self(found) = self;
        page.fact("a", side(&found.a));
        page.fact("b", side(&found.b));
        page.fact(
            "shared",
            format_args!(
                "{}; only a {}, only b {}",
                Bytes(found.chunks.shared_bytes),
                Bytes(found.chunks.only_a_bytes),
                Bytes(found.chunks.only_b_bytes)
            ),
        );
        files(page, &found.files);
        if let Some(tensors) = &found.tensors {
            show_tensors(page, tensors);
        }
        if let Some(config) = &found.config {
            show_config(page, config);
        }
    }

    fn essential(&self) -> String {
        if self.0.same { "same" } else { "different" }.to_owned()
    }
}

fn side(side: &Summary) -> String {
    let digest = side
        .digest
        .map_or_else(String::new, |digest| format!("  {digest}"));
    format!(
        "{}  {}, {}{digest}",
        side.name,
        count(side.files, "file"),
        Bytes(side.bytes)
    )
}

fn files(page: &mut Page, files: &FileDiff) {
    page.line("");
    page.line(format_args!(
        "files: {} the same ({}), {} added, {} removed, {} changed",
        files.same,
        Bytes(files.same_bytes),
        files.added.len(),
        files.removed.len(),
        files.changed.len()
    ));
    let mut rows: Vec<[String; 4]> = Vec::new();
    for file in &files.added {
        rows.push(["added", &file.path, "-", &Bytes(file.bytes).to_string()].map(str::to_owned));
    }
    for file in &files.removed {
        rows.push(["removed", &file.path, &Bytes(file.bytes).to_string(), "-"].map(str::to_owned));
    }
    for file in &files.changed {
        let (a, b) = (Bytes(file.a_bytes).to_string(), Bytes(file.b_bytes).to_string());
        rows.push(["changed", &file.path, &a, &b].map(str::to_owned));
    }
    if !rows.is_empty() {
        page.table(["file", "path", "a", "b"], rows);
    }
}

fn show_tensors(page: &mut Page, tensors: &TensorDiff) {
    page.line("");
    let undecided = match tensors.undecided {
        0 => String::new(),
        number => format!(", {number} not compared"),
    };
    page.line(format_args!(
        "tensors: {} the same, {} added, {} removed, {} renamed, {} changed{undecided}",
        tensors.same,
        tensors.added.len(),
        tensors.removed.len(),
        tensors.renamed.len(),
        tensors.changed.len()
    ));
    let row = |what: &str, name: &str, more: &str| [what, name, more].map(str::to_owned);
    let mut rows: Vec<[String; 3]> = Vec::new();
    rows.extend(tensors.added.iter().map(|name| row("added", name, "")));
    rows.extend(tensors.removed.iter().map(|name| row("removed", name, "")));
    let renamed = tensors.renamed.iter();
    rows.extend(renamed.map(|one| row("renamed", &one.from, &format!("-> {}", one.to))));
    let changed = tensors.changed.iter();
    rows.extend(changed.map(|one| row("changed", &one.name, &one.what)));
    if !rows.is_empty() {
        page.table(["tensor", "name", ""], rows);
    }
}

fn show_config(page: &mut Page, config: &ConfigDiff) {
    page.line("");
    page.line(format_args!(
        "config.json: {} the same, {} different",
        count(config.same, "field"),
        config.fields.len()
    ));
    if config.is_same() {
        return;
    }
    let rows = config.fields.iter().map(|change| {
        [
            change.field.clone(),
            value(change.a.as_ref()),
            value(change.b.as_ref()),
        ]
    });
    page.table(["field", "a", "b"], rows);
}

fn value(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let text = value.to_string();
    if text.chars().count() <= VALUE_SHOWN {
        return text;
    }
    text.chars().take(VALUE_SHOWN).chain("...".chars()).collect()
}
