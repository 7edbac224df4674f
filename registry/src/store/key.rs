//! Every path in the store, made by functions, so that the layout stands in one place:
//!
//! ```text
//! chunks/<aa>/<blake3>                 a stored chunk (encoding header + body)
//! recipes/<aa>/<blake3>                a recipe's canonical bytes
//! manifests/<sha256>                   a manifest as pushed
//! scorecards/<sha256>                  the details of a scorecard
//! ledger/<series>/checkpoint           cell: the newest signed tree head
//! ledger/<series>/seq/<old size>       commit object; holds salts and bodies, deleted once materialised
//! ledger/<series>/tile/...             C2SP tiles and entry bundles
//! ledger/<series>/body/<stream>/<N>    cell: pack of openings, 256 slots
//! uploads/<id>                         cell: an upload session
//! uploads/<id>.sealed/<sha256>         a file of that session is complete; holds its recipe's digest
//! incoming/<id>/<blake3>               staged: a chunk sent in that session
//! charters/<version>                   a charter that was adopted, with its signatures
//! charter-evidence/<version>-<sha256>  another charter of a version that was adopted
//! leases/<sha256>                      cell: who measures what, and until when
//! tokens/<sha256>                      cell: a token, under the hash of its secret
//! federation/mirrors                   cell: the mirror rules that were added by command
//! federation/<site>/watermark          cell: the last tree of that site's ledger that was followed to its end
//! federation/<site>/evidence           cell: two signed trees of that site that contradict each other
//! federation/<site>/witnessed/<series> cell: the newest tree of that ledger that was cosigned here
//! federation/cosigned                  cell: the newest line of each witness on the own ledger
//! federation/<site>/checked/<sha256>   cell: what came of asking that site for proof that it holds a release
//! federation/<site>/giving-up/<sha256> cell: a copy of a release of that site is being given up, and why
//! federation/<site>/again/<sha256>     object: a release of that site was given up, and is to be fetched again
//! federation/<site>/pardoned           cell: up to which size what others have seen is not held against that site
//! federation/<site>/ledger/...         a copy of that site's ledger, laid out as the own one
//! ```

use std::fmt;

use waag_schema::ledger::{PackPath, TilePath, commit};
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId};

/// A place in the store: `/`-separated, made only by the functions here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A stored chunk.
    #[must_use]
    pub fn chunk(digest: &ChunkDigest) -> Self {
        let hex = digest.hex();
        Self(format!("chunks/{}/{hex}", &hex[..2]))
    }

    /// A recipe's canonical bytes.
    #[must_use]
    pub fn recipe(digest: &ChunkDigest) -> Self {
        let hex = digest.hex();
        Self(format!("recipes/{}/{hex}", &hex[..2]))
    }

    /// A manifest.
    #[must_use]
    pub fn manifest(digest: &Sha256) -> Self {
        Self(format!("manifests/{}", digest.hex()))
    }

    /// The details of a scorecard.
    #[must_use]
    pub fn scorecard(digest: &Sha256) -> Self {
        Self(format!("scorecards/{}", digest.hex()))
    }

    /// The newest signed tree head of a ledger.
    #[must_use]
    pub fn checkpoint(series: u32) -> Self {
        Self(format!("ledger/{series}/checkpoint"))
    }

    /// The commit object that grows the ledger from this size.
    #[must_use]
    pub fn commit(series: u32, old_size: u64) -> Self {
        Self(format!("ledger/{series}/{}", commit::key(old_size)))
    }

    /// A tile or an entry bundle.
    #[must_use]
    pub fn tile(series: u32, path: &TilePath) -> Self {
        Self(format!("ledger/{series}/{path}"))
    }

    /// The pack that holds the openings of 256 entries of a stream.
    #[must_use]
    pub fn pack(series: u32, path: &PackPath) -> Self {
        Self(format!("ledger/{series}/{path}"))
    }

    /// All packs.
    #[must_use]
    pub fn pack_prefix(series: u32) -> String {
        format!("ledger/{series}/body/")
    }

    /// All commit objects.
    #[must_use]
    pub fn commit_prefix(series: u32) -> String {
        format!("ledger/{series}/seq/")
    }

    /// An upload session.
    #[must_use]
    pub fn upload(id: &Sha256) -> Self {
        Self(format!("uploads/{}", id.hex()))
    }

    /// The mark that a file of a session is complete.
    #[must_use]
    pub fn sealed(id: &Sha256, file: &Sha256) -> Self {
        Self(format!("uploads/{}.sealed/{}", id.hex(), file.hex()))
    }

    /// All such marks of a session.
    #[must_use]
    pub fn sealed_prefix(id: &Sha256) -> String {
        format!("uploads/{}.sealed/", id.hex())
    }

    /// A chunk sent in a session.
    #[must_use]
    pub fn incoming(id: &Sha256, chunk: &ChunkDigest) -> Self {
        Self(format!("incoming/{}/{}", id.hex(), chunk.hex()))
    }

    /// All chunks sent in a session.
    #[must_use]
    pub fn incoming_prefix(id: &Sha256) -> String {
        format!("incoming/{}/", id.hex())
    }

    /// Does it lie in a directory of one upload's own?
    pub(super) fn is_of_one_upload(&self) -> bool {
        let mut parts = self.0.split('/');
        matches!(parts.next(), Some("incoming" | "uploads")) && parts.count() == 2
    }

    /// A charter that was adopted.
    #[must_use]
    pub fn charter(version: u64) -> Self {
        // No version is beyond 2^53, so that names sort as numbers do.
        Self(format!("charters/{version:016}"))
    }

    /// All charters that were adopted.
    #[must_use]
    pub const fn charter_prefix() -> &'static str {
        "charters/"
    }

    /// A charter that contradicts the one that was adopted.
    #[must_use]
    pub fn charter_evidence(version: u64, digest: &Sha256) -> Self {
        Self(format!("charter-evidence/{version:016}-{}", digest.hex()))
    }

    /// A token, by the hash of its secret.
    #[must_use]
    pub fn token(secret: &Sha256) -> Self {
        Self(format!("tokens/{}", secret.hex()))
    }

    /// The lease of a job, by the hash of what is measured.
    #[must_use]
    pub fn lease(job: &Sha256) -> Self {
        Self(format!("leases/{}", job.hex()))
    }

    /// The mirror rules that were added by command.
    #[must_use]
    pub fn mirror_rules() -> Self {
        Self("federation/mirrors".to_owned())
    }

    /// How far a site's ledger was followed. Within that site's part of the store.
    #[must_use]
    pub fn watermark() -> Self {
        Self("watermark".to_owned())
    }

    /// What convicts a site. Within that site's part of the store.
    #[must_use]
    pub fn evidence() -> Self {
        Self("evidence".to_owned())
    }

    /// What came of asking a site for proof that it holds a release. Within that site's part of the store.
    #[must_use]
    pub fn checked(artifact: &ArtifactName, manifest: &Sha256) -> Self {
        Self(format!("checked/{}", Self::of_release(artifact, manifest)))
    }

    /// A copy is being given up. Within its home's part of the store.
    #[must_use]
    pub fn giving_up(artifact: &ArtifactName, manifest: &Sha256) -> Self {
        Self(format!("giving-up/{}", Self::of_release(artifact, manifest)))
    }

    /// All that are being given up.
    #[must_use]
    pub const fn giving_up_prefix() -> &'static str {
        "giving-up/"
    }

    /// A copy that was given up is to be fetched again. Within its home's part of the store.
    #[must_use]
    pub fn again(artifact: &ArtifactName, manifest: &Sha256) -> Self {
        Self(format!("again/{}", Self::of_release(artifact, manifest)))
    }

    /// What others have seen of a ledger and is not held against its site. Within that site's part of the store.
    #[must_use]
    pub fn pardoned() -> Self {
        Self("pardoned".to_owned())
    }

    fn of_release(artifact: &ArtifactName, manifest: &Sha256) -> String {
        Sha256::of(format!("{artifact}@{manifest}").as_bytes()).hex()
    }

    /// The newest tree of a ledger that was cosigned. Within that site's part of the store.
    #[must_use]
    pub fn witnessed(series: u32) -> Self {
        Self(format!("witnessed/{series}"))
    }

    /// The recipes of a release that is being fetched: what there may be of it here, as long as it is not held. Within the
    /// part of its home.
    #[must_use]
    pub fn fetching_prefix(artifact: &ArtifactName, manifest: &Sha256) -> String {
        let release = Sha256::of(format!("{artifact}@{manifest}").as_bytes());
        format!("{}{}/", Self::all_fetching_prefix(), release.hex())
    }

    /// The same of all releases.
    #[must_use]
    pub const fn all_fetching_prefix() -> &'static str {
        "fetching/"
    }

    /// One of these recipes.
    #[must_use]
    pub fn fetching(artifact: &ArtifactName, manifest: &Sha256, recipe: &ChunkDigest) -> Self {
        Self(format!(
            "{}{}",
            Self::fetching_prefix(artifact, manifest),
            recipe.hex()
        ))
    }

    /// What witnesses say of the own ledger.
    #[must_use]
    pub fn cosigned() -> Self {
        Self("federation/cosigned".to_owned())
    }

    /// Where everything of another site's ledger lies.
    #[must_use]
    pub fn of_site(site: &SiteId) -> String {
        format!("federation/{site}/")
    }

    /// All upload sessions, with the marks of their complete files.
    #[must_use]
    pub fn upload_prefix() -> String {
        "uploads/".to_owned()
    }

    /// The same key below a prefix.
    pub(super) fn below(&self, prefix: &str) -> Self {
        Self(format!("{prefix}{self}"))
    }

    /// The same key without a prefix that it has.
    pub(super) fn without(&self, prefix: &str) -> Option<Self> {
        self.0.strip_prefix(prefix).map(|rest| Self(rest.to_owned()))
    }

    /// Takes a path that a store found when it listed; refuses one that no function here could have made.
    pub(crate) fn listed(path: String) -> Option<Self> {
        let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
        path.split('/').all(sound).then_some(Self(path))
    }

    /// Returns the path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part behind `ledger/<series>/`, if it is a key of that ledger.
    #[must_use]
    pub fn ledger_path(&self, series: u32) -> Option<&str> {
        self.0
            .strip_prefix("ledger/")?
            .strip_prefix(&series.to_string())?
            .strip_prefix('/')
    }

    /// Returns the part behind the last `/`.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
