//! What a site has signed so far, as far as it was seen here.
//!
//! Beside the pin stands the newest checkpoint of each series that was verified: `checkpoint` of the first,
//! `checkpoint-2` of the second. A site that signs a tree of the same size with another root, or one that does
//! not continue what it signed before, has two histories: both notes are kept as evidence and nothing more is
//! believed. A successor is followed if nothing is lost that was seen; otherwise a person has to accept it.

use std::cmp::Ordering;
use std::path::PathBuf;

use waag_schema::Sha256;
use waag_schema::ledger::{Checkpoint, SignedCheckpoint};

use super::{Pin, Trust};
use crate::error::{ClientError, Result};

/// How a checkpoint stands to the newest one that was verified before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There was none.
    First,
    /// It is the same tree.
    Same,
    /// It is larger than this one, which it must be shown to continue.
    Newer(Checkpoint),
    /// It is smaller than this one, which must be shown to continue it.
    Older(Checkpoint),
    /// It is of a later series than this one, which must be shown to have ended without a loss.
    Successor(Checkpoint),
    /// It is of a series that has ended, as far as is known.
    Ended,
}

impl Trust {
    /// Returns the newest checkpoint of a site that was verified, if any: of the last series that was seen.
    ///
    /// # Errors
    /// When it cannot be read, or the site's key did not sign it.
    pub fn remembered(&self, pin: &Pin) -> Result<Option<SignedCheckpoint>> {
        let names = self.home.names(&self.home.site_dir(&pin.site))?;
        let later = names
            .iter()
            .filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok());
        self.remembered_in(pin, later.max().unwrap_or(1))
    }

    fn path_of(&self, pin: &Pin, series: u32) -> PathBuf {
        let name = match series {
            1 => "checkpoint".to_owned(),
            later => format!("checkpoint-{later}"),
        };
        self.home.site_dir(&pin.site).join(name)
    }

    fn remembered_in(&self, pin: &Pin, series: u32) -> Result<Option<SignedCheckpoint>> {
        let path = self.path_of(pin, series);
        let Some(bytes) = self.home.read(&path)? else {
            return Ok(None);
        };
        let signed =
            SignedCheckpoint::parse(&bytes).map_err(|e| ClientError::verification(path.display(), e))?;
        pin.check_signed(&signed)?;
        if signed.checkpoint().origin.series() != series {
            return Err(ClientError::verification(
                path.display(),
                "it is of another series",
            ));
        }
        Ok(Some(signed))
    }

    /// Compares a checkpoint with the newest one that was verified before.
    ///
    /// # Errors
    /// When the site's key did not sign it, or it has the same size and another root; then both are kept.
    pub fn compare(&self, pin: &Pin, signed: &SignedCheckpoint) -> Result<Standing> {
        pin.check_signed(signed)?;
        let Some(known) = self.remembered(pin)? else {
            return Ok(Standing::First);
        };
        let series = signed.checkpoint().origin.series();
        let newest = known.checkpoint().origin.series();
        let known = match newest.cmp(&series) {
            Ordering::Less => return Ok(Standing::Successor(known.checkpoint().clone())),
            Ordering::Equal => known,
            Ordering::Greater => match self.remembered_in(pin, series)? {
                Some(known) => known,
                None => return Ok(Standing::Ended),
            },
        };
        let (before, now) = (known.checkpoint(), signed.checkpoint());
        if before.size == now.size && before.root != now.root {
            return Err(self.two_histories(pin, &known, signed));
        }
        if series < newest {
            return Ok(Standing::Ended);
        }
        Ok(match now.size.cmp(&before.size) {
            Ordering::Equal => Standing::Same,
            Ordering::Greater => Standing::Newer(before.clone()),
            Ordering::Less => Standing::Older(before.clone()),
        })
    }

    /// Remembers a checkpoint that stands as the caller found and, where it is newer, has shown it to stand.
    /// Says no, and changes nothing, if another process has remembered something meanwhile: compare again.
    ///
    /// # Errors
    /// When the disk fails, or what another process remembered is of another history.
    pub fn remember(&self, pin: &Pin, signed: &SignedCheckpoint, standing: &Standing) -> Result<bool> {
        let _lock = self.home.lock(&pin.site)?;
        if self.compare(pin, signed)? != *standing {
            return Ok(false);
        }
        if matches!(
            standing,
            Standing::First | Standing::Newer(_) | Standing::Successor(_)
        ) {
            let path = self.path_of(pin, signed.checkpoint().origin.series());
            self.home.write(&path, signed.to_string().as_bytes())?;
        }
        Ok(true)
    }

    /// Keeps two checkpoints that cannot both be true, and returns the error that says so.
    pub(crate) fn two_histories(
        &self,
        pin: &Pin,
        known: &SignedCheckpoint,
        found: &SignedCheckpoint,
    ) -> ClientError {
        let [before, now] = [known.checkpoint(), found.checkpoint()];
        let reason = format!(
            "the ledger of {} has two histories: it signed {} leaves under {} and {} leaves under {}",
            pin.site, before.size, before.root, now.size, now.root
        );
        self.contradiction(pin, known, found, reason)
    }

    /// Keeps the newest checkpoint that was seen and the older one that the site shows as its newest now, and
    /// returns the error that says so.
    pub(crate) fn set_back(&self, pin: &Pin, found: &SignedCheckpoint) -> ClientError {
        let known = match self.remembered(pin) {
            Ok(Some(known)) => known,
            Ok(None) => return gone(),
            Err(error) => return error,
        };
        let reason = format!(
            "the ledger of {} was set back: it has {} leaves, it had {} before",
            pin.site,
            leaves_of(found.checkpoint(), known.checkpoint()),
            known.checkpoint().size
        );
        self.contradiction(pin, &known, found, reason)
    }

    fn contradiction(
        &self,
        pin: &Pin,
        known: &SignedCheckpoint,
        found: &SignedCheckpoint,
        mut reason: String,
    ) -> ClientError {
        reason.push_str(&self.keep_both(pin, known, found));
        ClientError::verification("checkpoint", reason)
    }

    /// Says that a site has gone on with a successor without what was seen of the ledger before; keeps both
    /// checkpoints.
    pub(crate) fn lost(&self, pin: &Pin, stands: &Checkpoint, found: &SignedCheckpoint) -> ClientError {
        let known = match self.remembered(pin) {
            Ok(Some(known)) => known,
            Ok(None) => return gone(),
            Err(error) => return error,
        };
        ClientError::Lost {
            site: pin.site.clone(),
            successor: found.checkpoint().origin.to_string(),
            lost: what_is_lost(stands, known.checkpoint()),
            kept: self.keep_both(pin, &known, found),
        }
    }

    fn keep_both(&self, pin: &Pin, known: &SignedCheckpoint, found: &SignedCheckpoint) -> String {
        match [known, found].map(|signed| self.keep_evidence(pin, signed)) {
            [Ok(first), Ok(second)] => {
                format!("; both are kept in {} and {}", first.display(), second.display())
            }
            [Err(error), _] | [_, Err(error)] => format!("; they could not be kept: {error}"),
        }
    }

    fn keep_evidence(&self, pin: &Pin, signed: &SignedCheckpoint) -> Result<PathBuf> {
        let text = signed.to_string();
        let checkpoint = signed.checkpoint();
        let name = format!(
            "{}-{}.note",
            checkpoint.size,
            &Sha256::of(text.as_bytes()).hex()[..16]
        );
        let path = self.home.site_dir(&pin.site).join("evidence").join(name);
        // The name holds the digest: what is there already is the same.
        self.home.create(&path, text.as_bytes())?;
        Ok(path)
    }
}

fn gone() -> ClientError {
    ClientError::verification("checkpoint", "what was remembered has gone from this disk")
}

/// Says what is lost between where a ledger ended and what was seen of it.
fn what_is_lost(stands: &Checkpoint, seen: &Checkpoint) -> String {
    let (size, before) = (stands.size, seen.size);
    if stands.origin != seen.origin {
        format!(
            "all {before} entries of {}, which were seen, are lost",
            seen.origin
        )
    } else if size < before {
        format!(
            "it ends at {size}, the entries from {size} to {}, which were seen, are lost",
            before - 1
        )
    } else {
        format!("its first {before} entries are not those that were seen")
    }
}

/// Says how many leaves a ledger shows, and which one where that is another.
fn leaves_of(found: &Checkpoint, known: &Checkpoint) -> String {
    if found.origin == known.origin {
        found.size.to_string()
    } else {
        format!(
            "{} in the series {}, which ended,",
            found.size,
            found.origin.series()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::trust::Pinning;
    use crate::url::SiteUrl;
    use waag_schema::base::key::KeyPair;
    use waag_schema::ledger::{Hash, Origin, Root};
    use waag_schema::wire::site::SiteView;

    struct World {
        _dir: tempfile::TempDir,
        trust: Trust,
        key: KeyPair,
        url: SiteUrl,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        World {
            trust: Trust::new(Home::new(dir.path())),
            _dir: dir,
            key: KeyPair::from_seed(&[1; 32]),
            url: "http://127.0.0.1:7070".parse().unwrap(),
        }
    }

    fn view(key: &KeyPair) -> SiteView {
        let id = key.public().site_id();
        let origin = Origin::of(&id, 1);
        SiteView {
            log_key: origin.verifier(key.public()).to_string(),
            origin: origin.to_string(),
            id,
            site_key: key.public(),
            witness_key: String::new(),
            jurisdiction: None,
            version: "0".to_owned(),
        }
    }

    fn checkpoint(key: &KeyPair, size: u64, root: u8) -> SignedCheckpoint {
        in_series(1, key, size, root)
    }

    fn in_series(series: u32, key: &KeyPair, size: u64, root: u8) -> SignedCheckpoint {
        let checkpoint = Checkpoint {
            origin: Origin::of(&key.public().site_id(), series),
            size,
            root: Root::from_bytes(*Hash::leaf(&[root]).as_bytes()),
        };
        SignedCheckpoint::sign(checkpoint, key)
    }

    #[test]
    fn each_series_is_remembered_by_itself() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let (first, second) = (checkpoint(&w.key, 5, 1), in_series(3, &w.key, 1, 2));
        assert!(w.trust.remember(&pin, &first, &Standing::First).unwrap());
        let standing = w.trust.compare(&pin, &second).unwrap();
        assert_eq!(standing, Standing::Successor(first.checkpoint().clone()));
        assert!(w.trust.remember(&pin, &second, &standing).unwrap());
        assert_eq!(w.trust.remembered(&pin).unwrap(), Some(second));
        // A checkpoint of a series that ended is no newest one, and must still be of the one history.
        assert_eq!(w.trust.compare(&pin, &first).unwrap(), Standing::Ended);
        assert_eq!(
            w.trust.compare(&pin, &in_series(2, &w.key, 4, 4)).unwrap(),
            Standing::Ended
        );
        let error = w.trust.compare(&pin, &checkpoint(&w.key, 5, 9)).unwrap_err();
        assert!(error.to_string().contains("two histories"), "{error}");
    }

    #[test]
    fn a_fork_is_refused_and_kept_as_evidence() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let (first, second) = (checkpoint(&w.key, 5, 1), checkpoint(&w.key, 5, 2));
        assert_eq!(w.trust.compare(&pin, &first).unwrap(), Standing::First);
        assert!(w.trust.remember(&pin, &first, &Standing::First).unwrap());
        assert_eq!(w.trust.compare(&pin, &first).unwrap(), Standing::Same);
        let error = w.trust.compare(&pin, &second).unwrap_err();
        assert!(error.to_string().contains("two histories"), "{error}");
        let evidence = w.trust.home().site_dir(&pin.site).join("evidence");
        assert_eq!(w.trust.home().names(&evidence).unwrap().len(), 2);
        assert_eq!(w.trust.remembered(&pin).unwrap(), Some(first));
    }

    #[test]
    fn a_ledger_that_was_set_back_is_kept_as_evidence() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let (large, small) = (checkpoint(&w.key, 9, 1), checkpoint(&w.key, 5, 2));
        assert!(w.trust.remember(&pin, &large, &Standing::First).unwrap());
        let error = w.trust.set_back(&pin, &small).to_string();
        assert!(
            error.contains("was set back: it has 5 leaves, it had 9"),
            "{error}"
        );
        let evidence = w.trust.home().site_dir(&pin.site).join("evidence");
        let names = w.trust.home().names(&evidence).unwrap();
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }

    #[test]
    fn the_largest_checkpoint_is_remembered() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let (small, large) = (checkpoint(&w.key, 5, 1), checkpoint(&w.key, 9, 2));
        assert!(w.trust.remember(&pin, &small, &Standing::First).unwrap());
        // Another process was first: what was found before does not hold any more.
        assert!(!w.trust.remember(&pin, &large, &Standing::First).unwrap());
        let standing = w.trust.compare(&pin, &large).unwrap();
        assert_eq!(standing, Standing::Newer(small.checkpoint().clone()));
        assert!(w.trust.remember(&pin, &large, &standing).unwrap());
        let standing = w.trust.compare(&pin, &small).unwrap();
        assert_eq!(standing, Standing::Older(large.checkpoint().clone()));
        assert!(w.trust.remember(&pin, &small, &standing).unwrap());
        assert_eq!(w.trust.remembered(&pin).unwrap(), Some(large));
    }

    #[test]
    fn a_checkpoint_by_another_key_is_refused() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let other = KeyPair::from_seed(&[2; 32]);
        let own = checkpoint(&w.key, 5, 1).checkpoint().clone();
        assert!(w.trust.compare(&pin, &checkpoint(&other, 5, 1)).is_err());
        assert!(
            w.trust
                .compare(&pin, &SignedCheckpoint::sign(own, &other))
                .is_err()
        );
    }
}
