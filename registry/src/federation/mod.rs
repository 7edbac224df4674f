//! What a site does with other sites: it follows their ledgers, holds copies of their releases, and says so.
//!
//! ```text
//! charter -> sites -> follow (their ledgers, checked, copied, folded) -> mirror (closure, custody) -> catalogue
//!                        └-> witness (cosigned, handed back) -> cosigned (lines under the own checkpoints)
//! exchange: what others have seen of third sites, held against what is followed here
//! challenge: do others have what they say they hold? give_up: then a copy here may go
//! bundle: the same from a file, where there is no network
//! ```
//!
//! Invariants. Only sites of the charter are asked, at the addresses that it names. No byte moves before a verdict at
//! both ends. What was followed never goes back; what contradicts it is kept and ends the trust in that site. What is
//! held is what this site's own ledger says it holds. A site without a charter is a federation of one, and nothing here has
//! a say.

mod bundle;
mod challenge;
mod charter;
mod compare;
mod cosigned;
mod erase;
mod exchange;
mod fetch;
mod follow;
mod give_up;
mod local;
mod mirror;
mod peer;
mod remote;
mod rules;
mod signed;
mod sites;
mod witness;

use waag_schema::federation::CharterError;
use waag_schema::{Sha256, SiteId, Timestamp};

pub use bundle::{BundleFile, CarryError, ExportRequest, Exported, Imported, LeftOut, export, import};
pub use charter::{Charters, Own};
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
pub use witness::WitnessError;

use crate::index::IndexError;
use crate::ledger::AppendError;
use crate::store::StoreError;

/// A charter is not adopted, or cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// Only an admin token may do it.
    #[error("only an admin token may adopt a charter")]
    NotAdmin,
    /// No charter came.
    #[error("no charter was sent")]
    Nothing,
    /// There is no charter, or none of that version.
    #[error("there is no {0} here")]
    NotFound(String),
    /// The charter cannot follow the one that holds.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// Two charters have one version. Both are kept.
    #[error(
        "there are two charters of version {version}: this site goes by {known}, and {found} is signed as well; both are kept as evidence"
    )]
    Fork {
        /// The version of both.
        version: u64,
        /// The digest of the one that is followed.
        known: Sha256,
        /// The digest of the other.
        found: Sha256,
    },
    /// The charter has run out.
    #[error("the charter of version {version} ran out at {on}")]
    Expired {
        /// Its version.
        version: u64,
        /// When.
        on: Timestamp,
    },
    /// The site is not in the charter, and never was in one.
    #[error("the charter does not name this site, {0}")]
    NotNamed(SiteId),
    /// What the charter says of the site is not what the site is.
    #[error("the charter says that this site's {what} is {charter}, and it is {site}")]
    Differs {
        /// What.
        what: &'static str,
        /// By the charter.
        charter: String,
        /// By the site.
        site: String,
    },
    /// A stored charter cannot be read.
    #[error("the stored charter of version {version} is damaged: {error}")]
    Damaged {
        /// Which.
        version: u64,
        /// What is wrong.
        error: CharterError,
    },
    /// The ledger did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
