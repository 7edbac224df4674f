//! What is sent to a site to be published, and what is read of it to be built.

use bytes::Bytes;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::statement::Envelope;
use waag_schema::wire::FRAMES_TYPE;
use waag_schema::wire::artifact::{ChunksRequest, Proof, Recipes, RecipesRequest};
use waag_schema::wire::upload::{
    ChunksReceived, FileRecipe, PlanAnswer, PlanRequest, PublishRequest, StatementsRequest, UploadRequest,
    UploadView,
};
use waag_schema::{ArtifactName, Sha256};

use super::Site;
use crate::ask::Ask;
use crate::error::Result;
use crate::transport::Answer;

impl Site {
    pub(crate) async fn recipes(&self, artifact: &ArtifactName, files: Vec<Sha256>) -> Result<Recipes> {
        let path = format!("/api/v1/artifacts/{artifact}/recipes");
        self.transport
            .json(Ask::post(path, &RecipesRequest { files }))
            .await
    }

    pub(crate) async fn chunks(&self, artifact: &ArtifactName, request: &ChunksRequest) -> Result<Answer> {
        let path = format!("/api/v1/artifacts/{artifact}/chunks");
        let first = request
            .chunks
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let what = format!(
            "{} chunks from {first} on of the file {}",
            request.chunks.len(),
            request.file
        );
        self.transport.stream(Ask::post(path, request).called(what)).await
    }

    pub(crate) async fn open_upload(&self, request: &UploadRequest) -> Result<Sha256> {
        let view: UploadView = self.transport.json(Ask::post("/api/v1/uploads", request)).await?;
        Ok(view.id)
    }

    pub(crate) async fn plan_upload(&self, id: &Sha256, files: Vec<FileRecipe>) -> Result<PlanAnswer> {
        let path = format!("/api/v1/uploads/{id}/plan");
        self.transport.json(Ask::post(path, &PlanRequest { files })).await
    }

    pub(crate) async fn send_chunks(&self, id: &Sha256, frames: Bytes) -> Result<ChunksReceived> {
        let path = format!("/api/v1/uploads/{id}/chunks");
        let bytes = frames.len() as u64;
        self.transport
            .json(
                Ask::post_bytes(path, FRAMES_TYPE, frames)
                    .work(bytes)
                    .called("chunks to be taken"),
            )
            .await
    }

    pub(crate) async fn seal_file(&self, id: &Sha256, file: &FileRecipe, size: u64) -> Result<()> {
        let ask = Ask::post(format!("/api/v1/uploads/{id}/files"), file)
            .work(size)
            .called(format!("the file {} to be checked", file.sha256));
        self.transport.bytes(ask, NOTE_BYTES_MAX).await.map(drop)
    }

    /// Publishes; `size` is how much the site may have to look at. The request is not repeated here: whether
    /// it was done is seen by reading the artifact again.
    pub(crate) async fn publish(&self, id: &Sha256, request: &PublishRequest, size: u64) -> Result<Proof> {
        let ask = Ask::post(format!("/api/v1/uploads/{id}/publish"), request);
        self.transport.json(ask.work(size).once()).await
    }

    pub(crate) async fn record(&self, artifact: &ArtifactName, envelopes: &[Envelope]) -> Result<Proof> {
        let path = format!("/api/v1/artifacts/{artifact}/statements");
        let envelopes = envelopes.iter().map(|e| e.bytes().to_vec().into()).collect();
        self.transport
            .json(Ask::post(path, &StatementsRequest { envelopes }).once())
            .await
    }
}
