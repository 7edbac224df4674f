//! Which releases of other sites are mirrored here: what the operator decided, in `waag.toml` or by command.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waag_schema::ArtifactName;
use waag_schema::release::kind::Kind;

use super::peer::PeerSite;
use crate::store::{Key, Store, StoreError, Swap};

/// The most rules, and the most globs of one.
const RULES_MAX: usize = 256;
/// The most bytes of a glob or a site's name.
const TEXT_MAX: usize = 256;

/// When a release that a rule matches is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// As soon as it is seen.
    #[default]
    Always,
    /// Once somebody here has asked for it.
    OnDemand,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorRule {
    /// The site: its id, or its name in the charter.
    pub site: String,
    /// Names of artifacts, in which `*` stands for anything; all where there is none.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// Only these kinds; all where there is none.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<Kind>,
    /// When they are fetched.
    #[serde(default)]
    pub when: When,
    /// The most bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

/// Rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// A rule says what it should not.
    #[error("mirror rule: {0}")]
    Bad(String),
    /// Others changed the rules in between.
    #[error("the mirror rules were changed by somebody else meanwhile; try again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MirrorRule {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), RuleError> {
        let bad = |text: &str| text.is_empty() || text.len() > TEXT_MAX;
        if bad(&self.site) || self.artifacts.iter().any(|glob| bad(glob)) || self.artifacts.len() > RULES_MAX
        {
            return Err(RuleError::Bad(format!(
                "a site and at most {RULES_MAX} globs, each of 1 to {TEXT_MAX} bytes, are accepted"
            )));
        }
        if self.bytes_per_second == Some(0) {
            return Err(RuleError::Bad("0 bytes a second never end".to_owned()));
        }
        Ok(())
    }

    /// Is this site meant?
    #[must_use]
    pub fn is_of(&self, site: &PeerSite) -> bool {
        self.site == site.id.as_str() || self.site == site.name
    }

    /// Is this artifact meant?
    #[must_use]
    pub fn takes(&self, artifact: &ArtifactName, kind: Option<Kind>) -> bool {
        let named = self.artifacts.is_empty()
            || self
                .artifacts
                .iter()
                .any(|glob| matches(glob.as_bytes(), artifact.as_str().as_bytes()));
        named && (self.kinds.is_empty() || kind.is_some_and(|kind| self.kinds.contains(&kind)))
    }
}

/// Does a text match a glob? In time that is the product of their lengths at most.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
        } else if g < glob.len() && (glob[g] == b'?' || glob[g] == text[t]) {
            g += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            // The last star takes one byte more.
            star = Some((at, from + 1));
            (g, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

/// The rules that were added by command.
#[derive(Clone)]
pub(super) struct AddedRules {
    store: Arc<dyn Store>,
}

impl AddedRules {
    pub(super) const fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) async fn all(&self) -> Result<Vec<MirrorRule>, RuleError> {
        match self.store.read_cell(&Key::mirror_rules()).await? {
            Some(cell) => serde_json::from_slice(&cell.bytes)
                .map_err(|e| RuleError::Bad(format!("the stored rules: {e}"))),
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn add(&self, rule: MirrorRule) -> Result<(), RuleError> {
        rule.check()?;
        let cell = self.store.read_cell(&Key::mirror_rules()).await?;
        let mut rules = self.all().await?;
        if rules.contains(&rule) {
            return Ok(());
        }
        if rules.len() >= RULES_MAX {
            return Err(RuleError::Bad(format!("there are {RULES_MAX} rules already")));
        }
        rules.push(rule);
        let bytes = serde_json::to_vec(&rules).map_err(|e| RuleError::Bad(e.to_string()))?;
        let version = cell.as_ref().map(|cell| &cell.version);
        match self
            .store
            .swap_cell(&Key::mirror_rules(), version, Bytes::from(bytes))
            .await?
        {
            Swap::Swapped(_) => Ok(()),
            Swap::Lost => Err(RuleError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, text, expected) in [
            ("acme/*", "acme/tiny", true),
            ("acme/*", "acmes/tiny", false),
            ("*", "acme/tiny", true),
            ("*tiny*", "acme/tiny-2", true),
            ("acme/tiny", "acme/tiny", true),
            ("acme/tin", "acme/tiny", false),
            ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("acme/t?ny", "acme/tiny", true),
            ("", "", true),
        ] {
            assert_eq!(
                matches(glob.as_bytes(), text.as_bytes()),
                expected,
                "{glob} {text}"
            );
        }
    }
}
