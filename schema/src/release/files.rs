//! All files of a release, wherever they lie: layers of their own, and those that travel packed.
//!
//! The list that a packed release carries (strict JSON, at most 64 MiB, at most 200,000 files):
//! ```text
//! {"layers":[{"digest":"sha256:..","files":[["path","sha256:..",size,offset],..]},..],"version":1}
//! ```
//! Invariant of [`Files`]: paths stand in order, each once, and can lie side by side; the list names exactly the
//! manifest's tars, and in them each file stands where our rule for tars ([`super::tar`]) puts it, so that no
//! two overlap; number and bytes are those that the manifest says. Whether a tar's bytes are so is for
//! [`super::tar::TarCheck`], and for whoever checks a file's digest.

use serde::{Deserialize, Serialize};

use super::manifest::{Blob, Manifest, ManifestError, refuse_collisions};
use super::tar::{Expected, TarLayout};
use crate::base::digest::Sha256;
use crate::base::json::{self, JsonError};
use crate::base::name::FilePath;

/// The largest list that is read.
pub const LIST_MAX_BYTES: usize = 64 << 20;
/// The most files of one release.
pub const FILES_MAX: usize = 200_000;
const VERSION: u32 = 1;

/// A list of files is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The manifest says that there is a list, and none was given.
    #[error("the release packs its files, and the list of them is not at hand")]
    NoList,
    /// Other bytes than the manifest names.
    #[error("the list of files has the digest {found}, the manifest names {expected}")]
    WrongList {
        /// As the manifest says.
        expected: Sha256,
        /// As found.
        found: Sha256,
    },
    /// Not JSON of the accepted kind, or of another shape.
    #[error("the list of files is refused: {0}")]
    Json(#[from] JsonError),
    /// Written by a newer version.
    #[error("the list of files has version {0}, this version reads {VERSION}")]
    Version(u32),
    /// More files than accepted.
    #[error("{0} files, at most {FILES_MAX} are accepted in one release")]
    TooMany(usize),
    /// The list is about other tars.
    #[error("the list of files does not name the manifest's archives, in their order")]
    OtherTars,
    /// Files do not stand in order.
    #[error("`{0}` does not stand in the order of paths, or stands twice")]
    Order(FilePath),
    /// A file is not where it must be.
    #[error("`{path}` is listed at byte {found} of its archive, it can only be at {expected}")]
    Offset {
        /// The file.
        path: FilePath,
        /// Where it must be.
        expected: u64,
        /// Where the list says it is.
        found: u64,
    },
    /// A tar has another size than its files give.
    #[error("archive {index} has {found} bytes, its files make {expected}")]
    TarSize {
        /// Which tar, from 0.
        index: usize,
        /// What the files make.
        expected: u64,
        /// What the manifest says.
        found: u64,
    },
    /// Two files cannot lie side by side.
    #[error(transparent)]
    Collision(ManifestError),
    /// The manifest says another number of files or bytes.
    #[error("the release has {files} files of {bytes} bytes, its manifest says {said_files} of {said_bytes}")]
    Totals {
        /// How many there are.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// As the manifest says.
        said_files: u64,
        /// As the manifest says.
        said_bytes: u64,
    },
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// They are a layer.
    Layer,
    /// They are part of a tar.
    Within {
        /// Which of the manifest's tars, from 0.
        tar: usize,
        /// Their first byte in it.
        offset: u64,
    },
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path within the artifact.
    pub path: FilePath,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length.
    pub size: u64,
    /// Where it is.
    pub place: Place,
}

/// All files of a release, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    list: Vec<File>,
    tars: Vec<Blob>,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireList {
    // Fields stand in the order of their names, as in everything that is written here.
    layers: Vec<WireTar>,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTar {
    digest: Sha256,
    files: Vec<(FilePath, Sha256, u64, u64)>,
}

/// Writes the list of tars and their files, each tar's in the order of their paths; returns the offsets, too.
pub(super) fn write<'t>(tars: impl Iterator<Item = (Sha256, &'t [Expected])>) -> Vec<u8> {
    let layers = tars.map(|(digest, members)| {
        let mut layout = TarLayout::default();
        let files = members.iter().map(|file| {
            // A tar of 2^64 bytes has another size than it says, and is refused when the list is read.
            let offset = layout.place(&file.path, file.size).unwrap_or(u64::MAX);
            (file.path.clone(), file.sha256, file.size, offset)
        });
        WireTar {
            files: files.collect(),
            digest,
        }
    });
    let list = WireList {
        layers: layers.collect(),
        version: VERSION,
    };
    serde_json::to_vec(&list).expect("strings and numbers are JSON")
}

impl Files {
    /// Returns the files of a release: of one that packs none, without a list.
    ///
    /// # Errors
    /// When the list is missing, is not the manifest's, or breaks a rule of this module.
    pub fn of(manifest: &Manifest, list: Option<&[u8]>) -> Result<Self, FilesError> {
        let mut files: Vec<File> = Vec::new();
        for layer in manifest.layers() {
            files.push(File {
                path: layer.path.clone(),
                sha256: layer.blob.digest,
                size: layer.blob.size,
                place: Place::Layer,
            });
        }
        let mut tars = Vec::new();
        if let Some(packed) = manifest.packed() {
            let bytes = list.ok_or(FilesError::NoList)?;
            let found = Sha256::of(bytes);
            if found != packed.list.digest {
                return Err(FilesError::WrongList {
                    expected: packed.list.digest,
                    found,
                });
            }
            tars = packed.tars.iter().map(|tar| tar.blob).collect();
            read(bytes, &tars, &mut files)?;
            refuse_collisions(files.iter().map(|file| &file.path)).map_err(FilesError::Collision)?;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        // What a manifest says of layers alone was added up when it was read.
        let bytes = bytes.ok_or(FilesError::Collision(ManifestError::SizeOverflow))?;
        let (count, said) = (files.len() as u64, (manifest.file_count(), manifest.total_size()));
        if (count, bytes) != said {
            return Err(FilesError::Totals {
                files: count,
                bytes,
                said_files: said.0,
                said_bytes: said.1,
            });
        }
        Ok(Self {
            list: files,
            tars,
            bytes,
        })
    }

    /// Returns the files, in the order of their paths.
    pub fn iter(&self) -> std::slice::Iter<'_, File> {
        self.list.iter()
    }

    /// Returns the files as a list.
    #[must_use]
    pub fn as_slice(&self) -> &[File] {
        &self.list
    }

    /// Returns how many there are; at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no release is empty")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the sum of their sizes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the file at this path.
    #[must_use]
    pub fn at(&self, path: &FilePath) -> Option<&File> {
        let found = self.list.binary_search_by(|file| file.path.cmp(path)).ok()?;
        Some(&self.list[found])
    }

    /// Returns the tars, as the manifest has them.
    #[must_use]
    pub fn tars(&self) -> &[Blob] {
        &self.tars
    }

    /// Returns the content that holds a file's bytes, a layer's or a tar's, and where they begin in it.
    #[must_use]
    pub fn locate(&self, file: &File) -> (Sha256, u64) {
        match file.place {
            Place::Layer => (file.sha256, 0),
            Place::Within { tar, offset } => {
                (self.tars.get(tar).map_or(file.sha256, |blob| blob.digest), offset)
            }
        }
    }

    /// Returns what a tar must hold, in its order.
    #[must_use]
    pub fn expected(&self, tar: usize) -> Vec<Expected> {
        let own = self
            .list
            .iter()
            .filter(|file| matches!(file.place, Place::Within { tar: found, .. } if found == tar));
        own.map(|file| Expected {
            path: file.path.clone(),
            sha256: file.sha256,
            size: file.size,
        })
        .collect()
    }
}

impl<'f> IntoIterator for &'f Files {
    type Item = &'f File;
    type IntoIter = std::slice::Iter<'f, File>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Reads a list, and adds its files.
fn read(bytes: &[u8], tars: &[Blob], files: &mut Vec<File>) -> Result<(), FilesError> {
    let list: WireList = json::from_slice(bytes, LIST_MAX_BYTES)?;
    if list.version != VERSION {
        return Err(FilesError::Version(list.version));
    }
    if !list
        .layers
        .iter()
        .map(|tar| tar.digest)
        .eq(tars.iter().map(|blob| blob.digest))
    {
        return Err(FilesError::OtherTars);
    }
    let listed: usize = list.layers.iter().map(|tar| tar.files.len()).sum();
    if files.len() + listed > FILES_MAX {
        return Err(FilesError::TooMany(files.len() + listed));
    }
    files.reserve(listed);
    let first = files.len();
    for (index, (tar, blob)) in list.layers.into_iter().zip(tars).enumerate() {
        let mut layout = TarLayout::default();
        for (path, sha256, size, offset) in tar.files {
            if files[first..].last().is_some_and(|last| last.path >= path) {
                return Err(FilesError::Order(path));
            }
            let expected = layout.place(&path, size).unwrap_or(u64::MAX);
            if offset != expected {
                return Err(FilesError::Offset {
                    path,
                    expected,
                    found: offset,
                });
            }
            let place = Place::Within { tar: index, offset };
            files.push(File {
                path,
                sha256,
                size,
                place,
            });
        }
        if layout.size() != blob.size {
            return Err(FilesError::TarSize {
                index,
                expected: layout.size(),
                found: blob.size,
            });
        }
    }
    Ok(())
}
