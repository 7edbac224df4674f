//! From an error to what a person reads: what was tried and found, the details, and what to type next. The only
//! place that knows hints and exit codes.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;
use waag_client::error::{ClientError, Fault};
use waag_client::keys::KeyFileError;
use waag_client::scan::ScanError;
use waag_schema::federation::CharterError;
use waag_schema::wire::Code;

/// The exit codes, which scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    /// It could not be done.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A label, a token or a namespace's keys do not allow it, or the publisher has withdrawn it.
    Refused = 3,
    /// Something is not what was signed.
    Verification = 4,
    /// Nothing of this name, at the site or on this disk.
    NotFound = 5,
    /// The site does not answer.
    Unreachable = 6,
}

/// A command that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What was tried and what was found.
    pub(crate) message: String,
    /// One line each: files, reasons.
    pub(crate) details: Vec<String>,
    /// What to type next.
    pub(crate) hint: Option<String>,
    /// What is wrong with which file, for `--json`.
    pub(crate) files: Vec<FileFault>,
}

/// A file that is not what was signed, as `--json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileFault {
    path: String,
    /// `missing`, `not_a_file`, `linked`, `size` or `digest`.
    fault: &'static str,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: Exit,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    details: &'a [String],
    #[serde(skip_serializing_if = "<[FileFault]>::is_empty")]
    files: &'a [FileFault],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            details: Vec::new(),
            hint: None,
            files: Vec::new(),
        }
    }

    /// It could not be done.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Takes what the parser of the command line would print: a paragraph that says what is wrong, perhaps one
    /// with a tip, then the usage.
    pub(crate) fn misunderstood(text: &str) -> Self {
        let paragraphs = text.split("\n\n").map(|paragraph| {
            let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
            lines.join(" ").trim().to_owned()
        });
        let paragraphs: Vec<String> = paragraphs.collect();
        let said = paragraphs.first().map_or("", String::as_str);
        let tip = paragraphs
            .iter()
            .find_map(|paragraph| paragraph.strip_prefix("tip: "));
        Self::usage(said.trim_start_matches("error: ")).hint(tip.unwrap_or("waag --help"))
    }

    /// Adds what to type next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// Returns it as one line of JSON.
    pub(crate) fn json(&self) -> String {
        let body = ErrorJson {
            error: ErrorBody {
                code: self.exit,
                message: &self.message,
                details: &self.details,
                files: &self.files,
                hint: self.hint.as_deref(),
            },
        };
        serde_json::to_string(&body).expect("strings always serialise")
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::new(exit_of(&error), &error);
        match error {
            ClientError::Denied { message, reasons } => Self::new(Exit::Refused, message)
                .details(reasons)
                .hint("the label decides: `waag show NAMESPACE/NAME` shows it; a publisher changes it with `waag label`"),
            ClientError::RunsCode(files) => {
                let number = crate::ui::count(files.len() as u64, "file");
                Self::new(Exit::Refused, format!("{number} of a format that runs code; nothing was published"))
                    .details(files)
                    .hint("a .waagignore leaves files out; --allow-format lets them pass where the site's waag.toml does, too")
            }
            ClientError::Damaged(files) => {
                let lines: Vec<String> = files.iter().map(ToString::to_string).collect();
                let number = crate::ui::count(files.len() as u64, "file");
                let faults = files.into_iter().map(|file| FileFault {
                    path: file.path,
                    fault: word(&file.fault),
                });
                Self {
                    files: faults.collect(),
                    ..Self::new(Exit::Verification, format!("{number} not as signed"))
                }
                .details(lines)
                .hint("the same `waag pull` again with --force replaces what is not as signed")
            }
            ClientError::Lost { .. } => failure.hint(
                "ask its operator what was lost, and push again what is yours; `waag login URL --accept-successor` goes on without it",
            ),
            ClientError::Unpinned { url, site } => failure.hint(format!(
                "compare the fingerprint with what `waag serve` printed there, then `waag login {url} --trust {site}`"
            )),
            ClientError::NoPin { url } => failure.hint(format!("waag login {url}")),
            ClientError::NoCharter { .. } => {
                failure.hint("waag charter adopt --here FILE, with the charter of the federation that the site belongs to")
            }
            ClientError::UnknownHome { home, .. } => failure.hint(format!(
                "ask the people of the site {home} for its address, and pin it: waag login URL --trust {home}"
            )),
            ClientError::Lagging { .. } => failure.hint("try again when it has caught up, or pull from the home itself"),
            ClientError::WrongSite { url, found, .. } => failure.hint(format!(
                "if another site has moved to this address on purpose: `waag login {url} --trust {found}`"
            )),
            ClientError::NotFound(_) => failure.hint("`waag list` shows what this token may read; `waag whoami` shows the token"),
            ClientError::Interrupted { directory, reference } => {
                failure.hint(format!("repeat it: `waag pull {reference} {}`", directory.display()))
            }
            ClientError::Unreachable { reason, .. } => failure.hint(unreachable_hint(&reason)),
            ClientError::Charter(CharterError::Threshold { .. }) => {
                failure.hint("pass it on to the holders of the other root keys: `waag charter sign FILE`")
            }
            ClientError::Charter(CharterError::NotNext { .. }) => {
                failure.hint("name every charter from the first one that is lacking, the oldest first")
            }
            ClientError::Conflict(_) => failure.hint("somebody else published at the same time: run the same command again"),
            ClientError::Taken(_) => failure.hint("choose another name, or ask its owners for a key"),
            ClientError::Unauthorized(_) => failure.hint("`waag login URL --token-file FILE` keeps another token"),
            ClientError::Forbidden(_) => {
                failure.hint("`waag whoami` shows what the token allows; `waag token create` makes another one")
            }
            ClientError::Insecure { .. } => failure.hint("use https://, or --insecure if the network is yours alone"),
            ClientError::TagNeedsMove { .. } => failure.hint("--move lets it name the new release, or choose another tag"),
            ClientError::NotOwner { found: 1.., .. } => failure.hint(
                "--out FILE keeps it for the other owners, who add theirs with `waag sign FILE`; or name their keys with --key",
            ),
            ClientError::NotOwner { .. } => {
                failure.hint("name the owners' keys with --key; `waag namespace show NAMESPACE` lists them")
            }
            ClientError::Unsigned { .. } => {
                failure.hint("with --out FILE it is kept for the others, who add theirs with `waag sign FILE`")
            }
            ClientError::Stale { .. } => {
                failure.hint("make it anew: the command that wrote it, with --out again, and have it signed again")
            }
            ClientError::Occupied { .. } => {
                failure.hint("name another directory, or --force fills this one; files that the release has not stay as they are")
            }
            ClientError::NoRoom { .. } => {
                failure.hint("make room on this disk, or --include, --exclude and --tensors take less; --force begins all the same")
            }
            ClientError::Modified(paths) => {
                let number = crate::ui::count(paths.len() as u64, "file");
                Self::new(Exit::Failed, format!("{number} would be replaced that no pull has put there as they are"))
                    .details(paths)
                    .hint("save them elsewhere, or --force replaces them")
            }
            ClientError::LfsPointer(_) => failure.hint("`git lfs pull` fetches the files that pointers stand for"),
            ClientError::Format { .. } => {
                failure.hint("repair the file, or name it in .waagignore, which leaves it out")
            }
            ClientError::Changed(_) => failure.hint("stop whoever writes to it, then push again; what was sent is kept"),
            ClientError::Scan(error) => with_hint(failure, scan_hint(&error)),
            ClientError::Key(error) => with_hint(failure, key_hint(&error)),
            ClientError::Refused(problem) => with_hint(failure, refusal_hint(problem.code)).details(problem.reasons),
            ClientError::Io { ref source, .. } if is_full(source.kind()) => {
                failure.hint("make room on this disk, then run the same command again: what is there is used")
            }
            ClientError::Answer { .. } => failure.hint("is this the address of a waag site of the same version?"),
            ClientError::Withdrawn { .. } => failure.hint("--withdrawn takes it all the same"),
            ClientError::Charter(_)
            | ClientError::Absent(_)
            | ClientError::Usage(_)
            | ClientError::Verification { .. }
            | ClientError::Io { .. } => failure,
        }
    }
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Unpinned { .. }
        | ClientError::UnknownHome { .. }
        | ClientError::NoCharter { .. }
        | ClientError::NoPin { .. }
        | ClientError::Insecure { .. } => Exit::Usage,
        ClientError::Denied { .. }
        | ClientError::Unauthorized(_)
        | ClientError::RunsCode(_)
        | ClientError::Forbidden(_)
        | ClientError::NotOwner { .. }
        | ClientError::Unsigned { .. }
        | ClientError::Withdrawn { .. } => Exit::Refused,
        ClientError::Verification { .. }
        | ClientError::Lost { .. }
        | ClientError::Damaged(_)
        | ClientError::WrongSite { .. } => Exit::Verification,
        ClientError::NotFound(_)
        | ClientError::Absent(_)
        | ClientError::Interrupted { .. }
        | ClientError::Scan(ScanError::Missing(_))
        | ClientError::Key(KeyFileError::NotFound(_)) => Exit::NotFound,
        // A file or directory that the command line named.
        ClientError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
        ClientError::Unreachable { .. } => Exit::Unreachable,
        ClientError::Charter(error) => match error {
            CharterError::Threshold { .. } => Exit::Refused,
            CharterError::Malformed(_) | CharterError::Rule(_) | CharterError::TooManySteps { .. } => {
                Exit::Failed
            }
            _ => Exit::Verification,
        },
        ClientError::Key(KeyFileError::Name(_)) => Exit::Usage,
        ClientError::Refused(problem) => match problem.code {
            Code::DigestMismatch | Code::Damaged => Exit::Verification,
            Code::Gate => Exit::Refused,
            _ => Exit::Failed,
        },
        // A command line that makes no sense is refused before the client is asked. What the client cannot make
        // sense of is what the command line named: a file that is no safetensors, a directory in use.
        ClientError::Usage(_)
        | ClientError::Lagging { .. }
        | ClientError::Conflict(_)
        | ClientError::Taken(_)
        | ClientError::TagNeedsMove { .. }
        | ClientError::Occupied { .. }
        | ClientError::Modified(_)
        | ClientError::NoRoom { .. }
        | ClientError::Stale { .. }
        | ClientError::Changed(_)
        | ClientError::LfsPointer(_)
        | ClientError::Format { .. }
        | ClientError::Scan(_)
        | ClientError::Key(_)
        | ClientError::Answer { .. }
        | ClientError::Io { .. } => Exit::Failed,
    }
}

/// The reasons of who answers in another way than was asked for, by their words: there is nothing else to know them by.
fn unreachable_hint(reason: &str) -> &'static str {
    let certificate = ["certificate", "UnknownIssuer"];
    if certificate.iter().any(|word| reason.contains(word)) {
        "--ca FILE (or WAAG_CA) names certificates that are believed besides those of the system"
    } else if reason.contains("invalid HTTP version parsed") {
        "whoever answers there does not speak plain HTTP: try https://"
    } else {
        "is the site running, and is this its address? see --site and WAAG_SITE"
    }
}

/// Also a quota, and a limit on the size of files, want room from whoever gives it.
fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

fn with_hint(failure: Failure, hint: Option<&str>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

const fn word(fault: &Fault) -> &'static str {
    match fault {
        Fault::Missing => "missing",
        Fault::NotAFile => "not_a_file",
        Fault::Linked { .. } => "linked",
        Fault::Size { .. } => "size",
        Fault::Digest { .. } => "digest",
    }
}

const fn scan_hint(error: &ScanError) -> Option<&'static str> {
    match error {
        ScanError::Symlink(_) => {
            Some("--follow takes the files that links lead to, or name the link in .waagignore")
        }
        ScanError::Name(_) | ScanError::NotUtf8(_) | ScanError::Collision(_) => {
            Some("rename the file, or name it in .waagignore")
        }
        ScanError::Special(_) | ScanError::BrokenLink(_) | ScanError::LinkToDirectory(_) => {
            Some("remove it, or name it in .waagignore")
        }
        ScanError::Missing(_) | ScanError::Empty { .. } | ScanError::TooMany(_) | ScanError::Io { .. } => {
            None
        }
    }
}

const fn key_hint(error: &KeyFileError) -> Option<&'static str> {
    match error {
        KeyFileError::NotFound(_) => {
            Some("`waag key generate` makes one; --key ~/.ssh/id_ed25519 takes an existing one")
        }
        KeyFileError::Exists(_) => Some("choose another --name; a key is never overwritten"),
        KeyFileError::Exposed { .. } => {
            Some("chmod 600 on the file; if others may have read it, rotate the key")
        }
        KeyFileError::NeedsPassphrase(_) => {
            Some("run it in a terminal to be asked, or give --passphrase-file FILE")
        }
        KeyFileError::Algorithm { .. } => {
            Some("`waag key generate` or `ssh-keygen -t ed25519` makes a key that works")
        }
        KeyFileError::Name(_) | KeyFileError::WrongPassphrase(_) | KeyFileError::Malformed { .. } => None,
    }
}

const fn refusal_hint(code: Code) -> Option<&'static str> {
    match code {
        Code::MissingContent => Some("run the same command again: only what is missing is sent"),
        Code::Full => Some("the site's operator must make room; what was sent is kept"),
        Code::Damaged => {
            Some("the site's operator must look: stored content does not have its digest any more")
        }
        Code::Gate => Some(
            "`waag scorecard REF --wait` waits for what is still to be measured, then `waag tag REF TAG`; `waag namespace show NAMESPACE` shows its gates",
        ),
        Code::Failed => Some("the site's log says why"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use waag_client::error::BadFile;

    use super::*;

    #[test]
    fn a_damaged_file_is_named_for_people_and_for_programs() {
        let failure = Failure::from(ClientError::Damaged(vec![BadFile {
            path: "config.json".to_owned(),
            fault: Fault::Missing,
        }]));
        assert_eq!(failure.exit, Exit::Verification);
        assert_eq!(failure.details, ["config.json: is missing"]);
        assert_eq!(
            failure.json(),
            r#"{"error":{"code":"verification","message":"1 file not as signed","details":["config.json: is missing"],"#.to_owned()
                + r#""files":[{"path":"config.json","fault":"missing"}],"#
                + r#""hint":"the same `waag pull` again with --force replaces what is not as signed"}}"#
        );
    }

    #[test]
    fn hints_fit_what_was_found() {
        let hint_of = |error: ClientError| Failure::from(error).hint.unwrap_or_default();
        let unreachable = |reason: &str| {
            hint_of(ClientError::Unreachable {
                url: "u".to_owned(),
                reason: reason.to_owned(),
            })
        };
        assert!(unreachable("invalid peer certificate: UnknownIssuer").contains("--ca FILE"));
        assert!(unreachable("error sending request: invalid HTTP version parsed").contains("https://"));
        assert!(unreachable("connection refused").contains("--site"));
        assert!(hint_of(ClientError::NotFound(String::new())).contains("waag list"));
        assert_eq!(hint_of(ClientError::Absent(String::new())), "");
        let path: waag_schema::FilePath = "model.safetensors".parse().unwrap();
        assert!(hint_of(ClientError::LfsPointer(path.clone())).contains("git lfs pull"));
        let format = ClientError::Format {
            path,
            reason: "it is too short".to_owned(),
        };
        assert!(hint_of(format).contains(".waagignore"));
    }

    #[test]
    fn exit_codes_are_those_of_the_list() {
        let exit = |error: ClientError| Failure::from(error).exit;
        let io = |kind: std::io::ErrorKind| ClientError::Io {
            doing: "read",
            path: "f".into(),
            source: kind.into(),
        };
        assert_eq!(exit(io(std::io::ErrorKind::NotFound)), Exit::NotFound);
        assert_eq!(exit(io(std::io::ErrorKind::PermissionDenied)), Exit::Failed);
        assert_eq!(exit(ClientError::Unauthorized(String::new())), Exit::Refused);
        assert_eq!(exit(ClientError::NoPin { url: String::new() }), Exit::Usage);
        assert_eq!(exit(ClientError::Absent(String::new())), Exit::NotFound);
    }

    #[test]
    fn what_the_parser_says_fits_into_one_line() {
        let text = "error: the following required arguments were not provided:\n  --residency <PLACE,...>\n\n\
            Usage: waag push\n\nFor more information, try '--help'.\n";
        let failure = Failure::misunderstood(text);
        assert_eq!(
            failure.message,
            "the following required arguments were not provided: --residency <PLACE,...>"
        );
        assert_eq!(failure.hint.as_deref(), Some("waag --help"));
        let text = "error: unexpected argument '--residncy' found\n\n  tip: a similar argument exists: '--residency'\n\nUsage: x";
        let failure = Failure::misunderstood(text);
        assert_eq!(
            failure.hint.as_deref(),
            Some("a similar argument exists: '--residency'")
        );
    }

    #[test]
    fn what_to_do_about_an_unknown_site_can_be_copied() {
        let site: waag_schema::SiteId = "abcdefghijklmnopqrstuvwxyz234567".parse().unwrap();
        let failure = Failure::from(ClientError::Unpinned {
            url: "https://waag.example".to_owned(),
            site,
        });
        assert_eq!(failure.exit, Exit::Usage);
        let hint = failure.hint.unwrap();
        assert!(
            hint.contains("waag login https://waag.example --trust abcdefghijklmnopqrstuvwxyz234567"),
            "{hint}"
        );
    }
}
