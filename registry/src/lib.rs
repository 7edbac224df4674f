//! A waag site: store, content, ledger, index, publish, and the HTTP faces.
//!
//! Arrows between rooms go down only:
//!
//! ```text
//! http, fsck -> publish, evaluation, federation, content, access -> ledger, index -> store
//! ```
//!
//! [`site`] builds the rooms and is the only place that knows them all; [`serve()`] runs one site until it is
//! told to stop. Time and randomness enter through [`clock`] and [`random`].

pub mod access;
pub mod clock;
pub mod config;
pub mod content;
pub mod evaluation;
pub mod federation;
pub mod fsck;
pub mod http;
pub mod index;
pub mod ledger;
pub mod listen;
pub mod pool;
pub mod publish;
pub mod random;
pub mod serve;
pub mod site;
pub mod store;
pub mod telemetry;
pub mod turns;
pub mod vault;

pub use serve::{Ready, ServeError, ServeOptions, serve};
pub use site::{Site, SiteError};
