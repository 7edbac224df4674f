//! Drafts: statements that wait for signatures, as files that pass from one holder of a key to the next.
//!
//! A draft is a DSSE envelope like any other. What it says is fixed when it is begun; each holder adds a
//! signature. Whose signatures count is not taken from the file: it follows from the namespace's keys, which
//! the caller has proven from the ledger.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use waag_schema::Namespace;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::dsse::ENVELOPE_SIZE_MAX;
use waag_schema::statement::namespace::KeySet;
use waag_schema::statement::{Envelope, NamespaceState, Predicate, Statement, Subject};
use waag_schema::wire::site::NamespaceRequest;

use crate::error::{ClientError, Result};
use crate::home::sync_dir;
use crate::namespace;
use crate::sign::sign;
use crate::site::Site;

/// A statement with the signatures that it has so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    envelope: Envelope,
    statement: Statement,
    namespace: Namespace,
}

/// How far one of the groups that must sign has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quorum {
    /// Which group: `owners`, `recovery keys`, or in a rotation `new owners`.
    pub of: &'static str,
    /// The fingerprints of those who have signed.
    pub signed: Vec<String>,
    /// How many must.
    pub needed: u64,
    /// How many there are.
    pub keys: u64,
}

/// What a draft says, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What kind of statement it is, such as `rotation`.
    pub kind: &'static str,
    /// What it is about: a namespace, or a release as `name@digest`.
    pub subject: String,
    /// What it would change, one line each.
    pub says: Vec<String>,
    /// Who must sign it.
    pub quorums: Vec<Quorum>,
    /// Whether enough have signed.
    pub complete: bool,
}

/// A draft that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// What kind of statement it was.
    pub kind: &'static str,
    /// What it was about.
    pub subject: String,
    /// Its ledger entry.
    pub entry: u64,
}

impl Quorum {
    /// Says whether enough of this group have signed.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.signed.len() as u64 >= self.needed
    }

    fn of(of: &'static str, keys: &[PublicKey], needed: u32, envelope: &Envelope) -> Result<Self> {
        let mut signed = Vec::new();
        for key in keys {
            let name = key.fingerprint();
            if envelope.key_ids().any(|id| id == name) {
                // A signature that does not hold is damage, not one that is missing.
                envelope
                    .verify(std::slice::from_ref(key), 1)
                    .map_err(|e| ClientError::verification("draft", e))?;
                signed.push(name);
            }
        }
        Ok(Self {
            of,
            signed,
            needed: needed.max(1).into(),
            keys: keys.len() as u64,
        })
    }
}

impl Standing {
    /// Returns the error that says who has not signed yet, unless all have.
    ///
    /// # Errors
    /// [`ClientError::Unsigned`].
    pub fn require_complete(&self) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let lacking = self.quorums.iter().filter(|quorum| !quorum.is_met());
        Err(ClientError::Unsigned {
            what: format!("the {} of {}", self.kind, self.subject),
            lacking: lacking.map(ToString::to_string).collect(),
        })
    }
}

impl std::fmt::Display for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} {} signed, {} must",
            self.signed.len(),
            self.keys,
            self.of,
            self.needed
        )
    }
}

impl Draft {
    /// Begins a draft with these signatures, at least one.
    ///
    /// # Errors
    /// When it says what no statement may say, or nobody signs it.
    pub fn begin(statement: &Statement, keys: &[KeyPair]) -> Result<Self> {
        if keys.is_empty() {
            return Err(ClientError::Usage("no key signs it".to_owned()));
        }
        Self::of(sign(statement, keys)).map_err(|error| match error {
            ClientError::Verification { reason, .. } => ClientError::Usage(reason),
            other => other,
        })
    }

    /// Reads a draft from its bytes. No signature is checked yet.
    ///
    /// # Errors
    /// When they are not an envelope around a publisher's statement.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::of(Envelope::parse(bytes).map_err(|e| ClientError::verification("draft", e))?)
    }

    fn of(envelope: Envelope) -> Result<Self> {
        let refused = |reason: &dyn std::fmt::Display| ClientError::verification("draft", reason);
        let statement = Statement::parse(envelope.payload()).map_err(|e| refused(&e))?;
        let namespace = statement.subject.namespace();
        let namespace =
            namespace.ok_or_else(|| refused(&"it is a site's statement, which no publisher signs"))?;
        Ok(Self {
            envelope,
            statement,
            namespace,
        })
    }

    /// Reads a draft's file.
    ///
    /// # Errors
    /// When there is none, or it is no draft.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                ClientError::NotFound(format!("{} does not exist", path.display()))
            }
            _ => ClientError::io("open", path)(e),
        })?;
        let mut bytes = Vec::new();
        file.take(ENVELOPE_SIZE_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(ClientError::io("read", path))?;
        Self::parse(&bytes).map_err(|error| match error {
            ClientError::Verification { reason, .. } => ClientError::verification(path.display(), reason),
            other => other,
        })
    }

    /// Writes the draft's file; what stood there before stands there until the new one is on disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        let mut file = File::create(&temporary).map_err(ClientError::io("create", &temporary))?;
        file.write_all(self.envelope.bytes())
            .map_err(ClientError::io("write", &temporary))?;
        file.sync_all().map_err(ClientError::io("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(ClientError::io("replace", path))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(directory.unwrap_or(Path::new(".")))
    }

    /// Returns the envelope as it is.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns the namespace whose owners must sign it.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Adds signatures; those of keys that have signed already are left as they are.
    ///
    /// # Errors
    /// When there would be more signatures than an envelope holds.
    pub fn sign(&mut self, keys: &[KeyPair]) -> Result<()> {
        let ours = Envelope::sign(self.envelope.payload(), &keys.iter().collect::<Vec<_>>());
        let merged = self.envelope.merge(&ours);
        let merged = merged.map_err(|e| ClientError::verification("draft", e))?;
        // Read back, so that nothing is kept that nobody could read again.
        *self = Self::parse(merged.bytes())?;
        Ok(())
    }

    /// Says what the draft says and how far it has come, given the namespace as it is now.
    ///
    /// # Errors
    /// When it is of another namespace, was made for an earlier state of it, or one of its signatures does not
    /// hold.
    pub fn standing(&self, namespace: &NamespaceState) -> Result<Standing> {
        let refused = |reason: String| ClientError::verification("draft", reason);
        if self.namespace != namespace.name
            || self
                .statement
                .predicate
                .namespace_id()
                .is_some_and(|id| id != namespace.id)
        {
            return Err(refused(format!(
                "it is not of the namespace `{}` with the id {}",
                namespace.name, namespace.id
            )));
        }
        let now = &namespace.keys;
        let mut quorums = vec![Quorum::of("owners", &now.owners, now.threshold, &self.envelope)?];
        let mut says = Vec::new();
        if let Predicate::Rotation(rotation) = &self.statement.predicate {
            namespace.chain.admits(&rotation.link).map_err(|e| {
                ClientError::Conflict(format!(
                    "it does not follow what `{}` is now: {e}",
                    namespace.name
                ))
            })?;
            let recovery = u32::try_from(now.recovery.len()).unwrap_or(u32::MAX);
            let by_recovery = Quorum::of(
                "recovery keys",
                &now.recovery,
                now.threshold.min(recovery),
                &self.envelope,
            )?;
            // As many recovery keys may stand in for the owners.
            if recovery > 0 && !quorums[0].is_met() && by_recovery.is_met() {
                quorums[0] = by_recovery;
            }
            let new = &rotation.keys;
            quorums.push(Quorum::of(
                "new owners",
                &new.owners,
                new.threshold,
                &self.envelope,
            )?);
            says = changes(now, new);
        }
        Ok(Standing {
            kind: self.statement.predicate.name(),
            subject: subject(&self.statement.subject),
            says,
            complete: quorums.iter().all(Quorum::is_met),
            quorums,
        })
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Manifest(name, digest) => format!("{name}@{digest}"),
        other => other.name(),
    }
}

/// What a rotation changes, one line each.
fn changes(now: &KeySet, new: &KeySet) -> Vec<String> {
    let mut lines = Vec::new();
    for (word, one, other) in [
        ("new owner", &new.owners, &now.owners),
        ("no longer owner", &now.owners, &new.owners),
        ("new recovery key", &new.recovery, &now.recovery),
        ("no longer recovery key", &now.recovery, &new.recovery),
    ] {
        let only = one.iter().filter(|key| !other.contains(key));
        lines.extend(only.map(|key| format!("{word} {}", key.fingerprint())));
    }
    if now.threshold != new.threshold || now.owners.len() != new.owners.len() {
        lines.push(format!(
            "{} of {} owners must sign, not {} of {}",
            new.threshold,
            new.owners.len(),
            now.threshold,
            now.owners.len()
        ));
    }
    lines
}

/// Has a draft recorded that enough have signed, and checks the receipt.
///
/// # Errors
/// [`ClientError::Unsigned`] when more must sign; when somebody else wrote meanwhile it has to be begun anew.
pub async fn submit(site: &Site, draft: &Draft) -> Result<Submitted> {
    let state = namespace::state(site, &draft.namespace).await?;
    let standing = draft.standing(&state)?;
    standing.require_complete()?;
    let envelopes = std::slice::from_ref(&draft.envelope);
    let proof = match (&draft.statement.predicate, &draft.statement.subject) {
        (Predicate::Rotation(_), _) => {
            let request = NamespaceRequest {
                envelope: draft.envelope.bytes().to_vec().into(),
            };
            site.rotate_namespace(&draft.namespace, &request).await?
        }
        (
            Predicate::Tag(_) | Predicate::Residency(_) | Predicate::Withdrawal(_),
            Subject::Artifact(name) | Subject::Manifest(name, _),
        ) => site.record(name, envelopes).await?,
        (predicate, _) => {
            return Err(ClientError::Usage(format!(
                "a {} is not recorded from a file",
                predicate.name()
            )));
        }
    };
    let positions = site.check_receipt(&proof, envelopes).await?;
    Ok(Submitted {
        kind: standing.kind,
        subject: standing.subject,
        entry: positions.first().copied().unwrap_or_default(),
    })
}
