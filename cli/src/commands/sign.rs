//! `waag sign`, and what it has in common with `waag namespace rotate`: files that wait for signatures.

use std::path::{Path, PathBuf};

use serde::Serialize;
use waag_client::draft::{self, Draft, Standing, Submitted};
use waag_client::namespace;
use waag_client::site::Site;

use super::{open_site, secrets};
use crate::args::Sign;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(args: Sign, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let mut draft = Draft::read(&args.file)?;
    let state = namespace::state(&site, draft.namespace()).await?;
    let before = draft.standing(&state)?;
    // A signature is asked for what it says, not for a file's name.
    ui.note(describe(&before));
    if !args.yes && ui.can_ask() && !ui.confirm("sign this?")? {
        return Err(Failure::failed("nothing was signed"));
    }
    let keys = secrets::signers(&args.signing, config, ui)?;
    draft.sign(&keys)?;
    let standing = draft.standing(&state)?;
    let signed = |standing: &Standing| standing.quorums.iter().map(|q| q.signed.len()).sum::<usize>();
    if signed(&standing) == signed(&before) {
        ui.warn("none of these keys adds a signature that counts");
    }
    draft.write(&args.file)?;
    if args.submit {
        return submit(&site, &draft, ui).await;
    }
    report(args.file, standing, ui)
}

/// Says how far a file has come.
pub(super) fn report(file: PathBuf, standing: Standing, ui: Ui) -> Result<(), Failure> {
    ui.report(&Waiting { file, standing })
}

/// Has a file recorded that enough have signed.
pub(super) async fn submit(site: &Site, draft: &Draft, ui: Ui) -> Result<(), Failure> {
    ui.report(&Recorded(draft::submit(site, draft).await?))
}

/// Reads a file that waits for signatures of this namespace.
pub(super) fn read(file: &Path, namespace: &waag_schema::Namespace) -> Result<Draft, Failure> {
    let draft = Draft::read(file)?;
    if draft.namespace() == namespace {
        return Ok(draft);
    }
    Err(Failure::usage(format!(
        "{} is for the namespace `{}`, not `{namespace}`",
        file.display(),
        draft.namespace()
    )))
}

fn describe(standing: &Standing) -> String {
    let mut text = format!("{} of {}", standing.kind, standing.subject);
    for line in &standing.says {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

#[derive(Serialize)]
struct Waiting {
    file: PathBuf,
    #[serde(flatten)]
    standing: Standing,
}

impl Report for Waiting {
    fn page(&self, page: &mut Page) {
        let Self { file, standing } = self;
        page.fact("file", file.display());
        page.fact(standing.kind, &standing.subject);
        for line in &standing.says {
            page.fact("", line);
        }
        for quorum in &standing.quorums {
            page.fact("signed", quorum);
        }
        page.line(if standing.complete {
            "Enough have signed: `waag sign FILE --submit` or `waag namespace submit NAMESPACE FILE` has it recorded."
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
