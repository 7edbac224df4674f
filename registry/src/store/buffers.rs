//! Memory that large values are read into, used again and again: fresh pages cost the kernel as much as reading a
//! chunk does. What waits is bounded; more buffers are made when more values are in use at once.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Smaller values are not worth it.
const LENT_FROM: usize = 256 << 10;
/// Memory that waits to be used again.
const WAITING_MAX_BYTES: usize = 48 << 20;

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
        let waiting: usize = free.iter().map(Vec::capacity).sum();
        if waiting + self.bytes.capacity() <= WAITING_MAX_BYTES {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    /// Returns an empty buffer with room for this many bytes: the smallest that waits and has it, or a new one.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, one)| one.capacity() >= length);
        let best = fitting.min_by_key(|(_, one)| one.capacity()).map(|(at, _)| at);
        match best.filter(|_| length >= LENT_FROM) {
            Some(at) => {
                let mut bytes = free.swap_remove(at);
                bytes.clear();
                bytes
            }
            None if length < LENT_FROM => Vec::with_capacity(length),
            // Round, so that it fits its like.
            None => Vec::with_capacity(length.next_multiple_of(LENT_FROM)),
        }
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

    #[test]
    fn what_waits_is_bounded_and_the_smallest_that_fits_is_taken() {
        let buffers = Buffers::default();
        let lent: Vec<Bytes> = (1..100)
            .map(|number| buffers.lend(buffers.take(number << 20)))
            .collect();
        drop(lent);
        let waiting: usize = buffers.free.lock().unwrap().iter().map(Vec::capacity).sum();
        assert!(waiting <= WAITING_MAX_BYTES && waiting > 0);
        assert_eq!(buffers.take((1 << 20) + 1).capacity(), 2 << 20);
    }
}
