//! Several sites in this process under one clock, and what they do with each other's releases.

mod bent;
mod bundles;
mod comparing;
mod custody;
mod exchange;
mod following;
mod holders;
mod mirroring;
mod over_http;
mod privacy;
mod rules;
mod sharing;
mod simulation;
mod threats;
mod weighing;
mod witnessing;

use std::sync::Arc;

use data_encoding::BASE64;
use waag_registry::access::Caller;
use waag_registry::clock::ManualClock;
use waag_registry::config::Config;
use waag_registry::federation::{LocalPeer, Peer, PeerSite};
use waag_registry::ledger::Restored;
use waag_registry::publish::PublishError;
use waag_registry::store::{FaultyStore, MemoryStore, Store};
use waag_schema::base::key::KeyPair;
use waag_schema::policy::{Action, Label};
use waag_schema::statement::predicate::{Residency, Withdrawal};
use waag_schema::statement::{Access, Predicate, Subject, Visibility};
use waag_schema::wire::federation::{MirrorRule, When};
use waag_schema::{Namespace, SiteId};

use self::bent::Bent;
use crate::world::{Draft, File, MIDNIGHT, Publisher, World, name, send};

/// One of the sites.
pub(crate) struct Member {
    pub(crate) world: World,
    pub(crate) store: Arc<MemoryStore>,
    /// What stands before it, and kills the site where a test says so.
    pub(crate) faulty: Arc<FaultyStore>,
    pub(crate) terms: PeerSite,
}

/// Several sites that know each other.
pub(crate) struct Sites {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) members: Vec<Member>,
}

pub(crate) fn rule(site: &str) -> MirrorRule {
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

/// A label that allows everything at these places.
pub(crate) fn at(places: &[&str]) -> Label {
    let places: Vec<_> = places.iter().map(|place| place.parse().unwrap()).collect();
    Label::from_cli(&places, &Action::ALL, &[]).unwrap()
}

impl Sites {
    /// Sites of these names, in these countries; each owns the namespaces that begin with its name. What each mirrors
    /// is said by rules.
    pub(crate) async fn open(named: &[(&str, &str, Vec<MirrorRule>)], seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at(MIDNIGHT));
        let mut members = Vec::new();
        for (at, (site, country, rules)) in (0_u64..).zip(named) {
            let config = Config {
                jurisdiction: Some(country.parse().unwrap()),
                mirror: rules.clone(),
                ..Config::default()
            };
            let store = Arc::new(MemoryStore::new());
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as Arc<dyn Store>));
            let shared: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
            let world = World::one_of(1000 * (seed + 1) + at, config, &clock, shared).await;
            let terms = PeerSite {
                id: world.site.id().clone(),
                name: (*site).to_owned(),
                jurisdiction: Some(country.parse().unwrap()),
                url: format!("https://{site}.example"),
                log_key: world.site.log_key(),
                site_key: world.site.site_key(),
                witness_key: world.site.view().witness_key.parse().unwrap(),
                owns: vec![format!("{site}*")],
                ends: std::collections::BTreeMap::new(),
            };
            members.push(Member {
                world,
                store,
                faulty,
                terms,
            });
        }
        Self { clock, members }
    }

    /// How a site is asked by another one, if nobody bends what it says.
    pub(crate) fn peer(&self, asked: usize, asking: usize) -> LocalPeer {
        LocalPeer::new(&self.members[asked].world.site, self.members[asking].terms.here())
    }

    /// Lets a site know all others.
    pub(crate) async fn meet(&self, site: usize) {
        let mut peers: Vec<(PeerSite, Arc<dyn Peer>)> = Vec::new();
        for (other, member) in self.members.iter().enumerate() {
            peers.push((member.terms.clone(), Arc::new(self.peer(other, site))));
        }
        self.members[site]
            .world
            .site
            .federation()
            .meet(peers)
            .await
            .unwrap();
    }

    /// Lets a site know one other, whose answers can be bent.
    pub(crate) async fn meet_bent(&self, site: usize, other: usize) -> Bent {
        let bent = Bent::new(self.peer(other, site));
        let peers: Vec<(PeerSite, Arc<dyn Peer>)> =
            vec![(self.members[other].terms.clone(), Arc::new(bent.clone()))];
        self.members[site]
            .world
            .site
            .federation()
            .meet(peers)
            .await
            .unwrap();
        bent
    }

    /// One look at another site and what follows from it.
    pub(crate) async fn turn(&self, site: usize, other: usize) {
        let federation = self.members[site].world.site.federation();
        federation.look(&self.members[other].terms.id).await.unwrap();
        federation.mirror(&self.members[other].terms.id).await.unwrap();
    }

    pub(crate) fn world(&self, site: usize) -> &World {
        &self.members[site].world
    }

    /// Ends a site, whose process is dead, and opens it again over the same store. It knows no other one then.
    pub(crate) async fn reopen(&mut self, site: usize) {
        let member = self.members.remove(site);
        let faulty = Arc::clone(&member.faulty);
        let revive = |_: &std::path::Path| faulty.revive();
        let world = member.world.restart_over(None, Restored::No, revive);
        let world = world.await.unwrap();
        self.members.insert(site, Member { world, ..member });
    }

    /// Every chunk that a site has.
    pub(crate) fn chunks(&self, site: usize) -> Vec<String> {
        let dump = self.members[site].store.dump();
        dump.into_keys()
            .filter(|key| key.starts_with("chunks/"))
            .collect()
    }

    /// The same, and every chunk on its way there.
    pub(crate) fn content(&self, site: usize) -> Vec<String> {
        let dump = self.members[site].store.dump();
        dump.into_keys()
            .filter(|key| key.starts_with("chunks/") || key.starts_with("incoming/"))
            .collect()
    }

    /// The key of a site's ledger.
    pub(crate) fn log_key(&self, site: usize) -> KeyPair {
        self.key(site, "log")
    }

    /// One of the keys of a site.
    pub(crate) fn key(&self, site: usize, name: &str) -> KeyPair {
        let text = std::fs::read(self.world(site).data().join("keys").join(name)).unwrap();
        let seed: [u8; 32] = BASE64.decode(text.trim_ascii()).unwrap().try_into().unwrap();
        KeyPair::from_seed(&seed)
    }
}

/// Publishes under a label.
pub(crate) async fn publish(
    world: &World,
    publisher: &Publisher,
    artifact: &str,
    tag: &str,
    files: Vec<File>,
    label: Option<Label>,
) -> Draft {
    let chain = publisher.chain(world, &name(artifact)).await;
    let draft = publisher.draft(artifact, chain, files);
    let (id, _) = send(world, &world.admin, &draft).await;
    let envelopes = publisher.statements(&draft, label, tag, None);
    world
        .site
        .intake()
        .publish(&world.admin, &id, &draft.manifest, &envelopes)
        .await
        .unwrap();
    draft
}

/// A publisher with a public namespace.
pub(crate) async fn publisher(world: &World, namespace: &str) -> Publisher {
    Publisher::begin(world, namespace, 7, Visibility::Public).await
}

/// Puts an artifact under another label.
pub(crate) async fn relabel(world: &World, publisher: &Publisher, artifact: &str, label: Label) {
    try_relabel(world, publisher, artifact, label).await.unwrap();
}

/// The same, at a site that may fail.
pub(crate) async fn try_relabel(
    world: &World,
    publisher: &Publisher,
    artifact: &str,
    label: Label,
) -> Result<(), PublishError> {
    let residency = Residency {
        namespace: publisher.namespace,
        link: publisher.chain(world, &name(artifact)).await.next(),
        label,
    };
    let envelope = publisher.sign(Subject::Artifact(name(artifact)), Predicate::Residency(residency));
    let envelopes = [envelope.bytes().to_vec()];
    let artifact = name(artifact);
    let recorded = world
        .site
        .intake()
        .statements(&world.admin, &artifact, &envelopes);
    recorded.await.map(drop)
}

/// Says which sites may read a private namespace.
pub(crate) async fn share(world: &World, publisher: &Publisher, namespace: &str, sites: &[&SiteId]) {
    let name: Namespace = namespace.parse().unwrap();
    let view = world
        .site
        .catalogue()
        .namespace(&world.admin, &name)
        .await
        .unwrap();
    let mut sites: Vec<SiteId> = sites.iter().copied().cloned().collect();
    sites.sort();
    let access = Access {
        namespace: publisher.namespace,
        link: view.chain.next(),
        sites,
    };
    let envelope = publisher.sign(Subject::Namespace(name.clone()), Predicate::Access(access));
    let recorded = world.site.intake().access(&world.admin, &name, envelope.bytes());
    recorded.await.unwrap();
}

/// Withdraws a release.
pub(crate) async fn withdraw(world: &World, publisher: &Publisher, draft: &Draft, erase: bool) {
    try_withdraw(world, publisher, draft, erase).await.unwrap();
}

/// The same, at a site that may fail.
pub(crate) async fn try_withdraw(
    world: &World,
    publisher: &Publisher,
    draft: &Draft,
    erase: bool,
) -> Result<(), PublishError> {
    let withdrawal = Withdrawal {
        namespace: publisher.namespace,
        link: publisher.chain(world, &draft.artifact).await.next(),
        reason: "it should not be".to_owned(),
        erase,
    };
    let subject = Subject::Manifest(draft.artifact.clone(), draft.digest);
    let envelope = publisher.sign(subject, Predicate::Withdrawal(withdrawal));
    let envelopes = [envelope.bytes().to_vec()];
    let recorded = world
        .site
        .intake()
        .statements(&world.admin, &draft.artifact, &envelopes);
    recorded.await.map(drop)
}

/// Somebody without a token.
pub(crate) fn anybody() -> Caller {
    Caller::anonymous()
}
