//! One site, from an empty directory to answering requests to an orderly end.

use std::fs::DirBuilder;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use waag_schema::SiteId;

use crate::clock::SystemClock;
use crate::config::{Config, ConfigError};
use crate::evaluation::{Bench, Weigher};
use crate::http::router;
use crate::ledger::Restored;
use crate::listen::{Settings, Tls, TlsError, listen};
use crate::random::Random;
use crate::site::{Collaborators, OpenSite, Site, SiteError};
use crate::store::FsStore;
use crate::vault::{ADMIN_TOKEN_FILE, Vault};

/// The configuration's file, within the data directory.
pub const CONFIG_FILE: &str = "waag.toml";

/// How often old uploads are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(3600);
/// How often the age of the revocation list is looked at; also whether there is one, since no pull is fresh before.
const RENEWED_EVERY: Duration = Duration::from_secs(60);
/// From which age on it is renewed: within a day, whatever the hour it was made.
const RENEWED_AFTER_SECONDS: u64 = 23 * 3600;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The data directory; made where it is missing.
    pub data: PathBuf,
    /// Where to listen, instead of what the configuration says.
    pub listen: Option<SocketAddr>,
    /// Whether the store comes from a backup.
    pub restored: Restored,
    /// Where releases are measured.
    pub bench: Bench,
}

/// A site that answers.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Who it is: the fingerprint to compare.
    pub site: SiteId,
    /// Where the first admin token is.
    pub admin_token: PathBuf,
}

/// A site cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The site cannot be opened.
    #[error(transparent)]
    Site(Box<SiteError>),
    /// TLS cannot be spoken.
    #[error("[tls] in waag.toml: {0}")]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something of the system failed.
    #[error("{path}: {error}")]
    Io {
        /// What was worked on.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl From<SiteError> for ServeError {
    fn from(error: SiteError) -> Self {
        Self::Site(Box::new(error))
    }
}

/// Reads the configuration of a data directory; the first time, writes the commented one.
///
/// # Errors
/// When the directory cannot be made, or the file holds what it should not.
pub fn configure(data: &Path) -> Result<Config, ServeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| ServeError::Io {
            path: data.to_owned(),
            error,
        })?;
    Ok(Config::load_or_create(&data.join(CONFIG_FILE))?)
}

/// Serves a site until `shutdown` completes, then answers what is under way and returns.
///
/// # Errors
/// When the site cannot be opened or the address not be listened on.
pub async fn serve(
    options: ServeOptions,
    config: Config,
    on_ready: impl FnOnce(&Ready) + Send,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    allow_files();
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| ServeError::Io { path, error }
    };
    let random = Random::from_system().map_err(io(&options.data))?;
    // Before anything is made: a certificate that cannot be used is soon told.
    let tls = match &config.tls {
        Some(files) => {
            let below = |path: &Path| options.data.join(path);
            let (certificate, key) = (below(&files.certificate), below(&files.key));
            Some(Tls::open(&certificate, &key, Arc::new(SystemClock))?)
        }
        None => None,
    };
    // The lock before the store: opening a store clears what a dead process left in it.
    let vault = Vault::open_or_create(&options.data, &random).map_err(SiteError::from)?;
    let store_path = options.data.join("store");
    let store = FsStore::open(&store_path).map_err(io(&store_path))?;
    let parts = Collaborators {
        store: Arc::new(store),
        clock: Arc::new(SystemClock),
        random,
    };
    let OpenSite { site, writer } = Site::open_in(vault, &config, parts, options.restored).await?;
    let address = options.listen.unwrap_or(config.listen);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen { address, error })?;
    let address = listener
        .local_addr()
        .map_err(|error| ServeError::Listen { address, error })?;
    on_ready(&Ready {
        address,
        tls: tls.is_some(),
        site: site.id().clone(),
        admin_token: options.data.join(ADMIN_TOKEN_FILE),
    });
    tracing::info!(%address, site = %site.id(), "listening");
    let fresh = tokio::spawn(keep_house(Arc::clone(&site), config.upload_days));
    let settings = Settings {
        connections: config.limits.connections,
        connections_of_one: config.limits.connections_of_one(),
        turns: Some(site.turns().clone()),
        ..Settings::default()
    };
    let metrics = site.metrics().clone();
    let weigher = Weigher {
        bench: options.bench,
        ..site.weigher()
    };
    let weighing = config.weigh.on.then(|| tokio::spawn(weigher.run()));
    let charter = tokio::spawn(Arc::clone(&site).follow_charter());
    let federation = tokio::spawn(Arc::clone(site.federation()).run());
    listen(listener, router(site), tls, settings, metrics, shutdown).await;
    for task in [Some(fresh), weighing, Some(charter), Some(federation)]
        .into_iter()
        .flatten()
    {
        task.abort();
        let _ = task.await;
    }
    // Every handle to the ledger went with the router; the writer finishes its last batch and ends.
    if writer.await.is_err() {
        tracing::error!("the ledger's writer panicked");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens a site that is stopped, for one command: it listens nowhere and asks nobody.
///
/// # Errors
/// When there is none, or it is not stopped.
pub async fn open_stopped(data: &Path) -> Result<OpenSite, ServeError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| ServeError::Io { path, error }
    };
    // The lock before the store: opening a store clears what a dead process left in it.
    let vault = Vault::open(data).map_err(SiteError::from)?;
    let config = configure(data)?;
    let store_path = data.join("store");
    let parts = Collaborators {
        store: Arc::new(FsStore::open(&store_path).map_err(io(&store_path))?),
        clock: Arc::new(SystemClock),
        random: Random::from_system().map_err(io(data))?,
    };
    Ok(Site::open_in(vault, &config, parts, Restored::No).await?)
}

/// Lets this process have as many files open as the system allows it: each connection is one.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Forgets old uploads; and says anew, once a day, which releases are withdrawn, so that a reader sees
/// as of when nothing else was.
async fn keep_house(site: Arc<Site>, upload_days: u32) {
    let mut sweeps = tokio::time::interval(SWEPT_EVERY);
    let mut looks = tokio::time::interval(RENEWED_EVERY);
    loop {
        tokio::select! {
            _ = sweeps.tick() => {
                if let Err(error) = site.sweep_uploads(upload_days).await {
                    tracing::error!(%error, "old uploads could not be forgotten");
                }
            }
            _ = looks.tick() => {
                if let Err(error) = site.renew_revocations(RENEWED_AFTER_SECONDS).await {
                    tracing::error!(%error, "the revocation list could not be renewed");
                }
            }
        }
    }
}
