//! An envelope made ready for the fold: parsed, with the recipes that it names and what its manifest says.

use waag_schema::content::chunk::StoredChunk;
use waag_schema::content::recipe::Recipe;
use waag_schema::release::Manifest;
use waag_schema::release::model::{MODEL_CONFIG_MAX_BYTES, ModelConfig};
use waag_schema::statement::{Envelope, Predicate, Subject};
use waag_schema::{ChunkDigest, Sha256};

use super::AppendError;
use crate::index::Prepared;
use crate::store::{Key, Store, StoreError};

/// Parses an envelope and loads the recipes of a release, as far as they are here and whole: a recipe is named
/// by its digest, so a damaged one is as good as none.
///
/// # Errors
/// When the payload is no statement, or the store fails.
pub(crate) async fn prepare(store: &dyn Store, envelope: Envelope) -> Result<Prepared, AppendError> {
    let mut prepared = Prepared::parse(envelope)?;
    if let (Predicate::Release(release), Subject::Manifest(_, manifest)) =
        (&prepared.statement.predicate, &prepared.statement.subject)
    {
        if let Some(manifest) = load_manifest(store, manifest).await? {
            prepared.packed = manifest.packed().cloned();
            prepared.ancestors = manifest.ancestors();
        }
        for named in release.content.iter().chain([&release.config]) {
            let bytes = match store.get(&Key::recipe(&named.recipe)).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound(_)) => continue,
                // A store that fails for a moment must not make other rows than one that does not.
                Err(error) => return Err(unreadable("recipe", &named.recipe, &error)),
            };
            if ChunkDigest::of(&bytes) == named.recipe
                && let Ok(recipe) = Recipe::decode(&bytes)
            {
                prepared.recipes.insert(named.recipe, recipe);
            }
        }
        if let Some(recipe) = prepared.recipes.get(&release.config.recipe) {
            prepared.config = load_config(store, recipe).await?;
        }
    }
    Ok(prepared)
}

/// Loads a release's manifest, if it is here and whole.
async fn load_manifest(store: &dyn Store, manifest: &Sha256) -> Result<Option<Manifest>, AppendError> {
    let bytes = match store.get(&Key::manifest(manifest)).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => {
            return Err(AppendError::Unknown(format!(
                "the manifest {manifest} cannot be read: {error}"
            )));
        }
    };
    let parsed = Manifest::parse(bytes.to_vec()).ok();
    Ok(parsed.filter(|parsed| parsed.digest() == *manifest))
}

/// Loads a release's config, if it is one that ModelPack knows.
async fn load_config(store: &dyn Store, recipe: &Recipe) -> Result<Option<ModelConfig>, AppendError> {
    if recipe.size() > MODEL_CONFIG_MAX_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for piece in recipe.pieces() {
        let stored = match store.get(&Key::chunk(&piece.chunk)).await {
            Ok(stored) => stored,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(unreadable("chunk", &piece.chunk, &error)),
        };
        let Ok(raw) = StoredChunk::parse(&stored).and_then(|stored| stored.verify(&piece.chunk)) else {
            return Ok(None);
        };
        let part = piece.offset as usize..piece.offset as usize + piece.length as usize;
        bytes.extend_from_slice(raw.get(part).unwrap_or_default());
    }
    Ok(ModelConfig::parse(&bytes).ok())
}

fn unreadable(what: &str, digest: &ChunkDigest, error: &StoreError) -> AppendError {
    AppendError::Unknown(format!("the {what} {digest} cannot be read: {error}"))
}
