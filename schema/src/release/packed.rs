//! What a manifest says of files that travel packed: the tars, and the list of files that tells what is in them.
//!
//! ```text
//! annotations  eu.waag.files = digest of the list, eu.waag.files.count and .bytes: of all files of the release
//! layers       ... files of their own ..., .waag/files-0.tar, .waag/files-1.tar, ..., .waag/files.json
//! ```
//! No file of an artifact may lie under `.waag`, so these names collide with none, and a tool that knows nothing
//! of this leaves the list where `waag pull` does. What the annotations say is checked by whoever reads the
//! list ([`super::files`]); until then it is the publisher's word.

use std::collections::BTreeMap;

use super::manifest::{Blob, ManifestError, shorten};
use super::role::{Packing, Role};
use crate::base::digest::Sha256;

/// The path of the list of files.
pub const LIST_PATH: &str = ".waag/files.json";
pub(super) const FILES: &str = "eu.waag.files";
pub(super) const COUNT: &str = "eu.waag.files.count";
pub(super) const BYTES: &str = "eu.waag.files.bytes";

/// A layer that holds many files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tar {
    /// What the most needed of its files is for.
    pub role: Role,
    /// Its bytes.
    pub blob: Blob,
}

/// The packed part of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The list of files.
    pub list: Blob,
    /// The tars, in the order of the paths that they hold.
    pub tars: Vec<Tar>,
    /// How many files the release has, packed or not.
    pub files: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

/// Returns the path that stands for a tar.
#[must_use]
pub fn tar_path(index: usize) -> String {
    format!(".waag/files-{index}.tar")
}

/// A packed part in the reading.
pub(super) struct Reading {
    named: Sha256,
    list: Option<Blob>,
    tars: Vec<Tar>,
    files: u64,
    bytes: u64,
}

impl Reading {
    /// Begins, if the manifest says that it has a packed part.
    pub(super) fn begin(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, ManifestError> {
        let Some(text) = annotations.get(FILES) else {
            return Ok(None);
        };
        let wrong = |key, found: &str, expected| ManifestError::Annotation {
            key,
            found: shorten(found),
            expected,
        };
        let number = |key| {
            let text = annotations.get(key).map_or("", String::as_str);
            // One spelling for each number.
            let found = text
                .parse::<u64>()
                .ok()
                .filter(|number| number.to_string() == text);
            found.ok_or_else(|| wrong(key, text, "a number"))
        };
        Ok(Some(Self {
            named: text
                .parse()
                .map_err(|_| wrong(FILES, text, "sha256:<64 hex digits>"))?,
            list: None,
            tars: Vec::new(),
            files: number(COUNT)?,
            bytes: number(BYTES)?,
        }))
    }

    /// Takes a layer if it belongs to the packed part.
    pub(super) fn take(&mut self, path: &str, role: Role, packing: Packing, blob: Blob) -> bool {
        if path == LIST_PATH && packing == Packing::Raw && blob.digest == self.named && self.list.is_none() {
            self.list = Some(blob);
            true
        } else if packing == Packing::Tar && path == tar_path(self.tars.len()) {
            self.tars.push(Tar { role, blob });
            true
        } else {
            false
        }
    }

    pub(super) fn finish(self) -> Result<Packed, ManifestError> {
        match self.list {
            Some(list) if !self.tars.is_empty() => Ok(Packed {
                list,
                tars: self.tars,
                files: self.files,
                bytes: self.bytes,
            }),
            _ => Err(ManifestError::Annotation {
                key: FILES,
                found: self.named.to_string(),
                expected: "the digest of the layer .waag/files.json, beside at least one tar",
            }),
        }
    }
}
