//! Manifests, recipes and chunks against the releases that name them.

use std::collections::HashSet;
use std::sync::Arc;

use waag_schema::content::chunk::{ChunkError, StoredChunk};
use waag_schema::content::recipe::Recipe;
use waag_schema::statement::Release;
use waag_schema::statement::scorecard::Details;
use waag_schema::{ChunkDigest, Sha256};

use super::{FsckError, Mode, Report};
use crate::store::{Key, Store, StoreError};

/// Reads everything that these releases need and checks each digest once.
pub(super) async fn check(
    store: &Arc<dyn Store>,
    mode: Mode,
    releases: &[(Sha256, Release)],
    report: &mut Report,
) -> Result<(), FsckError> {
    let mut recipes: HashSet<ChunkDigest> = HashSet::new();
    let mut chunks: HashSet<ChunkDigest> = HashSet::new();
    for (manifest, release) in releases {
        let key = Key::manifest(manifest);
        report.manifests += 1;
        if let Some(bytes) = read(store, &key, report).await?
            && Sha256::of(&bytes) != *manifest
        {
            report.found(&key, "its bytes have another digest", false);
        }
        for named in release.content.iter().chain([&release.config]) {
            if recipes.insert(named.recipe) {
                check_recipe(store, mode, &named.recipe, &mut chunks, report).await?;
            }
        }
    }
    Ok(())
}

/// Reads the details of scorecards and checks that each is what a statement names.
pub(super) async fn check_details(
    store: &Arc<dyn Store>,
    named: &[Details],
    report: &mut Report,
) -> Result<(), FsckError> {
    let mut seen = HashSet::new();
    for details in named.iter().filter(|details| seen.insert(details.sha256)) {
        let key = Key::scorecard(&details.sha256);
        report.details += 1;
        if let Some(bytes) = read(store, &key, report).await?
            && (Sha256::of(&bytes), bytes.len() as u64) != (details.sha256, details.size)
        {
            report.found(&key, "its bytes are not those that the scorecard names", false);
        }
    }
    Ok(())
}

async fn check_recipe(
    store: &Arc<dyn Store>,
    mode: Mode,
    digest: &ChunkDigest,
    chunks: &mut HashSet<ChunkDigest>,
    report: &mut Report,
) -> Result<(), FsckError> {
    let key = Key::recipe(digest);
    report.recipes += 1;
    let Some(bytes) = read(store, &key, report).await? else {
        return Ok(());
    };
    let recipe = Recipe::decode(&bytes)
        .ok()
        .filter(|_| ChunkDigest::of(&bytes) == *digest);
    let Some(recipe) = recipe else {
        report.found(
            &key,
            "its bytes have another digest",
            take_away(store, mode, &key).await?,
        );
        return Ok(());
    };
    for piece in recipe.pieces() {
        if chunks.insert(piece.chunk) {
            check_chunk(store, mode, &piece.chunk, report).await?;
        }
    }
    Ok(())
}

async fn check_chunk(
    store: &Arc<dyn Store>,
    mode: Mode,
    digest: &ChunkDigest,
    report: &mut Report,
) -> Result<(), FsckError> {
    let key = Key::chunk(digest);
    report.chunks += 1;
    let Some(bytes) = read(store, &key, report).await? else {
        return Ok(());
    };
    report.chunk_bytes += bytes.len() as u64;
    let checked = StoredChunk::parse(&bytes).and_then(|stored| stored.verify(digest).map(drop));
    if let Err(error @ ChunkError::Unsupported(_)) = &checked {
        // Written by a newer version: whole or not, that one can tell.
        report.found(&key, error, false);
    } else if let Err(error) = checked {
        // What is damaged is no use to anybody; once it is gone, whoever pushes the same content heals it.
        take_away(store, mode, &key).await?;
        report.found(
            &key,
            format_args!("{error}; push the same content again to heal it"),
            false,
        );
    }
    Ok(())
}

async fn read(
    store: &Arc<dyn Store>,
    key: &Key,
    report: &mut Report,
) -> Result<Option<bytes::Bytes>, FsckError> {
    match store.get(key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound(_)) => {
            report.found(key, "it is missing", false);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes a damaged object when repairing. Returns false: the content itself is not back yet.
async fn take_away(store: &Arc<dyn Store>, mode: Mode, key: &Key) -> Result<bool, FsckError> {
    if mode == Mode::Repair {
        store.delete(key).await?;
    }
    Ok(false)
}
