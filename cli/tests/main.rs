//! The tests of the `waag` package that go through its public face only, as one binary.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests set up must work, helpers included"
)]

mod asking;
mod bad_input;
mod charter;
mod comparing;
mod demo;
mod doctor;
mod end_to_end;
mod federation;
mod help;
mod independent;
mod kill;
mod ledger_commands;
mod namespaces;
mod ordinary;
mod owners;
mod packed;
mod rollback;
mod supply;
mod weighing;
mod world;
