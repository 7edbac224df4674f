//! Memory that large values are read into, used again and again: fresh pages cost the kernel as much as reading a
//! chunk does. At most [`KEPT_MAX`] buffers are kept; more are made when more values are in use at once.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Smaller values are not worth it.
const LENT_FROM: usize = 256 << 10;
/// With chunks of 4 MiB, 64 MiB.
const KEPT_MAX: usize = 16;

/// Buffers that wait to be used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer in use; when the last reader drops it, it waits again.
struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    /// Returns an empty buffer with room for this many bytes.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let waiting = (length >= LENT_FROM)
            .then(|| self.free.lock().unwrap_or_else(PoisonError::into_inner).pop())
            .flatten();
        let mut bytes = waiting.unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(length);
        bytes
    }

    /// Hands a filled buffer on; it comes back by itself.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() < LENT_FROM {
            return bytes.into();
        }
        Bytes::from_owner(Lent {
            bytes,
            home: self.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_done() {
        let buffers = Buffers::default();
        let mut bytes = buffers.take(LENT_FROM);
        let memory = bytes.as_ptr();
        bytes.resize(LENT_FROM, 7);
        let lent = buffers.lend(bytes);
        let part = lent.slice(10..20);
        drop(lent);
        let other = buffers.take(LENT_FROM);
        assert_ne!(other.as_ptr(), memory, "a part of it is still read");
        assert_eq!(part[..], [7; 10]);
        drop(part);
        let again = buffers.take(LENT_FROM);
        assert_eq!((again.as_ptr(), again.len()), (memory, 0));
    }
}
