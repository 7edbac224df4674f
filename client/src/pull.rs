//! Pull: from a site's ledger to files on this disk, each byte checked before it is written.
//!
//! ```text
//! resolve -> prove -> recipes (checked against the signed digests) -> what is here already?
//!   -> fetch missing chunks (checked by BLAKE3) -> write in place -> fsync, rename -> keep the proof
//! ```
//! Budget: a chunk crosses the network once and is hashed once; memory is one chunk for each request under
//! way. A broken pull goes on where it stopped. Only files of the manifest are touched.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use waag_schema::base::name::{Reference, Version};
use waag_schema::content::{Frame, FrameDecoder, Recipe, StoredChunk};
use waag_schema::statement::Content;
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::{Code, Problem};
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256, Tag};

use crate::error::{ClientError, Result};
use crate::event::{Event, Phase};
use crate::kept::Kept;
use crate::proof::Proven;
use crate::read::{blocking, cores};
use crate::recipes::fetch_recipes;
use crate::site::Site;
use crate::target::{Slot, Target};

/// Chunks in one request, and their bytes: enough to hide a round trip, little to repeat.
const BATCH_CHUNKS: usize = 64;
const BATCH_BYTES: usize = 16 << 20;
/// Requests under way at once.
const FETCHES_AT_ONCE: usize = 4;
/// How often a request may bring nothing new before we give up.
const FRUITLESS_MAX: u32 = 5;

/// What shall be pulled, and where to.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Which release.
    pub reference: Reference,
    /// The directory to fill; it is made if it is not there.
    pub target: PathBuf,
    /// Take it even if its publisher has withdrawn it.
    pub withdrawn: bool,
}

/// What a pull has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// The artifact.
    pub name: ArtifactName,
    /// The tag that was asked for, if any.
    pub tag: Option<Tag>,
    /// The manifest's digest.
    pub digest: Sha256,
    /// How many files it has.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Bytes of chunks that came from the site, raw.
    pub received_bytes: u64,
    /// The same as they were encoded: what crossed the network.
    pub wire_bytes: u64,
    /// Bytes of the files that did not have to come.
    pub reused_bytes: u64,
    /// The ledger entry of the release.
    pub entry: u64,
    /// The fingerprints of the keys that signed it.
    pub signed_by: Vec<String>,
}

/// One distinct content, and the files that have it.
struct Part {
    digest: Sha256,
    paths: Vec<FilePath>,
    recipe: Recipe,
}

/// What has to come, and where it goes.
#[derive(Default)]
struct Missing {
    /// In the order of files; each chunk once, with a file that it is asked for through.
    order: Vec<(ChunkDigest, Sha256, usize)>,
    slots: HashMap<ChunkDigest, Vec<Slot>>,
}

/// What came of chunks.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    /// Raw bytes.
    bytes: u64,
    /// Bytes as they are stored, which is what crossed the network.
    wire_bytes: u64,
}

impl std::ops::Add for Received {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            wire_bytes: self.wire_bytes + other.wire_bytes,
        }
    }
}

/// Files that are being built: their names, and how many slots are empty.
type Building = Mutex<HashMap<Sha256, (Vec<FilePath>, usize)>>;

/// Pulls a release into a directory.
///
/// # Errors
/// When there is no such release for the caller, its proof does not hold, it was withdrawn, or a chunk is
/// not what was signed; what was built so far stays for the next attempt.
pub async fn pull(site: &Site, request: &PullRequest) -> Result<Pulled> {
    let Reference { artifact, version } = &request.reference;
    let (proven, proof) = site.resolve_raw(artifact, version).await?;
    if let Some(reason) = proven.withdrawn.as_ref().filter(|_| !request.withdrawn) {
        return Err(ClientError::Withdrawn {
            release: request.reference.to_string(),
            reason: reason.clone(),
        });
    }
    let parts = read_recipes(site, &proven).await?;
    let root = request.target.clone();
    let target = Arc::new(blocking(move || Target::open(&root)).await?);
    let (missing, building) = compare(site, &target, parts).await?;
    let lacking = missing
        .slots
        .values()
        .flatten()
        .map(|slot| slot.within.len() as u64)
        .sum::<u64>();
    let received = fetch(site, &target, artifact, missing, building).await?;
    let kept = Kept {
        site: site.pin().site.clone(),
        artifact: artifact.clone(),
        asked: version.clone(),
        manifest: proven.manifest.bytes().to_vec(),
        proof,
    };
    blocking(move || kept.write(target.root()).map(|()| target.tidy())).await?;
    let bytes = proven.manifest.total_size();
    Ok(Pulled {
        name: artifact.clone(),
        tag: match version {
            Version::Tag(tag) => Some(tag.clone()),
            Version::Manifest(_) => None,
        },
        digest: proven.manifest.digest(),
        files: proven.manifest.layers().len() as u64,
        bytes,
        received_bytes: received.bytes,
        wire_bytes: received.wire_bytes,
        reused_bytes: bytes.saturating_sub(lacking),
        entry: proven.entry,
        signed_by: proven.signed_by,
    })
}

/// Fetches the recipe of each distinct file, and checks it against the digest that the publisher signed.
async fn read_recipes(site: &Site, proven: &Proven) -> Result<Vec<Part>> {
    let mut paths: BTreeMap<Sha256, Vec<FilePath>> = BTreeMap::new();
    for layer in proven.manifest.layers() {
        paths
            .entry(layer.blob.digest)
            .or_default()
            .push(layer.path.clone());
    }
    let wanted: Vec<&Content> = paths.keys().filter_map(|file| proven.content(file)).collect();
    let recipes = fetch_recipes(site, proven, &wanted).await?;
    let parts = wanted.into_iter().zip(recipes).map(|(content, recipe)| Part {
        digest: content.sha256,
        paths: paths.get(&content.sha256).cloned().unwrap_or_default(),
        recipe,
    });
    let mut parts: Vec<Part> = parts.collect();
    // As the manifest has them, so that progress reads like the directory.
    parts.sort_by(|a, b| a.paths.cmp(&b.paths));
    Ok(parts)
}

fn shown(paths: &[FilePath]) -> String {
    let paths: Vec<&str> = paths.iter().map(FilePath::as_str).collect();
    paths.join(", ")
}

/// Finds what is here already, several files at once; what is complete gets its name.
async fn compare(site: &Site, target: &Arc<Target>, parts: Vec<Part>) -> Result<(Missing, Building)> {
    let progress = site.progress();
    progress(Event::Began {
        phase: Phase::Compare,
        items: parts.len() as u64,
        bytes: parts
            .iter()
            .map(|part| part.recipe.size())
            .fold(0, u64::saturating_add),
    });
    let compared: Vec<_> = stream::iter(parts)
        .map(|part| {
            let (target, progress) = (Arc::clone(target), Arc::clone(&progress));
            blocking(move || {
                let mut absent = Vec::new();
                let mut present = None;
                for path in &part.paths {
                    if target.holds(path, &part.recipe, &progress)? {
                        present = Some(path.clone());
                    } else {
                        absent.push(path.clone());
                    }
                }
                let lacking = match (&present, absent.first()) {
                    (Some(present), _) => {
                        target.copy_to(&part.digest, present, &absent)?;
                        Vec::new()
                    }
                    (None, None) => Vec::new(),
                    (None, Some(first)) => {
                        let lacking = target.begin(first, &part.digest, &part.recipe)?;
                        if lacking.is_empty() {
                            target.finish(&part.digest, &absent)?;
                        }
                        lacking
                    }
                };
                Ok::<_, ClientError>((part.digest, absent, lacking))
            })
        })
        .buffered(cores())
        .try_collect()
        .await?;
    progress(Event::Ended {
        phase: Phase::Compare,
    });
    let mut missing = Missing::default();
    let mut building = HashMap::new();
    for (digest, paths, lacking) in compared {
        if lacking.is_empty() {
            continue;
        }
        building.insert(digest, (paths, lacking.len()));
        for (chunk, slot) in lacking {
            let slots = missing.slots.entry(chunk).or_default();
            if slots.is_empty() {
                missing.order.push((chunk, digest, slot.within.end));
            }
            slots.push(slot);
        }
    }
    Ok((missing, Mutex::new(building)))
}

/// Fetches what is missing, a few batches at once.
async fn fetch(
    site: &Site,
    target: &Arc<Target>,
    artifact: &ArtifactName,
    missing: Missing,
    building: Building,
) -> Result<Received> {
    let progress = site.progress();
    progress(Event::Began {
        phase: Phase::Receive,
        items: missing.order.len() as u64,
        bytes: missing.order.iter().map(|(_, _, length)| *length as u64).sum(),
    });
    let batches = batches(&missing.order);
    let fetcher = Arc::new(Fetcher {
        site: site.clone(),
        target: Arc::clone(target),
        artifact: artifact.clone(),
        slots: missing.slots,
        building,
    });
    let received = stream::iter(batches)
        .map(|(file, chunks)| {
            let fetcher = Arc::clone(&fetcher);
            async move { fetcher.batch(file, chunks).await }
        })
        .buffer_unordered(FETCHES_AT_ONCE)
        .try_fold(Received::default(), async |sum, received| Ok(sum + received))
        .await?;
    progress(Event::Ended {
        phase: Phase::Receive,
    });
    Ok(received)
}

/// Neighbouring chunks of one file, bounded in number and bytes.
fn batches(order: &[(ChunkDigest, Sha256, usize)]) -> Vec<(Sha256, Vec<ChunkDigest>)> {
    let mut batches: Vec<(Sha256, Vec<ChunkDigest>)> = Vec::new();
    let mut bytes = 0;
    for (chunk, file, length) in order {
        match batches.last_mut() {
            Some((last, chunks))
                if last == file && chunks.len() < BATCH_CHUNKS && bytes + length <= BATCH_BYTES =>
            {
                chunks.push(*chunk);
                bytes += length;
            }
            _ => {
                batches.push((*file, vec![*chunk]));
                bytes = *length;
            }
        }
    }
    batches
}

struct Fetcher {
    site: Site,
    target: Arc<Target>,
    artifact: ArtifactName,
    slots: HashMap<ChunkDigest, Vec<Slot>>,
    building: Building,
}

impl Fetcher {
    /// Fetches one batch; a broken answer is taken up again at the first chunk that did not come.
    async fn batch(self: &Arc<Self>, file: Sha256, chunks: Vec<ChunkDigest>) -> Result<Received> {
        let mut request = ChunksRequest { file, chunks };
        let (mut received, mut fruitless) = (Received::default(), 0);
        loop {
            let before = request.chunks.len();
            let outcome = self.attempt(&mut request, &mut received).await;
            if request.chunks.is_empty() {
                return Ok(received);
            }
            let error = match outcome {
                Ok(()) => ClientError::Unreachable {
                    url: self.site.url().to_string(),
                    reason: format!("its answer ended {} chunks early", request.chunks.len()),
                },
                Err(error @ ClientError::Unreachable { .. }) => error,
                Err(error) => return Err(self.named(&file, error)),
            };
            fruitless = if request.chunks.len() < before {
                1
            } else {
                fruitless + 1
            };
            if fruitless >= FRUITLESS_MAX {
                return Err(error);
            }
            self.site.pause(fruitless, &error).await;
        }
    }

    /// Asks once, and takes what comes; what came is struck off the request.
    async fn attempt(self: &Arc<Self>, request: &mut ChunksRequest, received: &mut Received) -> Result<()> {
        let mut response = self.site.chunks(&self.artifact, request).await?;
        let mut decoder = FrameDecoder::new();
        let broken = |e: &dyn std::fmt::Display| ClientError::Unreachable {
            url: self.site.url().to_string(),
            reason: e.to_string(),
        };
        while let Some(bytes) = self.site.transport().next_bytes(&mut response).await? {
            let mut input = &bytes[..];
            while let Some(frame) = decoder.next_frame(&mut input).map_err(|e| broken(&e))? {
                let asked = request.chunks.iter().position(|chunk| *chunk == frame.chunk);
                let asked = asked.ok_or_else(|| ClientError::Answer {
                    url: self.site.url().to_string(),
                    reason: format!("the chunk {} came, which was not asked for", frame.chunk),
                })?;
                let fetcher = Arc::clone(self);
                *received = *received + blocking(move || fetcher.take(&frame)).await?;
                request.chunks.remove(asked);
            }
        }
        decoder.finish().map_err(|e| broken(&e))
    }

    /// Checks a chunk, writes it wherever it belongs, and names the files that are complete with it.
    fn take(&self, frame: &Frame) -> Result<Received> {
        let slots = self.slots.get(&frame.chunk).map_or(&[][..], Vec::as_slice);
        let refused = |e: &dyn std::fmt::Display| {
            let file = slots
                .first()
                .map(|slot| self.paths_of(&slot.file))
                .unwrap_or_default();
            ClientError::verification(shown(&file), format_args!("chunk {}: {e}", frame.chunk))
        };
        let stored = StoredChunk::parse(&frame.stored).map_err(|e| refused(&e))?;
        let raw = stored.verify(&frame.chunk).map_err(|e| refused(&e))?;
        let progress = self.site.progress();
        for slot in slots {
            self.target.write(&raw, slot)?;
            if let Some(paths) = self.strike(&slot.file) {
                self.target.finish(&slot.file, &paths)?;
                for path in paths {
                    progress(Event::Done {
                        phase: Phase::Receive,
                        path: path.to_string(),
                    });
                }
            }
        }
        progress(Event::Advanced {
            phase: Phase::Receive,
            bytes: raw.len() as u64,
        });
        Ok(Received {
            bytes: raw.len() as u64,
            wire_bytes: frame.stored.len() as u64,
        })
    }

    /// Counts one slot of a file as filled; returns its names when it was the last.
    fn strike(&self, file: &Sha256) -> Option<Vec<FilePath>> {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, left) = building.get_mut(file)?;
        *left -= 1;
        if *left > 0 {
            return None;
        }
        building.remove(file).map(|(paths, _)| paths)
    }

    fn paths_of(&self, file: &Sha256) -> Vec<FilePath> {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        building
            .get(file)
            .map(|(paths, _)| paths.clone())
            .unwrap_or_default()
    }

    /// A site that finds its own copy damaged is an error about the file, not about the request.
    fn named(&self, file: &Sha256, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused(Problem {
                code: Code::Damaged,
                message,
                ..
            }) => ClientError::verification(shown(&self.paths_of(file)), message),
            error => error,
        }
    }
}
