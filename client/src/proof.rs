//! What a proof shows, given a site's pinned key. Pure: nothing is fetched, nothing is remembered.
//!
//! ```text
//! pinned key -- signs --> checkpoint -- contains --> genesis, rotations, release, tag, label, withdrawal, scorecards
//! pinned key -- names --> the site's key -- signs --> the scorecards
//! genesis, rotations -- give --> the namespace's keys at each position -- sign --> the other statements
//! ```
//! A statement counts by the keys that held at its position. That nothing newer exists cannot be proven by
//! anybody offline; that nothing older was slipped in between is proven where two statements of one chain
//! stand side by side.

use std::collections::HashMap;

use waag_schema::base::name::Version;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::policy::label::Label;
use waag_schema::release::Manifest;
use waag_schema::release::manifest::ManifestError;
use waag_schema::statement::predicate::Release;
use waag_schema::statement::{
    Chain, Content, Envelope, NamespaceState, Predicate, RevocationList, Statement, Subject,
};
use waag_schema::wire::artifact::{LabelView, Proof};
use waag_schema::{ArtifactName, Namespace, Sha256, Timestamp};

use crate::error::{ClientError, Result};
use crate::said::{Said, read};
use crate::scorecard::Card;
use crate::trust::Pin;

/// A release, as its publisher signed it and a ledger recorded it.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The manifest, whose digest is the release's identity.
    pub manifest: Manifest,
    /// What the publisher signed about it.
    pub release: Release,
    /// The ledger entry of the release.
    pub entry: u64,
    /// When the ledger recorded it.
    pub at: Timestamp,
    /// The fingerprints of the owner keys that signed it.
    pub signed_by: Vec<String>,
    /// The namespace at the end of the proof.
    pub namespace: NamespaceState,
    /// The ledger entry that lets the tag name it, where a tag was asked for.
    pub tag_entry: Option<u64>,
    /// The artifact's newest label, behind the ledger entry that says so.
    pub label: Option<(u64, Label)>,
    /// Why the publisher withdrew it, if so.
    pub withdrawn: Option<String>,
    /// As of when the site said which releases are withdrawn, if it has said so.
    pub fresh_as_of: Option<Timestamp>,
    /// What the site has measured on it, newest first.
    pub weighed: Vec<Card>,
    /// The checkpoint under which all of this was proven.
    pub checkpoint: SignedCheckpoint,
}

impl Proven {
    /// Returns what the publisher signed about the chunks of a layer: a file, or a tar of files.
    #[must_use]
    pub fn content(&self, file: &Sha256) -> Option<&Content> {
        let all = &self.release.content;
        all.binary_search_by_key(file, |content| content.sha256)
            .ok()
            .map(|at| &all[at])
    }
}

/// Checks everything about a version of an artifact: the checkpoint's signature, each entry's inclusion, the
/// namespace's keys, the publisher's signatures, and that they speak of exactly this manifest.
///
/// # Errors
/// [`ClientError::Verification`], saying what does not hold.
pub fn check_release(
    pin: &Pin,
    artifact: &ArtifactName,
    version: &Version,
    manifest: &[u8],
    proof: &Proof,
) -> Result<Proven> {
    let refused = |reason: String| ClientError::verification(format_args!("proof of {artifact}"), reason);
    let digest = Sha256::of(manifest);
    if let Version::Manifest(asked) = version
        && *asked != digest
    {
        return Err(refused(format!(
            "the manifest {asked} was asked for, {digest} came"
        )));
    }
    let read = read(pin, &format_args!("proof of {artifact}"), proof)?;
    let mut reading = Reading::new(pin, artifact, version, digest);
    reading.site_signed = read.site_signed;
    for said in read.statements() {
        reading
            .take(said)
            .map_err(|reason| refused(format!("entry {}: {reason}", said.index)))?;
    }
    let Reading {
        namespace,
        release,
        tag_entry,
        label,
        withdrawn,
        revocations,
        mut weighed,
        ..
    } = reading;
    weighed.reverse();
    let namespace =
        namespace.ok_or_else(|| refused("it does not show how the namespace began".to_owned()))?;
    let found = release.ok_or_else(|| refused(format!("no statement releases the manifest {digest}")))?;
    if let (Version::Tag(tag), None) = (version, tag_entry) {
        return Err(refused(format!(
            "no statement lets the tag `{tag}` name {digest}"
        )));
    }
    let listed = revocations
        .as_ref()
        .is_some_and(|list| list.entries.contains(&found.entry));
    let withdrawn = withdrawn.or_else(|| listed.then(|| "the site lists it as withdrawn".to_owned()));
    let parsed = Manifest::parse(manifest.to_vec()).map_err(|e: ManifestError| refused(e.to_string()))?;
    found.release.check_manifest(&parsed).map_err(refused)?;
    Ok(Proven {
        artifact: artifact.clone(),
        manifest: parsed,
        release: found.release,
        entry: found.entry,
        at: found.at,
        signed_by: found.signed_by,
        namespace,
        tag_entry,
        label,
        withdrawn,
        fresh_as_of: revocations.map(|list| list.at),
        weighed,
        checkpoint: read.newest,
    })
}

/// Checks that a ledger recorded exactly these envelopes, and returns the checkpoint and their positions.
///
/// # Errors
/// [`ClientError::Verification`], saying what does not hold.
pub fn check_recorded(
    pin: &Pin,
    proof: &Proof,
    envelopes: &[Envelope],
) -> Result<(SignedCheckpoint, Vec<u64>)> {
    let refused = |reason: String| ClientError::verification("receipt", reason);
    let read = read(pin, &"receipt", proof)?;
    let mut positions = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        let found = read
            .statements()
            .find(|said| said.envelope.bytes() == envelope.bytes());
        let found =
            found.ok_or_else(|| refused(format!("the statement {} is not in it", envelope.digest())))?;
        positions.push(found.index);
    }
    Ok((read.newest, positions))
}

/// Checks how a namespace began and how its keys changed, and returns the checkpoint and what it is now.
///
/// # Errors
/// [`ClientError::Verification`], saying what does not hold.
pub fn check_namespace(
    pin: &Pin,
    name: &Namespace,
    proof: &Proof,
) -> Result<(SignedCheckpoint, NamespaceState)> {
    let refused =
        |reason: String| ClientError::verification(format_args!("proof of the namespace `{name}`"), reason);
    let read = read(pin, &format_args!("proof of the namespace `{name}`"), proof)?;
    let mut state: Option<NamespaceState> = None;
    for said in read.statements() {
        let next = match &state {
            None => NamespaceState::begin(&said.envelope, &pin.site),
            Some(state) => state.follow(&said.envelope),
        };
        let next = next.map_err(|e| refused(format!("entry {}: {e}", said.index)))?;
        if next.name != *name || said.statement.subject != Subject::Namespace(name.clone()) {
            return Err(refused(format!(
                "entry {} is about {}",
                said.index,
                said.statement.subject.name()
            )));
        }
        state = Some(next);
    }
    let state = state.ok_or_else(|| refused("it does not show how the namespace began".to_owned()))?;
    Ok((read.newest, state))
}

/// Checks that the owners of each artifact's namespace signed the labels that a site shows, and returns the checkpoint
/// under which they were proven.
///
/// # Errors
/// [`ClientError::Verification`], saying what does not hold.
pub fn check_labels(
    pin: &Pin,
    artifact: &ArtifactName,
    labels: &[LabelView],
    proof: &Proof,
) -> Result<SignedCheckpoint> {
    let what = format!("labels of {artifact}");
    let refused = |reason: String| ClientError::verification(&what, reason);
    let read = read(pin, &what, proof)?;
    let mut namespaces: HashMap<Namespace, NamespaceState> = HashMap::new();
    let mut proven: HashMap<u64, (ArtifactName, Label)> = HashMap::new();
    for said in read.statements() {
        let at = |reason: String| refused(format!("entry {}: {reason}", said.index));
        let Statement { subject, predicate } = &said.statement;
        let name = subject.namespace();
        let name = name.ok_or_else(|| at(format!("it is about {}", subject.name())))?;
        match (predicate, namespaces.get(&name)) {
            (Predicate::Genesis(_), None) => {
                let begun =
                    NamespaceState::begin(&said.envelope, &pin.site).map_err(|e| at(e.to_string()))?;
                namespaces.insert(name, begun);
            }
            (Predicate::Rotation(_), Some(state)) => {
                let rotated = state.rotate(&said.envelope).map_err(|e| at(e.to_string()))?;
                namespaces.insert(name, rotated);
            }
            (Predicate::Residency(residency), Some(state)) => {
                // What stands between the statements of an artifact is not asked for here.
                let chain = Chain {
                    counter: residency.link.counter.saturating_sub(1),
                    head: residency.link.previous,
                };
                state
                    .admit(&said.envelope, &said.statement, &chain)
                    .map_err(|e| at(e.to_string()))?;
                if let Subject::Artifact(about) = subject {
                    proven.insert(said.index, (about.clone(), residency.label.clone()));
                }
            }
            _ => return Err(at("it is no statement that a label rests on".to_owned())),
        }
    }
    for view in labels {
        let Some(entry) = view.entry else { continue };
        let shown = view
            .artifact
            .clone()
            .map(|artifact| (artifact, view.label.clone()));
        if shown.as_ref() != proven.get(&entry) {
            return Err(refused(format!("entry {entry} does not say what the site shows")));
        }
    }
    Ok(read.newest)
}

struct Found {
    release: Release,
    entry: u64,
    at: Timestamp,
    signed_by: Vec<String>,
}

/// What the entries so far have shown.
struct Reading<'a> {
    pin: &'a Pin,
    artifact: &'a ArtifactName,
    version: &'a Version,
    digest: Sha256,
    namespace: Option<NamespaceState>,
    /// The artifact's chain after the last of its statements that was read.
    chain: Chain,
    release: Option<Found>,
    tag_entry: Option<u64>,
    label: Option<(u64, Label)>,
    withdrawn: Option<String>,
    revocations: Option<RevocationList>,
    /// Whether what the site says is signed by the key that is known to be its own.
    site_signed: bool,
    /// What the site has measured, in the order of the ledger.
    weighed: Vec<Card>,
}

impl<'a> Reading<'a> {
    fn new(pin: &'a Pin, artifact: &'a ArtifactName, version: &'a Version, digest: Sha256) -> Self {
        Self {
            pin,
            artifact,
            version,
            digest,
            namespace: None,
            chain: Chain::default(),
            release: None,
            tag_entry: None,
            label: None,
            withdrawn: None,
            revocations: None,
            site_signed: false,
            weighed: Vec::new(),
        }
    }

    fn take(&mut self, said: &Said) -> Result<(), String> {
        let Statement { subject, predicate } = &said.statement;
        if let Predicate::RevocationList(list) = predicate {
            // In the ledger it can only have come from the site, whose ledger this is.
            self.revocations = Some(list.clone());
            return Ok(());
        }
        if subject.namespace().as_ref() != Some(&self.artifact.namespace()) {
            return Err(format!("it is about {}", subject.name()));
        }
        if let Predicate::Scorecard(scorecard) = predicate {
            if *subject != Subject::Manifest(self.artifact.clone(), self.digest) {
                return Err("it is the scorecard of another release".to_owned());
            }
            if !self.site_signed {
                return Err(
                    "the proof of a scorecard does not show which key the site signs with".to_owned(),
                );
            }
            self.weighed.push(Card {
                manifest: self.digest,
                site: self.pin.site.clone(),
                entry: said.index,
                recorded: said.at,
                scorecard: scorecard.clone(),
            });
            return Ok(());
        }
        match (predicate, &self.namespace) {
            (Predicate::Genesis(_), None) => {
                let begun =
                    NamespaceState::begin(&said.envelope, &self.pin.site).map_err(|e| e.to_string())?;
                self.namespace = Some(begun);
                Ok(())
            }
            (Predicate::Genesis(_), Some(_)) => Err("the namespace begins twice".to_owned()),
            (_, None) => Err("it stands before the beginning of its namespace".to_owned()),
            (Predicate::Rotation(_) | Predicate::Gate(_) | Predicate::Access(_), Some(namespace)) => {
                self.namespace = Some(namespace.follow(&said.envelope).map_err(|e| e.to_string())?);
                Ok(())
            }
            (_, Some(_)) => self.take_statement(said),
        }
    }

    fn take_statement(&mut self, said: &Said) -> Result<(), String> {
        let Statement { subject, predicate } = &said.statement;
        if subject.name() != self.artifact.as_str() {
            return Err(format!("it is about {}", subject.name()));
        }
        let signed_by = self.check_signed(said)?;
        let about_it = matches!(subject, Subject::Manifest(_, found) if *found == self.digest);
        match predicate {
            Predicate::Release(release) if about_it => {
                // The first one counts; a second says nothing new.
                self.release.get_or_insert_with(|| Found {
                    release: release.clone(),
                    entry: said.index,
                    at: said.at,
                    signed_by,
                });
            }
            Predicate::Tag(tag) if matches!(self.version, Version::Tag(asked) if *asked == tag.tag) => {
                self.tag_entry = about_it.then_some(said.index);
            }
            Predicate::Residency(residency) => {
                self.label = Some((said.index, residency.label.clone()));
            }
            Predicate::Withdrawal(withdrawal) if about_it => self.withdrawn = Some(withdrawal.reason.clone()),
            _ => {}
        }
        Ok(())
    }

    /// Checks the signatures by the keys that hold here, and the chain as far as it is shown.
    fn check_signed(&mut self, said: &Said) -> Result<Vec<String>, String> {
        let namespace = self.namespace.as_ref().ok_or("there is no namespace")?;
        let link = said
            .statement
            .predicate
            .link()
            .ok_or("it has no place in a chain")?;
        // Statements between may be missing from a proof; what stands side by side must fit.
        let chain = if link.counter == self.chain.counter + 1 {
            self.chain
        } else if link.counter > self.chain.counter + 1 {
            Chain {
                counter: link.counter - 1,
                head: link.previous,
            }
        } else {
            return Err(format!(
                "statement {} stands behind statement {}",
                link.counter, self.chain.counter
            ));
        };
        namespace
            .admit(&said.envelope, &said.statement, &chain)
            .map_err(|e| e.to_string())?;
        self.chain = chain.then(said.envelope.digest());
        // `admit` has checked every signature that claims to be an owner's.
        let owners = namespace.keys.owners.iter().map(|key| key.fingerprint());
        Ok(owners
            .filter(|owner| said.envelope.key_ids().any(|id| id == owner))
            .collect())
    }
}
