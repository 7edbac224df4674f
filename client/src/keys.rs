//! Signing keys: ed25519, in the private key format of OpenSSH.
//!
//! A key that `ssh-keygen -t ed25519` made works here, and one that was made here works there. Keys lie under
//! `keys/` in the home directory, or wherever a path says. Secret bytes are wiped from memory when dropped.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ssh_key::getrandom::{self, SysRng};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use waag_schema::base::key::{KeyPair, PublicKey};
use zeroize::Zeroizing;

use crate::error::{ClientError, Result};
use crate::home::{Home, Secret};

/// The name of the key that is meant when none is named.
pub const DEFAULT_KEY: &str = "default";

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no key at this place.
    #[error("there is no key at {}", .0.display())]
    NotFound(PathBuf),
    /// A key of this name is there already, and is not overwritten.
    #[error("the key {} exists already", .0.display())]
    Exists(PathBuf),
    /// The name would leave the directory of keys, or cannot be typed.
    #[error(
        "`{0}` is no key's name: 1 to 64 letters, digits, `.`, `_` and `-`, starting with a letter or digit"
    )]
    Name(String),
    /// The key is encrypted: ask for its passphrase.
    #[error("the key {} needs a passphrase", .0.display())]
    NeedsPassphrase(PathBuf),
    /// The passphrase does not open the key: ask again.
    #[error("the passphrase does not open the key {}", .0.display())]
    WrongPassphrase(PathBuf),
    /// Others on this machine can read the key: take that away.
    #[error("the key {} can be read by others (mode {mode:04o})", .path.display())]
    Exposed {
        /// The key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A key of another algorithm.
    #[error("the key {} is {found}; only ed25519 keys sign here", .path.display())]
    Algorithm {
        /// The key.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// Not a key in OpenSSH's private key format.
    #[error("{} is not a private key of OpenSSH: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Which key is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChoice {
    /// A key in the home directory.
    Name(String),
    /// A file anywhere, such as `~/.ssh/id_ed25519` (with `~` replaced already).
    Path(PathBuf),
}

impl KeyChoice {
    /// Reads what a person typed: what holds a `/` is a path, everything else a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.contains('/') {
            Self::Path(PathBuf::from(text))
        } else {
            Self::Name(text.to_owned())
        }
    }
}

impl Default for KeyChoice {
    fn default() -> Self {
        Self::Name(DEFAULT_KEY.to_owned())
    }
}

impl fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// A key, without its secret half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name, or its path where it has none.
    pub name: String,
    /// Where its secret half lies.
    pub path: PathBuf,
    /// Its public half.
    pub public: PublicKey,
    /// Whether a passphrase is needed to use it.
    pub encrypted: bool,
}

impl KeyInfo {
    /// Returns the name under which signatures name the key: OpenSSH's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.public.fingerprint()
    }
}

/// Makes a new key from the operating system's randomness and keeps it in the home directory.
///
/// # Errors
/// When the name is none, a key of this name exists, or the disk fails.
pub fn generate(home: &Home, name: &str, passphrase: Option<&Secret>) -> Result<KeyInfo> {
    let path = path_of(home, &KeyChoice::Name(name.to_owned()))?;
    let malformed = |e: &dyn fmt::Display| KeyFileError::Malformed {
        path: path.clone(),
        reason: e.to_string(),
    };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| malformed(&e))?;
    let public = KeyPair::from_seed(&seed).public();
    let pair = Ed25519Keypair::from_seed(&seed);
    let mut key =
        PrivateKey::new(KeypairData::from(pair), format!("waag:{name}")).map_err(|e| malformed(&e))?;
    if let Some(passphrase) = passphrase {
        key = key
            .encrypt(&mut SysRng, passphrase.expose())
            .map_err(|e| malformed(&e))?;
    }
    let text = key.to_openssh(LineEnding::LF).map_err(|e| malformed(&e))?;
    if !home.create(&path, text.as_bytes())? {
        return Err(KeyFileError::Exists(path).into());
    }
    // A crash here leaves a key without its public half beside it, which is read from the key itself.
    home.write(
        &path.with_added_extension("pub"),
        format!("{public} waag:{name}\n").as_bytes(),
    )?;
    Ok(KeyInfo {
        name: name.to_owned(),
        path,
        public,
        encrypted: passphrase.is_some(),
    })
}

/// Returns the keys of the home directory, by name. Files that are no keys are passed over.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(home: &Home) -> Result<Vec<KeyInfo>> {
    let mut found = Vec::new();
    for name in home.names(&home.keys_dir())? {
        if is_name(&name) && !name.ends_with(".pub") {
            match show(home, &KeyChoice::Name(name)) {
                Ok(info) => found.push(info),
                Err(ClientError::Key(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Returns a key without its secret half; no passphrase is needed.
///
/// # Errors
/// When there is none, or it is not ed25519.
pub fn show(home: &Home, choice: &KeyChoice) -> Result<KeyInfo> {
    let path = path_of(home, choice)?;
    let key = read(home, &path)?;
    let raw = key.public_key().key_data().ed25519();
    let raw = raw.ok_or_else(|| other_algorithm(&path, &key.algorithm()))?;
    let public = PublicKey::from_bytes(&raw.0).map_err(|e| KeyFileError::Malformed {
        path: path.clone(),
        reason: e.to_string(),
    })?;
    Ok(KeyInfo {
        name: choice.to_string(),
        path,
        public,
        encrypted: key.is_encrypted(),
    })
}

/// Opens a key to sign with it.
///
/// # Errors
/// When there is none, it is not ed25519, or the passphrase is missing or wrong.
pub fn load(home: &Home, choice: &KeyChoice, passphrase: Option<&Secret>) -> Result<KeyPair> {
    let path = path_of(home, choice)?;
    let mut key = read(home, &path)?;
    let mode = mode(&path)?;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path, mode }.into());
    }
    if key.algorithm() != Algorithm::Ed25519 {
        return Err(other_algorithm(&path, &key.algorithm()).into());
    }
    if key.is_encrypted() {
        let passphrase = passphrase.ok_or_else(|| KeyFileError::NeedsPassphrase(path.clone()))?;
        key = key
            .decrypt(passphrase.expose())
            .map_err(|_| KeyFileError::WrongPassphrase(path.clone()))?;
    }
    let pair = key.key_data().ed25519();
    let pair = pair.ok_or_else(|| other_algorithm(&path, &key.algorithm()))?;
    let seed = Zeroizing::new(pair.private.to_bytes());
    Ok(KeyPair::from_seed(&seed))
}

/// Returns the permissions of a key's file.
pub(crate) fn mode(path: &Path) -> Result<u32> {
    let about = std::fs::metadata(path).map_err(ClientError::io("look at", path))?;
    Ok(about.permissions().mode() & 0o777)
}

fn read(home: &Home, path: &Path) -> Result<PrivateKey> {
    let bytes = match home.read(path) {
        Ok(Some(bytes)) => Zeroizing::new(bytes),
        Ok(None) => return Err(KeyFileError::NotFound(path.to_owned()).into()),
        Err(ClientError::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => {
            return Err(KeyFileError::NotFound(path.to_owned()).into());
        }
        Err(error) => return Err(error),
    };
    PrivateKey::from_openssh(bytes.as_slice()).map_err(|error| {
        let path = path.to_owned();
        match error {
            ssh_key::Error::AlgorithmUnknown => KeyFileError::Algorithm {
                path,
                found: "of an unknown algorithm".to_owned(),
            },
            ssh_key::Error::AlgorithmUnsupported { algorithm } => other_algorithm(&path, &algorithm),
            other => KeyFileError::Malformed {
                path,
                reason: other.to_string(),
            },
        }
        .into()
    })
}

fn other_algorithm(path: &Path, found: &Algorithm) -> KeyFileError {
    KeyFileError::Algorithm {
        path: path.to_owned(),
        found: found.as_str().to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn path_of(home: &Home, choice: &KeyChoice) -> Result<PathBuf, KeyFileError> {
    match choice {
        KeyChoice::Path(path) => Ok(path.clone()),
        KeyChoice::Name(name) if is_name(name) && !name.ends_with(".pub") => Ok(home.keys_dir().join(name)),
        KeyChoice::Name(name) => Err(KeyFileError::Name(
            name.chars().flat_map(char::escape_debug).take(200).collect(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        (dir, home)
    }

    fn key_error<T: fmt::Debug>(result: Result<T>) -> KeyFileError {
        match result {
            Err(ClientError::Key(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    /// Says whether `ssh-keygen` is installed, which is not needed otherwise.
    fn ssh_keygen(arguments: &[&str]) -> Option<String> {
        let output = Command::new("ssh-keygen").args(arguments).output().ok()?;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn a_key_without_passphrase_comes_back_as_it_was() {
        let (_dir, home) = home();
        let made = generate(&home, "default", None).unwrap();
        assert!(!made.encrypted);
        assert_eq!(
            load(&home, &KeyChoice::default(), None).unwrap().public(),
            made.public
        );
        assert_eq!(list(&home).unwrap(), std::slice::from_ref(&made));
        assert_eq!(
            show(&home, &KeyChoice::Path(made.path)).unwrap().public,
            made.public
        );
        assert!(matches!(
            key_error(generate(&home, "default", None)),
            KeyFileError::Exists(_)
        ));
    }

    #[test]
    fn a_key_that_others_can_read_does_not_sign() {
        let (_dir, home) = home();
        let made = generate(&home, "default", None).unwrap();
        for mode in [0o644, 0o640, 0o602] {
            std::fs::set_permissions(&made.path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = key_error(load(&home, &KeyChoice::default(), None));
            assert!(
                matches!(error, KeyFileError::Exposed { mode: found, .. } if found == mode),
                "{error}"
            );
        }
        assert!(show(&home, &KeyChoice::default()).is_ok());
    }

    #[test]
    fn a_passphrase_is_asked_for_and_must_be_right() {
        let (_dir, home) = home();
        let (right, wrong) = (Secret::new("right"), Secret::new("wrong"));
        let made = generate(&home, "work", Some(&right)).unwrap();
        let choice = KeyChoice::parse("work");
        assert!(show(&home, &choice).unwrap().encrypted);
        assert_eq!(load(&home, &choice, Some(&right)).unwrap().public(), made.public);
        assert!(matches!(
            key_error(load(&home, &choice, None)),
            KeyFileError::NeedsPassphrase(_)
        ));
        assert!(matches!(
            key_error(load(&home, &choice, Some(&wrong))),
            KeyFileError::WrongPassphrase(_)
        ));
    }

    #[test]
    fn keys_of_ssh_keygen_work_here_and_ours_work_there() {
        let (dir, home) = home();
        let made = generate(&home, "ours", None).unwrap();
        let Some(printed) = ssh_keygen(&["-y", "-f", made.path.to_str().unwrap()]) else {
            return;
        };
        assert_eq!(printed.parse::<PublicKey>().unwrap(), made.public);

        for (name, passphrase) in [("plain", ""), ("sealed", "secret")] {
            let path = dir.path().join(name);
            let text = path.to_str().unwrap();
            ssh_keygen(&["-q", "-t", "ed25519", "-a", "4", "-N", passphrase, "-f", text]).unwrap();
            let public: PublicKey = std::fs::read_to_string(path.with_extension("pub"))
                .unwrap()
                .parse()
                .unwrap();
            let passphrase = (!passphrase.is_empty()).then(|| Secret::new(passphrase));
            let loaded = load(&home, &KeyChoice::parse(text), passphrase.as_ref()).unwrap();
            assert_eq!(loaded.public(), public);
            assert_eq!(show(&home, &KeyChoice::parse(text)).unwrap().public, public);
        }
    }

    #[test]
    fn other_algorithms_and_other_files_are_refused() {
        let (dir, home) = home();
        for (algorithm, bits) in [("rsa", "2048"), ("ecdsa", "256")] {
            let path = dir.path().join(algorithm);
            let text = path.to_str().unwrap();
            if ssh_keygen(&["-q", "-t", algorithm, "-b", bits, "-N", "", "-f", text]).is_some() {
                let error = key_error(load(&home, &KeyChoice::parse(text), None));
                assert!(matches!(error, KeyFileError::Algorithm { .. }), "{error}");
                assert!(matches!(
                    key_error(show(&home, &KeyChoice::parse(text))),
                    KeyFileError::Algorithm { .. }
                ));
            }
        }
        let junk = dir.path().join("junk");
        std::fs::write(&junk, "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
        assert!(matches!(
            key_error(load(&home, &KeyChoice::Path(junk), None)),
            KeyFileError::Malformed { .. }
        ));
        assert!(matches!(
            key_error(load(&home, &KeyChoice::default(), None)),
            KeyFileError::NotFound(_)
        ));
        for bad in ["../x", "", ".hidden", "a b", "x.pub"] {
            let choice = KeyChoice::Name(bad.to_owned());
            assert!(
                matches!(key_error(load(&home, &choice, None)), KeyFileError::Name(_)),
                "{bad}"
            );
        }
    }
}
