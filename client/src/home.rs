//! The directory in which a person's client keeps what it knows: pinned sites, tokens, keys.
//!
//! ```text
//! config.json                    which site is meant when none is named
//! keys/<name>, keys/<name>.pub   signing keys, OpenSSH form
//! sites/<site id>/site.json      the pin: log key and addresses
//! sites/<site id>/token          the secret for requests to it
//! sites/<site id>/checkpoint     the newest checkpoint that was verified
//! sites/<site id>/namespaces     which id each namespace had when it was first seen
//! sites/<site id>/evidence/      checkpoints that cannot both be true
//! ```
//! Directories are made 0700 and files 0600. A file is replaced as a whole or not at all. The caller says
//! where the directory is; the environment is not read here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use waag_schema::SiteId;
use zeroize::Zeroizing;

use crate::error::{ClientError, Result};
use crate::url::SiteUrl;

/// The largest file that is read from the directory; the largest real ones are evidence notes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A text that must not be shown: a token or a passphrase. Wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    site: Option<String>,
}

impl Home {
    /// Uses this directory; it is made when something is first kept in it.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the site that is meant when none is named: the one logged in to last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn default_site(&self) -> Result<Option<SiteUrl>> {
        let path = self.root.join("config.json");
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|e| ClientError::Usage(format!("{} is malformed: {e}", path.display())))?;
        config.site.map(|url| url.parse()).transpose()
    }

    /// Remembers the site that is meant when none is named.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_default_site(&self, url: &SiteUrl) -> Result<()> {
        let config = Config {
            site: Some(url.to_string()),
        };
        let bytes = serde_json::to_vec_pretty(&config).expect("one string always serialises");
        self.write(&self.root.join("config.json"), &bytes)
    }

    /// Returns the token kept for a site.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn token(&self, site: &SiteId) -> Result<Option<Secret>> {
        let path = self.site_dir(site).join("token");
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| ClientError::Usage(format!("{} is not text", path.display())))?;
        Ok(Some(Secret::new(text.trim())))
    }

    /// Keeps a token for a site.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_token(&self, site: &SiteId, token: &Secret) -> Result<()> {
        self.write(&self.site_dir(site).join("token"), token.expose().as_bytes())
    }

    /// Forgets the token for a site; says whether there was one.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove_token(&self, site: &SiteId) -> Result<bool> {
        let path = self.site_dir(site).join("token");
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(ClientError::io("remove", path)(e)),
        }
    }

    pub(crate) fn site_dir(&self, site: &SiteId) -> PathBuf {
        self.root.join("sites").join(site.as_str())
    }

    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Returns the names in a directory, sorted; none if it is not there.
    pub(crate) fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(ClientError::io("list", dir)(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ClientError::io("list", dir))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ClientError::io("open", path)(e)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(ClientError::io("read", path))?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            let text = format!("{} has more than {FILE_MAX_BYTES} bytes", path.display());
            return Err(ClientError::Usage(text));
        }
        Ok(Some(bytes))
    }

    /// Replaces a file as a whole; what stood there before stands there until the new one is on disk.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let dir = path.parent().unwrap_or(&self.root);
        make_dir(dir)?;
        let temporary = temporary_beside(path);
        write_new(&temporary, bytes)?;
        fs::rename(&temporary, path).map_err(ClientError::io("replace", path))?;
        sync_dir(dir)
    }

    /// Writes a file that must not be there yet; says whether it was not.
    pub(crate) fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let dir = path.parent().unwrap_or(&self.root);
        make_dir(dir)?;
        let temporary = temporary_beside(path);
        write_new(&temporary, bytes)?;
        // A link fails where a rename would replace.
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary).map_err(ClientError::io("remove", &temporary))?;
        match linked {
            Ok(()) => sync_dir(dir).map(|()| true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(ClientError::io("create", path)(e)),
        }
    }

    /// Holds the lock of a site's directory until the file is dropped, so that two clients do not replace
    /// each other's checkpoint.
    pub(crate) fn lock(&self, site: &SiteId) -> Result<File> {
        let dir = self.site_dir(site);
        make_dir(&dir)?;
        let path = dir.join(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(ClientError::io("open", &path))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| ClientError::io("lock", &path)(e.into()))?;
        Ok(file)
    }
}

/// Returns a name in the same directory that no other process and no other thread takes.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{count}.new", std::process::id()))
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(ClientError::io("make the directory", dir))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    // What a crashed process of the same number left is in the way, and nobody's any more.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(ClientError::io("create", path))?;
    file.write_all(bytes).map_err(ClientError::io("write", path))?;
    file.sync_all().map_err(ClientError::io("sync", path))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(ClientError::io("open", dir))?;
    file.sync_all().map_err(ClientError::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use waag_schema::base::key::KeyPair;

    #[test]
    fn what_is_kept_is_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let site = KeyPair::from_seed(&[1; 32]).public().site_id();
        assert!(home.token(&site).unwrap().is_none());
        home.set_token(&site, &Secret::new("waag_x")).unwrap();
        assert_eq!(home.token(&site).unwrap().unwrap().expose(), "waag_x");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.root()), 0o700);
        assert_eq!(mode(&home.site_dir(&site)), 0o700);
        assert_eq!(mode(&home.site_dir(&site).join("token")), 0o600);
        assert!(home.remove_token(&site).unwrap());
        assert!(!home.remove_token(&site).unwrap());
    }

    #[test]
    fn a_file_that_is_there_is_not_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let path = home.keys_dir().join("default");
        assert!(home.create(&path, b"one").unwrap());
        assert!(!home.create(&path, b"two").unwrap());
        assert_eq!(home.read(&path).unwrap().unwrap(), b"one");
        assert_eq!(home.names(&home.keys_dir()).unwrap(), ["default"]);
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Secret::new("waag_x")), "Secret(..)");
    }
}
