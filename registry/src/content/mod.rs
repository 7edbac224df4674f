//! How bytes come in and go out.
//!
//! In: a session receives chunks ([`Uploads`]); each is checked against its BLAKE3 before it is kept, each
//! file against its SHA-256 before it is believed, and chunks get their name only when they are durable. Out:
//! any range of any file from its recipe ([`Content`]), each chunk checked again after it was read, and kept for a moment. Memory
//! is a few chunks for each request, whatever the file's size.
//!
//! Nothing here decides who may do this; except that a recipe may cite only chunks that were sent in its own
//! session or that the caller may read already, so that knowing a digest gives nothing.

mod ahead;
mod arrival;
mod frames;
mod rebuild;
mod recent;
mod seal;
mod upload;

use waag_schema::content::chunk::ChunkError;
use waag_schema::content::gguf::GgufError;
use waag_schema::content::recipe::RecipeError;
use waag_schema::content::safetensors::SafetensorsError;
use waag_schema::{ChunkDigest, Sha256};

pub use rebuild::Content;
pub use upload::Uploads;

use crate::index::IndexError;
use crate::store::StoreError;

/// Content cannot be taken in or given out.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// No session of this id belongs to the caller.
    #[error("there is no upload {0} of this token")]
    NoUpload(Sha256),
    /// The recipe is malformed.
    #[error("the recipe of {file} is malformed: {error}")]
    Recipe {
        /// The file.
        file: Sha256,
        /// What is wrong.
        error: RecipeError,
    },
    /// The chunk is malformed or in an encoding that this version does not read.
    #[error("chunk {chunk}: {error}")]
    Chunk {
        /// The chunk.
        chunk: ChunkDigest,
        /// What is wrong.
        error: ChunkError,
    },
    /// The bytes of a file have another digest than was said.
    #[error("the bytes sent for {expected} have the digest {found}")]
    WrongDigest {
        /// What was said.
        expected: Sha256,
        /// What came.
        found: Sha256,
    },
    /// A recipe cites a chunk that was not sent and that the caller cannot read.
    #[error("{file} needs the chunk {chunk}, which has not been sent")]
    MissingChunk {
        /// The file.
        file: Sha256,
        /// The chunk.
        chunk: ChunkDigest,
    },
    /// A recipe takes bytes that a chunk does not have.
    #[error("the recipe of {file} takes more of the chunk {chunk} than it has")]
    Outside {
        /// The file.
        file: Sha256,
        /// The chunk.
        chunk: ChunkDigest,
    },
    /// A safetensors file's header is bad.
    #[error("{path}: {error}")]
    Safetensors {
        /// The file's path.
        path: String,
        /// What is wrong.
        error: SafetensorsError,
    },
    /// A GGUF file's header is bad.
    #[error("{path}: {error}")]
    Gguf {
        /// The file's path.
        path: String,
        /// What is wrong.
        error: GgufError,
    },
    /// A stored chunk or recipe does not have its digest any more.
    #[error("the stored {what} {digest} is damaged")]
    Damaged {
        /// Chunk or recipe.
        what: &'static str,
        /// Its digest.
        digest: ChunkDigest,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
