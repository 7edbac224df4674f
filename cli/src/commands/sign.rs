//! `waag sign`, and what it has in common with every command that has an `--out`: files that wait for signatures.

use std::path::{Path, PathBuf};

use serde::Serialize;
use waag_client::draft::{self, Draft, Standing, Submitted};
use waag_client::error::ClientError;
use waag_client::site::Site;

use super::{open_site, secrets};
use crate::args::Sign;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Bytes, Page, Report, Ui};

/// Files that are shown to a person before it is only said how many more there are.
const FILES_SHOWN: usize = 20;

pub(crate) async fn run(args: Sign, config: &Config, ui: Ui) -> Result<(), Failure> {
    let mut draft = Draft::read(&args.file, &config.home)?;
    let before = draft.standing()?;
    // What is complete takes no more signatures.
    if !before.complete {
        // A signature is asked for what it says, not for a file's name.
        let mut page = Page::default();
        contents(&mut page, &before);
        ui.lines(page.to_string().trim_end());
        if !args.yes && ui.can_ask() && !ui.confirm("sign this?")? {
            return Err(Failure::failed("nothing was signed"));
        }
        let keys = secrets::signers(&args.signing, config, ui)?;
        if draft.sign(&keys).map_err(stranger)? == 0 {
            ui.warn("these keys have signed it already; it is another owner's turn");
        } else {
            draft.write(&args.file)?;
        }
    }
    if args.submit {
        let submitted = draft::submit(&open_site(config, ui)?, &draft).await;
        return ui.report(&Recorded(submitted.map_err(unsigned)?));
    }
    ui.report(&Waiting {
        file: args.file,
        standing: draft.standing()?,
        shown: !before.complete,
    })
}

/// What is signed so far lies in a file already.
fn unsigned(error: ClientError) -> Failure {
    match error {
        ClientError::Unsigned { .. } => Failure::from(error)
            .hint("pass the file on to the other owners: `waag sign FILE` adds what they sign"),
        other => other.into(),
    }
}

/// No `--out` would help whoever signs what others have begun.
fn stranger(error: ClientError) -> Failure {
    match error {
        ClientError::NotOwner { .. } => Failure::from(error)
            .hint("name an owner's key with --key; `waag namespace show NAMESPACE` lists them"),
        other => other.into(),
    }
}

/// Makes sure, before any work is done for it, that a file can be written there.
pub(super) fn check_place(out: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = out else { return Ok(()) };
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    if file.file_name().is_none() || file.is_dir() || parent.is_some_and(|parent| !parent.is_dir()) {
        let message = format!("{} is no place for a file", file.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(())
}

/// Writes what was begun here to its file, and says how far it has come.
pub(super) fn keep(file: PathBuf, draft: &Draft, ui: Ui) -> Result<(), Failure> {
    draft.write(&file)?;
    ui.report(&Waiting {
        file,
        standing: draft.standing()?,
        shown: false,
    })
}

/// Has a file recorded that enough have signed.
pub(super) async fn submit(site: &Site, draft: &Draft, ui: Ui) -> Result<(), Failure> {
    ui.report(&Recorded(draft::submit(site, draft).await?))
}

/// Reads a file that waits for signatures of this namespace.
pub(super) fn read(
    file: &Path,
    namespace: &waag_schema::Namespace,
    config: &Config,
) -> Result<Draft, Failure> {
    let draft = Draft::read(file, &config.home)?;
    if draft.namespace() == namespace {
        return Ok(draft);
    }
    Err(Failure::usage(format!(
        "{} is for the namespace `{}`, not `{namespace}`",
        file.display(),
        draft.namespace()
    )))
}

/// What would be recorded, for whoever is to sign it.
fn contents(page: &mut Page, standing: &Standing) {
    page.fact(standing.kind, &standing.subject);
    for line in &standing.says {
        page.fact("", line);
    }
    for file in standing.files.iter().take(FILES_SHOWN) {
        page.fact(
            "file",
            format_args!("{}  {}  {}", file.path, Bytes(file.bytes), file.sha256),
        );
    }
    if let Some(more) = standing
        .files
        .len()
        .checked_sub(FILES_SHOWN)
        .filter(|more| *more > 0)
    {
        page.fact("", format_args!("and {more} more, which --json lists"));
    }
}

#[derive(Serialize)]
struct Waiting {
    file: PathBuf,
    #[serde(flatten)]
    standing: Standing,
    /// Whether a person has just been shown what it says.
    #[serde(skip)]
    shown: bool,
}

impl Report for Waiting {
    fn page(&self, page: &mut Page) {
        let Self {
            file,
            standing,
            shown,
        } = self;
        page.fact("draft", file.display());
        if !shown {
            contents(page, standing);
        }
        for part in &standing.parts {
            for quorum in &part.quorums {
                page.fact("signed", format_args!("{}: {quorum}", part.kind));
            }
        }
        page.line(if standing.complete {
            "Enough have signed: `waag sign FILE --submit` has it recorded."
        } else if standing.parts.first().is_some_and(|first| first.complete) {
            "It is another owner's turn: `waag sign FILE` adds what they sign next."
        } else {
            "More must sign: `waag sign FILE` adds a signature."
        });
    }

    fn essential(&self) -> String {
        if self.standing.complete {
            "complete"
        } else {
            "incomplete"
        }
        .to_owned()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Recorded(Submitted);

impl Report for Recorded {
    fn page(&self, page: &mut Page) {
        page.fact("recorded", format_args!("{} of {}", self.0.kind, self.0.subject));
        page.fact("entry", self.0.entry);
    }

    fn essential(&self) -> String {
        self.0.entry.to_string()
    }
}
