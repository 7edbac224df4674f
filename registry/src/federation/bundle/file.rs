//! A bundle that is read: its parts are checked when it is opened, its objects before anything is taken of it.
//!
//! Names are looked up in the file: memory is one object and a buffer, however large the bundle is.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waag_schema::content::challenge::{Answer, Challenge};
use waag_schema::federation::bundle::{
    BundleError, ContentsCheck, Cover, MAGIC_BYTES, ObjectName, RECORD_BYTES, Record, TRAILER_BYTES, Trailer,
    check_magic,
};
use waag_schema::ledger::{PackPath, SignedCheckpoint, Stream, TilePath};
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::ledger::StreamView;
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId};

use super::CarryError;
use crate::content::Content;
use crate::federation::peer::{Peer, PeerError, SentChunk};
use crate::store::{Key, Store, StoreError};

/// An open bundle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BundleFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    trailer: Trailer,
    cover: Cover,
}

impl BundleFile {
    /// Opens a bundle, and checks its cover and its contents.
    ///
    /// # Errors
    /// When it cannot be read, or is no whole bundle.
    pub async fn open(path: &Path) -> Result<Self, CarryError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Inner::open(&path));
        opened
            .await
            .expect("reading does not panic")
            .map(|inner| Self(Arc::new(inner)))
    }

    /// Checks every object: that it is what was written, and what it is called.
    ///
    /// # Errors
    /// Naming the first that is not.
    pub async fn verify(&self) -> Result<(), CarryError> {
        let inner = Arc::clone(&self.0);
        let verified =
            tokio::task::spawn_blocking(move || inner.records(|record| inner.object(record).map(drop)));
        verified.await.expect("checking does not panic")
    }

    /// Returns what the bundle says of itself.
    #[must_use]
    pub fn cover(&self) -> &Cover {
        &self.0.cover
    }

    /// Returns what binds the bundle's parts: a name for it.
    #[must_use]
    pub fn hash(&self) -> ChunkDigest {
        ChunkDigest::from_bytes(self.0.trailer.hash)
    }

    /// Goes through the contents, in the order of names.
    pub(super) async fn contents(
        &self,
        mut each: impl FnMut(&Record) + Send + 'static,
    ) -> Result<(), CarryError> {
        let inner = Arc::clone(&self.0);
        let gone = tokio::task::spawn_blocking(move || {
            inner.records(|record| {
                each(record);
                Ok(())
            })
        });
        gone.await.expect("reading does not panic")
    }

    /// Reads an object, checked, if the bundle has it.
    async fn get(&self, name: ObjectName) -> Result<Option<Bytes>, PeerError> {
        let inner = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || match inner.find(&name)? {
            Some(record) => inner.object(&record).map(Some),
            None => Ok(None),
        });
        let read = read.await.expect("reading does not panic");
        read.map_err(|error| PeerError::Odd(error.to_string()))
    }
}

impl Inner {
    fn open(path: &Path) -> Result<Self, CarryError> {
        let io = |error| io_error(path, error);
        let wrong = |error| bundle_error(path, error);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < (MAGIC_BYTES + TRAILER_BYTES) as u64 {
            return Err(wrong(BundleError::NotOne("it is too short")));
        }
        let mut magic = [0; MAGIC_BYTES];
        file.read_exact_at(&mut magic, 0).map_err(io)?;
        check_magic(&magic).map_err(wrong)?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, length - TRAILER_BYTES as u64)
            .map_err(io)?;
        let trailer = Trailer::decode(&trailer, length).map_err(|error| {
            wrong(match error {
                // It begins as a bundle and does not end as one.
                BundleError::NotOne(_) => BundleError::Shape("its end is missing".to_owned()),
                error => error,
            })
        })?;
        let mut cover = vec![0; trailer.cover_length as usize];
        file.read_exact_at(&mut cover, trailer.objects_end).map_err(io)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&cover);
        raw((path, &file), &trailer, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        if *hasher.finalize().as_bytes() != trailer.hash {
            return Err(wrong(BundleError::Contents));
        }
        let mut check = ContentsCheck::new(&trailer);
        raw((path, &file), &trailer, |bytes| {
            check.next(bytes).map(drop).map_err(wrong)
        })?;
        check.finish().map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            trailer,
            cover: Cover::parse(&cover).map_err(wrong)?,
        })
    }

    fn records(&self, mut each: impl FnMut(&Record) -> Result<(), CarryError>) -> Result<(), CarryError> {
        let mut at = 0;
        raw((&self.path, &self.file), &self.trailer, |bytes| {
            let record = Record::decode(bytes)
                .map_err(|reason| bundle_error(&self.path, BundleError::Record { at, reason }))?;
            at += 1;
            each(&record)
        })
    }

    fn find(&self, name: &ObjectName) -> Result<Option<Record>, CarryError> {
        let wanted = name.encode();
        let (mut low, mut high) = (0, self.trailer.records);
        let mut bytes = [0; RECORD_BYTES];
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.trailer.contents_at() + middle * RECORD_BYTES as u64;
            self.file
                .read_exact_at(&mut bytes, at)
                .map_err(|error| io_error(&self.path, error))?;
            match bytes[..wanted.len()].cmp(&wanted[..]) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let record = Record::decode(&bytes).map_err(|reason| {
                        bundle_error(&self.path, BundleError::Record { at: middle, reason })
                    })?;
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// Reads an object and checks what can be checked of it alone.
    fn object(&self, record: &Record) -> Result<Bytes, CarryError> {
        let mut bytes = vec![0; record.length as usize];
        self.file
            .read_exact_at(&mut bytes, record.offset)
            .map_err(|error| io_error(&self.path, error))?;
        let bytes = Bytes::from(bytes);
        let altered = |reason| {
            let object = Box::new(record.name);
            Err(bundle_error(&self.path, BundleError::Altered { object, reason }))
        };
        if *blake3::hash(&bytes).as_bytes() != record.hash {
            return altered("its bytes are others than were written");
        }
        let is_named = match record.name {
            ObjectName::Manifest(digest) | ObjectName::Scorecard(digest) => Sha256::of(&bytes) == digest,
            ObjectName::Chunk(digest) => Content::opened(&bytes, digest).is_some(),
            // What these are, only a signed tree or a signed release can say.
            ObjectName::Tile(..) | ObjectName::Pack(..) | ObjectName::Recipe(_) => true,
        };
        if is_named {
            Ok(bytes)
        } else {
            altered("its bytes have another digest than its name")
        }
    }
}

/// Goes through the bytes of all records.
fn raw(
    (path, file): (&Path, &File),
    trailer: &Trailer,
    mut each: impl FnMut(&[u8; RECORD_BYTES]) -> Result<(), CarryError>,
) -> Result<(), CarryError> {
    let at = trailer.contents_at();
    let mut reader = BufReader::with_capacity(1 << 20, At { file, at });
    let mut bytes = [0; RECORD_BYTES];
    for _ in 0..trailer.records {
        reader
            .read_exact(&mut bytes)
            .map_err(|error| io_error(path, error))?;
        each(&bytes)?;
    }
    Ok(())
}

/// Reads on from a place, whoever else reads the file.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

pub(super) fn io_error(path: &Path, error: io::Error) -> CarryError {
    let path = path.to_owned();
    CarryError::Io { path, error }
}

fn bundle_error(path: &Path, error: BundleError) -> CarryError {
    let path = path.to_owned();
    CarryError::Bundle { path, error }
}

/// A bundle as the site that it was made by. What an earlier bundle brought of the ledger is read from its copy here:
/// it is checked all the same.
pub(super) struct Carrier {
    pub(super) bundle: BundleFile,
    pub(super) copy: Arc<dyn Store>,
}

impl Carrier {
    fn absent(&self, what: &dyn std::fmt::Display) -> PeerError {
        PeerError::Absent(match self.bundle.cover().base {
            Some(base) => format!("{what} in the bundle, which goes on where the bundle {base} ended"),
            None => format!("{what} in the bundle"),
        })
    }
}

fn here(error: &StoreError) -> PeerError {
    PeerError::Unreachable(error.to_string())
}

#[async_trait]
impl Peer for Carrier {
    async fn checkpoint(&self, series: Option<u32>, known: Option<&str>) -> Result<Option<Bytes>, PeerError> {
        let all = &self.bundle.cover().checkpoints;
        let of = |note: &&String| {
            let parsed = SignedCheckpoint::parse(note.as_bytes());
            parsed.is_ok_and(|signed| Some(signed.checkpoint().origin.series()) == series)
        };
        let found = match series {
            Some(_) => all.iter().find(of),
            None => all.last(),
        };
        let note = found.ok_or_else(|| self.absent(&"checkpoint of this series"))?;
        Ok((known != Some(note.as_str())).then(|| Bytes::from(note.clone())))
    }

    async fn cosign(&self, _: &str) -> Result<(), PeerError> {
        Err(PeerError::Unreachable("a file takes no cosignature".to_owned()))
    }

    async fn site_key(&self) -> Result<Bytes, PeerError> {
        Ok(Bytes::from(self.bundle.cover().site_key.clone()))
    }

    async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        if let Some(bytes) = self.bundle.get(ObjectName::Tile(series, *path)).await? {
            return Ok(bytes);
        }
        match self.copy.get(&Key::tile(series, path)).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound(_)) => Err(self.absent(path)),
            Err(error) => Err(here(&error)),
        }
    }

    async fn streams(&self) -> Result<Vec<StreamView>, PeerError> {
        // A file carries what everybody may read.
        Ok(Vec::new())
    }

    async fn pack(&self, series: u32, path: &PackPath) -> Result<Bytes, PeerError> {
        if path.stream == Stream::open()
            && let Some(bytes) = self.bundle.get(ObjectName::Pack(series, path.number)).await?
        {
            return Ok(bytes);
        }
        let cell = self.copy.read_cell(&Key::pack(series, path)).await;
        let cell = cell.map_err(|error| here(&error))?;
        cell.map(|cell| cell.bytes).ok_or_else(|| self.absent(path))
    }

    async fn manifest(&self, _: &ArtifactName, manifest: &Sha256) -> Result<Bytes, PeerError> {
        let name = ObjectName::Manifest(*manifest);
        self.bundle.get(name).await?.ok_or_else(|| self.absent(&name))
    }

    async fn scorecard(&self, _: &ArtifactName, details: &Sha256) -> Result<Bytes, PeerError> {
        let name = ObjectName::Scorecard(*details);
        self.bundle.get(name).await?.ok_or_else(|| self.absent(&name))
    }

    async fn recipes(&self, _: &ArtifactName, files: &[Sha256]) -> Result<Vec<Bytes>, PeerError> {
        let mut recipes = Vec::new();
        for file in files {
            let name = ObjectName::Recipe(*file);
            recipes.push(self.bundle.get(name).await?.ok_or_else(|| self.absent(&name))?);
        }
        Ok(recipes)
    }

    async fn chunks(&self, _: &ArtifactName, request: &ChunksRequest) -> Result<Vec<SentChunk>, PeerError> {
        let mut chunks = Vec::new();
        for chunk in &request.chunks {
            let name = ObjectName::Chunk(*chunk);
            let stored = self.bundle.get(name).await?.ok_or_else(|| self.absent(&name))?;
            chunks.push((*chunk, stored));
        }
        Ok(chunks)
    }

    async fn challenge(&self, _: &ArtifactName, _: &Challenge) -> Result<Answer, PeerError> {
        Err(PeerError::Unreachable(
            "a file proves nothing of a site".to_owned(),
        ))
    }

    async fn checkpoints(&self) -> Result<Vec<String>, PeerError> {
        // Those of other ledgers that it carries are followed themselves.
        Ok(Vec::new())
    }

    async fn tile_of(&self, site: &SiteId, _: u32, _: &TilePath) -> Result<Bytes, PeerError> {
        Err(self.absent(site))
    }
}
