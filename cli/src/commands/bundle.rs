//! `waag bundle export | import`: releases carried across an air gap, from and to a stopped site's data directory.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use waag_registry::federation::{self, CarryError, ExportRequest, Exported, Imported, SitesError};
use waag_registry::serve::open_stopped;
use waag_registry::site::{OpenSite, Site};
use waag_registry::vault::VaultError;
use waag_registry::{ServeError, SiteError};
use waag_schema::wire::federation::{MirroredView, State};

use crate::args::{Bundle, BundleExport, BundleImport};
use crate::failure::{Exit, Failure};
use crate::ui::{Bytes, Page, Report, Ui};

pub(crate) async fn run(command: Bundle, ui: Ui) -> Result<(), Failure> {
    match command {
        Bundle::Export(args) => export(args, ui).await,
        Bundle::Import(args) => import(args, ui).await,
    }
}

/// Works with a stopped site, and ends it in order.
async fn with<T>(
    data: &Path,
    work: impl AsyncFnOnce(&Arc<Site>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let OpenSite { site, writer } = open_stopped(data).await.map_err(|error| not_open(&error))?;
    let done = work(&site).await;
    drop(site);
    // What was accepted is committed before this ends.
    writer
        .await
        .map_err(|error| Failure::failed(format!("the ledger's writer ended early: {error}")))?;
    done
}

async fn export(args: BundleExport, ui: Ui) -> Result<(), Failure> {
    let exported = with(&args.data, async |site| {
        let named =
            |of: &federation::PeerSite| of.id.as_str() == args.destination || of.name == args.destination;
        let destination = site.sites_of_charter().into_iter().find(named).ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("the charter of this site names no site `{}`", args.destination),
            )
            .hint("`waag charter adopt` takes a charter; `waag charter show` shows its sites")
        })?;
        let request = ExportRequest {
            destination,
            chosen: (!args.all).then_some(args.references),
            since: args.since,
            out: args.out.clone(),
        };
        federation::export(site, &request)
            .await
            .map_err(|error| failed(&error))
    })
    .await?;
    ui.report(&Written::new(&exported, &args.out))
}

async fn import(args: BundleImport, ui: Ui) -> Result<(), Failure> {
    let imported = with(&args.data, async |site| {
        site.join(site.sites_of_charter())
            .await
            .map_err(Failure::failed)?;
        federation::import(site, &args.file)
            .await
            .map_err(|error| failed(&error))
    })
    .await?;
    let wrong = wrong(&imported);
    ui.report(&Taken::from(imported))?;
    wrong.map_or(Ok(()), Err)
}

/// What an operator has to look at, if anything.
fn wrong(imported: &Imported) -> Option<Failure> {
    if imported.is_held() {
        return None;
    }
    let lines = |state: State| -> Vec<String> {
        let of = imported.releases.iter().filter(|view| view.state == state);
        of.map(line).collect()
    };
    let (refused, failed) = (lines(State::Refused), lines(State::Failed));
    if failed.is_empty() && imported.unknown.is_empty() && !refused.is_empty() {
        let text = "labels deny this site to hold releases of the bundle";
        return Some(Failure::new(Exit::Refused, text).details(refused));
    }
    let unknown = imported.unknown.iter();
    let unknown = unknown.map(|one| format!("{}@{}: not in its ledger", one.artifact, one.manifest));
    let details: Vec<String> = failed.into_iter().chain(unknown).chain(refused).collect();
    Some(
        Failure::new(Exit::Verification, "not all of the bundle is held here now")
            .details(details)
            .hint("a bundle that was made with --since needs the one before it first"),
    )
}

fn line(view: &MirroredView) -> String {
    let reason = view.reason.as_deref().unwrap_or_default();
    format!("{}@{}: {reason}", view.artifact, view.manifest)
}

fn not_open(error: &ServeError) -> Failure {
    let ServeError::Site(site) = error else {
        return Failure::failed(error);
    };
    match site.as_ref() {
        SiteError::Vault(VaultError::NoSite(_)) => {
            Failure::new(Exit::NotFound, error).hint("--data names the directory that `waag serve` was given")
        }
        SiteError::Vault(VaultError::InUse(_)) => Failure::failed(error).hint("stop the site first"),
        _ => Failure::failed(error),
    }
}

fn failed(error: &CarryError) -> Failure {
    let exit = match error {
        CarryError::Bundle { .. } => Exit::Verification,
        CarryError::Sites(error) if matches!(**error, SitesError::Follow(_)) => Exit::Verification,
        CarryError::Sites(error) if matches!(**error, SitesError::NoPeer(_)) => Exit::NotFound,
        CarryError::Denied { .. } => Exit::Refused,
        CarryError::NotFound(_) => Exit::NotFound,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, error);
    match error {
        CarryError::Bundle { .. } => {
            failure.hint("nothing of it was taken: copy it again from where it was made")
        }
        CarryError::Sites(error) if matches!(**error, SitesError::NoPeer(_)) => {
            failure.hint("`waag charter adopt` takes a charter that names both sites")
        }
        CarryError::Sites(error) if matches!(**error, SitesError::Follow(_)) => {
            failure.hint("a bundle that was made with --since needs the one before it first")
        }
        _ => failure,
    }
}

#[derive(Serialize)]
struct Written {
    bundle: String,
    entries: u64,
    releases: Vec<String>,
    left_out: Vec<String>,
    objects: u64,
    known: u64,
    bytes: u64,
}

impl Written {
    fn new(exported: &Exported, out: &Path) -> Self {
        let named =
            |one: &waag_schema::federation::bundle::Carried| format!("{}@{}", one.artifact, one.manifest);
        Self {
            bundle: out.display().to_string(),
            entries: exported.entries,
            releases: exported.releases.iter().map(named).collect(),
            left_out: exported
                .left_out
                .iter()
                .map(|one| format!("{}: {}", named(&one.release), one.reason))
                .collect(),
            objects: exported.objects,
            known: exported.known,
            bytes: exported.bytes,
        }
    }
}

impl Report for Written {
    fn page(&self, page: &mut Page) {
        page.fact("bundle", format_args!("{}, {}", self.bundle, Bytes(self.bytes)));
        page.fact("ledger", format_args!("{} entries", self.entries));
        page.fact("releases", self.releases.len());
        page.fact(
            "objects",
            format_args!("{} written, {} in the earlier bundle", self.objects, self.known),
        );
        for one in &self.left_out {
            page.fact("left out", one);
        }
    }

    fn essential(&self) -> String {
        self.bundle.clone()
    }
}

#[derive(Serialize)]
struct Taken {
    site: String,
    nothing_new: bool,
    charter: Option<u64>,
    entries: u64,
    fetched: u64,
    refused: u64,
    erased: u64,
    failed: u64,
    releases: Vec<MirroredView>,
}

impl From<Imported> for Taken {
    fn from(imported: Imported) -> Self {
        Self {
            nothing_new: imported.is_nothing_new(),
            site: imported.site.to_string(),
            charter: imported.charter,
            entries: imported.entries,
            fetched: imported.mirrored.fetched,
            refused: imported.mirrored.refused,
            erased: imported.mirrored.erased,
            failed: imported.mirrored.failed,
            releases: imported.releases,
        }
    }
}

impl Report for Taken {
    fn page(&self, page: &mut Page) {
        page.fact("of", &self.site);
        if self.nothing_new {
            page.line("nothing of it is new here");
            return;
        }
        page.fact_if(
            "charter",
            self.charter.map(|version| format!("version {version} adopted")),
        );
        page.fact("followed", format_args!("{} new entries", self.entries));
        page.fact("fetched", self.fetched);
        page.fact("refused", self.refused);
        page.fact("erased", self.erased);
        page.fact("failed", self.failed);
    }

    fn essential(&self) -> String {
        self.fetched.to_string()
    }
}
