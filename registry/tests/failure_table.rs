//! The failure table: every durable write of one commit, times every way in which it can fail, times what the
//! process does then. After each: what was acknowledged is there exactly once, what was not is wholly there or
//! wholly absent, sending it again gives one copy, and everything that was ever signed is one history.

use waag_registry::ledger::AppendError;
use waag_registry::store::{Fault, Key, Operation, Plan, StoreError};
use waag_schema::statement::{Chain, Envelope, Visibility};

use crate::world::ledger::{Author, LedgerWorld, Running, behind};

/// What the process does after the fault.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It dies in the midst of the write.
    Dies,
    /// So does the machine.
    LosesPower,
    /// It is told to stop, and started again.
    Restarts,
    /// It goes on.
    GoesOn,
}

/// A ledger just before the commit that the table is about. No sequencer runs.
struct Scene {
    world: LedgerWorld,
    author: Author,
    chain: Chain,
    /// What the commit records.
    envelopes: Vec<Envelope>,
}

/// Which commit the table is about.
#[derive(Debug, Clone, Copy)]
enum Commit {
    /// The first: cells are made, not changed.
    First,
    /// One in the middle of a tile.
    Middle,
    /// One that fills a tile, a bundle and a pack and begins the next.
    Crossing,
}

impl Scene {
    async fn set(commit: Commit) -> Self {
        let mut world = LedgerWorld::new(1);
        let running = world.start().await.unwrap();
        let author = Author::new(&world, "acme", Visibility::Public);
        let mut chain = Chain::default();
        let envelopes = match commit {
            Commit::First => vec![author.genesis.clone()],
            Commit::Middle | Commit::Crossing => {
                running.ledger.append(vec![author.genesis.clone()]).await.unwrap();
                let count = if let Commit::Middle = commit { 2 } else { 254 };
                let labels = author.labels(chain, count, 0);
                chain = behind(chain, &labels);
                running.ledger.append(labels).await.unwrap();
                author.release(&world, chain, 1).await.unwrap()
            }
        };
        idle().await;
        running.stop().await;
        Self {
            world,
            author,
            chain,
            envelopes,
        }
    }
}

/// Lets what a commit leaves to do in the background be done.
async fn idle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// The writes of the commit when nothing fails.
async fn writes(scene: &Scene) -> Vec<(Operation, Key)> {
    let mut world = scene.world.fork();
    let running = start(&mut world, "nothing fails").await;
    world.store.plan(Plan::Never);
    running.ledger.append(scene.envelopes.clone()).await.unwrap();
    idle().await;
    let writes = world.store.changes();
    running.stop().await;
    writes
}

async fn start(world: &mut LedgerWorld, row: &str) -> Running {
    match world.start().await {
        Ok(running) => running,
        Err(error) => panic!("{row}: the ledger does not start again: {error}"),
    }
}

/// Fails the scene's commit by `spoil`, lets the process do what it does then, and checks every promise. Says
/// whether the commit was acknowledged.
async fn one_row(row: &str, scene: &Scene, then: Then, spoil: impl FnOnce(&LedgerWorld)) -> bool {
    let Scene {
        author,
        chain,
        envelopes,
        ..
    } = scene;
    let mut world = scene.world.fork();
    let mut running = start(&mut world, row).await;
    let before = world.check(false).size;
    spoil(&world);
    let answer = running.ledger.append(envelopes.clone()).await;
    idle().await;
    if !matches!(then, Then::GoesOn) {
        running.stop().await;
        if matches!(then, Then::LosesPower) {
            world.store.lose_power().await;
        }
        world.store.revive();
        world.store.plan(Plan::Never);
        let _ = std::fs::remove_dir(world.data().join("guard.new"));
        running = start(&mut world, row).await;
    }
    world.store.plan(Plan::Never);
    let _ = std::fs::remove_dir(world.data().join("guard.new"));

    let found = world.check(false);
    let there: Vec<u64> = envelopes
        .iter()
        .filter_map(|e| found.positions.get(&e.digest()).copied())
        .collect();
    let whole: Vec<u64> = (before..before + envelopes.len() as u64).collect();
    assert!(there.is_empty() || there == whole, "{row}: half of it is there");
    match &answer {
        Ok(positions) => assert_eq!((positions, &there), (&whole, &whole), "{row}: acknowledged"),
        Err(AppendError::Unknown(_)) => {}
        Err(AppendError::Store(StoreError::Full(_))) => {
            assert!(
                there.is_empty(),
                "{row}: it was recorded, the client was told that there is no room"
            );
        }
        Err(error) => panic!("{row}: {error}"),
    }

    let again = running.ledger.append(envelopes.clone()).await;
    assert_eq!(again.unwrap(), whole, "{row}: sent again");
    // A genesis begins the namespace's chain, not the artifact's.
    let next = if before == 0 {
        *chain
    } else {
        behind(*chain, envelopes)
    };
    let next = author.labels(next, 1, 3);
    let next = running.ledger.append(next).await.unwrap();
    assert_eq!(next, [before + envelopes.len() as u64], "{row}: the next");
    idle().await;

    // Whatever was still under way arrives, and the ledger starts once more, after a power loss: what was
    // acknowledged rests on nothing that was merely seen.
    world.store.settle().await;
    running.stop().await;
    world.store.lose_power().await;
    let running = start(&mut world, row).await;
    let found = world.check(true);
    assert_eq!(found.size, before + envelopes.len() as u64 + 1, "{row}");
    world.check_index(&running).await;
    running.stop().await;
    answer.is_ok()
}

async fn table(commit: Commit, faults: &[Fault]) {
    let scene = Scene::set(commit).await;
    for (at, write) in writes(&scene).await.iter().enumerate() {
        for fault in faults {
            for then in [Then::Dies, Then::LosesPower, Then::Restarts, Then::GoesOn] {
                let row = format!("{commit:?}: {write:?} ends {fault:?}, the process {then:?}");
                let plan = match then {
                    Then::Dies | Then::LosesPower => Plan::Death(at, *fault),
                    Then::Restarts | Then::GoesOn => Plan::Change(at, *fault),
                };
                one_row(&row, &scene, then, |world| world.store.plan(plan)).await;
            }
        }
    }
}

const FAULTS: [Fault; 8] = [
    Fault::Absent,
    Fault::Present,
    Fault::Torn,
    Fault::Volatile,
    Fault::Full,
    Fault::Late(1),
    Fault::Late(4),
    Fault::Late(10_000),
];

#[tokio::test]
async fn a_commit_is_these_five_writes() {
    let pack = "body/open/000".parse().unwrap();
    let writes = writes(&Scene::set(Commit::Middle).await).await;
    assert_eq!(writes.len(), 5, "{writes:?}");
    assert_eq!(writes[0], (Operation::Put, Key::commit(1, 3)));
    assert_eq!(writes[1].0, Operation::PutAll);
    assert_eq!(writes[2], (Operation::Swap, Key::pack(1, &pack)));
    assert_eq!(writes[3], (Operation::Swap, Key::checkpoint(1)));
    assert_eq!(writes[4], (Operation::Delete, Key::commit(1, 3)));
}

#[tokio::test]
async fn every_write_of_the_first_commit_may_fail_in_every_way() {
    table(Commit::First, &FAULTS).await;
}

#[tokio::test]
async fn every_write_of_a_commit_may_fail_in_every_way() {
    table(Commit::Middle, &FAULTS).await;
}

#[tokio::test]
async fn every_write_of_a_commit_across_a_tiles_end_may_fail() {
    let faults = [Fault::Absent, Fault::Torn, Fault::Volatile];
    table(Commit::Crossing, &faults).await;
}

#[tokio::test]
async fn nothing_is_signed_while_the_guard_cannot_be_saved() {
    for commit in [Commit::First, Commit::Middle] {
        let scene = Scene::set(commit).await;
        for then in [Then::Restarts, Then::GoesOn] {
            let row = format!("{commit:?}: the guard cannot be saved, the process {then:?}");
            // A directory in the place of its temporary file: creating that file fails for everybody.
            let spoil = |world: &LedgerWorld| std::fs::create_dir(world.data().join("guard.new")).unwrap();
            let acknowledged = one_row(&row, &scene, then, spoil).await;
            assert!(!acknowledged, "{row}: it was acknowledged");
        }
    }
}

/// A store that was set back by an hour, under the guard of that hour. No sequencer runs.
async fn set_back() -> LedgerWorld {
    let Scene {
        mut world, envelopes, ..
    } = Scene::set(Commit::Middle).await;
    let old = world.fork();
    let running = world.start().await.unwrap();
    running.ledger.append(envelopes).await.unwrap();
    idle().await;
    running.stop().await;
    std::fs::copy(world.data().join("guard"), old.data().join("guard")).unwrap();
    old
}

#[tokio::test]
async fn every_write_of_a_successors_opening_may_fail_in_every_way() {
    let scene = set_back().await;
    let writes = {
        let mut world = scene.fork();
        world.store.plan(Plan::Never);
        let running = world.recover().await.unwrap();
        running.stop().await;
        world.store.changes()
    };
    assert_eq!(writes[0], (Operation::Put, Key::commit(2, 0)));
    for (at, write) in writes.iter().enumerate() {
        for fault in FAULTS {
            for power in [false, true] {
                let row = format!("{write:?} ends {fault:?}, power lost: {power}");
                let mut world = scene.fork();
                world.store.plan(Plan::Death(at, fault));
                if let Ok(running) = world.recover().await {
                    running.stop().await;
                }
                if power {
                    world.store.lose_power().await;
                }
                world.store.revive();
                world.store.plan(Plan::Never);
                // Before the one creation nothing has happened, and an ordinary start refuses; behind it, it completes.
                let running = match world.start().await {
                    Ok(running) => running,
                    Err(AppendError::Stopped(reason)) => {
                        assert!(reason.contains("was rolled back"), "{row}: {reason}");
                        world.recover().await.unwrap()
                    }
                    Err(error) => panic!("{row}: {error}"),
                };
                assert_eq!(running.ledger.origin().series(), 2, "{row}");
                assert_eq!(running.ledger.checkpoint().checkpoint().size, 1, "{row}");
                let proof = running.ledger.prove(&[0, 1_000_000_000_000]).await.unwrap();
                assert_eq!(proof.earlier.len(), 1, "{row}");
                world.check_index(&running).await;
                running.stop().await;
                // Nothing more was ever signed under the old name.
                assert_eq!(world.check(false).size, 3, "{row}");
                world.store.lose_power().await;
                let running = start(&mut world, &row).await;
                assert_eq!(running.ledger.origin().series(), 2, "{row}");
                running.stop().await;
            }
        }
    }
}
