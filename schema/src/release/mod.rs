//! What is published under a name: a manifest, and the configuration that it cites.
//!
//! [`manifest`] is the typed view of an OCI image manifest, [`builder`] makes ours, [`model`] makes the
//! ModelPack configuration beside it, [`kind`] says what an artifact is, [`role`] what a file is for.

pub mod builder;
pub mod kind;
pub mod manifest;
pub mod model;
pub mod role;

pub use builder::{About, Built, ManifestBuilder};
pub use kind::Kind;
pub use manifest::{Layer, Manifest, ManifestError};
pub use model::{ModelConfig, ModelFacts};
pub use role::{Packing, Role};
