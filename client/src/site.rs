//! A pinned site: its address, the token for it, and what can be asked of it.
//!
//! Answers are returned as they come; what they claim is checked by [`crate::proof`] and by the verbs. Only
//! checkpoints are judged here, because each of them must continue what this site signed before.

mod history;
mod owners;
mod uploads;

use waag_schema::base::name::Version;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::statement::{Envelope, NamespaceState};
use waag_schema::wire::artifact::{ArtifactView, Labels, Proof, Resolved};
use waag_schema::wire::site::SiteView;
use waag_schema::wire::token::WhoAmI;
use waag_schema::{ArtifactName, SiteId};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::event::Progress;
use crate::home::{Home, Secret};
use crate::proof::{self, Proven};
use crate::transport::{Settings, Transport};
use crate::trust::{Pin, Pinning, Trust};
use crate::url::SiteUrl;

/// A pinned site. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    pin: Pin,
    trust: Trust,
    transport: Transport,
    /// Set where the site at this address is not the pinned one, but holds copies of what that records.
    copy: bool,
}

/// What a login found and kept.
#[derive(Debug, Clone)]
pub struct Login {
    /// The site.
    pub pin: Pin,
    /// Whether it was pinned just now.
    pub new: bool,
    /// What the token allows.
    pub who: WhoAmI,
}

/// Asks whoever answers at an address who they are. Nothing is believed or kept.
///
/// # Errors
/// When nobody answers, or what they say does not hold together.
pub async fn contact(url: &SiteUrl, settings: &Settings) -> Result<SiteView> {
    let transport = Transport::new(url, None, settings)?;
    let view: SiteView = transport.json(Ask::get("/api/v1/site")).await?;
    Pin::of(&view, url)?;
    Ok(view)
}

/// Pins a site, checks a token with it and keeps that; the site becomes the one that is meant when none is
/// named. Without a token the site is only pinned.
///
/// # Errors
/// When the site is not to be believed (see [`Trust::decide`]), or does not know the token; nothing of the
/// token is kept then.
pub async fn login(
    home: &Home,
    url: &SiteUrl,
    pinning: &Pinning,
    token: Option<&Secret>,
    settings: &Settings,
) -> Result<Login> {
    // Whether the token may cross is settled before anything is said.
    Transport::new(url, token, settings)?;
    let view = contact(url, settings).await?;
    let (pin, new) = Trust::new(home.clone()).decide(&view, url, pinning)?;
    let site = Site::open(home, url, token, settings)?;
    site.observe_newest().await?;
    let who = site.whoami().await?;
    if let Some(token) = token {
        home.set_token(&pin.site, token)?;
    }
    home.set_default_site(url)?;
    Ok(Login { pin, new, who })
}

impl Site {
    /// Opens a pinned site; nothing is sent yet. Without a token, the one kept for it is used, if any. Before anything
    /// else is asked, whoever answers has to show a checkpoint that this site signed.
    ///
    /// # Errors
    /// When no site is pinned for the address, or the token may not cross to it.
    pub fn open(home: &Home, url: &SiteUrl, token: Option<&Secret>, settings: &Settings) -> Result<Self> {
        let trust = Trust::new(home.clone());
        let pin = trust
            .by_url(url)?
            .ok_or_else(|| ClientError::NoPin { url: url.to_string() })?;
        let kept = match token {
            Some(_) => None,
            None => home.token(&pin.site)?,
        };
        let transport = Transport::new(url, token.or(kept.as_ref()), settings)?.expecting(&pin);
        Ok(Self {
            pin,
            trust,
            transport,
            copy: false,
        })
    }

    /// Returns the pin.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Returns the address.
    #[must_use]
    pub const fn url(&self) -> &SiteUrl {
        self.transport.url()
    }

    /// Returns where events go.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.transport.settings().progress.clone()
    }

    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Waits before something is tried again that failed for this reason, longer each time.
    pub(crate) async fn pause(&self, tried: u32, error: &ClientError) {
        self.transport.wait("", tried, None, error).await;
    }

    /// Returns what the site says of itself. Nothing of it is believed beyond the pin.
    ///
    /// # Errors
    /// When the site does not answer.
    pub async fn view(&self) -> Result<SiteView> {
        self.transport.json(Ask::get("/api/v1/site")).await
    }

    /// Asks who the caller is.
    ///
    /// # Errors
    /// When the token is not valid.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.transport.json(Ask::get("/api/v1/whoami")).await
    }

    /// Returns the labels that an artifact is under, as the site shows them.
    pub(crate) async fn labels(&self, artifact: &ArtifactName) -> Result<Labels> {
        self.transport
            .json(Ask::get(format!("/api/v1/artifacts/{artifact}/labels")))
            .await
    }

    /// Returns an artifact as the site shows it.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn artifact(&self, name: &ArtifactName) -> Result<ArtifactView> {
        let view: ArtifactView = self
            .transport
            .json(Ask::get(format!("/api/v1/artifacts/{name}")))
            .await?;
        if view.name != *name {
            return Err(self.odd(format!("{} came for {name}", view.name)));
        }
        Ok(view)
    }

    /// Returns a version of an artifact, proven: signed by its namespace's keys, in the site's ledger, which
    /// continues everything that it signed before.
    ///
    /// # Errors
    /// When there is no such version for the caller, or the proof does not hold.
    pub async fn resolve(&self, artifact: &ArtifactName, version: &Version) -> Result<Proven> {
        self.resolve_raw(artifact, version)
            .await
            .map(|(proven, _)| proven)
    }

    pub(crate) async fn resolve_raw(
        &self,
        artifact: &ArtifactName,
        version: &Version,
    ) -> Result<(Proven, Proof)> {
        let path = format!("/api/v1/artifacts/{artifact}/resolve/{version}");
        let answer: Resolved = self.transport.json(Ask::get(path)).await?;
        let home = self.recording(&answer.proof)?;
        let proven = proof::check_release(&home.pin, artifact, version, &answer.manifest.0, &answer.proof)?;
        home.believe_namespace(&proven.namespace)?;
        home.observe(&proven.checkpoint).await?;
        Ok((proven, answer.proof))
    }

    /// Returns the site in whose ledger a proof is: this one, or the home of what it holds a copy of. That is asked here,
    /// about the copy of its ledger, and only its own pin is believed.
    pub(crate) fn recording(&self, proof: &Proof) -> Result<Self> {
        let signed = SignedCheckpoint::parse(proof.checkpoint.as_bytes())
            .map_err(|e| ClientError::verification("proof", e))?;
        self.home_of(&signed)
    }

    /// The same for a checkpoint that was read.
    pub(crate) fn home_of(&self, signed: &SignedCheckpoint) -> Result<Self> {
        let home = signed.checkpoint().origin.site();
        if *home == self.pin.site {
            return Ok(self.clone());
        }
        let pin = self
            .trust
            .by_site(home)?
            .ok_or_else(|| ClientError::UnknownHome {
                mirror: self.url().to_string(),
                home: home.clone(),
            })?;
        Ok(Self {
            pin,
            copy: true,
            ..self.clone()
        })
    }

    /// Is this site's key known here: pinned, or named by a charter that is believed?
    pub(crate) fn believes(&self, site: &SiteId) -> Result<bool> {
        Ok(*site == self.pin.site || self.trust.by_site(site)?.is_some())
    }

    /// The path of something of the pinned site's ledger.
    fn ledger_path(&self, rest: &str) -> String {
        if self.copy {
            format!("/ledger/of/{}/{rest}", self.pin.site)
        } else {
            format!("/ledger/{rest}")
        }
    }

    /// The path of what the native API says of the pinned site's ledger.
    pub(crate) fn ledger_api(&self, rest: &str) -> String {
        if self.copy {
            format!("/api/v1/ledger/of/{}/{rest}", self.pin.site)
        } else {
            format!("/api/v1/ledger/{rest}")
        }
    }

    pub(crate) fn believe_namespace(&self, state: &NamespaceState) -> Result<()> {
        if self.copy {
            // A mirror chooses whose namespace it shows. Of two homes of one name none is believed.
            for other in self.trust.pins()?.iter().filter(|pin| pin.site != self.pin.site) {
                self.trust.check_namespace(other, &state.name, &state.id)?;
            }
        }
        self.trust.believe_namespace(&self.pin, &state.name, &state.id)
    }

    /// Checks a receipt: the site recorded exactly these statements, in the one history that was seen before.
    pub(crate) async fn check_receipt(&self, proof: &Proof, envelopes: &[Envelope]) -> Result<Vec<u64>> {
        let (signed, positions) = proof::check_recorded(&self.pin, proof, envelopes)?;
        self.observe(&signed).await?;
        Ok(positions)
    }
}
