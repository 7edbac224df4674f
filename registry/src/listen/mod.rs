//! Connections: who may have one, how long each may wait, and how all of them end.
//!
//! One port speaks HTTP/1.1 and HTTP/2, in clear text (also HTTP/2 that begins without asking) or within TLS.
//! Every wait for the other side is bounded, so a connection that goes nowhere gives back its place and its memory:
//!
//! ```text
//! accept -> [TLS handshake] -> head of a request -> answer taken piece by piece -> next request -> end
//!            opening            opening              stalled                      idle           grace
//! ```
//! One connection too many is told so (503, `Retry-After`) and closed, never left waiting. What is answered is the
//! router's business.

mod activity;
mod paced;
mod places;
mod tls;
mod validity;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use self::activity::{Activity, Standing, Watched};
use self::paced::Paced;
pub use self::places::Peer;
use self::places::{NoPlace, Places};
pub use self::tls::{Tls, TlsError};
use crate::http::{too_many_connections, too_many_connections_of_one};
use crate::telemetry::Metrics;
use crate::turns::Turns;

/// Connections beyond the limit that are told so at the same time; any more are closed without a word.
const TOLD_AT_ONCE: usize = 64;
/// How long telling them may take.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// What may be under way to us for one request, and on one connection: a chunk, and two of them.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// What waits to be sent for one request.
const SEND_BUFFER_BYTES: usize = 512 << 10;
/// The largest head of a request: a token and a path have far less.
const HEAD_BYTES: u32 = 16 << 10;
/// Before the system is asked again for what it has just run out of.
const BREATH: Duration = Duration::from_secs(1);
/// How often the certificate's files are looked at.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(30);

/// How long, and how many.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address, or from one network of IPv6.
    pub connections_of_one: usize,
    /// How long a handshake may take, and the head of a request.
    pub opening: Duration,
    /// How long the other side may take nothing of an answer.
    pub stalled: Duration,
    /// The same while others wait for a turn to be sent something.
    pub stalled_in_crowd: Duration,
    /// The turns that they wait for.
    pub turns: Option<Turns>,
    /// How long a connection may be of no use.
    pub idle: Duration,
    /// How long requests under way may take to end once the site is told to stop.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_one: 512,
            opening: Duration::from_secs(30),
            stalled: Duration::from_secs(60),
            stalled_in_crowd: Duration::from_secs(5),
            turns: None,
            idle: Duration::from_secs(120),
            grace: Duration::from_secs(20),
        }
    }
}

impl Settings {
    /// How long the other side may take nothing, as things are now.
    fn stalled_now(&self) -> Duration {
        if self.turns.as_ref().is_some_and(Turns::crowded) {
            self.stalled_in_crowd.min(self.stalled)
        } else {
            self.stalled
        }
    }
}

/// Answers whoever connects until `shutdown` completes; then takes no more, and gives those under way their time.
pub async fn listen(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    settings: Settings,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(settings.connections, settings.connections_of_one);
    let told = Arc::new(Semaphore::new(TOLD_AT_ONCE));
    let (stop, stopped) = watch::channel(());
    let settings = Arc::new(settings);
    let mut tasks = JoinSet::new();
    let mut certificate = interval(CERTIFICATE_EVERY);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            _ = certificate.tick() => {
                if let Some(tls) = &tls {
                    tls.renew();
                }
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    breathe(&error).await;
                    continue;
                }
            },
        };
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let settings = Arc::clone(&settings);
        let peer = Peer::of(peer.ip());
        let refused = match places.take(peer) {
            Err(refused) => refused,
            Ok(place) => {
                let (router, stopped, gauge) = (router.clone(), stopped.clone(), metrics.connections.clone());
                gauge.inc();
                tasks.spawn(async move {
                    welcome(stream, peer, acceptor, router, settings, stopped).await;
                    gauge.dec();
                    drop(place);
                });
                continue;
            }
        };
        let router = Router::new();
        let router = match refused {
            NoPlace::Site => {
                metrics.turned_away("connections");
                router.fallback(too_many_connections)
            }
            NoPlace::Peer => {
                metrics.turned_away("connections_of_one");
                router.fallback(too_many_connections_of_one)
            }
        };
        if let Ok(place) = Arc::clone(&told).try_acquire_owned() {
            let stopped = stopped.clone();
            tasks.spawn(async move {
                let telling = welcome(stream, peer, acceptor, router, settings, stopped);
                let _ = timeout(TOLD_WITHIN, telling).await;
                drop(place);
            });
        }
    }
    drop(listener);
    // Nobody listens where no connection is open.
    let _ = stop.send(());
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(settings.grace, all).await.is_err() {
        tracing::warn!("requests that were not done in time were cut off");
        tasks.shutdown().await;
    }
}

/// A connection that went before it was taken is no news; when the system has run out of something, asking again at
/// once would only burn time.
async fn breathe(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        return;
    }
    tracing::error!(%error, "connections cannot be taken");
    let _ = timeout(BREATH, std::future::pending::<()>()).await;
}

async fn welcome(
    stream: TcpStream,
    peer: Peer,
    tls: Option<tokio_rustls::TlsAcceptor>,
    router: Router,
    settings: Arc<Settings>,
    stopped: watch::Receiver<()>,
) {
    // It only makes small answers quicker.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return converse(stream, peer, router, &settings, stopped).await;
    };
    match timeout(settings.opening, tls.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, peer, router, &settings, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection, until it ends or goes nowhere.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    settings: &Settings,
    mut stopped: watch::Receiver<()>,
) {
    let activity = Arc::new(Activity::new(Instant::now()));
    let service = {
        let (router, activity) = (TowerToHyperService::new(router), Arc::clone(&activity));
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let open = activity.open();
            let answer = router.call(request);
            async move {
                let answer: Response = answer.await?;
                let answer = answer.map(|body| Body::new(Watched::new(body, open)));
                Ok::<_, std::convert::Infallible>(answer)
            }
        })
    };
    let io = TokioIo::new(Paced::new(stream, settings.opening, settings.stalled));
    let builder = protocols(settings);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut looks = interval(
        (settings.stalled.min(settings.stalled_in_crowd).min(settings.idle) / 4)
            .max(Duration::from_millis(1)),
    );
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            _ = stopped.changed(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => match activity.standing(Instant::now(), settings.stalled_now(), settings.idle) {
                Standing::Busy => {}
                Standing::Stalled => {
                    tracing::debug!("an answer that nobody takes was cut off");
                    return;
                }
                // The second time it has not ended although it was asked to.
                Standing::Idle if ending => return,
                Standing::Idle => {
                    ending = true;
                    activity.touch(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
            },
        }
    }
}

fn protocols(settings: &Settings) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.opening);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(settings.opening)
        .keep_alive_timeout(settings.opening);
    builder
}
