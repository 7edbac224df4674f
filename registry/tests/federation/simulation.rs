//! A seeded simulation of three sites: releases, labels and withdrawals at each, partitions, sites that lie and break
//! off, restarts, time. Whatever happens: no chunk is at a site that no label allows, what was acknowledged reaches
//! whoever stays connected, a second history is found, and what sites know of each other converges.
//!
//! `WAAG_SIM_RUNS` says how many lives are simulated, `WAAG_SIM_SEED` repeats the one of a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waag_registry::federation::{Peer, PeerSite};
use waag_schema::ledger::{Checkpoint, Root, SignedCheckpoint};
use waag_schema::policy::{Action, Facts, Label, decide};

use super::bent::{Bend, Bent};
use super::{Sites, at, publish, publisher, relabel, rule, withdraw};
use crate::world::{Draft, File, Publisher, noise};

/// Lives in an ordinary test run.
const RUNS: u64 = 12;
/// What happens in one.
const STEPS: u64 = 24;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit).unwrap()
    }
}

/// Says which seed failed.
struct Life(u64);

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads the failure needs it")]
            {
                eprintln!("this life failed; WAAG_SIM_SEED={} repeats it", self.0);
            }
        }
    }
}

/// An artifact of a site, as its publisher knows it.
struct Artifact {
    name: String,
    releases: Vec<(Draft, bool)>,
    label: Label,
}

struct Simulation {
    sites: Sites,
    dice: Dice,
    publishers: Vec<Publisher>,
    artifacts: Vec<Vec<Artifact>>,
    /// How a site is asked by another one: asking, asked.
    links: BTreeMap<(usize, usize), Bent>,
    made: u64,
}

const COUNTRIES: [&str; 3] = ["DE", "IT", "NO"];
const LABELS: [&[&str]; 5] = [&["*"], &["EU"], &["DE"], &["NO", "IT"], &["EEA"]];

impl Simulation {
    async fn new(seed: u64) -> Self {
        let others = |own: &str| {
            ["one", "two", "six"]
                .iter()
                .filter(|s| **s != own)
                .map(|s| rule(s))
                .collect()
        };
        let named = [
            ("one", COUNTRIES[0], others("one")),
            ("two", COUNTRIES[1], others("two")),
            ("six", COUNTRIES[2], others("six")),
        ];
        let sites = Sites::open(&named, 100 + seed).await;
        let mut publishers = Vec::new();
        for (site, (name, ..)) in named.iter().enumerate() {
            publishers.push(publisher(sites.world(site), &format!("{name}-lab")).await);
        }
        let mut simulation = Self {
            sites,
            dice: Dice(seed),
            publishers,
            artifacts: (0..3).map(|_| Vec::new()).collect(),
            links: BTreeMap::new(),
            made: 0,
        };
        for site in 0..3 {
            simulation.meet(site).await;
        }
        simulation
    }

    async fn meet(&mut self, site: usize) {
        let mut peers: Vec<(PeerSite, Arc<dyn Peer>)> = Vec::new();
        for other in (0..3).filter(|other| *other != site) {
            let bent = Bent::new(self.sites.peer(other, site));
            peers.push((self.sites.members[other].terms.clone(), Arc::new(bent.clone())));
            self.links.insert((site, other), bent);
        }
        self.sites
            .world(site)
            .site
            .federation()
            .meet(peers)
            .await
            .unwrap();
    }

    /// A label that lets the home site hold it, and perhaps others.
    fn label(&mut self, home: usize) -> Label {
        let mut places = LABELS[self.dice.below(LABELS.len() as u64)].to_vec();
        places.push(COUNTRIES[home]);
        at(&places)
    }

    /// A site publishes: a new artifact, or another release of one, which may share files.
    async fn publish(&mut self, site: usize) {
        let names = ["one", "two", "six"];
        let count = self.artifacts[site].len();
        let known = (count > 0 && self.dice.below(2) == 0).then(|| self.dice.below(count as u64));
        self.made += 1;
        // Few contents, so that artifacts of several sites share them.
        let files = vec![
            File::new("a.bin", noise(self.dice.below(6) as u64, 900)),
            File::new("b.bin", noise(1000 + self.made, 400)),
        ];
        let tag = format!("v{}", self.made);
        let world = self.sites.world(site);
        match known {
            Some(known) => {
                let artifact = &mut self.artifacts[site][known];
                let draft = publish(world, &self.publishers[site], &artifact.name, &tag, files, None).await;
                artifact.releases.push((draft, false));
            }
            None => {
                let mut places = LABELS[self.dice.below(LABELS.len() as u64)].to_vec();
                places.push(COUNTRIES[site]);
                let label = at(&places);
                let name = format!("{}-lab/a{}", names[site], self.made);
                let draft = publish(
                    world,
                    &self.publishers[site],
                    &name,
                    &tag,
                    files,
                    Some(label.clone()),
                )
                .await;
                self.artifacts[site].push(Artifact {
                    name,
                    releases: vec![(draft, false)],
                    label,
                });
            }
        }
    }

    async fn change(&mut self, site: usize) {
        if self.artifacts[site].is_empty() {
            return;
        }
        let which = self.dice.below(self.artifacts[site].len() as u64);
        if self.dice.below(2) == 0 {
            let label = self.label(site);
            let artifact = &mut self.artifacts[site][which];
            relabel(
                self.sites.world(site),
                &self.publishers[site],
                &artifact.name,
                label.clone(),
            )
            .await;
            artifact.label = label;
        } else {
            let artifact = &mut self.artifacts[site][which];
            let release = self.dice.below(artifact.releases.len() as u64);
            let (draft, gone) = &mut artifact.releases[release];
            withdraw(self.sites.world(site), &self.publishers[site], draft, true).await;
            *gone = true;
        }
    }

    async fn turn(&self, asking: usize, asked: usize) {
        let federation = self.sites.world(asking).site.federation();
        // What fails is tried again later; a failure changes nothing that counts.
        let _ = federation.look(&self.sites.members[asked].terms.id).await;
        let _ = federation.witness(&self.sites.members[asked].terms.id).await;
        federation
            .mirror(&self.sites.members[asked].terms.id)
            .await
            .unwrap();
    }

    async fn step(&mut self) {
        let site = self.dice.below(3);
        let other = (site + 1 + self.dice.below(2)) % 3;
        match self.dice.below(12) {
            0..3 => self.publish(site).await,
            3 | 4 => self.change(site).await,
            5 => {
                let bend = match self.dice.below(5) {
                    0 | 1 => Bend::Away,
                    2 => Bend::Chunks,
                    3 => Bend::Leaves,
                    _ => Bend::BreaksOff(self.dice.below(3) as u64),
                };
                self.links[&(site, other)].bend(bend);
            }
            6 => self.links[&(site, other)].bend(Bend::Nothing),
            7 => self.sites.clock.advance(self.dice.below(40_000) as u64),
            8 => self.meet(site).await,
            _ => self.turn(site, other).await,
        }
    }

    /// What each site holds is allowed by a label of an artifact that needs it, as far as the site has followed.
    async fn check_chunks(&self) {
        for (site, member) in self.sites.members.iter().enumerate() {
            let mut allowed: BTreeSet<String> = BTreeSet::new();
            for (home, artifacts) in self.artifacts.iter().enumerate() {
                for artifact in artifacts {
                    let facts = Facts {
                        home: self.sites.members[home].terms.id.clone(),
                        at: waag_registry::clock::Clock::now(self.sites.clock.as_ref()),
                        groups: std::sync::Arc::default(),
                    };
                    let labels = [artifact.label.clone()];
                    let place = member.terms.here().place();
                    let verdict = decide(&labels, &facts, Action::Hold, &place);
                    for (draft, gone) in &artifact.releases {
                        if home == site || (verdict.allowed && !gone) {
                            let files = draft.files.iter().flat_map(|file| file.recipe.pieces());
                            allowed.extend(files.map(|piece| piece.chunk.hex()));
                        }
                    }
                }
            }
            for key in self.sites.chunks(site) {
                let chunk = key.rsplit('/').next().unwrap();
                assert!(
                    allowed.contains(chunk),
                    "{} has {key}, which no label allows",
                    member.terms.name
                );
            }
        }
    }

    /// Everybody hears from everybody, and all know the same.
    async fn settle(&self) {
        for link in self.links.values() {
            link.bend(Bend::Nothing);
        }
        for _ in 0..2 {
            for asking in 0..3 {
                for asked in (0..3).filter(|asked| *asked != asking) {
                    let federation = self.sites.world(asking).site.federation();
                    let id = &self.sites.members[asked].terms.id;
                    federation.look(id).await.unwrap();
                    federation.witness(id).await.unwrap();
                    let mirrored = federation.mirror(id).await.unwrap();
                    assert_eq!(mirrored.failed, 0);
                }
            }
        }
        for asking in 0..3 {
            let site = &self.sites.world(asking).site;
            for asked in (0..3).filter(|asked| *asked != asking) {
                let followed = site
                    .catalogue()
                    .ledgers
                    .of(&self.sites.members[asked].terms.id)
                    .unwrap();
                let size = followed.newest().unwrap().checkpoint().size;
                let acknowledged: u64 = 1 + self.artifacts[asked]
                    .iter()
                    .map(|a| 2 * a.releases.len() as u64)
                    .sum::<u64>();
                assert!(size >= acknowledged, "{size} of {acknowledged}");
                for artifact in &self.artifacts[asked] {
                    for (draft, gone) in &artifact.releases {
                        let (name, manifest) = (draft.artifact.clone(), draft.digest);
                        let known = followed
                            .index
                            .ask(move |q| q.release(&name, &manifest))
                            .await
                            .unwrap();
                        assert_eq!(known.unwrap().withdrawn.is_some(), *gone);
                        let facts = Facts {
                            home: self.sites.members[asked].terms.id.clone(),
                            at: waag_registry::clock::Clock::now(self.sites.clock.as_ref()),
                            groups: std::sync::Arc::default(),
                        };
                        let labels = [artifact.label.clone()];
                        let place = self.sites.members[asking].terms.here().place();
                        let may = decide(&labels, &facts, Action::Hold, &place).allowed && !gone;
                        let (name, manifest) = (draft.artifact.clone(), draft.digest);
                        let row = site
                            .reader()
                            .ask(move |q| q.custody_of(&name, &manifest))
                            .await
                            .unwrap();
                        let holds =
                            row.is_some_and(|row| row.state == waag_schema::statement::Keeping::Holds);
                        assert_eq!(holds, may, "{} of {}", draft.digest, draft.artifact);
                    }
                }
            }
        }
        self.check_chunks().await;
    }

    /// One site signs a second history for another one, which finds it.
    async fn fork(&self) {
        let home = self.sites.world(0);
        let honest = home.site.ledger().checkpoint();
        let forged = Checkpoint {
            root: Root::from_bytes([3; 32]),
            ..honest.checkpoint().clone()
        };
        let forged = SignedCheckpoint::sign(forged, &self.sites.log_key(0)).to_string();
        self.links[&(1, 0)].bend(Bend::Shows(forged));
        let federation = self.sites.world(1).site.federation();
        federation.look(home.site.id()).await.unwrap_err();
        let views = federation.peers().await.unwrap();
        let view = views
            .into_iter()
            .find(|view| view.site == *home.site.id())
            .unwrap();
        assert_eq!(view.evidence.unwrap().checkpoints.len(), 2);
    }
}

async fn live(seed: u64) {
    let _life = Life(seed);
    let mut simulation = Simulation::new(seed).await;
    for _ in 0..STEPS {
        simulation.step().await;
    }
    simulation.settle().await;
    simulation.fork().await;
}

#[tokio::test]
async fn whatever_happens_between_three_sites_labels_hold_and_views_converge() {
    let from = std::env::var("WAAG_SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse::<u64>().ok());
    let runs = std::env::var("WAAG_SIM_RUNS")
        .ok()
        .and_then(|runs| runs.parse::<u64>().ok());
    match from {
        Some(seed) => live(seed).await,
        None => {
            for seed in 0..runs.map_or(RUNS, |runs| runs.div_ceil(25)) {
                live(seed).await;
            }
        }
    }
}
