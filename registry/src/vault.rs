//! What lies in a data directory beside the store: the lock, the keys, the guard, the index, the first token.
//!
//! Invariant: while a vault is open no other process opens it. Its directory is open to its owner only.
//! Keys and the first admin token are files that only their owner may read, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use rustix::fs::{FlockOperation, flock};
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::Origin;
use zeroize::Zeroizing;

use crate::ledger::Guard;
use crate::random::Random;

/// The file of the first admin token.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";

/// The key that signs checkpoints, and nothing else: the site's identity.
const LOG_KEY: &str = "log";
/// The key that signs the site's own statements. Another one than the ledger's, so that no signature can ever be
/// taken for one of the other kind.
const SITE_KEY: &str = "site";
/// The key that cosigns other sites' checkpoints.
const WITNESS_KEY: &str = "witness";

/// A data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Another process works on this data directory.
    #[error("{0} is in use by another `waag serve`")]
    InUse(PathBuf),
    /// There is no site in this directory.
    #[error("{0} holds no site: its log key is missing")]
    NoSite(PathBuf),
    /// A file of the data directory cannot be used.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// An open data directory.
#[derive(Debug)]
pub struct Vault {
    data: PathBuf,
    key: Arc<KeyPair>,
    site_key: Arc<KeyPair>,
    witness_key: Arc<KeyPair>,
    /// Held as long as the vault is open.
    _lock: File,
}

impl Vault {
    /// Opens the data directory of a site.
    ///
    /// # Errors
    /// When another process has it open, or there is no site in it.
    pub fn open(data: &Path) -> Result<Self, VaultError> {
        if !key_path(data, LOG_KEY).exists() {
            return Err(VaultError::NoSite(data.to_owned()));
        }
        let lock = lock(data)?;
        let load = |name| load_key(&key_path(data, name))?.ok_or_else(|| VaultError::NoSite(data.to_owned()));
        let (key, site_key, witness_key) = (load(LOG_KEY)?, load(SITE_KEY)?, load(WITNESS_KEY)?);
        Ok(Self {
            data: data.to_owned(),
            key: Arc::new(key),
            site_key: Arc::new(site_key),
            witness_key: Arc::new(witness_key),
            _lock: lock,
        })
    }

    /// Opens the data directory of a site, and makes directory and key where they are missing.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be written.
    pub fn open_or_create(data: &Path, random: &Random) -> Result<Self, VaultError> {
        // What a site keeps is for its operator's eyes.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .map_err(failed(data))?;
        let lock = lock(data)?;
        close_to_others(data)?;
        if key_path(data, LOG_KEY).exists() && !key_path(data, SITE_KEY).exists() {
            return Err(failed(&key_path(data, SITE_KEY))(io::Error::other(
                "it is missing: put back the site's own keys",
            )));
        }
        let load_or_make = |name| {
            let path = key_path(data, name);
            load_key(&path)?.map_or_else(|| make_key(&path, random), Ok)
        };
        // The log key last: a crash before it leaves none, so the next start makes what is missing.
        let witness_key = load_or_make(WITNESS_KEY)?;
        let site_key = load_or_make(SITE_KEY)?;
        let key = load_or_make(LOG_KEY)?;
        Ok(Self {
            data: data.to_owned(),
            key: Arc::new(key),
            site_key: Arc::new(site_key),
            witness_key: Arc::new(witness_key),
            _lock: lock,
        })
    }

    /// Returns the ledger's key.
    #[must_use]
    pub fn key(&self) -> &Arc<KeyPair> {
        &self.key
    }

    /// Returns the key that signs what the site says of its ledger.
    #[must_use]
    pub fn site_key(&self) -> &Arc<KeyPair> {
        &self.site_key
    }

    /// Returns the key that cosigns other sites' checkpoints.
    #[must_use]
    pub fn witness_key(&self) -> &Arc<KeyPair> {
        &self.witness_key
    }

    /// Returns the name of the site's first ledger.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::of(&self.key.public().site_id(), 1)
    }

    /// Returns what remembers what was signed.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard::new(&self.data.join("guard"))
    }

    /// Returns where the index is.
    #[must_use]
    pub fn index_path(&self) -> PathBuf {
        self.data.join("index.db")
    }

    /// Returns where the indexes of other sites' ledgers are.
    #[must_use]
    pub fn peers_path(&self) -> PathBuf {
        self.data.join("peers")
    }

    /// Writes the first admin token.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_admin_token(&self, secret: &str) -> Result<(), VaultError> {
        write_secret(
            &self.data.join(ADMIN_TOKEN_FILE),
            format!("{secret}\n").as_bytes(),
        )
    }
}

fn key_path(data: &Path, name: &str) -> PathBuf {
    data.join("keys").join(name)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> VaultError {
    move |error| VaultError::Io {
        path: path.to_owned(),
        error,
    }
}

fn lock(data: &Path) -> Result<File, VaultError> {
    let path = data.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(VaultError::InUse(data.to_owned())),
        Err(error) => Err(failed(&path)(error.into())),
    }
}

/// Takes from others what a directory that was made by somebody else gives them: below it lie private content, salts
/// and the hashes of tokens.
fn close_to_others(data: &Path) -> Result<(), VaultError> {
    let mode = fs::metadata(data).map_err(failed(data))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(data, Permissions::from_mode(0o700)).map_err(failed(data))?;
    tracing::warn!(
        path = %data.display(),
        was = format_args!("{mode:o}"),
        "the data directory was open to other users; its mode is 700 now"
    );
    Ok(())
}

fn load_key(path: &Path) -> Result<Option<KeyPair>, VaultError> {
    let malformed = || {
        failed(path)(io::Error::other(
            "not 32 bytes in base64: put back the site's own key",
        ))
    };
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let bytes = Zeroizing::new(BASE64.decode(text.trim_ascii()).map_err(|_| malformed())?);
    let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| malformed())?;
    Ok(Some(KeyPair::from_seed(seed)))
}

fn make_key(path: &Path, random: &Random) -> Result<KeyPair, VaultError> {
    let seed = Zeroizing::new(random.bytes::<32>());
    let text = Zeroizing::new(format!("{}\n", BASE64.encode(seed.as_slice())));
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(failed(parent))?;
    write_secret(path, text.as_bytes())?;
    Ok(KeyPair::from_seed(&seed))
}

/// Writes a file that only its owner may read, durably and whole.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(failed(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_open_to_others_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        fs::set_permissions(data, Permissions::from_mode(0o755)).unwrap();
        let vault = Vault::open_or_create(data, &Random::from_seed(1)).unwrap();
        assert_eq!(fs::metadata(data).unwrap().permissions().mode() & 0o777, 0o700);
        drop(vault);
    }
}
