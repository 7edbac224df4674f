//! Jobs: what a compute node measures in a site's stead.
//!
//! A job is lent: the node that took it has it until its lease ends, and renews that while it works. What it hands in
//! is not signed; the site checks that it answers the job, and signs the scorecard itself.

use serde::{Deserialize, Serialize};

use crate::base::bytes::Base64;
use crate::base::digest::Sha256;
use crate::base::name::ArtifactName;
use crate::base::time::Timestamp;
use crate::statement::scorecard::{Device, Harness, Section, SuiteRelease};

/// The most bytes of details that a node may hand in.
pub const DETAILS_SIZE_MAX: usize = 64 << 20;
/// The most bytes of a reason why a job is given up.
pub const REASON_MAX: usize = 500;

/// Body of `POST /api/v1/jobs/take`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeRequest {
    /// What the node measures with; a job for another engine is not lent to it.
    pub engines: Vec<Harness>,
}

/// Answer of `POST /api/v1/jobs/take`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Taken {
    /// The job; none where there is nothing to do now.
    pub job: Option<Job>,
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Job {
    /// The lease, to be named in what follows.
    pub lease: String,
    /// When it ends unless it is renewed.
    pub until: Timestamp,
    /// How long each renewal holds, in seconds.
    pub seconds: u64,
    /// The artifact.
    #[schema(value_type = String)]
    pub artifact: ArtifactName,
    /// The release's manifest.
    pub manifest: Sha256,
    /// What to measure with.
    pub harness: Harness,
    /// How to compute.
    pub precision: String,
    /// The suite to ask; none: the weights are measured.
    pub suite: Option<SuiteRelease>,
    /// The base that the weights are compared with.
    pub base: Base,
    /// After how many seconds a suite is given up on this model.
    pub time: u64,
    /// How the model's speed is measured beside its weights; none: it is not. A node that does not know this leaves it
    /// out, and the scorecard says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<SpeedJob>,
}

/// How the speed of a model is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SpeedJob {
    /// How to compute: `f32` or `bf16`.
    pub precision: String,
    /// For how many seconds rounds are begun, 3,600 at most.
    pub seconds: u64,
}

/// What the weights of a release are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// With those of this release.
    Release {
        /// Its name.
        #[schema(value_type = String)]
        artifact: ArtifactName,
        /// Its manifest.
        manifest: Sha256,
    },
    /// With none, for this reason.
    None(String),
}

/// Body of `POST /api/v1/jobs/finish`: what was found, unsigned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// The lease of the job.
    pub lease: String,
    /// The release that was measured.
    #[schema(value_type = String)]
    pub artifact: ArtifactName,
    /// Its manifest.
    pub manifest: Sha256,
    /// What it was measured with.
    pub harness: Harness,
    /// On what; the site says whose it is.
    pub device: Device,
    /// How was computed.
    pub precision: String,
    /// The suite that was asked.
    pub suite: Option<SuiteRelease>,
    /// What was found.
    pub sections: Vec<Section>,
    /// The details; empty where there are none.
    pub details: Base64,
}

/// Answer of `POST /api/v1/jobs/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Renewed {
    /// When the lease ends now.
    pub until: Timestamp,
}

/// Body of `POST /api/v1/jobs/renew` and `POST /api/v1/jobs/give-up`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The lease.
    pub lease: String,
    /// Why the job failed, where it is given up because it did.
    #[serde(default)]
    pub reason: Option<String>,
}
