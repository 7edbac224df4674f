//! Trust: which site is believed, and what it may not take back.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use waag_client::push::Push;
use waag_client::{ClientError, Home, Pinning, Secret, Settings, Site, site};
use waag_registry::ledger::Restored;

use crate::world::{Running, World};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_site_that_grows_is_followed() {
    let w = World::new().await;
    for i in 0..20 {
        w.write("m", &[("a.txt", format!("{i}").as_bytes())]);
        w.push("m", &format!("acme/tiny:{i}")).await.unwrap();
    }
    assert_eq!(w.site.observe_newest().await.unwrap().size, 41);
    // A second home sees it at once, without the steps between.
    let home = Home::new(w.path("second"));
    site::login(
        &home,
        &w.running.url,
        &Pinning::Loopback,
        None,
        &Settings::default(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_site_that_is_set_back_is_refused() {
    let w = World::new().await;
    let World {
        dir,
        running,
        home,
        site,
        key,
    } = w;
    let url = running.stop().await;
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    copy(&data, &backup);
    let running = Running::at(&data, Some(&url)).await;
    let w = World {
        dir,
        running,
        home,
        site,
        key,
    };
    w.write("m", &[("a.txt", b"one")]);
    w.push("m", "acme/tiny:1").await.unwrap();
    let World {
        dir,
        running,
        home,
        site,
        key,
    } = w;
    running.stop().await;
    let running = Running::at(&backup, Some(&url)).await;
    let error = site.observe_newest().await.unwrap_err();
    assert!(matches!(&error, ClientError::Verification { .. }), "{error}");

    // Nothing is signed for it, by who knows; and when it goes on differently, there are two histories.
    let w = World {
        dir,
        running,
        home,
        site,
        key,
    };
    w.write("m", &[("a.txt", b"two")]);
    let error = w.push("m", "acme/tiny:1").await.unwrap_err();
    assert!(error.to_string().contains("was set back"), "{error}");
    let pin = w.site.pin().site.to_string();
    let evidence = w.home.root().join("sites").join(pin).join("evidence");
    assert_eq!(fs::read_dir(&evidence).unwrap().count(), 2);
    let (other, settings) = (Home::new(w.path("other")), Settings::default());
    let token = fs::read_to_string(backup.join("admin-token")).unwrap();
    let token = Secret::new(token.trim());
    site::login(&other, &url, &Pinning::Loopback, Some(&token), &settings)
        .await
        .unwrap();
    let unknowing = Site::open(&other, &url, None, &settings).unwrap();
    let push = Push::prepare(&unknowing, w.push_request("m", "acme/tiny:1"));
    let push = push.await.unwrap().execute(std::slice::from_ref(&w.key));
    push.await.unwrap();
    let error = w.site.observe_newest().await.unwrap_err();
    assert!(error.to_string().contains("two histories"), "{error}");
    assert_eq!(fs::read_dir(&evidence).unwrap().count(), 3);
}

#[tokio::test]
async fn another_site_at_the_same_address_is_refused() {
    let w = World::new().await;
    let World {
        dir, running, home, ..
    } = w;
    let url = running.stop().await;
    let _running = Running::at(&dir.path().join("other"), Some(&url)).await;
    let error = site::login(&home, &url, &Pinning::Loopback, None, &Settings::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::WrongSite { .. }), "{error}");
}

#[tokio::test]
async fn whoever_has_moved_in_at_a_pinned_address_gets_no_token() {
    let w = World::new().await;
    let World {
        dir, running, home, ..
    } = w;
    let url = running.stop().await;
    let listener = TcpListener::bind(url.to_string().replace("http://", ""))
        .await
        .unwrap();
    let stranger = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let read = stream.read(&mut asked).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&asked[..read]).to_lowercase()
    });
    let settings = Settings::default();
    let site = Site::open(&home, &url, None, &settings).unwrap();
    let error = site.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::Verification { .. }), "{error}");
    let asked = stranger.await.unwrap();
    assert!(asked.starts_with("get /ledger/checkpoint "), "{asked}");
    assert!(!asked.contains("authorization"), "{asked}");

    // Another site would say that the token is not valid; it is not asked, and without a token neither.
    let _running = Running::at(&dir.path().join("other"), Some(&url)).await;
    let error = site.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::WrongSite { .. }), "{error}");
    home.remove_token(&site.pin().site).unwrap();
    let site = Site::open(&home, &url, None, &settings).unwrap();
    let error = site.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::WrongSite { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_token_is_not_kept() {
    let w = World::new().await;
    let home = Home::new(w.path("second"));
    let token = Secret::new("waag_wrong");
    let error = site::login(
        &home,
        &w.running.url,
        &Pinning::Loopback,
        Some(&token),
        &Settings::default(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized(_)), "{error}");
    assert!(home.token(&w.site.pin().site).unwrap().is_none());
}

#[tokio::test]
async fn a_site_that_does_not_answer_is_unreachable() {
    let w = World::new().await;
    let World {
        running, site, home, ..
    } = w;
    let url = running.stop().await;
    assert!(matches!(
        site.whoami().await,
        Err(ClientError::Unreachable { .. })
    ));
    let nowhere = "http://127.0.0.1:1".parse().unwrap();
    assert!(matches!(
        Site::open(&home, &nowhere, None, &Settings::default()),
        Err(ClientError::NoPin { .. })
    ));
    assert!(Site::open(&home, &url, None, &Settings::default()).is_ok());
}

#[tokio::test]
async fn a_successor_is_followed_by_who_has_lost_nothing_and_accepted_by_who_has() {
    let w = World::new().await;
    let World {
        dir,
        running,
        home,
        site,
        key,
    } = w;
    let early = Home::new(dir.path().join("early"));
    let settings = Settings::default();
    site::login(&early, &running.url, &Pinning::Loopback, None, &settings)
        .await
        .unwrap();
    let url = running.stop().await;
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    copy(&data, &backup);
    let running = Running::at(&data, Some(&url)).await;
    let w = World {
        dir,
        running,
        home,
        site,
        key,
    };
    w.write("m", &[("a.txt", b"one")]);
    w.push("m", "acme/tiny:1").await.unwrap();
    let World {
        dir,
        running,
        home,
        site,
        key,
    } = w;
    running.stop().await;
    fs::copy(data.join("guard"), backup.join("guard")).unwrap();
    let running = Running::restored(&backup, Some(&url), Restored::Yes).await;
    let w = World {
        dir,
        running,
        home,
        site,
        key,
    };
    let error = w.site.observe_newest().await.unwrap_err();
    assert!(matches!(&error, ClientError::Lost { .. }), "{error}");
    let following = Site::open(&early, &url, None, &settings).unwrap();
    assert_eq!(following.observe_newest().await.unwrap().origin.series(), 2);
    assert!(matches!(
        following.accept_successor().await,
        Err(ClientError::Usage(_))
    ));
    // Asking again changes nothing; a person's word does.
    w.write("m", &[("a.txt", b"two")]);
    assert!(matches!(
        w.push("m", "acme/tiny:1").await,
        Err(ClientError::Lost { .. })
    ));
    w.site.accept_successor().await.unwrap();
    w.push("m", "acme/tiny:1").await.unwrap();
    let pin = w.site.pin().site.to_string();
    let evidence = w.home.root().join("sites").join(pin).join("evidence");
    assert!(fs::read_dir(&evidence).unwrap().count() >= 2);
}
