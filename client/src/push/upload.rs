//! A session at the site: what it lacks, and how that gets there. Memory is a few batches of frames.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use waag_schema::wire::Code;
use waag_schema::wire::upload::UploadRequest;
use waag_schema::{ChunkDigest, Sha256};

use super::PushRequest;
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
/// Large files of which batches are sent in turn.
const FILES_IN_TURN: usize = 8;
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
    pub(super) async fn open(site: &Site, push: &PushRequest, prepared: &Prepared) -> Result<Self> {
        let request = UploadRequest {
            artifact: push.artifact.clone(),
            manifest: prepared.digest,
            label: push.label.clone(),
            ancestors: prepared.ancestors(),
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
            let batch = Arc::new(batch);
            let (read, of) = (Arc::clone(&sources), Arc::clone(&batch));
            let frames = blocking(move || read.frames(&of, form)).await?;
            let check = || {
                let (sources, batch) = (Arc::clone(&sources), Arc::clone(&batch));
                blocking(move || sources.check(&batch))
            };
            send(&site, &id, frames.bytes.into(), check).await?;
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

/// Sends frames. Where the site finds one wrong, either its file has changed, which `check` says, or it happened on the
/// way.
async fn send<C: Future<Output = Result<()>>>(
    site: &Site,
    id: &Sha256,
    frames: Bytes,
    check: impl Fn() -> C,
) -> Result<()> {
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
        if !on_the_way {
            return Err(error);
        }
        check().await?;
        if tried >= CORRUPTED_MAX {
            return Err(error);
        }
        site.pause(tried, &error).await;
    }
}

/// Cuts what is missing into batches, several large files in turn.
fn batches(prepared: &Prepared, chunks: &[ChunkDigest]) -> Vec<Vec<ChunkDigest>> {
    let placed = chunks.iter().filter_map(|chunk| {
        let place = prepared.sources.place(chunk)?;
        Some((*chunk, place.source, u64::from(place.length)))
    });
    in_turn(placed, BATCH_BYTES, FILES_IN_TURN)
}

/// Batches of neighbours, of at most so many bytes; one that is filled by a single file is followed by those of other
/// files, `at_once` in turn, and a file's own stay in order. So a site that hashes files as they arrive works on
/// several, and waits for the beginning of none.
fn in_turn(
    chunks: impl Iterator<Item = (ChunkDigest, usize, u64)>,
    batch_bytes: u64,
    at_once: usize,
) -> Vec<Vec<ChunkDigest>> {
    // For each file, or several small ones together, its batches.
    let mut files: Vec<VecDeque<Vec<ChunkDigest>>> = Vec::new();
    let (mut file, mut bytes) = (None, 0);
    for (chunk, source, length) in chunks {
        let fits = bytes + length <= batch_bytes;
        match files
            .last_mut()
            .and_then(|batches| Some((batches.len(), batches.back_mut()?)))
        {
            // Small ones share a batch.
            Some((1, batch)) if fits => batch.push(chunk),
            Some((_, batch)) if fits && file == Some(source) => batch.push(chunk),
            _ => {
                bytes = 0;
                match files.last_mut().filter(|_| file == Some(source)) {
                    Some(batches) => batches.push_back(vec![chunk]),
                    None => files.push(VecDeque::from([vec![chunk]])),
                }
            }
        }
        bytes += length;
        file = Some(source);
    }
    let mut waiting = files.into_iter();
    let mut turns: VecDeque<_> = waiting.by_ref().take(at_once).collect();
    let mut batches = Vec::new();
    while let Some(mut file) = turns.pop_front() {
        match file.pop_front() {
            Some(batch) => {
                batches.push(batch);
                turns.push_back(file);
            }
            None => turns.extend(waiting.next()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(source: usize, number: u64) -> (ChunkDigest, usize, u64) {
        (
            ChunkDigest::of(format!("{source} {number}").as_bytes()),
            source,
            4,
        )
    }

    /// The batches as `source number`, in words.
    fn shown(files: &[u64], at_once: usize) -> Vec<String> {
        let chunks: Vec<_> = (0..)
            .zip(files)
            .flat_map(|(s, n)| (0..*n).map(move |c| chunk(s, c)))
            .collect();
        let name = |digest: &ChunkDigest| {
            let place = (0..).zip(files).flat_map(|(s, n)| (0..*n).map(move |c| (s, c)));
            let (source, number) = place
                .into_iter()
                .find(|(s, c)| chunk(*s, *c).0 == *digest)
                .unwrap();
            format!("{source}.{number}")
        };
        let batches = in_turn(chunks.into_iter(), 8, at_once);
        let shown = batches
            .iter()
            .map(|batch| batch.iter().map(name).collect::<Vec<_>>().join(" "));
        shown.collect()
    }

    #[test]
    fn large_files_are_sent_in_turn_and_each_in_order() {
        assert_eq!(
            shown(&[4, 3, 2], 2),
            ["0.0 0.1", "1.0 1.1", "0.2 0.3", "1.2", "2.0 2.1"]
        );
    }

    #[test]
    fn small_files_share_a_batch_and_nothing_is_left_out() {
        assert_eq!(shown(&[1, 1, 1], 8), ["0.0 1.0", "2.0"]);
        assert!(shown(&[], 8).is_empty());
        let all: usize = shown(&[7, 1, 5, 3, 1, 1, 9], 3)
            .iter()
            .map(|batch| batch.split(' ').count())
            .sum();
        assert_eq!(all, 27);
    }
}
