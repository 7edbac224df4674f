//! Jobs of a compute node: taken from a site under a lease, fetched, and handed in.
//!
//! What is measured comes by the ordinary pull, proven under the pinned key, as anybody's does.

use std::path::PathBuf;

use waag_schema::ArtifactName;
use waag_schema::Sha256;
use waag_schema::base::name::{Reference, Version};
use waag_schema::release::Manifest;
use waag_schema::statement::scorecard::Harness;
use waag_schema::wire::job::{FinishRequest, Job, LeaseRequest, Renewed, TakeRequest, Taken};

use crate::ask::Ask;
use crate::error::Result;
use crate::pull::{self, PullRequest};
use crate::site::Site;

/// A refusal or nothing.
const ANSWER_MAX: usize = 1 << 20;

/// Takes a job for one of these engines, if the site has one.
///
/// # Errors
/// When the token has not the scope `weigh`.
pub async fn take(site: &Site, engines: Vec<Harness>) -> Result<Option<Job>> {
    let ask = Ask::post("/api/v1/jobs/take", &TakeRequest { engines }).once();
    let taken: Taken = site.transport().json(ask).await?;
    Ok(taken.job)
}

/// Lets the lease of a job last from now on.
///
/// # Errors
/// When it is the caller's no more.
pub async fn renew(site: &Site, job: &Job) -> Result<Renewed> {
    let ask = Ask::post("/api/v1/jobs/renew", &lease(job, None));
    site.transport().json(ask).await
}

/// Gives a job back; with a reason where it failed.
///
/// # Errors
/// When it is the caller's no more.
pub async fn give_up(site: &Site, job: &Job, reason: Option<String>) -> Result<()> {
    let ask = Ask::post("/api/v1/jobs/give-up", &lease(job, reason)).once();
    site.transport().bytes(ask, ANSWER_MAX).await.map(drop)
}

/// Hands in what was found; the site signs it.
///
/// # Errors
/// When the job is the caller's no more, or this is no answer to it.
pub async fn finish(site: &Site, found: &FinishRequest) -> Result<()> {
    let ask = Ask::post("/api/v1/jobs/finish", found).once();
    let size = found.details.0.len() as u64;
    site.transport().bytes(ask.work(size), ANSWER_MAX).await.map(drop)
}

/// Fetches a release into this directory, every chunk checked, and returns its proven manifest.
///
/// # Errors
/// As for [`pull::pull`].
pub async fn fetch(
    site: &Site,
    artifact: &ArtifactName,
    manifest: &Sha256,
    target: PathBuf,
) -> Result<Manifest> {
    let version = Version::Manifest(*manifest);
    let proven = site.resolve(artifact, &version).await?;
    let reference = Reference {
        artifact: artifact.clone(),
        version,
    };
    let request = PullRequest {
        force: true,
        ..PullRequest::new(reference, target)
    };
    pull::pull(site, &request).await?;
    Ok(proven.manifest)
}

fn lease(job: &Job, reason: Option<String>) -> LeaseRequest {
    LeaseRequest {
        lease: job.lease.clone(),
        reason,
    }
}
