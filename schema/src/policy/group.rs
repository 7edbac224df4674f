//! Groups of countries that a charter names beside the built-in ones: adequacy, an alliance, a treaty.
//!
//! They are dated data like the built-in tables: membership is asked for a point in time, so a verdict of last year can
//! be recomputed today.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::place::Country;
use super::{PolicyError, shorten};
use crate::base::time::Timestamp;

/// The most rows of one group: a country may leave and join again.
pub const MEMBERS_MAX: usize = 512;

/// What a charter calls a group: 1 to 31 lower-case letters and digits, joined by single `-`. In a label it is written
/// `group:<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(String);

impl GroupName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if crate::federation::name::is_word(text, 31) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PolicyError::GroupName { text: shorten(text) })
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

crate::base::text::as_text!(
    GroupName,
    "A charter's group of countries: 1 to 31 lower-case letters and digits, joined by single `-`"
);

/// One row: a country is in the group from one moment until before another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The country.
    pub country: Country,
    /// Since when.
    pub from: Timestamp,
    /// Until when; `null` while it lasts.
    #[serde(deserialize_with = "Option::deserialize")]
    pub until: Option<Timestamp>,
}

/// A group, and who is in it when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupTerms {
    /// Its name.
    pub name: GroupName,
    /// Its members, 1 to 512 rows.
    pub members: Vec<Member>,
}

impl GroupTerms {
    /// Says whether the country is a member at this time.
    #[must_use]
    pub fn contains(&self, country: Country, at: Timestamp) -> bool {
        self.members
            .iter()
            .any(|row| row.country == country && row.from <= at && row.until.is_none_or(|until| at < until))
    }

    /// The rules that its shape does not say.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.members.is_empty() || self.members.len() > MEMBERS_MAX {
            return Err(format!(
                "the group `{}` has {} rows, 1 to {MEMBERS_MAX} are accepted",
                self.name,
                self.members.len()
            ));
        }
        match self
            .members
            .iter()
            .find(|row| row.until.is_some_and(|until| until <= row.from))
        {
            Some(row) => Err(format!(
                "in the group `{}` the membership of {} ends before it begins",
                self.name, row.country
            )),
            None => Ok(()),
        }
    }
}
