//! What is asked of a site's ledger.

use serde::{Deserialize, Serialize};

use crate::base::name::SiteId;
use crate::base::time::Timestamp;
use crate::ledger::Stream;

/// Body of `POST /api/v1/ledger/erasures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// The entry whose opening is to be deleted.
    pub entry: u64,
    /// Why, as a code of 1 to 64 lower-case letters, digits and `-`; it is recorded.
    pub ground: String,
}

/// One row of the answer of `GET /ledger/streams`: a stream that not everybody may read, and who asks may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamView {
    /// The series of the ledger.
    pub series: u32,
    /// The stream.
    pub stream: Stream,
    /// How many of its entries who asks may read: all, or those up to the one that ended it.
    pub count: u64,
}

/// Answer of `GET /api/v1/ledger/witnesses`: how far a site's ledger has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WitnessingView {
    /// The ledger.
    pub origin: String,
    /// How many entries are committed.
    pub committed: u64,
    /// How many of them are in the tree that is signed and served.
    pub published: u64,
    /// How many of those as many jurisdictions have witnessed as the charter asks for; none without a charter, or while
    /// there are too few.
    pub witnessed: Option<u64>,
    /// How many jurisdictions the charter asks for, if there is one.
    pub jurisdictions: Option<u32>,
    /// The witnesses, each with the largest tree that it cosigned.
    pub witnesses: Vec<WitnessView>,
}

/// A witness of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WitnessView {
    /// The site that witnesses.
    pub site: SiteId,
    /// What people call it.
    pub name: String,
    /// Its country, as the charter says.
    pub jurisdiction: Option<String>,
    /// How many entries the tree has that it cosigned.
    pub size: u64,
    /// As of when.
    pub at: Timestamp,
    /// Its key, in the text form of C2SP signed-note.
    pub key: String,
    /// The tree's checkpoint with its line.
    pub note: String,
}
