//! A small world: one site that answers on this machine, one publisher with a key, one directory to publish.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use waag_client::namespace::{self, NewNamespace};
use waag_client::pull::{PullRequest, Pulled, pull};
use waag_client::push::{Push, PushRequest, Pushed};
use waag_client::verify::{Verified, verify};
use waag_client::{
    ClientError, Home, Links, Pinning, Result, Secret, Settings, Site, SiteUrl, event, keys, site,
};
use waag_registry::ledger::Restored;
use waag_registry::serve::configure;
use waag_registry::{ServeOptions, serve};
use waag_schema::base::key::KeyPair;
use waag_schema::base::name::Reference;
use waag_schema::release::{About, Kind};
use waag_schema::statement::Visibility;

/// A site that answers until it is stopped.
pub(crate) struct Running {
    pub(crate) url: SiteUrl,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Serves what is in this directory, at any free port or at this address again.
    pub(crate) async fn at(data: &Path, url: Option<&SiteUrl>) -> Self {
        Self::restored(data, url, Restored::No).await
    }

    pub(crate) async fn restored(data: &Path, url: Option<&SiteUrl>, restored: Restored) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, answers) = oneshot::channel();
        let port = url.map_or("127.0.0.1:0".to_owned(), |url| {
            url.to_string().replace("http://", "")
        });
        let options = ServeOptions {
            data: data.to_owned(),
            listen: Some(port.parse().unwrap()),
            restored,
            bench: waag_registry::evaluation::Bench::Thread,
        };
        let mut config = configure(data).unwrap();
        // Nothing but what people do gets into the ledger.
        config.weigh.on = false;
        let done = tokio::spawn(async move {
            let on_ready = |r: &waag_registry::Ready| ready.send(r.address).unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            serve(options, config, on_ready, shutdown).await.unwrap();
        });
        let address = answers.await.unwrap();
        Self {
            url: format!("http://{address}").parse().unwrap(),
            stop,
            done,
        }
    }

    pub(crate) async fn stop(self) -> SiteUrl {
        let _ = self.stop.send(());
        self.done.await.unwrap();
        self.url
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) running: Running,
    pub(crate) home: Home,
    pub(crate) site: Site,
    pub(crate) key: KeyPair,
}

impl World {
    /// A site with the namespace `acme`, whose owner is logged in.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::at(&dir.path().join("data"), None).await;
        let home = Home::new(dir.path().join("home"));
        let token = Secret::new(
            fs::read_to_string(dir.path().join("data/admin-token"))
                .unwrap()
                .trim(),
        );
        let settings = Settings::default();
        site::login(&home, &running.url, &Pinning::Loopback, Some(&token), &settings)
            .await
            .unwrap();
        keys::generate(&home, keys::DEFAULT_KEY, None).unwrap();
        let key = keys::load(&home, &Default::default(), None).unwrap();
        let site = Site::open(&home, &running.url, None, &settings).unwrap();
        let new = NewNamespace {
            name: "acme".parse().unwrap(),
            visibility: Visibility::Public,
            owners: vec![key.public()],
            threshold: 1,
            recovery: Vec::new(),
        };
        namespace::create(
            &site,
            new,
            &[keys::load(&home, &Default::default(), None).unwrap()],
        )
        .await
        .unwrap();
        Self {
            dir,
            running,
            home,
            site,
            key,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes files under a directory of this name.
    pub(crate) fn write(&self, directory: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let root = self.path(directory);
        for (name, bytes) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    pub(crate) fn push_request(&self, directory: &str, reference: &str) -> PushRequest {
        let reference: Reference = reference.parse().unwrap();
        let waag_schema::base::name::Version::Tag(tag) = reference.version else {
            panic!("a push names a tag")
        };
        PushRequest {
            path: self.path(directory),
            artifact: reference.artifact,
            tag,
            kind: Kind::Model,
            about: About::default(),
            base: None,
            data: Vec::new(),
            label: None,
            move_tag: false,
            encode: true,
            links: Links::Refuse,
            allowed_formats: Vec::new(),
            signers: vec![self.key.public()],
            draft: false,
        }
    }

    pub(crate) async fn push(&self, directory: &str, reference: &str) -> Result<Pushed> {
        self.push_as(self.push_request(directory, reference)).await
    }

    pub(crate) async fn push_as(&self, request: PushRequest) -> Result<Pushed> {
        let push = Push::prepare(&self.site, request).await?;
        push.execute(std::slice::from_ref(&self.key)).await
    }

    pub(crate) async fn pull(&self, reference: &str, directory: &str) -> Result<Pulled> {
        pull(&self.site, &self.pull_request(reference, directory)).await
    }

    /// Pulls, whatever is in the way.
    pub(crate) async fn force(&self, reference: &str, directory: &str) -> Result<Pulled> {
        let request = PullRequest {
            force: true,
            ..self.pull_request(reference, directory)
        };
        pull(&self.site, &request).await
    }

    pub(crate) fn pull_request(&self, reference: &str, directory: &str) -> PullRequest {
        PullRequest::new(reference.parse().unwrap(), self.path(directory))
    }

    pub(crate) async fn verify(&self, directory: &str) -> Result<Verified> {
        verify(&self.home, &self.path(directory), &event::silent()).await
    }
}

/// Bytes that compress and repeat nowhere.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_be_bytes()[2..]);
    }
    bytes.truncate(length);
    bytes
}

/// A safetensors file of these bf16 tensors, each of `rows` rows of 512 elements, filled by its seed.
pub(crate) fn safetensors(tensors: &[(&str, usize, u64)]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, rows, seed) in tensors {
        let begin = data.len();
        data.extend(noise(*seed, rows * 1024));
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"BF16\",\"shape\":[{rows},512],\"data_offsets\":[{begin},{}]}}",
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    file
}

/// Changes one byte in the middle of a file.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Returns all files below a directory, relative, sorted.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
pub(crate) fn names_file(error: &ClientError, file: &str) {
    let verification = matches!(error, ClientError::Verification { .. } | ClientError::Damaged(_));
    assert!(verification && error.to_string().contains(file), "{error:?}");
}
