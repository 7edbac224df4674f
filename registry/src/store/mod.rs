//! Bytes with promises. Everything that a site's nodes share is behind [`Store`].
//!
//! Two contracts. **Objects** are created once and never change: when [`Store::put_if_absent`] returns, the
//! object survives a power loss, and every reader sees all of it or nothing. **Cells** are small and change
//! by compare-and-swap only: swaps of one cell happen in one order that all readers agree on.
//!
//! Bytes under way are **staged**: not durable, not an object, gone after a power loss.
//! [`Store::promote`] makes many staged values durable together and only then gives them their names.
//!
//! What the keys mean is `key.rs`'s; what the bytes mean is for the rooms above.

mod buffers;
mod faulty;
mod fs;
mod key;
mod memory;
mod room;
mod within;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

pub use faulty::{Doses, Fault, FaultyStore, Operation, Plan};
pub use fs::FsStore;
pub use key::Key;
pub use memory::MemoryStore;
pub use within::Within;

/// What became of a create-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there now and was not before.
    Created,
    /// Another object has this key; it was left as it is.
    Existed,
}

/// A cell as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What it holds.
    pub bytes: Bytes,
    /// Which of its values this is, to be handed to a swap.
    pub version: Version,
}

/// Which value of a cell was read. Opaque: each store has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub(crate) String);

/// What became of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The cell holds the new bytes, as this version.
    Swapped(Version),
    /// The cell was not at the expected version and was left as it is.
    Lost,
}

/// What a caller of the store must tell apart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has this key. Deal with it: it may be an answer.
    #[error("nothing is stored at {0}")]
    NotFound(Key),
    /// An object with other bytes has this key. Stop: something is damaged or was tampered with.
    #[error("{0} is stored with other bytes than expected")]
    Conflict(Key),
    /// No room. Tell the client; nothing was stored.
    #[error("the store is full: {0} could not be written")]
    Full(Key),
    /// The operation may or may not have taken effect, or may still do so. Read back before going on, and do it
    /// again before anything rests on it: what can be read need not be durable.
    #[error("the store did not answer for {key}: {reason}")]
    Unknown {
        /// The key that was worked on.
        key: Key,
        /// What the system said.
        reason: String,
    },
}

/// A place that keeps objects and cells. The conformance suite in `tests/store.rs` says it in code.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates an object unless one has this key. Whichever is there is durable on return.
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError>;

    /// Creates several objects, durable together on return; one that is there already must hold the same
    /// bytes. If this fails some may have been created.
    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError>;

    /// Returns an object, or a staged value.
    async fn get(&self, key: &Key) -> Result<Bytes, StoreError>;

    /// Returns a part of an object; the range must lie within it.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Returns an object's length, or none if nothing has this key.
    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError>;

    /// Returns the keys under a prefix that ends in `/`, sorted, at most `limit` of them, those behind `after`.
    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError>;

    /// Removes an object, a staged value or a cell. Durable on return; removing what is not there is done.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// Returns a cell, or none while it was never written.
    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError>;

    /// Writes a cell if it is still at this version (none: if it does not exist). Durable on return.
    async fn swap_cell(
        &self,
        key: &Key,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Swap, StoreError>;

    /// Keeps bytes under way, not durable; the same key may be staged again.
    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError>;

    /// Is there room to stage more? What is kept back so that the ledger can be written does not count.
    async fn has_room(&self) -> Result<bool, StoreError>;

    /// Makes staged values durable and then gives each its name, as by create-if-absent: a name that is
    /// taken keeps its object. The staged values stay until they are deleted.
    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError>;
}
