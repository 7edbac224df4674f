//! How a file becomes chunks and comes back.
//!
//! ```text
//! file --planner--> chunk lengths --BLAKE3--> recipe = [(chunk, offset, length)...]
//!                                             chunk  = 8-byte header + body, raw or encoded
//!                                             frame  = digest + length + chunk, on the wire
//! ```
//! [`safetensors`] and [`gguf`] read the header that tells where tensors lie, [`planner`] decides where to cut,
//! [`recipe`] remembers the pieces, [`chunk`] is the stored form, [`encoding`] makes it small, [`frame`] is the
//! travelling form. [`challenge`] asks somebody who says that he has a file for a proof.

pub mod challenge;
pub mod chunk;
pub mod encoding;
pub mod frame;
pub mod gguf;
pub mod planner;
pub mod recipe;
pub mod safetensors;

pub use challenge::{Answer, Challenge, ChallengeError, Nonce, Part};
pub use chunk::{ChunkError, Encoding, StoredChunk};
pub use encoding::{EncodedChunk, encode};
pub use frame::{Frame, FrameDecoder, FrameError};
pub use planner::{CHUNK_MAX, ChunkPlan, PlanError, PlannerId};
pub use recipe::{Piece, Recipe, RecipeBuilder, RecipeError};
pub use safetensors::{Header, SafetensorsError, Tensor};
