//! Room: what is left of a file system, and what is kept back of it.
//!
//! Content never takes the last of it: whatever an upload brings, the ledger can be written and what is there erased.

use std::io;
use std::path::Path;

/// Kept back, unless that is more than a twentieth of the file system.
const KEPT_MAX_BYTES: u64 = 256 << 20;

/// A file system, as it was when asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// All its bytes. Some file systems do not say, and have no size then: of them nothing is kept back.
    pub(super) size: u64,
    pub(super) free: u64,
}

impl Room {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            size: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// Is there room for so many bytes of content?
    pub(super) fn takes(self, bytes: u64) -> bool {
        let kept = KEPT_MAX_BYTES.min(self.size / 20);
        kept == 0 || self.free.checked_sub(bytes).is_some_and(|left| left >= kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_file_system_is_kept_back() {
        let large = Room {
            size: 1 << 40,
            free: KEPT_MAX_BYTES + 10,
        };
        assert!(large.takes(10));
        assert!(!large.takes(11));
        let small = Room { size: 1000, free: 55 };
        assert!(small.takes(5));
        assert!(!small.takes(6));
        assert!(!small.takes(u64::MAX));
        let silent = Room { size: 0, free: 0 };
        assert!(silent.takes(1));
    }

    #[test]
    fn a_directory_has_a_file_system() {
        let room = Room::of(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(room.free <= room.size);
    }
}
