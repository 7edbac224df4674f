//! What a draft says, for whoever is to sign it, and how far it has come.

use serde::Serialize;
use waag_schema::Sha256;
use waag_schema::base::key::PublicKey;
use waag_schema::statement::namespace::KeySet;
use waag_schema::statement::{Envelope, Predicate, Statement, Subject};

use super::{Draft, Upload};
use crate::error::{ClientError, Result};

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

/// One statement of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What kind of statement it is, such as `release` or `tag`.
    pub kind: &'static str,
    /// Who must sign it.
    pub quorums: Vec<Quorum>,
    /// Whether enough have signed.
    pub complete: bool,
}

/// A file that a draft releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DraftFile {
    /// Its path; of what is packed, the path of what it is packed in.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
}

/// What a draft says, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What kind of statement it is, such as `rotation`; of several, the first.
    pub kind: &'static str,
    /// What it is about: a namespace, an artifact, or a release as `name@digest`.
    pub subject: String,
    /// What its statements say, one line each.
    pub says: Vec<String>,
    /// The files that it releases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DraftFile>,
    /// Each statement, in the order in which they are signed.
    pub parts: Vec<Part>,
    /// Whether enough have signed all of them.
    pub complete: bool,
}

impl Quorum {
    /// Says whether enough of this group have signed.
    #[must_use]
    pub const fn is_met(&self) -> bool {
        self.signed.len() as u64 >= self.needed
    }

    fn of(of: &'static str, keys: &[PublicKey], needed: u32, envelope: Option<&Envelope>) -> Result<Self> {
        let mut signed = Vec::new();
        for key in keys {
            let name = key.fingerprint();
            if let Some(envelope) = envelope.filter(|envelope| envelope.key_ids().any(|id| id == name)) {
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

impl Standing {
    /// Returns the error that says who has not signed yet, unless all have.
    ///
    /// # Errors
    /// [`ClientError::Unsigned`].
    pub fn require_complete(&self) -> Result<()> {
        let Some(part) = self.parts.iter().find(|part| !part.complete) else {
            return Ok(());
        };
        let lacking = part.quorums.iter().filter(|quorum| !quorum.is_met());
        Err(ClientError::Unsigned {
            what: format!("the {} of {}", part.kind, self.subject),
            lacking: lacking.map(ToString::to_string).collect(),
        })
    }
}

impl Draft {
    /// Says what the draft says and how far it has come.
    ///
    /// # Errors
    /// When one of its signatures does not hold.
    pub fn standing(&self) -> Result<Standing> {
        let parts: Vec<Part> = (0..self.statements.len())
            .map(|at| self.part(at))
            .collect::<Result<_>>()?;
        let mut says = Vec::new();
        for statement in &self.statements {
            self.say(statement, &mut says);
        }
        let manifest = self.upload.as_ref().map(|upload| &upload.manifest);
        let blobs = manifest.into_iter().flat_map(|manifest| manifest.blobs());
        Ok(Standing {
            kind: parts.first().map_or("", |part| part.kind),
            subject: self
                .statements
                .first()
                .map_or_else(String::new, |first| subject(&first.subject)),
            says,
            files: blobs
                .map(|(path, blob)| DraftFile {
                    path: path.into_owned(),
                    bytes: blob.size,
                    sha256: blob.digest,
                })
                .collect(),
            complete: parts.iter().all(|part| part.complete),
            parts,
        })
    }

    pub(super) fn part(&self, at: usize) -> Result<Part> {
        let envelope = self.signed.get(at);
        let now = &self.ground.state.keys;
        let predicate = &self.statements[at].predicate;
        let mut quorums = vec![Quorum::of("owners", &now.owners, now.threshold, envelope)?];
        if let Predicate::Rotation(rotation) = predicate {
            let recovery = u32::try_from(now.recovery.len()).unwrap_or(u32::MAX);
            let instead = Quorum::of(
                "recovery keys",
                &now.recovery,
                now.threshold.min(recovery),
                envelope,
            )?;
            // As many recovery keys may stand in for the owners.
            let begun = quorums[0].signed.is_empty() && !instead.signed.is_empty();
            if recovery > 0 && !quorums[0].is_met() && (instead.is_met() || begun) {
                quorums[0] = instead;
            }
            let new = &rotation.keys;
            quorums.push(Quorum::of("new owners", &new.owners, new.threshold, envelope)?);
        }
        Ok(Part {
            kind: predicate.name(),
            complete: quorums.iter().all(Quorum::is_met),
            quorums,
        })
    }

    fn say(&self, statement: &Statement, lines: &mut Vec<String>) {
        let digest = match &statement.subject {
            Subject::Manifest(_, digest) => digest.to_string(),
            other => other.name(),
        };
        match &statement.predicate {
            Predicate::Rotation(rotation) => lines.extend(changes(&self.ground.state.keys, &rotation.keys)),
            Predicate::Gate(gate) if gate.requirements.is_empty() => {
                lines.push(format!("no gate before the tag `{}` any more", gate.tag));
            }
            Predicate::Gate(gate) => {
                let required = gate.requirements.iter();
                lines.extend(required.map(|one| format!("before the tag `{}`: {one}", gate.tag)));
            }
            Predicate::Access(access) if access.sites.is_empty() => {
                lines.push("no other site may read it any more".to_owned());
            }
            Predicate::Access(access) => {
                let sites = access.sites.iter();
                lines.extend(sites.map(|site| format!("the site {site} may read it")));
            }
            Predicate::Release(release) => {
                lines.push(format!("releases the {} {digest}", release.kind));
                if let Some(Upload { manifest, .. }) = &self.upload {
                    let (files, bytes) = (manifest.file_count(), manifest.total_size());
                    let noun = if files == 1 { "file" } else { "files" };
                    lines.push(format!("{files} {noun}, {bytes} bytes"));
                    lines.extend(
                        manifest
                            .about()
                            .license
                            .map(|license| format!("licence {license}")),
                    );
                    lines.extend(manifest.base().map(|base| format!("made from {base}")));
                    lines.extend(manifest.data().iter().map(|data| format!("trained on {data}")));
                }
            }
            Predicate::Residency(residency) => lines.push(format!("label: {}", residency.label)),
            Predicate::Tag(tag) => {
                let from = tag
                    .from
                    .map_or_else(|| "nothing".to_owned(), |from| from.to_string());
                lines.push(format!("tag `{}`: from {from} to {digest}", tag.tag));
            }
            Predicate::Withdrawal(withdrawal) => {
                let copies = if withdrawal.erase {
                    " and has all copies deleted"
                } else {
                    ""
                };
                lines.push(format!(
                    "withdraws {digest}{copies}, because: {}",
                    withdrawal.reason
                ));
            }
            // No owner signs these.
            Predicate::Genesis(_)
            | Predicate::Erasure(_)
            | Predicate::RevocationList(_)
            | Predicate::Successor(_)
            | Predicate::CharterAdopted(_)
            | Predicate::Scorecard(_)
            | Predicate::Custody(_) => {}
        }
    }
}

pub(super) fn subject(subject: &Subject) -> String {
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
