//! What a process costs: CPU seconds and peak memory, read from `/proc` while it runs and once it has ended.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often a running process is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(5);
/// `USER_HZ`, which Linux fixes at 100 for all architectures of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// What something cost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    pub(crate) peak_kib: u64,
}

impl Cost {
    /// Adds what a client cost to what its server did.
    pub(crate) fn beside(self, client: &Self) -> Self {
        Self {
            wall: client.wall,
            client_cpu: client.client_cpu,
            server_cpu: self.server_cpu,
            peak_kib: self.peak_kib.max(client.peak_kib),
        }
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            server_cpu: self.server_cpu - before.server_cpu,
            ..self
        }
    }

    /// GB per second.
    pub(crate) fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e9 / self.wall.as_secs_f64()
    }

    pub(crate) fn server_cpu_per_gb(&self, bytes: u64) -> f64 {
        self.server_cpu / (bytes as f64 / 1e9)
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits for processes")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Says whether a program is on the PATH.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Returns CPU seconds of a process, of its ended children too, and whether it has ended.
pub(crate) fn cpu(pid: u32) -> Option<(f64, bool)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it are counted from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = (11..=14)
        .filter_map(|field| fields.get(field)?.parse::<f64>().ok())
        .sum();
    Some((ticks / TICKS_PER_SECOND, fields.first() == Some(&"Z")))
}

/// Returns the most memory that a running process has had.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

/// Prepares a quiet command.
pub(crate) fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    command
}

pub(crate) fn start(mut command: Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Runs commands side by side, at most `at_once`, to their ends.
///
/// # Panics
/// When one fails: a benchmark of something that failed says nothing.
pub(crate) fn run_all(commands: Vec<Command>, at_once: usize) -> Cost {
    let begun = now();
    let (mut client_cpu, mut peak) = (0.0, 0);
    let mut waiting = commands.into_iter();
    let mut running: Vec<(Child, String)> = Vec::new();
    loop {
        while running.len() < at_once {
            let Some(command) = waiting.next() else { break };
            let shown = format!("{command:?}");
            running.push((start(command), shown));
        }
        if running.is_empty() {
            break;
        }
        let mut left = Vec::new();
        for (mut child, shown) in running {
            peak = peak.max(peak_kib(child.id()));
            match cpu(child.id()) {
                Some((spent, true)) => {
                    client_cpu += spent;
                    let status = child.wait().expect("our own child");
                    assert!(status.success(), "{shown}: {status}");
                }
                _ => left.push((child, shown)),
            }
        }
        running = left;
        pause(LOOKED_AT_EVERY);
    }
    Cost {
        wall: begun.elapsed(),
        client_cpu,
        server_cpu: 0.0,
        peak_kib: peak,
    }
}

pub(crate) fn run(command: Command) -> Cost {
    run_all(vec![command], 1)
}

/// A server of ours: started, waited for, ended.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn start(command: Command, address: &str) -> Self {
        let mut child = start(command);
        for _ in 0..1000 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Self { child };
            }
            pause(Duration::from_millis(20));
        }
        child.kill().and_then(|()| child.wait()).expect("our own child");
        panic!("nothing listens on {address} after 20 s");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cost_so_far(&self) -> Cost {
        Cost {
            server_cpu: cpu(self.pid()).map_or(0.0, |(spent, _)| spent),
            peak_kib: peak_kib(self.pid()),
            ..Cost::default()
        }
    }

    pub(crate) fn stop(mut self) -> Cost {
        let cost = self.cost_so_far();
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        cost
    }
}

/// A free address on this machine.
pub(crate) fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
