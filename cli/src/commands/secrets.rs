//! Secrets on their way in: from a file, from standard input, or from a person at the terminal. They are never
//! taken from the command line, where other users of the machine could read them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use waag_client::error::ClientError;
use waag_client::home::Secret;
use waag_client::keys::{self, KeyChoice, KeyFileError};
use waag_schema::base::key::KeyPair;

use crate::args::Signing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::Ui;

/// No token and no passphrase is longer.
const SECRET_MAX_BYTES: u64 = 64 << 10;
/// How often a wrong passphrase may be typed.
const ATTEMPTS: usize = 3;

/// Reads the first line of a file, or of standard input where the file is `-`.
pub(super) fn from_file(path: &Path) -> Result<Secret, Failure> {
    if path.as_os_str() == "-" {
        return first_line(io::stdin().lock(), Path::new("standard input"));
    }
    let file = File::open(path).map_err(|e| {
        let exit = match e.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("cannot read {}: {e}", path.display()))
    })?;
    first_line(file, path)
}

fn first_line(source: impl Read, name: &Path) -> Result<Secret, Failure> {
    let wrong = |reason: &str| Failure::failed(format!("{} {reason}", name.display()));
    let mut text = String::new();
    source
        .take(SECRET_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|e| wrong(&format!("cannot be read as text: {e}")))?;
    let line = Secret::new(text.lines().next().unwrap_or_default());
    if line.expose().is_empty() {
        return Err(wrong("is empty"));
    }
    Ok(line)
}

/// Asks on the terminal, without showing what is typed.
pub(super) fn ask(question: &str) -> Result<Secret, Failure> {
    rpassword::prompt_password(question)
        .map(Secret::new)
        .map_err(|e| Failure::failed(format!("the terminal cannot be asked: {e}")))
}

/// Asks for a new passphrase twice.
pub(super) fn ask_new_passphrase() -> Result<Secret, Failure> {
    let first = ask("passphrase for the new key: ")?;
    if first.expose().is_empty() {
        return Err(Failure::usage("the passphrase is empty").hint("--no-passphrase makes a key without one"));
    }
    let second = ask("the same again: ")?;
    if first.expose() != second.expose() {
        return Err(Failure::usage("the two passphrases differ; no key was made"));
    }
    Ok(first)
}

/// Opens the keys that shall sign, asking for passphrases where that is needed and somebody is there.
pub(super) fn signers(signing: &Signing, config: &Config, ui: Ui) -> Result<Vec<KeyPair>, Failure> {
    let passphrase = signing.passphrase_file.as_deref().map(from_file).transpose()?;
    let mut choices: Vec<KeyChoice> = signing
        .key
        .iter()
        .map(|text| config.environment.key(text))
        .collect();
    if choices.is_empty() {
        choices.push(KeyChoice::default());
    }
    choices
        .iter()
        .map(|choice| signer(choice, passphrase.as_ref(), config, ui))
        .collect()
}

fn signer(
    choice: &KeyChoice,
    passphrase: Option<&Secret>,
    config: &Config,
    ui: Ui,
) -> Result<KeyPair, Failure> {
    let mut result = keys::load(&config.home, choice, passphrase);
    if passphrase.is_some() || !ui.can_ask() {
        return Ok(result?);
    }
    for _ in 0..ATTEMPTS {
        match &result {
            Err(ClientError::Key(KeyFileError::NeedsPassphrase(_))) => {}
            Err(ClientError::Key(KeyFileError::WrongPassphrase(_))) => {
                ui.note("this passphrase does not open it");
            }
            _ => break,
        }
        let typed = ask(&format!(
            "passphrase for the key {}: ",
            choice.to_string().escape_debug()
        ))?;
        result = keys::load(&config.home, choice, Some(&typed));
    }
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_secret() {
        let name = Path::new("token");
        assert_eq!(
            first_line(&b"waag_x\nrest\n"[..], name).unwrap().expose(),
            "waag_x"
        );
        assert_eq!(first_line(&b"waag_x"[..], name).unwrap().expose(), "waag_x");
        for bad in [&b""[..], b"\nwaag_x", b"\xff\xfe"] {
            assert!(first_line(bad, name).is_err());
        }
    }
}
