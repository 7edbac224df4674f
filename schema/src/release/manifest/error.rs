//! What is wrong with a manifest.

use crate::base::digest::DigestError;
use crate::base::json::JsonError;
use crate::base::name::{FilePath, NameError};

/// A manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the accepted kind, or not shaped like a manifest.
    #[error("the manifest is refused: {0}")]
    Json(#[from] JsonError),
    /// A field names a type that is not read here.
    #[error("the manifest's {field} is `{found}`, expected `{expected}`")]
    Type {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// A layer's media type is not one of ModelPack's.
    #[error("layer {index} has the media type `{found}`, which is none of ModelPack's")]
    LayerType {
        /// Which layer, from 0.
        index: usize,
        /// What it says.
        found: String,
    },
    /// A digest is not a SHA-256.
    #[error("{place}: {error}")]
    Digest {
        /// Where it stands.
        place: String,
        /// Why it is refused.
        error: DigestError,
    },
    /// The layers' sizes add up to more than 2^64 - 1.
    #[error("the sizes of the manifest's layers overflow")]
    SizeOverflow,
    /// There are no layers.
    #[error("the manifest has no files")]
    Empty,
    /// A layer does not say which file it is.
    #[error("layer {index} names no file (annotation org.cncf.model.filepath)")]
    NoPath {
        /// Which layer, from 0.
        index: usize,
    },
    /// A layer says twice, and differently, which file it is.
    #[error("layer {index} is called `{path}` and `{title}`")]
    TwoPaths {
        /// Which layer, from 0.
        index: usize,
        /// By ModelPack's annotation.
        path: String,
        /// By OCI's annotation.
        title: String,
    },
    /// A file's path is refused.
    #[error(transparent)]
    Path(#[from] NameError),
    /// Two layers are the same file.
    #[error("the file `{0}` stands twice")]
    Duplicate(FilePath),
    /// Two files are one on a file system that ignores case.
    #[error("the files `{0}` and `{1}` differ in case only")]
    CaseCollision(FilePath, FilePath),
    /// A file is another file's directory.
    #[error("the file `{file}` is also the directory of `{under}`")]
    FileIsDirectory {
        /// The file.
        file: FilePath,
        /// What lies in the directory of that name.
        under: FilePath,
    },
    /// An annotation that means something here does not say it properly.
    #[error("the annotation {key} is `{found}`, expected {expected}")]
    Annotation {
        /// Its key.
        key: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
}
