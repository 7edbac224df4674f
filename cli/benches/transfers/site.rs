//! A site and its client, as the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::fresh;
use super::process::{Cost, Server, free_address, installed, quiet, run};

const WAAG: &str = env!("CARGO_BIN_EXE_waag");

pub(crate) struct Bench {
    server: Server,
    address: String,
    directory: PathBuf,
    certificate: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn start(directory: &Path) -> Self {
        fresh(directory);
        Self::begin(directory, None)
    }

    /// Likewise over TLS, where `openssl` is installed to make the certificate.
    pub(crate) fn start_over_tls(directory: &Path) -> Option<Self> {
        if !installed("openssl") {
            return None;
        }
        fresh(directory);
        let certificate = directory.join("certificate.pem");
        let mut make = quiet("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=waag bench"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .stderr(std::process::Stdio::null());
        run(make);
        Some(Self::begin(directory, Some(certificate)))
    }

    fn begin(directory: &Path, certificate: Option<PathBuf>) -> Self {
        let address = free_address();
        let data = directory.join("data");
        fresh(&data);
        // Transfers are measured here; weighing would take its turn on the same two cores.
        let mut config = "[weigh]\non = false\n".to_owned();
        if certificate.is_some() {
            config.push_str("[tls]\ncertificate = \"../certificate.pem\"\nkey = \"../key.pem\"\n");
        }
        std::fs::write(data.join("waag.toml"), config).expect("there is room");
        let mut serve = quiet(WAAG);
        serve
            .args(["serve", "--listen", &address, "--data"])
            .arg(directory.join("data"))
            .stderr(std::process::Stdio::null());
        let bench = Self {
            server: Server::start(serve, &address),
            address,
            directory: directory.to_owned(),
            certificate,
        };
        let scheme = if bench.certificate.is_some() {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{}", bench.address);
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
        if let Some(certificate) = &self.certificate {
            command.env("WAAG_CA", certificate);
        }
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
