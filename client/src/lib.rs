//! A waag site seen from outside: pin it, push to it, pull from it, verify what came.
//!
//! The law of this crate: it never prints, never reads the environment and never ends the process. Paths,
//! addresses and secrets are arguments; progress goes to a callback as plain [events](event); errors say what
//! was tried and what was found. Nothing that a site says is believed further than its pinned key reaches.
//!
//! ```no_run
//! # async fn example() -> waag_client::Result<()> {
//! use waag_client::pull::{self, PullRequest};
//! use waag_client::{Home, Pinning, Secret, Settings, Site, SiteUrl, event, site, verify};
//!
//! let home = Home::new("/home/ada/.config/waag");
//! let url: SiteUrl = "http://127.0.0.1:7070".parse()?;
//! let token = Secret::new("waag_...");
//! site::login(&home, &url, &Pinning::Loopback, Some(&token), &Settings::default()).await?;
//!
//! let site = Site::open(&home, &url, None, &Settings::default())?;
//! let request = PullRequest::new("acme/tiny:1.0".parse().expect("a reference"), "out");
//! let pulled = pull::pull(&site, &request).await?;
//! let verified = verify::verify(&home, "out".as_ref(), &event::silent()).await?;
//! assert_eq!(pulled.digest, verified.digest);
//! # Ok(())
//! # }
//! ```
//!
//! Rooms, from the ground up:
//! ```text
//! home, keys, cache          what a person keeps on this disk
//! url, pace, line            where a site is, how much at once, over which connections
//! ask, transport, meaning,   requests, what their refusals mean, and what can be asked
//! site
//! search
//! trust, charter, proof      what is believed, and what a proof shows
//! ledger                     entries, proofs as files, the whole tree computed anew
//! scan, ignore, read,        which files there are, read once, the small ones of many as tars
//! packed, sources
//! scorecard, svr, leaderboard  what a site has measured, and says for others to read
//! mirror                     copies of other sites' releases, and who holds what
//! push, tag, label,          signing and sending
//! withdraw, namespace,
//! rotation, draft
//! listing, recipes, pull,    fetching, writing, and proving without a network
//! kept, verify, witnessed
//! job                        what a compute node takes, fetches and hands in
//! explain                    why something may be done somewhere
//! doctor                     what is wrong here and there
//! diff                       what two releases or directories have in common
//! ```

mod ask;
pub mod cache;
pub mod charter;
pub mod diff;
pub mod doctor;
pub mod draft;
pub mod error;
pub mod event;
pub mod explain;
pub mod home;
pub mod ignore;
pub mod job;
mod kept;
pub mod keys;
pub mod label;
pub mod leaderboard;
pub mod ledger;
mod line;
pub mod listing;
mod meaning;
pub mod mirror;
pub mod namespace;
mod pace;
pub mod packed;
pub mod proof;
pub mod pull;
pub mod push;
pub mod read;
mod recipes;
pub mod rotation;
mod said;
pub mod scan;
pub mod scorecard;
mod search;
mod sign;
pub mod site;
mod sources;
pub mod svr;
pub mod tag;
pub mod transport;
pub mod trust;
pub mod url;
pub mod verify;
pub mod withdraw;
pub mod witnessed;

pub use error::{ClientError, Result};
pub use event::{Event, Phase, Progress};
pub use home::{Home, Secret};
pub use keys::KeyChoice;
pub use scan::Links;
pub use site::Site;
pub use transport::Settings;
pub use trust::{Pinning, Trust};
pub use url::SiteUrl;
