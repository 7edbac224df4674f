//! What is asked of a site's ledger.

use serde::{Deserialize, Serialize};

/// Body of `POST /api/v1/ledger/erasures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// The entry whose opening is to be deleted.
    pub entry: u64,
    /// Why, as a code of 1 to 64 lower-case letters, digits and `-`; it is recorded.
    pub ground: String,
}
