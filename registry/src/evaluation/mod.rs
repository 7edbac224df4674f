//! Weighing: what is measured on an artifact's files, and how a site comes to say it.
//!
//! [`Weighing`] takes files as they are read, from wherever, and knows no site; [`directory`] reads them from this
//! disk, the weigher from the site's store, chunk by chunk and each checked against its digest. What there is to
//! weigh is derived from the ledger: releases without a scorecard of this [`engine`]. So a crash loses the work under way
//! and nothing else.
//!
//! Budget: every byte is read once, on one thread of lower priority; memory is a few chunks and a row for each tensor.

mod asking;
pub mod directory;
mod energy;
mod jobs;
pub mod language;
mod leases;
mod lineage;
mod progress;
mod running;
mod source;
pub mod speed;
pub mod suite;
mod tensors;
mod weigher;
mod weights;
pub mod worker;

use waag_kernels::pass;
use waag_schema::Sha256;
use waag_schema::content::safetensors::SafetensorsError;
use waag_schema::statement::scorecard::{Device, Harness, Section};

pub(crate) use asking::{Suites, read_suite};
pub(crate) use jobs::JobsError;
pub(crate) use leases::Leases;
pub use progress::Progress;
pub use waag_kernels::language::{LanguageError, Options, Precision, Residency, TaskScore};
pub(crate) use weigher::Weigher;
pub use weights::{Weighed, Weighing};

/// The version of all that stands in a scorecard: raised, releases are weighed again.
const REVISION: u32 = 1;

/// How numbers are computed in the sections that there are: in integers, the same bits everywhere.
pub const PRECISION: &str = "exact";

/// A file cannot be weighed.
#[derive(Debug, thiserror::Error)]
pub enum WeighError {
    /// It is no safetensors file.
    #[error("{path}: {error}")]
    Safetensors {
        /// The file.
        path: String,
        /// What is wrong.
        error: SafetensorsError,
    },
    /// Its bytes are not those that its header describes.
    #[error("{path}: {reason}")]
    Bytes {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Returns what measures here.
#[must_use]
pub fn engine() -> Harness {
    let sources = pass::SOURCES.concat();
    Harness {
        name: "waag".to_owned(),
        version: format!("{REVISION}.{}", pass::REVISION),
        digest: Sha256::of(sources.as_bytes()),
    }
}

/// Returns what it runs on.
#[must_use]
pub fn device() -> Device {
    Device {
        class: "cpu".to_owned(),
        name: Some(std::env::consts::ARCH.to_owned()),
        worker: None,
    }
}

/// Returns the sections that are measured only when they are asked for.
fn unmeasured() -> [Section; 2] {
    [
        Section::not_measured("language", "no suite was asked for"),
        Section::not_measured(speed::SECTION, "it was not asked for"),
    ]
}
