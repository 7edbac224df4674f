//! Progress as plain events. Nothing is drawn here: whoever gave the callback decides what a person sees.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A stretch of work that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Files are read, cut and hashed before a push.
    Read,
    /// Missing chunks go to the site.
    Send,
    /// The site checks each file.
    Seal,
    /// What is on disk already is compared, so that it need not come again.
    Compare,
    /// Other files on this disk are searched for chunks that are wanted.
    Reuse,
    /// Chunks come from the site.
    Receive,
    /// Files are hashed against what was signed.
    Check,
    /// Weights are measured.
    Weigh,
    /// Weights go through memory, while a model is asked.
    Ask,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Send => "sending",
            Self::Seal => "sealing",
            Self::Compare => "comparing",
            Self::Reuse => "searching",
            Self::Receive => "receiving",
            Self::Check => "checking",
            Self::Weigh => "weighing",
            Self::Ask => "asking",
        })
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A phase begins.
    Began {
        /// Which.
        phase: Phase,
        /// Files in it (chunks, when sending).
        items: u64,
        /// Bytes in it.
        bytes: u64,
    },
    /// So many more bytes are done.
    Advanced {
        /// In which phase.
        phase: Phase,
        /// How many bytes.
        bytes: u64,
    },
    /// A file is done.
    Done {
        /// In which phase.
        phase: Phase,
        /// Its path within the artifact.
        path: String,
    },
    /// A phase is over.
    Ended {
        /// Which.
        phase: Phase,
    },
    /// A request failed and will be repeated.
    Retrying {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
        /// After how long.
        wait: Duration,
    },
}

/// Where events go; called from several threads.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// Returns a callback that ignores everything.
#[must_use]
pub fn silent() -> Progress {
    Arc::new(|_| {})
}
