//! Weighing: what is measured on an artifact's files, and how a site comes to say it.
//!
//! What looks at bytes of strangers holds no key: the weigher decides what is due, gives an order to a [`Bench`], which has
//! it carried out by another process ([`child`]), and signs what came back.
//!
//! - `jobs`, `answers`, `leases`, `weigher`, `asking`, `progress`: what there is to weigh, derived from the ledger (releases and copies
//!   without a scorecard of this [`engine`]), so that a crash loses the work under way and nothing else; and who does it.
//! - `record`: where what must be known of an artifact is recorded, here or at the home of a copy.
//! - `bench`, `line`, [`child`]: who carries it out, and what is said between the two.
//! - `measure`, [`Weighing`], `tensors`, `rows`, `lineage`, [`language`], [`suite`], `source`, [`directory`], [`worker`]: the numbers.
//! - `device`: what they are computed on.
//!
//! Budget: every byte is read once, on threads of lower priority; memory is a few chunks and a row for each tensor. A chunk
//! goes through a socket to the weigher, as it is stored: two copies.

mod answers;
mod asking;
mod bench;
pub mod child;
mod device;
pub mod directory;
mod energy;
mod jobs;
pub mod language;
mod leases;
mod line;
mod lineage;
mod measure;
mod progress;
mod record;
mod rows;
mod running;
mod source;
pub mod speed;
pub mod suite;
mod tensors;
mod weigher;
mod weights;
pub mod worker;

use waag_kernels::cuda::GpuError;
use waag_kernels::pass;
use waag_schema::Sha256;
use waag_schema::content::safetensors::SafetensorsError;
use waag_schema::statement::scorecard::{Harness, Section};

pub(crate) use asking::{Suites, read_suite};
pub use bench::{Bench, Program};
pub use device::{Computer, DeviceChoice};
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
    /// It has more tensors than are measured of a release.
    #[error("it has {tensors} tensors, too many")]
    TooMany {
        /// How many.
        tensors: u64,
    },
    /// The GPU on which it was measured has failed.
    #[error("{path}: {error}")]
    Gpu {
        /// The file.
        path: String,
        /// How.
        error: GpuError,
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

/// Returns the sections that are measured only when they are asked for.
fn unmeasured() -> [Section; 2] {
    [
        Section::not_measured("language", "no suite was asked for"),
        speed::unasked(),
    ]
}
