//! Custody: a site says what it does with the bytes of another site's release, in its own ledger.
//!
//! `holds` is said when all of them have arrived and been checked, `refused` when a label forbade it to fetch them,
//! `erased` when what it held had to go and is deleted, `dropped` when it is deleted though it might have stayed: its
//! operator gave it up, after others had shown that they have the bytes. The newest statement of a site on a manifest is what counts. That no copy
//! exists elsewhere is not said; that somebody said so can be checked.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha256;
use crate::base::name::ArtifactName;
use crate::ledger::Origin;

/// The most bytes of a reason.
const REASON_BYTES_MAX: usize = 4000;

/// What a site does with the bytes of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keeping {
    /// It has all of them, checked.
    Holds,
    /// It has none of them, because a label denies it.
    Refused,
    /// It has deleted what no other artifact needs, and has looked that it is gone.
    Erased,
    /// It has deleted them in the same way, because its operator gave the copy up.
    Dropped,
}

impl Keeping {
    /// Returns the text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Refused => "refused",
            Self::Erased => "erased",
            Self::Dropped => "dropped",
        }
    }
}

impl FromStr for Keeping {
    type Err = UnknownKeeping;

    fn from_str(text: &str) -> Result<Self, UnknownKeeping> {
        let all = [Self::Holds, Self::Refused, Self::Erased, Self::Dropped];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or(UnknownKeeping)
    }
}

/// A text says nothing that a site does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither holds nor refused, erased or dropped")]
pub struct UnknownKeeping;

/// The predicate `custody`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The release's manifest.
    pub manifest: Sha256,
    /// What the site does with its bytes.
    pub state: Keeping,
    /// Why: the verdict's words for a refusal, what was read in the home ledger for an erasure, how many others hold it
    /// where a copy was given up. None where it holds.
    #[serde(deserialize_with = "Option::deserialize")]
    pub reason: Option<String>,
    /// The ledger of the artifact's home, as far as the site had verified it when it said so.
    pub home: Origin,
    /// How many entries of it.
    pub size: u64,
    /// The entry of the site's own ledger with the word that this one takes the place of; none for the first on a release.
    /// So the same may be said again: no two statements are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl Custody {
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.reason, self.state) {
            (None, Keeping::Holds) => Ok(()),
            (Some(reason), Keeping::Refused | Keeping::Erased | Keeping::Dropped)
                if (1..=REASON_BYTES_MAX).contains(&reason.len()) =>
            {
                Ok(())
            }
            _ => Err(format!(
                "a reason of 1 to {REASON_BYTES_MAX} bytes stands where something is refused, erased or dropped, and nowhere else"
            )),
        }
    }

    /// Cuts a reason to what a statement takes.
    #[must_use]
    pub fn reason(text: &str) -> String {
        let mut end = text.len().min(REASON_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = &text[..end];
        if cut.is_empty() {
            "none given".to_owned()
        } else {
            cut.to_owned()
        }
    }
}
