//! A seeded simulation of three to seven sites: releases, labels and withdrawals at each, partitions, sites that lie and
//! break off, are slow while others go on, die at any access to their store and start again, and one that leads a double
//! life; time passes. At each moment no chunk is at a site that no label allows, as far as that site can know, and what was
//! withdrawn stays away; whoever is connected has what was acknowledged; in the end all views agree, and the second history
//! is found.
//!
//! `WAAG_SIM_RUNS` says how many lives are simulated (25 of the ledger's for one here), `WAAG_SIM_SEED` repeats the one of a
//! seed. What the seed decides is what happens and where it is held up or dies; threads have a say in what runs beside.

mod truth;
mod twin;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use waag_registry::federation::{Mirrored, Peer, PeerSite};
use waag_registry::store::Fault;
use waag_schema::SiteId;

use self::truth::{Pending, Seen, Truth};
pub(crate) use self::twin::Twin;
use super::bent::{Bend, Bent};
use super::{Sites, at, publisher, rule, try_relabel, try_withdraw};
use crate::world::{Draft, File, Publisher, World, name, noise};

/// Lives in an ordinary test run, besides those that found something once.
const RUNS: u64 = 20;
/// Lives in which something was found, and what.
const FOUND: [(u64, &str); 5] = [
    (
        5,
        "chunks of a fetch that broke off stayed when the label was tightened",
    ),
    (
        12,
        "chunks of a fetch that broke off stayed when the release was withdrawn",
    ),
    (
        7,
        "a charter taken up during a look left two that wrote one copy, and the newer one could not",
    ),
    (
        9,
        "a ledger whose openings were withheld twice was never followed any further",
    ),
    (
        29,
        "openings that were withheld once were missing from the copy for ever",
    ),
];
/// What happens in a life: so much, and more with each site.
const STEPS: usize = 18;
/// The most store accesses from the moment at which a death is decided to it.
const DEATH_WITHIN: u64 = 60;

/// Name and country; a site owns all namespaces that begin with its name.
const SITES: [(&str, &str); 7] = [
    ("one", "DE"),
    ("two", "IT"),
    ("six", "NO"),
    ("ten", "FI"),
    ("ada", "US"),
    ("bob", "SE"),
    ("eve", "GR"),
];
const LABELS: [&[&str]; 7] = [
    &["*"],
    &["EU"],
    &["DE"],
    &["NO", "IT"],
    &["EEA"],
    &["US", "FI"],
    &["*"],
];

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }
}

/// Says which seed failed, and what happened.
struct Life {
    seed: u64,
    story: Story,
}

type Story = Arc<Mutex<Vec<String>>>;

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let story = self.story.lock().unwrap().join("\n");
            #[expect(clippy::print_stderr, reason = "whoever reads the failure needs it")]
            {
                eprintln!(
                    "{story}\nthis life failed; WAAG_SIM_SEED={} repeats it",
                    self.seed
                );
            }
        }
    }
}

/// A site looks at another one, and mirrors from it.
struct Turn {
    asking: usize,
    asked: usize,
    /// What there was to be seen when it began, if nothing was wrong with the way then.
    seen: Seen,
    straight: bool,
    done: JoinHandle<Came>,
}

/// What came of it.
struct Came {
    looked: Result<u64, String>,
    mirrored: Result<Mirrored, String>,
}

struct Simulation {
    sites: Sites,
    dice: Dice,
    publishers: Vec<Publisher>,
    truth: Truth,
    /// How a site is asked by another one: asking, asked.
    links: BTreeMap<(usize, usize), Bent>,
    /// Turns that are held up somewhere.
    slow: Vec<Turn>,
    made: u64,
    story: Story,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // A turn that is held up would hold up the end of a life that failed.
        for link in self.links.values() {
            link.let_go();
        }
    }
}

impl Simulation {
    async fn new(seed: u64, story: Story) -> Self {
        let mut dice = Dice(seed);
        let count = 3 + dice.below(5).min(dice.below(5));
        let named: Vec<_> = SITES[..count]
            .iter()
            .map(|(own, country)| {
                let others = SITES[..count].iter().filter(|(other, _)| other != own);
                (*own, *country, others.map(|(other, _)| rule(other)).collect())
            })
            .collect();
        let sites = Sites::open(&named, 100 + seed).await;
        let mut publishers = Vec::new();
        for (site, (own, _)) in SITES[..count].iter().enumerate() {
            publishers.push(publisher(sites.world(site), &format!("{own}-lab")).await);
        }
        let mut simulation = Self {
            sites,
            dice,
            publishers,
            truth: Truth::default(),
            links: BTreeMap::new(),
            slow: Vec::new(),
            made: 0,
            story,
        };
        for asking in 0..count {
            for asked in (0..count).filter(|asked| *asked != asking) {
                let bent = Bent::new(simulation.sites.peer(asked, asking));
                // A turn is held up where it asks a home; whom else it asks is held up by turns of others.
                let bent = bent.holding_up_only(SITES[asked].0);
                simulation.links.insert((asking, asked), bent);
            }
        }
        for site in 0..count {
            simulation.meet(site).await;
        }
        simulation
    }

    fn tell(&self, what: &str) {
        self.story.lock().unwrap().push(what.to_owned());
    }

    fn count(&self) -> usize {
        self.sites.members.len()
    }

    fn id(&self, site: usize) -> SiteId {
        self.sites.members[site].terms.id.clone()
    }

    /// A site takes up its charter, at a start or a new version.
    async fn meet(&mut self, site: usize) {
        let others = self.links.iter().filter(|((asking, _), _)| *asking == site);
        let peers = others.map(|((_, asked), bent)| {
            let peer: Arc<dyn Peer> = Arc::new(bent.clone());
            (self.sites.members[*asked].terms.clone(), peer)
        });
        let peers: Vec<(PeerSite, Arc<dyn Peer>)> = peers.collect();
        let federation = self.sites.world(site).site.federation();
        // Who dies meanwhile does it again.
        if let Err(error) = federation.meet(peers).await {
            assert!(self.is_dead(site), "{error}");
        }
    }

    fn is_dead(&self, site: usize) -> bool {
        self.sites.members[site].faulty.has_crashed()
    }

    fn label(&mut self, home: usize) -> waag_schema::policy::Label {
        let mut places = LABELS[self.dice.below(LABELS.len())].to_vec();
        places.push(SITES[home].1);
        at(&places)
    }

    /// A site publishes: a new artifact, or another release of one, which may share files.
    async fn publish(&mut self, site: usize) {
        let known: Vec<usize> = self.truth.of(site).collect();
        let known =
            (!known.is_empty() && self.dice.below(2) == 0).then(|| known[self.dice.below(known.len())]);
        self.made += 1;
        // Few contents, so that artifacts of several sites share them.
        let files = vec![
            File::new("a.bin", noise(self.dice.below(6) as u64, 900)),
            File::new("b.bin", noise(1000 + self.made, 400)),
            File::new("c.bin", noise(2000 + self.dice.below(20) as u64, 300)),
        ];
        let tag = format!("v{}", self.made);
        let (artifact, label) = match known {
            Some(known) => (self.truth.artifacts[known].name.clone(), None),
            None => {
                let label = self.label(site);
                (format!("{}-lab/a{}", SITES[site].0, self.made), Some(label))
            }
        };
        let world = self.sites.world(site);
        let publisher = &self.publishers[site];
        let chain = publisher.chain(world, &name(&artifact)).await;
        let draft = publisher.draft(&artifact, chain, files);
        let sent = send(world, publisher, &draft, label.clone(), &tag).await;
        self.tell(&format!("{artifact}:{tag} is published: {sent:?}"));
        let release = Pending::Release {
            home: site,
            label,
            draft: Box::new(draft),
        };
        self.note(site, sent, release).await;
    }

    async fn change(&mut self, site: usize) {
        let known: Vec<usize> = self.truth.of(site).collect();
        if known.is_empty() {
            return;
        }
        let artifact = known[self.dice.below(known.len())];
        if self.dice.below(2) == 0 {
            let label = self.label(site);
            let of = &self.truth.artifacts[artifact].name;
            let said = try_relabel(self.sites.world(site), &self.publishers[site], of, label.clone()).await;
            let said = said.map_err(|error| error.to_string());
            self.tell(&format!("{of} is labelled: {said:?}"));
            self.note(site, said, Pending::Label { artifact, label }).await;
        } else {
            let release = self.dice.below(self.truth.artifacts[artifact].releases.len());
            let draft = &self.truth.artifacts[artifact].releases[release].draft;
            let said = try_withdraw(self.sites.world(site), &self.publishers[site], draft, true).await;
            let said = said.map_err(|error| error.to_string());
            self.tell(&format!(
                "{} of {} is withdrawn: {said:?}",
                draft.digest, draft.artifact
            ));
            self.note(site, said, Pending::Withdrawal { artifact, release })
                .await;
        }
    }

    /// What was acknowledged is true; what was not may be, and its home knows once it has started again.
    async fn note(&mut self, site: usize, said: Result<(), String>, what: Pending) {
        match said {
            Ok(()) => self.truth.record(what),
            Err(error) => {
                assert!(self.is_dead(site), "{error}");
                self.truth.doubt(site, what);
            }
        }
    }

    /// What was withdrawn at a site with erasure goes there.
    async fn tidy(&mut self, site: usize) {
        let seen = self.truth.seen(site);
        self.tell(&format!("{} erases its own", SITES[site].0));
        match self.sites.world(site).site.federation().erase_own().await {
            Ok(_) => self.truth.erased_at_home(&seen),
            Err(error) => assert!(self.is_dead(site), "{error}"),
        }
    }

    fn begin(&self, asking: usize, asked: usize) -> Turn {
        let federation = Arc::clone(self.sites.world(asking).site.federation());
        let id = self.id(asked);
        let done = tokio::spawn(async move {
            let looked = federation.look(&id).await;
            // What fails is tried again later; a failure changes nothing that counts.
            let _ = federation.witness(&id).await;
            let _ = federation.hear(&id).await;
            Came {
                looked: looked.map(|looked| looked.new).map_err(|error| error.to_string()),
                mirrored: federation.mirror(&id).await.map_err(|error| error.to_string()),
            }
        });
        Turn {
            asking,
            asked,
            seen: self.truth.seen(asked),
            straight: self.links[&(asking, asked)].is_straight(),
            done,
        }
    }

    /// One turn, which may be held up in the middle until something else has happened.
    async fn turn(&mut self, asking: usize, asked: usize) {
        if self
            .slow
            .iter()
            .any(|turn| (turn.asking, turn.asked) == (asking, asked))
        {
            return self.let_go(asking, asked).await;
        }
        let link = self.links[&(asking, asked)].clone();
        let held = self.dice.below(3) == 0;
        if held {
            link.hold_after(self.dice.below(12) as u64);
        }
        let mut turn = self.begin(asking, asked);
        tokio::select! {
            biased;
            came = &mut turn.done => {
                link.let_go();
                self.end(&turn, came.unwrap()).await;
            }
            () = link.one_is_held(), if held => {
                self.tell(&format!("{} waits for {}", SITES[asking].0, SITES[asked].0));
                self.slow.push(turn);
            }
        }
    }

    /// Lets a turn go on that was held up.
    async fn let_go(&mut self, asking: usize, asked: usize) {
        let held = |turn: &Turn| (turn.asking, turn.asked) == (asking, asked);
        if let Some(at) = self.slow.iter().position(held) {
            let mut turn = self.slow.remove(at);
            self.links[&(asking, asked)].let_go();
            let came = (&mut turn.done).await.unwrap();
            // What was wrong with the way in between may have come between.
            turn.straight &= self.links[&(asking, asked)].is_straight();
            self.end(&turn, came).await;
        }
    }

    async fn end(&mut self, turn: &Turn, came: Came) {
        let Turn { asking, asked, .. } = *turn;
        self.tell(&format!(
            "{} looks at {}: {:?}, {:?}",
            SITES[asking].0, SITES[asked].0, came.looked, came.mirrored
        ));
        let well = turn.straight && !self.is_dead(asking) && !self.is_dead(asked);
        if let Err(error) = &came.looked {
            assert!(!well, "{} of {}: {error}", SITES[asking].0, SITES[asked].0);
        }
        let mirrored = match came.mirrored {
            Ok(mirrored) => mirrored,
            Err(error) => {
                assert!(self.is_dead(asking), "{error}");
                return;
            }
        };
        if came.looked.is_err() || self.is_dead(asking) {
            return;
        }
        let followed = self
            .sites
            .world(asking)
            .site
            .catalogue()
            .ledgers
            .of(&self.id(asked));
        let size = followed
            .unwrap()
            .newest()
            .map_or(0, |tree| tree.checkpoint().size);
        assert!(size >= turn.seen.entries, "{size} of {}", turn.seen.entries);
        if mirrored.failed == 0 || well {
            self.truth.known_to(asking, &turn.seen);
        }
    }

    /// Starts a dead site again.
    async fn revive(&mut self, site: usize) {
        self.tell(&format!("{} has died and starts again", SITES[site].0));
        // Its process is gone, and what it did with it.
        let own: Vec<(usize, usize)> = self.slow.iter().map(|turn| (turn.asking, turn.asked)).collect();
        for (asking, asked) in own.into_iter().filter(|(asking, _)| *asking == site) {
            self.let_go(asking, asked).await;
        }
        self.sites.reopen(site).await;
        for asking in (0..self.count()).filter(|asking| *asking != site) {
            self.links[&(asking, site)].lead_to(self.sites.peer(site, asking));
        }
        self.meet(site).await;
        self.truth.resolve(site, self.sites.world(site)).await;
    }

    async fn step(&mut self) {
        let site = self.dice.below(self.count());
        let other = (site + 1 + self.dice.below(self.count() - 1)) % self.count();
        match self.dice.below(18) {
            0..3 => self.publish(site).await,
            3..6 => self.change(site).await,
            6 => {
                let bend = match self.dice.below(6) {
                    0 | 1 => Bend::Away,
                    2 => Bend::Chunks,
                    3 => Bend::Leaves,
                    4 => Bend::Withholds,
                    _ => Bend::BreaksOff(self.dice.below(3) as u64),
                };
                self.tell(&format!("to {} {} is {bend:?}", SITES[site].0, SITES[other].0));
                self.links[&(site, other)].bend(bend);
            }
            7 => {
                self.tell(&format!("to {} {} is well", SITES[site].0, SITES[other].0));
                self.links[&(site, other)].bend(Bend::Nothing);
            }
            8 => self.sites.clock.advance(self.dice.below(40_000) as u64),
            9 => {
                self.tell(&format!("{} takes up its charter", SITES[site].0));
                self.meet(site).await;
            }
            10 => self.tidy(site).await,
            11 => {
                let fault = match self.dice.below(3) {
                    0 => Fault::Absent,
                    1 => Fault::Present,
                    _ => Fault::Torn,
                };
                let within = 1 + self.dice.below(usize::try_from(DEATH_WITHIN).unwrap()) as u64;
                self.sites.members[site].faulty.crash_after(within, fault);
            }
            _ => self.turn(site, other).await,
        }
        for site in 0..self.count() {
            if self.is_dead(site) {
                self.revive(site).await;
            }
        }
        self.truth.check_chunks(&self.sites);
    }

    /// Everybody hears from everybody, and all know the same.
    async fn settle(&mut self) {
        for link in self.links.values() {
            link.bend(Bend::Nothing);
        }
        for site in 0..self.count() {
            if self.is_dead(site) {
                self.revive(site).await;
            } else {
                // Whose death was decided lives on.
                self.sites.members[site].faulty.revive();
            }
        }
        while let Some(turn) = self.slow.first() {
            let (asking, asked) = (turn.asking, turn.asked);
            self.let_go(asking, asked).await;
        }
        for site in 0..self.count() {
            self.tidy(site).await;
        }
        // What was seen in the first round is said in the second and seen in the third.
        for _ in 0..3 {
            let pairs: Vec<(usize, usize)> = self.links.keys().copied().collect();
            for (asking, asked) in pairs {
                let turn = self.begin(asking, asked);
                let Turn { seen, done, .. } = turn;
                let came = done.await.unwrap();
                let pair = [asking, asked].map(|site| SITES[site].0);
                self.tell(&format!(
                    "in the end {pair:?}: {:?}, {:?}",
                    came.looked, came.mirrored
                ));
                came.looked.unwrap();
                assert_eq!(came.mirrored.unwrap().failed, 0);
                self.truth.known_to(asking, &seen);
            }
        }
        self.truth.check_chunks(&self.sites);
        self.truth.check_views(&self.sites).await;
        self.check_trust().await;
    }
}

impl Simulation {
    /// Whatever anybody has told of anybody: nobody has signed two histories yet, so everybody is believed, and whoever has
    /// the same release proves it.
    async fn check_trust(&self) {
        for site in 0..self.count() {
            let federation = self.sites.world(site).site.federation();
            for view in federation.peers().await.unwrap() {
                assert_eq!(
                    (view.stopped, view.trouble),
                    (None, None),
                    "{} at {site}",
                    view.name
                );
            }
            if let Some((other, checked)) = federation.challenge_one().await.unwrap() {
                assert_eq!(checked.failed, None, "{other} at {site}");
            }
        }
    }
}

/// Sends a release to a site that may die meanwhile.
async fn send(
    world: &World,
    publisher: &Publisher,
    draft: &Draft,
    label: Option<waag_schema::policy::Label>,
    tag: &str,
) -> Result<(), String> {
    let (uploads, admin) = (world.site.uploads(), &world.admin);
    let owner = &admin.token().unwrap().id;
    let failed = |error: waag_registry::content::ContentError| error.to_string();
    let opened = uploads.open(owner, draft.artifact.clone(), draft.digest).await;
    let id = opened.map_err(failed)?;
    let files: Vec<_> = draft.files.iter().map(File::wire).collect();
    let answer = uploads.plan(admin, &id, &files).await.map_err(failed)?;
    for (chunk, stored) in draft.files.iter().flat_map(File::chunks) {
        if answer.missing.contains(&chunk) {
            uploads.receive(&id, chunk, stored.into()).await.map_err(failed)?;
        }
    }
    for file in files {
        let sealed = uploads.seal(admin, &id, &file.sha256, &file.recipe.0).await;
        sealed.map_err(failed)?;
    }
    let envelopes = publisher.statements(draft, label, tag, None);
    let intake = world.site.intake();
    let published = intake.publish(admin, &id, &draft.manifest, &envelopes).await;
    published.map(drop).map_err(|error| error.to_string())
}

async fn live(seed: u64, story: Story) {
    let mut simulation = Simulation::new(seed, story).await;
    let steps = STEPS + 6 * simulation.count();
    for _ in 0..steps {
        simulation.step().await;
    }
    simulation.settle().await;
    twin::lead_a_double_life(&mut simulation).await;
}

fn one_life(seed: u64) {
    let story = Story::default();
    let _life = Life {
        seed,
        story: Arc::clone(&story),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(live(seed, story));
}

#[test]
fn whatever_happens_between_sites_labels_hold_and_views_converge() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("WAAG_SIM_SEED") {
        return one_life(seed);
    }
    let runs = number("WAAG_SIM_RUNS").map_or(RUNS, |runs| runs.div_ceil(25));
    let seeds: Vec<u64> = FOUND.iter().map(|(seed, _)| *seed).chain(0..runs).collect();
    let next = AtomicU64::new(0);
    let live = || {
        while let Ok(at) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
            && let Some(seed) = seeds.get(at)
        {
            one_life(*seed);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..threads {
            scope.spawn(live);
        }
    });
}
