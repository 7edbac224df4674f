//! `waag pull`

use std::path::PathBuf;

use serde::Serialize;
use waag_client::cache::{CACHE_MAX_BYTES, ChunkCache};
use waag_client::pull::{self, PullPlan, PullRequest, Pulled, Selection};
use waag_client::witnessed::WitnessedBy;
use waag_schema::FilePath;

use super::open_site;
use crate::args::Pull;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Bytes, Encoded, Page, Report, Ui, count, listed};

pub(crate) async fn run(args: Pull, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let directory = match args.directory {
        Some(directory) => directory,
        None => PathBuf::from(args.reference.artifact.last()),
    };
    let cache = (!args.no_cache).then(|| {
        let place = args
            .cache
            .unwrap_or_else(|| config.home.root().join("cache/chunks"));
        ChunkCache::new(place, CACHE_MAX_BYTES)
    });
    if let Some(Err(error)) = cache.as_ref().map(ChunkCache::check) {
        ui.warn(format_args!("{error}; this pull shares none with others"));
    }
    let request = PullRequest {
        withdrawn: args.withdrawn,
        selection: Selection {
            include: args.include,
            exclude: args.exclude,
            tensors: args.tensors,
        },
        reuse: args.reuse,
        cache,
        force: args.force,
        witnessed: args.witnessed,
        ..PullRequest::new(args.reference, directory.clone())
    };
    if args.dry_run {
        let plan = pull::plan(&site, &request).await?;
        warn_of_changed(&plan.changed_files, ui);
        return ui.report(&Planned {
            dry_run: true,
            plan,
            directory,
        });
    }
    let pulled = pull::pull(&site, &request).await?;
    warn_of_changed(&pulled.changed_files, ui);
    ui.report(&Done { pulled, directory })
}

/// What the release has no more, and somebody works on.
fn warn_of_changed(changed: &[FilePath], ui: Ui) {
    if !changed.is_empty() {
        let number = count(changed.len() as u64, "file");
        let named = listed(changed);
        ui.warn(format_args!(
            "{number} of an earlier pull, changed since, not in this release: {named}"
        ));
    }
}

#[derive(Serialize)]
struct Planned {
    /// Always true: nothing was written.
    dry_run: bool,
    #[serde(flatten)]
    plan: PullPlan,
    directory: PathBuf,
}

impl Report for Planned {
    fn page(&self, page: &mut Page) {
        let Self { plan, directory, .. } = self;
        match &plan.tag {
            Some(tag) => page.fact("would pull", format_args!("{}:{tag}", plan.name)),
            None => page.fact("would pull", &plan.name),
        }
        page.fact("digest", plan.digest);
        page.fact("into", directory.display());
        page.fact("files", files(plan.files, plan.release_files, plan.bytes));
        page.fact("to write", count(plan.write_files, "file"));
        let removed = (!plan.remove_files.is_empty()).then(|| listed(&plan.remove_files));
        page.fact_if("to remove", removed);
        page.fact(
            "to fetch",
            format_args!(
                "{} in {} of {}",
                Bytes(plan.fetch_bytes),
                plan.fetch_chunks,
                count(plan.chunks, "missing chunk")
            ),
        );
        let reused = plan.reused;
        for (bytes, why) in [
            (reused.in_place_bytes, "in place"),
            (reused.target_bytes, "in earlier or other files there"),
            (reused.named_bytes, "from --reuse"),
            (reused.cache_bytes, "from the cache"),
        ] {
            let text = format!("{} {why}", Bytes(bytes));
            page.fact_if("reused", (bytes > 0).then_some(text));
        }
    }

    fn essential(&self) -> String {
        self.plan.digest.to_string()
    }
}

/// Says how much of a release there is.
fn files(files: u64, of: u64, bytes: u64) -> String {
    if files == of {
        format!("{files}, {}", Bytes(bytes))
    } else {
        format!("{files} of {of}, {}", Bytes(bytes))
    }
}

/// Who has cosigned a ledger, each with its country.
pub(super) fn witnesses(by: &[WitnessedBy]) -> Option<String> {
    let named = by
        .iter()
        .map(|one| format!("{} ({})", one.name, one.jurisdiction));
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(", "))
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    pulled: Pulled,
    directory: PathBuf,
}

impl Report for Done {
    fn page(&self, page: &mut Page) {
        let Self { pulled, directory } = self;
        match &pulled.tag {
            Some(tag) => page.fact("pulled", format_args!("{}:{tag}", pulled.name)),
            None => page.fact("pulled", &pulled.name),
        }
        page.fact("digest", pulled.digest);
        page.fact("into", directory.display());
        page.fact("files", files(pulled.files, pulled.release_files, pulled.bytes));
        let removed = (pulled.removed_files > 0).then(|| {
            let number = count(pulled.removed_files, "file");
            format!("{number} that the release has no more")
        });
        page.fact_if("removed", removed);
        page.fact(
            "received",
            format_args!(
                "{}{} ({} reused)",
                Bytes(pulled.received_bytes),
                Encoded(pulled.received_bytes, pulled.wire_bytes),
                Bytes(pulled.reused_bytes)
            ),
        );
        page.fact("signed by", listed(&pulled.signed_by));
        page.fact("entry", pulled.entry);
        page.fact_if("witnessed by", witnesses(&pulled.witnessed_by));
    }

    fn essential(&self) -> String {
        self.pulled.digest.to_string()
    }
}
