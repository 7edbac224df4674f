//! Sets of releases, by which it is seen what a site lacks of another one's: those that stand in a ledger and are not
//! withdrawn, and those of which a ledger says that its site holds them.
//!
//! ```text
//! element = SHA-256(name of the artifact, 0, SHA-256 of the manifest)
//! digest  = SHA-256("waag set 1\n", the elements in ascending order)
//! ```
//!
//! The rows are kept in that order as they are folded, so a digest and a difference are one walk over both sets, without
//! a name being read that is in both. Two sets have one digest if and only if they are the same.

use rusqlite::params;
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::statement::{Custody, Keeping};
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId};

use super::{Index, IndexError, Questions};

/// The most releases that a difference names; the others are counted.
pub const NAMED_MAX: usize = 1000;

/// Returns what stands for a release in a set.
#[must_use]
pub fn element(artifact: &ArtifactName, manifest: &Sha256) -> Sha256 {
    let mut hasher = Sha256Hasher::default();
    hasher.update(artifact.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(manifest.as_bytes());
    hasher.finish()
}

/// How many are in a set, and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetDigest {
    /// How many.
    pub number: u64,
    /// The digest.
    pub digest: Sha256,
}

/// A set while its elements come, in ascending order.
struct Growing(u64, Sha256Hasher);

impl Growing {
    fn new() -> Self {
        let mut hasher = Sha256Hasher::default();
        hasher.update(b"waag set 1\n");
        Self(0, hasher)
    }

    fn push(&mut self, element: &Sha256) {
        self.0 += 1;
        self.1.update(element.as_bytes());
    }

    fn end(self) -> SetDigest {
        SetDigest {
            number: self.0,
            digest: self.1.finish(),
        }
    }
}

/// A release, by its name.
pub type Named = (ArtifactName, Sha256);

/// What a site holds beside what there is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The releases of the home that are not withdrawn.
    pub released: SetDigest,
    /// Those of its releases that the other site says it holds.
    pub held: SetDigest,
    /// How many of the first are none of the second.
    pub missing: u64,
    /// How many of the second are none of the first.
    pub surplus: u64,
    /// The missing ones, in the order of their elements; no more than [`NAMED_MAX`].
    pub missing_named: Vec<Named>,
    /// Those that are held and do not count any more; no more than [`NAMED_MAX`].
    pub surplus_named: Vec<Named>,
}

impl Questions<'_> {
    /// What does a site lack of the releases of this ledger, as far as its own ledger says what it holds? Left out are
    /// namespaces that are none of the home's any more.
    ///
    /// # Errors
    /// When one of the indexes fails.
    pub fn differs_from(
        &self,
        holder: &Questions<'_>,
        (home, site): (&SiteId, &SiteId),
        without: &[Namespace],
    ) -> Result<Difference, IndexError> {
        let mut left_out = Vec::new();
        for namespace in without {
            left_out.extend(self.elements_in(namespace)?);
        }
        left_out.sort_unstable();
        let (mut released, mut held) = (Growing::new(), Growing::new());
        let (mut missing, mut surplus) = (Vec::new(), Vec::new());
        let (mut missing_number, mut surplus_number) = (0, 0);
        // A part at a time: memory is the 256th part of both.
        for first in 0..=u8::MAX {
            let mut there = self.released_elements(first)?;
            there.retain(|element| left_out.binary_search(element).is_err());
            let here = holder.held_elements(site, home, first)?;
            there.iter().for_each(|element| released.push(element));
            here.iter().for_each(|element| held.push(element));
            let (mut there, mut here) = (there.iter().peekable(), here.iter().peekable());
            loop {
                let order = match (there.peek(), here.peek()) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some(a), Some(b)) => a.cmp(b),
                };
                if order.is_lt() {
                    missing_number += 1;
                    missing.extend(there.next().filter(|_| missing.len() < NAMED_MAX).copied());
                } else if order.is_gt() {
                    surplus_number += 1;
                    surplus.extend(here.next().filter(|_| surplus.len() < NAMED_MAX).copied());
                } else {
                    there.next();
                    here.next();
                }
            }
        }
        let named = |name: &dyn Fn(&Sha256) -> Result<Option<Named>, IndexError>, elements: Vec<Sha256>| {
            let found = elements.iter().filter_map(|element| name(element).transpose());
            found.collect::<Result<Vec<_>, _>>()
        };
        Ok(Difference {
            released: released.end(),
            held: held.end(),
            missing: missing_number,
            surplus: surplus_number,
            missing_named: named(&|element| self.released_as(element), missing)?,
            surplus_named: named(&|element| holder.held_as(site, home, element), surplus)?,
        })
    }
}

impl Index {
    /// Notes what a site holds from now on.
    pub(super) fn fold_holding(
        &self,
        position: u64,
        site: &SiteId,
        custody: &Custody,
    ) -> Result<(), IndexError> {
        let element = element(&custody.artifact, &custody.manifest);
        let home = custody.home.site();
        if custody.state == Keeping::Holds {
            self.run(
                "INSERT INTO holding (site, home, element, position) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET position = excluded.position",
                params![site.as_str(), home.as_str(), element.as_bytes(), position],
            )
        } else {
            self.run(
                "DELETE FROM holding WHERE site = ? AND home = ? AND element = ?",
                params![site.as_str(), home.as_str(), element.as_bytes()],
            )
        }
    }
}
