//! Challenges: is what another site says that it holds really there? Whoever has the same release asks for proof.
//!
//! ```text
//! random ranges of the own copy -> verdict: may that site hold it? -> asked -> compared -> cell `checked`
//! ```
//! Every minute or so one site is asked about one release, and before an operator gives up a copy (`give_up`). What came of
//! it is shown and counted; nothing is ever deleted for it. The cell is written when the answer is there: a crash before
//! loses the answer, and the site counts as asked when it was before.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use waag_schema::content::challenge::{Challenge, Nonce, RANGES_MAX};
use waag_schema::ledger::entry_number;
use waag_schema::policy::{Action, Label, decide};
use waag_schema::statement::{Keeping, NamespaceState, Release};
use waag_schema::wire::federation::Checked;
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId, Timestamp};

use super::mirror::{Wanted, labels_of};
use super::peer::PeerError;
use super::sites::{Federation, Member, SitesError};
use crate::content::ContentError;
use crate::index::{CustodyRow, Reader};
use crate::ledger::{AppendError, Standing};
use crate::publish::PIECES_MAX;
use crate::store::{Key, Store, StoreError};
use crate::telemetry::Challenged;

/// Releases that are looked at for one that can be asked about, of each site.
const TRIES: usize = 8;
/// How often a cell is tried that another challenge writes as well.
const SWAPS: usize = 8;

/// When the next challenge is due.
#[derive(Default)]
pub(super) struct Due(Mutex<Option<Timestamp>>);

/// A release that is here.
struct Own {
    home: SiteId,
    namespace: NamespaceState,
    labels: Vec<Label>,
    /// Each file with its size and recipe.
    files: Vec<(Sha256, u64, ChunkDigest)>,
}

impl Own {
    fn files(release: &Release) -> Vec<(Sha256, u64, ChunkDigest)> {
        let mut files: Vec<_> = release
            .content
            .iter()
            .chain([&release.config])
            .map(|content| (content.sha256, content.size, content.recipe))
            .collect();
        files.sort_unstable_by_key(|(file, ..)| *file);
        files.dedup();
        files
    }
}

impl Federation {
    /// Asks a site for proof that it holds a release that is here as well, and notes what came of it.
    ///
    /// # Errors
    /// When the release is not here or not whole, that site may not hold it, there is no such site, or something here fails.
    pub async fn challenge(
        &self,
        site: &SiteId,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Checked, SitesError> {
        let member = self.member(site)?;
        let not_held = || SitesError::NotHeld(format!("{manifest} of {artifact}"));
        let own = self.own(artifact, manifest).await?.ok_or_else(not_held)?;
        // Who may not hold it is not told that it is here.
        let facts = self.here.facts(&own.home, self.clock.now());
        let verdict = decide(&own.labels, &facts, Action::Hold, &member.site.here().place());
        if !own.namespace.is_for(site) || !verdict.allowed {
            return Err(SitesError::Drop(format!(
                "{site} may not hold {artifact}, and is not asked for it"
            )));
        }
        let (challenge, expected) = self.drawn(site, manifest, &own).await?;
        let answer = member.peer.challenge(artifact, &challenge).await;
        let silent = matches!(answer, Err(PeerError::Unreachable(_)));
        let failed = match answer {
            Ok(answer) if answer == expected => None,
            Ok(_) => Some("it answers for other bytes than were signed".to_owned()),
            Err(PeerError::Absent(what)) => Some(format!("it has no {what}")),
            Err(error) => Some(error.to_string()),
        };
        let outcome = match (&failed, silent) {
            (None, _) => "ok",
            (Some(_), true) => "unanswered",
            (Some(_), false) => "failed",
        };
        if let Some(reason) = &failed {
            tracing::warn!(%site, %artifact, %manifest, %reason, "a site did not prove that it has what it says");
        }
        let peer = site.to_string();
        let counter = self
            .metrics
            .challenges
            .get_or_create(&Challenged { peer, outcome })
            .clone();
        counter.inc();
        self.note_checked(&member, (artifact, manifest), failed).await
    }

    /// Draws a challenge, and answers it from the own copy as the other site should.
    async fn drawn(
        &self,
        site: &SiteId,
        manifest: &Sha256,
        own: &Own,
    ) -> Result<(Challenge, waag_schema::content::challenge::Answer), SitesError> {
        let sizes: Vec<(Sha256, u64)> = own.files.iter().map(|(file, size, _)| (*file, *size)).collect();
        let mut lots = [0; RANGES_MAX];
        for lot in &mut lots {
            *lot = u64::from_be_bytes(self.random.bytes());
        }
        let nonce = Nonce::from_bytes(self.random.bytes());
        let empty = || SitesError::NotHeld(format!("file of {manifest} that holds anything"));
        let mut challenge = Challenge::draw(*manifest, &sizes, nonce, &lots).ok_or_else(empty)?;
        let (mut parts, mut bytes) = (Vec::new(), Vec::new());
        for part in std::mem::take(&mut challenge.parts) {
            let named = own.files.iter().find(|(file, ..)| *file == part.file);
            let (_, _, recipe) = named.ok_or_else(empty)?;
            let damaged = ContentError::Damaged {
                what: "recipe",
                digest: *recipe,
            };
            let recipe = self.content.recipe(recipe).await?.ok_or(damaged)?;
            let range = part.offset..part.offset.saturating_add(u64::from(part.length));
            // Nobody answers for what is cut to such shreds.
            if recipe.pieces_for(range.clone()).nth(PIECES_MAX).is_none() {
                bytes.push(self.content.reread(&recipe, range).await?);
                parts.push(part);
            }
        }
        challenge.parts = parts;
        let expected = challenge.answer(site, &bytes).ok_or_else(empty)?;
        Ok((challenge, expected))
    }

    /// Finds a release that is here, at home or as a copy.
    async fn own(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Option<Own>, SitesError> {
        let name = artifact.namespace();
        let read = async |index: &Reader| {
            let (artifact, manifest, name) = (artifact.clone(), *manifest, name.clone());
            let asked = index.ask(move |q| {
                let found = (q.namespace(&name)?, q.release(&artifact, &manifest)?);
                Ok((found, labels_of(q, &artifact)?))
            });
            Ok::<_, SitesError>(match asked.await? {
                ((Some(namespace), Some(view)), labels) => Some((namespace, view, labels)),
                _ => None,
            })
        };
        let (wanted, digest) = (artifact.clone(), *manifest);
        let custody = self.reader.ask(move |q| q.custody_of(&wanted, &digest)).await?;
        let state = custody.map(|row| row.state);
        if let Some((namespace, view, labels)) = read(&self.reader).await? {
            if state == Some(Keeping::Erased) {
                return Ok(None);
            }
            let release = self.own_statement(&Wanted::of(artifact.clone(), view)).await?;
            return Ok(Some(Own {
                home: self.here.site.clone(),
                namespace,
                labels,
                files: Own::files(&release),
            }));
        }
        if state != Some(Keeping::Holds) {
            return Ok(None);
        }
        let Some((_, followed)) = self.ledgers.home_of(&name).await? else {
            return Ok(None);
        };
        let Some((namespace, view, labels)) = read(&followed.index).await? else {
            return Ok(None);
        };
        let (_, release) = self
            .statement(&followed, &Wanted::of(artifact.clone(), view))
            .await?;
        Ok(Some(Own {
            home: followed.site.clone(),
            namespace,
            labels,
            files: Own::files(&release),
        }))
    }

    async fn note_checked(
        &self,
        member: &Member,
        (artifact, manifest): (&ArtifactName, &Sha256),
        failed: Option<String>,
    ) -> Result<Checked, SitesError> {
        let (copy, key) = (self.copy_of(member), Key::checked(artifact, manifest));
        let at = self.clock.now();
        for _ in 0..SWAPS {
            let cell = copy.read_cell(&key).await?;
            let before = cell.as_ref().and_then(|cell| read_checked(&cell.bytes));
            let ok = if failed.is_none() {
                Some(at)
            } else {
                before.and_then(|before| before.ok)
            };
            let failed = failed.clone();
            let checked = Checked { at, failed, ok };
            let bytes = serde_json::to_vec(&checked).map_err(|error| damaged(&error))?;
            let version = cell.as_ref().map(|cell| &cell.version);
            let swapped = copy.swap_cell(&key, version, Bytes::from(bytes)).await?;
            if let crate::store::Swap::Swapped(_) = swapped {
                return Ok(checked);
            }
        }
        Err(damaged(&"it is written by others all the time").into())
    }

    /// What came of it when a site was last asked for proof of what it holds?
    pub(super) async fn checked(
        &self,
        member: &Member,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<Option<Checked>, StoreError> {
        let cell = self
            .copy_of(member)
            .read_cell(&Key::checked(artifact, manifest))
            .await?;
        Ok(cell.and_then(|cell| read_checked(&cell.bytes)))
    }

    /// Forgets what came of asking about a release that is not here any more.
    pub(super) async fn forget_checked(
        &self,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<(), SitesError> {
        for followed in self.ledgers.all() {
            followed.store.delete(&Key::checked(artifact, manifest)).await?;
        }
        Ok(())
    }

    /// Asks one site about one release that is here as well, both drawn by lot. None: there is nobody to be asked.
    ///
    /// # Errors
    /// When what is here is not whole, or something here fails.
    pub async fn challenge_one(&self) -> Result<Option<(SiteId, Checked)>, SitesError> {
        let mut members = self.members();
        if members.is_empty() {
            return Ok(None);
        }
        let first = self.lot(members.len() as u64);
        members.rotate_left(usize::try_from(first).unwrap_or(0));
        for member in members {
            let site = &member.site.id;
            let sound = self
                .ledgers
                .of(site)
                .is_some_and(|followed| followed.standing == Standing::Sound);
            // Whoever does not answer at all is in trouble already.
            if !sound || member.is_in_trouble() {
                continue;
            }
            for (artifact, manifest) in self.to_ask(&member).await? {
                match self.challenge(site, &artifact, &manifest).await {
                    Ok(checked) => return Ok(Some((site.clone(), checked))),
                    // It is not here, or that site may not have it: another one.
                    Err(SitesError::NotHeld(_) | SitesError::Drop(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// The same, if it is time for that.
    pub(super) async fn challenge_when_due(&self) {
        let Some(seconds) = self.challenge_seconds else {
            return;
        };
        let now = self.clock.now();
        // Not all sites at one moment, nor one at the same moment of each minute.
        let next = now.plus(seconds / 2 + self.lot(seconds.max(1)));
        {
            let mut due = self.due.0.lock().unwrap_or_else(PoisonError::into_inner);
            let first = due.is_none();
            if due.is_some_and(|due| now < due) {
                return;
            }
            *due = Some(next);
            if first {
                return;
            }
        }
        if let Err(error) = self.challenge_one().await {
            tracing::error!(%error, "no site could be asked for proof of what it holds");
        }
    }

    /// Some releases that a site says it has and that may be here, drawn by lot from its copies and from its own.
    async fn to_ask(&self, member: &Member) -> Result<Vec<(ArtifactName, Sha256)>, SitesError> {
        let Some(followed) = self.ledgers.of(&member.site.id) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let theirs = followed.newest().map(|signed| signed.checkpoint().clone());
        let own = self.ledger.checkpoint().checkpoint().clone();
        for (index, tree, of) in [
            (&followed.index, theirs, &member.site.id),
            (&self.reader, Some(own), &self.here.site),
        ] {
            let Some(tree) = tree else { continue };
            let at = entry_number(tree.origin.series(), self.lot(tree.size)).map_err(AppendError::from)?;
            let mut from = at;
            for _ in 0..TRIES {
                let row = index.ask(move |q| q.held_from(from)).await?;
                let (row, next) = match row {
                    Some(row) => (Some(row.clone()), row.entry + 1),
                    // From the beginning.
                    None if from > 0 => (None, 0),
                    None => break,
                };
                from = next;
                if let Some(row) = row.filter(|row| row.site == *of)
                    && (*of == member.site.id || self.is_home(member, &row).await?)
                {
                    found.push((row.artifact, row.manifest));
                }
            }
        }
        found.dedup();
        if self.lot(2) == 0 {
            found.reverse();
        }
        Ok(found)
    }

    /// Is a copy that is held here one of this site's releases, which it has not erased?
    async fn is_home(&self, member: &Member, row: &CustodyRow) -> Result<bool, SitesError> {
        let Some(followed) = self.ledgers.of(&member.site.id) else {
            return Ok(false);
        };
        if !followed.owns(&row.artifact.namespace()) {
            return Ok(false);
        }
        let (artifact, manifest) = (row.artifact.clone(), row.manifest);
        let asked = followed.index.ask(move |q| {
            Ok((
                q.release(&artifact, &manifest)?,
                q.custody_of(&artifact, &manifest)?,
            ))
        });
        let (release, custody) = asked.await?;
        let erased = custody.is_some_and(|row| row.state == Keeping::Erased);
        Ok(release.is_some() && !erased)
    }

    /// A random number below a limit.
    fn lot(&self, limit: u64) -> u64 {
        let random = u128::from(u64::from_be_bytes(self.random.bytes()));
        u64::try_from((random * u128::from(limit)) >> 64).unwrap_or(0)
    }
}

/// Reads the cell. What cannot be read is as good as nothing: it is asked again.
fn read_checked(bytes: &[u8]) -> Option<Checked> {
    serde_json::from_slice(bytes).ok()
}

fn damaged(what: &dyn std::fmt::Display) -> AppendError {
    waag_schema::ledger::LedgerError::Malformed {
        what: "record of what was asked for proof",
        reason: what.to_string(),
    }
    .into()
}
