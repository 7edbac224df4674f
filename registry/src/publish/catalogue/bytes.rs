//! Where the bytes of a file are that a caller may have, packed or not.

use std::ops::Range;

use waag_schema::release::files::LIST_MAX_BYTES;
use waag_schema::release::{Files, Manifest};
use waag_schema::{ArtifactName, ChunkDigest, Sha256};

use super::Catalogue;
use crate::access::Caller;
use crate::index::ContentRow;
use crate::publish::PublishError;
use crate::publish::packed::Whereabouts;
use crate::store::{Key, StoreError};

/// In how many of an artifact's newest packed releases a file is looked for by its digest alone.
const LISTS_MAX: usize = 16;

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBytes {
    /// The recipe of the layer that holds them.
    pub recipe: ChunkDigest,
    /// Which of the layer's bytes they are.
    pub within: Range<u64>,
}

impl Catalogue {
    /// Returns how a layer of an artifact is made of chunks, if it may be served to the caller.
    ///
    /// # Errors
    /// When there is none that the caller may know of, or the artifact's label denies it.
    pub async fn file(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        file: &Sha256,
    ) -> Result<ContentRow, PublishError> {
        let shelf = self.may_serve(caller, name).await?;
        let (artifact, wanted) = (name.clone(), *file);
        let row = shelf
            .index(self)
            .ask(move |q| q.content_of(&artifact, &wanted))
            .await?;
        row.ok_or_else(|| PublishError::NotFound(format!("file {file} of {name}")))
    }

    /// Returns where the bytes of a file of an artifact are, packed or not, if it may be served to the caller.
    ///
    /// # Errors
    /// When there is none that the caller may know of (in the 16 newest of the releases that pack files), or
    /// the artifact's label denies it.
    pub async fn bytes(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        file: &Sha256,
    ) -> Result<FileBytes, PublishError> {
        let missing = match self.file(caller, name, file).await {
            Ok(row) => {
                return Ok(FileBytes {
                    recipe: row.recipe,
                    within: 0..row.size,
                });
            }
            Err(error @ PublishError::NotFound(_)) => error,
            Err(error) => return Err(error),
        };
        // Who may not know of the artifact gets the same answer as for a file that it lacks.
        let Ok(shelf) = self.may_serve(caller, name).await else {
            return Err(missing);
        };
        let artifact = name.clone();
        let manifests = shelf
            .index(self)
            .ask(move |q| q.packed_releases(&artifact, LISTS_MAX))
            .await?;
        for manifest in manifests {
            let read = async || self.read_list(caller, name, &manifest).await;
            let Some(packed) = self.packed.of(manifest, read).await? else {
                continue;
            };
            if let Some((tar, within)) = packed.find(file) {
                let row = self.file(caller, name, &tar).await?;
                return Ok(FileBytes {
                    recipe: row.recipe,
                    within,
                });
            }
        }
        Err(missing)
    }

    /// Reads which files a release packs; none where manifest or list are not at hand.
    async fn read_list(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<Whereabouts>, PublishError> {
        let manifest = match self.store.get(&Key::manifest(manifest)).await {
            Ok(bytes) => Manifest::parse(bytes.to_vec())?,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(list) = manifest.packed().map(|packed| packed.list) else {
            return Ok(None);
        };
        let row = self.file(caller, name, &list.digest).await?;
        // It was read before it was published, but is read here with the same bound.
        let recipe = self.content.recipe(&row.recipe).await?;
        let Some(recipe) = recipe.filter(|recipe| recipe.size() <= LIST_MAX_BYTES as u64) else {
            return Ok(None);
        };
        let bytes = self.content.head(&recipe, recipe.size()).await?;
        let read = move || Files::of(&manifest, Some(&bytes)).map(|files| Whereabouts::of(&files));
        Ok(Some(self.content.on_pool(read).await?))
    }
}
