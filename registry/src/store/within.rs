//! A part of a store, as a store of its own: every key lies below one prefix.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cell, Key, Put, Store, StoreError, Swap, Version};

/// What lies below one prefix of another store.
#[derive(Clone)]
pub struct Within {
    store: Arc<dyn Store>,
    prefix: String,
}

impl Within {
    /// Takes the part below a prefix, which ends in `/`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, prefix: String) -> Self {
        Self { store, prefix }
    }

    fn key(&self, key: &Key) -> Key {
        key.below(&self.prefix)
    }
}

#[async_trait]
impl Store for Within {
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        self.store.put_if_absent(&self.key(key), bytes).await
    }

    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError> {
        let objects = objects.into_iter().map(|(key, bytes)| (self.key(&key), bytes));
        self.store.put_all(objects.collect()).await
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.store.get(&self.key(key)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.store.get_range(&self.key(key), range).await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.store.head(&self.key(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let after = after.map(|key| self.key(key));
        let below = format!("{}{prefix}", self.prefix);
        let keys = self.store.list(&below, after.as_ref(), limit).await?;
        Ok(keys.iter().filter_map(|key| key.without(&self.prefix)).collect())
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.store.delete(&self.key(key)).await
    }

    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        self.store.read_cell(&self.key(key)).await
    }

    async fn swap_cell(
        &self,
        key: &Key,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Swap, StoreError> {
        self.store.swap_cell(&self.key(key), expected, bytes).await
    }

    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        self.store.stage(&self.key(key), bytes).await
    }

    async fn has_room(&self) -> Result<bool, StoreError> {
        self.store.has_room().await
    }

    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError> {
        let moves = moves.iter().map(|(from, to)| (self.key(from), self.key(to)));
        self.store.promote(moves.collect()).await
    }
}
