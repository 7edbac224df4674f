//! The weigher as a process: it takes one order from its standard input, which is a socket, and ends.
//!
//! It starts with an empty environment, no arguments of the site, and three open files: that socket, nothing, and a pipe
//! for what it has to complain (beside them what the site inherited itself: its own files close when a program starts). Before it looks at the first byte of a file it gives up what it does not need: it can
//! open nothing more (neither files nor connections), write no file, and take so much memory and no more. When memory
//! of the machine ends, it is the first to go. When the site has gone, it ends.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::device::Computer;
use super::line::Order;
use super::measure::attend;

/// What a driver of GPUs takes beside what measuring takes.
const GPU_BYTES: u64 = 4 << 30;

/// Runs as the weigher of a site, which has started this process.
#[must_use]
pub fn main() -> ExitCode {
    // First of all, while it can: when memory ends, this process is the one to be killed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let stream = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from);
    // Nobody to measure for, and nobody to tell.
    let hangup = || std::process::exit(1);
    match stream.and_then(|stream| attend(stream, confine, hangup)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn confine(order: &Order, computer: &Computer) {
    let limit = |resource, most| {
        let most = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        // A limit that is lower already stays.
        let _ = setrlimit(resource, most);
    };
    limit(Resource::Core, 0);
    if computer.gpu().is_some() {
        // A driver opens devices whenever it likes.
        limit(Resource::Data, order.limit_bytes.saturating_add(GPU_BYTES));
    } else {
        limit(Resource::Data, order.limit_bytes);
        limit(Resource::Fsize, 0);
        limit(Resource::Nofile, 0);
    }
}
