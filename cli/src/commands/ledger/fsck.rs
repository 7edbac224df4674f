//! `waag ledger fsck`: what a stopped site keeps, against its signed ledger.

use std::sync::Arc;

use serde::Serialize;
use waag_registry::fsck::{Finding, FsckError, Mode, Report as Looked, fsck};
use waag_registry::store::FsStore;
use waag_registry::vault::{Vault, VaultError};

use crate::args::LedgerFsck;
use crate::failure::{Exit, Failure};
use crate::ui::{Bytes, Page, Report, Ui, count};

pub(super) async fn run(args: LedgerFsck, ui: Ui) -> Result<(), Failure> {
    let mode = if args.repair { Mode::Repair } else { Mode::Check };
    // Opening a store tidies it up, which must not be done under a running site.
    drop(Vault::open(&args.data).map_err(|e| failed(&e.into()))?);
    let place = args.data.join("store");
    let store = FsStore::open(&place)
        .map_err(|e| Failure::failed(format!("cannot open {}: {e}", place.display())))?;
    let looked = fsck(&args.data, Arc::new(store), mode)
        .await
        .map_err(|e| failed(&e))?;
    if looked.is_whole() {
        return ui.report(&Whole::from(looked));
    }
    let number = count(
        looked.findings.iter().filter(|one| !one.repaired).count() as u64,
        "object",
    );
    let failure = Failure::new(
        Exit::Verification,
        format!(
            "{number} of {} not as the signed ledger says",
            args.data.display()
        ),
    );
    let failure = failure.details(looked.findings.iter().map(ToString::to_string).collect());
    Err(match mode {
        Mode::Check => {
            failure.hint("--repair writes again what can be derived; back the directory up before")
        }
        Mode::Repair => {
            failure.hint("what is left cannot be derived: push damaged content again, or restore a backup")
        }
    })
}

fn failed(error: &FsckError) -> Failure {
    match error {
        FsckError::Vault(VaultError::NoSite(_)) => {
            Failure::new(Exit::NotFound, error).hint("--data names the directory that `waag serve` was given")
        }
        FsckError::Vault(VaultError::InUse(_)) => {
            Failure::failed(error).hint("stop the site first, or check a copy of its directory")
        }
        _ => Failure::failed(error),
    }
}

#[derive(Serialize)]
struct Repaired {
    object: String,
    problem: String,
}

#[derive(Serialize)]
struct Whole {
    /// Always true: anything else is a failure.
    whole: bool,
    entries: u64,
    erased: u64,
    statements: u64,
    manifests: u64,
    details: u64,
    recipes: u64,
    chunks: u64,
    chunk_bytes: u64,
    /// What was put right.
    repaired: Vec<Repaired>,
}

impl From<Looked> for Whole {
    fn from(looked: Looked) -> Self {
        let repaired = looked
            .findings
            .into_iter()
            .map(|Finding { object, problem, .. }| Repaired { object, problem });
        Self {
            whole: true,
            entries: looked.entries,
            erased: looked.erased,
            statements: looked.statements,
            manifests: looked.manifests,
            details: looked.details,
            recipes: looked.recipes,
            chunks: looked.chunks,
            chunk_bytes: looked.chunk_bytes,
            repaired: repaired.collect(),
        }
    }
}

impl Report for Whole {
    fn page(&self, page: &mut Page) {
        page.fact(
            "entries",
            format_args!("{}, {} erased", self.entries, self.erased),
        );
        page.fact("statements", self.statements);
        page.fact("manifests", self.manifests);
        if self.details > 0 {
            page.fact("details", format_args!("of {}", count(self.details, "scorecard")));
        }
        page.fact("recipes", self.recipes);
        page.fact(
            "chunks",
            format_args!("{}, {}", self.chunks, Bytes(self.chunk_bytes)),
        );
        for one in &self.repaired {
            page.fact("repaired", format_args!("{}: {}", one.object, one.problem));
        }
        page.line("Everything is as the signed ledger says.");
    }

    fn essential(&self) -> String {
        "whole".to_owned()
    }
}
