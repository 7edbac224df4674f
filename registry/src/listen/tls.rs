//! The certificate and key of a site: read when it starts, and again when their files change.
//!
//! A start with files that do not fit is refused, naming the file; a change to such files is logged, and the pair
//! that was good goes on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use tokio_rustls::TlsAcceptor;
use waag_schema::Timestamp;

use super::validity::validity;
use crate::clock::Clock;

/// A certificate is spoken of from this long before its end.
const SOON_SECONDS: u64 = 14 * 24 * 3600;

/// TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file holds no certificate, or no key.
    #[error("{file}: no {wanted} in PEM form in it{found}")]
    Empty {
        /// The file.
        file: PathBuf,
        /// What should be there.
        wanted: &'static str,
        /// What is there instead, where that is known.
        found: String,
    },
    /// The certificate was made for another key.
    #[error("{key}: this is not the key that {certificate} was made for")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is not good any more, or not yet.
    #[error("{file}: the certificate is good from {from} until {until}; now it is {now}")]
    Expired {
        /// The file.
        file: PathBuf,
        /// From when it is good.
        from: Timestamp,
        /// Until when it is good.
        until: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// The two cannot be used for another reason.
    #[error("{certificate} and {key} cannot be used: {reason}")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// When the two files were last written.
type Written = [Option<SystemTime>; 2];

/// A certificate with its key, and where they come from.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    clock: Arc<dyn Clock>,
    current: Mutex<(Written, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads a certificate (with the chain below it) and its key.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, the two do not belong together, or the certificate is
    /// not good now.
    pub fn open(certificate: &Path, key: &Path, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        // Before reading: what is written meanwhile is seen as newer.
        let written = written(certificate, key);
        let config = read(certificate, key, clock.now())?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            clock,
            current: Mutex::new((written, config)),
        })
    }

    /// Returns what makes the handshakes, with the newest certificate.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current.1))
    }

    /// Reads the files again if they were written to; if they are not good, says so and keeps what was.
    pub fn renew(&self) {
        let found = written(&self.certificate, &self.key);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == found {
            return;
        }
        current.0 = found;
        match read(&self.certificate, &self.key, self.clock.now()) {
            Ok(config) => {
                current.1 = config;
                tracing::info!(file = %self.certificate.display(), "the new certificate is in use");
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used; the one before it goes on");
            }
        }
    }
}

fn written(certificate: &Path, key: &Path) -> Written {
    [certificate, key].map(|file| std::fs::metadata(file).and_then(|about| about.modified()).ok())
}

fn bytes(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::Read {
        file: file.to_owned(),
        error,
    })
}

fn read(certificate: &Path, key: &Path, now: Timestamp) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let empty = |file: &Path, wanted, found: String| TlsError::Empty {
        file: file.to_owned(),
        wanted,
        found,
    };
    let chain = chain.map_err(|e| empty(certificate, "certificate", format!(": {e}")))?;
    let Some(first) = chain.first() else {
        return Err(empty(certificate, "certificate", String::new()));
    };
    if let Some((from, until)) = validity(first) {
        if now < from || until <= now {
            return Err(TlsError::Expired {
                file: certificate.to_owned(),
                from,
                until,
                now,
            });
        }
        if until <= now.plus(SOON_SECONDS) {
            tracing::warn!(file = %certificate.display(), %until, "the certificate ends soon");
        }
    }
    let secret = zeroize::Zeroizing::new(bytes(key)?);
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| {
        let found = match error {
            PemError::NoItemsFound if secret.windows(9).any(|w| w == b"ENCRYPTED") => {
                "; it is encrypted, which a site cannot open by itself".to_owned()
            }
            PemError::NoItemsFound => String::new(),
            other => format!(": {other}"),
        };
        empty(key, "private key", found)
    })?;
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret));
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        other => TlsError::Unusable {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            reason: other.to_string(),
        },
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
