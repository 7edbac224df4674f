//! Which sites a person believes, and what each of them has said so far (`seen`).
//!
//! A pin binds a site's id to its log key and to the addresses under which it answers; it is made once, by a
//! person's decision, and everything else is checked against it.

mod seen;
mod shown;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use waag_schema::base::key::PublicKey;
use waag_schema::federation::Ending;
use waag_schema::ledger::{KeyKind, Origin, SignedCheckpoint, VerifierKey};
use waag_schema::wire::site::SiteView;
use waag_schema::{Namespace, Sha256, SiteId};

use crate::charter::Believed;
use crate::error::{ClientError, Result};
use crate::home::Home;
use crate::url::SiteUrl;

pub use seen::Standing;
pub(crate) use shown::{Shown, signed_by};

/// A site that a person decided to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who it is.
    pub site: SiteId,
    /// The key that signs its ledger, under the name of its first one.
    pub log_key: VerifierKey,
    /// Where it answers.
    pub urls: Vec<SiteUrl>,
    /// The trees with which series of its ledger end, by the charter that is believed here.
    pub ends: Vec<(u32, Ending)>,
}

/// Who decides about a site that is seen for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// Nobody: on this machine it is pinned, elsewhere [`ClientError::Unpinned`] says its fingerprint, so that
    /// a person can be asked.
    Loopback,
    /// The person has named the fingerprint.
    Fingerprint(SiteId),
}

#[derive(Serialize, Deserialize)]
struct PinJson {
    version: u32,
    site: SiteId,
    log_key: VerifierKey,
    urls: Vec<String>,
}

impl Pin {
    /// Returns the name of the site's first ledger.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::of(&self.site, 1)
    }

    /// Returns the key that signs the ledger.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        self.log_key.key()
    }

    /// Makes a pin of what a site says about itself, if that holds together.
    ///
    /// # Errors
    /// When its id is not that of its log key, or its ledger has another name.
    pub fn of(view: &SiteView, url: &SiteUrl) -> Result<Self> {
        let wrong = |reason: String| ClientError::verification(format_args!("the site at {url}"), reason);
        let log_key: VerifierKey = view.log_key.parse().map_err(|e| wrong(format!("{e}")))?;
        let origin: Origin = view.origin.parse().map_err(|e| wrong(format!("{e}")))?;
        if *origin.site() != view.id || log_key != origin.verifier(*log_key.key()) {
            return Err(wrong(format!(
                "its ledger is called {origin}, its log key {}",
                log_key.name()
            )));
        }
        let pin = Self {
            site: view.id.clone(),
            // A site is pinned by its first ledger's name, whichever of its series goes on.
            log_key: Origin::of(&view.id, 1).verifier(*log_key.key()),
            urls: vec![url.clone()],
            ends: Vec::new(),
        };
        pin.check().map_err(wrong)?;
        Ok(pin)
    }

    fn check(&self) -> Result<(), String> {
        let found = self.key().site_id();
        if found != self.site {
            return Err(format!(
                "it calls itself {}, its log key is that of {found}",
                self.site
            ));
        }
        let origin = self.origin().to_string();
        if self.log_key.name() != origin || self.log_key.kind() != KeyKind::Ledger {
            return Err(format!("its log key is not a ledger's key called {origin}"));
        }
        Ok(())
    }

    /// Checks that this site signed a checkpoint, of any series of its ledger.
    ///
    /// # Errors
    /// When it is another site's, or the signature is missing or does not hold.
    pub fn check_signed(&self, signed: &SignedCheckpoint) -> Result<()> {
        let refused =
            |reason: String| ClientError::verification(format_args!("checkpoint of {}", self.site), reason);
        let found = &signed.checkpoint().origin;
        if *found.site() != self.site {
            return Err(refused(format!("it is of the ledger {found}")));
        }
        signed
            .verify(&[*self.key()], &[])
            .map_err(|e| refused(e.to_string()))?;
        let tree = signed.checkpoint().tree();
        let mut ends = self.ends.iter().filter(|(series, _)| *series == found.series());
        if let Some((_, end)) = ends.find(|(_, end)| !end.takes(&tree)) {
            return Err(refused(format!(
                "the charter ends {found} at {} entries; this is another tree, of {}",
                end.size, tree.size
            )));
        }
        Ok(())
    }
}

/// The pins and checkpoints of a home directory.
#[derive(Debug, Clone)]
pub struct Trust {
    home: Home,
}

impl Trust {
    /// Believes what this home directory holds.
    #[must_use]
    pub const fn new(home: Home) -> Self {
        Self { home }
    }

    /// Returns the home directory.
    #[must_use]
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// Returns all pins, by site.
    ///
    /// # Errors
    /// When a pin cannot be read.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let mut pins = Vec::new();
        for name in self.home.names(&self.home.root().join("sites"))? {
            if let Ok(site) = name.parse() {
                pins.extend(self.pinned(&site)?);
            }
        }
        // Who believes a charter believes every site of it; a pin of one's own goes before.
        for named in Believed::new(self.home.clone()).pins()? {
            match pins.iter_mut().find(|pin| pin.site == named.site) {
                // With which tree a ledger ends is the charter's word all the same.
                Some(own) => own.ends = named.ends,
                None => pins.push(named),
            }
        }
        Ok(pins)
    }

    /// Returns the pin of a site: one's own, or the one that follows from a charter.
    ///
    /// # Errors
    /// When it cannot be read, or is not what this crate writes.
    pub fn by_site(&self, site: &SiteId) -> Result<Option<Pin>> {
        let named = Believed::new(self.home.clone()).pins()?;
        let named = named.into_iter().find(|pin| pin.site == *site);
        let Some(mut pin) = self.pinned(site)? else {
            return Ok(named);
        };
        pin.ends = named.map_or_else(Vec::new, |named| named.ends);
        Ok(Some(pin))
    }

    fn pinned(&self, site: &SiteId) -> Result<Option<Pin>> {
        let path = self.home.site_dir(site).join("site.json");
        let Some(bytes) = self.home.read(&path)? else {
            return Ok(None);
        };
        let damaged = |reason: String| ClientError::verification(path.display(), reason);
        let json: PinJson = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if json.version != 1 {
            return Err(damaged(format!(
                "it has the version {}, this program reads 1",
                json.version
            )));
        }
        let urls = json.urls.iter().map(|url| url.parse()).collect::<Result<_>>()?;
        let pin = Pin {
            site: json.site,
            log_key: json.log_key,
            urls,
            ends: Vec::new(),
        };
        pin.check().map_err(damaged)?;
        if pin.site != *site {
            return Err(damaged(format!("it is the pin of {}", pin.site)));
        }
        Ok(Some(pin))
    }

    /// Returns the pin of the site at an address.
    ///
    /// # Errors
    /// When a pin cannot be read.
    pub fn by_url(&self, url: &SiteUrl) -> Result<Option<Pin>> {
        Ok(self.pins()?.into_iter().find(|pin| pin.urls.contains(url)))
    }

    /// Decides about what answered at an address, and remembers the decision. Says whether it is a new one.
    ///
    /// # Errors
    /// When the site's words do not hold together, it is another one than was pinned or named, or nobody has
    /// decided yet.
    pub fn decide(&self, view: &SiteView, url: &SiteUrl, pinning: &Pinning) -> Result<(Pin, bool)> {
        let claimed = Pin::of(view, url)?;
        let wrong = |expected: &SiteId| ClientError::WrongSite {
            url: url.to_string(),
            expected: expected.clone(),
            found: claimed.site.clone(),
        };
        if let Pinning::Fingerprint(expected) = pinning
            && *expected != claimed.site
        {
            return Err(wrong(expected));
        }
        let named = matches!(pinning, Pinning::Fingerprint(_));
        match self.by_url(url)? {
            Some(known) if known.site == claimed.site => return Ok((known, false)),
            // Whoever names a fingerprint has seen that another site has moved in here.
            Some(known) if !named => return Err(wrong(&known.site)),
            Some(known) => self.forget_url(known, url)?,
            None => {}
        }
        let known = self.by_site(&claimed.site)?;
        if known.is_none() && !named && !url.is_loopback() {
            return Err(ClientError::Unpinned {
                url: url.to_string(),
                site: claimed.site,
            });
        }
        let new = known.is_none();
        let mut pin = known.unwrap_or(Pin {
            urls: Vec::new(),
            ..claimed
        });
        pin.urls.push(url.clone());
        self.keep(&pin)?;
        Ok((pin, new))
    }

    fn forget_url(&self, mut pin: Pin, url: &SiteUrl) -> Result<()> {
        pin.urls.retain(|known| known != url);
        self.keep(&pin)
    }

    fn keep(&self, pin: &Pin) -> Result<()> {
        let json = PinJson {
            version: 1,
            site: pin.site.clone(),
            log_key: pin.log_key.clone(),
            urls: pin.urls.iter().map(ToString::to_string).collect(),
        };
        let bytes = serde_json::to_vec_pretty(&json).expect("strings always serialise");
        self.home
            .write(&self.home.site_dir(&pin.site).join("site.json"), &bytes)
    }

    /// Checks that a namespace is the one that was seen under this name before; the first time it is noted.
    ///
    /// # Errors
    /// When the site now shows another namespace of this name.
    pub fn believe_namespace(&self, pin: &Pin, name: &Namespace, id: &Sha256) -> Result<()> {
        let path = self.namespace_path(pin, name);
        if self.home.create(&path, id.to_string().as_bytes())? {
            return Ok(());
        }
        self.check_namespace(pin, name, id)
    }

    /// Checks that a namespace is none other than the one that was seen under this name before; notes nothing.
    ///
    /// # Errors
    /// When another one was seen.
    pub fn check_namespace(&self, pin: &Pin, name: &Namespace, id: &Sha256) -> Result<()> {
        let known = self.home.read(&self.namespace_path(pin, name))?;
        match known {
            Some(known) if known != id.to_string().as_bytes() => Err(ClientError::verification(
                format_args!("namespace `{name}`"),
                format_args!(
                    "its id is {id}, it was {} before",
                    String::from_utf8_lossy(&known)
                ),
            )),
            _ => Ok(()),
        }
    }

    fn namespace_path(&self, pin: &Pin, name: &Namespace) -> PathBuf {
        self.home
            .site_dir(&pin.site)
            .join("namespaces")
            .join(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waag_schema::base::key::KeyPair;

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

    #[test]
    fn a_site_on_this_machine_is_pinned_and_found_again() {
        let w = world();
        let (pin, new) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        assert!(new);
        assert_eq!(w.trust.by_url(&w.url).unwrap(), Some(pin.clone()));
        assert_eq!(w.trust.by_site(&pin.site).unwrap(), Some(pin.clone()));
        assert_eq!(
            w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap(),
            (pin, false)
        );
    }

    #[test]
    fn a_site_elsewhere_is_pinned_by_its_fingerprint_only() {
        let w = world();
        let url: SiteUrl = "https://waag.example".parse().unwrap();
        let id = w.key.public().site_id();
        let error = w
            .trust
            .decide(&view(&w.key), &url, &Pinning::Loopback)
            .unwrap_err();
        assert!(matches!(error, ClientError::Unpinned { site, .. } if site == id));
        let other = KeyPair::from_seed(&[2; 32]).public().site_id();
        let error = w
            .trust
            .decide(&view(&w.key), &url, &Pinning::Fingerprint(other))
            .unwrap_err();
        assert!(matches!(error, ClientError::WrongSite { .. }));
        assert!(
            w.trust
                .decide(&view(&w.key), &url, &Pinning::Fingerprint(id))
                .unwrap()
                .1
        );
    }

    #[test]
    fn another_site_at_a_pinned_address_is_refused_until_it_is_named() {
        let w = world();
        w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let other = KeyPair::from_seed(&[2; 32]);
        let error = w
            .trust
            .decide(&view(&other), &w.url, &Pinning::Loopback)
            .unwrap_err();
        assert!(matches!(error, ClientError::WrongSite { .. }));
        let named = Pinning::Fingerprint(other.public().site_id());
        w.trust.decide(&view(&other), &w.url, &named).unwrap();
        assert_eq!(
            w.trust.by_url(&w.url).unwrap().unwrap().site,
            other.public().site_id()
        );
    }

    #[test]
    fn a_site_whose_words_do_not_hold_together_is_refused() {
        let w = world();
        let other = KeyPair::from_seed(&[2; 32]);
        let mut lies = [view(&w.key), view(&w.key), view(&w.key)];
        lies[0].log_key = view(&other).log_key;
        lies[1].id = other.public().site_id();
        lies[2].origin = format!("waag/{}/2", w.key.public().site_id());
        for lie in lies {
            let error = w.trust.decide(&lie, &w.url, &Pinning::Loopback).unwrap_err();
            assert!(matches!(error, ClientError::Verification { .. }), "{error}");
        }
    }

    #[test]
    fn a_namespace_that_changes_its_id_is_refused() {
        let w = world();
        let (pin, _) = w.trust.decide(&view(&w.key), &w.url, &Pinning::Loopback).unwrap();
        let name: Namespace = "acme".parse().unwrap();
        let (first, second) = (Sha256::of(b"1"), Sha256::of(b"2"));
        w.trust.believe_namespace(&pin, &name, &first).unwrap();
        w.trust.believe_namespace(&pin, &name, &first).unwrap();
        assert!(w.trust.believe_namespace(&pin, &name, &second).is_err());
    }
}
