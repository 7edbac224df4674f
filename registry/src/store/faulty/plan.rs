//! What goes wrong, and the dice that decide it. The faults are told in prose in the room's first lines.

use crate::store::Key;

/// A late effect waits for at most this many operations.
const LATE_MAX: u64 = 24;

/// What an operation does to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `put_if_absent`.
    Put,
    /// `put_all`.
    PutAll,
    /// `swap_cell`.
    Swap,
    /// `stage`.
    Stage,
    /// `promote`.
    Promote,
    /// `delete`.
    Delete,
    /// `get`, `get_range`, `head` and `list`.
    Read,
    /// `read_cell`.
    ReadCell,
}

/// How an operation goes wrong. Where one cannot (a read cannot be torn), the operation goes right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happened, and it is not known: [`crate::store::StoreError::Unknown`].
    Absent,
    /// It happened, and it is not known.
    Present,
    /// The first half of several objects were made, and it is not known.
    Torn,
    /// It is not known, and happens before this many operations more.
    Late(u64),
    /// It happened, is lost with the power unless it is done again and confirmed, and is not known.
    Volatile,
    /// Nothing happened: [`crate::store::StoreError::Full`].
    Full,
    /// A cell reads as before its last change; a new object is not found, once.
    Stale,
}

/// How many of 1,000 operations go wrong in each way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doses {
    /// Changes that do nothing, and reads that fail.
    pub absent: u16,
    /// Changes whose answer is lost.
    pub present: u16,
    /// Changes of several objects that stop half-way.
    pub torn: u16,
    /// Changes that take effect later.
    pub late: u16,
    /// Changes that a power loss undoes.
    pub volatile: u16,
    /// Changes that find no room.
    pub full: u16,
    /// Reads of what was.
    pub stale: u16,
}

/// Which operations go wrong.
#[derive(Debug, Clone, Copy, Default)]
pub enum Plan {
    /// None.
    #[default]
    Never,
    /// One: the n-th change from now on, counted from 0.
    Change(usize, Fault),
    /// The process dies at the n-th change from now on, which ends by this fault.
    Death(usize, Fault),
    /// Many, by dice.
    Dice(u64, Doses),
}

impl Doses {
    /// Throws the dice for an operation on a key, the n-th of this kind on it.
    pub(super) fn throw(&self, seed: u64, operation: Operation, key: &Key, times: u64) -> Option<Fault> {
        let mut hash = mix(seed ^ mix(times ^ ((operation as u64) << 56)));
        for byte in key.as_str().bytes() {
            hash = mix(hash ^ u64::from(byte));
        }
        let chance = u16::try_from(hash % 1000).expect("below 1000");
        let late = Fault::Late(1 + (hash >> 32) % LATE_MAX);
        let several = matches!(operation, Operation::PutAll | Operation::Promote);
        let volatile = matches!(operation, Operation::Put | Operation::PutAll | Operation::Swap);
        let delayed = matches!(
            operation,
            Operation::Put | Operation::PutAll | Operation::Swap | Operation::Stage
        );
        let faults = match operation {
            Operation::Read | Operation::ReadCell => {
                vec![(self.absent, Fault::Absent), (self.stale, Fault::Stale)]
            }
            Operation::Delete => vec![
                (self.absent, Fault::Absent),
                (self.present, Fault::Present),
                (self.volatile, Fault::Volatile),
            ],
            _ => vec![
                (self.absent, Fault::Absent),
                (self.present, Fault::Present),
                (self.full, Fault::Full),
                (if volatile { self.volatile } else { 0 }, Fault::Volatile),
                (if several { self.torn } else { 0 }, Fault::Torn),
                (if delayed { self.late } else { 0 }, late),
            ],
        };
        let mut below = 0;
        faults.into_iter().find_map(|(dose, fault)| {
            below += dose;
            (chance < below).then_some(fault)
        })
    }
}

/// The finaliser of splitmix64.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
