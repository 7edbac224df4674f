//! A store in memory, for tests. It is the strictest one: objects, cells and staged values may not share a
//! key, ranges must lie within their object, and [`MemoryStore::lose_power`] drops all that was only staged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cell, Key, Put, Store, StoreError, Swap, Version};

/// What one key holds.
#[derive(Debug, Clone)]
enum Slot {
    Object(Bytes),
    Staged(Bytes),
    Cell { bytes: Bytes, version: u64 },
}

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    slots: Mutex<BTreeMap<Key, Slot>>,
    full: AtomicBool,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was only staged, as a power loss does.
    pub fn lose_power(&self) {
        self.lock().retain(|_, slot| !matches!(slot, Slot::Staged(_)));
    }

    /// Has no room for content any more, as a disk that others fill.
    pub fn fill_up(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Returns another store that holds the same, for tests that try several futures of one past.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            slots: Mutex::new(self.lock().clone()),
            full: AtomicBool::new(self.full.load(Ordering::Relaxed)),
        }
    }

    /// Returns every key and its bytes, for tests that look at all that is stored.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, Bytes> {
        let bytes = |slot: &Slot| match slot {
            Slot::Object(bytes) | Slot::Staged(bytes) | Slot::Cell { bytes, .. } => bytes.clone(),
        };
        self.lock()
            .iter()
            .map(|(key, slot)| (key.to_string(), bytes(slot)))
            .collect()
    }

    /// Flips one bit of an object, as a failing disk does.
    pub fn damage(&self, key: &Key, byte: usize) {
        if let Some(Slot::Object(bytes)) = self.lock().get_mut(key) {
            let mut copy = bytes.to_vec();
            if let Some(b) = copy.get_mut(byte) {
                *b ^= 1;
            }
            *bytes = copy.into();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Slot>> {
        self.slots.lock().expect("no holder of this lock panics")
    }
}

/// A key is used in two ways: a fault of the caller that a real store might not notice.
fn misuse(key: &Key, what: &str) -> StoreError {
    StoreError::Unknown {
        key: key.clone(),
        reason: format!("misuse: {what}"),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        let mut slots = self.lock();
        match slots.get(key) {
            None => {
                slots.insert(key.clone(), Slot::Object(bytes));
                Ok(Put::Created)
            }
            Some(Slot::Object(_)) => Ok(Put::Existed),
            Some(_) => Err(misuse(key, "an object where a cell or a staged value is")),
        }
    }

    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError> {
        for (key, bytes) in objects {
            if self.put_if_absent(&key, bytes.clone()).await? == Put::Existed
                && self.get(&key).await? != bytes
            {
                return Err(StoreError::Conflict(key));
            }
        }
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        match self.lock().get(key) {
            None => Err(StoreError::NotFound(key.clone())),
            Some(Slot::Object(bytes) | Slot::Staged(bytes)) => Ok(bytes.clone()),
            Some(Slot::Cell { .. }) => Err(misuse(key, "a cell read as an object")),
        }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.get(key).await?;
        let bounds = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        match bounds {
            Some((start, end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
            _ => Err(misuse(key, "a range outside the object")),
        }
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match self.lock().get(key) {
            None => Ok(None),
            Some(Slot::Object(bytes) | Slot::Staged(bytes)) => Ok(Some(bytes.len() as u64)),
            Some(Slot::Cell { .. }) => Err(misuse(key, "a cell asked for as an object")),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let slots = self.lock();
        let wanted = |key: &&Key| key.as_str().starts_with(prefix) && after.is_none_or(|a| *key > a);
        Ok(slots.keys().filter(wanted).take(limit).cloned().collect())
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.lock().remove(key);
        Ok(())
    }

    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        match self.lock().get(key) {
            None => Ok(None),
            Some(Slot::Cell { bytes, version }) => Ok(Some(Cell {
                bytes: bytes.clone(),
                version: Version(version.to_string()),
            })),
            Some(_) => Err(misuse(key, "an object read as a cell")),
        }
    }

    async fn swap_cell(
        &self,
        key: &Key,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Swap, StoreError> {
        let mut slots = self.lock();
        let found = match slots.get(key) {
            None => None,
            Some(Slot::Cell { version, .. }) => Some(*version),
            Some(_) => return Err(misuse(key, "a cell where an object is")),
        };
        if found.map(|v| v.to_string()).as_deref() != expected.map(|v| v.0.as_str()) {
            return Ok(Swap::Lost);
        }
        let version = found.map_or(1, |v| v + 1);
        slots.insert(key.clone(), Slot::Cell { bytes, version });
        Ok(Swap::Swapped(Version(version.to_string())))
    }

    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        if !self.has_room().await? {
            return Err(StoreError::Full(key.clone()));
        }
        let mut slots = self.lock();
        match slots.get(key) {
            None | Some(Slot::Staged(_)) => {
                slots.insert(key.clone(), Slot::Staged(bytes));
                Ok(())
            }
            Some(_) => Err(misuse(key, "a staged value where an object or a cell is")),
        }
    }

    async fn has_room(&self) -> Result<bool, StoreError> {
        Ok(!self.full.load(Ordering::Relaxed))
    }

    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError> {
        let mut slots = self.lock();
        for (from, to) in moves {
            let bytes = match slots.get(&from) {
                Some(Slot::Staged(bytes)) => bytes.clone(),
                Some(_) => return Err(misuse(&from, "only a staged value can be promoted")),
                None => return Err(StoreError::NotFound(from)),
            };
            match slots.get(&to) {
                None => {
                    slots.insert(to, Slot::Object(bytes));
                }
                Some(Slot::Object(_)) => {}
                Some(_) => return Err(misuse(&to, "an object where a cell or a staged value is")),
            }
        }
        Ok(())
    }
}
