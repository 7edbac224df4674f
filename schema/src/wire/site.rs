//! A site as it presents itself, and its namespaces.

use serde::{Deserialize, Serialize};

use crate::base::bytes::Base64;
use crate::base::digest::Sha256;
use crate::base::key::PublicKey;
use crate::base::name::{Namespace, SiteId, Tag};
use crate::base::time::Timestamp;
use crate::statement::gate::Requirement;
use crate::statement::{Chain, Visibility};

/// Answer of `GET /api/v1/site`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SiteView {
    /// Who it is: the fingerprint that a client pins.
    pub id: SiteId,
    /// The name of its ledger.
    pub origin: String,
    /// The ledger's key in the text form of C2SP signed-note: `name+hash+base64`.
    pub log_key: String,
    /// The key that signs what the site says of itself, its custody and its requests.
    pub site_key: PublicKey,
    /// The key that cosigns other sites' checkpoints, in the same text form as the ledger's.
    pub witness_key: String,
    /// ISO 3166-1 code of where its storage is, if its operator states one.
    pub jurisdiction: Option<String>,
    /// The version of its software.
    pub version: String,
}

/// Body of `POST /api/v1/charter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CharterRequest {
    /// Charters one after another, the oldest first: those that the site lacks, with their signatures.
    pub charters: Vec<Base64>,
}

/// Answer of `POST /api/v1/charter` and `GET /api/v1/charter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CharterView {
    /// The charter that the site goes by, its exact bytes with their signatures.
    pub charter: Base64,
    /// The SHA-256 of its document.
    pub sha256: Sha256,
    /// Its version.
    pub version: u64,
    /// The ledger entry in which the site says so.
    pub entry: Option<u64>,
    /// When it ran out, if it has.
    pub expired: Option<Timestamp>,
}

/// Body of `POST /api/v1/namespaces`, and of `POST /api/v1/namespaces/{namespace}/rotation`, `.../gate` and
/// `.../access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NamespaceRequest {
    /// The signed statement that begins the namespace, changes its keys, puts a gate before a tag, or says
    /// which sites may read it.
    pub envelope: Base64,
}

/// Answer of `GET /api/v1/namespaces/{namespace}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NamespaceView {
    /// Its name.
    pub name: Namespace,
    /// The SHA-256 of its genesis statement.
    pub id: Sha256,
    /// Its owners' keys.
    pub owners: Vec<PublicKey>,
    /// How many owners must sign.
    pub threshold: u32,
    /// Keys that may rotate the owners.
    pub recovery: Vec<PublicKey>,
    /// Its home site.
    pub home: SiteId,
    /// Who may read by default.
    pub visibility: Visibility,
    /// Where the chain of statements on the namespace has come to.
    pub chain: Chain,
    /// The other sites that may read it, where it is private.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteId>,
    /// What stands before which tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateView>,
}

/// What a release must have scored before a tag may name it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GateView {
    /// The tag, on all artifacts of the namespace.
    pub tag: Tag,
    /// All of which must be met.
    pub requirements: Vec<Requirement>,
    /// The ledger entry that says so.
    pub entry: u64,
}
