//! A site in the same process, asked through its rooms as HTTP would ask it: the same verdicts, no network.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::content::challenge::{Answer, Challenge};
use waag_schema::ledger::{PackPath, TilePath};
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::ledger::StreamView;
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::peer::{Peer, PeerError, SentChunk};
use crate::access::{Caller, Here};
use crate::publish::PublishError;
use crate::site::Site;
use crate::store::{Key, StoreError};

/// A site in this process, and who asks it.
#[derive(Clone)]
pub struct LocalPeer {
    /// Sites that know each other must not keep each other open.
    site: Weak<Site>,
    caller: Caller,
}

impl LocalPeer {
    /// Asks this site in the name of another one.
    #[must_use]
    pub fn new(site: &Arc<Site>, asking: Here) -> Self {
        Self {
            site: Arc::downgrade(site),
            caller: Caller::peer(asking),
        }
    }

    fn site(&self) -> Result<Arc<Site>, PeerError> {
        let stopped = || PeerError::Unreachable("it was stopped".to_owned());
        self.site.upgrade().ok_or_else(stopped)
    }
}

fn store(error: StoreError) -> PeerError {
    match error {
        StoreError::NotFound(key) => PeerError::Absent(key.to_string()),
        error => PeerError::Unreachable(error.to_string()),
    }
}

fn refused(error: PublishError) -> PeerError {
    match error {
        PublishError::Denied { ref reasons, .. } => PeerError::Denied {
            message: error.to_string(),
            reasons: reasons.clone(),
        },
        PublishError::NotFound(what) => PeerError::Absent(what),
        error => PeerError::Unreachable(error.to_string()),
    }
}

#[async_trait]
impl Peer for LocalPeer {
    async fn checkpoint(&self, series: Option<u32>, known: Option<&str>) -> Result<Option<Bytes>, PeerError> {
        let site = self.site()?;
        let ledger = site.ledger();
        let signed = match series {
            Some(series) => ledger.checkpoint_of(series),
            None => Some(ledger.checkpoint()),
        };
        let signed = signed.ok_or_else(|| PeerError::Absent("ledger of this series".to_owned()))?;
        let text = site.federation().published(signed).to_string();
        Ok((known != Some(text.as_str())).then(|| Bytes::from(text)))
    }

    async fn cosign(&self, note: &str) -> Result<(), PeerError> {
        let site = self.site()?;
        let taken = site.federation().cosign(note).await;
        taken.map_err(|error| PeerError::Odd(error.to_string()))
    }

    async fn site_key(&self) -> Result<Bytes, PeerError> {
        let site = self.site()?;
        let note = site.ledger().site_key().map(str::to_owned);
        note.map(Bytes::from)
            .ok_or_else(|| PeerError::Absent("note of the site's key".to_owned()))
    }

    async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        self.site()?.ledger().tile(series, path).await.map_err(store)
    }

    async fn streams(&self) -> Result<Vec<StreamView>, PeerError> {
        let site = self.site()?;
        site.catalogue().streams(&self.caller).await.map_err(refused)
    }

    async fn pack(&self, series: u32, path: &PackPath) -> Result<Bytes, PeerError> {
        let site = self.site()?;
        let pack = site.catalogue().pack(&self.caller, series, path).await;
        pack.map_err(refused)?
            .ok_or_else(|| PeerError::Absent(path.to_string()))
    }

    async fn manifest(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Bytes, PeerError> {
        let version = Version::Manifest(*manifest);
        let site = self.site()?;
        let resolved = site.catalogue().resolve(&self.caller, artifact, &version);
        Ok(resolved.await.map_err(refused)?.manifest.0.into())
    }

    async fn scorecard(&self, artifact: &ArtifactName, details: &Sha256) -> Result<Bytes, PeerError> {
        let site = self.site()?;
        let catalogue = site.catalogue();
        catalogue
            .scorecard_details(&self.caller, artifact, details)
            .await
            .map_err(refused)
    }

    async fn recipes(&self, artifact: &ArtifactName, files: &[Sha256]) -> Result<Vec<Bytes>, PeerError> {
        let (site, mut recipes) = (self.site()?, Vec::new());
        for file in files {
            let row = site.catalogue().file(&self.caller, artifact, file).await;
            let recipe = site.content().recipe(&row.map_err(refused)?.recipe).await;
            let recipe = recipe.map_err(|error| PeerError::Unreachable(error.to_string()))?;
            let recipe = recipe.ok_or_else(|| PeerError::Absent(format!("recipe of {file}")))?;
            recipes.push(recipe.canonical().into());
        }
        Ok(recipes)
    }

    async fn chunks(
        &self,
        artifact: &ArtifactName,
        request: &ChunksRequest,
    ) -> Result<Vec<SentChunk>, PeerError> {
        let site = self.site()?;
        let row = site.catalogue().file(&self.caller, artifact, &request.file).await;
        row.map_err(refused)?;
        let mut chunks = Vec::new();
        for chunk in &request.chunks {
            let stored = site.content().stored_chunk(chunk).await;
            let stored = stored.map_err(|error| PeerError::Unreachable(error.to_string()))?;
            chunks.push((*chunk, stored));
        }
        Ok(chunks)
    }

    async fn challenge(&self, artifact: &ArtifactName, challenge: &Challenge) -> Result<Answer, PeerError> {
        let site = self.site()?;
        let answered = site.catalogue().answer(&self.caller, artifact, challenge).await;
        answered.map_err(refused)
    }

    async fn checkpoints(&self) -> Result<Vec<String>, PeerError> {
        let told = self.site()?.federation().told().await;
        told.map_err(|error| PeerError::Unreachable(error.to_string()))
    }

    async fn tile_of(&self, site: &SiteId, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        let followed = self.site()?.catalogue().ledgers.of(site);
        let followed = followed.ok_or_else(|| PeerError::Absent(format!("ledger of {site}")))?;
        followed.store.get(&Key::tile(series, path)).await.map_err(store)
    }
}
