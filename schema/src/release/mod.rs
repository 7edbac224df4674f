//! What is published under a name: a manifest, and the configuration that it cites.
//!
//! [`manifest`] is the typed view of an OCI image manifest, [`builder`] makes ours, [`model`] makes the
//! ModelPack configuration beside it, [`kind`] says what an artifact is, [`role`] what a file is for. Of many
//! files the small ones are packed: [`arrangement`] says which, [`tar`] how, [`packed`] is what a manifest tells of
//! it, and [`files`] is the view of all files in which nobody sees a tar. [`gate`] says what is not published.

pub mod arrangement;
pub mod builder;
pub mod files;
pub mod gate;
pub mod kind;
pub mod manifest;
pub mod model;
pub mod packed;
pub mod role;
pub mod tar;

pub use arrangement::Arrangement;
pub use builder::{About, BuildError, Built, ManifestBuilder};
pub use files::{Files, FilesError, Place};
pub use kind::Kind;
pub use manifest::{Layer, Manifest, ManifestError};
pub use model::{ModelConfig, ModelFacts};
pub use packed::Packed;
pub use role::{Packing, Role};
