//! Writing a bundle: this site's ledger and releases of its own, as the destination would be answered.
//!
//! What an earlier bundle has, byte for byte, is left out. The file gets its name when it is whole and durable.
//!
//! Memory: a record for each object, 77 bytes, and one batch of chunks.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::content::Recipe;
use waag_schema::federation::bundle::{
    BundleError, COVER_MAX, Carried, Cover, NameBytes, OBJECT_MAX, OBJECTS_MAX, ObjectName, RECORD_BYTES,
    Record, TRAILER_BYTES, Trailer, magic,
};
use waag_schema::ledger::tile::LEVEL_MAX;
use waag_schema::ledger::{SignedCheckpoint, TileKind, TilePath};
use waag_schema::policy::{Action, decide};
use waag_schema::statement::Visibility;
use waag_schema::wire::artifact::{ChunksRequest, ReleaseView};
use waag_schema::{ArtifactName, ChunkDigest, Reference, SiteId};

use super::file::io_error;
use super::{BundleFile, CarryError};
use crate::federation::local::LocalPeer;
use crate::federation::mirror::release_in;
use crate::federation::peer::{Peer, PeerError, PeerSite};
use crate::ledger::AppendError;
use crate::site::Site;

/// Chunks that are read together, and the bytes that they have at most.
const BATCH_CHUNKS: usize = 16;
/// How old the last signed time may be before the ledger says it anew: a copy counts as heard from then.
const RENEWED_AFTER_SECONDS: u64 = 3600;
/// The most details of scorecards that travel with a release.
const SCORECARDS_MAX: usize = u16::MAX as usize;

/// What is to be carried.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// For whom.
    pub destination: PeerSite,
    /// Which releases; none: all that may go there.
    pub chosen: Option<Vec<Reference>>,
    /// A bundle that the destination has taken in: what it has is left out.
    pub since: Option<PathBuf>,
    /// Where to.
    pub out: PathBuf,
}

/// A release that may not go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The release.
    pub release: Carried,
    /// The verdict.
    pub reason: String,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What the bundle says of itself.
    pub site: SiteId,
    /// Entries of the ledger, in the series that goes on.
    pub entries: u64,
    /// The releases.
    pub releases: Vec<Carried>,
    /// Those that labels keep from there.
    pub left_out: Vec<LeftOut>,
    /// How many objects were written.
    pub objects: u64,
    /// How many an earlier bundle has.
    pub known: u64,
    /// How large the file is.
    pub bytes: u64,
}

/// Writes a bundle of an open site.
///
/// # Errors
/// When a release that was named may not go there or is not here, or the file cannot be written; then there is none.
pub async fn export(site: &Arc<Site>, request: &ExportRequest) -> Result<Exported, CarryError> {
    site.renew_revocations(RENEWED_AFTER_SECONDS).await?;
    let (base, known) = match &request.since {
        Some(path) => {
            let bundle = BundleFile::open(path).await?;
            let (sender, known) = std::sync::mpsc::channel();
            bundle
                .contents(move |record| {
                    // Who receives is here as long as this goes on.
                    let _ = sender.send((record.name.encode(), record.hash));
                })
                .await?;
            (Some(bundle.hash()), known.into_iter().collect())
        }
        None => (None, HashMap::new()),
    };
    let (chosen, left_out) = choose(site, request).await?;
    let mut out = Out::create(&request.out, known)?;
    let peer = LocalPeer::new(site, request.destination.here());
    let newest = site.ledger().checkpoint();
    let checkpoints = ledger(site, &peer, &newest, &mut out).await?;
    for (artifact, view) in &chosen {
        release(site, &peer, (artifact, view), &mut out).await?;
    }
    let releases: Vec<Carried> = chosen
        .into_iter()
        .map(|(artifact, view)| Carried {
            artifact,
            manifest: view.manifest,
        })
        .collect();
    let cover = Cover {
        site: site.id().clone(),
        destination: request.destination.id.clone(),
        charters: charters(site).await?,
        checkpoints,
        site_key: site.ledger().site_key().unwrap_or_default().to_owned(),
        releases,
        base,
    };
    let (objects, known) = (out.records.len() as u64, out.left);
    let bytes = out.finish(&cover, &request.out)?;
    Ok(Exported {
        site: cover.site,
        entries: newest.checkpoint().size,
        releases: cover.releases,
        left_out,
        objects,
        known,
        bytes,
    })
}

/// Returns the charters that the site has gone by.
async fn charters(site: &Arc<Site>) -> Result<Vec<waag_schema::base::bytes::Base64>, CarryError> {
    let Some(newest) = site.here().adopted.charter() else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for version in 1..=newest.version() {
        match site.charters().version(version).await {
            Ok(view) => all.push(view.charter),
            // A site that joined later has not the first ones.
            Err(crate::federation::FederationError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// Which releases go, and which labels keep here.
async fn choose(
    site: &Arc<Site>,
    request: &ExportRequest,
) -> Result<(Vec<(ArtifactName, ReleaseView)>, Vec<LeftOut>), CarryError> {
    let mut candidates = Vec::new();
    match &request.chosen {
        None => {
            let all = site.reader().ask(|q| q.all_releases()).await?;
            candidates.extend(all.into_iter().filter(|(_, view)| view.withdrawn.is_none()));
        }
        Some(references) => {
            for reference in references {
                let (artifact, version) = (reference.artifact.clone(), reference.version.clone());
                let found = site.reader().ask(move |q| {
                    let manifest = match &version {
                        Version::Manifest(manifest) => Some(*manifest),
                        Version::Tag(tag) => q.tag(&artifact, tag)?.map(|tag| tag.manifest),
                    };
                    match manifest {
                        Some(manifest) => q.release(&artifact, &manifest),
                        None => Ok(None),
                    }
                });
                let view = found.await?.filter(|view| view.withdrawn.is_none());
                let view = view.ok_or_else(|| CarryError::NotFound(format!("release {reference}")))?;
                let one = (reference.artifact.clone(), view);
                if !candidates.contains(&one) {
                    candidates.push(one);
                }
            }
        }
    }
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for (artifact, view) in candidates {
        match denial(site, &request.destination, &artifact, &view).await? {
            None => chosen.push((artifact, view)),
            Some(reason) if request.chosen.is_some() => {
                return Err(CarryError::Denied { artifact, reason });
            }
            Some(reason) => left_out.push(LeftOut {
                release: Carried {
                    artifact,
                    manifest: view.manifest,
                },
                reason,
            }),
        }
    }
    Ok((chosen, left_out))
}

/// Why a release may not go there, if so: it may be neither held there nor served to it.
async fn denial(
    site: &Arc<Site>,
    destination: &PeerSite,
    artifact: &ArtifactName,
    view: &ReleaseView,
) -> Result<Option<String>, CarryError> {
    let name = artifact.clone();
    let labels = site.reader().ask(move |q| q.labels(&name)).await?;
    let labels: Vec<_> = labels.into_iter().map(|row| row.label).collect();
    let renewed = site.reader().ask(|q| q.newest("revocation-list")).await?;
    let at = renewed.map_or(view.at, |list| list.at);
    let facts = site.here().facts(site.id(), at);
    let verdict = decide(&labels, &facts, Action::Hold, &destination.here().place());
    if !verdict.allowed {
        return Ok(Some(verdict.to_string()));
    }
    let namespace = artifact.namespace();
    let state = site.reader().ask(move |q| q.namespace(&namespace)).await?;
    if state.is_some_and(|state| state.visibility == Visibility::Private) {
        return Ok(Some(
            "its namespace is private, and a file carries the openings that everybody may read".to_owned(),
        ));
    }
    let peer = LocalPeer::new(site, destination.here());
    match peer.manifest(artifact, &view.manifest).await {
        Ok(_) => Ok(None),
        Err(error @ (PeerError::Denied { .. } | PeerError::Absent(_))) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Writes the ledger: every tile of each series' last tree, and the openings that everybody may read.
async fn ledger(
    site: &Arc<Site>,
    peer: &LocalPeer,
    newest: &SignedCheckpoint,
    out: &mut Out,
) -> Result<Vec<String>, CarryError> {
    let mut checkpoints = Vec::new();
    let openings = site.reader().ask(|q| q.stream_count("open")).await?;
    for series in 1..=newest.checkpoint().origin.series() {
        let Some(signed) = site.ledger().checkpoint_of(series) else {
            continue;
        };
        let size = signed.checkpoint().size;
        let kinds = (0..=LEVEL_MAX).map(TileKind::Hashes).chain([TileKind::Entries]);
        for kind in kinds {
            for path in (0..).map_while(|index| TilePath::in_tree(kind, index, size)) {
                match peer.tile(series, &path).await {
                    Ok(bytes) => out.put(ObjectName::Tile(series, path), &bytes)?,
                    Err(PeerError::Absent(_)) if !path.is_full() => {
                        let full = path.full();
                        let bytes = peer.tile(series, &full).await?;
                        out.put(ObjectName::Tile(series, full), &bytes)?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for number in 0..openings.div_ceil(256) {
            match peer.pack(series, &ObjectName::pack_path(number)).await {
                Ok(bytes) => out.put(ObjectName::Pack(series, number), &bytes)?,
                // It is another series'.
                Err(PeerError::Absent(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        checkpoints.push(signed.to_string());
    }
    Ok(checkpoints)
}

/// Writes the closure of a release.
async fn release(
    site: &Arc<Site>,
    peer: &LocalPeer,
    (artifact, view): (&ArtifactName, &ReleaseView),
    out: &mut Out,
) -> Result<(), CarryError> {
    let manifest = peer.manifest(artifact, &view.manifest).await?;
    out.put(ObjectName::Manifest(view.manifest), &manifest)?;
    let proof = site.ledger().prove(&[view.entry]).await?;
    let found = release_in(&proof, artifact, &view.manifest)?;
    let (_, statement) = found.ok_or(AppendError::NoEntry(view.entry))?;
    let mut files = HashSet::new();
    for content in statement.content.iter().chain([&statement.config]) {
        if !files.insert(content.sha256) {
            continue;
        }
        let came = peer.recipes(artifact, &[content.sha256]).await?;
        let odd = || PeerError::Absent(format!("recipe of {}", content.sha256));
        let bytes = came.first().ok_or_else(odd)?;
        out.put(ObjectName::Recipe(content.sha256), bytes)?;
        let recipe = Recipe::decode(bytes).map_err(|error| PeerError::Odd(error.to_string()))?;
        let mut asked = HashSet::new();
        let mut wanted: Vec<ChunkDigest> = Vec::new();
        for piece in recipe.pieces() {
            if asked.insert(piece.chunk) && !out.has(&ObjectName::Chunk(piece.chunk)) {
                wanted.push(piece.chunk);
            }
        }
        for batch in wanted.chunks(BATCH_CHUNKS) {
            let request = ChunksRequest {
                file: content.sha256,
                chunks: batch.to_vec(),
            };
            for (chunk, stored) in peer.chunks(artifact, &request).await? {
                out.put(ObjectName::Chunk(chunk), &stored)?;
            }
        }
    }
    let name = artifact.clone();
    let scorecards = site
        .reader()
        .ask(move |q| q.scorecards(&name, SCORECARDS_MAX))
        .await?;
    for scorecard in scorecards.into_iter().filter(|one| one.manifest == view.manifest) {
        if let Some(details) = &scorecard.scorecard.details {
            let bytes = peer.scorecard(artifact, &details.sha256).await?;
            out.put(ObjectName::Scorecard(details.sha256), &bytes)?;
        }
    }
    Ok(())
}

/// A bundle that is being written, under another name than its own; gone unless it is finished.
///
/// Its writes are short ones to a buffer, from a command that does nothing else.
struct Out {
    part: PathBuf,
    file: BufWriter<File>,
    at: u64,
    records: HashMap<NameBytes, Record>,
    /// What an earlier bundle has, with the hash of each.
    known: HashMap<NameBytes, [u8; 32]>,
    left: u64,
    done: bool,
}

impl Out {
    fn create(out: &Path, known: HashMap<NameBytes, [u8; 32]>) -> Result<Self, CarryError> {
        if out.exists() {
            let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(io_error(out, error));
        }
        let mut part = out.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| io_error(&part, error))?;
        let mut out = Self {
            part,
            file: BufWriter::with_capacity(1 << 20, file),
            at: 0,
            records: HashMap::new(),
            known,
            left: 0,
            done: false,
        };
        out.write(&magic())?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CarryError> {
        self.file
            .write_all(bytes)
            .map_err(|error| io_error(&self.part, error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Is a chunk in this bundle or in the earlier one? Its name says what it holds, however it is stored.
    fn has(&self, name: &ObjectName) -> bool {
        let name = name.encode();
        self.records.contains_key(&name) || self.known.contains_key(&name)
    }

    fn put(&mut self, name: ObjectName, bytes: &Bytes) -> Result<(), CarryError> {
        let key = name.encode();
        if self.records.contains_key(&key) {
            return Ok(());
        }
        let hash = *blake3::hash(bytes).as_bytes();
        if self.known.get(&key) == Some(&hash) {
            self.left += 1;
            return Ok(());
        }
        let too_large = |what: String| {
            Err(CarryError::Bundle {
                path: self.part.clone(),
                error: BundleError::Shape(what),
            })
        };
        let length = match u32::try_from(bytes.len()) {
            Ok(length) if length <= OBJECT_MAX => length,
            _ => return too_large(format!("the {name} has {} bytes", bytes.len())),
        };
        if self.records.len() as u64 == OBJECTS_MAX {
            return too_large(format!(
                "more than {OBJECTS_MAX} objects; carry fewer releases at once"
            ));
        }
        let offset = self.at;
        self.write(bytes)?;
        let record = Record {
            name,
            offset,
            length,
            hash,
        };
        self.records.insert(key, record);
        Ok(())
    }

    fn finish(mut self, cover: &Cover, out: &Path) -> Result<u64, CarryError> {
        let cover = cover.to_bytes();
        let objects_end = self.at;
        let cover_length = match u32::try_from(cover.len()) {
            Ok(length) if length <= COVER_MAX => length,
            _ => {
                return Err(CarryError::Bundle {
                    path: self.part.clone(),
                    error: BundleError::Cover("too many releases; carry fewer at once".to_owned()),
                });
            }
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&cover);
        self.write(&cover)?;
        let mut records: Vec<(NameBytes, Record)> = self.records.drain().collect();
        records.sort_unstable_by_key(|(name, _)| *name);
        for (_, record) in &records {
            let bytes: [u8; RECORD_BYTES] = record.encode();
            hasher.update(&bytes);
            self.write(&bytes)?;
        }
        let trailer = Trailer {
            objects_end,
            cover_length,
            records: records.len() as u64,
            hash: *hasher.finalize().as_bytes(),
        };
        let bytes: [u8; TRAILER_BYTES] = trailer.encode();
        self.write(&bytes)?;
        let io = |error| io_error(&self.part, error);
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        fs::rename(&self.part, out).map_err(io)?;
        self.done = true;
        Ok(self.at)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.done {
            // It is named as what it is, if it cannot be removed.
            let _ = fs::remove_file(&self.part);
        }
    }
}
