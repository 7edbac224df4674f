//! What a pull would do, told before it is done: what is here and why, and what has to come.

use std::collections::HashMap;

use serde::Serialize;
use waag_schema::{ArtifactName, FilePath, Sha256, Tag};

use super::claim::Stale;
use super::local::Why;
use super::{Prepared, tag_of};

/// A pull that was prepared and not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullPlan {
    /// The artifact.
    pub name: ArtifactName,
    /// The tag that was asked for, if any.
    pub tag: Option<Tag>,
    /// The manifest's digest.
    pub digest: Sha256,
    /// How many files would be there.
    pub files: u64,
    /// How many files the release has.
    pub release_files: u64,
    /// The bytes of the files together.
    pub bytes: u64,
    /// How many files would be written.
    pub write_files: u64,
    /// The files of earlier pulls that would be removed.
    pub remove_files: Vec<FilePath>,
    /// Those that would stay, because they were changed since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<FilePath>,
    /// How many distinct chunks they lack.
    pub chunks: u64,
    /// How many of them would come from the site.
    pub fetch_chunks: u64,
    /// Their bytes: what would be received.
    pub fetch_bytes: u64,
    /// Bytes of the files that need not come.
    pub reused: Reused,
}

/// Why bytes of the files need not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reused {
    /// They are in place, under one of their names, or in what a broken pull left, or are made here.
    pub in_place_bytes: u64,
    /// They lie in an earlier version or another file of the directory.
    pub target_bytes: u64,
    /// They lie in a directory that was named.
    pub named_bytes: u64,
    /// They lie in the cache of chunks.
    pub cache_bytes: u64,
}

impl PullPlan {
    pub(super) fn of(prepared: &Prepared, stale: Stale) -> Self {
        let Prepared {
            request,
            proven,
            listing,
            wanted,
            builder,
            lacking,
            local,
            cached,
            ..
        } = prepared;
        let (mut reused, mut found) = (Reused::default(), HashMap::new());
        for (chunk, why) in local.chunks() {
            found.insert(*chunk, why);
        }
        let (mut fetch_chunks, mut fetch_bytes) = (0, 0);
        for one in lacking {
            let bytes = builder.wanted_bytes(std::iter::once(&one.chunk));
            match found.get(&one.chunk) {
                Some(Why::Target) => reused.target_bytes += bytes,
                Some(Why::Named) => reused.named_bytes += bytes,
                None if cached.contains(&one.chunk) => reused.cache_bytes += bytes,
                None => {
                    fetch_chunks += 1;
                    fetch_bytes += u64::from(one.length);
                }
            }
        }
        let bytes = wanted.bytes();
        reused.in_place_bytes = bytes.saturating_sub(builder.lacking_bytes());
        Self {
            name: request.reference.artifact.clone(),
            tag: tag_of(&request.reference),
            digest: proven.manifest.digest(),
            files: wanted.files(),
            release_files: listing.files.len() as u64,
            bytes,
            write_files: builder.to_write().count() as u64,
            remove_files: stale.ours,
            changed_files: stale.changed,
            chunks: lacking.len() as u64,
            fetch_chunks,
            fetch_bytes,
            reused,
        }
    }
}
