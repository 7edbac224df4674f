//! The certificate of a site: what does not fit is refused by name, what changes is taken up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use waag_registry::clock::{Clock as _, ManualClock, SystemClock};
use waag_registry::listen::{Tls, TlsError};

/// Makes a certificate for this machine and its key, where `openssl` is installed, which is not needed otherwise.
fn made(dir: &Path, name: &str) -> Option<(PathBuf, PathBuf)> {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let said = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
        ])
        .args([
            "-subj",
            "/CN=waag test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .ok()?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some((certificate, key))
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (Some((certificate, key)), Some((_, other))) = (made(dir.path(), "one"), made(dir.path(), "two"))
    else {
        return;
    };
    let clock = Arc::new(SystemClock);
    let open = |certificate: &Path, key: &Path| Tls::open(certificate, key, clock.clone()).err();
    assert!(open(&certificate, &key).is_none());

    let missing = dir.path().join("missing");
    let error = open(&missing, &key).unwrap();
    assert!(
        matches!(&error, TlsError::Read { file, .. } if *file == missing),
        "{error}"
    );
    let error = open(&certificate, &other).unwrap();
    assert!(
        matches!(&error, TlsError::Mismatch { key, .. } if *key == other),
        "{error}"
    );
    let error = open(&key, &key).unwrap();
    assert!(
        matches!(
            &error,
            TlsError::Empty {
                wanted: "certificate",
                ..
            }
        ),
        "{error}"
    );
    let error = open(&certificate, &certificate).unwrap();
    assert!(
        matches!(
            &error,
            TlsError::Empty {
                wanted: "private key",
                ..
            }
        ),
        "{error}"
    );

    let now = SystemClock.now();
    let later = Arc::new(ManualClock::at(now.plus(31 * 24 * 3600)));
    let error = Tls::open(&certificate, &key, later).err().unwrap();
    assert!(matches!(error, TlsError::Expired { .. }), "{error}");
}

#[test]
fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (Some((certificate, key)), Some((new, new_key))) = (made(dir.path(), "one"), made(dir.path(), "two"))
    else {
        return;
    };
    let tls = Tls::open(&certificate, &key, Arc::new(SystemClock)).unwrap();
    let first = tls.acceptor();
    tls.renew();
    assert!(Arc::ptr_eq(first.config(), tls.acceptor().config()));
    std::fs::write(&certificate, "half of it").unwrap();
    tls.renew();
    assert!(Arc::ptr_eq(first.config(), tls.acceptor().config()));
    std::fs::rename(&new, &certificate).unwrap();
    std::fs::rename(&new_key, &key).unwrap();
    tls.renew();
    assert!(!Arc::ptr_eq(first.config(), tls.acceptor().config()));
}
