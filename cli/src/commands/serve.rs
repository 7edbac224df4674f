//! `waag serve`: a site in this process, its log, its signals. What a site does is `waag-registry`'s business.

use std::io;
use std::sync::Mutex;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;
use waag_registry::config::LogFormat;
use waag_registry::evaluation::{Bench, Program};
use waag_registry::ledger::Restored;
use waag_registry::{Ready, ServeOptions};
use waag_schema::SiteId;

use crate::args::Serve;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

/// Serves until a signal says that it is enough; a second one does not wait for what is under way.
pub(crate) async fn run(args: Serve, ui: Ui) -> Result<(), Failure> {
    let site = waag_registry::serve::configure(&args.data).map_err(|e| failed(&e))?;
    start_log(site.log_format, ui);
    let options = ServeOptions {
        data: args.data,
        listen: args.listen,
        restored: match (args.recovered, args.seen) {
            (false, _) => Restored::No,
            (true, None) => Restored::Yes,
            (true, Some(size)) => Restored::Seen(size),
        },
        bench: Bench::Process(
            Program::this(crate::WEIGHER)
                .map_err(|e| Failure::failed(format!("this program's own file cannot be found: {e}")))?,
        ),
    };
    let mut signals =
        Signals::new().map_err(|e| Failure::failed(format!("signals cannot be listened to: {e}")))?;
    let (enough, told) = oneshot::channel::<()>();
    let said = Mutex::new(Ok(()));
    let on_ready = |ready: &Ready| {
        let report = Listening {
            listening: format!("{}://{}", if ready.tls { "https" } else { "http" }, ready.address),
            site: ready.site.clone(),
            admin_token: ready.admin_token.display().to_string(),
        };
        if let Ok(mut said) = said.lock() {
            *said = ui.report(&report);
        }
    };
    let serving = waag_registry::serve(options, site, on_ready, async {
        // The sender is dropped only when this function has ended already.
        let _ = told.await;
    });
    let signalled = async {
        signals.next().await;
        ui.note("stopping: requests under way are answered; once more stops at once");
        let _ = enough.send(());
        signals.next().await;
    };
    tokio::select! {
        served = serving => served.map_err(|e| failed(&e))?,
        () = signalled => return Err(Failure::failed("stopped before the requests under way were answered")),
    }
    said.into_inner().unwrap_or(Ok(()))
}

fn failed(error: &waag_registry::ServeError) -> Failure {
    let failure = Failure::failed(error);
    match error {
        waag_registry::ServeError::Listen { .. } => {
            failure.hint("--listen takes another address; port 0 takes a free one")
        }
        _ => failure,
    }
}

/// The log goes to standard error, so that standard output holds what programs read.
fn start_log(format: LogFormat, ui: Ui) {
    let usual = match (ui.is_quiet(), ui.is_verbose()) {
        (true, _) => "warn",
        (_, true) => "debug",
        _ => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ui.colours());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[derive(Serialize)]
struct Listening {
    listening: String,
    site: SiteId,
    admin_token: String,
}

impl Report for Listening {
    fn page(&self, page: &mut Page) {
        page.fact("fingerprint", &self.site);
        page.fact("admin token", &self.admin_token);
        // Last, so that whoever waits for this line has the others.
        page.line(format_args!("listening on {}", self.listening));
    }

    fn essential(&self) -> String {
        format!("listening on {}", self.listening)
    }
}
