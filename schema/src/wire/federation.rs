//! Other sites, as a site deals with them: its mirrors, who holds what, whom it follows.

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::hours::Hours;
use crate::base::name::{ArtifactName, SiteId, Version};
use crate::base::time::Timestamp;
use crate::content::challenge::Answer;
use crate::policy::place::Where;
use crate::release::kind::Kind;

/// When a release that a rule matches is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// As soon as it is seen.
    #[default]
    Always,
    /// Once somebody here has asked for it.
    OnDemand,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorRule {
    /// The site: its id, or its name in the charter.
    pub site: String,
    /// Names of artifacts, in which `*` stands for anything; all where there is none.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// Only these kinds; all where there is none.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<Kind>,
    /// Only artifacts whose own label allows to hold them at one of these places, as it is written there: a label for
    /// `DE` is none for `EU`. All where there is none, those without a label too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<Where>,
    /// When they are fetched.
    #[serde(default)]
    pub when: When,
    /// The most bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Fetched only within these hours of the day, in UTC; whenever there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "22:00-06:00")]
    pub hours: Option<Hours>,
}

/// How a release of another site stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All of it is here, checked.
    Held,
    /// It will be fetched.
    Waiting,
    /// It is fetched once somebody asks for it.
    OnDemand,
    /// A label denies it to this site.
    Refused,
    /// It could not be fetched; it is tried again.
    Failed,
    /// Its publisher withdrew it before it was fetched, or it is held all the same.
    Withdrawn,
    /// It was held, and is deleted.
    Erased,
    /// It was held, and its operator gave it up; it is not fetched again before he asks for it.
    Dropped,
}

/// A release of another site that a rule matches, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MirroredView {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// Its home.
    pub home: SiteId,
    /// How it stands.
    pub state: State,
    /// Why.
    pub reason: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Since when, by this site's ledger.
    pub since: Option<Timestamp>,
}

/// What convicts a site: signed trees that cannot all be beginnings of one history, or that break its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// What is wrong.
    pub reason: String,
    /// The checkpoints, as it signed them.
    pub checkpoints: Vec<String>,
    /// When it was found.
    pub found: Timestamp,
}

/// A site that is followed, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerView {
    /// Its id.
    pub site: SiteId,
    /// What the charter calls it.
    pub name: String,
    /// Where it is.
    pub jurisdiction: Option<String>,
    /// Where it answers.
    pub url: String,
    /// How many entries of its ledger were followed, in all series.
    pub entries: u64,
    /// When it was last heard from.
    pub heard: Option<Timestamp>,
    /// Why the last look failed, if it did.
    pub trouble: Option<String>,
    /// Why it is not believed any more, if so.
    pub stopped: Option<String>,
    /// What convicts it.
    pub evidence: Option<Evidence>,
}

/// A rule and what it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleView {
    /// The rule.
    pub rule: MirrorRule,
    /// How many releases it matches.
    pub matches: u64,
    /// What is wrong with it, if anything.
    pub error: Option<String>,
}

/// How mirroring stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MirrorStatus {
    /// The sites of the charter.
    pub peers: Vec<PeerView>,
    /// The rules.
    pub rules: Vec<RuleView>,
    /// The releases.
    pub releases: Vec<MirroredView>,
}

/// A set of releases: how many, and its digest by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SetView {
    /// How many.
    pub releases: u64,
    /// SHA-256 of `waag set 1`, a line feed, and for each release, in ascending order, the SHA-256 of its artifact's
    /// name, a zero byte and the 32 bytes of its manifest's SHA-256.
    pub digest: Sha256,
    /// As of how many entries of the ledger.
    pub entries: u64,
}

/// A release that is in one of two sets only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DifferingView {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// It is held, and counts no more at its home; else it is missing.
    pub held: bool,
    /// What the holder said of it last, or why it was withdrawn.
    pub reason: Option<String>,
}

/// Answer to `GET /api/v1/federation/sites/{site}/held`: what a site holds of another one's releases, beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ComparisonView {
    /// Whose releases they are.
    pub home: SiteId,
    /// Who holds them.
    pub holder: SiteId,
    /// The releases that stand in the home's ledger and are not withdrawn.
    pub released: SetView,
    /// Those of which the holder's ledger says that it holds them.
    pub held: SetView,
    /// Is none missing?
    pub complete: bool,
    /// How many are missing.
    pub missing: u64,
    /// How many are held that count no more.
    pub surplus: u64,
    /// Which they are: at most 1000 of each.
    pub differing: Vec<DifferingView>,
}

/// A site that holds a release, refused it or has erased it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HolderView {
    /// The site.
    pub site: SiteId,
    /// Its country, as the charter says.
    pub jurisdiction: Option<String>,
    /// The release.
    pub manifest: Sha256,
    /// `home`, `holds`, `refused`, `erased` or `dropped`.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// Since when, by its own ledger.
    pub since: Timestamp,
    /// The entry of its ledger that says so.
    pub entry: u64,
    /// As of when its ledger was followed here.
    pub verified: Timestamp,
    /// What came of it when this site last asked for proof that the bytes are there. None: it never did.
    #[serde(default)]
    pub checked: Option<Checked>,
}

/// What came of asking a site for proof that it has the bytes that it says it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Checked {
    /// When it was last asked.
    pub at: Timestamp,
    /// Why that was in vain; none if it answered rightly.
    pub failed: Option<String>,
    /// When it last answered rightly.
    pub ok: Option<Timestamp>,
}

/// Body of `POST /api/v1/federation/drop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropRequest {
    /// The artifact.
    pub artifact: ArtifactName,
    /// A tag, or `sha256:<64 hex digits>`.
    pub version: Version,
    /// How many other sites have to prove that they have it, at least one.
    pub copies: u32,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DropAnswer {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release.
    pub manifest: Sha256,
    /// The sites that proved that they have it.
    pub others: Vec<SiteId>,
}

/// What a site has verified of other ledgers, and what convicts some.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Checkpoints {
    /// Checkpoints, as their ledgers signed them.
    pub checkpoints: Vec<String>,
}

/// Answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Answered {
    /// What only who has the bytes can say.
    pub answer: Answer,
}

/// Body of `POST /api/v1/federation/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Only this site, by id or by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// Answer to it: what a look at other sites has brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunAnswer {
    /// Entries of other ledgers that are new.
    pub entries: u64,
    /// Releases fetched.
    pub fetched: u64,
    /// Releases refused, as a label says.
    pub refused: u64,
    /// Copies deleted.
    pub erased: u64,
    /// Releases that could not be fetched or deleted.
    pub failed: u64,
    /// What went wrong, site by site.
    pub troubles: Vec<String>,
}
