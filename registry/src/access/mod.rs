//! Who is calling, and what may they do? Tokens are random, scoped, expiring and revocable; the store keeps
//! only the SHA-256 of each secret.
//!
//! A token never publishes by itself: a namespace's key must sign as well. And a site cannot publish for a
//! namespace, whatever token it makes.

mod adopted;
mod token;

use waag_schema::policy::place::{Country, Place};
use waag_schema::policy::{Action, Facts, Label, decide};
use waag_schema::statement::{NamespaceState, Visibility};
use waag_schema::wire::token::{Scope, TokenView};
use waag_schema::{Namespace, SiteId, Timestamp};

pub use adopted::Adopted;
pub use token::{AccessError, Tokens};

/// The site as policy sees it.
#[derive(Debug, Clone)]
pub struct Here {
    /// Its id.
    pub site: SiteId,
    /// Where its storage stands.
    pub jurisdiction: Option<Country>,
    /// The charter that it goes by, if any.
    pub adopted: Adopted,
}

impl Here {
    /// Describes a site; no charter is adopted yet.
    #[must_use]
    pub fn new(site: SiteId, jurisdiction: Option<Country>) -> Self {
        Self {
            site,
            jurisdiction,
            adopted: Adopted::default(),
        }
    }

    /// Returns what verdicts on an artifact of this home rest on.
    #[must_use]
    pub fn facts(&self, home: &SiteId, at: Timestamp) -> Facts {
        Facts {
            home: home.clone(),
            at,
            groups: self.adopted.groups(),
        }
    }

    /// Returns the place that labels are matched against.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::Site {
            id: self.site.clone(),
            jurisdiction: self.jurisdiction,
        }
    }

    /// May content under these labels be served from here to this caller? A publisher of the artifact's own
    /// namespace has the content already and may build on it wherever they are.
    #[must_use]
    pub fn may_reuse(&self, caller: &Caller, namespace: &Namespace, labels: &[Label], at: Timestamp) -> bool {
        if caller.may_publish(namespace) {
            return true;
        }
        let facts = self.facts(&self.site, at);
        [self.place(), caller.place()]
            .iter()
            .all(|place| decide(labels, &facts, Action::Serve, place).allowed)
    }
}

/// Somebody who asks: anonymous, or with a token that was valid when the request came.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    token: Option<TokenView>,
    /// The site of the charter that signed the request.
    site: Option<Here>,
}

/// What a caller may read, in the form that questions on the index take.
#[derive(Debug, Clone)]
pub struct Reach {
    everything: bool,
    namespaces: Vec<Namespace>,
}

impl Caller {
    /// Returns a caller without a token.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self {
            token: None,
            site: None,
        }
    }

    /// Returns the holder of a token that has been checked.
    #[must_use]
    pub const fn with(token: TokenView) -> Self {
        Self {
            token: Some(token),
            site: None,
        }
    }

    /// Returns a site of the charter whose signature has been checked.
    #[must_use]
    pub const fn peer(site: Here) -> Self {
        Self {
            token: None,
            site: Some(site),
        }
    }

    /// Returns the site, if it is one of the charter that asks.
    #[must_use]
    pub const fn site(&self) -> Option<&Here> {
        self.site.as_ref()
    }

    /// Returns the token.
    #[must_use]
    pub const fn token(&self) -> Option<&TokenView> {
        self.token.as_ref()
    }

    fn has(&self, scope: Scope) -> bool {
        self.token.as_ref().is_some_and(|t| t.scopes.contains(&scope))
    }

    fn carries(&self, namespace: &Namespace) -> bool {
        self.token
            .as_ref()
            .is_some_and(|t| t.namespaces.contains(namespace))
    }

    /// May they admit namespaces and make tokens?
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.has(Scope::Admin)
    }

    /// May they measure in the site's stead?
    #[must_use]
    pub fn may_weigh(&self) -> bool {
        self.has(Scope::Weigh)
    }

    /// Does their token let them read what its namespaces hold?
    fn reads(&self) -> bool {
        [Scope::Read, Scope::Publish, Scope::Weigh]
            .into_iter()
            .any(|scope| self.has(scope))
    }

    /// May they publish here, provided that the namespace's keys sign?
    #[must_use]
    pub fn may_publish(&self, namespace: &Namespace) -> bool {
        self.is_admin() || (self.has(Scope::Publish) && self.carries(namespace))
    }

    /// May they know of what this namespace holds? Labels are asked separately.
    #[must_use]
    pub fn may_read(&self, namespace: &NamespaceState) -> bool {
        namespace.visibility == Visibility::Public
            || self.is_admin()
            || (self.reads() && self.carries(&namespace.name))
            || self
                .site
                .as_ref()
                .is_some_and(|site| namespace.is_for(&site.site))
    }

    /// Returns where they are, as far as labels are concerned.
    #[must_use]
    pub fn place(&self) -> Place {
        match &self.site {
            Some(site) => site.place(),
            None => Place::Consumer {
                jurisdiction: self.jurisdiction(),
            },
        }
    }

    fn jurisdiction(&self) -> Option<Country> {
        self.token.as_ref().and_then(|t| t.jurisdiction)
    }

    /// Returns what they may read.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let namespaces = self
            .token
            .as_ref()
            .filter(|_| self.reads())
            .map(|t| t.namespaces.clone())
            .unwrap_or_default();
        Reach {
            everything: self.is_admin(),
            namespaces,
        }
    }
}

impl Reach {
    /// Every namespace, private ones too?
    #[must_use]
    pub const fn everything(&self) -> bool {
        self.everything
    }

    /// Returns the private namespaces within reach as a JSON list.
    #[must_use]
    pub fn namespaces_json(&self) -> String {
        serde_json::to_string(&self.namespaces).expect("a list of strings always serialises")
    }
}
