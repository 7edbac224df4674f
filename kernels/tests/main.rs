//! The tests of this crate that go through its public face only, as one binary.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests set up must work, helpers included"
)]

mod language;
mod numbers;
