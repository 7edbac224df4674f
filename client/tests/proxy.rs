//! A network that fails, by seed: it stands between a client and a site on this machine and cuts, stalls, slows,
//! splits or corrupts what goes through. The first connections fail; those after them are well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;
use waag_client::SiteUrl;

/// What befalls one direction of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both directions end after so many bytes.
    Cut(u64),
    /// Nothing comes any more after so many bytes, and nothing says so.
    Stall(u64),
    /// A bit of this byte is another.
    Corrupt(u64),
    /// What was written at once comes in pieces of so many bytes.
    Split(usize),
    /// So many bytes a millisecond.
    Slow(usize),
}

/// Numbers that are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Throws what befalls a connection: to the site, and back.
    pub(crate) fn faults(&mut self, bytes: u64, corrupting: bool) -> [Option<Fault>; 2] {
        let mut faults = [None, None];
        let way = usize::from(self.below(2) == 1);
        // Faults early in an exchange and late in one are both worth meeting.
        let most = [300, 3_000, bytes][usize::try_from(self.below(3)).unwrap()];
        let at = self.below(most.max(1));
        faults[way] = Some(match self.below(if corrupting { 8 } else { 5 }) {
            0 | 1 => Fault::Cut(at),
            2 => Fault::Stall(at),
            3 => Fault::Split(1 + usize::try_from(self.below(40)).unwrap()),
            4 => Fault::Slow(500 + usize::try_from(self.below(5_000)).unwrap()),
            _ => Fault::Corrupt(at),
        });
        faults
    }
}

/// The network, until dropped.
pub(crate) struct Proxy {
    pub(crate) url: SiteUrl,
    faults: Arc<std::sync::Mutex<Vec<[Option<Fault>; 2]>>>,
    met: Arc<AtomicUsize>,
    over: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A network to this site that is well until told otherwise.
    pub(crate) async fn to(site: &SiteUrl) -> Self {
        let site: SocketAddr = site.to_string().replace("http://", "").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let faults: Arc<std::sync::Mutex<Vec<[Option<Fault>; 2]>>> = Arc::default();
        let met = Arc::new(AtomicUsize::new(0));
        let (over, ends) = watch::channel(());
        let (next, count) = (Arc::clone(&faults), Arc::clone(&met));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let faults = next.lock().unwrap().pop().unwrap_or_default();
                if faults != [None, None] {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let far = TcpStream::connect(site).await.unwrap();
                let mut ends = ends.clone();
                ends.mark_unchanged();
                open.spawn(async move {
                    tokio::select! {
                        () = carry(near, far, faults) => {}
                        _ = ends.changed() => {}
                    }
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self {
            url,
            faults,
            met,
            over,
            _tasks: tasks,
        }
    }

    /// Ends all connections, and lets these befall the next ones, the last of them first.
    pub(crate) fn suffer(&self, faults: Vec<[Option<Fault>; 2]>) {
        *self.faults.lock().unwrap() = faults;
        self.over.send(()).unwrap();
    }

    /// Returns how many connections something was to befall.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

async fn carry(near: TcpStream, far: TcpStream, [there, back]: [Option<Fault>; 2]) {
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // Whichever direction ends first ends both: what is left is closed with the sockets.
    tokio::select! {
        () = one_way(near_read, far_write, there) => {}
        () = one_way(far_read, near_write, back) => {}
    }
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, fault: Option<Fault>) {
    let mut passed: u64 = 0;
    let mut buffer = vec![0; 16 << 10];
    let mut ticks = interval(Duration::from_millis(1));
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut bytes = &mut buffer[..read];
        let here = passed..passed + read as u64;
        passed = here.end;
        let piece = match fault {
            Some(Fault::Cut(at)) if here.contains(&at) => {
                let _ = to
                    .write_all(&bytes[..usize::try_from(at - here.start).unwrap()])
                    .await;
                return;
            }
            Some(Fault::Stall(at)) if here.contains(&at) => {
                let _ = to
                    .write_all(&bytes[..usize::try_from(at - here.start).unwrap()])
                    .await;
                return std::future::pending().await;
            }
            Some(Fault::Corrupt(at)) if here.contains(&at) => {
                bytes[usize::try_from(at - here.start).unwrap()] ^= 1;
                read
            }
            Some(Fault::Split(piece) | Fault::Slow(piece)) => piece,
            _ => read,
        };
        let slow = matches!(fault, Some(Fault::Slow(_)));
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at_mut(piece.min(bytes.len()));
            if to.write_all(now).await.is_err() {
                return;
            }
            if slow {
                ticks.tick().await;
            }
            bytes = later;
        }
    }
}
