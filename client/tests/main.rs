//! The client against a real site in this process, over a real socket on this machine.
#![allow(
    clippy::unwrap_used,
    reason = "what the tests set up must work, helpers included"
)]

mod choosing;
mod faults;
mod proving;
mod proxy;
mod pulling;
mod pushing;
mod tls;
mod trusting;
mod world;
