//! A site's ledger: its mathematics and its bytes.
//!
//! A ledger is an append-only Merkle tree (RFC 6962) of 43-byte leaves. A [`Leaf`] holds no name and no
//! digest, only a [`Commitment`] to an [`Opening`]; openings lie beside the tree in packs from which they can
//! be erased, while every proof keeps holding. The tree is served as tiles ([`tile`], C2SP tlog-tiles) and
//! signed as a [`Checkpoint`] (C2SP tlog-checkpoint, signed-note, tlog-cosignature).
//!
//! ```text
//! CommitRecord ── leaves ──> Edge::grow ──> tiles, root ──> Checkpoint ── sign ──> SignedCheckpoint
//!      └──────── openings ─> Pack                                                      │
//!                               └── EntryProof (salt, opening, path) ── verify against ┘
//! ```
//!
//! What is here decides and computes; storing, fetching, signing order and trust are left to others.

pub mod bundle;
pub mod checkpoint;
pub mod commit;
pub mod error;
pub mod frontier;
pub mod growth;
pub mod hash;
pub mod ident;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod number;
pub mod opening;
pub mod pack;
pub mod proof;
mod reading;
pub mod site_key;
pub mod submission;
pub mod tile;
pub mod tlog_proof;
pub mod vkey;

pub use checkpoint::{Checkpoint, Cosignature, Origin, SignedCheckpoint};
pub use commit::{CommitRecord, Entry};
pub use error::LedgerError;
pub use frontier::Frontier;
pub use growth::{Edge, Growth};
pub use hash::{Commitment, Hash, Root};
pub use ident::{BatchNonce, EntryId, WriterId};
pub use leaf::{Class, Leaf, RefKind};
pub use merkle::{HashSource, MemoryTree, MissingHash, Node, SIZE_MAX, Tree};
pub use note::{Note, NoteSignature};
pub use number::{entry_number, entry_place};
pub use opening::{Header, Opening, Salt, SaltedOpening, Stream};
pub use pack::{Pack, PackPath};
pub use proof::{EntryProof, InclusionProof};
pub use submission::Submission;
pub use tile::{TileKind, TilePath, TileSource};
pub use tlog_proof::TlogProof;
pub use vkey::{KeyKind, VerifierKey};
