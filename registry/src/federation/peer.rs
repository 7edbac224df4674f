//! Another site: what the charter says of it, and what can be asked of it.
//!
//! Answers are bytes as they came, bounded in size and believed by nobody here: `follow` and `mirror` check them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use waag_schema::base::key::PublicKey;
use waag_schema::content::challenge::{Answer, Challenge};
use waag_schema::federation::{Ending, SiteTerms};
use waag_schema::ledger::{Checkpoint, PackPath, TilePath, VerifierKey};
use waag_schema::policy::place::Country;
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::ledger::StreamView;
use waag_schema::{ArtifactName, ChunkDigest, Namespace, Sha256, SiteId};

use crate::access::Here;
use crate::ledger::{Followed, owns};

/// What the charter says of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSite {
    /// Its id.
    pub id: SiteId,
    /// What people call it.
    pub name: String,
    /// Where its storage stands.
    pub jurisdiction: Option<Country>,
    /// Where it answers: `https://host[:port]`.
    pub url: String,
    /// The key that signs its ledger.
    pub log_key: PublicKey,
    /// The key that signs what it says, and its requests.
    pub site_key: PublicKey,
    /// The key that cosigns other sites' ledgers.
    pub witness_key: VerifierKey,
    /// The namespaces that are its own: a name, or a prefix that ends in `*`.
    pub owns: Vec<String>,
    /// The trees with which series of its ledger end, by series.
    pub ends: BTreeMap<u32, Ending>,
}

impl PeerSite {
    /// Reads what the charter says of a site.
    #[must_use]
    pub fn of(terms: &SiteTerms) -> Option<Self> {
        Some(Self {
            id: terms.id.clone(),
            name: terms.name.to_string(),
            jurisdiction: Some(terms.jurisdiction),
            url: terms.url.to_string(),
            // A site goes on with its first key, whichever of its series goes on.
            log_key: *terms.ledgers.first()?.key.key(),
            site_key: terms.site_key,
            witness_key: terms.witness_key.clone(),
            owns: terms.owns.iter().map(ToString::to_string).collect(),
            ends: terms.ends().collect(),
        })
    }

    /// Returns it as policy sees it.
    #[must_use]
    pub fn here(&self) -> Here {
        Here::new(self.id.clone(), self.jurisdiction)
    }

    /// Returns what was followed of it as it is seen under these terms.
    pub(super) fn seen_with(&self, followed: &Followed) -> Followed {
        Followed {
            jurisdiction: self.jurisdiction,
            owns: self.owns.clone(),
            ..followed.clone()
        }
    }

    /// Returns the tree with which this one's series ends, if it is none that leads there.
    pub(super) fn end_before(&self, tree: &Checkpoint) -> Option<Ending> {
        let end = *self.ends.get(&tree.origin.series())?;
        (!end.takes(&tree.tree())).then_some(end)
    }

    /// Is this namespace its own?
    #[must_use]
    pub fn owns(&self, namespace: &Namespace) -> bool {
        owns(&self.owns, namespace)
    }
}

/// A site could not be asked, or did not answer as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It does not answer. Ask again later.
    #[error("it does not answer: {0}")]
    Unreachable(String),
    /// It has nothing of this name, or nothing for this site.
    #[error("it has no {0}")]
    Absent(String),
    /// A label denies it, in its view.
    #[error("it refuses: {message}{}", .reasons.iter().map(|r| format!("; {r}")).collect::<String>())]
    Denied {
        /// What it says.
        message: String,
        /// The verdict's reasons.
        reasons: Vec<String>,
    },
    /// It answers otherwise than the protocol says.
    #[error("it answers oddly: {0}")]
    Odd(String),
}

/// A chunk as it is stored, under the digest that it is said to have.
pub type SentChunk = (ChunkDigest, Bytes);

/// What one site asks of another.
#[async_trait]
pub trait Peer: Send + Sync + 'static {
    /// The newest checkpoint of a series, or of the one that goes on. None: it is the one with this text.
    async fn checkpoint(&self, series: Option<u32>, known: Option<&str>) -> Result<Option<Bytes>, PeerError>;

    /// Hands over a checkpoint's text with the line of the asking site's witness key.
    async fn cosign(&self, note: &str) -> Result<(), PeerError>;

    /// The note in which its ledger's key says which key the site signs with.
    async fn site_key(&self) -> Result<Bytes, PeerError>;

    /// A tile or an entry bundle.
    async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, PeerError>;

    /// The streams that the asking site may read, beside the one for everybody. All entries that it counts are in
    /// every tree that is shown later.
    async fn streams(&self) -> Result<Vec<StreamView>, PeerError>;

    /// A pack of openings.
    async fn pack(&self, series: u32, path: &PackPath) -> Result<Bytes, PeerError>;

    /// A release's manifest.
    async fn manifest(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Bytes, PeerError>;

    /// The details of a scorecard.
    async fn scorecard(&self, artifact: &ArtifactName, details: &Sha256) -> Result<Bytes, PeerError>;

    /// Recipes of the first of these files, as many as it likes, at least one.
    async fn recipes(&self, artifact: &ArtifactName, files: &[Sha256]) -> Result<Vec<Bytes>, PeerError>;

    /// Chunks of a file, as they are stored, in the order asked; perhaps not all.
    async fn chunks(
        &self,
        artifact: &ArtifactName,
        request: &ChunksRequest,
    ) -> Result<Vec<SentChunk>, PeerError>;

    /// What only who has the bytes can say.
    async fn challenge(&self, artifact: &ArtifactName, challenge: &Challenge) -> Result<Answer, PeerError>;

    /// What it has verified of other sites' ledgers, and what convicts some: checkpoints, as they were signed.
    async fn checkpoints(&self) -> Result<Vec<String>, PeerError>;

    /// A tile or an entry bundle of another site's ledger, of which it has a copy.
    async fn tile_of(&self, site: &SiteId, series: u32, path: &TilePath) -> Result<Bytes, PeerError>;
}
