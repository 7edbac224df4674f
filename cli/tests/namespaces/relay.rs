//! What stands in for `tc netem` where the kernel has none: it takes connections in the place of a site, and passes on
//! what comes, each piece a while later, and one in a hundred as much later as a lost packet makes TCP.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::net::enter;

/// How long TCP waits at least before it sends again what nobody has confirmed.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Pieces that are on their way at once, in one direction of a connection.
const UNDER_WAY: usize = 64;

/// How what passes is held up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) delay: Duration,
    /// One piece in so many is lost.
    pub(super) one_lost_in: u64,
}

/// Passes on until dropped.
pub(super) struct Relay {
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens in a namespace, for who listens there at another address.
    pub(super) fn start(namespace: OwnedFd, at: SocketAddr, to: SocketAddr, weather: Weather) -> Self {
        let (over, ends) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter(&namespace).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(at).await.unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    _ = ends => {}
                    () = accept(listener, to, weather) => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            over: Some(over),
            thread: Some(thread),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            let _ = over.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, weather: Weather) {
    let mut open = JoinSet::new();
    // A connection that broke before it was taken is nobody's.
    loop {
        let Ok((near, _)) = listener.accept().await else {
            continue;
        };
        open.spawn(async move {
            // Whoever is not there takes no connection: it is closed at once, as a machine without a server does.
            let Ok(far) = TcpStream::connect(to).await else {
                return;
            };
            let (Ok(()), Ok(())) = (near.set_nodelay(true), far.set_nodelay(true)) else {
                return;
            };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::join!(
                one_way(near_read, far_write, weather),
                one_way(far_read, near_write, weather)
            );
        });
        while open.try_join_next().is_some() {}
    }
}

/// Passes on one direction, in order, until its sender ends it.
async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: Weather) {
    let (sent, mut comes) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async move {
        let mut number: u64 = 0;
        loop {
            let mut piece = vec![0; 16 << 10];
            let Ok(length @ 1..) = from.read(&mut piece).await else {
                return;
            };
            piece.truncate(length);
            number += 1;
            let mut late = weather.delay;
            if number.is_multiple_of(weather.one_lost_in) {
                late += SENT_AGAIN_AFTER;
            }
            if sent.send((now() + late, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = comes.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a network takes its time from nobody's clock"
)]
fn now() -> Instant {
    std::time::Instant::now().into()
}
