//! Which artifacts' rows are others since somebody last looked, so that not all have to be looked at again.
//!
//! Noted in memory when a batch is committed: who takes a note finds its rows. At the start everything is new, and so it
//! is when notes grow too many.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waag_schema::ArtifactName;
use waag_schema::statement::{Statement, Subject};

/// The most artifacts that are noted by name.
const NAMES_MAX: usize = 10_000;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Anything may have.
    Everything,
    /// Nothing but what is recorded of these.
    These(BTreeSet<ArtifactName>),
}

impl Changed {
    /// Returns that nothing has.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::These(BTreeSet::new())
    }

    /// Notes what a statement changes.
    pub(super) fn note(&mut self, statement: &Statement) {
        match &statement.subject {
            Subject::Artifact(artifact) | Subject::Manifest(artifact, _) => {
                if let Self::These(names) = self {
                    names.insert(artifact.clone());
                }
            }
            Subject::Namespace(_) => *self = Self::Everything,
            // What sites say of themselves is no row of an artifact.
            Subject::Site(_) => {}
        }
        self.bound();
    }

    fn add(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::These(names), Self::These(more)) => names.extend(more),
            (_, Self::Everything) => *self = Self::Everything,
            (Self::Everything, Self::These(_)) => {}
        }
        self.bound();
    }

    fn bound(&mut self) {
        if matches!(self, Self::These(names) if names.len() > NAMES_MAX) {
            *self = Self::Everything;
        }
    }
}

/// What has changed since it was last taken. Cheap to clone; clones see the same.
#[derive(Debug, Clone)]
pub struct Changes(Arc<Mutex<Changed>>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Changed::Everything)))
    }
}

impl Changes {
    /// Returns what has changed, and begins anew.
    #[must_use]
    pub fn take(&self) -> Changed {
        std::mem::replace(&mut *self.lock(), Changed::nothing())
    }

    pub(super) fn add(&self, changed: Changed) {
        self.lock().add(changed);
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
