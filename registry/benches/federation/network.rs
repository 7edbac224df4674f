//! The network beside which figures stand: how fast loopback is, and one that is 25 ms away in each direction.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::now;

/// How long anything takes in one direction.
const ONE_WAY: Duration = Duration::from_millis(25);

/// Passes on all connections to an address, late. Returns where.
pub(crate) async fn far(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else {
                    return;
                };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::join!(late(near_read, far_write), late(far_read, near_write));
            });
        }
    });
    address
}

async fn late(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let (sent, mut comes) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::from_std(now()) + ONE_WAY;
            if sent.send((due, piece[..length].to_vec())).await.is_err() {
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

/// Bytes a second that one connection over loopback carries, from memory to memory.
pub(crate) async fn loopback(bytes: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let sender = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let piece = vec![7; 256 << 10];
        for _ in 0..bytes / piece.len() {
            stream.write_all(&piece).await.expect("it is read");
        }
    });
    let start = now();
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let (mut piece, mut read) = (vec![0; 256 << 10], 0);
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        read += length;
    }
    sender.await.expect("it sends");
    read as f64 / start.elapsed().as_secs_f64()
}
