//! The line to one site: the connections that are open, how many requests go over them, and how fast.
//!
//! A connection on which something stalled is never used again: the next request gets new ones, and after a second
//! stall without HTTP/2, whose one connection carries everything. Who tries again is told of once in an outage, not
//! once for each request, and a site that has answered before is given the time of a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::redirect;
use tokio::time::Instant;

use crate::error::{ClientError, Result};
use crate::pace::{Bucket, Pace};
use crate::transport::{Settings, told};
use crate::url::SiteUrl;

/// How often nobody needs to answer, at first contact, before we believe that nobody is there.
const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// How long nobody needs to answer where somebody did before: a site restarts in less.
const RESTART: Duration = Duration::from_secs(15);
/// Shorter than a site keeps a connection that is not used, so that none ends just when it is taken.
const POOLED: Duration = Duration::from_secs(20);
/// What may be under way to us for one answer, and on one HTTP/2 connection: 40 ms away that is 100 MB/s.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// From so many stalls on HTTP/2 is not tried.
const STALLS_WITHOUT_HTTP2: u32 = 2;
/// The shortest time between two announcements.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(10);

struct Connections {
    http: reqwest::Client,
    /// How often they were replaced: who has stalled on old ones says nothing about the new.
    generation: u32,
}

#[derive(Default)]
struct Outage {
    /// Whether the site has ever answered.
    answered: bool,
    /// Since when nobody has.
    since: Option<Instant>,
    announced: bool,
    last: Option<Instant>,
}

/// The line to one site, shared by everything that asks it.
pub(crate) struct Line {
    plan: Plan,
    connections: Mutex<Connections>,
    outage: Mutex<Outage>,
    bucket: Option<Mutex<Bucket>>,
    pub(crate) pace: Pace,
}

/// How connections are made.
struct Plan {
    url: SiteUrl,
    connect_timeout: Duration,
    authorities: Vec<reqwest::Certificate>,
}

impl Line {
    pub(crate) fn new(url: &SiteUrl, settings: &Settings) -> Result<Arc<Self>> {
        let plan = Plan {
            url: url.clone(),
            connect_timeout: settings.connect_timeout,
            authorities: settings
                .authorities
                .as_ref()
                .map(read_authorities)
                .transpose()?
                .unwrap_or_default(),
        };
        let http = plan.connect(0)?;
        Ok(Arc::new(Self {
            plan,
            connections: Mutex::new(Connections { http, generation: 0 }),
            outage: Mutex::default(),
            bucket: settings
                .bytes_per_second
                .map(|rate| Mutex::new(Bucket::new(rate, Instant::now()))),
            pace: Pace::default(),
        }))
    }

    /// Returns the connections to ask over, and which ones they are.
    pub(crate) fn connections(&self) -> (reqwest::Client, u32) {
        let now = locked(&self.connections);
        (now.http.clone(), now.generation)
    }

    /// Leaves the connections on which something stalled.
    pub(crate) fn stalled(&self, generation: u32) {
        self.pace.trouble();
        let mut now = locked(&self.connections);
        if now.generation == generation {
            now.generation += 1;
            // What could be made once can be made again; if not, the old ones are what there is.
            if let Ok(http) = self.plan.connect(now.generation) {
                now.http = http;
            }
        }
    }

    /// Notes that somebody answered; `well`, if it was more than to come back later.
    pub(crate) fn answered(&self, well: bool) {
        let mut outage = locked(&self.outage);
        outage.answered = true;
        outage.since = None;
        outage.announced &= !well;
    }

    /// Says whether it is worth to try again where nobody answered.
    pub(crate) fn patient(&self, tried: u32) -> bool {
        let mut outage = locked(&self.outage);
        let now = Instant::now();
        let since = *outage.since.get_or_insert(now);
        tried < CONNECT_ATTEMPTS_MAX || (outage.answered && now - since < RESTART)
    }

    /// Says whether a person should be told that something is tried again: once in an outage.
    pub(crate) fn announce(&self) -> bool {
        let mut outage = locked(&self.outage);
        let now = Instant::now();
        let recent = outage.last.is_some_and(|last| now - last < ANNOUNCED_EVERY);
        if outage.announced || recent {
            return false;
        }
        outage.announced = true;
        outage.last = Some(now);
        true
    }

    /// Waits until so many bytes may have moved.
    pub(crate) async fn moved(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let now = Instant::now();
        let wait = locked(bucket).take(bytes, now);
        tokio::time::sleep_until(now + wait).await;
    }

    /// The largest piece that is moved at once: at a slow rate, a second's worth.
    pub(crate) fn piece(&self, largest: usize) -> usize {
        let rate = self.bucket.as_ref().map(|bucket| locked(bucket).rate());
        rate.map_or(largest, |rate| {
            usize::try_from(rate).unwrap_or(largest).clamp(1, largest)
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plan {
    fn connect(&self, stalls: u32) -> Result<reqwest::Client> {
        static PROVIDER: OnceLock<()> = OnceLock::new();
        PROVIDER.get_or_init(|| {
            // An error says that the program around us has chosen one already, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("waag/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(POOLED)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if !self.authorities.is_empty() {
            builder = builder.tls_certs_merge(self.authorities.iter().cloned());
        }
        if self.url.is_loopback() {
            builder = builder.no_proxy();
        }
        if stalls >= STALLS_WITHOUT_HTTP2 {
            builder = builder.http1_only();
        }
        builder.build().map_err(|e| ClientError::Unreachable {
            url: self.url.to_string(),
            reason: told(&e),
        })
    }
}

/// Reads the certificates of authorities that are believed besides those of the system.
fn read_authorities(path: &PathBuf) -> Result<Vec<reqwest::Certificate>> {
    let bytes = std::fs::read(path).map_err(ClientError::io("read", path))?;
    let refused = |why: &dyn std::fmt::Display| {
        ClientError::Usage(format!(
            "{} holds no certificates in PEM form{why}",
            path.display()
        ))
    };
    let found =
        reqwest::Certificate::from_pem_bundle(&bytes).map_err(|e| refused(&format!(": {}", told(&e))))?;
    if found.is_empty() {
        return Err(refused(&""));
    }
    Ok(found)
}

/// A body that goes out in pieces, no faster than the line allows; `moved` is told of each.
pub(crate) fn in_pieces(
    line: Arc<Line>,
    bytes: Bytes,
    largest: usize,
    moved: impl Fn() + Send + Sync + 'static,
) -> reqwest::Body {
    let largest = line.piece(largest);
    let pieces =
        futures_util::stream::unfold((line, bytes, moved), move |(line, mut rest, moved)| async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(largest));
            line.moved(piece.len()).await;
            moved();
            Some((Ok::<_, std::convert::Infallible>(piece), (line, rest, moved)))
        });
    reqwest::Body::wrap_stream(pieces)
}
