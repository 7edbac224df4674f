//! Answers to challenges: another site, which has a release too, asks whether its bytes are here.
//!
//! Nothing but one hash goes out, over bytes that are read from the store for it. A site that may not know of the release,
//! and one that asks for what is not here, get one and the same answer. How much is read is bounded for each challenge by
//! its format, and for each site by the minute. Whoever gives up a copy says from that moment on that it has none: so of two
//! that count on each other one at least goes on having it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use waag_schema::content::challenge::{Answer, Challenge, Part};
use waag_schema::policy::{Action, Label, decide};
use waag_schema::{ArtifactName, Sha256, SiteId, Timestamp};

use super::PublishError;
use super::catalogue::Catalogue;
use super::shelf::Shelf;
use crate::access::{Caller, Here};
use crate::content::ContentError;
use crate::store::{Key, StoreError};

/// Challenges of one site that are answered in a minute: at most 128 chunks of 4 MiB are read for one.
const A_MINUTE_MAX: u32 = 60;
/// The most pieces of a file that a range may take from. Planners cut in such a way that it is hardly ever more than two.
pub(crate) const PIECES_MAX: usize = 8;

#[derive(Debug, Default)]
struct State {
    /// The minute that is counted.
    minute: u64,
    asked: BTreeMap<SiteId, u32>,
    /// What is being given up.
    going: BTreeSet<(ArtifactName, Sha256)>,
}

/// Who has asked how often, and what is being given up. Cheap to clone; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Answers(Arc<Mutex<State>>);

impl Answers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May this site have another answer?
    fn take(&self, site: &SiteId, now: Timestamp) -> bool {
        let mut state = self.state();
        if state.minute != now.unix() / 60 {
            state.minute = now.unix() / 60;
            state.asked.clear();
        }
        // Only sites of the charter come so far, so the map is small.
        let asked = state.asked.entry(site.clone()).or_default();
        *asked = asked.saturating_add(1);
        *asked <= A_MINUTE_MAX
    }

    /// Has no answer given for a release as long as what it returns is kept.
    pub(crate) fn hush(&self, artifact: &ArtifactName, manifest: &Sha256) -> Option<Hushed> {
        let release = (artifact.clone(), *manifest);
        self.state().going.insert(release.clone()).then(|| Hushed {
            all: self.clone(),
            release,
        })
    }

    fn is_hushed(&self, artifact: &ArtifactName, manifest: &Sha256) -> bool {
        self.state().going.contains(&(artifact.clone(), *manifest))
    }
}

/// A release of which no challenge is answered until this goes.
#[derive(Debug)]
pub(crate) struct Hushed {
    all: Answers,
    release: (ArtifactName, Sha256),
}

impl Drop for Hushed {
    fn drop(&mut self) {
        self.all.state().going.remove(&self.release);
    }
}

impl Catalogue {
    /// Answers another site's challenge.
    ///
    /// # Errors
    /// When no site asks, or too often, or for what no challenge may ask for; when the release is not here, not whole, or
    /// nothing that the site may know of.
    pub async fn answer(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        challenge: &Challenge,
    ) -> Result<Answer, PublishError> {
        let asking = caller.site().ok_or(PublishError::NotSite)?;
        challenge
            .check()
            .map_err(|error| PublishError::Mismatch(error.to_string()))?;
        if !self.answers.take(&asking.site, self.clock.now()) {
            return Err(PublishError::TooOften);
        }
        let missing = || PublishError::NotFound(format!("whole copy of {} of {name}", challenge.manifest));
        let shelf = self.challenged(caller, asking, name, &challenge.manifest).await?;
        let shelf = shelf.ok_or_else(missing)?;
        let mut bytes = Vec::with_capacity(challenge.parts.len());
        for part in &challenge.parts {
            let read = self.part(&shelf, name, part).await?;
            bytes.push(read.ok_or_else(missing)?);
        }
        challenge.answer(&self.here.site, &bytes).ok_or_else(missing)
    }

    /// Finds a release that is here, that this site may hold and that the one which asks may hold as well.
    async fn challenged(
        &self,
        caller: &Caller,
        asking: &Here,
        name: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<Shelf>, PublishError> {
        let shelf = match self.readable(caller, &name.namespace()).await {
            Ok((_, shelf)) => shelf,
            Err(PublishError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (wanted, digest) = (name.clone(), *manifest);
        let found = shelf.index(self).ask(move |q| {
            let labels = q.labels(&wanted)?.into_iter().map(|row| row.label);
            Ok((labels.collect::<Vec<Label>>(), q.release(&wanted, &digest)?))
        });
        let (labels, release) = found.await?;
        let facts = self.here.facts(&shelf.home(&self.here), self.clock.now());
        let may = |place| decide(&labels, &facts, Action::Hold, &place).allowed;
        if release.is_none() || !may(self.here.place()) || !may(asking.place()) {
            return Ok(None);
        }
        if self.answers.is_hushed(name, manifest) {
            return Ok(None);
        }
        let Shelf::Copy(followed) = &shelf else {
            return Ok(Some(shelf));
        };
        let held = self.held(&shelf, name).await?;
        let going = Key::giving_up(name, manifest);
        let stays = followed.store.read_cell(&going).await?.is_none();
        Ok((stays && held.is_some_and(|held| held.contains(manifest))).then_some(shelf))
    }

    /// Reads some bytes of a file; none where they are not here as they should be.
    async fn part(
        &self,
        shelf: &Shelf,
        name: &ArtifactName,
        part: &Part,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let (artifact, file) = (name.clone(), part.file);
        let row = shelf
            .index(self)
            .ask(move |q| q.content_of(&artifact, &file))
            .await?;
        let Some(end) = part.offset.checked_add(u64::from(part.length)) else {
            return Ok(None);
        };
        let Some(row) = row.filter(|row| end <= row.size) else {
            return Ok(None);
        };
        match self.content.recipe(&row.recipe).await {
            Ok(Some(recipe)) if recipe.pieces_for(part.offset..end).nth(PIECES_MAX).is_some() => Err(
                PublishError::Mismatch("a range of too many pieces is not answered".to_owned()),
            ),
            Ok(Some(recipe)) => match self.content.reread(&recipe, part.offset..end).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => lacking(name, error),
            },
            Ok(None) => Ok(None),
            Err(error) => lacking(name, error),
        }
    }
}

/// What is gone or damaged is not here. Whoever runs this site hears of it, by the log and by who asked.
fn lacking<T>(name: &ArtifactName, error: ContentError) -> Result<Option<T>, PublishError> {
    match error {
        ContentError::Damaged { .. } | ContentError::Store(StoreError::NotFound(_)) => {
            tracing::error!(artifact = %name, %error, "a challenge cannot be answered: content is not whole");
            Ok(None)
        }
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_gets_so_many_answers_a_minute_and_no_more() {
        let (answers, site) = (Answers::default(), "dh6xxvclp4rnybaxwrxuolsabmygermx");
        let site: SiteId = site.parse().unwrap();
        let noon = Timestamp::from_unix(1_795_219_200);
        for _ in 0..A_MINUTE_MAX {
            assert!(answers.take(&site, noon));
        }
        assert!(!answers.take(&site, noon.plus(59)));
        assert!(answers.take(&site, noon.plus(60)));
    }

    #[test]
    fn what_is_being_given_up_is_given_up_by_one_at_a_time() {
        let (answers, manifest) = (Answers::default(), Sha256::of(b"manifest"));
        let name: ArtifactName = "acme/tiny".parse().unwrap();
        let hushed = answers.hush(&name, &manifest).unwrap();
        assert!(answers.is_hushed(&name, &manifest));
        assert!(answers.hush(&name, &manifest).is_none());
        drop(hushed);
        assert!(!answers.is_hushed(&name, &manifest));
    }
}
