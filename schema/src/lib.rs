//! What waag's words mean: digests, names, manifests, recipes, chunk planning, statements, ledger
//! mathematics, labels and verdicts.
//!
//! The law of this crate: it does no I/O, reads no clock, spawns nothing. Bytes and times come in as
//! arguments; values and bytes go out. So the same code runs in the command line, the server, a mirror
//! and an auditor, and every answer can be recomputed. `.clippy.toml` beside this crate enforces it.
//!
//! `FORMATS.md` beside this crate says every format byte by byte, for other implementations, with test vectors
//! in `vectors/`. What is written or accepted here and what stands there change together.

pub mod base;
pub mod content;
pub mod federation;
pub mod ledger;
pub mod policy;
pub mod release;
pub mod statement;
pub mod wire;

pub use base::digest::{ChunkDigest, Sha256};
pub use base::hours::Hours;
pub use base::name::{ArtifactName, FilePath, Namespace, Reference, SiteId, Tag};
pub use base::time::Timestamp;
