//! Other sites' ledgers, as far as they were followed: what is recorded there, proven from the copy that is kept
//! here. Who follows them is `federation`; whoever answers questions reads here.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use waag_schema::ledger::SignedCheckpoint;
use waag_schema::policy::place::{Country, Place};
use waag_schema::statement::NamespaceState;
use waag_schema::wire::artifact::Proof;
use waag_schema::{Namespace, SiteId, Timestamp};

use super::AppendError;
use super::reader::LedgerReader;
use crate::index::{Changes, IndexError, Reader};
use crate::store::Store;

/// How long a site that holds copies may go without hearing from their home before it stops giving them out.
pub(crate) const SILENCE_MAX_SECONDS: u64 = 24 * 3600;

/// What is to be thought of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// All that it signed is one history.
    Sound,
    /// It signed two histories, or one that breaks the rules. Nothing more is believed of it until an admin decides.
    Stopped(String),
}

/// Another site's ledger, followed up to a signed tree.
#[derive(Clone)]
pub struct Followed {
    /// Whose it is.
    pub site: SiteId,
    /// Where that is.
    pub jurisdiction: Option<Country>,
    /// The namespaces that the charter says are its own: a name, or a prefix that ends in `*`.
    pub owns: Vec<String>,
    /// The last trees of all series, the newest last.
    pub trees: Vec<SignedCheckpoint>,
    /// The note that says which key the site signs with.
    pub site_key: Option<Arc<str>>,
    /// The fold of it.
    pub index: Reader,
    /// When it was last heard from.
    pub heard: Timestamp,
    /// What is to be thought of it.
    pub standing: Standing,
    /// What was folded since it was last looked.
    pub(crate) changes: Changes,
    /// The copy.
    pub(crate) store: Arc<dyn Store>,
}

impl Followed {
    /// Returns the newest tree that was followed to its end, if one was.
    #[must_use]
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        self.trees.last()
    }

    /// Returns the last tree of a series.
    #[must_use]
    pub fn tree_of(&self, series: u32) -> Option<&SignedCheckpoint> {
        let of = |signed: &&SignedCheckpoint| signed.checkpoint().origin.series() == series;
        self.trees.iter().find(of)
    }

    /// Does the charter say that this namespace is the site's own?
    #[must_use]
    pub fn owns(&self, name: &Namespace) -> bool {
        owns(&self.owns, name)
    }

    /// Returns where it is, for labels.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Site {
            id: self.site.clone(),
            jurisdiction: self.jurisdiction,
        }
    }

    /// Has nothing been heard from it for so long that what it may have forbidden meanwhile is not known?
    #[must_use]
    pub fn is_silent(&self, now: Timestamp) -> bool {
        self.heard.plus(SILENCE_MAX_SECONDS) < now
    }

    /// Proves entries under the newest tree that was followed.
    ///
    /// # Errors
    /// When an entry is not in it, was erased, or the copy is damaged.
    pub async fn prove(&self, entries: &[u64]) -> Result<Proof, AppendError> {
        let Some((newest, earlier)) = self.trees.split_last() else {
            return Err(AppendError::NoEntry(entries.first().copied().unwrap_or(0)));
        };
        let reader = LedgerReader {
            store: Arc::clone(&self.store),
            index: self.index.clone(),
            earlier: earlier.into(),
            origin: newest.checkpoint().origin.clone(),
            site_key: self.site_key.clone(),
        };
        reader.prove_all(entries.to_vec(), newest).await
    }
}

/// Does one of these names or prefixes cover the namespace?
pub(crate) fn owns(prefixes: &[String], name: &Namespace) -> bool {
    prefixes.iter().any(|owned| match owned.strip_suffix('*') {
        Some(prefix) => name.as_str().starts_with(prefix),
        None => owned == name.as_str(),
    })
}

/// All ledgers that are followed. Cheap to clone; clones see the same.
#[derive(Clone, Default)]
pub struct FollowedLedgers(Arc<RwLock<BTreeMap<SiteId, Arc<Followed>>>>);

impl FollowedLedgers {
    /// Returns all of them, by site.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Followed>> {
        let ledgers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ledgers.values().cloned().collect()
    }

    /// Returns that of a site.
    #[must_use]
    pub fn of(&self, site: &SiteId) -> Option<Arc<Followed>> {
        let ledgers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ledgers.get(site).cloned()
    }

    /// Finds a namespace in the ledger of the site whose own the charter says it is.
    ///
    /// # Errors
    /// When an index fails.
    pub async fn home_of(
        &self,
        name: &Namespace,
    ) -> Result<Option<(NamespaceState, Arc<Followed>)>, IndexError> {
        for followed in self.all() {
            if !followed.owns(name) {
                continue;
            }
            let wanted = name.clone();
            if let Some(state) = followed.index.ask(move |q| q.namespace(&wanted)).await? {
                return Ok(Some((state, followed)));
            }
        }
        Ok(None)
    }

    /// Puts the newest state of one in the place of what was known.
    pub(crate) fn set(&self, followed: Followed) {
        let mut ledgers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ledgers.insert(followed.site.clone(), Arc::new(followed));
    }

    /// Forgets sites that are none of these.
    pub(crate) fn retain(&self, keep: impl Fn(&SiteId) -> bool) {
        let mut ledgers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|site, _| keep(site));
    }
}
