//! Charters on this disk and at a site: the file that passes from one holder of a root key to the next, what this home
//! believes, and having a site adopt one.
//!
//! `WAAG_HOME/charters/<federation>/<version>.json` are the charters that a person has decided to believe, each the next
//! after the one before. Every site that the newest of them names counts as pinned. A second charter of a version that is
//! kept goes to `evidence/` beside them and is never believed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use waag_schema::SiteId;
use waag_schema::base::bytes::Base64;
use waag_schema::base::json;
use waag_schema::federation::{Charter, CharterError, FederationName, Proposal, Terms};
use waag_schema::ledger::Origin;
use waag_schema::statement::dsse::PayloadType;
use waag_schema::wire::site::{CharterRequest, CharterView};

use crate::error::{ClientError, Result};
use crate::home::Home;
use crate::site::Site;
use crate::trust::Pin;

const SIZE_MAX: u64 = PayloadType::Charter.size_max() as u64;

/// What a charter's file holds.
#[derive(Debug, Clone)]
pub enum CharterFile {
    /// A document that nobody has signed yet; it may still break a rule.
    Draft(Box<Terms>),
    /// A document under signatures.
    Signed(Box<Proposal>),
}

impl CharterFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds neither a charter's document nor one under signatures.
    pub fn read(path: &Path) -> Result<Self> {
        let file = fs::File::open(path).map_err(ClientError::io("open", path))?;
        let mut bytes = Vec::new();
        file.take(SIZE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(ClientError::io("read", path))?;
        let value = json::parse(&bytes, PayloadType::Charter.size_max())
            .map_err(|e| ClientError::Usage(format!("{}: {e}", path.display())))?;
        if value.get("payloadType").is_some() {
            return Ok(Self::Signed(Box::new(Proposal::parse(&bytes)?)));
        }
        let terms = json::from_value(value)
            .map_err(|e| ClientError::Usage(format!("{} is no charter: {e}", path.display())))?;
        Ok(Self::Draft(Box::new(terms)))
    }

    /// Returns what it says.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Draft(terms) => terms,
            Self::Signed(proposal) => proposal.terms(),
        }
    }

    /// Replaces a file: a draft so that a person can edit it, a signed document as it was signed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = match self {
            Self::Draft(terms) => {
                let mut text = serde_json::to_vec_pretty(terms).expect("a document always serialises");
                text.push(b'\n');
                text
            }
            Self::Signed(proposal) => proposal.bytes().to_vec(),
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        fs::write(&temporary, bytes).map_err(ClientError::io("write", &temporary))?;
        fs::rename(&temporary, path).map_err(ClientError::io("replace", path))
    }
}

/// The charters of a home directory.
#[derive(Debug, Clone)]
pub struct Believed {
    home: Home,
}

impl Believed {
    /// Believes what this home directory holds.
    #[must_use]
    pub const fn new(home: Home) -> Self {
        Self { home }
    }

    /// Returns the newest charter of every federation that is believed.
    ///
    /// # Errors
    /// When one cannot be read, or is not what was kept.
    pub fn charters(&self) -> Result<Vec<Charter>> {
        let mut newest = Vec::new();
        for name in self.home.names(&self.root())? {
            if let Ok(federation) = name.parse() {
                newest.extend(self.newest(&federation)?);
            }
        }
        Ok(newest)
    }

    /// Returns the newest charter of a federation.
    ///
    /// # Errors
    /// As for [`Self::charters`].
    pub fn newest(&self, federation: &FederationName) -> Result<Option<Charter>> {
        let names = self.home.names(&self.dir(federation))?;
        let versions = names
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        match versions.max() {
            Some(version) => self.version(federation, version),
            None => Ok(None),
        }
    }

    /// Returns a version of a federation's charter.
    ///
    /// # Errors
    /// As for [`Self::charters`].
    pub fn version(&self, federation: &FederationName, version: u64) -> Result<Option<Charter>> {
        let path = self.path(federation, version);
        let Some(bytes) = self.home.read(&path)? else {
            return Ok(None);
        };
        let charter = Charter::parse(&bytes).map_err(|e| ClientError::verification(path.display(), e))?;
        Ok(Some(charter))
    }

    /// Checks that a charter may be believed beside what is; keeps it as evidence where it contradicts that. Says whether
    /// it is a new one.
    ///
    /// # Errors
    /// When it is not the next one, or contradicts one that is kept.
    pub fn check(&self, charter: &Charter) -> Result<bool> {
        let federation = &charter.terms().federation;
        let Some(newest) = self.newest(federation)? else {
            return Ok(true);
        };
        if charter.version() > newest.version() {
            newest.next(charter.bytes())?;
            return Ok(true);
        }
        let not_next = CharterError::NotNext {
            known: newest.version(),
            found: charter.version(),
        };
        let Some(known) = self.version(federation, charter.version())? else {
            return Err(not_next.into());
        };
        if known.digest() == charter.digest() {
            return Ok(false);
        }
        let before = match charter.version().checked_sub(1) {
            Some(version) => self.version(federation, version)?,
            None => None,
        };
        let follows = before.is_some_and(|before| before.next(charter.bytes()).is_ok());
        if !follows && !known.is_forked_by(charter)? {
            return Err(not_next.into());
        }
        let name = format!("{:016}-{}.json", charter.version(), charter.digest().hex());
        let evidence = self.dir(federation).join("evidence").join(name);
        self.home.create(&evidence, charter.bytes())?;
        Err(ClientError::verification(
            format_args!("two charters of `{federation}`"),
            format_args!(
                "both have the version {}: {} is believed here, {} is signed as well; they are kept as {} and {}",
                charter.version(),
                known.digest(),
                charter.digest(),
                self.path(federation, charter.version()).display(),
                evidence.display()
            ),
        ))
    }

    /// Believes a charter from now on, and every site that it names. Says whether it is a new one.
    ///
    /// # Errors
    /// As for [`Self::check`]; also when it cannot be kept.
    pub fn believe(&self, charter: &Charter) -> Result<bool> {
        let new = self.check(charter)?;
        if new {
            let path = self.path(&charter.terms().federation, charter.version());
            self.home.create(&path, charter.bytes())?;
        }
        Ok(new)
    }

    /// Returns the pins that follow from the charters.
    pub(crate) fn pins(&self) -> Result<Vec<Pin>> {
        let charters = self.charters()?;
        let sites = charters.iter().flat_map(|charter| &charter.terms().sites);
        let pin = |site: &waag_schema::federation::SiteTerms| {
            // The ledger's key is the site's identity; one that was changed since is believed through the ledger only.
            let first = site.ledgers.first()?;
            (first.key.key().site_id() == site.id).then(|| {
                Some(Pin {
                    site: site.id.clone(),
                    log_key: Origin::of(&site.id, 1).verifier(*first.key.key()),
                    urls: vec![site.url.as_str().parse().ok()?],
                    ends: site.ends().collect(),
                })
            })?
        };
        Ok(sites.filter_map(pin).collect())
    }

    /// Returns the charter that names this site.
    ///
    /// # Errors
    /// As for [`Self::charters`].
    pub fn naming(&self, site: &SiteId) -> Result<Option<Charter>> {
        let charters = self.charters()?;
        Ok(charters.into_iter().find(|charter| charter.site(site).is_some()))
    }

    fn root(&self) -> PathBuf {
        self.home.root().join("charters")
    }

    fn dir(&self, federation: &FederationName) -> PathBuf {
        self.root().join(federation.as_str())
    }

    fn path(&self, federation: &FederationName, version: u64) -> PathBuf {
        self.dir(federation).join(format!("{version:016}.json"))
    }
}

/// Has a site adopt charters, the oldest first.
///
/// # Errors
/// When the token is no admin's, the site does not accept a step, or answers with another charter.
pub async fn adopt(site: &Site, charters: &[Charter]) -> Result<CharterView> {
    let request = CharterRequest {
        charters: charters
            .iter()
            .map(|charter| Base64::from(charter.bytes().to_vec()))
            .collect(),
    };
    let view = site.adopt_charter(&request).await?;
    match charters.last() {
        Some(last) if view.sha256 != last.digest() && view.version <= last.version() => {
            Err(ClientError::verification(
                "charter",
                format_args!(
                    "{} was sent, the site goes by {} of version {}",
                    last.digest(),
                    view.sha256,
                    view.version
                ),
            ))
        }
        _ => Ok(view),
    }
}

/// Returns the charter that a site goes by, if it has one. It is not believed for that.
///
/// # Errors
/// When the site does not answer, or answers with something else.
pub async fn of_site(site: &Site) -> Result<Option<(Charter, CharterView)>> {
    let view = match site.charter().await {
        Ok(view) => view,
        Err(ClientError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let charter = Charter::parse(&view.charter.0)?;
    Ok(Some((charter, view)))
}
