//! The promises of a site, checked through its rooms and through HTTP. One binary.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests set up must work, helpers included"
)]

mod charter;
mod content;
mod erasure;
mod failure_table;
mod federation;
mod fsck;
mod http;
mod jobs;
mod leaderboard;
mod listen;
mod openapi;
mod packed;
mod publish;
mod rebuild;
mod rollback;
mod sets;
mod simulation;
mod store;
mod suites;
mod tidy;
mod tls;
mod weigher;
mod weighing;
mod world;
