//! A site: its rooms, built from configuration (values) and parts (collaborators).

use std::path::Path;
use std::sync::Arc;

use waag_schema::SiteId;
use waag_schema::base::key::PublicKey;
use waag_schema::federation::SiteTerms;
use waag_schema::ledger::{KeyKind, VerifierKey};
use waag_schema::wire::site::SiteView;
use waag_schema::wire::token::{Scope, TokenRequest};

use crate::access::{AccessError, Here, Tokens};
use crate::clock::Clock;
use crate::config::Config;
use crate::content::{Content, ContentError, Uploads};
use crate::evaluation::{Bench, Leases, Progress, Suites, Weigher};
use crate::federation::{
    Charters, Federation, FederationError, Own, Peer, PeerSite, RemotePeer, SitesError, SitesParts,
};
use crate::index::{Index, IndexError, Reader};
use crate::ledger::{self, AppendError, FollowedLedgers, Ledger, Parts, Restored};
use crate::pool::Pool;
use crate::publish::{Answers, Catalogue, Demand, Intake, PackedFiles};
use crate::random::Random;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::turns::{self, Turns};
use crate::vault::{Vault, VaultError};

/// A site cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] AppendError),
    /// The index can be neither opened nor replaced.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The charter cannot be gone by.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// The first token cannot be made.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Unfinished uploads cannot be looked through.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// What a site works with besides its configuration.
pub struct Collaborators {
    /// Where bytes are kept.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Random,
}

/// An open site.
pub struct Site {
    here: Here,
    charters: Charters,
    reader: Reader,
    tokens: Tokens,
    uploads: Uploads,
    content: Content,
    ledger: Ledger,
    intake: Intake,
    catalogue: Catalogue,
    federation: Arc<Federation>,
    weighing: Progress,
    suites: Suites,
    lease_seconds: u64,
    metrics: Metrics,
    turns: Turns,
    clock: Arc<dyn Clock>,
    random: Random,
    /// Held as long as the site is open, so that no second process writes here.
    vault: Vault,
}

/// An open site and the task that writes its ledger.
pub struct OpenSite {
    /// The site.
    pub site: Arc<Site>,
    /// Ends when the site is dropped and everything it accepted is committed.
    pub writer: tokio::task::JoinHandle<()>,
}

impl Site {
    /// Opens the site in this data directory; the first time, makes its key and its admin token.
    ///
    /// # Errors
    /// When the directory is in use, or its parts contradict each other.
    pub async fn open(
        data: &Path,
        config: &Config,
        parts: Collaborators,
        restored: Restored,
    ) -> Result<OpenSite, SiteError> {
        let vault = Vault::open_or_create(data, &parts.random)?;
        Self::open_in(vault, config, parts, restored).await
    }

    /// Opens the site of an open vault.
    ///
    /// # Errors
    /// When its parts contradict each other.
    pub async fn open_in(
        vault: Vault,
        config: &Config,
        parts: Collaborators,
        restored: Restored,
    ) -> Result<OpenSite, SiteError> {
        let origin = vault.origin();
        let here = Here::new(origin.site().clone(), config.jurisdiction);
        let metrics = Metrics::default();
        let pool = Pool::new();
        let index_path = vault.index_path();
        let index = Index::open(&index_path, &origin.to_string())?;
        let reader = Reader::new(&index_path);
        let content = Content::new(Arc::clone(&parts.store), pool.clone());
        let opened = ledger::open(
            Parts {
                store: Arc::clone(&parts.store),
                origin: origin.clone(),
                key: Arc::clone(vault.key()),
                site_key: Arc::clone(vault.site_key()),
                guard: vault.guard(),
                index,
                clock: Arc::clone(&parts.clock),
                random: parts.random.clone(),
                metrics: metrics.clone(),
            },
            reader.clone(),
            restored,
        )
        .await?;
        let tokens = Tokens::new(
            Arc::clone(&parts.store),
            Arc::clone(&parts.clock),
            parts.random.clone(),
        );
        let uploads = Uploads::new(
            here.clone(),
            Arc::clone(&parts.store),
            reader.clone(),
            Arc::clone(&parts.clock),
            pool,
        );
        let intake = Intake {
            here: here.clone(),
            store: Arc::clone(&parts.store),
            reader: reader.clone(),
            ledger: opened.ledger.clone(),
            uploads: uploads.clone(),
            content: content.clone(),
            allowed: config.formats.allow.clone(),
            clock: Arc::clone(&parts.clock),
        };
        let weighing = Progress::default();
        let (ledgers, demand) = (FollowedLedgers::default(), Demand::default());
        let answers = Answers::default();
        let catalogue = Catalogue {
            here: here.clone(),
            store: Arc::clone(&parts.store),
            reader: reader.clone(),
            ledger: opened.ledger.clone(),
            site_key: Arc::clone(vault.site_key()),
            ledgers: ledgers.clone(),
            demand: demand.clone(),
            content: content.clone(),
            answers: answers.clone(),
            packed: PackedFiles::default(),
            weighing: weighing.clone(),
            clock: Arc::clone(&parts.clock),
        };
        let federation = Federation::new(SitesParts {
            here: here.clone(),
            witness_key: Arc::clone(vault.witness_key()),
            store: Arc::clone(&parts.store),
            content: content.clone(),
            uploads: uploads.clone(),
            reader: reader.clone(),
            ledger: opened.ledger.clone(),
            ledgers,
            demand,
            answers,
            random: parts.random.clone(),
            clock: Arc::clone(&parts.clock),
            metrics: metrics.clone(),
            peers: vault.peers_path(),
            rules: config.mirror.clone(),
            challenge_seconds: (config.custody.challenge_seconds > 0)
                .then_some(config.custody.challenge_seconds),
        });
        let ledger = opened.ledger;
        let charters = Charters::new(
            here.clone(),
            Own {
                log_key: vault.key().public(),
                site_key: Arc::clone(vault.site_key()),
                witness_key: vault.witness_key().public(),
            },
            Arc::clone(&parts.store),
            reader.clone(),
            ledger.clone(),
            Arc::clone(&parts.clock),
        );
        charters.resume().await?;
        let turns = Turns::new(turns::Limits {
            at_once: config.limits.transfers,
            for_each: config.limits.transfers_of_one,
            waiting: config.limits.waiting,
            ..turns::Limits::default()
        });
        let site = Self {
            here,
            charters,
            reader,
            tokens,
            uploads,
            content,
            ledger,
            intake,
            catalogue,
            federation: Arc::new(federation),
            weighing,
            suites: Suites::of(&config.weigh),
            lease_seconds: config.weigh.lease_seconds,
            metrics,
            turns,
            clock: parts.clock,
            random: parts.random,
            vault,
        };
        site.make_admin_token().await?;
        Ok(OpenSite {
            site: Arc::new(site),
            writer: opened.task,
        })
    }

    /// Makes the first admin token, once: a site that has tokens makes no other.
    async fn make_admin_token(&self) -> Result<(), SiteError> {
        if !self.tokens.list().await?.is_empty() {
            return Ok(());
        }
        let request = TokenRequest {
            label: "first admin token".to_owned(),
            scopes: vec![Scope::Admin],
            namespaces: Vec::new(),
            jurisdiction: None,
            days: None,
        };
        let secret = self.tokens.new_secret();
        self.vault.write_admin_token(&secret)?;
        // A crash here leaves a secret that lets nobody in; the next start writes another.
        self.tokens.admit(&secret, request).await?;
        Ok(())
    }

    /// Forgets uploads that were opened this many days ago and never published.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep_uploads(&self, days: u32) -> Result<usize, ContentError> {
        let swept = self.uploads.sweep(days).await?;
        if swept > 0 {
            tracing::info!(uploads = swept, days, "forgot uploads that were never published");
        }
        Ok(swept)
    }

    /// Says anew which releases are withdrawn, if the ledger holds anything and its newest list is older than this.
    /// Returns whether it did.
    ///
    /// # Errors
    /// When the index or the ledger fails.
    pub async fn renew_revocations(&self, seconds: u64) -> Result<bool, AppendError> {
        let newest = self.reader.ask(|q| q.newest("revocation-list")).await?;
        let due = newest.is_none_or(|list| list.at.plus(seconds) <= self.clock.now());
        if !due || self.ledger.checkpoint().checkpoint().size == 0 {
            return Ok(false);
        }
        self.ledger.renew().await?;
        Ok(true)
    }

    /// Is there room for more content?
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_room(&self) -> Result<bool, StoreError> {
        self.catalogue.store.has_room().await
    }

    /// Returns what the site says of itself.
    #[must_use]
    pub fn view(&self) -> SiteView {
        SiteView {
            id: self.here.site.clone(),
            origin: self.ledger.origin().to_string(),
            log_key: self
                .ledger
                .origin()
                .verifier(self.vault.key().public())
                .to_string(),
            site_key: self.vault.site_key().public(),
            witness_key: VerifierKey::new(
                &SiteTerms::witness_name(&self.here.site),
                KeyKind::Witness,
                self.vault.witness_key().public(),
            )
            .expect("a site's id holds neither space nor plus")
            .to_string(),
            jurisdiction: self.here.jurisdiction.map(|c| c.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Returns the site's id, which is its fingerprint.
    #[must_use]
    pub fn id(&self) -> &SiteId {
        &self.here.site
    }

    /// Returns what weighs the releases that have no scorecard yet.
    pub(crate) fn weigher(&self) -> Weigher {
        Weigher {
            here: self.here.clone(),
            store: Arc::clone(&self.catalogue.store),
            reader: self.reader.clone(),
            content: self.content.clone(),
            ledger: self.ledger.clone(),
            ledgers: self.catalogue.ledgers.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            progress: self.weighing.clone(),
            suites: self.suites.clone(),
            leases: Leases {
                store: Arc::clone(&self.catalogue.store),
                clock: Arc::clone(&self.clock),
                random: self.random.clone(),
                seconds: self.lease_seconds,
            },
            bench: Bench::Thread,
        }
    }

    /// Weighs now what has no scorecard yet, and returns when that is done or given up.
    ///
    /// # Errors
    /// When the index fails.
    pub async fn weigh_all(&self) -> Result<(), IndexError> {
        self.weigh_all_on(Bench::Thread).await
    }

    /// The same, measured there.
    ///
    /// # Errors
    /// When the index fails.
    pub async fn weigh_all_on(&self, bench: Bench) -> Result<(), IndexError> {
        let weigher = Weigher {
            bench,
            ..self.weigher()
        };
        self.weighing.turn_on();
        weigher.look_and_ask(0).await.map(drop)
    }

    /// Returns what is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the turns that transfers take.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Returns the index, to ask.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns the charters.
    #[must_use]
    pub fn charters(&self) -> &Charters {
        &self.charters
    }

    /// Returns the tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Returns the upload sessions.
    #[must_use]
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Returns the content.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns what takes in.
    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Returns what is done with other sites.
    #[must_use]
    pub const fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// Takes these sites for those of the federation, and asks them at their addresses. One that cannot be asked is
    /// left out, and said so in the log.
    ///
    /// # Errors
    /// When what was kept of one of them cannot be used.
    pub async fn join(&self, sites: Vec<PeerSite>) -> Result<(), SitesError> {
        let mut peers: Vec<(PeerSite, Arc<dyn Peer>)> = Vec::new();
        for site in sites {
            let own = (self.here.site.clone(), Arc::clone(self.vault.site_key()));
            let asked = RemotePeer::new(&site, own, Arc::clone(&self.clock), self.random.clone());
            match asked {
                Ok(peer) => peers.push((site, Arc::new(peer))),
                Err(error) => {
                    tracing::error!(site = %site.id, %error, "a site of the charter cannot be asked");
                }
            }
        }
        self.federation.meet(peers).await
    }

    /// Returns the sites of the charter that this one goes by, itself among them.
    #[must_use]
    pub fn sites_of_charter(&self) -> Vec<PeerSite> {
        let charter = self.here.adopted.charter();
        let sites = charter.iter().flat_map(|charter| &charter.terms().sites);
        sites.filter_map(PeerSite::of).collect()
    }

    /// Returns the site as policy sees it.
    #[must_use]
    pub const fn here(&self) -> &Here {
        &self.here
    }

    /// Takes the sites of the charter that this one goes by for those of the federation, now and whenever another
    /// charter is adopted. Ends never.
    pub async fn follow_charter(self: Arc<Self>) {
        let mut changes = self.here.adopted.changes();
        loop {
            changes.mark_unchanged();
            if let Err(error) = self.join(self.sites_of_charter()).await {
                tracing::error!(%error, "the sites of the charter cannot be followed");
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns the key that signs what this site says.
    #[must_use]
    pub fn site_key(&self) -> PublicKey {
        self.vault.site_key().public()
    }

    /// Returns the key that signs this site's ledger.
    #[must_use]
    pub fn log_key(&self) -> PublicKey {
        self.vault.key().public()
    }

    /// Returns what gives out.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}
