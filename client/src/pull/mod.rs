//! Pull: from a site's ledger to files on this disk, each byte checked before it is written.
//!
//! ```text
//! resolve -> prove -> choose files -> recipes (checked against the signed digests) -> outputs (paths and
//! segments) -> survey: what is in place? -> find the rest on this disk
//!   -> copy what was found, fetch what was not (checked by BLAKE3) -> build in place -> make durable, rename
//!   -> keep the proof
//! ```
//! Budget: a chunk crosses the network once and is hashed once; memory is one chunk for each request under
//! way. A broken pull goes on where it stopped. Only files of the manifest are touched, and of those none that
//! a person has changed, unless somebody insists; a pull of a whole release removes what an earlier one of the same
//! artifact has left, unless it was changed. Everything up to the copying only looks: a dry run ends there.

mod build;
mod claim;
mod fetch;
mod local;
mod output;
mod plan;
mod prepare;
mod selection;
mod survey;
mod target;
mod tensors;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use waag_schema::base::name::{Reference, Version};
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256, Tag};

use self::claim::Stale;
use self::fetch::{Fetcher, Lacking};
use self::prepare::{Prepared, prepare};
use self::target::Target;
use crate::cache::ChunkCache;
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase};
use crate::kept::{Kept, KeptFile, Made, begin_journal, write_list};
use crate::pace::Moved;
use crate::read::{blocking, cores};
use crate::site::Site;
use crate::witnessed::{Quorum, WitnessedBy};

pub use self::plan::{PullPlan, Reused};
pub use self::selection::{PatternError, Selection, TensorPattern};

/// Chunks that are taken from the cache in one go.
const CACHED_AT_ONCE: usize = 64;

/// What shall be pulled, and where to.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Which release.
    pub reference: Reference,
    /// The directory to fill; it is made if it is not there.
    pub target: PathBuf,
    /// Take it even if its publisher has withdrawn it.
    pub withdrawn: bool,
    /// Which part of it.
    pub selection: Selection,
    /// Directories whose files may hold bytes of it.
    pub reuse: Vec<PathBuf>,
    /// The cache of chunks, if one is to be used.
    pub cache: Option<ChunkCache>,
    /// Fill the directory whatever it holds, and replace files that were changed.
    pub force: bool,
    /// In how many other jurisdictions the ledger must be cosigned, if it must.
    pub witnessed: Option<Quorum>,
}

impl PullRequest {
    /// Asks for all of a release, into this directory, with nothing but the site to take it from.
    #[must_use]
    pub fn new(reference: Reference, target: impl Into<PathBuf>) -> Self {
        Self {
            reference,
            target: target.into(),
            withdrawn: false,
            selection: Selection::default(),
            reuse: Vec::new(),
            cache: None,
            force: false,
            witnessed: None,
        }
    }
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
    /// How many files were asked for.
    pub files: u64,
    /// How many files the release has.
    pub release_files: u64,
    /// The bytes of the files together.
    pub bytes: u64,
    /// Bytes of chunks that came from the site, raw.
    pub received_bytes: u64,
    /// The same as they were encoded: what crossed the network.
    pub wire_bytes: u64,
    /// Bytes of the files that did not have to come.
    pub reused_bytes: u64,
    /// How many files of earlier pulls were removed, because the release has them no more.
    pub removed_files: u64,
    /// Those that are there still, because they were changed since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<FilePath>,
    /// The ledger entry of the release.
    pub entry: u64,
    /// The fingerprints of the keys that signed it.
    pub signed_by: Vec<String>,
    /// Who has cosigned the ledger, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub witnessed_by: Vec<WitnessedBy>,
}

/// Pulls a release into a directory.
///
/// # Errors
/// When there is no such release for the caller, its proof does not hold, it was withdrawn, a chunk is not
/// what was signed, or files would be replaced that no pull has put there; what was built so far stays for
/// the next attempt.
pub async fn pull(site: &Site, request: &PullRequest) -> Result<Pulled> {
    let prepared = prepare(site, request, Target::open).await?;
    let (proven, wanted) = (prepared.proven.clone(), Arc::clone(&prepared.wanted));
    let release_files = prepared.listing.files.len() as u64;
    let (bytes, lacking_bytes) = (wanted.bytes(), prepared.builder.lacking_bytes());
    let witnessed_by = prepared.witnesses.1.clone();
    let (copied_bytes, received, stale) = prepared.execute().await?;
    Ok(Pulled {
        name: request.reference.artifact.clone(),
        tag: tag_of(&request.reference),
        digest: proven.manifest.digest(),
        files: wanted.files(),
        release_files,
        bytes,
        received_bytes: received.bytes,
        wire_bytes: received.wire_bytes,
        reused_bytes: bytes.saturating_sub(lacking_bytes) + copied_bytes,
        removed_files: stale.ours.len() as u64,
        changed_files: stale.changed,
        entry: proven.entry,
        signed_by: proven.signed_by,
        witnessed_by,
    })
}

/// Says what a pull would do. Nothing is written.
///
/// # Errors
/// As for [`pull`], as far as can be seen beforehand.
pub async fn plan(site: &Site, request: &PullRequest) -> Result<PullPlan> {
    let prepared = prepare(site, request, Target::look).await?;
    blocking(move || Ok(PullPlan::of(&prepared, prepared.stale()?))).await
}

fn tag_of(reference: &Reference) -> Option<Tag> {
    match &reference.version {
        Version::Tag(tag) => Some(tag.clone()),
        Version::Manifest(_) => None,
    }
}

impl Prepared {
    /// Returns what earlier pulls have left that the release has not. A part of one takes nothing's place.
    fn stale(&self) -> Result<Stale> {
        let made = self.wanted.outputs.iter().any(|output| output.from.is_some());
        if made || self.wanted.files() != self.listing.files.len() as u64 {
            return Ok(Stale::default());
        }
        let artifact = &self.request.reference.artifact;
        self.claim.stale(&self.target, artifact, &self.listing.files)
    }

    /// Brings what is lacking to where it belongs, removes what is stale, and keeps the proof; returns how many bytes
    /// came from this disk, what from the site, and what was stale.
    async fn execute(mut self) -> Result<(u64, Moved, Stale)> {
        // Each chunk once: what repeats may be a hole. Whoever insists knows of a disk that compresses.
        if !self.request.force {
            let own = |one: &Lacking| self.builder.wanted_bytes(std::iter::once(&one.chunk));
            let needed = self.lacking.iter().map(|one| own(one).min(one.length.into()));
            let needed = needed.fold(0, u64::saturating_add);
            self.target.check_room(needed)?;
        }
        let (builder, reference) = (Arc::clone(&self.builder), self.request.reference.clone());
        let target = Arc::clone(&self.target);
        blocking(move || {
            begin_journal(target.root(), &reference)?;
            builder.begin()
        })
        .await?;
        let mut here = std::mem::take(&mut self.local).copy(&self.builder).await?;
        self.lacking.retain(|one| !here.contains(&one.chunk));
        let cached = self.take_cached().await?;
        self.lacking.retain(|one| !cached.contains(&one.chunk));
        here.extend(cached);
        let builder = Arc::clone(&self.builder);
        blocking(move || builder.settle()).await?;
        let received = self.headers + self.fetch().await?;
        let copied_bytes = self.builder.wanted_bytes(here.iter());
        let stale = blocking(move || self.keep()).await?;
        Ok((copied_bytes, received, stale))
    }

    /// Takes chunks from the cache; returns those that it had.
    async fn take_cached(&self) -> Result<HashSet<ChunkDigest>> {
        let Some(cache) = &self.request.cache else {
            return Ok(HashSet::new());
        };
        let there = self.lacking.iter().map(|one| one.chunk);
        let there: Vec<ChunkDigest> = there.filter(|chunk| self.cached.contains(chunk)).collect();
        let groups: Vec<Vec<ChunkDigest>> = there.chunks(CACHED_AT_ONCE).map(<[_]>::to_vec).collect();
        let taken: Vec<Vec<ChunkDigest>> = stream::iter(groups)
            .map(|group| {
                let (cache, builder) = (cache.clone(), Arc::clone(&self.builder));
                blocking(move || {
                    let mut taken = Vec::with_capacity(group.len());
                    for chunk in group {
                        if let Some(raw) = cache.get(&chunk) {
                            builder.take(&chunk, &raw)?;
                            taken.push(chunk);
                        }
                    }
                    Ok::<_, ClientError>(taken)
                })
            })
            .buffer_unordered(cores())
            .try_collect()
            .await?;
        Ok(taken.into_iter().flatten().collect())
    }

    async fn fetch(&self) -> Result<Moved> {
        let progress = self.site.progress();
        let bytes = self.lacking.iter().map(|one| u64::from(one.length)).sum();
        progress(Event::Began {
            phase: Phase::Receive,
            items: self.lacking.len() as u64,
            bytes,
        });
        // What would fill the cache for one pull alone is not kept in it.
        let cache = self.request.cache.clone().filter(|cache| cache.takes(bytes));
        let (builder, naming, keeping) = (
            Arc::clone(&self.builder),
            Arc::clone(&self.builder),
            cache.clone(),
        );
        let fetcher = Fetcher {
            site: self.site.clone(),
            artifact: self.request.reference.artifact.clone(),
            take: Arc::new(move |chunk, raw| {
                builder.take(chunk, raw)?;
                builder.advanced(raw.len());
                if let Some(cache) = &keeping {
                    cache.put(chunk, raw);
                }
                Ok(())
            }),
            naming: Arc::new(move |file| naming.shown(file)),
        };
        let fetched = fetcher.fetch(&self.lacking).await;
        // Also when it was broken off: what is complete gets its name.
        let builder = Arc::clone(&self.builder);
        let settled = blocking(move || {
            if let Some(cache) = cache {
                cache.fit();
            }
            builder.settle()
        })
        .await;
        let received = fetched?;
        settled?;
        progress(Event::Ended {
            phase: Phase::Receive,
        });
        Ok(received)
    }

    /// Removes what is stale, and keeps the proof beside the files. In this order: after the proof, nobody knows any
    /// more whose files they were.
    fn keep(self) -> Result<Stale> {
        let stale = self.stale()?;
        stale.ours.iter().try_for_each(|path| self.target.remove(path))?;
        let partial = self.partial()?;
        let Reference { artifact, version } = &self.request.reference;
        let kept = Kept {
            // Its home, which need not be the site that it came from.
            site: self.proven.checkpoint.checkpoint().origin.site().clone(),
            artifact: artifact.clone(),
            asked: version.clone(),
            manifest: self.proven.manifest.bytes().to_vec(),
            proof: self.proof,
            partial,
            witnesses: self.witnesses.0,
        };
        // The list before the proof that needs it.
        if let Some(list) = &self.listing.list {
            write_list(self.target.root(), list)?;
        }
        kept.write(self.target.root())?;
        self.target.tidy();
        Ok(stale)
    }

    /// Returns the files that are there, if these are not all files of the release: those of this pull, and
    /// those that an earlier one of the same release has left.
    fn partial(&self) -> Result<Option<Vec<KeptFile>>> {
        let mut files: BTreeMap<FilePath, Option<Made>> = BTreeMap::new();
        for (index, output) in self.wanted.outputs.iter().enumerate() {
            let made = match (output.from, output.paths.first()) {
                (Some(from), Some(path)) => Some(Made {
                    from,
                    key: output.key,
                    sha256: self.builder.digest(index, &self.target.place(path)?)?,
                    size: output.size(),
                }),
                _ => None,
            };
            files.extend(output.paths.iter().map(|path| (path.clone(), made.clone())));
        }
        let (manifest, release) = (&self.proven.manifest, &self.listing.files);
        if let Some(kept) = self
            .claim
            .kept
            .as_ref()
            .filter(|kept| kept.manifest == manifest.bytes())
        {
            let all = || {
                let whole = |path: &FilePath| KeptFile {
                    path: path.clone(),
                    made: None,
                };
                release.iter().map(|file| whole(&file.path)).collect()
            };
            for KeptFile { path, made } in kept.partial.clone().unwrap_or_else(all) {
                if !files.contains_key(&path) && self.target.place(&path)?.is_file() {
                    files.insert(path, made);
                }
            }
        }
        let whole = files.values().all(Option::is_none) && files.len() == release.len();
        let listed = files.into_iter().map(|(path, made)| KeptFile { path, made });
        Ok((!whole).then(|| listed.collect()))
    }
}
