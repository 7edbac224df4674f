//! The charter that this site goes by, for everybody here who asks. Empty while the site is a federation of one.

use std::sync::Arc;

use tokio::sync::watch;
use waag_schema::federation::Charter;
use waag_schema::policy::GroupTerms;

/// A handle to the charter. Cheap to clone; all clones see the newest.
#[derive(Debug, Clone)]
pub struct Adopted {
    newest: watch::Sender<Option<Arc<Charter>>>,
}

impl Default for Adopted {
    fn default() -> Self {
        Self {
            newest: watch::Sender::new(None),
        }
    }
}

impl Adopted {
    /// Returns the charter.
    #[must_use]
    pub fn charter(&self) -> Option<Arc<Charter>> {
        self.newest.borrow().clone()
    }

    /// Tells whenever another charter is adopted.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Charter>>> {
        self.newest.subscribe()
    }

    /// Returns the groups of countries that the charter names.
    #[must_use]
    pub fn groups(&self) -> Arc<[GroupTerms]> {
        self.charter()
            .map_or_else(Arc::default, |charter| charter.terms().groups.clone().into())
    }

    pub(crate) fn set(&self, charter: Charter) {
        self.newest.send_replace(Some(Arc::new(charter)));
    }
}
