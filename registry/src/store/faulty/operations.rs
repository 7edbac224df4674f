//! The operations of a store, each as its fault has it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Fault, FaultyStore, Late, Operation, failed, unknown};
use crate::store::{Cell, Key, Put, Store, StoreError, Swap, Version};

#[async_trait]
impl Store for FaultyStore {
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, StoreError> {
        let Some(fault) = self.begin(Operation::Put, key).await? else {
            let put = self.put(key, bytes).await?;
            self.confirm([key]);
            return Ok(put);
        };
        match fault {
            Fault::Present => {
                self.put(key, bytes).await?;
                self.confirm([key]);
            }
            Fault::Volatile => {
                self.loosen(key).await?;
                self.put(key, bytes).await?;
            }
            Fault::Late(operations) => self.delay(Late::Put(key.clone(), bytes), operations),
            _ => {}
        }
        failed(key, fault)
    }

    async fn put_all(&self, objects: Vec<(Key, Bytes)>) -> Result<(), StoreError> {
        let Some((key, _)) = objects.first().cloned() else {
            return Ok(());
        };
        let keys: Vec<Key> = objects.iter().map(|(key, _)| key.clone()).collect();
        let Some(fault) = self.begin(Operation::PutAll, &key).await? else {
            self.inner.put_all(objects).await?;
            self.confirm(&keys);
            return Ok(());
        };
        match fault {
            Fault::Present => {
                self.inner.put_all(objects).await?;
                self.confirm(&keys);
            }
            Fault::Volatile => {
                for key in &keys {
                    self.loosen(key).await?;
                }
                self.inner.put_all(objects).await?;
            }
            Fault::Torn => {
                let half = objects.len() / 2;
                self.inner
                    .put_all(objects.into_iter().take(half).collect())
                    .await?;
            }
            Fault::Late(operations) => self.delay(Late::PutAll(objects), operations),
            _ => {}
        }
        failed(&key, fault)
    }

    async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.begin_read(key).await?;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.begin_read(key).await?;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match self.begin_read(key).await {
            Ok(()) => self.inner.head(key).await,
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StoreError> {
        let key = Key::listed(prefix.trim_end_matches('/').to_owned()).expect("prefixes are made by `Key`");
        self.begin_read(&key).await?;
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let fault = self.begin(Operation::Delete, key).await?;
        match fault {
            None => {
                self.inner.delete(key).await?;
                self.confirm([key]);
                Ok(())
            }
            Some(fault) => {
                if fault == Fault::Volatile {
                    self.loosen(key).await?;
                }
                if matches!(fault, Fault::Present | Fault::Volatile) {
                    self.inner.delete(key).await?;
                }
                if fault == Fault::Present {
                    self.confirm([key]);
                }
                failed(key, fault)
            }
        }
    }

    async fn read_cell(&self, key: &Key) -> Result<Option<Cell>, StoreError> {
        match self.begin(Operation::ReadCell, key).await? {
            Some(Fault::Absent) => Err(unknown(key, "the read failed")),
            Some(Fault::Stale) => {
                let state = self.lock();
                let values = state.cells.get(key).map_or(&[][..], Vec::as_slice);
                Ok(values.len().checked_sub(2).map(|before| values[before].clone()))
            }
            _ => self.inner.read_cell(key).await,
        }
    }

    async fn swap_cell(
        &self,
        key: &Key,
        expected: Option<&Version>,
        bytes: Bytes,
    ) -> Result<Swap, StoreError> {
        let Some(fault) = self.begin(Operation::Swap, key).await? else {
            let swap = self.swap(key, expected, bytes).await?;
            if let Swap::Swapped(_) = swap {
                self.confirm([key]);
            }
            return Ok(swap);
        };
        match fault {
            Fault::Present => {
                if let Swap::Swapped(_) = self.swap(key, expected, bytes).await? {
                    self.confirm([key]);
                }
            }
            Fault::Volatile => {
                self.loosen(key).await?;
                self.swap(key, expected, bytes).await?;
            }
            Fault::Late(operations) => {
                self.delay(Late::Swap(key.clone(), expected.cloned(), bytes), operations);
            }
            _ => {}
        }
        failed(key, fault)
    }

    async fn stage(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let Some(fault) = self.begin(Operation::Stage, key).await? else {
            return self.inner.stage(key, bytes).await;
        };
        match fault {
            Fault::Present => self.inner.stage(key, bytes).await?,
            Fault::Late(operations) => self.delay(Late::Stage(key.clone(), bytes), operations),
            _ => {}
        }
        failed(key, fault)
    }

    async fn has_room(&self) -> Result<bool, StoreError> {
        self.inner.has_room().await
    }

    async fn promote(&self, moves: Vec<(Key, Key)>) -> Result<(), StoreError> {
        let Some((key, _)) = moves.first().cloned() else {
            return Ok(());
        };
        let Some(fault) = self.begin(Operation::Promote, &key).await? else {
            return self.inner.promote(moves).await;
        };
        match fault {
            Fault::Present => self.inner.promote(moves).await?,
            Fault::Torn => {
                let half = moves.len() / 2;
                self.inner.promote(moves.into_iter().take(half).collect()).await?;
            }
            _ => {}
        }
        failed(&key, fault)
    }
}
