//! A look at what a person has on this machine and at the site they mean: one finding for each thing that goes wrong
//! in practice. Nothing is changed.
//!
//! Every check is made, whatever the others found; a check that cannot be made says so.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde::Serialize;
use waag_schema::Timestamp;
use waag_schema::wire::token::{Scope, TokenView};

use crate::error::ClientError;
use crate::home::Home;
use crate::keys;
use crate::site::{Site, contact};
use crate::transport::{Settings, Transport};
use crate::url::SiteUrl;

/// A difference of clocks beyond this makes tokens end early and checkpoints look old.
const SKEW_SECONDS: u64 = 60;
/// A token is spoken of from this long before its end.
const TOKEN_ENDS_SOON_SECONDS: u64 = 7 * 24 * 3600;
/// Less free space than this holds no model.
const FREE_BYTES: u64 = 10 << 30;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The directory in which all of it is kept.
    Home,
    /// The signing keys.
    Keys,
    /// The disk that pulls are written to.
    Disk,
    /// The site's answer.
    Site,
    /// How the answer came.
    Connection,
    /// This machine's clock beside the site's.
    Clock,
    /// Who the site is.
    Pin,
    /// What the token allows.
    Token,
    /// The site's ledger.
    Ledger,
}

/// How it stands with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// It works, but not as it should.
    Warning,
    /// It does not work.
    Failed,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// About what.
    pub subject: Subject,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
}

impl Finding {
    fn ok(subject: Subject, found: impl Into<String>) -> Self {
        Self::new(subject, Standing::Ok, found)
    }

    fn warning(subject: Subject, found: impl Into<String>) -> Self {
        Self::new(subject, Standing::Warning, found)
    }

    fn failed(subject: Subject, found: impl Into<String>) -> Self {
        Self::new(subject, Standing::Failed, found)
    }

    fn new(subject: Subject, standing: Standing, found: impl Into<String>) -> Self {
        Self {
            subject,
            standing,
            found: found.into(),
        }
    }
}

/// Looks at this machine: the home directory, its keys, and the disk on which `target` lies.
#[must_use]
pub fn look_here(home: &Home, target: &Path) -> Vec<Finding> {
    vec![look_at_home(home), look_at_keys(home), look_at_disk(target)]
}

/// Looks at a site as it is `now`.
pub async fn look_there(home: &Home, url: &SiteUrl, settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let view = match contact(url, settings).await {
        Ok(view) => view,
        Err(error) => return vec![Finding::failed(Subject::Site, error.to_string())],
    };
    let ours = env!("CARGO_PKG_VERSION");
    let site = format!("{url} answers; waag {}, here {ours}", view.version);
    let mut findings = vec![
        if view.version == ours {
            Finding::ok(Subject::Site, site)
        } else {
            Finding::warning(Subject::Site, site)
        },
        look_at_connection(url),
        look_at_clock(url, settings, now).await,
    ];
    let opened = match Site::open(home, url, None, settings) {
        Ok(site) => site,
        Err(error) => {
            findings.push(Finding::failed(Subject::Pin, error.to_string()));
            return findings;
        }
    };
    let pinned = &opened.pin().site;
    if *pinned != view.id {
        let found = format!("{url} says that it is {}, pinned is {pinned}", view.id);
        findings.push(Finding::failed(Subject::Pin, found));
        return findings;
    }
    findings.push(Finding::ok(Subject::Pin, format!("it is {pinned}, as pinned")));
    findings.push(match opened.whoami().await {
        Ok(who) => look_at_token(who.token.as_ref(), now),
        Err(error) => Finding::failed(Subject::Token, error.to_string()),
    });
    findings.push(look_at_ledger(&opened).await);
    findings
}

fn look_at_home(home: &Home) -> Finding {
    let root = home.root();
    let about = match fs::metadata(root) {
        Ok(about) => about,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok(Subject::Home, format!("{} is not there yet", root.display()));
        }
        Err(e) => return Finding::failed(Subject::Home, format!("{}: {e}", root.display())),
    };
    let (mode, owner) = (about.permissions().mode() & 0o777, about.uid());
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        let found = format!("{} belongs to user {owner}, this is user {us}", root.display());
        Finding::failed(Subject::Home, found)
    } else if mode & 0o077 != 0 {
        let found = format!("{} is open to others (mode {mode:04o})", root.display());
        Finding::warning(Subject::Home, found)
    } else {
        Finding::ok(
            Subject::Home,
            format!("{} is open to nobody else", root.display()),
        )
    }
}

fn look_at_keys(home: &Home) -> Finding {
    let found = match keys::list(home) {
        Ok(found) => found,
        Err(error) => return Finding::failed(Subject::Keys, error.to_string()),
    };
    if found.is_empty() {
        return Finding::warning(
            Subject::Keys,
            "there is no signing key, which only pulling needs none of",
        );
    }
    let exposed: Vec<String> = found
        .iter()
        .filter_map(|key| {
            let mode = keys::mode(&key.path).ok()?;
            (mode & 0o077 != 0).then(|| format!("{} (mode {mode:04o})", key.path.display()))
        })
        .collect();
    if exposed.is_empty() {
        let names: Vec<&str> = found.iter().map(|key| key.name.as_str()).collect();
        Finding::ok(Subject::Keys, names.join(", "))
    } else {
        let found = format!("others can read {}: no such key signs", exposed.join(", "));
        Finding::failed(Subject::Keys, found)
    }
}

fn look_at_disk(target: &Path) -> Finding {
    let about = match rustix::fs::statvfs(target) {
        Ok(about) => about,
        Err(e) => return Finding::failed(Subject::Disk, format!("{}: {e}", target.display())),
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let found = format!("{} GiB are free where {} lies", free >> 30, target.display());
    if free < FREE_BYTES {
        Finding::warning(Subject::Disk, found)
    } else {
        Finding::ok(Subject::Disk, found)
    }
}

fn look_at_connection(url: &SiteUrl) -> Finding {
    if url.to_string().starts_with("https://") {
        Finding::ok(Subject::Connection, "TLS")
    } else if url.is_loopback() {
        Finding::ok(Subject::Connection, "plain HTTP on this machine")
    } else {
        let found = "plain HTTP: everybody on the way can read along";
        Finding::warning(Subject::Connection, found)
    }
}

async fn look_at_clock(url: &SiteUrl, settings: &Settings, now: Timestamp) -> Finding {
    let date = async { Transport::new(url, None, settings)?.date().await };
    match date.await {
        Ok(Some(theirs)) => {
            let skew = theirs.unix().abs_diff(now.unix());
            if skew > SKEW_SECONDS {
                let found = format!("the site's clock says {theirs}, this one {now}: {skew} s apart");
                Finding::warning(Subject::Clock, found)
            } else {
                Finding::ok(Subject::Clock, format!("{skew} s from the site's"))
            }
        }
        Ok(None) => Finding::warning(Subject::Clock, "the site does not say what time it is"),
        Err(error) => Finding::failed(Subject::Clock, error.to_string()),
    }
}

fn look_at_token(token: Option<&TokenView>, now: Timestamp) -> Finding {
    let Some(token) = token else {
        return Finding::warning(Subject::Token, "none: only what everybody may read");
    };
    let scopes: Vec<&str> = token
        .scopes
        .iter()
        .map(|scope| match scope {
            Scope::Read => "read",
            Scope::Publish => "publish",
            Scope::Weigh => "weigh",
            Scope::Admin => "admin",
        })
        .collect();
    let scopes = scopes.join(", ");
    match token.expires {
        Some(end) if end <= now.plus(TOKEN_ENDS_SOON_SECONDS) => Finding::warning(
            Subject::Token,
            format!("{} allows {scopes}, but only until {end}", token.id),
        ),
        Some(end) => Finding::ok(
            Subject::Token,
            format!("{} allows {scopes}, until {end}", token.id),
        ),
        None => Finding::ok(Subject::Token, format!("{} allows {scopes}", token.id)),
    }
}

async fn look_at_ledger(site: &Site) -> Finding {
    match site.observe_newest().await {
        Ok(checkpoint) => {
            let found = format!(
                "{} entries, and they continue all that was seen before",
                checkpoint.size
            );
            Finding::ok(Subject::Ledger, found)
        }
        Err(error @ ClientError::Verification { .. }) => Finding::failed(Subject::Ledger, error.to_string()),
        Err(error) => Finding::failed(Subject::Ledger, format!("it could not be checked: {error}")),
    }
}

/// Reads the time of a `Date` header (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, text) = text.split_once(", ")?;
    let mut words = text.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(at.unix(), 784_111_777);
        for bad in ["", "Sun, 06 Nov", "Sun, 06 Foo 1994 08:49:37 GMT", "784111777"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert_eq!(look_at_keys(&home).standing, Standing::Warning);
        let key = keys::generate(&home, "default", None).unwrap();
        assert_eq!(look_at_keys(&home).standing, Standing::Ok);
        fs::set_permissions(&key.path, fs::Permissions::from_mode(0o644)).unwrap();
        let finding = look_at_keys(&home);
        assert_eq!(finding.standing, Standing::Failed);
        assert!(finding.found.contains("0644"), "{}", finding.found);
    }

    #[test]
    fn a_token_that_ends_soon_is_spoken_of() {
        let now = Timestamp::from_unix(1_000_000);
        let token = |expires| TokenView {
            id: "0".repeat(16),
            label: "t".to_owned(),
            scopes: vec![Scope::Read],
            namespaces: Vec::new(),
            jurisdiction: None,
            created: now,
            expires,
        };
        let standing = |expires| look_at_token(Some(&token(expires)), now).standing;
        assert_eq!(standing(None), Standing::Ok);
        assert_eq!(standing(Some(now.plus(30 * 24 * 3600))), Standing::Ok);
        assert_eq!(standing(Some(now.plus(3600))), Standing::Warning);
        assert_eq!(look_at_token(None, now).standing, Standing::Warning);
    }
}
