//! Pull: from a site's ledger to files on this disk, each byte checked before it is written.
//!
//! ```text
//! resolve -> prove -> recipes (checked against the signed digests) -> outputs (paths and segments)
//!   -> survey: what is here already? -> fetch missing chunks (checked by BLAKE3) -> build in place
//!   -> make durable, rename -> keep the proof
//! ```
//! Budget: a chunk crosses the network once and is hashed once; memory is one chunk for each request under
//! way. A broken pull goes on where it stopped. Only files of the manifest are touched.

mod build;
mod fetch;
mod local;
mod output;
mod survey;
mod target;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use waag_schema::base::name::{Reference, Version};
use waag_schema::{ArtifactName, Sha256, Tag};

use self::build::Builder;
use self::fetch::{Fetcher, Lacking};
use self::local::{Candidate, Local};
use self::output::{Content, Output, Wanted};
use self::survey::survey;
use self::target::Target;
use crate::error::{ClientError, Result};
use crate::event::{Event, Phase};
use crate::kept::{Kept, write_list};
use crate::listing::{Listing, fetch_listing};
use crate::proof::Proven;
use crate::read::blocking;
use crate::recipes::fetch_recipes;
use crate::site::Site;

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
    /// Bytes that came from the site.
    pub received_bytes: u64,
    /// Bytes of the files that did not have to come.
    pub reused_bytes: u64,
    /// The ledger entry of the release.
    pub entry: u64,
    /// The fingerprints of the keys that signed it.
    pub signed_by: Vec<String>,
}

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
    let listing = fetch_listing(site, &proven).await?;
    let wanted = Arc::new(whole_files(site, &proven, &listing).await?);
    let root = request.target.clone();
    let target = Arc::new(blocking(move || Target::open(&root)).await?);
    let progress = site.progress();
    let standings = survey(&target, &wanted, &progress).await?;
    let (builder, lacking) = Builder::new(Arc::clone(&target), Arc::clone(&wanted), standings, progress);
    let lacking_bytes = builder.lacking_bytes();
    let filling = Filling {
        site,
        artifact,
        target: Arc::clone(&target),
        wanted: Arc::clone(&wanted),
        builder: Arc::new(builder),
    };
    let (copied_bytes, received_bytes) = filling.fill(lacking).await?;
    let kept = Kept {
        site: site.pin().site.clone(),
        artifact: artifact.clone(),
        asked: version.clone(),
        manifest: proven.manifest.bytes().to_vec(),
        proof,
    };
    blocking(move || {
        if let Some(list) = &listing.list {
            write_list(target.root(), list)?;
        }
        kept.write(target.root()).map(|()| target.tidy())
    })
    .await?;
    let bytes = wanted.bytes();
    Ok(Pulled {
        name: artifact.clone(),
        tag: match version {
            Version::Tag(tag) => Some(tag.clone()),
            Version::Manifest(_) => None,
        },
        digest: proven.manifest.digest(),
        files: wanted.files(),
        bytes,
        received_bytes,
        reused_bytes: bytes.saturating_sub(lacking_bytes) + copied_bytes,
        entry: proven.entry,
        signed_by: proven.signed_by,
    })
}

/// Returns the files of a release as outputs, one for each distinct content: a layer, or its part of a tar.
async fn whole_files(site: &Site, proven: &Proven, listing: &Listing) -> Result<Wanted> {
    let signed = listing.layers(proven);
    let recipes = fetch_recipes(site, proven, &signed).await?;
    let mut wanted = Wanted::default();
    for (signed, recipe) in signed.iter().zip(recipes) {
        wanted.contents.push(Content {
            sha256: signed.sha256,
            recipe,
        });
    }
    let place_of = |layer: &Sha256| signed.binary_search_by_key(layer, |content| content.sha256);
    let mut known: HashMap<Sha256, usize> = HashMap::new();
    for file in &listing.files {
        if let Some(output) = known.get(&file.sha256) {
            wanted.outputs[*output].paths.push(file.path.clone());
            continue;
        }
        let (layer, offset) = listing.files.locate(file);
        // The proof has shown that every layer of the manifest was signed.
        let content = place_of(&layer).map_err(|_| {
            ClientError::verification(&file.path, format_args!("its layer {layer} was not signed"))
        })?;
        let range = offset..offset + file.size;
        known.insert(file.sha256, wanted.outputs.len());
        wanted.outputs.push(Output::signed(
            file.sha256,
            vec![file.path.clone()],
            content,
            range,
        ));
    }
    Ok(wanted)
}

/// Outputs that lack something, and where it may come from.
struct Filling<'a> {
    site: &'a Site,
    artifact: &'a ArtifactName,
    target: Arc<Target>,
    wanted: Arc<Wanted>,
    builder: Arc<Builder>,
}

impl Filling<'_> {
    /// Brings what is lacking to where it belongs; returns how many bytes came from this disk, and how many
    /// from the site.
    async fn fill(&self, mut lacking: Vec<Lacking>) -> Result<(u64, u64)> {
        let progress = self.site.progress();
        let builder = Arc::clone(&self.builder);
        blocking(move || builder.begin()).await?;
        let mut copied_bytes = 0;
        if !lacking.is_empty() {
            let local = Local::find(
                &self.target,
                &self.wanted,
                self.earlier()?,
                &self.builder,
                &progress,
            )
            .await?;
            let copied = local.copy(&self.builder).await?;
            copied_bytes = self.builder.wanted_bytes(copied.keys());
            lacking.retain(|one| !copied.contains_key(&one.chunk));
        }
        let builder = Arc::clone(&self.builder);
        blocking(move || builder.settle()).await?;
        progress(Event::Began {
            phase: Phase::Receive,
            items: lacking.len() as u64,
            bytes: lacking.iter().map(|one| u64::from(one.length)).sum(),
        });
        let fetched = self.fetcher().fetch(&lacking).await;
        // Also when it was broken off: what is complete gets its name.
        let builder = Arc::clone(&self.builder);
        let settled = blocking(move || builder.settle()).await;
        let received_bytes = fetched?;
        settled?;
        progress(Event::Ended {
            phase: Phase::Receive,
        });
        Ok((copied_bytes, received_bytes))
    }

    /// Returns the files that will be replaced: most of an earlier version is often in the next.
    fn earlier(&self) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for path in self.builder.to_write() {
            let local = self.target.place(path)?;
            if local.is_file() {
                found.push(Candidate { local });
            }
        }
        Ok(found)
    }

    fn fetcher(&self) -> Fetcher {
        let (take, naming) = (Arc::clone(&self.builder), Arc::clone(&self.builder));
        Fetcher {
            site: self.site.clone(),
            artifact: self.artifact.clone(),
            take: Arc::new(move |chunk, raw| {
                take.take(chunk, raw)?;
                take.advanced(raw.len());
                Ok(())
            }),
            naming: Arc::new(move |file| naming.shown(file)),
        }
    }
}
