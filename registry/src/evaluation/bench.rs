//! Where releases are measured: in a process of its own, which holds no key, or on a thread of this one.
//!
//! Both do the same work over the same line, so the bits are the same. Invariant: whatever becomes of the weigher, by a
//! file that breaks it, by lack of memory or by a signal, the site hears a reason; and what the weigher may ask for is
//! the chunks of its order. Dropping the future ends the weigher: a process at once, a thread at the next chunk or layer.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt as _;

use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use waag_schema::ChunkDigest;
use waag_schema::statement::scorecard::Section;

use super::line::{BATCH, Done, Failed, FromWeigher, LINE_BYTES_MAX, Order, answer_line};
use super::measure::attend;
use super::weigher::JobError;
use crate::content::Content;

/// Chunks that are read from the store at once for one weigher.
const AHEAD: usize = 4;
/// The most bytes of details: a row for each tensor that is listed, or for each request.
const DETAILS_BYTES_MAX: u64 = 256 << 20;
/// How much of what a weigher has to complain is kept, its end.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// The most characters of it that stand in a reason.
const COMPLAINT_MAX: usize = 200;
/// How long a pipe is read whose process has ended: somebody else may hold it.
const COMPLAINT_AWAITED: Duration = Duration::from_secs(1);

/// Where releases are measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Bench {
    /// On a thread of this process: for tests, and for whoever has no program at hand.
    #[default]
    Thread,
    /// In a process that is started for each release.
    Process(Program),
}

/// What is started as a weigher: it calls [`child::main`](super::child::main).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What it is called with.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Returns the program that runs now, to be called with this word.
    ///
    /// # Errors
    /// When the system does not say which it is.
    pub fn this(word: &str) -> std::io::Result<Self> {
        // By this name it can be started also after a newer one was put in its place.
        let running = Path::new("/proc/self/exe");
        let path = if running.exists() {
            running.to_owned()
        } else {
            std::env::current_exe()?
        };
        Ok(Self {
            path,
            arguments: vec![word.into()],
        })
    }
}

impl Bench {
    /// Has an order carried out within this time. `passed` is told how many bytes were measured.
    pub(super) async fn measure(
        &self,
        order: &Order,
        content: &Content,
        limit: Duration,
        passed: impl Fn(u64) + Sync,
    ) -> Result<Done, JobError> {
        let io = |e: std::io::Error| JobError::Weigher(format!("cannot be started: {e}"));
        let (ours, theirs) = Socket::pair().map_err(io)?;
        ours.set_nonblocking(true).map_err(io)?;
        let mut line = UnixStream::from_std(ours).map_err(io)?;
        let process = match self {
            Self::Thread => {
                std::thread::Builder::new()
                    .name("weigh".to_owned())
                    .spawn(move || {
                        // Who waits may have gone: then nobody wants to hear it.
                        let _ = attend(theirs, |_, _| {}, || {});
                    })
                    .map_err(io)?;
                None
            }
            Self::Process(program) => Some(Process::start(program, theirs).map_err(io)?),
        };
        let served = serve(&mut line, order, content, passed);
        let ended = tokio::time::timeout(limit, served).await;
        drop(line);
        let how = match process {
            None => "ended without an answer".to_owned(),
            Some(process) => process.end().await,
        };
        match ended {
            Err(_) => Err(JobError::Late(limit)),
            Ok(Served::Done(done)) => Ok(done),
            Ok(Served::Failed(Failed::Suite(why))) => Err(JobError::Suite(why)),
            Ok(Served::Failed(Failed::Here(why))) => Err(JobError::Measure(why)),
            Ok(Served::Wrong(why)) => Err(JobError::Weigher(why)),
            Ok(Served::Gone) => Err(JobError::Weigher(how)),
        }
    }
}

/// How it went.
enum Served {
    Done(Done),
    Failed(Failed),
    /// The weigher does not keep to what is agreed.
    Wrong(String),
    /// It is there no more.
    Gone,
}

/// Gives a weigher its order, and the chunks that it asks for, until it has said its last word.
async fn serve(
    line: &mut UnixStream,
    order: &Order,
    content: &Content,
    passed: impl Fn(u64) + Sync,
) -> Served {
    let shelves = [&order.model, &order.other];
    let recipes = shelves.into_iter().flat_map(|shelf| shelf.values());
    let own: HashSet<ChunkDigest> = recipes
        .flat_map(|recipe| recipe.pieces().iter().map(|piece| piece.chunk))
        .collect();
    let (from, mut to) = line.split();
    let mut from = BufReader::new(from);
    if to.write_all(&order.to_bytes()).await.is_err() {
        return Served::Gone;
    }
    loop {
        let mut said = Vec::new();
        let read = (&mut from)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut said)
            .await;
        if read.is_err() || said.last() != Some(&b'\n') {
            return Served::Gone;
        }
        let said = match serde_json::from_slice(&said) {
            Ok(said) => said,
            Err(error) => return Served::Wrong(format!("said what is not understood: {error}")),
        };
        match said {
            FromWeigher::Get {
                chunks,
                passed: bytes,
            } => {
                passed(bytes);
                if chunks.len() > BATCH || !chunks.iter().all(|chunk| own.contains(chunk)) {
                    return Served::Wrong("asked for what is not its own".to_owned());
                }
                let read = |chunk: ChunkDigest| {
                    let content = content.clone();
                    async move { content.stored_chunk(&chunk).await }
                };
                let mut stored = stream::iter(chunks).map(read).buffered(AHEAD);
                while let Some(stored) = stored.next().await {
                    let mut said = to.write_all(&answer_line(stored.as_ref())).await;
                    if let (Ok(()), Ok(stored)) = (&said, &stored) {
                        said = to.write_all(stored).await;
                    }
                    if said.is_err() {
                        return Served::Gone;
                    }
                }
            }
            FromWeigher::Failed(failed) => return Served::Failed(failed),
            FromWeigher::Done(done) => {
                passed(done.passed);
                if done.bytes > DETAILS_BYTES_MAX {
                    let why = format!("found {} bytes of details, too many", done.bytes);
                    return Served::Wrong(why);
                }
                let mut details = Vec::new();
                let read = (&mut from).take(done.bytes).read_to_end(&mut details).await;
                if read.is_err() || details.len() as u64 != done.bytes {
                    return Served::Gone;
                }
                return Served::Done(Done {
                    device: done.device,
                    fallback: done.fallback,
                    sections: done.sections,
                    details,
                });
            }
        }
    }
}

/// A weigher that runs. Dropped, it is killed.
struct Process {
    child: Child,
    complaint: tokio::task::JoinHandle<String>,
}

impl Process {
    fn start(program: &Program, line: Socket) -> std::io::Result<Self> {
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(line)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Signals of a terminal are for the site, which then ends it.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let complaint = tokio::spawn(read_end(child.stderr.take()));
        Ok(Self { child, complaint })
    }

    /// Ends it, if it has not ended, and says how.
    async fn end(mut self) -> String {
        // Its line is closed by now. One that has ended already ended as it did.
        let _ = self.child.start_kill();
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return format!("cannot be waited for: {error}"),
        };
        let complaint = tokio::time::timeout(COMPLAINT_AWAITED, &mut self.complaint).await;
        self.complaint.abort();
        let complaint = complaint.map(Result::unwrap_or_default).unwrap_or_default();
        how(status, &complaint)
    }
}

/// Says how a process ended.
fn how(status: ExitStatus, complaint: &str) -> String {
    let ended = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    };
    // Rust tells of a panic first, and of how to learn more last.
    let lines = complaint.lines().map(str::trim);
    let mut told = lines.filter(|line| !line.is_empty() && !line.starts_with("note: "));
    let Some(last) = told.next_back() else {
        return ended;
    };
    let shown: String = last
        .chars()
        .filter(|c| !c.is_control())
        .take(COMPLAINT_MAX)
        .collect();
    format!("{ended}: {shown}")
}

/// Reads to the end, and returns the last of it.
async fn read_end(pipe: Option<ChildStderr>) -> String {
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(count) = pipe.read(&mut buffer).await
        && count > 0
    {
        kept.extend_from_slice(&buffer[..count]);
        let surplus = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Says what is wrong with what was measured, if it is not what was asked for: these sections, and details where
/// something was measured.
pub(super) fn check(sections: &[Section], names: &[&str], details: &[u8]) -> Result<(), String> {
    if !sections.iter().map(|section| &section.name).eq(names.iter()) {
        return Err(format!("it has not the sections {}", names.join(", ")));
    }
    let measured = |section: &Section| section.not_measured.is_none();
    if sections.first().is_some_and(measured) == details.is_empty() {
        return Err("details come with what was measured, and with nothing else".to_owned());
    }
    if !details.is_empty()
        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(details)
    {
        return Err(format!("its details are no JSON: {error}"));
    }
    Ok(())
}
