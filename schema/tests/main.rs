//! What this crate promises, checked from outside: against other implementations, golden values and noise.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests set up must work, helpers included"
)]

mod content;
mod federation;
mod ledger;
mod policy;
mod vectors;
