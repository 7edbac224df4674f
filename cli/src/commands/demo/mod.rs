//! `waag demo`: three sites on this machine, and what goes on between them, told with the commands that a person types.
//!
//! Nothing is acted: each line behind a `$` is run as it stands, by this same program, in a directory of its own with
//! homes of its own, and what it prints is what is shown. Where a step ends otherwise than the story says, the demo
//! fails there. Everything is gone afterwards, unless `--keep` names where it shall stay.

mod model;
mod sites;
mod story;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::sites::Running;
use self::story::{Told, tell};
use crate::args::Demo;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

/// The sites of the demo, with where they are; two in the EU, one in the EEA.
const SITES: [(&str, &str); 3] = [("stuttgart", "DE"), ("bologna", "IT"), ("oslo", "NO")];

pub(crate) fn run(args: Demo, ui: Ui) -> Result<(), Failure> {
    let place = Place::make(args.keep)?;
    model::write(&place.path.join("model")).map_err(|e| failed("write a model", &place.path, &e))?;
    let mut running = Vec::new();
    for (name, country) in SITES {
        running.push(Running::start(&place.path, name, country)?);
    }
    let told = tell(&place.path, &running, ui)?;
    drop(running);
    ui.report(&Done {
        steps: told,
        kept: place.kept.then(|| place.path.display().to_string()),
    })
}

/// Where the demo happens.
struct Place {
    path: PathBuf,
    kept: bool,
}

impl Place {
    fn make(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let kept = keep.is_some();
        let own = || std::env::temp_dir().join(format!("waag-demo-{}", std::process::id()));
        let path = keep.unwrap_or_else(own);
        // Neither is anything there: what is written here belongs to the demo alone.
        std::fs::create_dir(&path).map_err(|e| failed("make the directory", &path, &e))?;
        let path = path
            .canonicalize()
            .map_err(|e| failed("find the directory", &path, &e))?;
        Ok(Self { path, kept })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            // What is left in the system's temporary directory harms nobody.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("the demo could not {what} {}: {error}", path.display()))
}

#[derive(Serialize)]
struct Done {
    steps: Vec<Told>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

impl Report for Done {
    fn page(&self, page: &mut Page) {
        page.line(format_args!(
            "{} commands, each of which did what the story says.",
            self.steps.len()
        ));
        if let Some(kept) = &self.kept {
            page.line(format_args!(
                "Everything is in {kept}; the sites have been stopped."
            ));
        }
    }

    fn essential(&self) -> String {
        self.steps.len().to_string()
    }
}
