//! The peers, as Debian ships them, each on its own loopback address and in its own directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use waag_schema::Sha256;

use super::data::Model;
use super::fresh;
use super::process::{Cost, Server, free_address, quiet, read, run, run_all};

/// Files moved side by side by `curl`, as `waag` does by itself.
const AT_ONCE: usize = 4;

fn curl(args: &[&str]) -> Command {
    let mut command = quiet("curl");
    command.args(["--silent", "--show-error", "--fail"]).args(args);
    command
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("our own name")
}

/// `docker-registry` with files in a directory.
pub(crate) struct DockerRegistry {
    server: Server,
    address: String,
}

impl DockerRegistry {
    pub(crate) fn start(directory: &Path) -> Self {
        fresh(directory);
        let address = free_address();
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            directory.join("data").display()
        );
        std::fs::write(&config, text).expect("there is room");
        let mut serve = quiet("docker-registry");
        serve.arg("serve").arg(config).stderr(std::process::Stdio::null());
        Self {
            server: Server::start(serve, &address),
            address,
        }
    }

    /// Opens an upload, as the protocol wants it, and returns where its bytes go.
    fn upload(&self) -> String {
        let url = format!("http://{}/v2/bench/model/blobs/uploads/", self.address);
        let output = curl(&["-X", "POST", "-D", "-", "-o", "/dev/null", &url])
            .stdout(std::process::Stdio::piped())
            .output()
            .expect("curl runs");
        let headers = String::from_utf8_lossy(&output.stdout).into_owned();
        let location = headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("location")
                .then(|| value.trim().to_owned())
        });
        location.unwrap_or_else(|| panic!("no Location in {headers}"))
    }

    fn put(&self, path: &Path, digest: &Sha256) -> Command {
        let location = self.upload();
        let joined = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joined}digest={digest}");
        let mut put = curl(&["-H", "Content-Type: application/octet-stream", "-T"]);
        put.arg(path).arg(url);
        put
    }

    /// Sends all files; their digests are known to the sender beforehand and not part of the cost.
    pub(crate) fn push(&self, model: &Model) -> Cost {
        let files = digests(model);
        let puts = files.iter().map(|(path, digest, _)| self.put(path, digest));
        run_all(puts.collect(), AT_ONCE)
    }

    pub(crate) fn pull(&self, model: &Model, out: &Path) -> Cost {
        let gets = digests(model).into_iter().map(|(path, digest, _)| {
            let url = format!("http://{}/v2/bench/model/blobs/{digest}", self.address);
            let mut get = curl(&[&url, "-o"]);
            get.arg(out.join(name(&path)));
            get
        });
        run_all(gets.collect(), AT_ONCE)
    }

    pub(crate) fn skopeo(&self, model: &Model, out: &Path) -> Cost {
        self.put_manifest(model, out);
        let mut copy = quiet("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
            .arg(format!("docker://{}/bench/model:1.0", self.address))
            .arg(format!("dir:{}", out.join("copy").display()));
        run(copy)
    }

    fn put_manifest(&self, model: &Model, scratch: &Path) {
        let config = scratch.join("config.json");
        std::fs::write(&config, "{}").expect("there is room");
        let digest = Sha256::of(b"{}");
        run(self.put(&config, &digest));
        let mut layers = String::new();
        for (_, digest, size) in digests(model) {
            let comma = if layers.is_empty() { "" } else { "," };
            let media = "application/vnd.oci.image.layer.v1.tar";
            let _ = write!(
                layers,
                r#"{comma}{{"mediaType":"{media}","digest":"{digest}","size":{size}}}"#
            );
        }
        let manifest = scratch.join("manifest.json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}},"layers":[{layers}]}}"#
        );
        std::fs::write(&manifest, text).expect("there is room");
        let url = format!("http://{}/v2/bench/model/manifests/1.0", self.address);
        let mut put = curl(&[
            "-X",
            "PUT",
            "-H",
            &format!("Content-Type: {kind}"),
            &url,
            "--data-binary",
        ]);
        put.arg(format!("@{}", manifest.display()));
        run(put);
    }

    pub(crate) fn cost_so_far(&self) -> Cost {
        self.server.cost_so_far()
    }

    pub(crate) fn stop(self) -> Cost {
        self.server.stop()
    }
}

fn digests(model: &Model) -> Vec<(PathBuf, Sha256, u64)> {
    let files = model.files.iter().map(|path| {
        let bytes = read(path);
        (path.clone(), Sha256::of(&bytes), bytes.len() as u64)
    });
    files.collect()
}

/// `nginx` that serves a directory; its worker's CPU is not seen, so only the client's counts.
pub(crate) struct Nginx {
    server: Server,
    address: String,
}

impl Nginx {
    pub(crate) fn start(directory: &Path, root: &Path) -> Self {
        fresh(directory);
        let address = free_address();
        let config = directory.join("nginx.conf");
        let (here, root) = (directory.display(), root.display());
        let text = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\nevents {{}}\n\
             http {{ access_log off; sendfile on; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; \
             fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             server {{ listen {address}; root {root}; }} }}\n"
        );
        std::fs::write(&config, text).expect("there is room");
        let mut serve = quiet("nginx");
        serve.arg("-p").arg(directory).arg("-c").arg(config);
        Self {
            server: Server::start(serve, &address),
            address,
        }
    }

    pub(crate) fn pull(&self, model: &Model, out: &Path) -> Cost {
        let gets = model.files.iter().map(|path| {
            let url = format!("http://{}/{}", self.address, name(path));
            let mut get = curl(&[&url, "-o"]);
            get.arg(out.join(name(path)));
            get
        });
        let before = self.server.cost_so_far();
        let pull = run_all(gets.collect(), AT_ONCE);
        self.server.cost_so_far().since(&before).beside(&pull)
    }

    pub(crate) fn stop(self) {
        self.server.stop();
    }
}

/// A `restic` repository in a directory, written by its own program.
pub(crate) struct Restic {
    directory: PathBuf,
}

impl Restic {
    pub(crate) fn init(directory: &Path) -> Self {
        fresh(directory);
        let restic = Self {
            directory: directory.to_owned(),
        };
        run(restic.command(&["init"]));
        restic
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = quiet("restic");
        command
            .env("RESTIC_PASSWORD", "benchmark")
            .env("RESTIC_CACHE_DIR", self.directory.join("cache"))
            .arg("--quiet")
            .arg("--repo")
            .arg(self.directory.join("repository"))
            .args(args);
        command
    }

    pub(crate) fn backup(&self, model: &Path) -> Cost {
        let mut backup = self.command(&["backup"]);
        backup.arg(model);
        run(backup)
    }
}
