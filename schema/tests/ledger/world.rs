//! One site's ledger, as the stories of these tests need it.

use waag_schema::Timestamp;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::{
    BatchNonce, Checkpoint, Class, CommitRecord, Edge, Entry, EntryId, Growth, Hash, Header, MemoryTree,
    Opening, Origin, RefKind, Salt, SaltedOpening, SignedCheckpoint, Stream, WriterId,
};

pub(crate) fn log_key() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

pub(crate) fn origin() -> Origin {
    Origin::of(&log_key().public().site_id(), 1)
}

/// The hash of the `index`-th leaf of a tree whose leaves are their own numbers.
pub(crate) fn numbered(index: u64) -> Hash {
    Hash::leaf(&index.to_be_bytes())
}

pub(crate) fn numbered_tree(size: u64) -> MemoryTree {
    (0..size).map(numbered).collect()
}

pub(crate) fn opened(seq: u64, envelope: &[u8]) -> SaltedOpening {
    let header = Header {
        id: EntryId::from_bytes([seq.to_be_bytes()[7]; 16]),
        prev: seq.checked_sub(1),
        stream: Stream::open(),
        seq,
        at: Timestamp::from_unix(1_795_219_391 + seq),
    };
    let mut salt = [0xa5; 32];
    salt[..8].copy_from_slice(&seq.to_be_bytes());
    SaltedOpening {
        salt: Salt::from_bytes(salt),
        opening: Opening::new(header, envelope).expect("a small envelope"),
    }
}

pub(crate) fn entry(seq: u64) -> Entry {
    let reference = (seq == 3).then_some((RefKind::Revokes, 0));
    let opened = opened(seq, format!(r#"{{"n":{seq}}}"#).as_bytes());
    Entry::new(&origin(), Class::Open, reference, opened).expect("not a pad")
}

/// A commit of `count` entries onto this edge.
pub(crate) fn commit(edge: &Edge, count: u64) -> (CommitRecord, Growth) {
    let entries = (edge.size()..edge.size() + count).map(entry).collect();
    CommitRecord::new(
        edge,
        WriterId::from_bytes([7; 16]),
        BatchNonce::from_bytes([8; 16]),
        entries,
    )
    .expect("a small commit")
}

pub(crate) fn signed(growth: &Growth) -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: origin(),
        size: growth.size,
        root: growth.root,
    };
    SignedCheckpoint::sign(checkpoint, &log_key())
}
