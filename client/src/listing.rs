//! All files of a proven release: where some are packed, by the list that the manifest names, fetched or kept.

use std::collections::HashSet;
use std::path::Path;

use waag_schema::release::files::LIST_MAX_BYTES;
use waag_schema::release::{Files, Manifest};
use waag_schema::statement::Content;
use waag_schema::{ArtifactName, Sha256};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::kept::read_list;
use crate::proof::Proven;
use crate::read::blocking;
use crate::site::Site;

/// The files of a release, and the bytes that list them where a manifest alone does not.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) files: Files,
    /// Kept beside the files, so that they can be verified without a network.
    pub(crate) list: Option<Vec<u8>>,
}

/// Returns all files of a proven release, by path; where some are packed, the list of them is fetched and checked.
///
/// # Errors
/// When the list cannot be had, or is not the one that the manifest names.
pub async fn files(site: &Site, proven: &Proven) -> Result<Files> {
    Ok(fetch_listing(site, proven).await?.files)
}

impl Listing {
    /// Returns the layers that hold files: all but the list itself, unless a file happens to be the same.
    pub(crate) fn layers<'p>(&self, proven: &'p Proven) -> Vec<&'p Content> {
        let holding: HashSet<Sha256> = self.files.iter().map(|file| self.files.locate(file).0).collect();
        let layers = proven.release.content.iter();
        layers
            .filter(|content| holding.contains(&content.sha256))
            .collect()
    }
}

/// Fetches the list of files, if the release has one, and checks it.
pub(crate) async fn fetch_listing(site: &Site, proven: &Proven) -> Result<Listing> {
    let list = match list_of(&proven.manifest, &proven.artifact)? {
        Some((digest, size)) => {
            let path = format!("/api/v1/artifacts/{}/files/{digest}", proven.artifact);
            Some(site.transport().bytes(Ask::get(path), size).await?)
        }
        None => None,
    };
    let (manifest, artifact) = (proven.manifest.clone(), proven.artifact.clone());
    blocking(move || read_listing(&manifest, &artifact, list)).await
}

/// Checks a list of files against the manifest that names it.
fn read_listing(manifest: &Manifest, artifact: &ArtifactName, list: Option<Vec<u8>>) -> Result<Listing> {
    let files = Files::of(manifest, list.as_deref())
        .map_err(|e| ClientError::verification(format_args!("files of {artifact}"), e))?;
    Ok(Listing { files, list })
}

/// Reads and checks the list that an earlier pull has kept in a directory.
pub(crate) fn kept_listing(
    directory: &Path,
    manifest: &Manifest,
    artifact: &ArtifactName,
) -> Result<Listing> {
    let list = list_of(manifest, artifact)?
        .map(|(_, size)| read_list(directory, size))
        .transpose()?;
    read_listing(manifest, artifact, list)
}

/// The list's digest and size, which is bounded before anything is fetched.
fn list_of(manifest: &Manifest, artifact: &ArtifactName) -> Result<Option<(Sha256, usize)>> {
    let Some(packed) = manifest.packed() else {
        return Ok(None);
    };
    match usize::try_from(packed.list.size) {
        Ok(size) if size <= LIST_MAX_BYTES => Ok(Some((packed.list.digest, size))),
        _ => Err(ClientError::verification(
            format_args!("files of {artifact}"),
            format_args!(
                "the list of them has {} bytes, at most {LIST_MAX_BYTES} are read",
                packed.list.size
            ),
        )),
    }
}
