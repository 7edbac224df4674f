//! A site that speaks TLS under an authority of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use waag_client::{ClientError, Home, Pinning, Secret, Settings, Site, SiteUrl, site};

use crate::world::Running;

/// Writes a certificate for this machine and the configuration that names it, where `openssl` is installed.
fn configured(data: &Path) -> bool {
    fs::create_dir_all(data).unwrap();
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
        .args(["-subj", "/CN=waag test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(data)
        .output();
    let Ok(said) = said else { return false };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = "[tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n";
    fs::write(data.join("waag.toml"), text).unwrap();
    true
}

#[tokio::test]
async fn a_private_authority_is_believed_when_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    if !configured(&data) {
        return;
    }
    let running = Running::at(&data, None).await;
    let url: SiteUrl = running
        .url
        .to_string()
        .replace("http://", "https://")
        .parse()
        .unwrap();
    let unknown = site::contact(&url, &Settings::default()).await.unwrap_err();
    assert!(
        matches!(&unknown, ClientError::Unreachable { reason, .. } if reason.contains("certificate")),
        "{unknown}"
    );

    let authority = data.join("certificate.pem");
    let settings = Settings {
        authorities: Some(authority.clone()),
        ..Settings::default()
    };
    let home = Home::new(dir.path().join("home"));
    let token = fs::read_to_string(data.join("admin-token")).unwrap();
    let token = Secret::new(token.trim());
    site::login(&home, &url, &Pinning::Loopback, Some(&token), &settings)
        .await
        .unwrap();
    let site = Site::open(&home, &url, None, &settings).unwrap();
    assert!(site.whoami().await.unwrap().token.is_some());

    // What carries many answers at once is spoken where both sides can.
    let certificate = reqwest::Certificate::from_pem(&fs::read(authority).unwrap()).unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_merge([certificate])
        .build()
        .unwrap();
    let answer = http.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);

    let wrong = Settings {
        authorities: Some(data.join("admin-token")),
        ..Settings::default()
    };
    let error = site::contact(&url, &wrong).await.unwrap_err();
    assert!(error.to_string().contains("admin-token"), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_in_clear_text_to_who_begins_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::at(&dir.path().join("data"), None).await;
    // Any contact has chosen what encrypts in this process.
    site::contact(&running.url, &Settings::default()).await.unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let answer = http.get(format!("{}/healthz", running.url)).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, reqwest::Version::HTTP_2)
    );
    drop(http);
    running.stop().await;
}
