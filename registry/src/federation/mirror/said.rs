//! What this site says of a release's bytes in its ledger, and what the home's ledger says of the release.

use waag_schema::ledger::Origin;
use waag_schema::statement::{
    Custody, Envelope, Keeping, Predicate, Release, Statement, Subject, Visibility,
};
use waag_schema::wire::artifact::Proof;
use waag_schema::{ArtifactName, Namespace, Sha256};

use super::wanted::Wanted;
use crate::federation::sites::{Federation, SitesError};
use crate::ledger::{AppendError, Followed};

/// Finds the signed statement of a release in a proof of its entry.
pub(in crate::federation) fn release_in(
    proof: &Proof,
    artifact: &ArtifactName,
    manifest: &Sha256,
) -> Result<Option<(Envelope, Release)>, AppendError> {
    let parts = proof
        .earlier
        .iter()
        .map(|part| &part.entries)
        .chain([&proof.entries]);
    for proven in parts.flatten() {
        let envelope = Envelope::parse(proven.opening.envelope())?;
        let said = Statement::parse(envelope.payload())?;
        if let (Predicate::Release(found), Subject::Manifest(name, digest)) = (said.predicate, said.subject)
            && name == *artifact
            && digest == *manifest
        {
            return Ok(Some((envelope, found)));
        }
    }
    Ok(None)
}

impl Federation {
    /// Reads the signed statement of a release from the copy of its ledger.
    pub(in crate::federation) async fn statement(
        &self,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<(Envelope, Release), SitesError> {
        let entry = release.view.entry;
        let proof = followed.prove(&[entry]).await?;
        let found = release_in(&proof, &release.artifact, &release.view.manifest)?;
        Ok(found.ok_or(AppendError::NoEntry(entry))?)
    }

    /// Enters in the own ledger what is done with the bytes of a release.
    pub(in crate::federation) async fn say(
        &self,
        followed: &Followed,
        release: &Wanted,
        state: Keeping,
        reason: Option<&str>,
    ) -> Result<(), SitesError> {
        let (home, size) = followed.newest().map_or_else(
            || (Origin::of(&followed.site, 1), 0),
            |signed| (signed.checkpoint().origin.clone(), signed.checkpoint().size),
        );
        let name = release.artifact.namespace();
        let state_of = name.clone();
        let namespace = followed.index.ask(move |q| q.namespace(&state_of)).await?;
        // While that fold is made anew nobody knows who may read it: better said later than to everybody.
        let namespace = namespace.ok_or_else(|| {
            AppendError::Unknown(format!(
                "what {} records of `{name}` is being read anew",
                followed.site
            ))
        })?;
        let private = namespace.visibility == Visibility::Private;
        self.say_as_of((home, size), release, (state, reason), private.then_some(name))
            .await
    }

    /// The same, of a home whose ledger is known to this size; of another site's private namespace only to whoever may
    /// read that.
    pub(in crate::federation) async fn say_as_of(
        &self,
        (home, size): (Origin, u64),
        release: &Wanted,
        (state, reason): (Keeping, Option<&str>),
        copies_of: Option<Namespace>,
    ) -> Result<(), SitesError> {
        let (name, manifest) = (release.artifact.clone(), release.view.manifest);
        let before = self.reader.ask(move |q| q.custody_of(&name, &manifest)).await?;
        let custody = Custody {
            artifact: release.artifact.clone(),
            manifest: release.view.manifest,
            state,
            reason: reason.map(Custody::reason),
            home,
            size,
            after: before.map(|row| row.entry),
        };
        let statement = Statement {
            subject: Subject::Site(self.here.site.clone()),
            predicate: Predicate::Custody(custody),
        };
        self.ledger.say_to(statement, copies_of).await?;
        Ok(())
    }
}
