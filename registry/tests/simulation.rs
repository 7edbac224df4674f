//! A seeded simulation: authors write at once to a ledger whose store loses answers, answers late, reads old
//! values and runs full, whose process is killed and whose machine loses power. Whatever happens: what was
//! acknowledged is there once, what was not is there wholly or not at all, and all that was ever signed is one
//! history.
//!
//! `WAAG_SIM_RUNS` says how many lives are simulated, `WAAG_SIM_SEED` repeats the one of a seed.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use waag_registry::ledger::AppendError;
use waag_registry::store::{Doses, Fault, FaultyStore, Plan};
use waag_schema::Sha256;
use waag_schema::statement::{Chain, Envelope, Visibility};

use crate::world::ledger::{Author, LedgerWorld, Running, behind};

/// Lives in an ordinary test run.
const RUNS: u64 = 300;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in so many throws.
    fn once_in(&mut self, throws: u64) -> bool {
        self.below(throws) == 0
    }

    fn dose(&mut self, most: u16) -> u16 {
        u16::try_from(self.below(u64::from(most) + 1)).unwrap()
    }

    fn doses(&mut self) -> Doses {
        let most = [0, 20, 60, 120][usize::try_from(self.below(4)).unwrap()];
        Doses {
            absent: self.dose(most),
            present: self.dose(most),
            torn: self.dose(most),
            late: self.dose(most),
            volatile: self.dose(most),
            full: self.dose(most / 2),
            stale: self.dose(most),
        }
    }

    fn fault(&mut self) -> Fault {
        match self.below(5) {
            0 => Fault::Absent,
            1 => Fault::Present,
            2 => Fault::Torn,
            3 => Fault::Late(1 + self.below(20)),
            _ => Fault::Volatile,
        }
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

/// An author and what is known of what it sent.
struct Writer {
    author: Author,
    /// What was acknowledged.
    chain: Chain,
    began: bool,
    /// Sent after the chain and never acknowledged: at most one of them is recorded.
    open: Vec<Vec<Envelope>>,
    /// Lost against another one that was acknowledged.
    lost: Vec<Sha256>,
}

impl Writer {
    /// Chooses what to send: something that was sent before, or something new in its place.
    async fn choose(&mut self, world: &LedgerWorld, dice: &mut Dice) -> Vec<Envelope> {
        if !self.open.is_empty() && !dice.once_in(4) {
            let at = usize::try_from(dice.below(self.open.len() as u64)).unwrap();
            return self.open[at].clone();
        }
        let n = dice.next();
        let release = if self.began && dice.once_in(2) {
            self.author.release(world, self.chain, n).await
        } else {
            None
        };
        let new = if !self.began {
            vec![self.author.genesis.clone()]
        } else if let Some(release) = release {
            release
        } else {
            // Sometimes as many as cross the end of a tile.
            let count = if dice.once_in(400) { 250 } else { 1 + dice.below(3) };
            self.author.labels(self.chain, usize::try_from(count).unwrap(), n)
        };
        // Alternatives that begin with the same statement would not exclude each other.
        let same = self.open.iter().find(|open| open[0] == new[0]);
        if let Some(same) = same {
            return same.clone();
        }
        self.open.push(new.clone());
        new
    }

    fn acknowledged(&mut self, envelopes: &[Envelope]) {
        self.chain = if self.began {
            behind(self.chain, envelopes)
        } else {
            Chain::default()
        };
        self.began = true;
        let others = self.open.drain(..).filter(|o| o != envelopes);
        self.lost.extend(others.flatten().map(|e| e.digest()));
    }
}

/// One life of a ledger.
struct Simulation {
    world: LedgerWorld,
    dice: Dice,
    writers: Vec<Writer>,
    /// Every acknowledged statement and its place.
    acknowledged: Vec<(Sha256, u64)>,
    /// An older copy of the index, to be put back after a power loss.
    index: Option<Vec<u8>>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let world = LedgerWorld::new(seed);
        let writer = |namespace, visibility| Writer {
            author: Author::new(&world, namespace, visibility),
            chain: Chain::default(),
            began: false,
            open: Vec::new(),
            lost: Vec::new(),
        };
        let writers = vec![
            writer("acme", Visibility::Public),
            writer("beta", Visibility::Public),
            writer("quiet", Visibility::Private),
        ];
        Self {
            world,
            dice: Dice(seed),
            writers,
            acknowledged: Vec::new(),
            index: None,
        }
    }

    async fn live(&mut self) {
        let rounds = 4 + self.dice.below(8);
        let mut running = None;
        for _ in 0..rounds {
            let doses = self.dice.doses();
            self.world.store.plan(Plan::Dice(self.dice.next(), doses));
            if self.dice.once_in(2) {
                let at = 1 + self.dice.below(24);
                self.world.store.crash_after(at, self.dice.fault());
            }
            let ready = match running.take() {
                Some(ready) => Some(ready),
                None => self.world.start().await.ok(),
            };
            if let Some(ready) = ready {
                // A directory in the place of its temporary file: the guard cannot be saved.
                let obstacle = self.world.data().join("guard.new");
                if self.dice.once_in(8) {
                    let _ = std::fs::create_dir(&obstacle);
                }
                self.round(&ready).await;
                let _ = std::fs::remove_dir(&obstacle);
                if !self.world.store.has_crashed() && self.dice.once_in(3) {
                    self.calm(&ready).await;
                }
                if self.world.store.has_crashed() || self.dice.once_in(4) {
                    ready.stop().await;
                } else {
                    running = Some(ready);
                }
            }
            if running.is_none() {
                self.between().await;
            }
            let found = self.world.check(false);
            for (envelope, position) in &self.acknowledged {
                let at = found.positions.get(envelope);
                assert!(
                    running.is_none() || at == Some(position),
                    "an acknowledged statement is gone"
                );
            }
        }
        if let Some(running) = running {
            running.stop().await;
        }
        self.end().await;
    }

    /// Some authors send at once.
    async fn round(&mut self, running: &Running) {
        let mut sent = Vec::new();
        for number in 0..self.writers.len() {
            if self.dice.once_in(3) {
                continue;
            }
            let envelopes = self.writers[number].choose(&self.world, &mut self.dice).await;
            sent.push((number, envelopes));
        }
        let batch = sent.iter().map(|(_, envelopes)| envelopes.clone()).collect();
        let answers = together(&self.world.store, running, batch).await;
        for ((number, envelopes), answer) in sent.into_iter().zip(answers) {
            let writer = &mut self.writers[number];
            match answer {
                Ok(positions) => {
                    let places = envelopes.iter().map(Envelope::digest).zip(positions);
                    self.acknowledged.extend(places);
                    writer.acknowledged(&envelopes);
                }
                Err(AppendError::Rejected(reason)) => {
                    let alone = writer.open.len() == 1;
                    assert!(
                        !alone,
                        "what was sent before was recorded, yet is refused: {reason}"
                    );
                }
                Err(AppendError::Unknown(_) | AppendError::Store(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let shown = running.ledger.checkpoint();
        let stored = self.world.check(false).size;
        assert!(
            shown.checkpoint().size <= stored,
            "a tree is shown that is not published"
        );
    }

    /// For a while nothing fails: the process that went through it all answers everybody again.
    async fn calm(&mut self, running: &Running) {
        self.world.store.plan(Plan::Never);
        self.world.store.revive();
        self.world.store.settle().await;
        for writer in &mut self.writers {
            let Some(envelopes) = writer.open.first().cloned() else {
                continue;
            };
            match running.ledger.append(envelopes.clone()).await {
                Ok(positions) => {
                    let places = envelopes.iter().map(Envelope::digest).zip(positions);
                    self.acknowledged.extend(places);
                    writer.acknowledged(&envelopes);
                }
                Err(AppendError::Rejected(_)) if writer.open.len() > 1 => {}
                Err(error) => panic!("nothing fails, and yet: {error}"),
            }
        }
    }

    /// While no process runs.
    async fn between(&mut self) {
        self.world.store.plan(Plan::Never);
        let path = self.world.data().join("index.db");
        if self.dice.once_in(3) {
            self.world.store.lose_power().await;
            // The index is not synced: its newest rows may be gone too.
            if let Some(older) = self.index.take() {
                std::fs::write(&path, older).unwrap();
                let _ = std::fs::remove_file(self.world.data().join("index.db-wal"));
            }
        }
        if self.dice.once_in(6) {
            std::fs::remove_file(&path).unwrap();
        }
        if self.dice.once_in(3) && !self.world.data().join("index.db-wal").exists() {
            self.index = std::fs::read(&path).ok();
        }
        self.world.store.revive();
    }

    /// Nothing fails any more: everybody gets an answer, and it is the right one.
    async fn end(&mut self) {
        self.world.store.plan(Plan::Never);
        self.world.store.revive();
        let running = self.world.start().await.unwrap();
        self.world.store.settle().await;
        for writer in &mut self.writers {
            let mut answered = writer.open.is_empty();
            for envelopes in writer.open.clone() {
                match running.ledger.append(envelopes.clone()).await {
                    Ok(positions) => {
                        answered = true;
                        let places = envelopes.iter().map(Envelope::digest).zip(positions);
                        self.acknowledged.extend(places);
                        writer.acknowledged(&envelopes);
                        break;
                    }
                    Err(AppendError::Rejected(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(
                answered,
                "none of the alternatives is recorded, yet all are refused"
            );
        }
        running.stop().await;
        self.world.store.lose_power().await;
        let running = self.world.start().await.unwrap();
        let found = self.world.check(true);
        let once: HashSet<_> = self.acknowledged.iter().collect();
        assert_eq!(once.len() as u64, found.size, "each statement has one place");
        for (envelope, position) in &self.acknowledged {
            assert_eq!(found.positions.get(envelope), Some(position));
        }
        let lost = self.writers.iter().flat_map(|w| &w.lost);
        assert!(
            lost.into_iter()
                .all(|envelope| !found.positions.contains_key(envelope))
        );
        self.world.check_index(&running).await;
        running.stop().await;
    }
}

/// Submits everything so that the sequencer takes the first alone and then all others as one batch: what is in
/// a batch is then not a matter of threads.
async fn together(
    store: &FaultyStore,
    running: &Running,
    batch: Vec<Vec<Envelope>>,
) -> Vec<Result<Vec<u64>, AppendError>> {
    let submit = |envelopes| {
        let ledger = running.ledger.clone();
        tokio::spawn(async move { ledger.append(envelopes).await })
    };
    store.hold();
    let mut submitted = Vec::new();
    let mut held = false;
    for envelopes in batch {
        let mut answer = submit(envelopes);
        if held {
            // Lets it reach the queue.
            tokio::task::yield_now().await;
            submitted.push(answer);
            continue;
        }
        tokio::select! {
            biased;
            () = store.one_is_held() => {
                held = true;
                submitted.push(answer);
            }
            // One that needs no store is answered at once, and the next is the first.
            early = &mut answer => submitted.push(tokio::spawn(async move { early.unwrap() })),
        }
    }
    store.release();
    let mut answers = Vec::new();
    for answer in submitted {
        answers.push(answer.await.unwrap());
    }
    // What commits leave to do in the background is done before the next round.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    answers
}

/// Lives one life and returns all that is stored at its end.
fn one_life(seed: u64) -> BTreeMap<String, Bytes> {
    let _life = Life(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::new(seed);
        simulation.live().await;
        simulation.world.memory.dump()
    })
}

#[test]
fn no_weather_breaks_the_ledger() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("WAAG_SIM_SEED") {
        one_life(seed);
        return;
    }
    let runs = number("WAAG_SIM_RUNS").unwrap_or(RUNS);
    let next = AtomicU64::new(0);
    let live = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < runs
        {
            one_life(seed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(live);
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_life() {
    for seed in 0..40 {
        assert!(one_life(seed) == one_life(seed), "seed {seed}");
    }
}
