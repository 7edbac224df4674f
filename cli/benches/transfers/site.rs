//! A site and its client, as the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fresh;
use super::process::{Cost, Server, free_address, quiet, run};

const WAAG: &str = env!("CARGO_BIN_EXE_waag");

pub(crate) struct Bench {
    server: Server,
    address: String,
    directory: PathBuf,
}

impl Bench {
    pub(crate) fn start(directory: &Path) -> Self {
        fresh(directory);
        let address = free_address();
        // Transfers are measured here; weighing would take its turn on the same two cores.
        let data = directory.join("data");
        fresh(&data);
        std::fs::write(data.join("waag.toml"), "[weigh]\non = false\n").expect("there is room");
        let mut serve = quiet(WAAG);
        serve
            .args(["serve", "--listen", &address, "--data"])
            .arg(directory.join("data"))
            .stderr(std::process::Stdio::null());
        let bench = Self {
            server: Server::start(serve, &address),
            address,
            directory: directory.to_owned(),
        };
        let url = format!("http://{}", bench.address);
        let token = bench.directory.join("data/admin-token");
        run({
            let mut login = bench.waag(&["login", &url, "--token-file"]);
            login.arg(token);
            login
        });
        run(bench.waag(&["key", "generate", "--no-passphrase"]));
        run(bench.waag(&["namespace", "create", "bench"]));
        bench
    }

    pub(crate) fn waag(&self, args: &[&str]) -> Command {
        let mut command = quiet(WAAG);
        command
            .env("WAAG_HOME", self.directory.join("home"))
            .env_remove("WAAG_SITE")
            .arg("-q")
            .args(args);
        command
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn push(&self, path: &Path, reference: &str, flags: &[&str]) -> Cost {
        let mut push = self.waag(&["push"]);
        push.arg(path).arg(reference).args(flags);
        run(push)
    }

    pub(crate) fn pull_command(&self, reference: &str, out: &Path) -> Command {
        let mut pull = self.waag(&["pull", reference]);
        pull.arg(out);
        pull
    }

    pub(crate) fn pull(&self, reference: &str, out: &Path) -> Cost {
        run(self.pull_command(reference, out))
    }

    /// Bytes of chunks that the site has received, by its own count.
    pub(crate) fn moved(&self) -> u64 {
        let output = Command::new("curl")
            .args(["-s", &format!("http://{}/metrics", self.address)])
            .output();
        let text = output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let mut counts = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == "waag_chunk_received_bytes_total").then(|| value.parse().ok())?
        });
        counts.next().unwrap_or(0)
    }

    pub(crate) fn cost_so_far(&self) -> Cost {
        self.server.cost_so_far()
    }

    pub(crate) fn stop(self) -> Cost {
        self.server.stop()
    }
}
