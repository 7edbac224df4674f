//! A site of the demo: this same program as `waag serve`, in a process of its own, stopped when it is dropped.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::failed;
use crate::failure::Failure;

/// A running site.
pub(super) struct Running {
    pub(super) name: &'static str,
    pub(super) url: String,
    child: Child,
    /// Open as long as the site runs, which prints into it.
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a site in this country and waits until it listens.
    pub(super) fn start(place: &Path, name: &'static str, country: &str) -> Result<Self, Failure> {
        let data = place.join(name);
        let config = format!("jurisdiction = \"{country}\"\n");
        let write = || {
            std::fs::create_dir(&data)?;
            std::fs::write(data.join("waag.toml"), config)?;
            File::create(place.join(format!("{name}.log")))
        };
        let log = write().map_err(|e| failed("write the configuration in", &data, &e))?;
        let mut child = program()?
            .current_dir(place)
            .args(["serve", "--listen", "127.0.0.1:0", "--data", name])
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| failed("start a site in", &data, &e))?;
        let stdout = child.stdout.take();
        let mut running = Self {
            name,
            url: String::new(),
            child,
            _stdout: BufReader::new(stdout.ok_or_else(|| Failure::failed("the site has no output"))?),
        };
        let mut line = String::new();
        while running._stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some(url) = line.trim_end().strip_prefix("listening on ") {
                url.clone_into(&mut running.url);
                return Ok(running);
            }
            line.clear();
        }
        let log = std::fs::read_to_string(place.join(format!("{name}.log"))).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it said nothing").to_owned();
        Err(Failure::failed(format!(
            "the site {name} ended before it listened: {last}"
        )))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is ours, and by this handle nobody else's process can be meant. What it was writing is found by its next
        // start, as after any crash.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program, knowing nothing of the person who runs the demo.
pub(super) fn program() -> Result<Command, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::failed(format!("this program cannot find itself: {e}")))?;
    let mut command = Command::new(own);
    for name in ["WAAG_SITE", "WAAG_CA", "WAAG_HOME"] {
        command.env_remove(name);
    }
    Ok(command)
}
