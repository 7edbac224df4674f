//! Artifacts: what a site answers about a name, and the proof it gives with it.

use serde::{Deserialize, Serialize};

use crate::base::bytes::Base64;
use crate::base::digest::{ChunkDigest, Sha256};
use crate::base::name::{ArtifactName, SiteId, Tag};
use crate::base::time::Timestamp;
use crate::ledger::proof::EntryProof;
use crate::policy::label::Label;
use crate::release::kind::Kind;
use crate::statement::agreement::{Agreement, Difference, Outcome, Tolerance};
use crate::statement::scorecard::SuiteRelease;
use crate::statement::{Chain, Scorecard};

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ArtifactSummary {
    /// Its name.
    pub name: ArtifactName,
    /// Model, dataset or suite.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// How many releases it has.
    pub releases: u64,
    /// When its newest release was recorded.
    pub updated: Timestamp,
    /// SPDX expression of its newest release, as its publisher states it.
    pub license: Option<String>,
    /// Architecture of its newest release, from its `config.json`.
    pub architecture: Option<String>,
    /// Number of parameters of its newest release, as in `8.0B`.
    pub parameters: Option<String>,
}

/// Answer of `GET /api/v1/artifacts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ArtifactPage {
    /// Sorted by name.
    pub artifacts: Vec<ArtifactSummary>,
    /// Pass as `after` to read on; none at the end.
    pub next: Option<ArtifactName>,
}

/// A tag and what it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TagView {
    /// The tag.
    pub tag: Tag,
    /// The manifest it names.
    pub manifest: Sha256,
    /// The ledger entry that says so.
    pub entry: u64,
    /// When that entry was recorded.
    pub at: Timestamp,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseView {
    /// Its manifest.
    pub manifest: Sha256,
    /// The ledger entry of its statement.
    pub entry: u64,
    /// When that entry was recorded.
    pub at: Timestamp,
    /// How many files it has.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<String>,
}

/// Answer of `GET /api/v1/artifacts/{namespace}/{name}`. Also what a publisher needs to sign the next
/// statement; for an artifact that does not exist yet, a publisher gets an empty one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ArtifactView {
    /// Its name.
    pub name: ArtifactName,
    /// None before its first release.
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// The id of its namespace.
    pub namespace: Sha256,
    /// Where the chain of statements on it has come to.
    pub chain: Chain,
    /// Its newest label.
    #[schema(value_type = Option<Object>)]
    pub label: Option<Label>,
    /// Its tags, by name.
    pub tags: Vec<TagView>,
    /// Its releases, newest first.
    pub releases: Vec<ReleaseView>,
}

/// A scorecard of one of an artifact's releases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScorecardView {
    /// The manifest that was weighed.
    pub manifest: Sha256,
    /// The ledger entry of the statement.
    pub entry: u64,
    /// When that entry was recorded.
    pub recorded: Timestamp,
    /// What it says.
    pub scorecard: Scorecard,
}

/// A release that is being weighed, waits for it, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WeighingView {
    /// Its manifest.
    pub manifest: Sha256,
    /// The suite that it is asked, if this is not about its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteRelease>,
    /// `waiting`, `weighing` or `given up`.
    pub state: String,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to be read.
    pub total: u64,
    /// What went wrong, if something did.
    pub reason: Option<String>,
}

/// Answer of `GET /api/v1/artifacts/{namespace}/{name}/scorecards`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Scorecards {
    /// Newest first.
    pub scorecards: Vec<ScorecardView>,
    /// Releases whose weighing has not ended, newest first.
    pub weighing: Vec<WeighingView>,
    /// Proves the statements; absent where there is none.
    pub proof: Option<Proof>,
    /// What other sites than the home have found on the same releases, as far as this site has followed their ledgers:
    /// the newest of each site for each release, suite, precision and class of device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherScorecard>,
    /// Proves those, one of each site's ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others_proofs: Vec<Proof>,
}

/// What another site has found on a release, and whether that is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OtherScorecard {
    /// In whose ledger it stands.
    pub site: SiteId,
    /// The scorecard; its `entry` is one of that ledger.
    #[serde(flatten)]
    pub view: ScorecardView,
    /// What it says to the first scorecard of the same release and suite; none where it is that one itself.
    pub compared: Option<Compared>,
}

/// What a scorecard says to another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Compared {
    /// In whose ledger the other one stands: the home's where that has one, else this site's, else the first that has.
    pub site: SiteId,
    /// Its entry there.
    pub entry: u64,
    /// All sections together.
    pub verdict: Outcome,
    /// What differs most, if anything does.
    pub greatest: Option<Difference>,
    /// Section by section.
    pub agreements: Vec<Agreement>,
    /// How far apart numbers of different engines or devices may be, where the suite does not say so of a number.
    pub tolerance: Tolerance,
}

/// Answer of `GET /api/v1/artifacts/{namespace}/{name}/svr/{manifest}`: that a release passes all gates of its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SvrView {
    /// The DSSE envelope of an in-toto Simple Verification Result, signed with the site's key.
    pub envelope: Base64,
    /// The note in which the ledger's key says which key that is.
    pub site_key: String,
}

/// Entries of a site's ledger, proven under its newest checkpoint: enough to check them offline, given its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Proof {
    /// The signed tree head, as a C2SP signed note.
    pub checkpoint: String,
    /// The entries, each with its opening and its inclusion path, in ledger order.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<EntryProof>,
    /// The same of earlier series, without a gap from the first that is needed on; `entries`, and each of these but
    /// the first, then begin with the series' entry 0, which commits to the checkpoint before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Part>,
    /// The note in which the ledger's key says which key the site signs with; what a site says of a release counts only
    /// under that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<String>,
}

/// Entries of one series of a site's ledger that has ended, proven under its last checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Part {
    /// The last signed tree head, as a C2SP signed note.
    pub checkpoint: String,
    /// The entries, in ledger order.
    #[schema(value_type = Vec<Object>)]
    pub entries: Vec<EntryProof>,
}

/// Answer of `GET /api/v1/artifacts/{namespace}/{name}/resolve/{version}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resolved {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The manifest's digest.
    pub digest: Sha256,
    /// The manifest's exact bytes.
    pub manifest: Base64,
    /// The namespace's genesis and rotations, the release, the tag (if one was asked for), the newest label, a
    /// withdrawal, if any, the newest revocation list, and the newest scorecards of this manifest.
    pub proof: Proof,
}

/// A label that an artifact is under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LabelView {
    /// Whose label it is: the artifact itself, or one that it was made from; none where the caller may not know of that.
    pub artifact: Option<ArtifactName>,
    /// What it says.
    #[schema(value_type = Object)]
    pub label: Label,
    /// The ledger entry that says so; none where the caller may not know of it.
    pub entry: Option<u64>,
}

/// Answer of `GET /api/v1/artifacts/{namespace}/{name}/labels`: everything that is decided together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Labels {
    /// The site at which the artifact was published.
    pub home: SiteId,
    /// Its own newest label first, then those of what it was made from, by name.
    pub labels: Vec<LabelView>,
    /// Proves the statements; absent where there is none.
    pub proof: Option<Proof>,
}

/// Body of `POST /api/v1/artifacts/{namespace}/{name}/recipes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipesRequest {
    /// Files of this artifact, each once.
    pub files: Vec<Sha256>,
}

/// Answer to it: canonical recipe bytes in the order asked. An answer is bounded: ask again for the files that it
/// leaves off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recipes {
    /// One for each of the first files asked for; at least one.
    pub recipes: Vec<Base64>,
}

/// Body of `POST /api/v1/artifacts/{namespace}/{name}/chunks`; the answer is a stream of frames in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChunksRequest {
    /// A file of this artifact that is made of the chunks.
    pub file: Sha256,
    /// Chunks of that file.
    pub chunks: Vec<ChunkDigest>,
}
