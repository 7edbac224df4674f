//! `waag doctor`: what is wrong on this machine and with the site that is meant, and what to type against it.

use std::path::Path;

use serde::Serialize;
use waag_client::doctor::{Finding, Standing, Subject, look_here, look_there};
use waag_schema::Timestamp;

use super::settings;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui, count};

pub(crate) async fn run(config: &Config, ui: Ui) -> Result<(), Failure> {
    let mut findings = look_here(&config.home, Path::new("."));
    let proxies = config.environment.proxies();
    if let Ok(url) = config.site() {
        findings.extend(look_there(&config.home, url, &settings(config, ui), now()).await);
    }
    let failed = findings.iter().filter(|f| f.standing == Standing::Failed).count();
    let findings = findings.into_iter().map(|finding| Line {
        hint: hint(&finding),
        finding,
    });
    ui.report(&Diagnosis {
        site: config.site().ok().map(ToString::to_string),
        proxies: proxies.to_vec(),
        findings: findings.collect(),
    })?;
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} failed",
        count(failed as u64, "check")
    )))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the command line is where time comes in"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    Timestamp::from_unix(since.map_or(0, |since| since.as_secs()))
}

/// What to type next.
const fn hint(finding: &Finding) -> Option<&'static str> {
    match (finding.standing, finding.subject) {
        (Standing::Ok, _) => None,
        (Standing::Failed, Subject::Home) => Some("chown it, or set WAAG_HOME to a directory of your own"),
        (Standing::Warning, Subject::Home) => Some("chmod 700 on it"),
        (Standing::Failed, Subject::Keys) => {
            Some("chmod 600 on it; if others may have read it: waag namespace rotate")
        }
        (Standing::Warning, Subject::Keys) => Some("waag key generate"),
        (_, Subject::Disk) => Some("make room, or pull to another disk"),
        (Standing::Failed, Subject::Site) => {
            Some("is it running, and is this its address? --site, --ca and WAAG_SITE")
        }
        (Standing::Warning, Subject::Site) => Some("use the same version on both sides"),
        (_, Subject::Connection) => {
            Some("an https:// address: [tls] in the site's waag.toml, or a proxy before it")
        }
        (_, Subject::Clock) => Some("set this machine's clock, by NTP for example"),
        (_, Subject::Pin) => Some("waag login URL; compare the fingerprint with the operator's first"),
        (_, Subject::Token) => Some("waag login URL --token-file FILE"),
        (_, Subject::Ledger) => Some("do not trust what the site says now; ask its operator"),
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    finding: Finding,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct Diagnosis {
    /// The site that was looked at, if any is meant.
    site: Option<String>,
    /// The variables that name proxies, which requests to other machines go through.
    proxies: Vec<String>,
    findings: Vec<Line>,
}

const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Ok => "ok",
        Standing::Warning => "warning",
        Standing::Failed => "failed",
    }
}

const fn name(subject: Subject) -> &'static str {
    match subject {
        Subject::Home => "home",
        Subject::Keys => "keys",
        Subject::Disk => "disk",
        Subject::Site => "site",
        Subject::Connection => "connection",
        Subject::Clock => "clock",
        Subject::Pin => "pin",
        Subject::Token => "token",
        Subject::Ledger => "ledger",
    }
}

impl Report for Diagnosis {
    fn page(&self, page: &mut Page) {
        for Line { finding, hint } in &self.findings {
            let mut line = format!(
                "{:<8} {:<11} {}",
                word(finding.standing),
                name(finding.subject),
                finding.found
            );
            if let Some(hint) = hint {
                line.push_str(&format!(" -> {hint}"));
            }
            page.line(line);
        }
        if self.site.is_none() {
            page.line("no site is named, so none was looked at -> `waag login URL` once, or --site URL");
        }
        if !self.proxies.is_empty() {
            page.line(format_args!("proxies are set: {}", self.proxies.join(", ")));
        }
    }

    fn essential(&self) -> String {
        let worst = self.findings.iter().map(|line| line.finding.standing).max();
        word(worst.unwrap_or(Standing::Ok)).to_owned()
    }
}
