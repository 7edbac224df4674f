//! What waag's statements say: in-toto Statement v1 around one of our predicates.
//!
//! A statement is serialised once, by whoever signs it, and from then on only read. Reading is strict: an
//! unknown predicate type, an unknown field or a second subject is refused, because a verifier that skips
//! what it does not understand believes more than was checked.
//!
//! A subject that is content carries the content's digest (a manifest's). A subject that is a name, as in
//! `residency` and `namespace`, carries the SHA-256 of the name's bytes, since in-toto asks for a digest. What a
//! site says of its own ledger has the name `site:<id>`.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StatementError;
use super::access::Access;
use super::chain::Link;
use super::custody::Custody;
use super::gate::Gate;
use super::namespace::{Genesis, Rotation};
use super::scorecard::Scorecard;
use super::site::{CharterAdopted, Erasure, RevocationList, Successor};
use crate::base::digest::{ChunkDigest, Sha256};
use crate::base::json;
use crate::base::name::{ArtifactName, Namespace, SiteId, Tag};
use crate::content::planner::PlannerId;
use crate::policy::label::Label;
use crate::release::kind::Kind;
use crate::release::manifest::{Blob, Manifest};
use crate::release::role::Packing;
use crate::statement::dsse::ENVELOPE_SIZE_MAX;

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREFIX: &str = "urn:waag:predicate:";
const SITE_PREFIX: &str = "site:";

/// One in-toto Statement: a subject and what is said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it is about.
    pub subject: Subject,
    /// What it says.
    pub predicate: Predicate,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A namespace, by name.
    Namespace(Namespace),
    /// An artifact, by name.
    Artifact(ArtifactName),
    /// One manifest of an artifact.
    Manifest(ArtifactName, Sha256),
    /// A site's ledger.
    Site(SiteId),
}

/// What is said. Each variant is one predicate type, `urn:waag:predicate:<name>:1`.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// `namespace`: a namespace begins.
    Genesis(Genesis),
    /// `rotation`: a namespace's keys change.
    Rotation(Rotation),
    /// `gate`: what a release must have scored before a tag of the namespace may name it.
    Gate(Gate),
    /// `access`: which other sites may read a private namespace.
    Access(Access),
    /// `release`: this manifest is a version of the artifact, and this is how its files are made of chunks.
    Release(Release),
    /// `tag`: a tag names this manifest from now on.
    Tag(TagMove),
    /// `residency`: where the artifact may live, from now on and for all its versions.
    Residency(Residency),
    /// `withdrawal`: the version is no longer to be used.
    Withdrawal(Withdrawal),
    /// `erasure`: the opening of an entry of this ledger is deleted, everywhere.
    Erasure(Erasure),
    /// `revocation-list`: the releases in this ledger that are withdrawn, all of them, as of a time.
    RevocationList(RevocationList),
    /// `successor`: this ledger continues another one, which ended.
    Successor(Successor),
    /// `charter-adopted`: the site goes by this charter from now on.
    CharterAdopted(CharterAdopted),
    /// `scorecard`: what a site has measured on this manifest's files.
    Scorecard(Scorecard),
    /// `custody`: that the site holds the bytes of another site's release, has refused them, or has erased them.
    Custody(Custody),
}

/// The predicate `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The id of the namespace that publishes.
    pub namespace: Sha256,
    /// Its place among the statements on this artifact.
    pub link: Link,
    /// Model, dataset or suite.
    pub kind: Kind,
    /// The manifest's config.
    pub config: Content,
    /// Each distinct file of the manifest once, sorted by digest.
    pub content: Vec<Content>,
}

impl Release {
    /// Checks that this speaks of exactly the manifest's files.
    ///
    /// # Errors
    /// What it leaves out, or says more, or otherwise.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), String> {
        if manifest.kind() != self.kind {
            return Err(format!(
                "the release is a {}, its manifest a {}",
                self.kind,
                manifest.kind()
            ));
        }
        let fits = |content: &Content, blob: Blob| content.sha256 == blob.digest && content.size == blob.size;
        if !fits(&self.config, manifest.config()) {
            return Err("the release names another config than its manifest".to_owned());
        }
        if let Some(archive) = manifest
            .layers()
            .iter()
            .find(|layer| layer.packing != Packing::Raw)
        {
            return Err(format!(
                "{} is an archive without a list of its files, which is not unpacked",
                archive.path
            ));
        }
        for (path, blob) in manifest.blobs() {
            let found = self.content.binary_search_by_key(&blob.digest, |c| c.sha256);
            if !found.is_ok_and(|at| fits(&self.content[at], blob)) {
                return Err(format!("the release does not say how {path} is made of chunks"));
            }
        }
        let named: HashSet<Sha256> = manifest.blobs().map(|(_, blob)| blob.digest).collect();
        let of_manifest = |content: &Content| named.contains(&content.sha256);
        match self.content.iter().find(|content| !of_manifest(content)) {
            Some(extra) => Err(format!(
                "the release names {}, its manifest does not",
                extra.sha256
            )),
            None => Ok(()),
        }
    }
}

/// How one file is made of chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The file's SHA-256.
    pub sha256: Sha256,
    /// The file's length in bytes.
    pub size: u64,
    /// What cut it into chunks.
    pub planner: PlannerId,
    /// The BLAKE3 of its canonical recipe.
    pub recipe: ChunkDigest,
}

/// The predicate `tag`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagMove {
    /// The id of the namespace that publishes.
    pub namespace: Sha256,
    /// Its place among the statements on this artifact.
    pub link: Link,
    /// The tag.
    pub tag: Tag,
    /// The manifest that the tag named before: the publisher knew what was moved.
    // Naming the function makes serde ask for the key, which it would let be absent otherwise.
    #[serde(deserialize_with = "Option::deserialize")]
    pub from: Option<Sha256>,
}

/// The predicate `residency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    /// The id of the namespace that publishes.
    pub namespace: Sha256,
    /// Its place among the statements on this artifact.
    pub link: Link,
    /// The rules.
    pub label: Label,
}

/// The predicate `withdrawal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// The id of the namespace that publishes.
    pub namespace: Sha256,
    /// Its place among the statements on this artifact.
    pub link: Link,
    /// Why, in the publisher's words; at most 1,000 bytes.
    pub reason: String,
    /// Whether whoever holds a copy has to delete it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erase: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectJson>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectJson {
    name: String,
    digest: DigestJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestJson {
    sha256: String,
}

impl Subject {
    /// Returns the text that stands in the statement.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Namespace(name) => name.to_string(),
            Self::Artifact(name) | Self::Manifest(name, _) => name.to_string(),
            Self::Site(id) => format!("{SITE_PREFIX}{id}"),
        }
    }

    /// Returns the namespace that it belongs to. Its keys must sign, unless the statement is a site's.
    #[must_use]
    pub fn namespace(&self) -> Option<Namespace> {
        match self {
            Self::Namespace(name) => Some(name.clone()),
            Self::Artifact(name) | Self::Manifest(name, _) => Some(name.namespace()),
            Self::Site(_) => None,
        }
    }

    fn digest(&self) -> Sha256 {
        match self {
            Self::Manifest(_, digest) => *digest,
            named => Sha256::of(named.name().as_bytes()),
        }
    }
}

impl Predicate {
    /// Returns the short name in the predicate type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "namespace",
            Self::Rotation(_) => "rotation",
            Self::Gate(_) => "gate",
            Self::Access(_) => "access",
            Self::Release(_) => "release",
            Self::Tag(_) => "tag",
            Self::Residency(_) => "residency",
            Self::Withdrawal(_) => "withdrawal",
            Self::Erasure(_) => "erasure",
            Self::RevocationList(_) => "revocation-list",
            Self::Successor(_) => "successor",
            Self::CharterAdopted(_) => "charter-adopted",
            Self::Scorecard(_) => "scorecard",
            Self::Custody(_) => "custody",
        }
    }

    /// Returns the place in the chain of its subject. A genesis begins one; a site's statements have none, the
    /// ledger is their order.
    #[must_use]
    pub const fn link(&self) -> Option<Link> {
        match self {
            Self::Genesis(_) => Some(Link {
                counter: 1,
                previous: None,
            }),
            Self::Rotation(p) => Some(p.link),
            Self::Gate(p) => Some(p.link),
            Self::Access(p) => Some(p.link),
            Self::Release(p) => Some(p.link),
            Self::Tag(p) => Some(p.link),
            Self::Residency(p) => Some(p.link),
            Self::Withdrawal(p) => Some(p.link),
            Self::Erasure(_)
            | Self::RevocationList(_)
            | Self::Successor(_)
            | Self::CharterAdopted(_)
            | Self::Scorecard(_)
            | Self::Custody(_) => None,
        }
    }

    /// Says whether it is a site that says so, with its own key, and not the owners of a namespace.
    #[must_use]
    pub const fn is_a_sites(&self) -> bool {
        matches!(
            self,
            Self::Erasure(_)
                | Self::RevocationList(_)
                | Self::Successor(_)
                | Self::CharterAdopted(_)
                | Self::Scorecard(_)
                | Self::Custody(_)
        )
    }

    /// Returns the namespace id it names; a genesis has none yet.
    #[must_use]
    pub const fn namespace_id(&self) -> Option<Sha256> {
        match self {
            Self::Genesis(_)
            | Self::Erasure(_)
            | Self::RevocationList(_)
            | Self::Successor(_)
            | Self::CharterAdopted(_)
            | Self::Scorecard(_)
            | Self::Custody(_) => None,
            Self::Rotation(p) => Some(p.namespace),
            Self::Gate(p) => Some(p.namespace),
            Self::Access(p) => Some(p.namespace),
            Self::Release(p) => Some(p.namespace),
            Self::Tag(p) => Some(p.namespace),
            Self::Residency(p) => Some(p.namespace),
            Self::Withdrawal(p) => Some(p.namespace),
        }
    }
}

impl Statement {
    /// Writes the statement once; the bytes are what gets signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let predicate = match &self.predicate {
            Predicate::Genesis(p) => serde_json::to_value(p),
            Predicate::Rotation(p) => serde_json::to_value(p),
            Predicate::Gate(p) => serde_json::to_value(p),
            Predicate::Access(p) => serde_json::to_value(p),
            Predicate::Release(p) => serde_json::to_value(p),
            Predicate::Tag(p) => serde_json::to_value(p),
            Predicate::Residency(p) => serde_json::to_value(p),
            Predicate::Withdrawal(p) => serde_json::to_value(p),
            Predicate::Erasure(p) => serde_json::to_value(p),
            Predicate::RevocationList(p) => serde_json::to_value(p),
            Predicate::Successor(p) => serde_json::to_value(p),
            Predicate::CharterAdopted(p) => serde_json::to_value(p),
            Predicate::Scorecard(p) => serde_json::to_value(p),
            Predicate::Custody(p) => serde_json::to_value(p),
        }
        .expect("predicates hold only strings, integers, lists and objects");
        let json = StatementJson {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![SubjectJson {
                name: self.subject.name(),
                digest: DigestJson {
                    sha256: self.subject.digest().hex(),
                },
            }],
            predicate_type: format!("{PREFIX}{}:1", self.predicate.name()),
            predicate,
        };
        serde_json::to_vec(&json).expect("a JSON value always serialises")
    }

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// When it is not exactly one of the statements of this module.
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let malformed = |text: &dyn std::fmt::Display| StatementError::Payload(text.to_string());
        let json: StatementJson = json::from_slice(payload, ENVELOPE_SIZE_MAX)?;
        if json.kind != STATEMENT_TYPE {
            return Err(malformed(&format_args!("its _type is not {STATEMENT_TYPE}")));
        }
        let [subject] = json.subject.as_slice() else {
            return Err(malformed(&format_args!(
                "{} subjects, exactly one is accepted",
                json.subject.len()
            )));
        };
        let name = json
            .predicate_type
            .strip_prefix(PREFIX)
            .and_then(|t| t.strip_suffix(":1"))
            .unwrap_or_default();
        let predicate = match name {
            "namespace" => json::from_value(json.predicate).map(Predicate::Genesis),
            "rotation" => json::from_value(json.predicate).map(Predicate::Rotation),
            "gate" => json::from_value(json.predicate).map(Predicate::Gate),
            "access" => json::from_value(json.predicate).map(Predicate::Access),
            "release" => json::from_value(json.predicate).map(Predicate::Release),
            "tag" => json::from_value(json.predicate).map(Predicate::Tag),
            "residency" => json::from_value(json.predicate).map(Predicate::Residency),
            "withdrawal" => json::from_value(json.predicate).map(Predicate::Withdrawal),
            "erasure" => json::from_value(json.predicate).map(Predicate::Erasure),
            "revocation-list" => json::from_value(json.predicate).map(Predicate::RevocationList),
            "successor" => json::from_value(json.predicate).map(Predicate::Successor),
            "charter-adopted" => json::from_value(json.predicate).map(Predicate::CharterAdopted),
            "scorecard" => json::from_value(json.predicate).map(Predicate::Scorecard),
            "custody" => json::from_value(json.predicate).map(Predicate::Custody),
            _ => {
                return Err(malformed(&format_args!(
                    "the predicate type {:?} is unknown",
                    json.predicate_type
                )));
            }
        }
        .map_err(|e| malformed(&e))?;
        let digest = Sha256::from_hex(&subject.digest.sha256).map_err(|e| malformed(&e))?;
        let found = match &predicate {
            Predicate::Genesis(_) | Predicate::Rotation(_) | Predicate::Gate(_) | Predicate::Access(_) => {
                Subject::Namespace(subject.name.parse().map_err(|e| malformed(&e))?)
            }
            Predicate::Residency(_) => Subject::Artifact(subject.name.parse().map_err(|e| malformed(&e))?),
            Predicate::Erasure(_)
            | Predicate::RevocationList(_)
            | Predicate::Successor(_)
            | Predicate::CharterAdopted(_)
            | Predicate::Custody(_) => {
                let id = subject.name.strip_prefix(SITE_PREFIX).unwrap_or_default();
                Subject::Site(id.parse().map_err(|e| malformed(&e))?)
            }
            Predicate::Release(_)
            | Predicate::Tag(_)
            | Predicate::Withdrawal(_)
            | Predicate::Scorecard(_) => {
                Subject::Manifest(subject.name.parse().map_err(|e| malformed(&e))?, digest)
            }
        };
        if found.digest() != digest {
            return Err(malformed(&format_args!(
                "the subject's digest is not that of the name {:?}",
                subject.name
            )));
        }
        predicate.check().map_err(|e| malformed(&e))?;
        Ok(Self {
            subject: found,
            predicate,
        })
    }
}

impl Predicate {
    /// The rules that serde cannot say.
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Genesis(p) => p.keys.check(),
            Self::Rotation(p) => p.keys.check(),
            Self::Gate(p) => p.check(),
            Self::Access(p) => p.check(),
            Self::Release(p) if !p.content.is_sorted_by(|a, b| a.sha256 < b.sha256) => {
                Err("the content is not sorted by digest, each once".to_owned())
            }
            Self::Withdrawal(p) if p.reason.len() > 1000 => {
                Err("the reason has more than 1,000 bytes".to_owned())
            }
            Self::Erasure(p) => p.check(),
            Self::RevocationList(p) => p.check(),
            Self::Scorecard(p) => p.check(),
            Self::Custody(p) => p.check(),
            _ => Ok(()),
        }
    }
}
