//! Which releases of other sites are mirrored here: what the operator decided, in `waag.toml` or by command.

use std::sync::Arc;

use bytes::Bytes;
use waag_schema::ArtifactName;
use waag_schema::policy::group::GroupTerms;
use waag_schema::policy::label::{Effect, RULES_MAX as PLACES_MAX};
use waag_schema::policy::place::Where;
use waag_schema::policy::{Action, Label};
use waag_schema::release::kind::Kind;
use waag_schema::wire::federation::{MirrorRule, When};

use super::peer::PeerSite;
use crate::store::{Key, Store, StoreError, Swap, Version};

/// The most rules, and the most globs of one.
const RULES_MAX: usize = 256;
/// The most bytes of a glob or a site's name.
const TEXT_MAX: usize = 256;

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

/// Checks what a rule's types cannot say.
///
/// # Errors
/// What is wrong.
pub fn check(rule: &MirrorRule) -> Result<(), RuleError> {
    let bad = |text: &str| text.is_empty() || text.len() > TEXT_MAX;
    if bad(&rule.site) || rule.artifacts.iter().any(|glob| bad(glob)) || rule.artifacts.len() > RULES_MAX {
        return Err(RuleError::Bad(format!(
            "a site and at most {RULES_MAX} globs, each of 1 to {TEXT_MAX} bytes, are accepted"
        )));
    }
    if rule.residency.len() > PLACES_MAX {
        return Err(RuleError::Bad(format!(
            "at most {PLACES_MAX} places are accepted"
        )));
    }
    if rule.bytes_per_second == Some(0) {
        return Err(RuleError::Bad("0 bytes a second never end".to_owned()));
    }
    if rule.hours.is_some() && rule.when == When::OnDemand {
        return Err(RuleError::Bad(
            "hours are for what can wait; what somebody asks for is fetched at once".to_owned(),
        ));
    }
    Ok(())
}

/// Is this site meant?
pub(super) fn is_of(rule: &MirrorRule, site: &PeerSite) -> bool {
    rule.site == site.id.as_str() || rule.site == site.name
}

/// Names a group of the rule's places that the charter does not have.
pub(super) fn unknown_group(rule: &MirrorRule, groups: &[GroupTerms]) -> Option<String> {
    rule.residency.iter().find_map(|place| match place {
        Where::Named(name) if groups.iter().all(|group| group.name != *name) => {
            Some(format!("the charter names no group `{name}`"))
        }
        _ => None,
    })
}

/// Is this artifact meant, under this label of its own?
pub(super) fn takes(
    rule: &MirrorRule,
    artifact: &ArtifactName,
    kind: Option<Kind>,
    label: Option<&Label>,
) -> bool {
    let globs = &rule.artifacts;
    let named = globs.is_empty()
        || globs
            .iter()
            .any(|glob| matches(glob.as_bytes(), artifact.as_str().as_bytes()));
    named
        && (rule.kinds.is_empty() || kind.is_some_and(|kind| rule.kinds.contains(&kind)))
        && (rule.residency.is_empty() || label.is_some_and(|label| is_at(label, &rule.residency)))
}

/// Does a label allow to hold at one of these places, as they are written in it?
fn is_at(label: &Label, places: &[Where]) -> bool {
    let holds = label
        .rules()
        .iter()
        .filter(|rule| rule.effect == Effect::Allow && rule.actions.contains(&Action::Hold));
    holds.into_iter().any(|rule| places.contains(&rule.scope))
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
        Ok(self.read().await?.0)
    }

    /// Takes a rule away; says whether it was there.
    pub(super) async fn remove(&self, rule: &MirrorRule) -> Result<bool, RuleError> {
        let (mut rules, version) = self.read().await?;
        let before = rules.len();
        rules.retain(|known| known != rule);
        if rules.len() == before {
            return Ok(false);
        }
        self.write(&rules, version).await?;
        Ok(true)
    }

    pub(super) async fn add(&self, rule: MirrorRule) -> Result<(), RuleError> {
        check(&rule)?;
        let (mut rules, version) = self.read().await?;
        if rules.contains(&rule) {
            return Ok(());
        }
        if rules.len() >= RULES_MAX {
            return Err(RuleError::Bad(format!("there are {RULES_MAX} rules already")));
        }
        rules.push(rule);
        self.write(&rules, version).await
    }

    /// Reads the rules, and which version of the cell they are.
    async fn read(&self) -> Result<(Vec<MirrorRule>, Option<Version>), RuleError> {
        let Some(cell) = self.store.read_cell(&Key::mirror_rules()).await? else {
            return Ok((Vec::new(), None));
        };
        let rules = serde_json::from_slice(&cell.bytes);
        let rules = rules.map_err(|e| RuleError::Bad(format!("the stored rules: {e}")))?;
        Ok((rules, Some(cell.version)))
    }

    /// Puts rules in the place of those that were read.
    async fn write(&self, rules: &[MirrorRule], version: Option<Version>) -> Result<(), RuleError> {
        let bytes = serde_json::to_vec(rules).map_err(|e| RuleError::Bad(e.to_string()))?;
        let key = Key::mirror_rules();
        let swapped = self.store.swap_cell(&key, version.as_ref(), Bytes::from(bytes));
        match swapped.await? {
            Swap::Swapped(_) => Ok(()),
            Swap::Lost => Err(RuleError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(texts: &[&str]) -> Vec<Where> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_rule_with_places_takes_what_a_label_allows_to_hold_at_one_of_them() {
        let label = |at: &[&str], allow: &[Action], deny: &[Action]| {
            Some(Label::from_cli(&places(at), allow, deny).unwrap())
        };
        let (all, hold, serve) = (Action::ALL, [Action::Hold], [Action::Serve]);
        for (at, label, expected) in [
            (&["EU", "NO"][..], label(&["EU"], &all, &[]), true),
            (&["EU", "NO"], label(&["NO", "US"], &all, &[]), true),
            (&["EU", "NO"], label(&["DE"], &all, &[]), false),
            (&["EU"], label(&["*"], &all, &[]), false),
            (&["*"], label(&["*"], &all, &[]), true),
            (&["EU"], label(&["EU"], &hold, &[]), true),
            (&["EU"], label(&["EU"], &serve, &[]), false),
            // What a label denies is for the verdict.
            (&["EU"], label(&["EU"], &all, &serve), true),
            (&["EU"], None, false),
            (&[], None, true),
            (&[], label(&["US"], &all, &[]), true),
        ] {
            let rule = MirrorRule {
                site: "home".to_owned(),
                artifacts: Vec::new(),
                kinds: Vec::new(),
                residency: places(at),
                when: When::Always,
                bytes_per_second: None,
                hours: None,
            };
            let artifact = "acme/tiny".parse().unwrap();
            assert_eq!(
                takes(&rule, &artifact, None, label.as_ref()),
                expected,
                "{at:?} {label:?}"
            );
        }
    }

    #[test]
    fn a_rule_that_was_stored_without_places_is_read_and_written_as_it_was() {
        let text = r#"{"site":"home","artifacts":[],"kinds":[],"when":"always"}"#;
        let rule: MirrorRule = serde_json::from_str(text).unwrap();
        assert_eq!(rule.residency, []);
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        let unknown = r#"{"site":"home","residency":["UK"]}"#;
        let error = serde_json::from_str::<MirrorRule>(unknown).unwrap_err();
        assert!(error.to_string().contains("UK"), "{error}");
    }

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
