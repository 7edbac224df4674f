//! What a pull will do, known whole before anything is done: what is wanted, what is here, what is lacking.
//!
//! Nothing is written here but the directory itself.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waag_schema::base::name::Reference;
use waag_schema::release::Files;
use waag_schema::release::files::File;
use waag_schema::statement::Content as Signed;
use waag_schema::wire::artifact::Proof;
use waag_schema::{ChunkDigest, Sha256};

use super::PullRequest;
use super::build::Builder;
use super::claim::Claim;
use super::fetch::Lacking;
use super::local::{Candidate, Local, Why, files_of};
use super::output::{Content, Output, Wanted};
use super::survey::survey;
use super::target::Target;
use super::tensors;
use crate::error::{ClientError, Result};
use crate::listing::{Listing, fetch_listing};
use crate::pace::Moved;
use crate::proof::Proven;
use crate::read::blocking;
use crate::recipes::fetch_recipes;
use crate::site::Site;
use crate::witnessed::{Line, WitnessedBy};

/// Paths in a message.
const SHOWN_MAX: usize = 8;

/// A pull of which everything is known and nothing is done.
pub(super) struct Prepared {
    pub(super) site: Site,
    pub(super) request: PullRequest,
    pub(super) proven: Proven,
    pub(super) proof: Proof,
    pub(super) witnesses: (Vec<Line>, Vec<WitnessedBy>),
    pub(super) listing: Listing,
    pub(super) claim: Arc<Claim>,
    pub(super) target: Arc<Target>,
    pub(super) wanted: Arc<Wanted>,
    pub(super) builder: Arc<Builder>,
    /// What the outputs lack, wherever it will come from.
    pub(super) lacking: Vec<Lacking>,
    /// What came already, to know which tensors there are.
    pub(super) headers: Moved,
    pub(super) local: Local,
    pub(super) cached: HashSet<ChunkDigest>,
}

pub(super) async fn prepare(
    site: &Site,
    request: &PullRequest,
    open: fn(&Path) -> Result<Target>,
) -> Result<Prepared> {
    let Reference { artifact, version } = &request.reference;
    // Also where nothing will be lacking: a name that is mistyped shall always be seen.
    let named = request.reuse.clone();
    let look = |dir: &PathBuf| fs::read_dir(dir).map(drop).map_err(ClientError::io("list", dir));
    blocking(move || named.iter().try_for_each(look)).await?;
    let (proven, proof) = site.resolve_raw(artifact, version).await?;
    if let Some(reason) = proven.withdrawn.as_ref().filter(|_| !request.withdrawn) {
        return Err(ClientError::Withdrawn {
            release: request.reference.to_string(),
            reason: reason.clone(),
        });
    }
    let mut witnesses = match request.witnessed {
        Some(quorum) => {
            site.home_of(&proven.checkpoint)?
                .witnessed(&proven, quorum)
                .await?
        }
        None => (Vec::new(), Vec::new()),
    };
    let (root, name, force) = (request.target.clone(), artifact.clone(), request.force);
    let claim = Arc::new(blocking(move || Claim::of(&root, &name, force)).await?);
    // What witnesses said when they were asked stays beside the same release.
    if let (None, Some(kept)) = (request.witnessed, &claim.kept)
        && kept.manifest == proven.manifest.bytes()
    {
        let home = site.home_of(&proven.checkpoint)?;
        witnesses.0 = home.again(&proven, &kept.witnesses).await?;
    }
    let listing = fetch_listing(site, &proven).await?;
    let mut wanted = whole_files(site, &proven, &listing, request).await?;
    let mut headers = Moved::default();
    if let Some(pattern) = &request.selection.tensors {
        (wanted, headers) = tensors::choose(site, artifact, wanted, pattern, request.cache.as_ref()).await?;
    }
    know_again(&mut wanted, &claim);
    let wanted = Arc::new(wanted);
    let root = request.target.clone();
    let target = Arc::new(blocking(move || open(&root)).await?);
    let progress = site.progress();
    let standings = survey(&target, &wanted, &progress).await?;
    let (builder, lacking) = Builder::new(Arc::clone(&target), Arc::clone(&wanted), standings, progress);
    let builder = Arc::new(builder);
    if !request.force {
        let (claim, target, builder) = (Arc::clone(&claim), Arc::clone(&target), Arc::clone(&builder));
        blocking(move || claim.check(&target, builder.to_write())).await?;
    }
    let mut prepared = Prepared {
        site: site.clone(),
        request: request.clone(),
        proven,
        proof,
        witnesses,
        listing,
        claim,
        target,
        wanted,
        builder,
        lacking,
        headers,
        local: Local::default(),
        cached: HashSet::new(),
    };
    if !prepared.lacking.is_empty() {
        prepared.search().await?;
    }
    Ok(prepared)
}

/// What an earlier pull made of the same segments had this digest.
fn know_again(wanted: &mut Wanted, claim: &Claim) {
    let files = claim.kept.iter().filter_map(|kept| kept.partial.as_ref());
    let made = files.flatten().filter_map(|file| file.made.as_ref());
    let known: HashMap<Sha256, Sha256> = made.map(|made| (made.key, made.sha256)).collect();
    for output in &mut wanted.outputs {
        if output.digest.is_none() {
            output.digest = known.get(&output.key).copied();
        }
    }
}

/// Returns the files of a release that were chosen as outputs, one for each distinct content: a layer, or its part
/// of a tar.
async fn whole_files(
    site: &Site,
    proven: &Proven,
    listing: &Listing,
    request: &PullRequest,
) -> Result<Wanted> {
    let chosen = request.selection.files();
    let files: Vec<&File> = listing.files.iter().filter(|file| chosen(&file.path)).collect();
    if files.is_empty() {
        return Err(nothing_chosen(&listing.files, request));
    }
    let layers: HashSet<Sha256> = files.iter().map(|file| listing.files.locate(file).0).collect();
    let signed = proven.release.content.iter();
    let signed: Vec<&Signed> = signed
        .filter(|content| layers.contains(&content.sha256))
        .collect();
    let recipes = fetch_recipes(site, proven, &signed).await?;
    let mut wanted = Wanted::default();
    let mut place_of = HashMap::with_capacity(signed.len());
    for (signed, recipe) in signed.iter().zip(recipes) {
        place_of.insert(signed.sha256, wanted.contents.len());
        wanted.contents.push(Content {
            sha256: signed.sha256,
            recipe,
        });
    }
    let mut known: HashMap<Sha256, usize> = HashMap::new();
    for file in files {
        let path = file.path.clone();
        if let Some(output) = known.get(&file.sha256) {
            wanted.outputs[*output].paths.push(path);
            continue;
        }
        let (layer, offset) = listing.files.locate(file);
        // The proof has shown that every layer of the manifest was signed.
        let content = place_of.get(&layer).ok_or_else(|| {
            ClientError::verification(&path, format_args!("its layer {layer} was not signed"))
        })?;
        let range = offset..offset + file.size;
        known.insert(file.sha256, wanted.outputs.len());
        wanted
            .outputs
            .push(Output::signed(file.sha256, vec![path], *content, range));
    }
    Ok(wanted)
}

fn nothing_chosen(files: &Files, request: &PullRequest) -> ClientError {
    let shown: Vec<&str> = files
        .iter()
        .take(SHOWN_MAX)
        .map(|file| file.path.as_str())
        .collect();
    let more = if files.len() > shown.len() { ", ..." } else { "" };
    ClientError::Absent(format!(
        "no file of {} is chosen by {}; it has {}{more}",
        request.reference,
        request.selection.shown(),
        shown.join(", ")
    ))
}

impl Prepared {
    /// Looks for what is lacking on this disk.
    pub(super) async fn search(&mut self) -> Result<()> {
        let mut candidates = self.earlier()?;
        for directory in self.request.reuse.clone() {
            candidates.extend(blocking(move || files_of(&directory)).await?);
        }
        let progress = self.site.progress();
        self.local = Local::find(&self.target, &self.wanted, candidates, &self.builder, &progress).await?;
        if let Some(cache) = self.request.cache.clone() {
            let chunks: Vec<ChunkDigest> = self.lacking.iter().map(|one| one.chunk).collect();
            let cached = move || chunks.into_iter().filter(|chunk| cache.has(chunk)).collect();
            self.cached = blocking(cached).await;
        }
        Ok(())
    }

    /// Returns the files that will be replaced: most of an earlier version is often in the next.
    fn earlier(&self) -> Result<Vec<Candidate>> {
        let mut found = Vec::new();
        for path in self.builder.to_write() {
            let local = self.target.place(path)?;
            if local.is_file() {
                found.push(Candidate {
                    local,
                    why: Why::Target,
                });
            }
        }
        found.sort_by(|a, b| a.local.cmp(&b.local));
        Ok(found)
    }
}
