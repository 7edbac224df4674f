//! What a file of an artifact is for, decided by its name, and ModelPack's media types for it.
//!
//! The role steers what foreign tools fetch (`weight` and `weight.config` are what a runtime needs); nothing
//! here says that a file is safe or well-formed.

use super::kind::Kind;
use crate::base::name::FilePath;

/// What a file is for; those that a runtime needs come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Tensors.
    Weight,
    /// What a runtime needs beside the tensors: configuration, tokenizer, index.
    WeightConfig,
    /// What people read.
    Doc,
    /// What runs.
    Code,
    /// What models are trained and weighed on.
    Dataset,
}

/// How a layer's bytes hold its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packing {
    /// The layer is the file.
    Raw,
    /// A tar archive.
    Tar,
    /// A tar archive, compressed by gzip.
    TarGzip,
    /// A tar archive, compressed by zstd.
    TarZstd,
}

/// Every role with its part of the media type.
const ROLES: [(Role, &str); 5] = [
    (Role::Weight, "weight"),
    (Role::WeightConfig, "weight.config"),
    (Role::Doc, "doc"),
    (Role::Code, "code"),
    (Role::Dataset, "dataset"),
];

/// Every packing with its part of the media type.
const PACKINGS: [(Packing, &str); 4] = [
    (Packing::Raw, "raw"),
    (Packing::Tar, "tar"),
    (Packing::TarGzip, "tar+gzip"),
    (Packing::TarZstd, "tar+zstd"),
];

/// Media types start so; the second is ModelPack's name from before it joined the CNCF, read and never
/// written.
const PREFIXES: [&str; 2] = ["application/vnd.cncf.model.", "application/vnd.cnai.model."];

const WEIGHT_EXTENSIONS: [&str; 16] = [
    "safetensors",
    "gguf",
    "ggml",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "onnx",
    "onnx_data",
    "h5",
    "keras",
    "msgpack",
    "tflite",
    "npz",
    "pdparams",
    "mlmodel",
];
const CONFIG_EXTENSIONS: [&str; 13] = [
    "json",
    "yaml",
    "yml",
    "toml",
    "ini",
    "cfg",
    "jinja",
    "model",
    "spm",
    "tiktoken",
    "vocab",
    "modelfile",
    "bpe",
];
/// Text files that tokenizers load, in lower case.
const CONFIG_NAMES: [&str; 5] = [
    "merges.txt",
    "vocab.txt",
    "special_tokens.txt",
    "modelfile",
    "kitfile",
];
const CODE_EXTENSIONS: [&str; 18] = [
    "py", "ipynb", "sh", "rs", "c", "cc", "cpp", "h", "hpp", "cu", "cuh", "js", "ts", "go", "java", "jl",
    "lua", "r",
];
const DATASET_EXTENSIONS: [&str; 8] = [
    "parquet", "arrow", "feather", "csv", "tsv", "jsonl", "ndjson", "tfrecord",
];
/// Names (without extension) of what people read wherever it lies, in lower case.
const DOC_NAMES: [&str; 9] = [
    "readme",
    "license",
    "licence",
    "notice",
    "copying",
    "changelog",
    "authors",
    "citation",
    "use_policy",
];

impl Role {
    /// Returns the role of a file in an artifact of this kind.
    ///
    /// In a model what is not known is documentation, which no runtime loads; in a dataset or suite it is
    /// data.
    #[must_use]
    pub fn of(kind: Kind, path: &FilePath) -> Self {
        let file = path
            .as_str()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_lowercase();
        let (stem, extension) = file.rsplit_once('.').unwrap_or((&file, ""));
        if DOC_NAMES.contains(&stem) || DOC_NAMES.contains(&file.as_str()) || extension == "md" {
            return Self::Doc;
        }
        if CODE_EXTENSIONS.contains(&extension) {
            return Self::Code;
        }
        match kind {
            Kind::Dataset | Kind::Suite => Self::Dataset,
            Kind::Model if DATASET_EXTENSIONS.contains(&extension) => Self::Dataset,
            Kind::Model if WEIGHT_EXTENSIONS.contains(&extension) => Self::Weight,
            Kind::Model
                if CONFIG_EXTENSIONS.contains(&extension) || CONFIG_NAMES.contains(&file.as_str()) =>
            {
                Self::WeightConfig
            }
            Kind::Model => Self::Doc,
        }
    }

    /// Returns the media type of a raw layer of this role.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Weight => "application/vnd.cncf.model.weight.v1.raw",
            Self::WeightConfig => "application/vnd.cncf.model.weight.config.v1.raw",
            Self::Doc => "application/vnd.cncf.model.doc.v1.raw",
            Self::Code => "application/vnd.cncf.model.code.v1.raw",
            Self::Dataset => "application/vnd.cncf.model.dataset.v1.raw",
        }
    }

    /// Returns the media type of a tar whose most needed file has this role.
    #[must_use]
    pub const fn tar_media_type(self) -> &'static str {
        match self {
            Self::Weight => "application/vnd.cncf.model.weight.v1.tar",
            Self::WeightConfig => "application/vnd.cncf.model.weight.config.v1.tar",
            Self::Doc => "application/vnd.cncf.model.doc.v1.tar",
            Self::Code => "application/vnd.cncf.model.code.v1.tar",
            Self::Dataset => "application/vnd.cncf.model.dataset.v1.tar",
        }
    }

    /// Returns the role and packing of a ModelPack layer's media type.
    #[must_use]
    pub fn from_media_type(media_type: &str) -> Option<(Self, Packing)> {
        let rest = PREFIXES
            .iter()
            .find_map(|prefix| media_type.strip_prefix(prefix))?;
        let (role, packing) = rest.split_once(".v1.")?;
        let (role, _) = ROLES.into_iter().find(|(_, name)| *name == role)?;
        let (packing, _) = PACKINGS.into_iter().find(|(_, name)| *name == packing)?;
        Some((role, packing))
    }
}
