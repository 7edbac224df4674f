//! Giving up a copy: an operator does not want it any more, though its label would let it stay.
//!
//! ```text
//! nobody is answered about it from here on -> so many others prove that they have it -> cell `giving-up`
//!     -> deleted, and looked that it is gone -> `dropped` in the ledger -> cell deleted
//! ```
//! A crash behind the cell has the next look go on from there; before it, nothing has happened. Two sites that give up the
//! same copy at once cannot both count on the other: each stops answering before it asks.
//!
//! What was given up stays away though a rule matches it: `dropped` is this site's newest word on it, and only a rule that is
//! added after that, or somebody who asks for what is fetched on demand, has it fetched again. So a copy that is not whole is
//! mended. The home of a release has no
//! such way: its own goes with a withdrawal that erases.

use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::statement::Keeping;
use waag_schema::wire::federation::{DropAnswer, MirrorRule};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::mirror::{LISTED_AT_ONCE, Wanted};
use super::rules::{is_of, takes};
use super::sites::{Federation, SitesError};
use crate::ledger::Followed;
use crate::store::{Key, StoreError};

/// Challenges that each of the others has to answer: 64 ranges in all.
const ROUNDS: usize = 4;
/// The most sites that are asked.
const ASKED_MAX: usize = 32;

fn needed(copies: u32) -> usize {
    usize::try_from(copies).unwrap_or(usize::MAX)
}

impl Federation {
    /// Gives up a copy, after as many other sites have proved that they have it.
    ///
    /// # Errors
    /// When there is no copy here, too few prove that they have it, somebody does the same already, or something fails.
    pub async fn give_up(
        &self,
        artifact: &ArtifactName,
        version: &Version,
        copies: u32,
    ) -> Result<DropAnswer, SitesError> {
        if copies == 0 {
            return Err(SitesError::Drop(
                "at least one other site has to have a copy".to_owned(),
            ));
        }
        let name = artifact.namespace();
        let known = name.clone();
        if self.reader.ask(move |q| q.namespace(&known)).await?.is_some() {
            return Err(SitesError::Drop(format!(
                "{artifact} is at home here: its home gives nothing up; a withdrawal that erases deletes it"
            )));
        }
        let not_held = || SitesError::NotHeld(format!("copy of {version} of {artifact}"));
        let (_, followed) = self.ledgers.home_of(&name).await?.ok_or_else(not_held)?;
        let manifest = self
            .named(&followed, artifact, version)
            .await?
            .ok_or_else(not_held)?;
        self.held_here(artifact, &manifest).await?.ok_or_else(not_held)?;
        // From here on this site proves nothing about it to anybody.
        let hushed = self.answers.hush(artifact, &manifest);
        let hushed = hushed.ok_or_else(|| SitesError::Going(artifact.clone()))?;
        let claims = self.claims(artifact, &manifest).await?;
        let proved = self.prove_elsewhere((artifact, &manifest), &claims, copies).await;
        // What is not whole is no copy, and nothing that others could be compared with: their word is all there is.
        let (others, whole) = match proved {
            Err(error) if error.is_damage() && claims.len() >= needed(copies) => (claims, false),
            proved => (proved?, true),
        };
        let member = self.member(&followed.site)?;
        let mut settled = member.mirroring.lock().await;
        // All is looked at again after this: it stays away until somebody asks for it.
        *settled = None;
        // A label or a withdrawal may have taken it away meanwhile.
        let release = self.held_here(artifact, &manifest).await?.ok_or_else(not_held)?;
        let others_hold = match (others.len(), whole) {
            (1, true) => "1 other holds it".to_owned(),
            (number, true) => format!("{number} others hold it"),
            (1, false) => "it was not whole; 1 other says that it holds it".to_owned(),
            (number, false) => format!("it was not whole; {number} others say that they hold it"),
        };
        let reason = format!("dropped by its operator; {others_hold}");
        let (key, bytes) = (Key::giving_up(artifact, &manifest), Bytes::from(reason));
        let cell = followed.store.read_cell(&key).await?;
        let version = cell.as_ref().map(|cell| &cell.version);
        followed.store.swap_cell(&key, version, bytes).await?;
        // If we stop here, the next look goes on.
        self.go_on_giving_up(&followed, &release).await?;
        drop(hushed);
        Ok(DropAnswer {
            artifact: artifact.clone(),
            manifest,
            others,
        })
    }

    /// Deletes a copy of which it is on record why it is given up.
    async fn go_on_giving_up(&self, followed: &Followed, release: &Wanted) -> Result<(), SitesError> {
        let key = Key::giving_up(&release.artifact, &release.view.manifest);
        let Some(cell) = followed.store.read_cell(&key).await? else {
            return Ok(());
        };
        let reason = String::from_utf8_lossy(&cell.bytes).into_owned();
        self.erase(followed, release, (Keeping::Dropped, &reason)).await?;
        Ok(followed.store.delete(&key).await?)
    }

    /// Ends what a crash has left of giving up copies of a site's releases, and takes them off the list; returns how many
    /// went.
    pub(super) async fn end_giving_up(
        &self,
        followed: &Followed,
        wanted: &mut Vec<Wanted>,
    ) -> Result<u64, SitesError> {
        let store = followed.store.as_ref();
        let begun = store.list(Key::giving_up_prefix(), None, LISTED_AT_ONCE).await?;
        let mut went = 0;
        for key in begun {
            let is_it = |one: &Wanted| Key::giving_up(&one.artifact, &one.view.manifest) == key;
            if let Some(at) = wanted.iter().position(|one| is_it(one) && one.is_held()) {
                let release = wanted.swap_remove(at);
                self.go_on_giving_up(followed, &release).await?;
                went += 1;
            }
        }
        Ok(went)
    }

    /// Which release of a followed artifact is meant?
    async fn named(
        &self,
        followed: &Followed,
        artifact: &ArtifactName,
        version: &Version,
    ) -> Result<Option<Sha256>, SitesError> {
        let (wanted, version) = (artifact.clone(), version.clone());
        let found = followed.index.ask(move |q| match &version {
            Version::Manifest(digest) => Ok(Some(*digest)),
            Version::Tag(tag) => Ok(q.tag(&wanted, tag)?.map(|tag| tag.manifest)),
        });
        Ok(found.await?)
    }

    /// Returns a copy, if it is held here.
    async fn held_here(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<Wanted>, SitesError> {
        let (wanted, digest) = (artifact.clone(), *manifest);
        let row = self.reader.ask(move |q| q.custody_of(&wanted, &digest)).await?;
        if row.is_none_or(|row| row.state != Keeping::Holds) {
            return Ok(None);
        }
        let Some((_, followed)) = self.ledgers.home_of(&artifact.namespace()).await? else {
            return Ok(None);
        };
        let (wanted, digest) = (artifact.clone(), *manifest);
        let view = followed.index.ask(move |q| q.release(&wanted, &digest)).await?;
        Ok(view.map(|view| Wanted::of(artifact.clone(), view)))
    }

    /// Which other sites say that they have a release?
    async fn claims(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Vec<SiteId>, SitesError> {
        let mut claims: Vec<SiteId> = Vec::new();
        let views = self.holders(artifact).await?;
        let gone = |site: &SiteId| {
            let mut of = views.iter().filter(|view| view.site == *site);
            of.any(|view| view.manifest == *manifest && matches!(view.state.as_str(), "erased" | "dropped"))
        };
        for view in views.iter().filter(|view| view.manifest == *manifest) {
            let says = matches!(view.state.as_str(), "home" | "holds") && !gone(&view.site);
            if says && view.site != self.here.site && !claims.contains(&view.site) {
                claims.push(view.site.clone());
            }
        }
        Ok(claims)
    }

    /// Has so many of the other sites that say that they have a release prove it; returns which did.
    async fn prove_elsewhere(
        &self,
        (artifact, manifest): (&ArtifactName, &Sha256),
        claims: &[SiteId],
        copies: u32,
    ) -> Result<Vec<SiteId>, SitesError> {
        let needed = needed(copies);
        let (mut proved, mut reasons) = (Vec::new(), Vec::new());
        for site in claims.iter().take(ASKED_MAX) {
            if proved.len() >= needed {
                break;
            }
            match self.proves(site, artifact, manifest).await? {
                None => proved.push(site.clone()),
                Some(reason) => reasons.push(format!("{site}: {reason}")),
            }
        }
        if proved.len() >= needed {
            return Ok(proved);
        }
        if reasons.is_empty() {
            let more = if proved.is_empty() { "other" } else { "further" };
            reasons.push(format!(
                "no {more} site that is followed here says that it has it"
            ));
        }
        Err(SitesError::TooFew {
            artifact: artifact.clone(),
            manifest: *manifest,
            needed: copies,
            proved: proved.len(),
            reasons,
        })
    }

    /// Has one site prove that it has a release; returns why it does not.
    async fn proves(
        &self,
        site: &SiteId,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<String>, SitesError> {
        if let Some(reason) = self.distrusted(site) {
            return Ok(Some(format!("it is not believed: {reason}")));
        }
        for _ in 0..ROUNDS {
            match self.challenge(site, artifact, manifest).await {
                Ok(checked) => {
                    if let Some(reason) = checked.failed {
                        return Ok(Some(reason));
                    }
                }
                Err(SitesError::Drop(reason)) => return Ok(Some(reason)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// A rule was added: what it takes of all that was given up is to be fetched again.
    pub(super) async fn ask_again(&self, rule: &MirrorRule) -> Result<(), SitesError> {
        let here = self.here.site.clone();
        let custody = self.reader.ask(|q| q.custody(None)).await?;
        let dropped = custody
            .into_iter()
            .filter(|row| row.site == here && row.state == Keeping::Dropped);
        for row in dropped {
            let home = self.ledgers.home_of(&row.artifact.namespace()).await?;
            let Some((_, followed)) = home else { continue };
            let Ok(member) = self.member(&followed.site) else {
                continue;
            };
            let wanted = row.artifact.clone();
            let artifact = followed.index.ask(move |q| q.artifact(&wanted)).await?;
            let (kind, label) = artifact.map_or((None, None), |row| (row.kind, row.label));
            if is_of(rule, &member.site) && takes(rule, &row.artifact, kind, label.as_ref()) {
                let key = Key::again(&row.artifact, &row.manifest);
                followed.store.put_if_absent(&key, Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// Was a release given up here, and not asked for since?
    pub(super) async fn stays_away(&self, followed: &Followed, release: &Wanted) -> Result<bool, StoreError> {
        if !release.is_dropped() {
            return Ok(false);
        }
        let key = Key::again(&release.artifact, &release.view.manifest);
        Ok(followed.store.head(&key).await?.is_none())
    }
}
