//! A bundle: one file that carries across an air gap what one site would have fetched from another.
//!
//! ```text
//! bundle  = magic | objects | cover | contents | trailer
//! magic   = "waag bundle\n" | version u32be
//! cover   = JSON: whose it is, for whom, charters, checkpoints, releases
//! contents = one record for each object, in the order of their names, each once
//! record  = kind u8 | name (32 bytes) | offset u64be | length u32be | BLAKE3 of the object (32 bytes)
//! trailer = end of the objects u64be | length of the cover u32be | records u64be | BLAKE3 of cover and contents | magic
//! ```
//! Objects lie one behind the other without a gap, as they came; who reads looks their names up. All of it is integrity
//! only: what an object says is believed for the signatures that it leads to, and for nothing here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::bytes::Base64;
use crate::base::digest::{ChunkDigest, Sha256};
use crate::base::name::{ArtifactName, SiteId};
use crate::ledger::{PackPath, Stream, TileKind, TilePath};

/// What a bundle begins and ends with, before the version.
const MARK: &[u8; 12] = b"waag bundle\n";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Length of the magic bytes.
pub const MAGIC_BYTES: usize = 16;
/// Length of a record.
pub const RECORD_BYTES: usize = 77;
/// Length of the trailer.
pub const TRAILER_BYTES: usize = 8 + 4 + 8 + 32 + MAGIC_BYTES;
/// The most bytes of a cover.
pub const COVER_MAX: u32 = 32 << 20;
/// The most objects: who writes keeps a record of each in memory.
pub const OBJECTS_MAX: u64 = 1 << 22;
/// The most bytes of one object: a pack of 256 of the largest openings.
pub const OBJECT_MAX: u32 = 160 << 20;

/// A bundle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is none.
    #[error("it is no bundle: {0}")]
    NotOne(&'static str),
    /// It was written by another version of the rules.
    #[error("it is a bundle of version {0}, version {VERSION} is read here")]
    Version(u32),
    /// It ends too early, or its parts do not fit each other.
    #[error("it is truncated or its parts do not fit: {0}")]
    Shape(String),
    /// The cover or the contents are not what was written.
    #[error("its cover or its contents were altered")]
    Contents,
    /// The cover cannot be read.
    #[error("its cover cannot be read: {0}")]
    Cover(String),
    /// A record cannot be read.
    #[error("record {at} of its contents {reason}")]
    Record {
        /// Which one.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An object is not what was written, or not what it is called.
    #[error("the {object} in it was altered: {reason}")]
    Altered {
        /// Which one.
        object: Box<ObjectName>,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Returns what a bundle begins and ends with.
#[must_use]
pub fn magic() -> [u8; MAGIC_BYTES] {
    let mut bytes = [0; MAGIC_BYTES];
    bytes[..MARK.len()].copy_from_slice(MARK);
    bytes[MARK.len()..].copy_from_slice(&VERSION.to_be_bytes());
    bytes
}

/// Checks what a bundle begins or ends with.
///
/// # Errors
/// When it is no bundle, or one of another version.
pub fn check_magic(bytes: &[u8; MAGIC_BYTES]) -> Result<(), BundleError> {
    let [mark @ .., v0, v1, v2, v3] = bytes;
    if mark != MARK {
        return Err(BundleError::NotOne("it does not begin and end as one"));
    }
    match u32::from_be_bytes([*v0, *v1, *v2, *v3]) {
        VERSION => Ok(()),
        other => Err(BundleError::Version(other)),
    }
}

/// What an object is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectName {
    /// A tile of a series, of hashes or of entries.
    Tile(u32, TilePath),
    /// A pack of openings that everybody may read, of a series.
    Pack(u32, u64),
    /// A manifest.
    Manifest(Sha256),
    /// The recipe of this file.
    Recipe(Sha256),
    /// The details of a scorecard.
    Scorecard(Sha256),
    /// A chunk, as it is stored.
    Chunk(ChunkDigest),
}

/// A name as it stands in a record: names have the order of these bytes.
pub type NameBytes = [u8; 33];

/// How a tile of entries is told from one of hashes, where the level stands.
const ENTRIES: u8 = u8::MAX;

impl ObjectName {
    /// Returns the path of a pack of openings that everybody may read, by its number.
    #[must_use]
    pub fn pack_path(number: u64) -> PackPath {
        PackPath {
            stream: Stream::open(),
            number,
        }
    }

    /// Returns the bytes of a record's name.
    #[must_use]
    pub fn encode(&self) -> NameBytes {
        let mut bytes = [0; 33];
        match self {
            Self::Tile(series, path) => {
                bytes[0] = 1;
                bytes[1..5].copy_from_slice(&series.to_be_bytes());
                bytes[5] = match path.kind() {
                    TileKind::Hashes(level) => level,
                    TileKind::Entries => ENTRIES,
                };
                bytes[6..14].copy_from_slice(&path.index().to_be_bytes());
                bytes[14..16].copy_from_slice(&path.width().to_be_bytes());
            }
            Self::Pack(series, number) => {
                bytes[0] = 2;
                bytes[1..5].copy_from_slice(&series.to_be_bytes());
                bytes[5..13].copy_from_slice(&number.to_be_bytes());
            }
            Self::Manifest(digest) => fill(&mut bytes, 3, digest.as_bytes()),
            Self::Recipe(digest) => fill(&mut bytes, 4, digest.as_bytes()),
            Self::Scorecard(digest) => fill(&mut bytes, 5, digest.as_bytes()),
            Self::Chunk(digest) => fill(&mut bytes, 6, digest.as_bytes()),
        }
        bytes
    }

    /// Reads a name; only one that [`Self::encode`] writes.
    #[must_use]
    pub fn decode(bytes: &NameBytes) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let digest: [u8; 32] = rest.try_into().ok()?;
        let u64_at =
            |at: usize| -> Option<u64> { Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?)) };
        let series = u32::from_be_bytes(*rest.first_chunk()?);
        let name = match kind {
            1 => {
                let kind = match rest[4] {
                    ENTRIES => TileKind::Entries,
                    level => TileKind::Hashes(level),
                };
                let width = u16::from_be_bytes([rest[13], rest[14]]);
                Self::Tile(series, TilePath::new(kind, u64_at(5)?, width).ok()?)
            }
            2 => Self::Pack(series, u64_at(4)?),
            3 => Self::Manifest(Sha256::from_bytes(digest)),
            4 => Self::Recipe(Sha256::from_bytes(digest)),
            5 => Self::Scorecard(Sha256::from_bytes(digest)),
            6 => Self::Chunk(ChunkDigest::from_bytes(digest)),
            _ => return None,
        };
        (name.encode() == *bytes).then_some(name)
    }
}

fn fill(bytes: &mut NameBytes, kind: u8, digest: &[u8; 32]) {
    bytes[0] = kind;
    bytes[1..].copy_from_slice(digest);
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile(series, path) => write!(f, "ledger's {series}/{path}"),
            Self::Pack(series, number) => write!(f, "ledger's {series}/{}", Self::pack_path(*number)),
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
            Self::Recipe(digest) => write!(f, "recipe of {digest}"),
            Self::Scorecard(digest) => write!(f, "scorecard {digest}"),
            Self::Chunk(digest) => write!(f, "chunk {digest}"),
        }
    }
}

/// Where an object lies, and what it hashes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it is called.
    pub name: ObjectName,
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub length: u32,
    /// The BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

impl Record {
    /// Returns the record's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..33].copy_from_slice(&self.name.encode());
        bytes[33..41].copy_from_slice(&self.offset.to_be_bytes());
        bytes[41..45].copy_from_slice(&self.length.to_be_bytes());
        bytes[45..].copy_from_slice(&self.hash);
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When its name is none, or it is longer than any object.
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Self, &'static str> {
        let (mut name, mut offset, mut length, mut hash) = ([0; 33], [0; 8], [0; 4], [0; 32]);
        name.copy_from_slice(&bytes[..33]);
        offset.copy_from_slice(&bytes[33..41]);
        length.copy_from_slice(&bytes[41..45]);
        hash.copy_from_slice(&bytes[45..]);
        let length = u32::from_be_bytes(length);
        if length > OBJECT_MAX {
            return Err("claims more bytes than an object has");
        }
        Ok(Self {
            name: ObjectName::decode(&name).ok_or("has a name that no object has")?,
            offset: u64::from_be_bytes(offset),
            length,
            hash,
        })
    }
}

/// The end of a bundle: where its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the objects end and the cover begins.
    pub objects_end: u64,
    /// How long the cover is.
    pub cover_length: u32,
    /// How many records follow it.
    pub records: u64,
    /// The BLAKE3 of cover and contents.
    pub hash: [u8; 32],
}

impl Trailer {
    /// Returns the trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.objects_end.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.cover_length.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.records.to_be_bytes());
        bytes[20..52].copy_from_slice(&self.hash);
        bytes[52..].copy_from_slice(&magic());
        bytes
    }

    /// Reads the trailer of a file of this length.
    ///
    /// # Errors
    /// When it is none, or its parts do not give the file.
    pub fn decode(bytes: &[u8; TRAILER_BYTES], file_length: u64) -> Result<Self, BundleError> {
        let (mut end, mut cover, mut records) = ([0; 8], [0; 4], [0; 8]);
        let (mut hash, mut magic) = ([0; 32], [0; MAGIC_BYTES]);
        end.copy_from_slice(&bytes[..8]);
        cover.copy_from_slice(&bytes[8..12]);
        records.copy_from_slice(&bytes[12..20]);
        hash.copy_from_slice(&bytes[20..52]);
        magic.copy_from_slice(&bytes[52..]);
        check_magic(&magic)?;
        let trailer = Self {
            objects_end: u64::from_be_bytes(end),
            cover_length: u32::from_be_bytes(cover),
            records: u64::from_be_bytes(records),
            hash,
        };
        let shape = |text: String| Err(BundleError::Shape(text));
        if trailer.cover_length > COVER_MAX || trailer.records > OBJECTS_MAX {
            return shape(format!(
                "{} bytes of cover and {} objects, at most {COVER_MAX} and {OBJECTS_MAX} are read",
                trailer.cover_length, trailer.records
            ));
        }
        let contents = trailer.records * RECORD_BYTES as u64;
        let behind = contents + u64::from(trailer.cover_length) + TRAILER_BYTES as u64;
        match trailer.objects_end.checked_add(behind) {
            Some(total) if total == file_length && trailer.objects_end >= MAGIC_BYTES as u64 => Ok(trailer),
            _ => shape(format!(
                "its parts do not give the {file_length} bytes that it has"
            )),
        }
    }

    /// Returns where the contents begin.
    #[must_use]
    pub const fn contents_at(&self) -> u64 {
        self.objects_end + self.cover_length as u64
    }
}

/// A release that a bundle carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
}

/// What a bundle says of itself. Nobody has signed it: it says where to look, and nothing that is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cover {
    /// The site whose ledger and releases it carries.
    pub site: SiteId,
    /// The site that it was made for.
    pub destination: SiteId,
    /// The charters that the site has gone by, oldest first, as they were signed.
    pub charters: Vec<Base64>,
    /// The last checkpoint of each of its series, as it was signed, the newest last.
    pub checkpoints: Vec<String>,
    /// The note in which its ledger's key says which key the site signs with.
    pub site_key: String,
    /// The releases whose closure it carries, with what `base` has of it.
    pub releases: Vec<Carried>,
    /// The hash of the bundle without whose objects it is not whole.
    pub base: Option<ChunkDigest>,
}

impl Cover {
    /// Reads a cover.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        serde_json::from_slice(bytes).map_err(|error| BundleError::Cover(error.to_string()))
    }

    /// Returns the cover's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a cover holds only strings and lists")
    }
}

/// Checks contents record by record: order, bounds, and that no byte of the file is left over.
#[derive(Debug, Clone)]
pub struct ContentsCheck {
    objects_end: u64,
    last: Option<NameBytes>,
    records: u64,
    bytes: u64,
}

impl ContentsCheck {
    /// Begins with the first record.
    #[must_use]
    pub const fn new(trailer: &Trailer) -> Self {
        Self {
            objects_end: trailer.objects_end,
            last: None,
            records: 0,
            bytes: 0,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it cannot be one, or does not come after the one before it.
    pub fn next(&mut self, bytes: &[u8; RECORD_BYTES]) -> Result<Record, BundleError> {
        let at = self.records;
        let wrong = |reason| BundleError::Record { at, reason };
        let record = Record::decode(bytes).map_err(wrong)?;
        let name = record.name.encode();
        if self.last.is_some_and(|last| last >= name) {
            return Err(wrong("stands behind one that comes after it"));
        }
        let end = record.offset.checked_add(u64::from(record.length));
        let within = record.offset >= MAGIC_BYTES as u64 && end.is_some_and(|end| end <= self.objects_end);
        if !within {
            return Err(wrong("lies outside of the objects"));
        }
        self.last = Some(name);
        self.records += 1;
        self.bytes = self.bytes.saturating_add(u64::from(record.length));
        Ok(record)
    }

    /// Ends the contents.
    ///
    /// # Errors
    /// When the objects do not fill what they are said to fill.
    pub fn finish(self) -> Result<(), BundleError> {
        let room = self.objects_end - MAGIC_BYTES as u64;
        if self.bytes == room {
            return Ok(());
        }
        Err(BundleError::Shape(format!(
            "its objects have {} bytes where there is room for {room}",
            self.bytes
        )))
    }
}
