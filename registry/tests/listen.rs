//! Connections: each wait ends, and one too many is told so.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use waag_registry::listen::{Settings, listen};
use waag_registry::telemetry::Metrics;
use waag_registry::turns::{Limits, Turns, Who};

/// A listener that runs until told to stop.
struct Listening {
    address: SocketAddr,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<()>,
}

/// Waits that no test meets by accident.
fn patient() -> Settings {
    let long = Duration::from_secs(600);
    Settings {
        connections: 8,
        connections_of_one: 8,
        opening: long,
        stalled: long,
        stalled_in_crowd: long,
        turns: None,
        idle: long,
        grace: long,
    }
}

/// Waits short enough to be waited for.
fn hasty() -> Settings {
    Settings {
        opening: Duration::from_millis(300),
        stalled: Duration::from_millis(400),
        stalled_in_crowd: Duration::from_millis(400),
        grace: Duration::from_millis(300),
        ..patient()
    }
}

fn zeros() -> Body {
    let piece = Bytes::from(vec![0; 1 << 20]);
    Body::from_stream(stream::repeat_with(move || {
        Ok::<_, std::io::Error>(piece.clone())
    }))
}

async fn listening(settings: Settings) -> Listening {
    let router = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/never", get(pending::<&str>))
        .route("/endless", get(|| async { zeros() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let metrics = Metrics::default();
    let shutdown = async {
        let _ = stopped.await;
    };
    let done = tokio::spawn(listen(
        listener,
        router,
        None,
        settings,
        metrics.clone(),
        shutdown,
    ));
    Listening {
        address,
        metrics,
        stop: Some(stop),
        done,
    }
}

impl Listening {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";

/// Reads until the answer to [`REQUEST`] is complete.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("here") {
        let mut bytes = [0; 512];
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

/// Reads what comes until the other side closes; a reset is an end as well.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let listening = listening(patient()).await;
    let mut stream = listening.connect().await;
    for _ in 0..3 {
        stream.write_all(REQUEST).await.unwrap();
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_not_waited_for() {
    let listening = listening(hasty()).await;
    for start in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nHost: he",
    ] {
        let mut stream = listening.connect().await;
        stream.write_all(start).await.unwrap();
        let said = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let listening = listening(Settings {
        connections: 1,
        ..patient()
    })
    .await;
    let mut first = listening.connect().await;
    first.write_all(REQUEST).await.unwrap();
    answer(&mut first).await;
    let mut second = listening.connect().await;
    second
        .write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(rest(&mut second).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(said.to_ascii_lowercase().contains("retry-after: "), "{said}");
    assert!(said.contains("\"busy\""), "{said}");
    assert!(
        listening
            .metrics
            .render()
            .contains("waag_turned_away_total{limit=\"connections\"} 1")
    );
}

#[tokio::test]
async fn one_connection_too_many_of_one_address_is_told_so() {
    let listening = listening(Settings {
        connections_of_one: 1,
        ..patient()
    })
    .await;
    let mut first = listening.connect().await;
    first.write_all(REQUEST).await.unwrap();
    answer(&mut first).await;
    let mut second = listening.connect().await;
    second
        .write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(rest(&mut second).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(said.contains("this address"), "{said}");
    assert!(
        listening
            .metrics
            .render()
            .contains("waag_turned_away_total{limit=\"connections_of_one\"} 1")
    );
}

#[tokio::test]
async fn who_takes_nothing_is_cut_off_sooner_while_others_wait() {
    let turns = Turns::new(Limits {
        at_once: 1,
        ..Limits::default()
    });
    let taken = turns.take(Who::Nobody).await.unwrap();
    let waiting = tokio::spawn({
        let turns = turns.clone();
        async move { turns.take(Who::Token("another".to_owned())).await }
    });
    cut_off(Settings {
        stalled: Duration::from_secs(600),
        turns: Some(turns),
        ..hasty()
    })
    .await;
    drop(taken);
    let _ = waiting.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut_off_over_http_1() {
    cut_off(hasty()).await;
}

/// Asks for an endless answer and takes nothing of it, until the site ends that.
async fn cut_off(settings: Settings) {
    let listening = listening(settings).await;
    let mut stream = listening.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        .await
        .unwrap();
    // It is the site that ends it: the gauge of connections falls without a byte read here.
    while listening.metrics.connections.get() == 0 {
        tokio::task::yield_now().await;
    }
    let gone = async {
        while listening.metrics.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut_off_over_http_2() {
    let listening = listening(hasty()).await;
    let stream = listening.connect().await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    // The connection itself is well, and answers pings; it is the one answer that is not taken.
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("http://here/endless")
        .body(Body::empty())
        .unwrap();
    let taken = sender.send_request(request).await.unwrap();
    assert_eq!(taken.status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
    assert!(ended.is_ok(), "the connection goes on");
    drop(taken);
}

#[tokio::test]
async fn a_stop_waits_for_requests_under_way_but_not_for_ever() {
    let mut listening = listening(hasty()).await;
    let mut idle = listening.connect().await;
    idle.write_all(REQUEST).await.unwrap();
    answer(&mut idle).await;
    let mut stuck = listening.connect().await;
    stuck
        .write_all(b"GET /never HTTP/1.1\r\nHost: here\r\n\r\n")
        .await
        .unwrap();
    while listening.metrics.connections.get() < 2 {
        tokio::task::yield_now().await;
    }
    listening.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), &mut listening.done)
        .await
        .unwrap()
        .unwrap();
    assert!(rest(&mut idle).await.is_empty());
    assert!(rest(&mut stuck).await.is_empty());
}
