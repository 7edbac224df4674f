//! `waag worker`: jobs of a site, one after the other, measured on this machine.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use waag_client::Site;
use waag_client::error::ClientError;
use waag_client::job;
use waag_registry::evaluation::worker::{self as measuring, Release, WorkError};
use waag_registry::evaluation::{Computer, DeviceChoice};
use waag_schema::statement::scorecard::SuiteRelease;
use waag_schema::wire::job::{Base, FinishRequest, Job};
use waag_schema::{ArtifactName, Sha256};

use super::open_site;
use super::serve::Signals;
use super::weigh::no_device;
use crate::args::Worker;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

/// How long a worker waits where there is nothing to do, or the site does not answer.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// The file in a job's directory that its worker holds locked.
const LOCK: &str = "lock";

pub(crate) async fn run(args: Worker, config: &Config, ui: Ui) -> Result<(), Failure> {
    let computer = DeviceChoice::from(args.device)
        .open()
        .map_err(|why| no_device(args.device, &why))?;
    if let Some(why) = computer.fallback() {
        ui.note(format_args!("{why}: measuring on the processor"));
    }
    let site = open_site(config, ui)?;
    let scratch = args
        .scratch
        .unwrap_or_else(|| config.home.root().join("cache/work"));
    sweep(&scratch);
    let mut signals =
        Signals::new().map_err(|e| Failure::failed(format!("signals cannot be listened to: {e}")))?;
    loop {
        let taken = tokio::select! {
            taken = job::take(&site, measuring::engines()) => taken,
            () = signals.next() => return Ok(()),
        };
        match taken {
            Ok(Some(job)) => {
                let done = work(&site, &job, &scratch, &computer, &mut signals, ui).await?;
                let stopped = done.outcome == "given back";
                ui.report(&done)?;
                if args.once
                    && let Some(reason) = done.reason
                {
                    return Err(Failure::failed(format!(
                        "{} was not measured: {reason}",
                        done.artifact
                    )));
                }
                if args.once || stopped {
                    return Ok(());
                }
                continue;
            }
            Ok(None) if args.once => return ui.report(&Idle { job: None }),
            Ok(None) => {}
            // A site that is away comes back; what it refuses it will refuse again.
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Refused(_))) if !args.once => {
                ui.warn(format_args!("{error}"));
            }
            Err(error @ ClientError::Forbidden(_)) => {
                return Err(Failure::from(error).hint(
                    "`waag token create LABEL --scope weigh --namespace NAMESPACE` makes a token that may; `waag login URL --token-file FILE` keeps it",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        if tokio::time::timeout(ASKED_EVERY, signals.next()).await.is_ok() {
            return Ok(());
        }
    }
}

/// Does one job: hands in what was found, or gives the job back.
async fn work(
    site: &Site,
    job: &Job,
    scratch: &Path,
    computer: &Computer,
    signals: &mut Signals,
    ui: Ui,
) -> Result<Done, Failure> {
    ui.note(format_args!("measuring {}@{}", job.artifact, job.manifest));
    let measured = tokio::select! {
        measured = measure(site, job, scratch, computer) => measured,
        lost = keep(site, job) => Err(Trouble::Lost(lost)),
        () = signals.next() => Err(Trouble::Stopped),
    };
    let done = |outcome, reason| Done {
        artifact: job.artifact.clone(),
        manifest: job.manifest,
        suite: job.suite.clone(),
        outcome,
        reason,
    };
    let trouble = match measured {
        Ok(found) => match job::finish(site, &found).await {
            Ok(()) => return Ok(done("handed in", None)),
            Err(error @ ClientError::Conflict(_)) => Trouble::Lost(error),
            Err(error) => Trouble::Failed(error.to_string()),
        },
        Err(trouble) => trouble,
    };
    match trouble {
        // It is another's by now; the site knows.
        Trouble::Lost(error) => Ok(done("lost", Some(error.to_string()))),
        Trouble::Stopped => {
            job::give_up(site, job, None).await?;
            Ok(done("given back", None))
        }
        Trouble::Failed(reason) => {
            if let Err(error) = job::give_up(site, job, Some(reason.clone())).await {
                // Then its lease ends by itself.
                ui.warn(format_args!("the job could not be given back: {error}"));
            }
            Ok(done("failed", Some(reason)))
        }
    }
}

/// Why a job was not done.
enum Trouble {
    /// It cannot be done here.
    Failed(String),
    /// The lease is another's.
    Lost(ClientError),
    /// Somebody stopped the worker.
    Stopped,
}

impl From<WorkError> for Trouble {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Stopped => Self::Stopped,
            WorkError::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Renews the lease of a job until it is lost.
async fn keep(site: &Site, job: &Job) -> ClientError {
    let mut ticks = tokio::time::interval(Duration::from_secs(job.seconds.div_ceil(4).max(1)));
    loop {
        ticks.tick().await;
        match job::renew(site, job).await {
            Ok(_) => {}
            Err(
                error @ (ClientError::Conflict(_) | ClientError::Forbidden(_) | ClientError::Unauthorized(_)),
            ) => {
                return error;
            }
            // The site may be back before the lease ends; if not, the next answer says so.
            Err(_) => {}
        }
    }
}

/// Fetches what a job is about, and measures it.
async fn measure(
    site: &Site,
    job: &Job,
    scratch: &Path,
    computer: &Computer,
) -> Result<FinishRequest, Trouble> {
    let desk = Desk::make(scratch, &job.lease)
        .map_err(|e| Trouble::Failed(format!("{}: {e}", scratch.display())))?;
    let fetch = async |artifact: &ArtifactName, manifest: &Sha256, name: &str| {
        let path = desk.path.join(name);
        let manifest = job::fetch(site, artifact, manifest, path.clone()).await?;
        Ok::<_, Trouble>(Release { manifest, path })
    };
    let release = fetch(&job.artifact, &job.manifest, "release").await?;
    Ok(match &job.suite {
        Some(suite) => {
            let suite = fetch(&suite.artifact, &suite.manifest, "suite").await?;
            measuring::ask(job, release, suite.path, computer).await?
        }
        None => {
            let base = match &job.base {
                Base::Release { artifact, manifest } => Ok(fetch(artifact, manifest, "base").await?),
                Base::None(why) => Err(why.clone()),
            };
            measuring::weigh(job, release, base, computer).await?
        }
    })
}

/// A directory for one job, removed at its end.
struct Desk {
    path: PathBuf,
    /// Locked as long as the worker lives.
    _lock: File,
}

impl Desk {
    fn make(scratch: &Path, lease: &str) -> io::Result<Self> {
        // What the site calls a lease is no path that this machine goes by.
        let path = scratch.join(&Sha256::of(lease.as_bytes()).hex()[..32]);
        loop {
            fs::create_dir_all(&path)?;
            // Another worker that sweeps may take the directory for one that was left before it is locked.
            match hold(&path) {
                Ok(lock) if path.join(LOCK).exists() => return Ok(Self { path, _lock: lock }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Waits until nobody else holds a job's directory.
fn hold(path: &Path) -> io::Result<File> {
    let lock = File::create(path.join(LOCK))?;
    lock.lock()?;
    Ok(lock)
}

impl Drop for Desk {
    fn drop(&mut self) {
        // What cannot be removed is swept by the next worker.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what workers left that were killed, at whatever moment: also before they had locked it.
fn sweep(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let Ok(lock) = File::create(entry.path().join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            // Whoever cannot remove it leaves it to the next.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[derive(Serialize)]
struct Idle {
    /// Always null: there is none.
    job: Option<Job>,
}

impl Report for Idle {
    fn page(&self, page: &mut Page) {
        page.line("there is nothing to measure now");
    }

    fn essential(&self) -> String {
        String::new()
    }
}

/// What became of a job.
#[derive(Serialize)]
struct Done {
    artifact: ArtifactName,
    manifest: Sha256,
    suite: Option<SuiteRelease>,
    /// `handed in`, `given back`, `failed` or `lost`.
    outcome: &'static str,
    reason: Option<String>,
}

impl Report for Done {
    fn page(&self, page: &mut Page) {
        page.fact(self.outcome, format_args!("{}@{}", self.artifact, self.manifest));
        let suite = self.suite.as_ref().map(|suite| &suite.artifact);
        page.fact_if("suite", suite);
        page.fact_if("because", self.reason.as_ref());
    }

    fn essential(&self) -> String {
        self.manifest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_worker_left_is_swept_at_whatever_moment_it_died_and_what_is_held_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let left = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.join("release")).unwrap();
            path
        };
        // Killed before it was locked, and after.
        left("early");
        File::create(left("late").join(LOCK)).unwrap();
        fs::write(scratch.path().join("a file of somebody's"), "").unwrap();
        let held = Desk::make(scratch.path(), "a lease").unwrap();
        sweep(scratch.path());
        let names: std::collections::BTreeSet<_> = fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let expected = [scratch.path().join("a file of somebody's"), held.path.clone()];
        assert_eq!(names, expected.into());
        drop(held);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
