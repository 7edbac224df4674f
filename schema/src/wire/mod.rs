//! The native API, `/api/v1`: its bodies, shared by client and registry so that the two cannot drift apart.
//!
//! JSON bodies are UTF-8; what is signed or hashed travels inside them as exact bytes in base64
//! ([`Base64`](crate::base::bytes::Base64)). Chunks travel in frames ([`crate::content::frame`]) under
//! [`FRAMES_TYPE`]. Refusals are a [`Problem`] with the status that `registry/src/http/problem.rs` gives.

pub mod artifact;
pub mod federation;
pub mod job;
pub mod leaderboard;
pub mod ledger;
pub mod problem;
pub mod request;
pub mod site;
pub mod token;
pub mod upload;

pub use problem::{Code, Problem};

/// Media type of a sequence of chunk frames.
pub const FRAMES_TYPE: &str = "application/vnd.waag.frames.v1";
/// The most bytes of frames in one request: enough to hide a round trip, little enough to repeat.
pub const FRAMES_SIZE_MAX: usize = 64 << 20;
/// The most chunks that one request may ask for.
pub const CHUNKS_ASKED_MAX: usize = 4096;

/// Returns the `ETag` of a checkpoint: what is asked for with it is sent only if it is another one by now.
#[must_use]
pub fn note_tag(note: &str) -> String {
    format!(
        "\"{}\"",
        &crate::base::digest::Sha256::of(note.as_bytes()).hex()[..32]
    )
}
