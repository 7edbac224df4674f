//! How requests are made.

use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Progress, silent};

/// How requests are made.
#[derive(Clone)]
pub struct Settings {
    /// Send tokens over plain HTTP to other machines all the same.
    pub insecure: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long nothing may move.
    pub idle_timeout: Duration,
    /// The most bytes a second, both directions together.
    pub bytes_per_second: Option<u64>,
    /// A file of certificates, in PEM, of authorities that are believed besides those of the system.
    pub authorities: Option<PathBuf>,
    /// Where events go.
    pub progress: Progress,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            insecure: false,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            bytes_per_second: None,
            authorities: None,
            progress: silent(),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("insecure", &self.insecure)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("bytes_per_second", &self.bytes_per_second)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}
