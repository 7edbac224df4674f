//! Sites of this process for the benchmarks: opened, served over loopback, known to each other.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use waag_registry::Site;
use waag_registry::access::Caller;
use waag_registry::clock::SystemClock;
use waag_registry::config::Config;
use waag_registry::federation::PeerSite;
use waag_registry::http::router;
use waag_registry::ledger::Restored;
use waag_registry::listen::{Settings, listen};
use waag_registry::random::Random;
use waag_registry::site::{Collaborators, OpenSite};
use waag_registry::store::Store;
use waag_schema::base::key::KeyPair;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::namespace::{Genesis, KeySet};
use waag_schema::statement::predicate::Residency;
use waag_schema::statement::{Chain, Envelope, Predicate, Statement, Subject, Visibility};
use waag_schema::wire::federation::{MirrorRule, When};
use waag_schema::{ArtifactName, Sha256};

/// A site, and a publisher with a namespace at it.
pub(crate) struct Home {
    pub(crate) site: Arc<Site>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) admin: Caller,
    pub(crate) terms: PeerSite,
    pub(crate) namespace: Sha256,
}

pub(crate) fn key() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

pub(crate) fn sign(subject: Subject, predicate: Predicate) -> Envelope {
    Envelope::sign(&Statement { subject, predicate }.to_bytes(), &[&key()])
}

/// A label that allows everything in a place.
pub(crate) fn at(place: &str) -> Label {
    Label::from_cli(&[place.parse().expect("a place")], &Action::ALL, &[]).expect("a label")
}

/// The next label of an artifact.
pub(crate) fn label(namespace: Sha256, artifact: &ArtifactName, chain: &Chain, place: &str) -> Envelope {
    let residency = Residency {
        namespace,
        link: chain.next(),
        label: at(place),
    };
    sign(
        Subject::Artifact(artifact.clone()),
        Predicate::Residency(residency),
    )
}

/// Says that everything of a site is mirrored.
pub(crate) fn everything_of(site: &str) -> MirrorRule {
    MirrorRule {
        site: site.to_owned(),
        artifacts: Vec::new(),
        kinds: Vec::new(),
        residency: Vec::new(),
        when: When::Always,
        bytes_per_second: None,
        hours: None,
    }
}

/// Threads of this name, so that what they cost can be told from the rest.
pub(crate) fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .expect("a runtime")
}

impl Home {
    /// Opens a site whose name and namespace are `name`, in Germany.
    pub(crate) async fn open(
        directory: &Path,
        name: &str,
        store: Arc<dyn Store>,
        mirror: Vec<MirrorRule>,
    ) -> Self {
        let data = directory.join(name);
        std::fs::create_dir_all(&data).expect("a directory");
        let config = Config {
            jurisdiction: Some("DE".parse().expect("a country")),
            mirror,
            ..Config::default()
        };
        let parts = Collaborators {
            store: Arc::clone(&store),
            clock: Arc::new(SystemClock),
            random: Random::from_system().expect("random numbers"),
        };
        let opened = Site::open(&data, &config, parts, Restored::No).await;
        let OpenSite { site, .. } = opened.expect("the site opens");
        let secret = std::fs::read_to_string(data.join("admin-token")).expect("a token");
        let admin = site.tokens().caller(secret.trim()).await.expect("the token");
        let terms = PeerSite {
            id: site.id().clone(),
            name: name.to_owned(),
            jurisdiction: config.jurisdiction,
            url: "http://127.0.0.1:1".to_owned(),
            log_key: site.log_key(),
            site_key: site.site_key(),
            witness_key: site.view().witness_key.parse().expect("a key"),
            owns: vec![name.to_owned()],
            ends: std::collections::BTreeMap::new(),
        };
        let genesis = Genesis {
            keys: KeySet {
                owners: vec![key().public()],
                threshold: 1,
                recovery: Vec::new(),
            },
            home: site.id().clone(),
            visibility: Visibility::Public,
        };
        let subject = Subject::Namespace(name.parse().expect("a name"));
        let genesis = sign(subject, Predicate::Genesis(genesis));
        let began = site.intake().namespace(&admin, genesis.bytes()).await;
        began.expect("the namespace begins");
        Self {
            namespace: Sha256::of(genesis.payload()),
            store,
            site,
            admin,
            terms,
        }
    }

    /// Serves it on loopback for as long as the process lives.
    pub(crate) async fn serve(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (site, metrics) = (Arc::clone(&self.site), self.site.metrics().clone());
        let settings = Settings::default();
        let never = std::future::pending();
        tokio::spawn(listen(listener, router(site), None, settings, metrics, never));
        self.terms.url = format!("http://{address}");
        address
    }

    pub(crate) fn artifact(&self, name: &str) -> ArtifactName {
        format!("{}/{name}", self.terms.name).parse().expect("a name")
    }
}

/// Lets all know all.
pub(crate) async fn join(sites: &[&Home]) {
    let terms: Vec<PeerSite> = sites.iter().map(|home| home.terms.clone()).collect();
    for home in sites {
        home.site.join(terms.clone()).await.expect("they meet");
    }
}
