//! What a site does with other sites: it follows their ledgers, holds copies of their releases, and says so.
//!
//! ```text
//! charter -> sites -> follow (their ledgers, checked, copied, folded) -> mirror (closure, custody) -> catalogue
//! ```
//!
//! Invariants. Only sites of the charter are asked, at the addresses that it names. No byte moves before a verdict at
//! both ends. What was followed never goes back; what contradicts it is kept and ends the trust in that site. What is
//! held is what this site's own ledger says it holds.

mod erase;
mod fetch;
mod follow;
mod local;
mod mirror;
mod peer;
mod remote;
mod rules;
mod signed;
mod sites;

pub use fetch::FetchError;
pub use follow::{FollowError, Looked};
pub use local::LocalPeer;
pub use mirror::Mirrored;
pub use peer::{Peer, PeerError, PeerSite, SentChunk};
pub use remote::RemotePeer;
pub use rules::{RuleError, check as check_rule};
pub use signed::{Signed, SignedError};
pub(crate) use sites::SitesParts;
pub use sites::{Federation, SitesError};
