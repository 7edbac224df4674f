//! A store that fails on purpose, for tests: it stands before another store and spoils what a [`Plan`] says.
//!
//! The fault model. A store is another computer, and the process that uses it can die at any moment.
//!
//! - A change may do nothing and fail (*absent*); do its work and lose the answer (*present*);
//!   of several objects create only the first ones (*torn*); fail now and take effect later, in the midst of
//!   later operations or after the asking process was replaced (*late*); or find no room (*full*).
//! - A read may fail. A cell may read as the value it had before its last change, and an object may be
//!   missing for the first who asks after it was created (*stale*).
//! - The process may be killed during any operation ([`FaultyStore::crash_after`], [`Plan::Death`]): that
//!   operation ends by a fault of its own, and nothing works until [`FaultyStore::revive`].
//! - A change may be seen by all and yet not be durable, and fail (*volatile*): the name is there
//!   but its directory was not synced. A power loss ([`FaultyStore::lose_power`]) undoes it, and drops what is
//!   under way, unless the same was done again and confirmed. What was confirmed stays.
//!
//! Not in the model, because no protocol survives it: a store that loses what it confirmed, mixes the bytes
//! of one object, or swaps a cell that is not at the expected version. The guard and fsck notice those.
//!
//! What goes wrong is a function of the seed, the operation, its key, and how often that was done to that key
//! before: two runs that do the same in another order on different keys meet the same faults.

mod operations;
mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::watch;

pub use plan::{Doses, Fault, Operation, Plan};

use super::{Cell, Key, Put, Store, StoreError, Swap, Version};

/// A change that will take effect later.
#[derive(Debug)]
enum Late {
    Put(Key, Bytes),
    PutAll(Vec<(Key, Bytes)>),
    Swap(Key, Option<Version>, Bytes),
    Stage(Key, Bytes),
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    /// Operations begun, without deletions: those may run beside others, and shall not move the others' faults.
    operations: u64,
    /// What was asked to change since the plan was made.
    changes: Vec<(Operation, Key)>,
    /// How often each operation was done to each key.
    done: HashMap<(Operation, Key), u64>,
    /// Changes under way, and the operation before which each takes effect.
    late: Vec<(u64, Late)>,
    /// The operation at which the process dies, and what becomes of it.
    crash: Option<(u64, Fault)>,
    crashed: bool,
    /// Every value that each cell had.
    cells: HashMap<Key, Vec<Cell>>,
    /// Objects that nobody asked for yet.
    fresh: HashSet<Key>,
    /// What a power loss makes of each key that is not durable.
    volatile: HashMap<Key, Durable>,
}

/// What is durable of a key.
#[derive(Debug)]
enum Durable {
    Nothing,
    Object(Bytes),
    Cell(Bytes),
}

/// A store that fails as a plan says.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
    /// Operations wait while this is true.
    held: watch::Sender<bool>,
    /// How many wait.
    waiting: watch::Sender<usize>,
}

impl FaultyStore {
    /// Stands before this store, and spoils nothing yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            state: Mutex::default(),
            held: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        }
    }

    /// Says what goes wrong from now on.
    pub fn plan(&self, plan: Plan) {
        let mut state = self.lock();
        state.plan = plan;
        state.changes.clear();
    }

    /// Returns what was asked to change since the plan was made, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<(Operation, Key)> {
        self.lock().changes.clone()
    }

    /// Returns every value that a cell had, whoever knows of it.
    #[must_use]
    pub fn history(&self, key: &Key) -> Vec<Bytes> {
        let state = self.lock();
        let cells = state.cells.get(key).into_iter().flatten();
        cells.map(|cell| cell.bytes.clone()).collect()
    }

    /// Lets the process die at the n-th operation from now on (1 is the next), which ends by this fault.
    pub fn crash_after(&self, operations: u64, fault: Fault) {
        let mut state = self.lock();
        state.crash = Some((state.operations + operations, fault));
    }

    /// Says whether the process died.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Lets a new process use the store. What is under way stays under way.
    pub fn revive(&self) {
        let mut state = self.lock();
        state.crash = None;
        state.crashed = false;
    }

    /// Drops what was not durable, and what is under way.
    pub async fn lose_power(&self) {
        let lost = {
            let mut state = self.lock();
            state.late.clear();
            std::mem::take(&mut state.volatile)
        };
        for (key, durable) in lost {
            // The store behind does not fail; nobody could be told anyway.
            let _ = match durable {
                Durable::Nothing => self.inner.delete(&key).await,
                Durable::Object(bytes) => self.inner.put_if_absent(&key, bytes).await.map(drop),
                Durable::Cell(bytes) => {
                    let _ = self.inner.delete(&key).await;
                    self.swap(&key, None, bytes).await.map(drop)
                }
            };
        }
    }

    /// Lets everything that is under way take effect.
    pub async fn settle(&self) {
        let late = std::mem::take(&mut self.lock().late);
        for (_, late) in late {
            self.land(late).await;
        }
    }

    /// Holds all operations until [`Self::release`], so that a test decides what happens meanwhile.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets held operations go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Returns once an operation is held.
    pub async fn one_is_held(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = waiting.wait_for(|n| *n > 0).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Begins an operation: lets what is due take effect, and says what goes wrong.
    async fn begin(&self, operation: Operation, key: &Key) -> Result<Option<Fault>, StoreError> {
        if operation != Operation::Delete && *self.held.borrow() {
            self.waiting.send_modify(|n| *n += 1);
            let _ = self.held.subscribe().wait_for(|held| !*held).await;
            self.waiting.send_modify(|n| *n -= 1);
        }
        let (fault, due) = {
            let mut state = self.lock();
            // A deletion was asked for before the process died, since nothing else can be done after that.
            if state.crashed && operation != Operation::Delete {
                return Err(unknown(key, "the process is dead"));
            }
            let fault = state.decide(operation, key);
            let now = state.operations;
            let (due, late) = std::mem::take(&mut state.late)
                .into_iter()
                .partition(|(at, _)| *at <= now);
            state.late = late;
            (fault, due)
        };
        let due: Vec<(u64, Late)> = due;
        for (_, late) in due {
            self.land(late).await;
        }
        Ok(fault)
    }

    /// Lets a late change take effect; nobody hears of its answer.
    async fn land(&self, late: Late) {
        let _ = match late {
            Late::Put(key, bytes) => self.put(&key, bytes).await.map(drop),
            Late::PutAll(objects) => self.inner.put_all(objects).await,
            Late::Swap(key, expected, bytes) => self.swap(&key, expected.as_ref(), bytes).await.map(drop),
            Late::Stage(key, bytes) => self.inner.stage(&key, bytes).await,
        };
    }

    fn delay(&self, late: Late, operations: u64) {
        let mut state = self.lock();
        let at = state.operations + operations.max(1);
        state.late.push((at, late));
    }

    /// Notes what a power loss makes of a key, before it is changed in a way that is not durable.
    async fn loosen(&self, key: &Key) -> Result<(), StoreError> {
        let durable = match self.inner.head(key).await {
            Ok(Some(_)) => Durable::Object(self.inner.get(key).await?),
            Ok(None) => Durable::Nothing,
            // Not an object.
            Err(_) => self
                .inner
                .read_cell(key)
                .await?
                .map_or(Durable::Nothing, |cell| Durable::Cell(cell.bytes)),
        };
        self.lock().volatile.entry(key.clone()).or_insert(durable);
        Ok(())
    }

    /// Notes that what a key holds is durable.
    fn confirm<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut state = self.lock();
        for key in keys {
            state.volatile.remove(key);
        }
    }

    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        let put = self.inner.put_if_absent(key, bytes).await?;
        if put == Put::Created {
            self.lock().fresh.insert(key.clone());
        }
        Ok(put)
    }

    async fn swap(&self, key: &Key, expected: Option<&Version>, bytes: Bytes) -> Result<Swap, StoreError> {
        let swap = self.inner.swap_cell(key, expected, bytes.clone()).await?;
        if let Swap::Swapped(version) = &swap {
            let cell = Cell {
                bytes,
                version: version.clone(),
            };
            self.lock().cells.entry(key.clone()).or_default().push(cell);
        }
        Ok(swap)
    }

    /// Begins a read of objects.
    async fn begin_read(&self, key: &Key) -> Result<(), StoreError> {
        let fault = self.begin(Operation::Read, key).await?;
        let first = self.lock().fresh.remove(key);
        match fault {
            Some(Fault::Stale) if first => Err(StoreError::NotFound(key.clone())),
            Some(Fault::Absent) => Err(unknown(key, "the read failed")),
            _ => Ok(()),
        }
    }
}

impl State {
    fn decide(&mut self, operation: Operation, key: &Key) -> Option<Fault> {
        let reads = matches!(operation, Operation::Read | Operation::ReadCell);
        let change = self.changes.len();
        if !reads {
            self.changes.push((operation, key.clone()));
        }
        if operation != Operation::Delete {
            self.operations += 1;
            if let Some((at, fault)) = self.crash
                && self.operations >= at
            {
                self.crashed = true;
                return Some(if reads { Fault::Absent } else { fault });
            }
        }
        match self.plan {
            Plan::Never => None,
            Plan::Change(at, fault) => (!reads && change == at).then_some(fault),
            Plan::Death(at, fault) => {
                self.crashed = !reads && change == at;
                self.crashed.then_some(fault)
            }
            Plan::Dice(seed, doses) => {
                let times = self.done.entry((operation, key.clone())).or_default();
                *times += 1;
                doses.throw(seed, operation, key, *times)
            }
        }
    }
}

fn unknown(key: &Key, reason: &str) -> StoreError {
    StoreError::Unknown {
        key: key.clone(),
        reason: format!("injected: {reason}"),
    }
}

/// What the caller is told of a change that went wrong.
fn failed<T>(key: &Key, fault: Fault) -> Result<T, StoreError> {
    Err(match fault {
        Fault::Full => StoreError::Full(key.clone()),
        fault => unknown(key, &format!("{fault:?}")),
    })
}
