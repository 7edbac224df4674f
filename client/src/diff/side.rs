//! One side of a comparison: its files by path, how each is made of chunks, and bytes of them where needed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use waag_schema::base::name::Reference;
use waag_schema::content::Recipe;
use waag_schema::{ArtifactName, ChunkDigest, FilePath, Sha256};

use super::Summary;
use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::event::Progress;
use crate::listing::fetch_listing;
use crate::read::{blocking, read_all};
use crate::recipes::fetch_recipes;
use crate::scan::{Links, Scan};
use crate::site::Site;

/// Of packed files, larger ones are not read to look into them.
const WHOLE_MAX_BYTES: u64 = 16 << 20;

/// A release, or a directory on this disk.
pub struct Side {
    name: String,
    digest: Option<Sha256>,
    files: BTreeMap<String, SideFile>,
    /// How each layer is made of chunks.
    layers: HashMap<Sha256, Recipe>,
    /// How each file that is part of a layer is.
    packed: HashMap<Sha256, Recipe>,
    source: Source,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            name: String::new(),
            digest: None,
            files: BTreeMap::new(),
            layers: HashMap::new(),
            packed: HashMap::new(),
            source: Source::Directory(HashMap::new()),
        }
    }
}

/// A file of a side.
#[derive(Debug, Clone, Copy)]
pub(super) struct SideFile {
    pub(super) sha256: Sha256,
    pub(super) size: u64,
}

/// Where bytes come from.
enum Source {
    Release(Box<Site>, ArtifactName),
    Directory(HashMap<Sha256, PathBuf>),
}

impl Side {
    /// Looks at a release: its manifest and its recipes, proven. No file is fetched.
    ///
    /// # Errors
    /// When there is no such release for the caller, or a proof does not hold.
    pub async fn of_release(site: &Site, reference: &Reference) -> Result<Self> {
        let proven = site.resolve(&reference.artifact, &reference.version).await?;
        let listing = fetch_listing(site, &proven).await?;
        let wanted = listing.layers(&proven);
        let recipes = fetch_recipes(site, &proven, &wanted).await?;
        let layers = wanted.iter().map(|content| content.sha256).zip(recipes).collect();
        let mut side = Self {
            name: reference.to_string(),
            digest: Some(proven.manifest.digest()),
            layers,
            source: Source::Release(Box::new(site.clone()), reference.artifact.clone()),
            ..Self::default()
        };
        for file in &listing.files {
            let within = listing.files.locate(file);
            side.add(&file.path, file.sha256, file.size, within);
        }
        Ok(side)
    }

    /// Reads a directory, as a push would.
    ///
    /// # Errors
    /// When it cannot be read, or could not be published.
    pub async fn of_directory(path: &Path, progress: &Progress) -> Result<Self> {
        let root = path.to_owned();
        let scan = blocking(move || Scan::of(&root, Links::Follow)).await?;
        let read = read_all(scan.files, progress).await?;
        let mut side = Self {
            name: path.display().to_string(),
            ..Self::default()
        };
        let mut places = HashMap::new();
        for file in read.files {
            side.layers.insert(file.sha256, file.recipe);
            side.add(&file.path, file.sha256, file.size, (file.sha256, 0));
            places.insert(file.sha256, file.local);
        }
        for tar in read.tars {
            side.layers.insert(tar.sha256, tar.recipe);
            for file in tar.members {
                side.add(&file.path, file.sha256, file.size, (tar.sha256, file.offset));
                places.insert(file.sha256, file.local);
            }
        }
        side.source = Source::Directory(places);
        Ok(side)
    }

    /// Adds a file, which lies in a layer from this place on; its recipe is that part of the layer's.
    fn add(&mut self, path: &FilePath, sha256: Sha256, size: u64, (layer, offset): (Sha256, u64)) {
        self.files.insert(path.to_string(), SideFile { sha256, size });
        if layer != sha256
            && let Some(recipe) = self.layers.get(&layer)
        {
            let part = || recipe.slice(offset..offset.saturating_add(size));
            self.packed.entry(sha256).or_insert_with(part);
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            digest: self.digest,
            files: self.files.len() as u64,
            bytes: self
                .files
                .values()
                .map(|file| file.size)
                .fold(0, u64::saturating_add),
        }
    }

    pub(super) const fn files(&self) -> &BTreeMap<String, SideFile> {
        &self.files
    }

    pub(super) fn recipe(&self, file: &Sha256) -> Option<&Recipe> {
        self.packed.get(file).or_else(|| self.layers.get(file))
    }

    /// Returns every chunk with the number of its bytes that are used.
    pub(super) fn chunks(&self) -> HashMap<ChunkDigest, u64> {
        let pieces = self.layers.values().flat_map(Recipe::pieces);
        pieces
            .map(|piece| (piece.chunk, u64::from(piece.length)))
            .collect()
    }

    /// Reads the pieces of a file that hold this range, whole, and checks each. Returns where they begin, too;
    /// none when a piece is part of a chunk, which has no digest of its own.
    pub(super) async fn pieces(&self, file: &Sha256, range: Range<u64>) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(recipe) = self.recipe(file) else {
            return Ok(None);
        };
        if self.packed.contains_key(file) {
            return self.whole(file, recipe.size()).await;
        }
        let (mut at, mut span, mut held) = (0, 0..0, Vec::new());
        for piece in recipe.pieces() {
            let place = at..at + u64::from(piece.length);
            at = place.end;
            if place.end <= range.start || place.start >= range.end {
                continue;
            }
            if piece.offset != 0 {
                return Ok(None);
            }
            if held.is_empty() {
                span.start = place.start;
            }
            span.end = place.end;
            held.push(piece);
        }
        if span.is_empty() {
            return Ok(Some((range.start, Vec::new())));
        }
        let bytes = self.bytes(file, span.clone()).await?;
        let mut rest = bytes.as_slice();
        for piece in held {
            let (own, left) = rest
                .split_at_checked(piece.length as usize)
                .unwrap_or((rest, &[]));
            if ChunkDigest::of(own) != piece.chunk {
                return Err(ClientError::verification(
                    format_args!("{} of {}", self.path_of(file), self.name),
                    format_args!("the bytes that came are not the chunk {}", piece.chunk),
                ));
            }
            rest = left;
        }
        Ok(Some((span.start, bytes)))
    }

    /// Reads a packed file, if it is not too large: its own digest is what it can be checked by.
    async fn whole(&self, file: &Sha256, size: u64) -> Result<Option<(u64, Vec<u8>)>> {
        if size > WHOLE_MAX_BYTES {
            return Ok(None);
        }
        // No range is empty.
        let bytes = match size {
            0 => Vec::new(),
            _ => self.bytes(file, 0..size).await?,
        };
        let found = Sha256::of(&bytes);
        if found != *file {
            return Err(ClientError::verification(
                format_args!("{} of {}", self.path_of(file), self.name),
                format_args!("the bytes that came have the digest {found}, not {file}"),
            ));
        }
        Ok(Some((0, bytes)))
    }

    fn path_of(&self, file: &Sha256) -> &str {
        let named = self.files.iter().find(|(_, found)| found.sha256 == *file);
        named.map_or("a file", |(path, _)| path)
    }

    async fn bytes(&self, file: &Sha256, range: Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        match &self.source {
            Source::Release(site, artifact) => {
                let path = format!("/api/v1/artifacts/{artifact}/files/{file}");
                site.transport().bytes(Ask::get(path).range(range), length).await
            }
            Source::Directory(places) => {
                let place = places.get(file).cloned();
                let place = place.ok_or_else(|| ClientError::Absent(format!("no file {file}")))?;
                blocking(move || {
                    let mut bytes = vec![0; length];
                    let file = File::open(&place).map_err(ClientError::io("open", &place))?;
                    file.read_exact_at(&mut bytes, range.start)
                        .map_err(|_| ClientError::Changed(place))?;
                    Ok(bytes)
                })
                .await
            }
        }
    }
}
