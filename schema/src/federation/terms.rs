//! What a charter says: the document under the signatures, and its rules.
//!
//! ```text
//! {"federation": "example", "version": 2, "previous": "sha256:<of version 1's document>",
//!  "expires": "2027-11-21T00:00:00Z",
//!  "root": {"keys": ["ssh-ed25519 AAAA...", ...], "threshold": 2},
//!  "sites": [{"id": "<site id>", "name": "bologna", "jurisdiction": "IT", "url": "https://waag.example",
//!    "ledgers": [{"key": "waag/<site id>/1+<hash>+<base64>", "ends": null}],
//!    "site_key": "ssh-ed25519 AAAA...", "witness_key": "waag/<site id>/witness+<hash>+<base64>",
//!    "owns": ["bologna", "bologna-*"], "recovery": ["ssh-ed25519 AAAA..."]}, ...],
//!  "witnesses": {"jurisdictions": 1},
//!  "groups": [{"name": "adequate", "members": [{"country": "CH", "from": "2000-07-26T00:00:00Z", "until": null}]}]}
//! ```
//!
//! Invariant of a document that [`Terms::check`] lets pass: ids, names, addresses and keys are each there once, a key
//! has one role, no namespace has two owners, and every site can find as many jurisdictions of witnesses as is asked.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::name::{Address, FederationName, Owned, SiteName};
use crate::base::digest::Sha256;
use crate::base::key::PublicKey;
use crate::base::name::SiteId;
use crate::base::time::Timestamp;
use crate::ledger::{KeyKind, Origin, Root, Tree, VerifierKey};
use crate::policy::{Country, GroupTerms};

/// The most root keys.
pub const ROOT_KEYS_MAX: usize = 32;
/// The most sites.
pub const SITES_MAX: usize = 256;
/// The most ledgers of one site.
pub const LEDGERS_MAX: usize = 16;
/// The most entries in the list of what one site owns.
pub const OWNED_MAX: usize = 256;
/// The most recovery keys of one site.
pub const RECOVERY_KEYS_MAX: usize = 8;
/// The most groups of countries.
pub const GROUPS_MAX: usize = 16;

/// A charter's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What the federation calls itself.
    pub federation: FederationName,
    /// 1 for the first, and one more for each that follows.
    pub version: u64,
    /// The SHA-256 of the document before; `null` in version 1 only.
    #[serde(deserialize_with = "Option::deserialize")]
    pub previous: Option<Sha256>,
    /// From when on nobody relies on it for anything new.
    pub expires: Timestamp,
    /// Who signs charters.
    pub root: RootKeys,
    /// Who belongs to the federation, 1 to 256 sites.
    pub sites: Vec<SiteTerms>,
    /// When a checkpoint counts as witnessed.
    pub witnesses: Witnesses,
    /// Groups of countries beside the built-in ones, at most 16.
    pub groups: Vec<GroupTerms>,
}

/// The keys that sign charters. They are kept offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootKeys {
    /// 1 to 32 keys.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// One site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteTerms {
    /// Its id: what its first log key hashes to.
    pub id: SiteId,
    /// What people call it.
    pub name: SiteName,
    /// The country whose law its storage is under.
    pub jurisdiction: Country,
    /// Where it answers.
    pub url: Address,
    /// Its ledgers, 1 to 16, one after another.
    pub ledgers: Vec<LedgerTerms>,
    /// The key that signs custody, scorecards and requests.
    pub site_key: PublicKey,
    /// The key that cosigns other sites' checkpoints.
    #[schema(value_type = String)]
    pub witness_key: VerifierKey,
    /// The namespaces that only it may be the home of.
    pub owns: Vec<Owned>,
    /// Keys that speak for the site when its own are lost or stolen, at most 8.
    pub recovery: Vec<PublicKey>,
}

/// One series of a site's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerTerms {
    /// Its key, under the name of the ledger.
    #[schema(value_type = String)]
    pub key: VerifierKey,
    /// The tree with which it ends, as the federation sees it; `null` while it grows.
    #[serde(deserialize_with = "Option::deserialize")]
    pub ends: Option<Ending>,
}

/// The last tree of a ledger: whatever its key signs beyond is nobody's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// How many entries stand.
    pub size: u64,
    /// The root of their tree.
    #[schema(value_type = String)]
    pub root: Root,
}

impl Ending {
    /// May a tree be believed: is it shorter, or the last one itself? Of a shorter one it is not said here that it leads there.
    #[must_use]
    pub fn takes(&self, tree: &Tree) -> bool {
        tree.size < self.size || (tree.size, tree.root) == (self.size, self.root)
    }
}

impl SiteTerms {
    /// Returns the last trees of those of its ledgers that have ended, by series.
    pub fn ends(&self) -> impl Iterator<Item = (u32, Ending)> + '_ {
        self.ledgers.iter().filter_map(|ledger| {
            let origin: Origin = ledger.key.name().parse().ok()?;
            Some((origin.series(), ledger.ends?))
        })
    }
}

/// When a checkpoint counts as witnessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// In at least this many jurisdictions, other than the ledger's own, a site must have cosigned it.
    pub jurisdictions: u32,
}

impl Terms {
    /// Writes the document once; the bytes are what gets signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, integers and lists always serialise")
    }

    /// Checks the rules that the shape does not say.
    ///
    /// # Errors
    /// With a sentence that names the first rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return Err("version 1 names no charter before it, every later one does".to_owned());
        }
        counted("root keys", self.root.keys.len(), 1, ROOT_KEYS_MAX)?;
        if self.root.threshold == 0 || self.root.threshold as usize > self.root.keys.len() {
            return Err(format!(
                "a threshold of {} does not fit {} root keys",
                self.root.threshold,
                self.root.keys.len()
            ));
        }
        counted("sites", self.sites.len(), 1, SITES_MAX)?;
        counted("groups", self.groups.len(), 0, GROUPS_MAX)?;
        for site in &self.sites {
            site.check()
                .map_err(|rule| format!("the site `{}`: {rule}", site.name))?;
        }
        for group in &self.groups {
            group.check()?;
        }
        once(
            "group",
            self.groups.iter().map(|group| group.name.as_str().to_owned()),
        )?;
        once("site id", self.sites.iter().map(|site| site.id.to_string()))?;
        once("site name", self.sites.iter().map(|site| site.name.to_string()))?;
        once("address", self.sites.iter().map(|site| site.url.to_string()))?;
        self.check_keys()?;
        self.check_owners()?;
        self.check_witnesses()
    }

    /// A key has one role, at one site.
    fn check_keys(&self) -> Result<(), String> {
        let mut roles: HashMap<[u8; 32], String> = HashMap::new();
        let mut claim = |key: &PublicKey, role: String| match roles.insert(*key.as_bytes(), role.clone()) {
            Some(other) => Err(format!("the key {} is {other} and {role}", key.fingerprint())),
            None => Ok(()),
        };
        for key in &self.root.keys {
            claim(key, "a root key".to_owned())?;
        }
        for site in &self.sites {
            let name = &site.name;
            // A ledger's successor may keep its key.
            let mut ledgers: Vec<&PublicKey> = Vec::new();
            for key in site.ledgers.iter().map(|ledger| ledger.key.key()) {
                if !ledgers.contains(&key) {
                    ledgers.push(key);
                    claim(key, format!("the log key of `{name}`"))?;
                }
            }
            claim(&site.site_key, format!("the site key of `{name}`"))?;
            claim(site.witness_key.key(), format!("the witness key of `{name}`"))?;
            for key in &site.recovery {
                claim(key, format!("a recovery key of `{name}`"))?;
            }
        }
        Ok(())
    }

    fn check_owners(&self) -> Result<(), String> {
        // Sorted, whatever overlaps a name or family stands directly behind it or behind another that overlaps it:
        // `-` sorts before letters and digits, so a family's members are one run. 65,536 are compared in no time.
        let mut claims: Vec<(&str, &Owned, &SiteName)> = self
            .sites
            .iter()
            .flat_map(|site| site.owns.iter().map(move |owned| (owned, &site.name)))
            .map(|(owned, site)| (owned.as_str().trim_end_matches('*'), owned, site))
            .collect();
        claims.sort();
        let mut family: Option<(&Owned, &SiteName)> = None;
        let mut last: Option<(&Owned, &SiteName)> = None;
        for (_, owned, site) in claims {
            for (other, owner) in family.iter().chain(&last) {
                if other.overlaps(owned) {
                    return Err(format!(
                        "`{other}` of the site `{owner}` and `{owned}` of the site `{site}` overlap"
                    ));
                }
            }
            if owned.as_str().ends_with('*') {
                family = Some((owned, site));
            }
            last = Some((owned, site));
        }
        Ok(())
    }

    fn check_witnesses(&self) -> Result<(), String> {
        let countries: BTreeSet<Country> = self.sites.iter().map(|site| site.jurisdiction).collect();
        let others = countries.len().saturating_sub(1);
        if self.witnesses.jurisdictions as usize > others {
            return Err(format!(
                "witnesses in {} other jurisdictions are asked for, and a site finds {others}",
                self.witnesses.jurisdictions
            ));
        }
        Ok(())
    }
}

impl SiteTerms {
    /// Returns the name of this site's witness key.
    #[must_use]
    pub fn witness_name(id: &SiteId) -> String {
        format!("waag/{id}/witness")
    }

    /// Returns the key of this series of the site's ledger.
    #[must_use]
    pub fn ledger(&self, origin: &Origin) -> Option<&LedgerTerms> {
        let name = origin.to_string();
        self.ledgers.iter().find(|ledger| ledger.key.name() == name)
    }

    fn check(&self) -> Result<(), String> {
        counted("ledgers", self.ledgers.len(), 1, LEDGERS_MAX)?;
        counted("owned namespaces", self.owns.len(), 0, OWNED_MAX)?;
        counted("recovery keys", self.recovery.len(), 0, RECOVERY_KEYS_MAX)?;
        let mut series = 0;
        for ledger in &self.ledgers {
            let name = ledger.key.name();
            let origin: Origin = name.parse().map_err(|_| format!("`{name}` names no ledger"))?;
            if ledger.key.kind() != KeyKind::Ledger || *origin.site() != self.id {
                return Err(format!("`{name}` is no ledger of this site"));
            }
            if origin.series() <= series {
                return Err("its ledgers are not in their order".to_owned());
            }
            series = origin.series();
            // A site is its first log key: nobody can put another one under its id.
            if series == 1 && ledger.key.key().site_id() != self.id {
                return Err("its id is not that of its first log key".to_owned());
            }
        }
        if let Some(growing) = self.ledgers.iter().position(|ledger| ledger.ends.is_none())
            && growing + 1 < self.ledgers.len()
        {
            return Err("a ledger that another one follows has no end".to_owned());
        }
        let name = Self::witness_name(&self.id);
        if self.witness_key.kind() != KeyKind::Witness || self.witness_key.name() != name {
            return Err(format!("its witness key is not one of the name `{name}`"));
        }
        Ok(())
    }
}

fn counted(what: &str, found: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(format!("{found} {what}, {least} to {most} are accepted"))
    }
}

fn once(what: &str, texts: impl Iterator<Item = String>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for text in texts {
        if !seen.insert(text.clone()) {
            return Err(format!("the {what} `{text}` stands twice"));
        }
    }
    Ok(())
}
