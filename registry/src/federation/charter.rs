//! Which charter this site goes by: adopted step by step, kept, recorded in the ledger, shown to everybody.
//!
//! ```text
//! verified against the one before -> charters/<version> created -> `charter-adopted` in the ledger -> in force
//! ```
//! A crash behind the first arrow loses nothing: the next start finds the stored charter, records what is not recorded
//! yet, and goes by it. Invariant: the stored versions have no gap, and each was signed by enough keys of the one before.
//! A second charter of a version that is stored is kept beside it as evidence, and never followed.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::federation::{Charter, CharterError, Standing};
use waag_schema::statement::{CharterAdopted, Envelope, Predicate, Statement, Subject};
use waag_schema::wire::site::CharterView;

use super::FederationError;
use crate::access::{Caller, Here};
use crate::clock::Clock;
use crate::index::Reader;
use crate::ledger::Ledger;
use crate::store::{Key, Put, Store, StoreError};

/// How many stored charters are listed at once.
const PAGE: usize = 1000;

/// What a charter must say of this site.
#[derive(Debug, Clone)]
pub struct Own {
    /// The key of its ledger.
    pub log_key: PublicKey,
    /// The key that signs what it says of itself.
    pub site_key: Arc<KeyPair>,
    /// The key that cosigns other sites' checkpoints.
    pub witness_key: PublicKey,
}

/// The charters of this site.
pub struct Charters {
    here: Here,
    own: Own,
    store: Arc<dyn Store>,
    reader: Reader,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    /// Held while charters are adopted: one at a time.
    adopting: Mutex<()>,
}

impl Charters {
    /// Takes what it works with; nothing is read yet.
    #[must_use]
    pub fn new(
        here: Here,
        own: Own,
        store: Arc<dyn Store>,
        reader: Reader,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            here,
            own,
            store,
            reader,
            ledger,
            clock,
            adopting: Mutex::new(()),
        }
    }

    /// Goes by the newest stored charter, and records what a crash has left unrecorded.
    ///
    /// # Errors
    /// When it cannot be read, or the ledger not be written.
    pub async fn resume(&self) -> Result<(), FederationError> {
        let mut newest = None;
        let mut after: Option<Key> = None;
        loop {
            let keys = self
                .store
                .list(Key::charter_prefix(), after.as_ref(), PAGE)
                .await?;
            let Some(last) = keys.last().cloned() else { break };
            newest = last.last().parse::<u64>().ok().or(newest);
            after = Some(last);
        }
        let Some(charter) = (match newest {
            Some(version) => self.stored(version).await?,
            None => None,
        }) else {
            return Ok(());
        };
        if let Standing::Expired { on } = charter.standing(self.clock.now()) {
            tracing::warn!(version = charter.version(), expired = %on,
                "the charter has run out: what is here is served, nothing new of other sites is believed");
        }
        self.record(&charter).await?;
        self.here.adopted.set(charter);
        Ok(())
    }

    /// Adopts charters, oldest first, and goes by the last. Those that are adopted already are passed over.
    ///
    /// # Errors
    /// When the caller is no admin, a step does not hold, the last one has run out or says of this site what it is not,
    /// or store or ledger fail. [`FederationError::Fork`] has kept both charters.
    pub async fn adopt(&self, caller: &Caller, steps: &[Vec<u8>]) -> Result<CharterView, FederationError> {
        if !caller.is_admin() {
            return Err(FederationError::NotAdmin);
        }
        self.step(steps).await
    }

    /// Adopts charters as [`Self::adopt`] does, for whoever has the data directory.
    pub(super) async fn step(&self, steps: &[Vec<u8>]) -> Result<CharterView, FederationError> {
        let _one_at_a_time = self.adopting.lock().await;
        let before = self.here.adopted.charter();
        let mut newest: Option<Charter> = before.as_deref().cloned();
        let mut fresh: Vec<Charter> = Vec::new();
        for bytes in steps.iter().take(waag_schema::federation::STEPS_MAX) {
            let next = match &newest {
                None => Charter::parse(bytes)?,
                Some(known) => {
                    let found = Charter::parse(bytes)?;
                    if found.version() <= known.version() {
                        self.check_past(&found, &fresh).await?;
                        continue;
                    }
                    known.next(bytes)?
                }
            };
            fresh.push(next.clone());
            newest = Some(next);
        }
        let last = newest.ok_or(FederationError::Nothing)?;
        if !fresh.is_empty() {
            if let Standing::Expired { on } = last.standing(self.clock.now()) {
                return Err(FederationError::Expired {
                    version: last.version(),
                    on,
                });
            }
            self.check_own(&last, before.is_some())?;
        }
        for charter in &fresh {
            let key = Key::charter(charter.version());
            let bytes = Bytes::copy_from_slice(charter.bytes());
            // What a crash left may have come with other signatures; the document is what counts.
            if let Put::Existed = self.store.put_if_absent(&key, bytes).await? {
                match self.stored(charter.version()).await? {
                    Some(known) if known.digest() == charter.digest() => {}
                    Some(known) => return Err(self.convict(&known, charter).await?),
                    None => return Err(StoreError::NotFound(key).into()),
                }
            }
        }
        self.record(&last).await?;
        if !fresh.is_empty() {
            tracing::info!(version = last.version(), sha256 = %last.digest(), "adopted a charter");
            self.here.adopted.set(last.clone());
        }
        self.view_of(&last).await
    }

    /// Returns the charter that this site goes by.
    ///
    /// # Errors
    /// When there is none.
    pub async fn view(&self) -> Result<CharterView, FederationError> {
        let charter = self.here.adopted.charter();
        let charter = charter.ok_or_else(|| FederationError::NotFound("charter".to_owned()))?;
        self.view_of(&charter).await
    }

    /// Returns a version of the charter that this site has gone by.
    ///
    /// # Errors
    /// When there is none.
    pub async fn version(&self, version: u64) -> Result<CharterView, FederationError> {
        let charter = self.stored(version).await?;
        let charter =
            charter.ok_or_else(|| FederationError::NotFound(format!("charter of version {version}")))?;
        self.view_of(&charter).await
    }

    async fn view_of(&self, charter: &Charter) -> Result<CharterView, FederationError> {
        let digest = self.said(charter).1.digest();
        let located = self.reader.ask(move |q| q.recorded(&digest)).await?;
        let expired = match charter.standing(self.clock.now()) {
            Standing::Holds => None,
            Standing::Expired { on } => Some(on),
        };
        Ok(CharterView {
            charter: charter.bytes().to_vec().into(),
            sha256: charter.digest(),
            version: charter.version(),
            entry: located.map(|located| located.position),
            expired,
        })
    }

    async fn stored(&self, version: u64) -> Result<Option<Charter>, FederationError> {
        let bytes = match self.store.get(&Key::charter(version)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let read = Charter::parse(&bytes).map_err(|error| FederationError::Damaged { version, error })?;
        Ok(Some(read))
    }

    /// Checks that a charter of a version that is known is the one that is known.
    async fn check_past(&self, found: &Charter, fresh: &[Charter]) -> Result<(), FederationError> {
        let of = |version: u64| fresh.iter().find(|charter| charter.version() == version).cloned();
        let known = match of(found.version()) {
            Some(charter) => Some(charter),
            None => self.stored(found.version()).await?,
        };
        let newest = || CharterError::NotNext {
            known: fresh.last().map_or_else(
                || self.here.adopted.charter().map_or(0, |charter| charter.version()),
                Charter::version,
            ),
            found: found.version(),
        };
        let Some(known) = known else {
            return Err(newest().into());
        };
        if known.digest() == found.digest() {
            return Ok(());
        }
        let before = match found.version().checked_sub(1) {
            Some(version) => self.stored(version).await?,
            None => None,
        };
        // Root keys of the version itself or of the one before it must have signed: anybody can make up the rest.
        let follows = before.is_some_and(|before| before.next(found.bytes()).is_ok());
        if follows || known.is_forked_by(found)? {
            return Err(self.convict(&known, found).await?);
        }
        Err(newest().into())
    }

    /// Keeps the second charter of a version.
    async fn convict(&self, known: &Charter, found: &Charter) -> Result<FederationError, FederationError> {
        let key = Key::charter_evidence(found.version(), &found.digest());
        self.store
            .put_if_absent(&key, Bytes::copy_from_slice(found.bytes()))
            .await?;
        let (version, known, found) = (found.version(), known.digest(), found.digest());
        tracing::error!(version, %known, %found, "there are two charters of one version; both are kept");
        Ok(FederationError::Fork {
            version,
            known,
            found,
        })
    }

    /// Checks that the charter means this site by what it says of it.
    fn check_own(&self, charter: &Charter, was_named: bool) -> Result<(), FederationError> {
        let Some(site) = charter.site(&self.here.site) else {
            return if was_named {
                tracing::warn!(
                    version = charter.version(),
                    "the charter names this site no longer"
                );
                Ok(())
            } else {
                Err(FederationError::NotNamed(self.here.site.clone()))
            };
        };
        let differs =
            |what, charter: String, site: String| Err(FederationError::Differs { what, charter, site });
        let log_key = &self.own.log_key;
        if let Some(last) = site.ledgers.last()
            && last.key.key() != log_key
        {
            return differs("log key", last.key.key().fingerprint(), log_key.fingerprint());
        }
        let site_key = self.own.site_key.public();
        if site.site_key != site_key {
            return differs("site key", site.site_key.fingerprint(), site_key.fingerprint());
        }
        let witness_key = &self.own.witness_key;
        if site.witness_key.key() != witness_key {
            return differs(
                "witness key",
                site.witness_key.key().fingerprint(),
                witness_key.fingerprint(),
            );
        }
        if self.here.jurisdiction != Some(site.jurisdiction) {
            let stated = self.here.jurisdiction;
            let stated = stated.map_or_else(|| "not stated in waag.toml".to_owned(), |c| c.to_string());
            return differs("jurisdiction", site.jurisdiction.to_string(), stated);
        }
        Ok(())
    }

    fn said(&self, charter: &Charter) -> (Statement, Envelope) {
        let statement = Statement {
            subject: Subject::Site(self.here.site.clone()),
            predicate: Predicate::CharterAdopted(CharterAdopted {
                federation: charter.terms().federation.clone(),
                version: charter.version(),
                sha256: charter.digest(),
            }),
        };
        // Ed25519 signs the same bytes the same way, so this is the envelope that the ledger has or will have.
        let envelope = Envelope::sign(&statement.to_bytes(), &[&self.own.site_key]);
        (statement, envelope)
    }

    /// Has the ledger record that this charter is adopted, once.
    async fn record(&self, charter: &Charter) -> Result<(), FederationError> {
        let (statement, envelope) = self.said(charter);
        let digest = envelope.digest();
        if self.reader.ask(move |q| q.recorded(&digest)).await?.is_none() {
            self.ledger.say(statement).await?;
        }
        Ok(())
    }
}
