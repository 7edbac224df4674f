//! An upload, step by step: open a session, send recipes and learn what is missing, send chunks, seal each
//! file, publish.

use serde::{Deserialize, Serialize};

use crate::base::bytes::Base64;
use crate::base::digest::{ChunkDigest, Sha256};
use crate::base::name::ArtifactName;
use crate::policy::label::Label;

/// Body of `POST /api/v1/uploads`. The same request by the same token gives the same session: that is how
/// an upload resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// Where it shall be published.
    pub artifact: ArtifactName,
    /// The manifest that will be published.
    pub manifest: Sha256,
    /// The label that will be published with it, if any: a site that may not hold the artifact says so before
    /// any content moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// What the manifest names as its base and training data: their labels hold for it as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<ArtifactName>,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadView {
    /// The session.
    pub id: Sha256,
}

/// A file and its recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRecipe {
    /// The file.
    pub sha256: Sha256,
    /// Its recipe's canonical bytes.
    pub recipe: Base64,
}

/// Body of `POST /api/v1/uploads/{id}/plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Some or all files of the upload.
    pub files: Vec<FileRecipe>,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanAnswer {
    /// Files that need nothing more: sealed in this upload, or readable by the caller already.
    pub ready: Vec<Sha256>,
    /// Chunks to send for the others, each once, in the order of the recipes.
    pub missing: Vec<ChunkDigest>,
}

/// Answer of `POST /api/v1/uploads/{id}/chunks`, whose body is frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChunksReceived {
    /// How many chunks were taken.
    pub chunks: u64,
    /// Their raw bytes together.
    pub bytes: u64,
}

/// Body of `POST /api/v1/uploads/{id}/publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The manifest's exact bytes.
    pub manifest: Base64,
    /// Signed statements in the order of their chain: the release (unless recorded), a label, tags.
    pub envelopes: Vec<Base64>,
}

/// Body of `POST /api/v1/artifacts/{namespace}/{name}/statements`: statements that need no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementsRequest {
    /// Signed statements in the order of their chain.
    pub envelopes: Vec<Base64>,
}
