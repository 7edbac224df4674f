//! Access: which other sites of the charter may read a private namespace.
//!
//! An `access` statement is the owners' word about the namespace itself, in its chain beside rotations and gates: from
//! then on these sites, and no others, get the openings of the namespace's stream. The statement stands in that
//! stream, so that nobody else learns whom a namespace is shared with. Labels are asked separately.

use serde::{Deserialize, Serialize};

use super::chain::Link;
use crate::base::digest::Sha256;
use crate::base::name::SiteId;

/// The most sites that a namespace is shared with.
pub const SITES_MAX: usize = 256;

/// The predicate `access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The namespace's id.
    pub namespace: Sha256,
    /// Its place among the statements on the namespace.
    pub link: Link,
    /// The sites beside its home that may read it from then on, ascending, each once.
    pub sites: Vec<SiteId>,
}

impl Access {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.sites.len() > SITES_MAX {
            return Err(format!("a namespace is shared with at most {SITES_MAX} sites"));
        }
        if !self.sites.is_sorted_by(|a, b| a < b) {
            return Err("the sites are not sorted, each once".to_owned());
        }
        Ok(())
    }
}
