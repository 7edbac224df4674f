//! What this machine can do at most, measured in the same run: every figure is read beside these.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use waag_schema::{ChunkDigest, Sha256};

use super::process::{cpu, now};
use super::table::Table;

const BLOCK: usize = 4 << 20;
const BLOCKS: usize = 256;

pub(crate) struct Limits {
    pub(crate) sha256_seconds_per_gb: f64,
    pub(crate) blake3_seconds_per_gb: f64,
    pub(crate) disk_write_gb_per_second: f64,
    pub(crate) page_cache_gb_per_second: f64,
    pub(crate) loopback_gb_per_second: f64,
}

/// CPU seconds for a GB, the best of three: what disturbs only ever adds.
fn cpu_seconds_per_gb(mut work: impl FnMut()) -> f64 {
    let spent = || cpu(std::process::id()).map_or(f64::NAN, |(spent, _)| spent);
    let mut once = || {
        let before = spent();
        work();
        (spent() - before) / ((BLOCK * BLOCKS) as f64 / 1e9)
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// Seconds for a GB, the best of three.
fn seconds_per_gb(mut work: impl FnMut()) -> f64 {
    let once = |work: &mut dyn FnMut()| {
        let begun = now();
        work();
        begun.elapsed().as_secs_f64() / ((BLOCK * BLOCKS) as f64 / 1e9)
    };
    (0..3).map(|_| once(&mut work)).fold(f64::INFINITY, f64::min)
}

impl Limits {
    pub(crate) fn measure(directory: &Path) -> Self {
        let block: Vec<u8> = (0..BLOCK).map(|at| (at * 31 % 251) as u8).collect();
        let path = directory.join("limits");
        let write = |synced: bool| {
            let mut file = File::create(&path).expect("a file can be made");
            for _ in 0..BLOCKS {
                file.write_all(&block).expect("there is room");
            }
            if synced {
                file.sync_all().expect("the disk works");
            }
        };
        let limits = Self {
            sha256_seconds_per_gb: cpu_seconds_per_gb(|| {
                (0..BLOCKS).for_each(|_| {
                    std::hint::black_box(Sha256::of(&block));
                });
            }),
            blake3_seconds_per_gb: cpu_seconds_per_gb(|| {
                (0..BLOCKS).for_each(|_| {
                    std::hint::black_box(ChunkDigest::of(&block));
                });
            }),
            page_cache_gb_per_second: 1.0 / seconds_per_gb(|| write(false)),
            disk_write_gb_per_second: 1.0 / seconds_per_gb(|| write(true)),
            loopback_gb_per_second: 1.0 / seconds_per_gb(|| loopback(&block)),
        };
        let _ = std::fs::remove_file(path);
        limits
    }

    pub(crate) fn show(&self, table: &mut Table) {
        table.line(format!(
            "This machine, best of three: SHA-256 {:.2} CPU s/GB, BLAKE3 {:.2} CPU s/GB, disk write with fsync {:.2} GB/s, page cache \
             write {:.2} GB/s, loopback {:.2} GB/s, {} cores.",
            self.sha256_seconds_per_gb,
            self.blake3_seconds_per_gb,
            self.disk_write_gb_per_second,
            self.page_cache_gb_per_second,
            self.loopback_gb_per_second,
            std::thread::available_parallelism().map_or(1, usize::from),
        ));
    }
}

fn loopback(block: &[u8]) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("our own connection");
            let mut bytes = vec![0; 1 << 20];
            while stream.read(&mut bytes).expect("our own connection") > 0 {}
        });
        let mut stream = TcpStream::connect(address).expect("our own listener");
        for _ in 0..BLOCKS {
            stream.write_all(block).expect("our own connection");
        }
    });
}
