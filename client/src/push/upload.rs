//! A session at the site: what it lacks, and how that gets there. Memory is a few batches of frames.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::policy::label::Label;
use waag_schema::wire::Code;
use waag_schema::wire::upload::UploadRequest;
use waag_schema::{ArtifactName, ChunkDigest, Sha256};

use super::prepared::Prepared;
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase};
use crate::pace::Moved;
use crate::read::blocking;
use crate::site::Site;
use crate::sources::Form;

/// Raw bytes of chunks in one request: hides a round trip, little to repeat.
const BATCH_BYTES: u64 = 8 << 20;
/// How often frames may arrive as something else than what was sent.
const CORRUPTED_MAX: u32 = 3;
/// Files that the site hashes for us at once.
const SEALS_AT_ONCE: usize = 2;
/// Recipe bytes in one question, unless one file alone has more.
const PLAN_BYTES: usize = 4 << 20;
/// Files in one question.
const PLAN_FILES: usize = 1000;

/// A session at the site, and what it lacks.
pub(super) struct Upload {
    pub(super) id: Sha256,
    pub(super) unsealed: Vec<Sha256>,
    pub(super) missing: Vec<ChunkDigest>,
}

impl Upload {
    /// Opens the session, or finds it again, and learns what is missing.
    pub(super) async fn open(
        site: &Site,
        artifact: &ArtifactName,
        label: Option<&Label>,
        prepared: &Prepared,
    ) -> Result<Self> {
        let request = UploadRequest {
            artifact: artifact.clone(),
            manifest: prepared.digest,
            label: label.cloned(),
        };
        let id = site.open_upload(&request).await?;
        let mut ready = HashSet::new();
        // Batches may name one chunk twice: each answer is about its own files only.
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        let mut left = prepared.files.keys().peekable();
        while let Some(file) = left.next() {
            if let Some(recipe) = prepared.recipe_of(file) {
                batch_bytes += recipe.recipe.0.len();
                batch.push(recipe);
            }
            if left.peek().is_some() && batch_bytes < PLAN_BYTES && batch.len() < PLAN_FILES {
                continue;
            }
            batch_bytes = 0;
            let answer = site.plan_upload(&id, std::mem::take(&mut batch)).await?;
            ready.extend(answer.ready);
            missing.extend(answer.missing.into_iter().filter(|chunk| seen.insert(*chunk)));
        }
        let unsealed = prepared
            .files
            .keys()
            .filter(|file| !ready.contains(file))
            .copied()
            .collect();
        Ok(Self {
            id,
            unsealed,
            missing,
        })
    }
}

/// Encodes and sends the missing chunks, as many batches at once as goes well.
pub(super) async fn send_missing(
    site: &Site,
    prepared: &Prepared,
    upload: &Upload,
    form: Form,
) -> Result<Moved> {
    let progress = site.progress();
    progress(Event::Began {
        phase: Phase::Send,
        items: upload.missing.len() as u64,
        bytes: prepared.length(&upload.missing),
    });
    let sends = batches(prepared, &upload.missing).into_iter().map(|batch| {
        let (site, progress) = (site.clone(), Arc::clone(&progress));
        let sources = Arc::clone(&prepared.sources);
        let (id, bytes) = (upload.id, prepared.length(&batch));
        async move {
            let frames = blocking(move || sources.frames(&batch, form)).await?;
            send(&site, &id, frames.bytes.into()).await?;
            progress(Event::Advanced {
                phase: Phase::Send,
                bytes,
            });
            Ok::<Moved, ClientError>(Moved {
                bytes,
                wire_bytes: frames.stored_bytes,
            })
        }
    });
    let sent = site.transport().pace().run(sends).await?;
    progress(Event::Ended { phase: Phase::Send });
    Ok(sent)
}

/// Sends frames. Each was checked when it was read, so what the site finds wrong with one happened on the way.
async fn send(site: &Site, id: &Sha256, frames: Bytes) -> Result<()> {
    let mut tried = 0;
    loop {
        let Err(error) = site.send_chunks(id, frames.clone()).await else {
            return Ok(());
        };
        tried += 1;
        let on_the_way = matches!(
            &error,
            ClientError::Refused(problem) if matches!(problem.code, Code::Invalid | Code::DigestMismatch)
        );
        if !on_the_way || tried >= CORRUPTED_MAX {
            return Err(error);
        }
        site.pause(tried, &error).await;
    }
}

pub(super) fn batches(prepared: &Prepared, chunks: &[ChunkDigest]) -> Vec<Vec<ChunkDigest>> {
    let mut batches = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        let length = prepared.length(std::slice::from_ref(chunk));
        if bytes + length > BATCH_BYTES && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        batch.push(*chunk);
        bytes += length;
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// Has the site check each file that is not complete there.
pub(super) async fn seal_files(site: &Site, prepared: &Prepared, upload: &Upload) -> Result<()> {
    let progress = site.progress();
    let size_of = |file: &Sha256| prepared.files.get(file).map_or(0, |(_, size)| *size);
    progress(Event::Began {
        phase: Phase::Seal,
        items: upload.unsealed.len() as u64,
        bytes: upload.unsealed.iter().map(size_of).fold(0, u64::saturating_add),
    });
    let seals = upload.unsealed.iter().map(|file| {
        let (site, progress) = (site.clone(), Arc::clone(&progress));
        let (id, recipe, bytes) = (upload.id, prepared.recipe_of(file), size_of(file));
        async move {
            let Some(recipe) = recipe else { return Ok(()) };
            site.seal_file(&id, &recipe, bytes).await?;
            progress(Event::Advanced {
                phase: Phase::Seal,
                bytes,
            });
            Ok::<(), ClientError>(())
        }
    });
    stream::iter(seals)
        .buffer_unordered(SEALS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    progress(Event::Ended { phase: Phase::Seal });
    Ok(())
}
